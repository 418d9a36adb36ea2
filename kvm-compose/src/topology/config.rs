//! The resolved file: what `testbed config` prints, in the language itself.
//!
//! Pure. What it gives can be read again and means the same: a `$` in a value is doubled, where it would be a variable's.

use serde_json::{Map, Value, json};

use super::model::{Assignment, DiskDevice, Guest, GuestKind, ReadyCondition, Topology};

/// The topology as a document of the language, with every default filled in.
pub fn document(topology: &Topology) -> Value {
    let mut document = plain(topology);
    escape(&mut document);
    document
}

/// Doubles `$` where reading the document again would take it for something else; `${PWD}` is never replaced.
fn escape(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("$$") || text.contains("${") => {
            let parts: Vec<String> = text.split("${PWD}").map(|part| part.replace('$', "$$")).collect();
            *text = parts.join("${PWD}");
        }
        Value::Array(items) => items.iter_mut().for_each(escape),
        Value::Object(map) => map.values_mut().for_each(escape),
        _ => {}
    }
}

fn plain(topology: &Topology) -> Value {
    let machines: Vec<Value> = topology.guests.iter().map(machine).collect();
    let switches: Map<String, Value> =
        topology.switches.iter().map(|s| (s.name.to_string(), json!({"subnet": s.subnet.to_string()}))).collect();
    let mut routers = Map::new();
    for router in &topology.routers {
        let ports: Vec<Value> = router
            .ports
            .iter()
            .map(|p| json!({"name": p.name.as_str(), "mac": p.mac.to_string(), "gateway_ip": p.address.to_string(), "switch": p.switch.as_str()}))
            .collect();
        let routes: Vec<Value> =
            router.routes.iter().map(|r| json!({"prefix": r.prefix.to_string(), "nexthop": r.nexthop.to_string()})).collect();
        let rules: Vec<Value> = topology
            .switches
            .iter()
            .filter(|switch| switch.dhcp.as_ref().is_some_and(|dhcp| dhcp.router == router.name))
            .map(|switch| match switch.dhcp.as_ref().and_then(|dhcp| dhcp.excluded) {
                None => json!({"switch": switch.name.as_str()}),
                Some((from, to)) => {
                    json!({"switch": switch.name.as_str(), "exclude_ips": {"from": from.to_string(), "to": to.to_string()}})
                }
            })
            .collect();
        let mut value = Map::from_iter([("ports".to_string(), Value::Array(ports))]);
        for (key, list) in [("static_routes", routes), ("dhcp", rules)] {
            if !list.is_empty() {
                value.insert(key.to_string(), Value::Array(list));
            }
        }
        routers.insert(router.name.to_string(), Value::Object(value));
    }
    let mut ovn = Map::from_iter([("switches".to_string(), Value::Object(switches))]);
    if !routers.is_empty() {
        ovn.insert("routers".to_string(), Value::Object(routers));
    }
    json!({"version": 1, "machines": machines, "network": {"ovn": ovn}})
}

fn machine(guest: &Guest) -> Value {
    let nics: Vec<Value> = guest
        .nics
        .iter()
        .map(|nic| {
            let mut value =
                Map::from_iter([("switch".to_string(), json!(nic.switch.as_str())), ("mac".to_string(), json!(nic.mac.to_string()))]);
            // An address of DHCP stays dynamic, so that reading the document again means the same.
            let ip = if nic.assignment == Assignment::Dhcp { "dynamic".to_string() } else { nic.address.addr().to_string() };
            value.insert("ip".to_string(), json!(ip));
            if let (Some(gateway), true) = (nic.gateway, nic.assignment != Assignment::Dhcp) {
                value.insert("gateway".to_string(), json!(gateway.to_string()));
            }
            Value::Object(value)
        })
        .collect();
    let mut machine = Map::from_iter([("name".to_string(), json!(guest.name.as_str())), ("network".to_string(), Value::Array(nics))]);
    let mut kind = Map::new();
    let scripts = [("setup_script", &guest.setup_script), ("run_script", &guest.run_script)];
    match &guest.kind {
        GuestKind::Micro { services } => {
            kind.insert("cpus".to_string(), json!(guest.cpus));
            kind.insert("memory_mb".to_string(), json!(guest.memory_mb));
            if !guest.environment.is_empty() {
                kind.insert("environment".to_string(), json!(guest.environment));
            }
            if !services.is_empty() {
                kind.insert("services".to_string(), json!(services));
            }
            kind.extend(scripts.into_iter().filter_map(|(key, file)| Some((key.to_string(), json!(file.as_ref()?.path)))));
            machine.insert("micro".to_string(), Value::Object(kind));
        }
        GuestKind::ExistingDisk { disk, format, device, readonly, deep_copy, graphics } => {
            kind.insert("path".to_string(), json!(disk.path));
            kind.insert("driver_type".to_string(), json!(format.name()));
            kind.insert("device_type".to_string(), json!(if *device == DiskDevice::Cdrom { "cdrom" } else { "disk" }));
            kind.insert("readonly".to_string(), json!(readonly));
            kind.insert("create_deep_copy".to_string(), json!(deep_copy));
            kind.extend(scripts.into_iter().filter_map(|(key, file)| Some((key.to_string(), json!(file.as_ref()?.path)))));
            let libvirt = json!({
                "cpus": guest.cpus, "memory_mb": guest.memory_mb, "extended_graphics_support": graphics,
                "libvirt_type": {"existing_disk": kind},
            });
            machine.insert("libvirt".to_string(), libvirt);
        }
    }
    machine
        .insert("ready".to_string(), json!({"agent": guest.ready.condition == ReadyCondition::Agent, "timeout_s": guest.ready.timeout_s}));
    if let Some(host) = &guest.host {
        machine.insert("placement".to_string(), json!({"host": host.name.as_str()}));
    }
    Value::Object(machine)
}
