//! Which routers stand on which switch, looked up by the switch.
//!
//! Pure.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::{
    names::NetworkName,
    nets::Nets,
    topology::{NatType, Router, RouterPort, Switch, Topology},
};

/// A topology, and its routers' ports by switch.
pub struct Routed<'a> {
    /// All of it.
    pub topology: &'a Topology,
    ports: BTreeMap<&'a NetworkName, Vec<(&'a Router, &'a RouterPort)>>,
    /// Router → the subnets that it hides behind an address outside.
    hidden: BTreeMap<&'a NetworkName, Nets>,
}

impl<'a> Routed<'a> {
    /// The routers of a topology by switch.
    pub fn new(topology: &'a Topology) -> Self {
        let mut ports: BTreeMap<&NetworkName, Vec<(&Router, &RouterPort)>> = BTreeMap::new();
        for router in &topology.routers {
            router.ports.iter().for_each(|port| ports.entry(&port.switch).or_default().push((router, port)));
        }
        let hidden = |router: &Router| router.nat.iter().filter(|nat| nat.kind == NatType::Snat).map(|nat| (0, nat.logical)).collect();
        let hidden = |router: &'a Router| (&router.name, Nets::of(Vec::into_iter(hidden(router))));
        Routed { topology, ports, hidden: topology.routers.iter().map(hidden).collect() }
    }

    /// Routers' ports on a switch, in the topology's order.
    pub fn ports(&self, switch: &NetworkName) -> impl Iterator<Item = &'a RouterPort> + '_ {
        self.ports.get(switch).into_iter().flatten().map(|(_, port)| *port)
    }

    /// Routers with a port on a switch, each with that port, in the topology's order.
    pub fn routers(&self, switch: &NetworkName) -> impl Iterator<Item = (&'a Router, &'a RouterPort)> + '_ {
        self.ports.get(switch).into_iter().flatten().copied()
    }

    /// Do the switch's guests reach the outside through a router that changes their addresses?
    pub fn leads_out(&self, switch: &Switch) -> bool {
        let hides = |router: &Router, subnet: IpNet| self.hidden.get(&router.name).is_some_and(|hidden| hidden.cover(subnet));
        let mut routers = self.ports.get(&switch.name).into_iter().flatten().map(|(router, _)| router);
        switch.subnet.is_some_and(|subnet| routers.any(|router| hides(router, subnet)))
    }

    /// MAC and IPv6 address of the router that advertises a switch's IPv6 subnet.
    pub fn gateway6(&self, switch: &Switch) -> Option<(String, String)> {
        let port = self.ports(&switch.name).find(|port| port.advertises)?;
        let address = port.addresses().find(|address| matches!(address, IpNet::V6(_)))?;
        Some((port.mac.to_string(), address.addr().to_string()))
    }
}
