//! Bridges and interfaces outside OVN, wanted against seen → steps.
//!
//! Pure. What is shared by all testbeds is made and mended, never removed.

use super::{
    blueprint::Blueprint,
    observed::{Observed, OnHost},
    outside::{InternalPort, SeenInternal, Uplink},
    step::{Impact, Step, StepId, Work},
};
use crate::names::HostName;

/// What comes before the network changes: hosts' bridges come, interfaces go.
pub fn before(wanted: &Blueprint, observed: &Observed) -> Vec<Step> {
    let mut steps: Vec<Step> = wanted.outside.uplinks.iter().filter_map(|uplink| set_up(wanted, uplink, observed)).collect();
    for OnHost { host, what: seen } in &observed.outside.internals {
        let kept = wanted.outside.internals.iter().any(|port| port.host == *host && port.interface == seen.interface);
        if !kept {
            let work = Work::UnplugInternal { name: seen.name.clone(), interface: seen.interface.clone() };
            let id = format!("unplug/{}{}", seen.name, suffix(wanted, host));
            steps.push(step(id, host, work, ("no longer wanted", Impact::Remove), None));
        }
    }
    steps
}

/// What comes after: interfaces that have their port in OVN.
pub fn after(wanted: &Blueprint, observed: &Observed, network: Option<&StepId>) -> Vec<Step> {
    let mut steps = Vec::new();
    for port in &wanted.outside.internals {
        let seen = observed.outside.internals.iter().find(|seen| seen.host == port.host && seen.what.interface == port.interface);
        let (reason, impact, undo) = match seen.map(|seen| &seen.what) {
            None => ("new".to_string(), Impact::Create, None),
            Some(seen) => match lacks(port, seen) {
                None => continue,
                // What was there before is put back, as far as it was whole.
                Some(reason) => (reason, Impact::InPlace, Some(before_it(port, seen).map(|port| Work::PlugInternal { port }))),
            },
        };
        let work = Work::PlugInternal { port: port.clone() };
        let mut step = step(format!("plug/{}{}", port.name, suffix(wanted, &port.host)), &port.host, work, (&reason, impact), network);
        if let Some(undo) = undo {
            step.undo = undo;
        }
        steps.push(step);
    }
    steps
}

fn set_up(wanted: &Blueprint, uplink: &Uplink, observed: &Observed) -> Option<Step> {
    let seen = observed.outside.uplinks.iter().find(|seen| seen.host == uplink.host && seen.what.network == uplink.mapping.network);
    let (reason, impact) = match seen.map(|seen| &seen.what) {
        None => ("new".to_string(), Impact::Create),
        Some(seen) if seen.lacks.is_empty() => return None,
        Some(seen) => {
            let impact = if seen.there { Impact::InPlace } else { Impact::Create };
            (format!("the host lacks {}", seen.lacks.join(", ")), impact)
        }
    };
    let id = format!("uplink/{}{}", uplink.mapping.network, suffix(wanted, &uplink.host));
    Some(step(id, &uplink.host, Work::SetUpUplink { uplink: uplink.clone() }, (&reason, impact), None))
}

/// In what an interface differs from what is wanted.
fn lacks(port: &InternalPort, seen: &SeenInternal) -> Option<String> {
    let mut differs = Vec::new();
    if seen.iface_id != port.iface_id {
        differs.push("its port changed");
    }
    if seen.mac != Some(port.mac) {
        differs.push("its MAC changed");
    }
    if seen.mtu != Some(port.mtu) {
        differs.push("its MTU changed");
    }
    if seen.addresses != [port.address] {
        differs.push("its address changed");
    }
    if !seen.up {
        differs.push("it is down");
    }
    (!differs.is_empty()).then(|| differs.join(", "))
}

fn before_it(port: &InternalPort, seen: &SeenInternal) -> Option<InternalPort> {
    let [address] = seen.addresses.as_slice() else { return None };
    Some(InternalPort { iface_id: seen.iface_id.clone(), mac: seen.mac?, mtu: seen.mtu?, address: *address, ..port.clone() })
}

fn step(id: String, host: &HostName, work: Work, (reason, impact): (&str, Impact), need: Option<&StepId>) -> Step {
    let undo = work.undo();
    let needs = need.cloned().into_iter().collect();
    Step {
        id: StepId::new(id),
        host: host.clone(),
        work,
        needs,
        reason: reason.to_string(),
        impact,
        guests: Vec::new(),
        traffic: Vec::new(),
        undo,
    }
}

fn suffix(wanted: &Blueprint, host: &HostName) -> String {
    if *host == wanted.master { String::new() } else { format!("@{host}") }
}
