//! What the user wrote, key by key. The JSON Schema is generated from these types.
//!
//! Pure data. Names are checked, references are not: that is the topology's work.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Serialize;

use super::reader::Spanned;
pub use super::{model_bridges::*, model_docker::*, model_libvirt::*, model_machine::*, model_scaling::*};
use crate::{addr::Mac, names::NetworkName};

/// A testbed file: `kvm-compose.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, title = "kvm-compose.yaml")]
pub struct Spec {
    /// The language's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1))]
    pub version: Option<Spanned<u64>>,
    /// The guests.
    pub machines: Vec<Machine>,
    /// The network they stand on.
    #[schemars(with = "Option<Network>")]
    pub network: Network,
    /// The network in the oldest form: bridges.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<Vec<Bridge>>")]
    pub bridges: (),
    /// In the oldest form: bridge → the bridge or bridges that it is connected to.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<ConnectionsForm>")]
    pub bridge_connections: (),
    /// In the oldest form: the bridge whose segment has a way out.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<String>")]
    pub external_bridge: (),
    /// Free words, to find the testbed by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// Reserved; has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tooling: Option<serde_json::Map<String, serde_json::Value>>,
    /// Reserved; has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testbed_options: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Network {
    /// A software-defined network on OVN.
    #[schemars(with = "Option<Ovn>")]
    pub ovn: Ovn,
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
    /// Switches on which OVN answers DHCP in this router's name.
    #[serde(default)]
    pub dhcp: Vec<DhcpRule>,
}

/// A port of a router.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RouterPort {
    /// Its name, unique in the file.
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
