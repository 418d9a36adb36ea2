//! What the user wrote about the network, key by key. The JSON Schema is generated from these types.
//!
//! Pure data. Names are checked, references are not: that is the topology's work.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::{IpNet, Ipv6Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::model_link::*;
use super::{
    model_bridges::{Bridge, Bridges, ConnectionsForm},
    node::Mark,
    reader::Spanned,
};
use crate::{
    addr::Mac,
    names::{HostName, NetworkName},
};

/// Free words about a thing, searchable.
pub type Labels = BTreeMap<String, Spanned<String>>;

/// The network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Network {
    /// A software-defined network on OVN.
    #[serde(default)]
    #[schemars(with = "Option<Ovn>")]
    pub ovn: Ovn,
    /// Wires between two guests, without a switch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<LinkForm>")]
    pub links: Vec<Link>,
    /// The older form: bridges. Each becomes a switch.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<Vec<Bridge>>")]
    pub bridges: Option<Bridges>,
    /// In the older form: bridge → the bridge or bridges that it is connected to, so that they are one segment.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<ConnectionsForm>")]
    pub bridge_connections: (),
    /// In the older form: the bridge whose segment has a way out.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<String>")]
    pub external_bridge: (),
}

/// A software-defined network on OVN.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ovn {
    /// Layer-2 segments, by name.
    #[schemars(with = "BTreeMap<String, Switch>")]
    pub switches: Vec<Switch>,
    /// Routers, by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Router>")]
    pub routers: Vec<Router>,
    /// Who may talk to whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acl: Option<AclSection>,
    /// Guests resolve each other by name; on when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Spanned<bool>>,
}

/// A layer-2 segment.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Switch {
    /// Its name, the key in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub name: Option<Spanned<NetworkName>>,
    /// Its subnet, `address/prefix`.
    #[schemars(with = "String", required)]
    pub subnet: Option<Spanned<IpNet>>,
    /// Ports that are not guests'.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<SwitchPort>,
    /// A second, IPv6 subnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Ipv6Form>")]
    pub ipv6: Option<Ipv6>,
    /// Conditions of the links of all its interfaces that name none of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impairment: Option<Impairment>,
    /// Free words about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: Labels,
}

/// A port of a switch that is not a guest's: one of `localnet` and `internal`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SwitchPort {
    /// Its name, unique among the ports of switches.
    #[schemars(required)]
    pub name: Option<Spanned<NetworkName>>,
    /// A way to a network of the hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub localnet: Option<Localnet>,
    /// An interface of the master's own machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal: Option<Internal>,
}

/// A way to a network of the hosts.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Localnet {
    /// The name in `bridge_mappings` of `host.json`.
    #[schemars(required)]
    pub network_name: Option<Spanned<NetworkName>>,
}

/// An interface of the master's own machine on the switch.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Internal {
    /// Its address, of the switch's subnet.
    #[schemars(with = "String", required)]
    pub ip: Option<Spanned<IpAddr>>,
    /// Its MAC address; generated when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Spanned<Mac>>,
}

/// An IPv6 subnet beside the switch's own. A text alone is the subnet.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ipv6 {
    /// The subnet, `address/prefix`.
    #[schemars(with = "String", required)]
    pub subnet: Option<Spanned<Ipv6Net>>,
    /// How guests get their address; `slaac` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Spanned<Ipv6Mode>>,
}

/// The forms of `ipv6`, for the schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum Ipv6Form {
    /// The subnet alone.
    Subnet(String),
    /// Subnet and mode.
    Whole(Ipv6),
}

/// How guests get an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ipv6Mode {
    /// They make it themselves of the router's advertisement (RFC 4862).
    Slaac,
    /// OVN's DHCPv6 server hands it out (RFC 8415).
    Dhcpv6,
}

impl Ipv6Mode {
    /// The words of the language.
    pub const WORDS: [(&'static str, Ipv6Mode); 2] = [("slaac", Ipv6Mode::Slaac), ("dhcpv6", Ipv6Mode::Dhcpv6)];
}

/// A router.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Router {
    /// Its name, the key in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub name: Option<Spanned<NetworkName>>,
    /// Its ports.
    pub ports: Vec<RouterPort>,
    /// Its static routes.
    #[serde(default)]
    pub static_routes: Vec<StaticRoute>,
    /// How addresses change on the way out and in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nat: Vec<Nat>,
    /// Switches on which OVN answers DHCP in this router's name.
    #[serde(default)]
    pub dhcp: Vec<DhcpRule>,
    /// Free words about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: Labels,
}

/// A port of a router.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RouterPort {
    /// Its name, unique among the ports of routers.
    #[schemars(required)]
    pub name: Option<Spanned<NetworkName>>,
    /// Its MAC address; generated when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Spanned<Mac>>,
    /// Its address, `address/prefix`: the gateway of the switch's guests.
    #[schemars(with = "String", required)]
    pub gateway_ip: Option<Spanned<IpNet>>,
    /// The switch it is plugged into.
    #[schemars(required)]
    pub switch: Option<Spanned<NetworkName>>,
    /// The host through which its traffic leaves; `main` and `master` both name the master.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_gateway_chassis: Option<Spanned<HostName>>,
}

/// A static route.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StaticRoute {
    /// Where to, `address/prefix`.
    #[schemars(with = "String", required)]
    pub prefix: Option<Spanned<IpNet>>,
    /// Through whom.
    #[schemars(with = "String", required)]
    pub nexthop: Option<Spanned<IpAddr>>,
}

/// How an address changes at a router's port that has a gateway chassis.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Nat {
    /// Which way.
    #[schemars(required)]
    pub nat_type: Option<Spanned<NatType>>,
    /// The address outside.
    #[schemars(with = "String", required)]
    pub external_ip: Option<Spanned<IpAddr>>,
    /// The address inside, or for `snat` a prefix.
    #[schemars(with = "String", required)]
    pub logical_ip: Option<Spanned<IpNet>>,
    /// Only with `dnat`: the port outside, so that several guests stand behind one address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub external_port: Option<Spanned<u64>>,
    /// Only with `external_port`: the port inside; the same when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub logical_port: Option<Spanned<u64>>,
    /// Only with `external_port`; `tcp` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Spanned<Transport>>,
    /// Where it stands in the file.
    #[serde(skip)]
    #[schemars(skip)]
    pub at: Mark,
}

/// Which way addresses change (ovn-nb(5), table `NAT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NatType {
    /// Guests reach the outside as `external_ip`.
    Snat,
    /// The outside reaches one guest at `external_ip`, which is also how the guest reaches the outside.
    DnatAndSnat,
    /// The outside reaches a guest at `external_ip`, or at one port of it.
    Dnat,
}

impl NatType {
    /// The words of the language.
    pub const WORDS: [(&'static str, NatType); 3] =
        [("snat", NatType::Snat), ("dnat_and_snat", NatType::DnatAndSnat), ("dnat", NatType::Dnat)];

    /// The word of the language, which is OVN's.
    pub const fn word(self) -> &'static str {
        match self {
            NatType::Snat => "snat",
            NatType::DnatAndSnat => "dnat_and_snat",
            NatType::Dnat => "dnat",
        }
    }
}

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// The words of the language.
    pub const WORDS: [(&'static str, Transport); 2] = [("tcp", Transport::Tcp), ("udp", Transport::Udp)];

    /// The word of the language, which is OVN's.
    pub const fn word(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        }
    }
}

/// A switch on which OVN answers DHCP.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DhcpRule {
    /// The switch.
    #[schemars(required)]
    pub switch: Option<Spanned<NetworkName>>,
    /// Addresses that are not handed out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_ips: Option<AddressRange>,
}

/// Addresses from one to another, both included.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AddressRange {
    /// The first.
    #[schemars(with = "String", required)]
    pub from: Option<Spanned<IpAddr>>,
    /// The last.
    #[schemars(with = "String", required)]
    pub to: Option<Spanned<IpAddr>>,
}

/// Who may talk to whom.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AclSection {
    /// What no rule allows is dropped, on every switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apply_deny_all: Option<Spanned<bool>>,
    /// Rules, by switch.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Vec<AclRule>>")]
    pub switches: Vec<SwitchAcl>,
}

/// The rules of a switch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SwitchAcl {
    /// The switch.
    pub switch: Spanned<NetworkName>,
    /// Its rules.
    pub rules: Vec<AclRule>,
}

/// A rule for the traffic of a switch (ovn-nb(5), table `ACL`).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AclRule {
    /// On the way to a port, or from one.
    #[schemars(required)]
    pub direction: Option<Spanned<AclDirection>>,
    /// Of the rules that match, the one with the highest priority holds.
    #[schemars(required, range(min = 0, max = 32767))]
    pub priority: Option<Spanned<u64>>,
    /// Which traffic, in OVN's language of expressions (ovn-sb(5), `Logical_Flow`).
    #[serde(rename = "match")]
    #[schemars(required)]
    pub matches: Option<Spanned<String>>,
    /// What becomes of it.
    #[schemars(required)]
    pub action: Option<Spanned<AclAction>>,
    /// Where it stands in the file.
    #[serde(skip)]
    #[schemars(skip)]
    pub at: Mark,
}

/// Where a rule applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AclDirection {
    /// Before traffic is delivered to a port.
    ToLport,
    /// When traffic enters from a port.
    FromLport,
}

impl AclDirection {
    /// The words of the language.
    pub const WORDS: [(&'static str, AclDirection); 2] = [("to-lport", AclDirection::ToLport), ("from-lport", AclDirection::FromLport)];

    /// The word of the language, which is OVN's.
    pub const fn word(self) -> &'static str {
        match self {
            AclDirection::ToLport => "to-lport",
            AclDirection::FromLport => "from-lport",
        }
    }
}

/// What becomes of traffic that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AclAction {
    /// It passes.
    Allow,
    /// It passes, and so do the answers to it.
    AllowRelated,
    /// It passes, and no connection is tracked for it.
    AllowStateless,
    /// It vanishes.
    Drop,
    /// Rules of a lower tier decide.
    Pass,
    /// It is refused with a TCP reset or an ICMP error.
    Reject,
}

impl AclAction {
    /// The words of the language.
    pub const WORDS: [(&'static str, AclAction); 6] = [
        ("allow", AclAction::Allow),
        ("allow-related", AclAction::AllowRelated),
        ("allow-stateless", AclAction::AllowStateless),
        ("drop", AclAction::Drop),
        ("pass", AclAction::Pass),
        ("reject", AclAction::Reject),
    ];

    /// The word of the language, which is OVN's.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, action)| *action == self).map_or("drop", |(word, _)| word)
    }
}
