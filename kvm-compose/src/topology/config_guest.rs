//! The resolved file: machines, in the language itself.
//!
//! Pure. A scaled machine is printed as one, with its `scaling`; what its clones share is taken from the first.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    config_network,
    model::{Android, Container, DiskDevice, FileRef, Guest, GuestKind, ReadyCondition, Scaled, Topology},
};
use crate::names::GuestName;

/// All machines, in the file's order.
pub fn machines(topology: &Topology) -> Vec<Value> {
    let mut members: BTreeMap<&GuestName, Vec<&Guest>> = BTreeMap::new();
    for guest in &topology.guests {
        if let Some(clone) = &guest.clone_of {
            members.entry(&clone.machine).or_default().push(guest);
        }
    }
    let scaled: BTreeMap<&GuestName, &Scaled> = topology.scaled.iter().map(|scaled| (&scaled.machine, scaled)).collect();
    let one = |guest: &Guest| match &guest.clone_of {
        None => Some(machine(guest, &[guest], None, topology)),
        Some(clone) if clone.id == 0 => Some(machine(guest, members.get(&clone.machine)?, scaled.get(&clone.machine).copied(), topology)),
        Some(_) => None,
    };
    topology.guests.iter().filter_map(one).collect()
}

fn machine(guest: &Guest, members: &[&Guest], scaled: Option<&Scaled>, topology: &Topology) -> Value {
    let name = scaled.map_or(&guest.name, |scaled| &scaled.machine);
    let mut machine = Map::from_iter([("name".to_string(), json!(name.as_str()))]);
    if scaled.is_none() {
        // Wires are listed apart.
        let on_switches = guest.nics.iter().filter(|nic| topology.switch(&nic.switch).is_some_and(|switch| !switch.wire));
        machine.insert("network".to_string(), on_switches.map(config_network::interface).collect());
    }
    let mut kind = kind(guest, scaled.is_some());
    if let Some(scaled) = scaled {
        kind.insert("scaling".to_string(), scaled.written.clone());
    }
    machine.insert(guest.kind.word().to_string(), Value::Object(kind));
    let union = |list: fn(&Guest) -> &Vec<GuestName>| {
        let all: BTreeSet<&str> = members.iter().flat_map(|guest| list(guest)).map(GuestName::as_str).collect();
        all.into_iter().collect::<Vec<_>>()
    };
    let depends_on = union(|guest| &guest.depends_on);
    if !depends_on.is_empty() {
        machine.insert("depends_on".to_string(), json!(depends_on));
    }
    machine.insert("ready".to_string(), ready(guest));
    let mut placement = Map::new();
    if let Some(host) = &guest.placement.host {
        placement.insert("host".to_string(), json!(host.name.as_str()));
    }
    for (key, names) in [("near", union(|guest| &guest.placement.near)), ("apart", union(|guest| &guest.placement.apart))] {
        if !names.is_empty() {
            placement.insert(key.to_string(), json!(names));
        }
    }
    if let Some(weight) = guest.placement.weight {
        placement.insert("weight".to_string(), json!(weight));
    }
    let resources = serde_json::to_value(guest.resources).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default();
    for (key, map) in [("placement", placement), ("resources", resources)] {
        if !map.is_empty() {
            machine.insert(key.to_string(), Value::Object(map));
        }
    }
    if !guest.labels.is_empty() {
        machine.insert("labels".to_string(), json!(guest.labels));
    }
    Value::Object(machine)
}

fn ready(guest: &Guest) -> Value {
    let (key, value) = match &guest.ready.condition {
        ReadyCondition::Running => ("agent", json!(false)),
        ReadyCondition::Agent => ("agent", json!(true)),
        ReadyCondition::Tcp(port) => ("tcp", json!(port)),
        ReadyCondition::Http { port, path } => ("http", json!(format!("{port}{path}"))),
        ReadyCondition::Log(text) => ("log", json!(text)),
    };
    json!({key: value, "timeout_s": guest.ready.timeout_s})
}

fn kind(guest: &Guest, scaled: bool) -> Map<String, Value> {
    let own = |guest: &Guest| {
        let mut own = Map::new();
        if !guest.environment.is_empty() {
            own.insert("environment".to_string(), json!(guest.environment));
        }
        let scripts = [("setup_script", guest.setup_scripts.first()), ("run_script", guest.run_scripts.first())];
        for (key, file) in scripts.into_iter().filter(|_| !scaled).chain([("context", guest.context.as_ref())]) {
            if let Some(file) = file {
                own.insert(key.to_string(), json!(file.path));
            }
        }
        own
    };
    match &guest.kind {
        GuestKind::Micro { services } => {
            let mut kind = object(json!({"cpus": guest.cpus, "memory_mb": guest.memory_mb}));
            if !services.is_empty() {
                kind.insert("services".to_string(), json!(services));
            }
            kind.into_iter().chain(own(guest)).collect()
        }
        GuestKind::ExistingDisk { disk, format, device, readonly, deep_copy, graphics } => {
            let device = if *device == DiskDevice::Cdrom { "cdrom" } else { "disk" };
            let mut kind = object(json!({"path": disk.path, "driver_type": format.name(), "device_type": device, "readonly": readonly}));
            kind.insert("create_deep_copy".to_string(), json!(deep_copy));
            libvirt(guest, *graphics, "existing_disk", kind.into_iter().chain(own(guest)).collect())
        }
        GuestKind::CloudImage { image, expand_gb, username, password, graphics } => {
            let kind = object(json!({"name": image.path, "expand_gigabytes": expand_gb}));
            let mut libvirt = libvirt(guest, *graphics, "cloud_image", kind.into_iter().chain(own(guest)).collect());
            for (key, text) in [("username", username), ("password", password)] {
                if let Some(text) = text {
                    libvirt.insert(key.to_string(), json!(text));
                }
            }
            libvirt
        }
        GuestKind::IsoGuest { iso, disk_gb, graphics } => {
            libvirt(guest, *graphics, "iso_guest", object(json!({"path": iso.path, "expand_gigabytes": disk_gb})))
        }
        GuestKind::Docker(docker) => container(docker).into_iter().chain(own(guest)).collect(),
        GuestKind::Android(Android::Made { api_version, playstore }) => {
            let avd = object(json!({"android_api_version": api_version, "playstore_enabled": playstore}));
            object(json!({"avd": avd.into_iter().chain(own(guest)).collect::<Map<_, _>>()}))
        }
        GuestKind::Android(Android::Existing { path }) => object(json!({"existing_avd": {"path": path.path}})),
    }
}

fn libvirt(guest: &Guest, graphics: bool, key: &str, kind: Map<String, Value>) -> Map<String, Value> {
    object(json!({
        "cpus": guest.cpus, "memory_mb": guest.memory_mb, "extended_graphics_support": graphics, "libvirt_type": {key: kind},
    }))
}

fn container(docker: &Container) -> Map<String, Value> {
    let mut kind = object(json!({"image": docker.image}));
    let path = |file: &FileRef| json!(file.path);
    let volumes: Vec<Value> = docker
        .volumes
        .iter()
        .map(|mount| json!({"source": mount.source.path, "target": mount.target, "read_only": mount.read_only}))
        .collect();
    let devices: Vec<Value> = docker
        .devices
        .iter()
        .map(|device| json!({"source": device.source, "target": device.target, "permissions": device.permissions}))
        .collect();
    let optional = [
        ("entrypoint", docker.entrypoint.as_ref().map(|words| json!(words))),
        ("command", docker.command.as_ref().map(|words| json!(words))),
        ("env_file", docker.env_file.as_ref().map(path)),
        ("volumes", (!volumes.is_empty()).then_some(Value::Array(volumes))),
        ("privileged", Some(json!(docker.privileged))),
        ("user", docker.user.as_ref().map(|user| json!(user))),
        ("device", (!devices.is_empty()).then_some(Value::Array(devices))),
    ];
    kind.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?))));
    kind
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
