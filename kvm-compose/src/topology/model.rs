//! The topology: what a testbed file means, with every default filled in and every reference resolved.
//!
//! Pure data. Knows nothing of hosts' paths, XML or OVN rows.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

pub use super::model_guest::*;
pub use crate::spec::model::{AclAction, AclDirection, DiskDevice, DiskFormat, Ipv6Mode, NatType, ReadyCondition, Transport};
use crate::{
    addr::Mac,
    diagnostic::Diagnostic,
    error::Place,
    names::{DeploymentName, GuestName, HostName, NetworkName},
};

/// A testbed, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// The deployment it belongs to.
    pub deployment: DeploymentName,
    /// Layer-2 segments, by name.
    pub switches: Vec<Switch>,
    /// Routers, by name.
    pub routers: Vec<Router>,
    /// Guests, in the file's order.
    pub guests: Vec<Guest>,
    /// Machines of which there are several, in the file's order.
    pub scaled: Vec<Scaled>,
    /// Free words, to find the testbed by.
    pub labels: Labels,
    /// Wires between two guests; each has a switch of its own among the switches.
    pub wires: Vec<Wire>,
    /// Guests resolve each other by name.
    pub dns: bool,
    /// Expectations, in the file's order.
    pub checks: Vec<super::checks::Check>,
}

impl Topology {
    /// A testbed without anything.
    pub fn nothing(deployment: &DeploymentName) -> Self {
        Topology {
            deployment: deployment.clone(),
            switches: Vec::new(),
            routers: Vec::new(),
            guests: Vec::new(),
            scaled: Vec::new(),
            labels: Labels::new(),
            wires: Vec::new(),
            dns: false,
            checks: Vec::new(),
        }
    }

    /// The switch of this name.
    pub fn switch(&self, name: &NetworkName) -> Option<&Switch> {
        self.switches.binary_search_by(|switch| switch.name.cmp(name)).ok().map(|index| &self.switches[index])
    }
}

/// Free words about a thing.
pub type Labels = BTreeMap<String, String>;

/// A layer-2 segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Switch {
    /// Its name.
    pub name: NetworkName,
    /// Its subnet, host bits cleared; none of a wire without one.
    pub subnet: Option<IpNet>,
    /// Its IPv6 subnet: beside the other one, or the only one.
    pub ipv6: Option<Ipv6>,
    /// The DHCP rule for it, if there is one.
    pub dhcp: Option<Dhcp>,
    /// Ways to networks of the hosts.
    pub localnets: Vec<Localnet>,
    /// Interfaces of the master's own machine on it.
    pub internals: Vec<Internal>,
    /// Who may talk to whom, in the file's order.
    pub acls: Vec<Acl>,
    /// What no rule allows is dropped.
    pub deny_all: bool,
    /// It is the wire between two guests.
    pub wire: bool,
    /// Free words about it.
    pub labels: Labels,
}

impl Switch {
    /// A switch with nothing but a name.
    pub fn named(name: NetworkName) -> Self {
        Switch {
            name,
            subnet: None,
            ipv6: None,
            dhcp: None,
            localnets: Vec::new(),
            internals: Vec::new(),
            acls: Vec::new(),
            deny_all: false,
            wire: false,
            labels: Labels::new(),
        }
    }

    /// Its IPv4 subnet.
    pub fn ipv4(&self) -> Option<Ipv4Net> {
        match self.subnet {
            Some(IpNet::V4(net)) => Some(net),
            _ => None,
        }
    }

    /// The subnet of it that holds an address.
    pub fn subnet_of(&self, address: IpAddr) -> Option<IpNet> {
        let second = self.ipv6.as_ref().map(|ipv6| IpNet::V6(ipv6.subnet));
        self.subnet.into_iter().chain(second).find(|net| net.contains(&address))
    }

    /// Its subnets in words.
    pub fn subnets(&self) -> String {
        let second = self.ipv6.as_ref().map(|ipv6| IpNet::V6(ipv6.subnet)).filter(|net| Some(*net) != self.subnet);
        let all: Vec<String> = self.subnet.into_iter().chain(second).map(|net| net.to_string()).collect();
        all.join(" and ")
    }
}

/// IPv6 on a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6 {
    /// The subnet.
    pub subnet: Ipv6Net,
    /// How guests get their address.
    pub mode: Ipv6Mode,
}

/// A way from a switch to a network of the hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Localnet {
    /// The port's name.
    pub name: NetworkName,
    /// The network's name in the hosts' bridge mappings.
    pub network: NetworkName,
    /// Where it is named.
    pub at: Place,
}

/// An interface of the master's own machine on a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Internal {
    /// The port's name.
    pub name: NetworkName,
    /// Its address and prefix length.
    pub address: IpNet,
    /// Its MAC address.
    pub mac: Mac,
    /// Where it is named.
    pub at: Place,
}

/// A rule for the traffic of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acl {
    /// On the way to a port, or from one.
    pub direction: AclDirection,
    /// The highest that matches holds.
    pub priority: u16,
    /// Which traffic, in OVN's words.
    pub matches: String,
    /// What becomes of it.
    pub action: AclAction,
    /// Where its expression stands.
    pub at: Place,
    /// The line it stands on.
    pub source: String,
    /// The lines below, where it goes on over several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub going_on: Vec<String>,
    /// Where its action stands.
    pub action_at: Place,
    /// The line that one stands on.
    pub action_source: String,
}

/// A wire between two guests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wire {
    /// The switch that carries it.
    pub switch: NetworkName,
    /// Its ends: guest and index of the interface.
    pub ends: [(GuestName, usize); 2],
    /// Free words about it.
    pub labels: Labels,
}

/// What OVN's DHCP server answers on a switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dhcp {
    /// The router whose rule it is.
    pub router: NetworkName,
    /// The default gateway handed out, and the server's address.
    pub gateway: IpAddr,
    /// The MAC address the server answers from.
    pub server_mac: Mac,
    /// The lease time in seconds.
    pub lease_s: u32,
    /// Addresses that are not handed out: first and last.
    pub excluded: Option<(IpAddr, IpAddr)>,
}

/// A layer-3 router.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Router {
    /// Its name.
    pub name: NetworkName,
    /// Its ports.
    pub ports: Vec<RouterPort>,
    /// Its static routes.
    pub routes: Vec<StaticRoute>,
    /// How addresses change on the way out and in.
    pub nat: Vec<Nat>,
    /// Free words about it.
    pub labels: Labels,
}

/// A router's port, connected to a switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouterPort {
    /// Its name, unique in the deployment.
    pub name: NetworkName,
    /// Its MAC address.
    pub mac: Mac,
    /// Its address and prefix length.
    pub address: IpNet,
    /// Its address in the switch's second, IPv6 subnet.
    pub address6: Option<Ipv6Net>,
    /// The switch.
    pub switch: NetworkName,
    /// The host through which its traffic leaves.
    pub gateway_chassis: Option<HostRef>,
    /// It tells the segment's guests how to use IPv6 (RFC 4861): the first router on a segment does.
    pub advertises: bool,
}

impl RouterPort {
    /// All its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpNet> {
        std::iter::once(self.address).chain(self.address6.map(IpNet::V6))
    }
}

/// How an address changes at a router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// Which way.
    pub kind: NatType,
    /// The address outside.
    pub external: IpAddr,
    /// The address or prefix inside.
    pub logical: IpNet,
    /// Only one port of the address.
    pub forward: Option<Forward>,
    /// Where it is named.
    pub at: Place,
}

/// One port of an address outside, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The protocol.
    pub protocol: Transport,
    /// The port outside.
    pub external: u16,
    /// The port inside.
    pub internal: u16,
}

/// A static route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StaticRoute {
    /// Where to.
    pub prefix: IpNet,
    /// Through whom.
    pub nexthop: IpAddr,
}

/// A host that the testbed file names, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRef {
    /// The host.
    pub name: HostName,
    /// Where it is named.
    pub at: Place,
}

/// A file that the testbed file names, relative to the project folder or absolute, and where it is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileRef {
    /// The path as written, `${PWD}` unresolved.
    pub path: String,
    /// Where it is named.
    pub at: Place,
    /// The source line, for the diagnostic.
    pub source: String,
}

/// An interface of a guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nic {
    /// Its name in the guest.
    pub name: String,
    /// The switch.
    pub switch: NetworkName,
    /// Its MAC address.
    pub mac: Mac,
    /// Its addresses, IPv4 first; none on a wire without a subnet.
    pub addresses: Vec<NicAddress>,
    /// Conditions of its link.
    pub shape: Shape,
}

impl Nic {
    /// The address by which people know it: the first.
    pub fn address(&self) -> Option<IpAddr> {
        self.addresses.first().map(|address| address.net.addr())
    }

    /// Its address of that version of IP.
    pub fn address_of(&self, ipv4: bool) -> Option<IpAddr> {
        self.addresses.iter().map(|address| address.net.addr()).find(|address| address.is_ipv4() == ipv4)
    }

    /// The address at which `from` asks for it: the first of a version of IP that `from` has too, else the first.
    pub fn address_for(&self, from: &Guest) -> Option<IpAddr> {
        let speaks = |ipv4| from.nics.iter().any(|nic| nic.address_of(ipv4).is_some());
        let common = self.addresses.iter().map(|address| address.net.addr()).find(|address| speaks(address.is_ipv4()));
        common.or_else(|| self.address())
    }
}

/// An address of a guest's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicAddress {
    /// The address and its prefix length.
    pub net: IpNet,
    /// Where it comes from.
    pub assignment: Assignment,
    /// The default gateway beside it.
    pub gateway: Option<IpAddr>,
}

/// Conditions of a link, per direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Towards the guest.
    pub to_guest: Conditions,
    /// From the guest.
    pub from_guest: Conditions,
}

impl Shape {
    /// True when the link is as it is without any.
    pub fn is_plain(&self) -> bool {
        *self == Shape::default()
    }
}

/// Conditions of one direction of a link, in whole numbers, so that equal ones compare equal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// How long each packet is held, in microseconds.
    pub delay_us: u64,
    /// By how much the delay varies to either side, in microseconds.
    pub jitter_us: u64,
    /// How many packets are lost, in parts of a million.
    pub loss_ppm: u32,
    /// How many packets come twice, in parts of a million.
    pub duplicate_ppm: u32,
    /// How many packets overtake those that are held, in parts of a million.
    pub reorder_ppm: u32,
    /// The most that passes, in kilobits (10³ bits) per second.
    pub rate_kbit: Option<u64>,
}

/// Where an interface's address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Assignment {
    /// The file names it.
    Static,
    /// The testbed chose it and OVN's DHCP server hands it out.
    Dhcp,
    /// The testbed chose it and the seed configures it, since no DHCP rule covers the switch.
    Assigned,
    /// The guest makes it of the router's advertisement (RFC 4862), as the testbed foresees.
    Slaac,
}

/// Addresses that guests' interfaces have now: (guest, index of the interface) → address. They are kept where the file
/// leaves the choice to the testbed, so that no edit moves an untouched guest.
pub type Leases = BTreeMap<(GuestName, usize), IpAddr>;

/// A testbed file, read and resolved without an error.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it means.
    pub topology: Topology,
    /// The file is of the older form, which knows bridges and no routers.
    pub bridges: bool,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
}
