//! Which addresses of a hosts' network a testbed has to itself: written beside its way there, so that the next testbed sees them.
//!
//! Pure. OVN lets two routers answer for one address; the network outside then believes whichever spoke last.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::routed::Routed;
use crate::{
    names::NetworkName,
    topology::{Switch, Topology},
};

/// The key in a way's `external_ids` under which its testbed's addresses stand, separated by spaces.
pub const CLAIMS: &str = "testbedos-addresses";

/// Guests' addresses by switch, those of switches that lead outside.
pub struct Guests<'a>(BTreeMap<&'a NetworkName, Vec<IpAddr>>);

impl<'a> Guests<'a> {
    /// Of a topology.
    pub fn new(topology: &'a Topology) -> Self {
        let outside: BTreeSet<&NetworkName> =
            topology.switches.iter().filter(|switch| !switch.localnets.is_empty()).map(|switch| &switch.name).collect();
        let mut guests: BTreeMap<&NetworkName, Vec<IpAddr>> = BTreeMap::new();
        for nic in topology.guests.iter().flat_map(|guest| &guest.nics).filter(|nic| outside.contains(&nic.switch)) {
            guests.entry(&nic.switch).or_default().extend(nic.addresses.iter().map(|address| address.net.addr()));
        }
        Guests(guests)
    }

    /// All addresses that the testbed answers for on a switch: those of routers, of translations behind them, of guests. Without
    /// the hosts' own, which every testbed on that network shares.
    pub fn claims(&self, routed: &Routed<'_>, switch: &Switch) -> String {
        let mut claims: BTreeSet<IpAddr> = self.0.get(&switch.name).into_iter().flatten().copied().collect();
        for (router, port) in routed.routers(&switch.name) {
            claims.extend(port.addresses().map(|address| address.addr()));
            claims.extend(router.nat.iter().map(|nat| nat.external).filter(|external| switch.subnet_of(*external).is_some()));
        }
        claims.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ")
    }
}
