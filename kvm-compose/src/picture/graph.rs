//! What a picture shows, in plain words: things, and what is plugged into what.
//!
//! The one place where pictures read the topology; all that draw or write know only this. Words are as the topology has
//! them: whoever writes them escapes them.

use std::collections::BTreeMap;

use crate::{
    names::NetworkName,
    topology::{self, Topology},
};

/// A testbed as a graph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// The deployment's name.
    pub name: String,
    /// Routers, in the topology's order.
    pub routers: Vec<Router>,
    /// Switches, in the topology's order.
    pub switches: Vec<Switch>,
    /// Networks outside the testbed.
    pub outsides: Vec<Outside>,
    /// Guests, in the topology's order; after them ports of the host itself.
    pub guests: Vec<Guest>,
    /// Wires between two guests.
    pub wires: Vec<Wire>,
}

/// A router.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Router {
    /// Its name.
    pub name: String,
    /// What it does beside forwarding between its ports: routes, translations.
    pub facts: Vec<String>,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// A router's port on a switch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<String>,
    /// The switch's index.
    pub switch: usize,
}

/// A layer-2 segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Switch {
    /// Its name.
    pub name: String,
    /// Its subnets.
    pub subnets: Vec<String>,
    /// The conditions on it, such as `25 ms`; mostly empty.
    pub note: String,
}

/// A network that is not the testbed's, and the switches that are bridged to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// The name under which hosts know it.
    pub name: String,
    /// The switches' indices, with the names of their ports to it.
    pub switches: Vec<(usize, String)>,
}

/// Something with interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// What it is, as the testbed file says it: `micro`, `libvirt`, …; `host` is a port of the host itself.
    pub kind: String,
    /// Its interfaces.
    pub nics: Vec<Nic>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Its name in the guest.
    pub name: String,
    /// What it is plugged into; nothing when that is not there.
    pub end: Option<End>,
    /// Its addresses, without prefix lengths.
    pub addresses: Vec<String>,
    /// The conditions on it; mostly empty.
    pub note: String,
}

/// What an interface is plugged into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A switch, by index.
    Switch(usize),
    /// A wire, by index.
    Wire(usize),
}

/// A point-to-point wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire {
    /// Guest and interface at each end, by index.
    pub ends: [(usize, usize); 2],
    /// The conditions on it; mostly empty.
    pub note: String,
}

impl Graph {
    /// The graph of a topology.
    pub fn of(topology: &Topology) -> Graph {
        let places: BTreeMap<&NetworkName, usize> =
            topology.switches.iter().zip(0..).map(|(switch, index)| (&switch.name, index)).collect();
        Graph {
            name: topology.deployment.to_string(),
            routers: topology.routers.iter().map(|router| router_of(router, &places)).collect(),
            switches: topology.switches.iter().map(switch_of).collect(),
            outsides: Vec::new(),
            guests: topology.guests.iter().map(|guest| guest_of(guest, &places)).collect(),
            wires: Vec::new(),
        }
    }

    /// The switch that a guest hangs from: that of its first interface on one.
    pub fn home(&self, guest: usize) -> Option<usize> {
        self.guests[guest].nics.iter().find_map(|nic| match nic.end {
            Some(End::Switch(switch)) => Some(switch),
            _ => None,
        })
    }

    /// The other end of a wire: guest and interface.
    pub fn far(&self, wire: usize, guest: usize, nic: usize) -> (usize, usize) {
        let [one, other] = self.wires[wire].ends;
        if one == (guest, nic) { other } else { one }
    }
}

fn router_of(router: &topology::Router, places: &BTreeMap<&NetworkName, usize>) -> Router {
    let port = |port: &topology::RouterPort| {
        let switch = *places.get(&port.switch)?;
        Some(Port { name: port.name.to_string(), addresses: vec![port.address.to_string()], switch })
    };
    Router {
        name: router.name.to_string(),
        facts: router.routes.iter().map(|route| format!("{} via {}", route.prefix, route.nexthop)).collect(),
        ports: router.ports.iter().filter_map(port).collect(),
    }
}

fn switch_of(switch: &topology::Switch) -> Switch {
    Switch { name: switch.name.to_string(), subnets: vec![switch.subnet.to_string()], note: String::new() }
}

fn guest_of(guest: &topology::Guest, places: &BTreeMap<&NetworkName, usize>) -> Guest {
    let nic = |nic: &topology::Nic| Nic {
        name: nic.name.clone(),
        end: places.get(&nic.switch).map(|switch| End::Switch(*switch)),
        addresses: vec![nic.address.addr().to_string()],
        note: String::new(),
    };
    Guest { name: guest.name.to_string(), kind: guest.kind.word().to_string(), nics: guest.nics.iter().map(nic).collect() }
}
