//! A container's interface in the integration bridge: a veth pair, one end in the container's network namespace, the other
//! plugged with the `iface-id` of the OVN port.
//!
//! Its marks in `external_ids` say whose it is, for which container and what was set up in it, so that it is seen what is left
//! when the container ended, and what is another when the testbed file changes. Must not know Docker.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::namespace;
use crate::{
    backend::{
        Owner,
        network::{
            ovsdb::{Database, Session},
            seen::{DEPLOYMENT, INSTALLATION, rows_of},
            value,
        },
    },
    error::{Code, Problem},
    names::GuestName,
    orchestrate::host::Cancel,
    plan::{blueprint::NicDevice, container::Interface},
    process::Call,
};

/// What the names of our ends begin with.
const PREFIX: &str = "tbv";
/// What their aliases begin with.
const ALIAS: &str = "testbedos-port";
/// How long OVN may take to make a port of it, and ip(8) for its answer.
const LIMIT: Duration = Duration::from_secs(15);
/// `external_ids`: the guest.
const GUEST: &str = "container-guest";
/// `external_ids`: Docker's id of the container.
const CONTAINER: &str = "container-id";
/// `external_ids`: its process. A container that was started again has another, and a network namespace without our interfaces.
const PROCESS: &str = "container-process";
/// `external_ids`: the alias of the NIC, which is another when anything of it is.
const NIC: &str = "container-nic";
/// `external_ids`: what was set up, as JSON.
const SET_UP: &str = "container-interface";
/// `external_ids`: the MAC address, as libvirt notes it.
const MAC: &str = "attached-mac";
/// What ovn-controller writes when a port works (ovn-controller(8)).
const INSTALLED: &str = "ovn-installed";

/// True for marks that stay with a container's port whatever is done to its link.
pub fn keeps(name: &str, ids: &BTreeMap<String, String>) -> bool {
    ids.contains_key(GUEST) && [INSTALLATION, DEPLOYMENT].contains(&name)
}

/// Our end of the pair of a port: 13 of the 15 characters that a name may have.
pub fn device_of(port: Uuid) -> String {
    format!("{PREFIX}{}", &port.simple().to_string()[..10])
}

/// True for a name of one of our ends.
pub fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.len() == 10 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A container's interface in the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The row's own name: our end of the pair, or what stands in its place while the link is shaped.
    pub name: String,
    /// The guest.
    pub guest: GuestName,
    /// Docker's id of the container that it was made for.
    pub container: String,
    /// The process that the container had then.
    pub pid: Option<i32>,
    /// The NIC's alias.
    pub nic: String,
    /// Its MAC address.
    pub mac: String,
    /// The OVN port.
    pub port: Uuid,
    /// What was set up in the container, as JSON.
    pub interface: String,
}

impl Port {
    /// True when our end itself stands in the bridge.
    pub fn is_plain(&self) -> bool {
        self.name == device_of(self.port)
    }
}

/// The ports of a deployment's containers here.
pub fn all(socket: &Path, owner: &Owner) -> Result<Vec<Port>, Problem> {
    let mark = [[INSTALLATION, &owner.installation.to_string()], [DEPLOYMENT, owner.deployment.as_str()]];
    let select = json!({"op": "select", "table": "Interface", "columns": ["name", "external_ids"],
        "where": [["external_ids", "includes", ["map", mark]]]});
    let results = Database::switch(socket).open()?.read(vec![select])?;
    let port = |row: &Value| {
        let ids = value::read_map(&row["external_ids"])?;
        let id = |name: &str| ids.get(name).cloned().unwrap_or_default();
        Some(Port {
            name: row["name"].as_str()?.to_string(),
            guest: GuestName::new(ids.get(GUEST)?).ok()?,
            container: id(CONTAINER),
            pid: id(PROCESS).parse().ok(),
            nic: id(NIC),
            mac: id(MAC),
            port: Uuid::parse_str(ids.get("iface-id")?).ok()?,
            interface: id(SET_UP),
        })
    };
    Ok(rows_of(&results[0]).iter().filter_map(port).collect())
}

/// What ip(8) says of a device.
#[derive(Deserialize)]
struct Shown {
    ifname: String,
    flags: Vec<String>,
}

/// Our ends of pairs that are there; those without a carrier for their guests are marked.
pub fn devices(cancel: &Cancel) -> Result<BTreeMap<String, bool>, Problem> {
    let doing = || Problem::new(Code::Docker, "cannot look at this host's network devices");
    let finished = Call::new(["ip", "-j", "link", "show", "type", "veth"], LIMIT).run(cancel)?;
    if !finished.status.success() {
        return Err(doing().cause(String::from_utf8_lossy(&finished.stderr).trim()));
    }
    let shown: Vec<Shown> = match finished.stdout.is_empty() {
        true => Vec::new(),
        false => serde_json::from_slice(&finished.stdout).map_err(|error| doing().cause(error))?,
    };
    let ours = shown.into_iter().filter(|device| is_ours(&device.ifname));
    Ok(ours.map(|device| (device.ifname, device.flags.iter().any(|flag| flag == "UP"))).collect())
}

/// Whom a port is made for.
#[derive(Debug, Clone, Copy)]
pub struct Of<'a> {
    /// Whose it is.
    pub owner: &'a Owner,
    /// The guest.
    pub guest: &'a GuestName,
    /// Docker's id of its container.
    pub container: &'a str,
    /// Its process.
    pub pid: i32,
}

/// Makes a container's interface, sets it up and plugs it; returns when OVN has made a port of it. There already is success.
pub fn plug(socket: &Path, bridge: &str, of: Of<'_>, nic: &NicDevice, cancel: &Cancel) -> Result<(), Problem> {
    let device = device_of(nic.port);
    let interface: Interface =
        serde_json::from_str(&nic.xml).map_err(|error| Problem::internal("a container's interface cannot be read").cause(error))?;
    let is_same =
        |port: &Port| port.port == nic.port && port.nic == nic.alias && port.container == of.container && port.pid == Some(of.pid);
    let plugged = all(socket, of.owner)?.iter().any(is_same) && devices(cancel)?.contains_key(&device);
    if !plugged {
        // What stands there is half made, or leads to a namespace that is about to go.
        unplug(socket, &BTreeSet::from([nic.port]), cancel)?;
        make(&device, &interface, of, nic, cancel)?;
    }
    namespace::inside(of.pid, || namespace::set_up(&nic.name, &interface, cancel))?;
    if plugged {
        return Ok(());
    }
    let mut session = Database::switch(socket).open()?;
    let ids = BTreeMap::from([
        ("iface-id".to_string(), nic.port.to_string()),
        (MAC.to_string(), nic.mac.clone()),
        (INSTALLATION.to_string(), of.owner.installation.to_string()),
        (DEPLOYMENT.to_string(), of.owner.deployment.to_string()),
        (GUEST.to_string(), of.guest.to_string()),
        (CONTAINER.to_string(), of.container.to_string()),
        (PROCESS.to_string(), of.pid.to_string()),
        (NIC.to_string(), nic.alias.clone()),
        (SET_UP.to_string(), nic.xml.clone()),
    ]);
    let operations = vec![
        json!({"op": "insert", "table": "Interface", "uuid-name": "interface", "row": {"name": device, "external_ids": value::write_map(&ids)}}),
        json!({"op": "insert", "table": "Port", "uuid-name": "port", "row": {"name": device, "interfaces": ["named-uuid", "interface"]}}),
        json!({"op": "mutate", "table": "Bridge", "where": [["name", "==", bridge]],
            "mutations": [["ports", "insert", ["set", [["named-uuid", "port"]]]]]}),
    ];
    commit(&mut session, operations, &device)?;
    await_claim(&mut session, &device, &format!("{}:{}", of.guest, nic.name), cancel)
}

/// The pair itself.
fn make(device: &str, interface: &Interface, of: Of<'_>, nic: &NicDevice, cancel: &Cancel) -> Result<(), Problem> {
    let owner = of.owner;
    let alias = format!("{ALIAS} {} {} {}", owner.installation, owner.deployment, nic.port);
    let (mtu, pid) = (interface.mtu.to_string(), of.pid.to_string());
    let pair = [
        "link", "add", "name", device, "mtu", &mtu, "type", "veth", "peer", "name", &nic.name, "address", &nic.mac, "mtu", &mtu, "netns",
        &pid,
    ];
    namespace::ip(&pair, device, cancel)?;
    // This host neither answers nor speaks on its guest's wire.
    let quiet = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
    if let Err(error) = std::fs::write(&quiet, "1") {
        tracing::debug!(path = quiet, %error, "this host has no IPv6 to take off a guest's wire");
    }
    namespace::ip(&["link", "set", "dev", device, "alias", &alias, "arp", "off", "up"], device, cancel)
}

/// Takes interfaces of a container out of the bridge and away. Absent already is success.
pub fn unplug(socket: &Path, ports: &BTreeSet<Uuid>, cancel: &Cancel) -> Result<(), Problem> {
    let names: Vec<String> = ports.iter().map(|port| device_of(*port)).collect();
    if names.is_empty() {
        return Ok(());
    }
    let mut session = Database::switch(socket).open()?;
    let operations = removal(&mut session, &names)?;
    if !operations.is_empty() {
        commit(&mut session, operations, &names.join("`, `"))?;
    }
    let there = devices(cancel)?;
    for name in names.iter().filter(|name| there.contains_key(*name)) {
        match namespace::ip(&["link", "del", "dev", name], name, cancel) {
            // It went with its container meanwhile.
            Err(_) if !devices(cancel)?.contains_key(name) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Gives a container a carrier on its interface, or takes it.
pub fn set_carrier(port: Uuid, up: bool, cancel: &Cancel) -> Result<(), Problem> {
    let device = device_of(port);
    namespace::ip(&["link", "set", "dev", &device, if up { "up" } else { "down" }], &device, cancel)
}

/// Operations that take ports of these names off whatever bridge they are on.
fn removal(session: &mut Session, names: &[String]) -> Result<Vec<Value>, Problem> {
    let results = session.read(vec![
        json!({"op": "select", "table": "Port", "where": [], "columns": ["_uuid", "name"]}),
        json!({"op": "select", "table": "Bridge", "where": [], "columns": ["_uuid", "ports"]}),
    ])?;
    let gone: BTreeSet<Uuid> = rows_of(&results[0])
        .iter()
        .filter(|row| row["name"].as_str().is_some_and(|name| names.iter().any(|other| other == name)))
        .filter_map(|row| value::read_uuid(&row["_uuid"]))
        .collect();
    let operations = rows_of(&results[1]).iter().filter_map(|bridge| {
        let here: Vec<Value> = value::read_refs(&bridge["ports"])
            .into_iter()
            .filter(|port| gone.contains(port))
            .map(|port| json!(["uuid", port.to_string()]))
            .collect();
        let row = value::read_uuid(&bridge["_uuid"]).filter(|_| !here.is_empty())?;
        Some(json!({"op": "mutate", "table": "Bridge", "where": [["_uuid", "==", ["uuid", row.to_string()]]],
            "mutations": [["ports", "delete", ["set", here]]]}))
    });
    Ok(operations.collect())
}

fn commit(session: &mut Session, operations: Vec<Value>, device: &str) -> Result<(), Problem> {
    match session.transact(operations)? {
        Ok(_) => Ok(()),
        Err(refusal) => Err(Problem::new(Code::Ovn, format!("Open vSwitch refused to change the port `{device}`"))
            .cause(refusal)
            .hint("something else changed it meanwhile; run the command again")),
    }
}

/// Waits until OVN has made the port's flows.
fn await_claim(session: &mut Session, device: &str, label: &str, cancel: &Cancel) -> Result<(), Problem> {
    let deadline = Instant::now() + LIMIT;
    let mut pause = Duration::from_millis(5);
    loop {
        let select = json!({"op": "select", "table": "Interface", "where": [["name", "==", device]], "columns": ["external_ids", "error"]});
        let results = session.read(vec![select])?;
        let row = &results[0]["rows"][0];
        if value::read_map(&row["external_ids"]).is_some_and(|ids| ids.get(INSTALLED).is_some_and(|done| done == "true")) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let fault = value::elements(&row["error"]).first().and_then(Value::as_str).map(str::to_string);
            let problem = Problem::new(Code::Ovn, format!("OVN has not taken up `{device}`, the port of `{label}`"));
            return Err(problem
                .cause(fault.unwrap_or_else(|| format!("waited {} s", LIMIT.as_secs())))
                .hint("look whether ovn-controller runs: `testbed doctor`"));
        }
        if cancel.wait(pause) {
            cancel.check()?;
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marks_of_a_containers_port_stay() {
        let device = device_of(Uuid::new_v5(&Uuid::NAMESPACE_OID, b"port"));
        assert!(device.len() <= 15 && is_ours(&device) && !is_ours("tbv"), "{device}");
        let ids = BTreeMap::from([(GUEST.to_string(), "web".to_string())]);
        assert!(keeps(INSTALLATION, &ids) && !keeps("testbedos-shape", &ids));
        assert!(!keeps(INSTALLATION, &BTreeMap::new()), "of libvirt's ports nothing of ours stays");
    }
}
