//! From nodes to what the user wrote: machines, their interfaces, and what every kind of them has.
//!
//! Pure. The kinds with more keys are in `decode_libvirt` and `decode_docker`.

use std::collections::BTreeMap;

use super::{
    decode::{address, environment, labels, mac, names, only, path_of},
    decode_docker, decode_libvirt, decode_link,
    model::{BridgeInterface, Interface, IpChoice, Machine, Micro, Placement, Ready, ReadyCondition, Resources, SSH_PORT},
    node::{Mark, Node},
    reader::{Fields, Reader, Spanned},
};
use crate::names::{GuestName, printable};

/// The keys of which a machine has exactly one.
const KINDS: [&str; 4] = ["micro", "libvirt", "docker", "android"];

/// Decodes one item of `machines`.
pub fn machine(node: &Node, reader: &mut Reader) -> Option<Machine> {
    let mut fields = reader.fields(node, "a machine")?;
    let at = fields.at;
    let name: Option<Spanned<GuestName>> = fields.require(reader, "name").and_then(|node| reader.name(node, "`name`"));
    let listed = list(&mut fields, "network", "`network` of a machine", reader);
    let network: Vec<Interface> = listed.iter().filter_map(|node| interface(node, reader)).collect();
    let bridged = list(&mut fields, "interfaces", "`interfaces` of a machine", reader);
    let interfaces: Vec<BridgeInterface> = bridged.iter().filter_map(|node| bridge_interface(node, reader)).collect();
    let misread = network.len() < listed.len() || interfaces.len() < bridged.len();
    if let (Some(_), Some(second)) = (fields.key_at("network"), fields.key_at("interfaces")) {
        let hint = Some("`interfaces` belongs to the older form, of bridges; keep `network`".to_string());
        reader.error(second, "E007", "a machine has `network` or `interfaces`, not both".to_string(), hint);
    }
    moved(&mut fields, reader);
    let kind = only(&fields, "a machine", &KINDS, "add `micro: {}` for a tiny guest", reader);
    let kind_at = kind.and_then(|kind| fields.key_at(kind)).unwrap_or(at);
    let micro_at = fields.key_at("micro");
    // `micro:` with nothing after it is a micro guest with every default.
    let micro = match fields.get("micro") {
        Some(node) => micro(node, reader),
        None => micro_at.map(|_| Micro::default()),
    };
    let wide = !network.is_empty() || !interfaces.is_empty();
    let libvirt = fields.require_if(reader, "libvirt").and_then(|node| decode_libvirt::libvirt(node, wide, reader));
    let docker = fields.require_if(reader, "docker").and_then(|node| decode_docker::docker(node, wide, reader));
    let android = fields.require_if(reader, "android").and_then(|node| decode_docker::android(node, reader));
    let depends_on = fields.get("depends_on").map(|node| names(node, "`depends_on`", reader)).unwrap_or_default();
    let ready = fields.get("ready").and_then(|node| ready(node, reader));
    let placement = fields.get("placement").and_then(|node| placement(node, reader));
    let resources = fields.get("resources").and_then(|node| resources(node, reader));
    let labels = fields.get("labels").map(|node| labels(node, reader)).unwrap_or_default();
    fields.finish(reader);
    Some(Machine {
        name: name?,
        network,
        interfaces,
        micro,
        libvirt,
        docker,
        android,
        depends_on,
        ready,
        placement,
        resources,
        labels,
        at,
        kind_at,
        size: size(node),
        misread,
        clone_of: None,
    })
}

/// How many values a machine has, those of `scaling` apart.
fn size(machine: &Node) -> usize {
    let scaling = ["libvirt", "docker"].into_iter().filter_map(|kind| machine.entry(kind)?.entry("scaling"));
    machine.size().saturating_sub(scaling.map(Node::size).sum())
}

/// Keys that stand elsewhere: said with the place where they belong.
fn moved(fields: &mut Fields<'_>, reader: &mut Reader) {
    for (key, hint) in [
        ("avd", "write `android: {avd: {…}}`"),
        ("cloud_image", "write `libvirt: {cpus: …, memory_mb: …, libvirt_type: {cloud_image: {…}}}`"),
        ("existing_disk", "write `libvirt: {cpus: …, memory_mb: …, libvirt_type: {existing_disk: {…}}}`"),
        ("iso_guest", "write `libvirt: {cpus: …, memory_mb: …, libvirt_type: {iso_guest: {…}}}`"),
        ("libvirt_type", "write `libvirt: {cpus: …, memory_mb: …, libvirt_type: {…}}`"),
        ("scaling", "move it below `libvirt:` or `docker:`"),
        ("environment", "move it below the machine's kind, such as `micro:` or `docker:`"),
        ("cpus", "move it below the machine's kind, such as `micro:` or `libvirt:`"),
        ("memory_mb", "move it below the machine's kind, such as `micro:` or `libvirt:`"),
        ("setup_script", "move it below the machine's kind"),
        ("run_script", "move it below the machine's kind"),
        ("image", "move it below `docker:`"),
    ] {
        fields.misplaced(reader, key, hint);
    }
}

fn list<'a>(fields: &mut Fields<'a>, key: &'static str, what: &str, reader: &mut Reader) -> &'a [Node] {
    fields.get(key).and_then(|node| reader.list(node, what)).unwrap_or_default()
}

fn interface(node: &Node, reader: &mut Reader) -> Option<Interface> {
    let mut fields = reader.fields(node, "an interface")?;
    let at = fields.at;
    fields.misplaced(reader, "bridge", "name a switch of `network: ovn:` with `switch:`; bridges are named in `interfaces:`");
    let switch = match fields.key_at("bridge") {
        Some(_) => fields.get("switch"),
        None => fields.require(reader, "switch"),
    };
    let switch = switch.and_then(|node| reader.name(node, "`switch`"));
    let ip = fields.get("ip").and_then(|node| reader.parsed(node, "`ip`", "E030", ip_choice));
    let gateway = fields.get("gateway").and_then(|node| reader.parsed(node, "`gateway`", "E030", address));
    let mac = fields.get("mac").and_then(|node| reader.parsed(node, "`mac`", "E034", mac));
    let impairment = fields.get("impairment").and_then(|node| decode_link::impairment(node, reader));
    fields.finish(reader);
    Some(Interface { switch: switch?, ip, gateway, mac, impairment, at, assigned: false })
}

fn bridge_interface(node: &Node, reader: &mut Reader) -> Option<BridgeInterface> {
    let mut fields = reader.fields(node, "an interface")?;
    let at = fields.at;
    fields.misplaced(reader, "switch", "interfaces with `switch:` are listed below `network:`, not `interfaces:`");
    for key in ["ip", "gateway"] {
        fields.misplaced(reader, key, "the testbed gives addresses on bridges; to choose them, describe the network by `ovn:`");
    }
    let bridge = match fields.key_at("switch") {
        Some(_) => fields.get("bridge"),
        None => fields.require(reader, "bridge"),
    };
    let bridge = bridge.and_then(|node| reader.name(node, "`bridge`"));
    let mac = fields.get("mac").and_then(|node| reader.parsed(node, "`mac`", "E034", mac));
    fields.finish(reader);
    Some(BridgeInterface { bridge: bridge?, mac, at })
}

fn ip_choice(text: &str) -> Result<IpChoice, String> {
    if text == "dynamic" { Ok(IpChoice::Dynamic) } else { address(text).map(IpChoice::Address) }
}

fn micro(node: &Node, reader: &mut Reader) -> Option<Micro> {
    let mut fields = reader.fields(node, "`micro`")?;
    fields.misplaced(reader, "scaling", "only `libvirt` and `docker` machines are scaled; write one machine for each micro guest");
    let micro = Micro {
        cpus: fields.get("cpus").and_then(|node| reader.integer(node, "`cpus`", 1, 512)),
        memory_mb: fields.get("memory_mb").and_then(|node| reader.integer(node, "`memory_mb` of a micro guest", 96, 4 << 20)),
        environment: fields.get("environment").map(|node| environment(node, reader)).unwrap_or_default(),
        setup_script: path_of(&mut fields, "setup_script", reader),
        run_script: path_of(&mut fields, "run_script", reader),
        services: fields.get("services").map(|node| services(node, reader)).unwrap_or_default(),
    };
    fields.finish(reader);
    Some(micro)
}

fn services(node: &Node, reader: &mut Reader) -> BTreeMap<String, Spanned<u64>> {
    let mut map = BTreeMap::new();
    let Some(mut fields) = reader.fields(node, "`services`") else { return map };
    if let Some(port) = fields.get("http").and_then(|node| reader.integer(node, "the port of `http`", 1, 65535)) {
        map.insert("http".to_string(), port);
    }
    fields.finish(reader);
    map
}

fn ready(node: &Node, reader: &mut Reader) -> Option<Ready> {
    let mut fields = reader.fields(node, "`ready`")?;
    let keys = ["agent", "ssh", "tcp", "http", "log"];
    if keys.iter().any(|key| fields.key_at(key).is_some()) {
        only(&fields, "`ready`", &keys, "keep one of them", reader);
    }
    let agent = fields.get("agent").and_then(|node| reader.boolean(node, "`agent`"));
    let agent = agent.map(|on| Spanned { value: if on.value { ReadyCondition::Agent } else { ReadyCondition::Running }, at: on.at });
    let ssh = fields.get("ssh").and_then(|node| reader.boolean(node, "`ssh`"));
    let ssh = ssh.map(|on| Spanned { value: if on.value { ReadyCondition::Tcp(SSH_PORT) } else { ReadyCondition::Running }, at: on.at });
    let tcp = fields.get("tcp").and_then(|node| reader.integer(node, "`tcp`", 1, 65535));
    let tcp = tcp.map(|port| Spanned { value: ReadyCondition::Tcp(port.value as u16), at: port.at });
    let http = fields.get("http").and_then(|node| reader.parsed(node, "`http`", "E006", http));
    let log = fields.get("log").and_then(|node| {
        reader.parsed(node, "`log`", "E006", |text| {
            let good = (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control);
            if good { Ok(ReadyCondition::Log(text.to_string())) } else { Err("write 1 to 200 characters of one line".to_string()) }
        })
    });
    let timeout_s = fields.get("timeout_s").and_then(|node| reader.integer(node, "`timeout_s`", 1, 86_400));
    fields.finish(reader);
    let condition = [agent, ssh, tcp, http, log].into_iter().flatten().next();
    Some(Ready { agent: (), ssh: (), tcp: (), http: (), log: (), timeout_s, condition })
}

/// A port, a port and a path, a path, or an URL of the guest itself.
fn http(text: &str) -> Result<ReadyCondition, String> {
    let form = "write a port and a path, such as `8080/health`, or `http://localhost:8080/health`; the guest asks itself";
    let rest = match text.strip_prefix("http://") {
        Some(rest) => match ["localhost", "127.0.0.1"].iter().find_map(|host| rest.strip_prefix(host)) {
            Some(rest) if rest.is_empty() || rest.starts_with([':', '/']) => rest.strip_prefix(':').unwrap_or(rest),
            _ => return Err(form.to_string()),
        },
        None => text.strip_prefix(':').unwrap_or(text),
    };
    let (port, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let port = match port {
        "" => Some(80),
        digits => digits.parse::<u16>().ok().filter(|port| *port > 0 && digits.chars().all(|c| c.is_ascii_digit())),
    };
    let path = if path.is_empty() { "/" } else { path };
    let plain = path.len() <= 500 && path.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '\'' | '"' | '\\' | '`'));
    match port {
        Some(port) if plain && !text.is_empty() => Ok(ReadyCondition::Http { port, path: path.to_string() }),
        _ => Err(form.to_string()),
    }
}

fn placement(node: &Node, reader: &mut Reader) -> Option<Placement> {
    let mut fields = reader.fields(node, "`placement`")?;
    let placement = Placement {
        host: fields.get("host").and_then(|node| reader.name(node, "`host`")),
        near: fields.get("near").map(|node| names(node, "`near`", reader)).unwrap_or_default(),
        apart: fields.get("apart").map(|node| names(node, "`apart`", reader)).unwrap_or_default(),
        weight: fields.get("weight").and_then(|node| reader.integer(node, "`weight`", 1, 1000)),
    };
    fields.finish(reader);
    Some(placement)
}

fn resources(node: &Node, reader: &mut Reader) -> Option<Resources> {
    let mut fields = reader.fields(node, "`resources`")?;
    let at: Mark = fields.at;
    let mut number =
        |key: &'static str, from, to| fields.get(key).and_then(|node| reader.integer(node, &format!("`{}`", printable(key)), from, to));
    let resources = Resources {
        cpu_shares: number("cpu_shares", 2, 262_144),
        memory_low_mb: number("memory_low_mb", 1, 4 << 20),
        memory_max_mb: number("memory_max_mb", 1, 4 << 20),
        disk_iops: number("disk_iops", 1, 10_000_000),
        at,
    };
    fields.finish(reader);
    if let (Some(low), Some(most)) = (&resources.memory_low_mb, &resources.memory_max_mb)
        && low.value > most.value
    {
        let hint = Some("`memory_low_mb` is at most `memory_max_mb`".to_string());
        reader.error(low.at, "E039", format!("{} MiB are kept for it, and it may use {}", low.value, most.value), hint);
    }
    Some(resources)
}
