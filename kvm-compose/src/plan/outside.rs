//! Where a testbed leaves OVN: hosts' bridges to networks of their own, and interfaces of the master's machine.
//!
//! Pure. Hosts' bridges are shared by all testbeds and outlive them; interfaces are the deployment's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    observed::OnHost,
    place::{self, Places},
    render::{routed::Routed, rows::scoped},
    site::{Hosts, Site},
};
use crate::{
    addr::Mac,
    error::{Code, Problem},
    names::{DeploymentName, HostName, InstallationId, NetworkName},
    topology::{Internal, Localnet, Switch, Topology},
};

/// A network of a host, by the name that testbed files use (`bridge_mappings` in host.json).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The name.
    pub network: NetworkName,
    /// The bridge of Open vSwitch that leads there.
    pub bridge: String,
    /// The host's own address on it, if it has one.
    pub address: Option<IpNet>,
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.network, self.bridge)
    }
}

/// A host's bridge to one of its networks. It is made for whoever needs it first, and stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// The host.
    pub host: HostName,
    /// What leads where.
    pub mapping: Mapping,
    /// The bridge whose datapath it shares, `br-int`.
    pub beside: String,
    /// The host forwards what comes from there and hides it behind its own addresses.
    pub masquerade: bool,
}

/// An interface of the master's machine on a logical switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternalPort {
    /// The host.
    pub host: HostName,
    /// Its name in the testbed file.
    pub name: NetworkName,
    /// The interface, as the host knows it: 15 characters at most (IFNAMSIZ).
    pub interface: String,
    /// The integration bridge.
    pub bridge: String,
    /// The logical port's name.
    pub iface_id: String,
    /// Its MAC address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u16,
    /// The host's address on it.
    pub address: IpNet,
}

/// All of it, decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// Hosts' bridges that must be there.
    pub uplinks: Vec<Uplink>,
    /// The deployment's own interfaces.
    pub internals: Vec<InternalPort>,
}

impl Outside {
    /// What is wanted on one host.
    pub fn on(&self, host: &HostName) -> Outside {
        Outside {
            uplinks: self.uplinks.iter().filter(|uplink| uplink.host == *host).cloned().collect(),
            internals: self.internals.iter().filter(|port| port.host == *host).cloned().collect(),
        }
    }
}

/// What was seen of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenOutside {
    /// Of each bridge that is wanted, what it lacks: nothing, when it is as wanted.
    pub uplinks: Vec<OnHost<SeenUplink>>,
    /// Interfaces with the deployment's mark.
    pub internals: Vec<OnHost<SeenInternal>>,
}

impl SeenOutside {
    /// Adds what was seen on another host.
    pub fn merge(&mut self, other: SeenOutside) {
        self.uplinks.extend(other.uplinks);
        self.internals.extend(other.internals);
    }
}

/// A host's bridge, as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenUplink {
    /// The network it leads to.
    pub network: NetworkName,
    /// The bridge is there.
    pub there: bool,
    /// What it lacks, in words.
    pub lacks: Vec<String>,
}

/// An interface with the deployment's mark, as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenInternal {
    /// Its name in the testbed file.
    pub name: NetworkName,
    /// The interface.
    pub interface: String,
    /// The logical port that it is.
    pub iface_id: String,
    /// Its MAC address, when it has one.
    pub mac: Option<Mac>,
    /// Its MTU, when it has one.
    pub mtu: Option<u16>,
    /// Its addresses, those that the kernel gives every interface apart.
    pub addresses: Vec<IpNet>,
    /// It is up.
    pub up: bool,
}

/// Decides what stands outside. A network that a host does not have is refused where the file names it.
pub fn outside(routed: &Routed<'_>, hosts: &Hosts, places: &Places) -> Result<Outside, Problem> {
    let topology = routed.topology;
    let mut outside = Outside::default();
    let ways = Ways::new(routed, hosts, places);
    let mut seen: BTreeSet<(&HostName, &NetworkName)> = BTreeSet::new();
    for switch in &topology.switches {
        let here = if switch.localnets.is_empty() { Vec::new() } else { ways.hosts_of(switch) };
        for localnet in &switch.localnets {
            for (site, mappings) in &here {
                if seen.insert((&site.host, &localnet.network)) {
                    outside.uplinks.push(uplink(localnet, site, mappings)?);
                }
            }
        }
        let internals = switch.internals.iter().map(|port| internal_port(&topology.deployment, port, &hosts.master));
        outside.internals.extend(internals);
    }
    Ok(outside)
}

/// A host on which every network of the file leads somewhere, for plans that are not tied to machines.
pub fn anywhere(topology: &Topology) -> Vec<Mapping> {
    let networks: BTreeSet<&NetworkName> =
        topology.switches.iter().flat_map(|switch| &switch.localnets).map(|localnet| &localnet.network).collect();
    networks.into_iter().map(|network| Mapping { network: network.clone(), bridge: "br-ex".to_string(), address: None }).collect()
}

pub(super) type Mappings<'a> = BTreeMap<&'a NetworkName, &'a Mapping>;

/// What decides on which hosts traffic leaves.
struct Ways<'a> {
    routed: &'a Routed<'a>,
    hosts: &'a Hosts,
    /// All hosts, with their networks by name.
    sites: Vec<(&'a Site, Mappings<'a>)>,
    /// Switch → the hosts of guests on it.
    of_guests: BTreeMap<&'a NetworkName, BTreeSet<&'a HostName>>,
    /// The hosts of all guests.
    of_all: BTreeSet<&'a HostName>,
}

impl<'a> Ways<'a> {
    fn new(routed: &'a Routed<'a>, hosts: &'a Hosts, places: &'a Places) -> Self {
        let mut of_guests: BTreeMap<&NetworkName, BTreeSet<&HostName>> = BTreeMap::new();
        let mut of_all = BTreeSet::new();
        for guest in &routed.topology.guests {
            let Some(place) = places.get(&guest.name) else { continue };
            of_all.insert(&place.host);
            for nic in &guest.nics {
                of_guests.entry(&nic.switch).or_default().insert(&place.host);
            }
        }
        Ways { routed, hosts, sites: hosts.all().map(|site| (site, networks(site))).collect(), of_guests, of_all }
    }

    /// The hosts on which traffic of a switch passes to the network outside: those of gateways and of guests on it, else the
    /// master. Without a gateway of its own a router is on every host, and so is its way out.
    fn hosts_of(&self, switch: &Switch) -> Vec<&(&'a Site, Mappings<'a>)> {
        let mut found: BTreeSet<&HostName> = self.of_guests.get(&switch.name).cloned().unwrap_or_default();
        let mut everywhere = false;
        for port in self.routed.ports(&switch.name) {
            match &port.gateway_chassis {
                Some(asked) => found.extend(place::named(asked, self.hosts).map(|site| &site.host)),
                None => everywhere = true,
            }
        }
        if everywhere {
            found.extend(&self.of_all);
        }
        if found.is_empty() || !switch.internals.is_empty() {
            found.insert(&self.hosts.master.host);
        }
        self.sites.iter().filter(|(site, _)| found.contains(&site.host)).collect()
    }
}

/// A host's networks by name.
pub(super) fn networks(site: &Site) -> Mappings<'_> {
    site.mappings.iter().rev().map(|mapping| (&mapping.network, mapping)).collect()
}

pub(super) fn uplink(localnet: &Localnet, site: &Site, mappings: &Mappings<'_>) -> Result<Uplink, Problem> {
    let Some(mapping) = mappings.get(&localnet.network) else {
        let names: Vec<&str> = site.mappings.iter().map(|mapping| mapping.network.as_str()).collect();
        let known = if names.is_empty() { "nothing".to_string() } else { names.join(", ") };
        let message = format!("host `{}` has no network `{}` for the port `{}`", site.host, localnet.network, localnet.name);
        let mut problem = Problem::new(Code::Unsupported, message)
            .hint(format!("host.json of host `{}` maps: {known}; `ovn.bridge_mappings` there takes more", site.host));
        problem.at = Some(localnet.at.clone());
        return Err(problem);
    };
    Ok(Uplink { host: site.host.clone(), mapping: Mapping::clone(mapping), beside: site.bridge.clone(), masquerade: site.masquerade })
}

fn internal_port(deployment: &DeploymentName, port: &Internal, site: &Site) -> InternalPort {
    InternalPort {
        host: site.host.clone(),
        name: port.name.clone(),
        interface: interface_name(site.installation, deployment, &port.name),
        bridge: site.bridge.clone(),
        iface_id: scoped(deployment, &port.name),
        mac: port.mac,
        mtu: site.mtu,
        address: port.address,
    }
}

/// What the host calls an internal port: the beginning of its name, and enough of a digest to keep testbeds apart.
fn interface_name(installation: InstallationId, deployment: &DeploymentName, port: &NetworkName) -> String {
    let digest = Uuid::new_v5(&installation.0, format!("internal/{deployment}/{port}").as_bytes()).simple().to_string();
    let kept: String = port.as_str().chars().take(8).collect();
    format!("{}-{}", kept.trim_end_matches(['-', '_', '.']), &digest[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_a_short_name_of_its_own() {
        let one = InstallationId(Uuid::from_u128(1));
        let deployment = |name: &str| DeploymentName::new(name).expect("valid");
        let port = NetworkName::new("internal-of-the-host").expect("valid");
        let name = interface_name(one, &deployment("a"), &port);
        assert!(name.starts_with("internal-") && name.len() == 15, "{name}");
        assert_eq!(name, interface_name(one, &deployment("a"), &port));
        assert_ne!(name, interface_name(one, &deployment("b"), &port));
        assert_ne!(name, interface_name(InstallationId(Uuid::from_u128(2)), &deployment("a"), &port));
    }
}
