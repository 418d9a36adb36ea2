//! From what the user wrote to what it means: ports of switches that are not guests', and who may talk to whom.
//!
//! Pure. Every unresolved reference and every impossible address is a fault at its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use ipnet::IpNet;

use super::{
    model::{Acl, AclAction, Guest, Internal, Localnet, Router, Switch},
    resolve::Segments,
};
use crate::{
    names::{DeploymentName, NetworkName, printable},
    spec::{model as wrote, reader::Reader},
};

/// Ways to the hosts' networks and the master's own interfaces; their addresses and MACs are claimed on the segments.
pub fn ports(wrote: &[wrote::Switch], deployment: &DeploymentName, segments: &mut Segments, reader: &mut Reader) {
    let mut names: BTreeSet<&NetworkName> = BTreeSet::new();
    for switch in wrote {
        let Some(name) = &switch.name else { continue };
        // Faulty ones are none.
        let mut known = segments.switches.get(&name.value).map(|known| Switch::clone(known));
        let mut networks: BTreeSet<&NetworkName> = BTreeSet::new();
        for (index, port) in switch.ports.iter().enumerate() {
            if let Some(port) = port.name.as_ref().filter(|port| !names.insert(&port.value)) {
                let hint = Some("names of switches' ports are unique in the whole file".to_string());
                reader.error(port.at, "E011", format!("a switch has a port `{}` already", port.value), hint);
            }
            let Some(known) = &mut known else { continue };
            localnet(port, known, &mut networks, reader);
            internal(port, index, deployment, known, segments, reader);
        }
        segments.switches.extend(known.map(|known| (name.value.clone(), Rc::new(known))));
    }
}

fn localnet<'a>(port: &'a wrote::SwitchPort, switch: &mut Switch, networks: &mut BTreeSet<&'a NetworkName>, reader: &mut Reader) {
    let (Some(name), Some(localnet)) = (&port.name, &port.localnet) else { return };
    let Some(network) = &localnet.network_name else { return };
    if !networks.insert(&network.value) {
        let hint = Some("one way to a network is enough".to_string());
        reader.error(network.at, "E011", format!("switch `{}` leads to `{}` already", switch.name, network.value), hint);
        return;
    }
    switch.localnets.push(Localnet { name: name.value.clone(), network: network.value.clone(), at: reader.place(network.at) });
}

fn internal(
    port: &wrote::SwitchPort,
    index: usize,
    deployment: &DeploymentName,
    switch: &mut Switch,
    segments: &mut Segments,
    reader: &mut Reader,
) {
    let (Some(name), Some(internal)) = (&port.name, &port.internal) else { return };
    let Some(ip) = &internal.ip else { return };
    let who = format!("the port `{}` of the switch itself", name.value);
    if !segments.claim_address(switch, ip.value, &who, ip.at, reader) {
        return;
    }
    let (mac, at) = match &internal.mac {
        Some(mac) => (mac.value, mac.at),
        None => (segments.free_mac(deployment, &switch.name, &format!("internal/{}", name.value), index), name.at),
    };
    segments.claim_mac(&switch.name, mac, &who, at, reader);
    let prefix = switch.subnet_of(ip.value).map_or(0, |net| net.prefix_len());
    if let Ok(address) = IpNet::new(ip.value, prefix) {
        switch.internals.push(Internal { name: name.value.clone(), address, mac, at: reader.place(name.at) });
    }
}

/// Who may talk to whom, put onto the switches.
pub fn acls(wrote: Option<&wrote::AclSection>, segments: &mut Segments, reader: &mut Reader) {
    let Some(wrote) = wrote else { return };
    let deny_all = wrote.apply_deny_all.as_ref().is_some_and(|deny| deny.value);
    for switch in segments.switches.values_mut().filter(|switch| switch.deny_all != deny_all) {
        Rc::make_mut(switch).deny_all = deny_all;
    }
    for section in &wrote.switches {
        if segments.find(&section.switch, reader).is_none() {
            continue;
        }
        let mut before = Before::new();
        let acls: Vec<Acl> = section.rules.iter().filter_map(|rule| acl(rule, &mut before, reader)).collect();
        if let Some(switch) = segments.switches.get_mut(&section.switch.value) {
            Rc::make_mut(switch).acls.extend(acls);
        }
    }
}

/// Direction, priority and expression of the rules so far → action and line.
type Before<'a> = BTreeMap<(&'static str, u16, &'a str), (AclAction, u32)>;

fn acl<'a>(rule: &'a wrote::AclRule, before: &mut Before<'a>, reader: &mut Reader) -> Option<Acl> {
    let (direction, priority) = (rule.direction.as_ref()?.value, rule.priority.as_ref()?);
    let (matches, action_at) = (rule.matches.as_ref()?, rule.action.as_ref()?.at);
    let action = rule.action.as_ref()?.value;
    let priority_value = priority.value as u16;
    let key = (direction.word(), priority_value, matches.value.as_str());
    if let Some((other, line)) = before.get(&key) {
        if *other == action {
            reader.warning(rule.at, "W012", "this rule stands here already".to_string(), Some("remove one of them".to_string()));
            return None;
        }
        let hint = Some("OVN would take either; give one of them another priority".to_string());
        reader.error(priority.at, "E011", format!("line {line} has the same match and priority with another action"), hint);
        return None;
    }
    before.insert(key, (action, matches.at.line));
    let source = reader.source(matches.at);
    // What is not on that line as it is, is written over several lines, or with escapes.
    let going_on = if source.contains(&matches.value) { Vec::new() } else { reader.going_on(matches.at) };
    Some(Acl {
        direction,
        priority: priority_value,
        matches: matches.value.clone(),
        action,
        at: reader.place(matches.at),
        source,
        going_on,
        action_at: reader.place(action_at),
        action_source: reader.source(action_at),
    })
}

/// Conditions of a switch act on the links of guests' interfaces: where there are none they would do nothing, and nobody
/// would notice.
pub fn check_impairments(wrote: &[wrote::Switch], machines: &[wrote::Machine], reader: &mut Reader) {
    let with_guests: BTreeSet<&NetworkName> = machines.iter().flat_map(|machine| &machine.network).map(|nic| &nic.switch.value).collect();
    for name in wrote.iter().filter(|switch| switch.impairment.is_some()).filter_map(|switch| switch.name.as_ref()) {
        if !with_guests.contains(&name.value) {
            let message = format!("`impairment` of switch `{}` has nothing to act on: no guest stands on it", name.value);
            let hint = "conditions act on links of guests, not on those between routers: put it on a switch or an interface of guests";
            reader.error(name.at, "E044", message, Some(hint.to_string()));
        }
    }
}

/// Warns of expressions that name a port which nothing has: they match nothing.
pub fn check_port_names(wrote: Option<&wrote::AclSection>, segments: &Segments, routers: &[Router], guests: &[Guest], reader: &mut Reader) {
    let Some(wrote) = wrote else { return };
    let mut known: BTreeSet<String> = BTreeSet::new();
    for switch in segments.switches.values() {
        known.extend(switch.localnets.iter().map(|port| port.name.to_string()));
        known.extend(switch.internals.iter().map(|port| port.name.to_string()));
    }
    known.extend(routers.iter().flat_map(|router| &router.ports).map(|port| port.name.to_string()));
    known.extend(guests.iter().flat_map(|guest| guest.nics.iter().map(move |nic| format!("{}:{}", guest.name, nic.name))));
    let rules = wrote.switches.iter().flat_map(|section| &section.rules);
    for matches in rules.filter_map(|rule| rule.matches.as_ref()) {
        for name in matches.value.split('"').skip(1).step_by(2).filter(|name| !known.contains(*name)) {
            reader.warning_with(matches.at, "W010", format!("no port of this file is called `{}`", printable(name)), |guesses| {
                let near = guesses.near(name, known.iter().map(String::as_str));
                Some(near.unwrap_or_else(|| "a guest's port is called `guest:eth0`, others by their `name` in the file".to_string()))
            });
        }
    }
}
