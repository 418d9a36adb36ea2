//! The resolved network: what `testbed config` prints of it, in the language itself.
//!
//! Pure. What it gives can be read again and means the same.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::model::{Assignment, Conditions, Guest, Labels, Nat, NatType, Nic, Router, Shape, Switch, Topology, Wire};

use crate::names::{GuestName, NetworkName};

type Object = Map<String, Value>;

/// The section `network`.
pub fn network(topology: &Topology) -> Value {
    let named = topology.switches.iter().filter(|switch| !switch.wire);
    let switches: Object = named.clone().map(|s| (s.name.to_string(), switch(s))).collect();
    let mut served: BTreeMap<&NetworkName, Vec<&Switch>> = BTreeMap::new();
    for (switch, dhcp) in topology.switches.iter().filter_map(|switch| Some((switch, switch.dhcp.as_ref()?))) {
        served.entry(&dhcp.router).or_default().push(switch);
    }
    let served = |router: &Router| served.get(&router.name).map(Vec::as_slice).unwrap_or_default();
    let routers: Object = topology.routers.iter().map(|r| (r.name.to_string(), router(r, served(r)))).collect();
    let mut ovn = Object::from_iter([("switches".to_string(), Value::Object(switches))]);
    if !routers.is_empty() {
        ovn.insert("routers".to_string(), Value::Object(routers));
    }
    ovn.extend(acl(topology).map(|acl| ("acl".to_string(), acl)));
    ovn.insert("dns".to_string(), json!(topology.dns));
    let mut network = Object::from_iter([("ovn".to_string(), Value::Object(ovn))]);
    if !topology.wires.is_empty() {
        let guests = topology.guests.iter().map(|guest| (&guest.name, guest)).collect();
        network.insert("links".to_string(), topology.wires.iter().map(|w| wire(w, topology, &guests)).collect());
    }
    Value::Object(network)
}

/// An interface of a machine's `network`.
pub fn interface(nic: &Nic) -> Value {
    let mut value =
        Object::from_iter([("switch".to_string(), json!(nic.switch.as_str())), ("mac".to_string(), json!(nic.mac.to_string()))]);
    // An address that somebody hands out stays dynamic, so that reading the document again means the same.
    let of = |assignment| nic.addresses.iter().find(|address| address.assignment == assignment);
    let fixed = of(Assignment::Static).or_else(|| of(Assignment::Assigned));
    let ip = fixed.map_or_else(|| "dynamic".to_string(), |address| address.net.addr().to_string());
    value.insert("ip".to_string(), json!(ip));
    if let Some(gateway) = fixed.and_then(|address| address.gateway) {
        value.insert("gateway".to_string(), json!(gateway.to_string()));
    }
    value.extend(impairment(&nic.shape, ["to_guest", "from_guest"]));
    Value::Object(value)
}

fn switch(switch: &Switch) -> Value {
    let mut value = Object::new();
    value.extend(switch.subnet.map(|subnet| ("subnet".to_string(), json!(subnet.to_string()))));
    if let Some(ipv6) = switch.ipv6.filter(|_| switch.ipv4().is_some()) {
        value.insert("ipv6".to_string(), json!({"subnet": ipv6.subnet.to_string(), "mode": ipv6.mode}));
    }
    let localnets =
        switch.localnets.iter().map(|port| json!({"name": port.name.as_str(), "localnet": {"network_name": port.network.as_str()}}));
    let internals = switch
        .internals
        .iter()
        .map(|port| json!({"name": port.name.as_str(), "internal": {"ip": port.address.addr().to_string(), "mac": port.mac.to_string()}}));
    list(&mut value, "ports", localnets.chain(internals).collect());
    labels(&mut value, &switch.labels);
    Value::Object(value)
}

fn router(router: &Router, served: &[&Switch]) -> Value {
    let ports = router.ports.iter().map(|port| {
        let mut value = Object::from_iter([
            ("name".to_string(), json!(port.name.as_str())),
            ("mac".to_string(), json!(port.mac.to_string())),
            ("gateway_ip".to_string(), json!(port.address.to_string())),
            ("switch".to_string(), json!(port.switch.as_str())),
        ]);
        value.extend(port.gateway_chassis.as_ref().map(|host| ("set_gateway_chassis".to_string(), json!(host.name.as_str()))));
        Value::Object(value)
    });
    let mut value = Object::from_iter([("ports".to_string(), ports.collect())]);
    let routes = router.routes.iter().map(|r| json!({"prefix": r.prefix.to_string(), "nexthop": r.nexthop.to_string()}));
    list(&mut value, "static_routes", routes.collect());
    list(&mut value, "nat", router.nat.iter().map(nat).collect());
    let rules = served.iter().filter_map(|switch| {
        Some(match switch.dhcp.as_ref()?.excluded {
            None => json!({"switch": switch.name.as_str()}),
            Some((from, to)) => json!({"switch": switch.name.as_str(), "exclude_ips": {"from": from.to_string(), "to": to.to_string()}}),
        })
    });
    list(&mut value, "dhcp", rules.collect());
    labels(&mut value, &router.labels);
    Value::Object(value)
}

fn nat(nat: &Nat) -> Value {
    let logical = if nat.kind == NatType::Snat { nat.logical.to_string() } else { nat.logical.addr().to_string() };
    let mut value = Object::from_iter([
        ("nat_type".to_string(), json!(nat.kind)),
        ("external_ip".to_string(), json!(nat.external.to_string())),
        ("logical_ip".to_string(), json!(logical)),
    ]);
    if let Some(forward) = &nat.forward {
        value.insert("external_port".to_string(), json!(forward.external));
        value.insert("logical_port".to_string(), json!(forward.internal));
        value.insert("protocol".to_string(), json!(forward.protocol));
    }
    Value::Object(value)
}

fn acl(topology: &Topology) -> Option<Value> {
    let ruled: Vec<&Switch> = topology.switches.iter().filter(|switch| !switch.acls.is_empty()).collect();
    let deny_all = topology.switches.iter().any(|switch| switch.deny_all);
    if ruled.is_empty() && !deny_all {
        return None;
    }
    let rules = |switch: &Switch| -> Value {
        let rules = switch
            .acls
            .iter()
            .map(|acl| json!({"direction": acl.direction, "priority": acl.priority, "match": acl.matches, "action": acl.action}));
        rules.collect()
    };
    let switches: Object = ruled.into_iter().map(|switch| (switch.name.to_string(), rules(switch))).collect();
    Some(json!({"apply_deny_all": deny_all, "switches": switches}))
}

fn wire(wire: &Wire, topology: &Topology, guests: &BTreeMap<&GuestName, &Guest>) -> Value {
    let ends: Vec<String> = wire.ends.iter().map(|(guest, nic)| format!("{guest}:eth{nic}")).collect();
    let mut value = Object::from_iter([("ends".to_string(), json!(ends))]);
    let subnet = topology.switch(&wire.switch).and_then(|switch| switch.subnet);
    value.extend(subnet.map(|subnet| ("subnet".to_string(), json!(subnet.to_string()))));
    let at = |(guest, nic): &(GuestName, usize)| Some(guests.get(guest)?.nics.get(*nic)?.shape.to_guest);
    // Each direction is hindered at its receiver.
    let [backward, forward] = [&wire.ends[0], &wire.ends[1]].map(|end| at(end).unwrap_or_default());
    value.extend(impairment(&Shape { to_guest: forward, from_guest: backward }, ["forward", "backward"]));
    labels(&mut value, &wire.labels);
    Value::Object(value)
}

/// `impairment`, when there is any; `words` name the directions.
fn impairment(shape: &Shape, words: [&str; 2]) -> Option<(String, Value)> {
    if shape.is_plain() {
        return None;
    }
    let [to, from] = words;
    let value = if shape.to_guest == shape.from_guest {
        Value::Object(conditions(&shape.to_guest))
    } else {
        json!({to: conditions(&shape.to_guest), from: conditions(&shape.from_guest)})
    };
    Some(("impairment".to_string(), value))
}

fn conditions(conditions: &Conditions) -> Object {
    let numbers = [
        ("delay_ms", conditions.delay_us as f64 / 1000.0),
        ("jitter_ms", conditions.jitter_us as f64 / 1000.0),
        ("loss_percent", f64::from(conditions.loss_ppm) / 10_000.0),
        ("duplicate_percent", f64::from(conditions.duplicate_ppm) / 10_000.0),
        ("reorder_percent", f64::from(conditions.reorder_ppm) / 10_000.0),
    ];
    let given = numbers.into_iter().filter(|(_, value)| *value > 0.0).map(|(key, value)| (key.to_string(), json!(value)));
    given.chain(conditions.rate_kbit.map(|rate| ("rate_mbit".to_string(), json!(rate as f64 / 1000.0)))).collect()
}

fn list(value: &mut Object, key: &str, items: Vec<Value>) {
    if !items.is_empty() {
        value.insert(key.to_string(), Value::Array(items));
    }
}

fn labels(value: &mut Object, labels: &Labels) {
    if !labels.is_empty() {
        value.insert("labels".to_string(), json!(labels));
    }
}
