//! From nodes to what the user wrote: guests. The network is in `decode_network`.
//!
//! Pure. Reports every fault and goes on; what could not be read is left out, and then the file has errors.

use std::net::IpAddr;

use super::{
    decode_checks, decode_link, decode_network,
    model::{
        DiskDevice, DiskFormat, ExistingDisk, Interface, IpChoice, Libvirt, LibvirtType, Machine, Micro, Placement, Ready, ReadyCondition,
        Spec,
    },
    node::Node,
    reader::{Reader, Spanned},
};
use crate::addr::Mac;

/// Decodes a whole file.
pub fn spec(root: &Node, reader: &mut Reader) -> Option<Spec> {
    let mut fields = reader.fields(root, "the file")?;
    let version = fields.get("version").and_then(|node| version(node, reader));
    let machines = fields.require(reader, "machines").and_then(|node| reader.list(node, "`machines`")).unwrap_or_default();
    let machines: Vec<Machine> = machines.iter().filter_map(|node| machine(node, reader)).collect();
    let network = fields.require(reader, "network").map(|node| decode_network::network(node, reader)).unwrap_or_default();
    for key in ["tooling", "testbed_options"] {
        if let Some(node) = fields.get(if key == "tooling" { "tooling" } else { "testbed_options" })
            && reader.fields(node, &format!("`{key}`")).is_some()
        {
            let at = fields.key_at(key).unwrap_or(node.at);
            reader.warning(at, "W003", format!("`{key}` is reserved and has no effect"), None);
        }
    }
    let checks = fields.get("checks").map(|node| decode_checks::checks(node, reader)).unwrap_or_default();
    fields.refuse(reader, &["scenario", "labels"]);
    fields.finish(reader);
    Some(Spec { version, machines, network, checks, tooling: None, testbed_options: None })
}

fn version(node: &Node, reader: &mut Reader) -> Option<Spanned<u64>> {
    let version = reader.integer(node, "`version`", 0, u64::MAX)?;
    if version.value != 1 {
        reader.error(
            node.at,
            "E091",
            format!("version {} of the language is not known", version.value),
            Some("write `version: 1`".to_string()),
        );
        return None;
    }
    Some(version)
}

fn machine(node: &Node, reader: &mut Reader) -> Option<Machine> {
    let mut fields = reader.fields(node, "a machine")?;
    let at = fields.at;
    let name = fields.require(reader, "name").and_then(|node| reader.name(node, "`name`"));
    let network = fields.get("network").and_then(|node| reader.list(node, "`network` of a machine")).unwrap_or_default();
    let network: Vec<Interface> = network.iter().filter_map(|node| interface(node, reader)).collect();
    let kinds = ["micro", "libvirt", "docker", "android"];
    let given: Vec<&str> = kinds.into_iter().filter(|kind| fields.key_at(kind).is_some()).collect();
    match given.as_slice() {
        [] => reader.error(
            at,
            "E007",
            "a machine needs one of `micro`, `libvirt`, `docker`, `android`".to_string(),
            Some("add `micro: {}` for a tiny guest".to_string()),
        ),
        [_] => {}
        [_, second, ..] => {
            let at = fields.key_at(second).unwrap_or(at);
            reader.error(
                at,
                "E007",
                format!("a machine is one of {}, not several", kinds.join(", ")),
                Some("keep one of them".to_string()),
            );
        }
    }
    let micro_at = fields.key_at("micro");
    // `micro:` with nothing after it is a micro guest with every default.
    let micro = match fields.get("micro") {
        Some(node) => micro(node, reader),
        None => micro_at.map(|_| Micro::default()),
    };
    let libvirt = fields.get("libvirt").and_then(|node| libvirt(node, reader));
    let ready = fields.get("ready").and_then(|node| ready(node, reader));
    let placement = fields.get("placement").and_then(|node| placement(node, reader));
    fields.refuse(reader, &["docker", "android", "resources", "depends_on", "labels", "scaling", "interfaces"]);
    fields.finish(reader);
    Some(Machine { name: name?, network, micro, libvirt, ready, placement, at })
}

fn interface(node: &Node, reader: &mut Reader) -> Option<Interface> {
    let mut fields = reader.fields(node, "an interface")?;
    let at = fields.at;
    let switch = fields.require(reader, "switch").and_then(|node| reader.name(node, "`switch`"));
    let ip = fields.get("ip").and_then(|node| reader.parsed(node, "`ip`", "E030", ip_choice));
    let gateway = fields.get("gateway").and_then(|node| reader.parsed(node, "`gateway`", "E030", address));
    let mac = fields.get("mac").and_then(|node| reader.parsed(node, "`mac`", "E034", mac));
    let impairment = fields.get("impairment").and_then(|node| decode_link::impairment(node, reader));
    fields.finish(reader);
    Some(Interface { switch: switch?, ip, gateway, mac, impairment, at })
}

fn ip_choice(text: &str) -> Result<IpChoice, String> {
    if text == "dynamic" { Ok(IpChoice::Dynamic) } else { address(text).map(IpChoice::Address) }
}

/// Parses an address without a mask; the error is a hint.
pub fn address(text: &str) -> Result<IpAddr, String> {
    if let Some((address, _)) = text.split_once('/') {
        return Err(format!("write the address without a mask: `{}`", crate::names::printable(address)));
    }
    text.parse().map_err(|_| "write an IPv4 or IPv6 address, such as 10.0.0.10, or `dynamic` where that is allowed".to_string())
}

/// Parses a MAC address that an interface may have; the error is a hint.
pub fn mac(text: &str) -> Result<Mac, String> {
    let mac: Mac = text.parse()?;
    if mac.is_multicast() {
        return Err("this is a group address; the first octet of an interface's own address is even".to_string());
    }
    if mac.is_zero() {
        return Err("an interface cannot have the address of all zeros".to_string());
    }
    Ok(mac)
}

fn micro(node: &Node, reader: &mut Reader) -> Option<Micro> {
    let mut fields = reader.fields(node, "`micro`")?;
    let micro = Micro {
        cpus: fields.get("cpus").and_then(|node| reader.integer(node, "`cpus`", 1, 512)),
        memory_mb: fields.get("memory_mb").and_then(|node| reader.integer(node, "`memory_mb` of a micro guest", 96, 4 << 20)),
        environment: fields.get("environment").map(|node| environment(node, reader)).unwrap_or_default(),
        setup_script: fields.get("setup_script").and_then(|node| path(node, "`setup_script`", reader)),
        run_script: fields.get("run_script").and_then(|node| path(node, "`run_script`", reader)),
        services: fields.get("services").map(|node| services(node, reader)).unwrap_or_default(),
    };
    fields.finish(reader);
    Some(micro)
}

fn environment(node: &Node, reader: &mut Reader) -> std::collections::BTreeMap<String, Spanned<String>> {
    let mut map = reader.text_map(node, "`environment`");
    map.retain(|key, value| {
        let valid = crate::names::is_variable(key);
        if !valid {
            let hint = Some(crate::names::VARIABLE_RULE.to_string());
            reader.error(value.at, "E010", format!("`{}` is not a variable's name", crate::names::printable(key)), hint);
        }
        valid
    });
    map
}

fn services(node: &Node, reader: &mut Reader) -> std::collections::BTreeMap<String, Spanned<u64>> {
    let mut map = std::collections::BTreeMap::new();
    let Some(mut fields) = reader.fields(node, "`services`") else { return map };
    if let Some(port) = fields.get("http").and_then(|node| reader.integer(node, "the port of `http`", 1, 65535)) {
        map.insert("http".to_string(), port);
    }
    fields.finish(reader);
    map
}

/// A path as written: not empty, no NUL (which the tree refuses), at most 4096 bytes.
fn path(node: &Node, what: &str, reader: &mut Reader) -> Option<Spanned<String>> {
    reader.parsed(node, what, "E006", |text| {
        if text.is_empty() || text.len() > 4096 { Err("write a path of 1 to 4096 bytes".to_string()) } else { Ok(text.to_string()) }
    })
}

fn libvirt(node: &Node, reader: &mut Reader) -> Option<Libvirt> {
    let mut fields = reader.fields(node, "`libvirt`")?;
    let cpus = fields.require(reader, "cpus").and_then(|node| reader.integer(node, "`cpus`", 1, 512));
    let memory_mb = fields.require(reader, "memory_mb").and_then(|node| reader.integer(node, "`memory_mb`", 16, 4 << 20));
    let extended_graphics_support =
        fields.get("extended_graphics_support").and_then(|node| reader.boolean(node, "`extended_graphics_support`"));
    let username = fields.get("username").and_then(|node| reader.text(node, "`username`"));
    let password = fields.get("password").and_then(|node| reader.text(node, "`password`"));
    let libvirt_type = fields.require(reader, "libvirt_type").map(|node| libvirt_type(node, reader)).unwrap_or_default();
    fields.refuse(reader, &["scaling"]);
    fields.finish(reader);
    Some(Libvirt { cpus, memory_mb, extended_graphics_support, username, password, libvirt_type })
}

fn libvirt_type(node: &Node, reader: &mut Reader) -> LibvirtType {
    let Some(mut fields) = reader.fields(node, "`libvirt_type`") else { return LibvirtType::default() };
    let kinds = ["existing_disk", "cloud_image", "iso_guest"];
    let given: Vec<&str> = kinds.into_iter().filter(|kind| fields.key_at(kind).is_some()).collect();
    if given.len() != 1 {
        let at = given.get(1).and_then(|kind| fields.key_at(kind)).unwrap_or(fields.at);
        reader.error(at, "E007", format!("`libvirt_type` needs exactly one of {}", kinds.join(", ")), None);
    }
    let existing_disk = fields.get("existing_disk").and_then(|node| existing_disk(node, reader));
    fields.refuse(reader, &["cloud_image", "iso_guest"]);
    fields.finish(reader);
    LibvirtType { existing_disk }
}

fn existing_disk(node: &Node, reader: &mut Reader) -> Option<ExistingDisk> {
    let mut fields = reader.fields(node, "`existing_disk`")?;
    let file = fields.require(reader, "path").and_then(|node| path(node, "`path`", reader));
    let formats = [("raw", DiskFormat::Raw), ("qcow2", DiskFormat::Qcow2)];
    let driver_type = fields.get("driver_type").and_then(|node| reader.word(node, "`driver_type`", &formats));
    let devices = [("disk", DiskDevice::Disk), ("cdrom", DiskDevice::Cdrom)];
    let device_type = fields.get("device_type").and_then(|node| reader.word(node, "`device_type`", &devices));
    let readonly = fields.get("readonly").and_then(|node| reader.boolean(node, "`readonly`"));
    let create_deep_copy = fields.get("create_deep_copy").and_then(|node| reader.boolean(node, "`create_deep_copy`"));
    let setup_script = fields.get("setup_script").and_then(|node| path(node, "`setup_script`", reader));
    let run_script = fields.get("run_script").and_then(|node| path(node, "`run_script`", reader));
    fields.refuse(reader, &["context"]);
    fields.finish(reader);
    Some(ExistingDisk { path: file?, driver_type, device_type, readonly, create_deep_copy, setup_script, run_script })
}

fn ready(node: &Node, reader: &mut Reader) -> Option<Ready> {
    let mut fields = reader.fields(node, "`ready`")?;
    let agent = fields
        .get("agent")
        .and_then(|node| reader.boolean(node, "`agent`"))
        .map(|agent| Spanned { value: if agent.value { ReadyCondition::Agent } else { ReadyCondition::Running }, at: agent.at });
    let timeout_s = fields.get("timeout_s").and_then(|node| reader.integer(node, "`timeout_s`", 1, 86_400));
    fields.refuse(reader, &["ssh", "tcp", "http", "log"]);
    fields.finish(reader);
    Some(Ready { agent, timeout_s })
}

fn placement(node: &Node, reader: &mut Reader) -> Option<Placement> {
    let mut fields = reader.fields(node, "`placement`")?;
    let host = fields.get("host").and_then(|node| reader.name(node, "`host`"));
    fields.refuse(reader, &["near", "apart", "weight"]);
    fields.finish(reader);
    Some(Placement { host })
}
