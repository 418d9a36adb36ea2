//! What nobody has so much of: bounds where one thing is there for each of another.
//!
//! Pure. How many guests there may be is in `clones`.

use std::collections::BTreeSet;

use crate::spec::{
    model::{Machine, Ovn},
    node::Mark,
    reader::{Reader, Spanned},
};

/// Every guest could stand on every host.
const HOSTS: usize = 200;
/// Every host could lead to every network.
const NETWORKS: usize = 200;
/// Every switch knows of every router that forwards ports.
const FORWARDS: usize = 500_000;

/// Each is a port of OVN and a device of a guest.
const INTERFACES: usize = 40_000;

/// Refuses what is too much.
pub fn check(ovn: &Ovn, machines: &[Machine], reader: &mut Reader) {
    let gateways = ovn.routers.iter().flat_map(|router| &router.ports).filter_map(|port| port.set_gateway_chassis.as_ref());
    let hosts = machines.iter().filter_map(|machine| machine.placement.as_ref()?.host.as_ref()).chain(gateways);
    if let Some(at) = beyond(HOSTS, hosts) {
        let hint = Some("leave `host` out: the testbed chooses where guests stand".to_string());
        reader.error(at, "E029", format!("a testbed names at most {HOSTS} hosts"), hint);
    }
    let mut interfaces = machines.iter().scan(0, |sum, machine| {
        *sum += machine.network.len();
        Some((machine, *sum))
    });
    if let Some((machine, _)) = interfaces.find(|(_, sum)| *sum > INTERFACES) {
        let message = format!("the machines of a testbed have at most {INTERFACES} interfaces together");
        reader.error(machine.at, "E029", message, Some("plug them into fewer switches".to_string()));
    }
    let ports = ovn.switches.iter().flat_map(|switch| &switch.ports);
    if let Some(at) = beyond(NETWORKS, ports.filter_map(|port| port.localnet.as_ref()?.network_name.as_ref())) {
        let hint = Some("lead several switches to one network".to_string());
        reader.error(at, "E029", format!("a testbed leads to at most {NETWORKS} networks of hosts"), hint);
    }
    let most = FORWARDS / ovn.switches.len().max(1);
    let mut forwards = ovn.routers.iter().filter_map(|router| router.nat.iter().find(|rule| rule.external_port.is_some()));
    if let Some(rule) = forwards.nth(most) {
        let hint = Some("put the rules on fewer routers".to_string());
        let message =
            format!("ports are forwarded by more than {most} routers, and there are {} switches that know of each", ovn.switches.len());
        reader.error(rule.at, "E029", message, hint);
    }
}

/// Where the first name stands that is one too many.
fn beyond<'a, T: Ord + 'a>(most: usize, names: impl Iterator<Item = &'a Spanned<T>>) -> Option<Mark> {
    let mut seen = BTreeSet::new();
    names.into_iter().find(|name| seen.insert(&name.value) && seen.len() > most).map(|name| name.at)
}
