//! The resolved file: what `testbed config` prints, in the language itself.
//!
//! Pure. What it gives can be read again and means the same.

use serde_json::{Map, Value, json};

use super::{
    config_network,
    model::{DiskDevice, Guest, GuestKind, ReadyCondition, Topology},
};

/// The topology as a document of the language, with every default filled in.
pub fn document(topology: &Topology) -> Value {
    let machines: Vec<Value> = topology.guests.iter().map(|guest| machine(guest, topology)).collect();
    let mut document = json!({"version": 1, "machines": machines, "network": config_network::network(topology)});
    if !topology.checks.is_empty() {
        document["checks"] = topology.checks.iter().map(super::checks::document).collect();
    }
    document
}

fn machine(guest: &Guest, topology: &Topology) -> Value {
    let on_switch = guest.nics.iter().filter(|nic| topology.switch(&nic.switch).is_some_and(|switch| !switch.wire));
    let nics: Vec<Value> = on_switch.map(config_network::interface).collect();
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
