//! Ports on the integration bridge that guests leave behind when their QEMU is killed (ovs-vswitchd.conf.db(5)).
//!
//! libvirt plugs and unplugs ports itself and marks them with `iface-id` and `vm-id`; this only finds and removes what it
//! could not. Must not know OVN or libvirt.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    ovsdb::{Database, Session},
    seen::INSTALLATION,
    value,
};
use crate::{
    error::{Code, Problem},
    plan::observed::BridgePort,
};

/// Open vSwitch on this machine.
pub struct Switch {
    database: Database,
}

/// A port with the ids of its rows.
struct Plugged {
    port: BridgePort,
    bridge_row: Uuid,
    port_row: Uuid,
    interface_row: Uuid,
}

impl Switch {
    /// The Open vSwitch behind `socket`.
    pub fn new(socket: &Path) -> Self {
        Switch { database: Database::switch(socket) }
    }

    /// Ports whose `iface-id` or `vm-id` is one of a deployment's.
    pub fn ports(&self, iface_ids: &BTreeSet<String>, vm_ids: &BTreeSet<Uuid>) -> Result<Vec<BridgePort>, Problem> {
        let all = plugged(&mut self.database.open()?)?;
        let is_ours = |port: &BridgePort| iface_ids.contains(&port.iface_id) || port.vm_id.is_some_and(|vm| vm_ids.contains(&vm));
        let mut ports: Vec<BridgePort> = all.into_iter().map(|plugged| plugged.port).filter(is_ours).collect();
        ports.sort();
        Ok(ports)
    }

    /// Takes a port off its bridge if it is still the one that was seen. Absent already is success.
    pub fn remove(&self, port: &BridgePort) -> Result<(), Problem> {
        let mut session = self.database.open()?;
        let Some(found) = plugged(&mut session)?.into_iter().find(|found| found.port == *port) else { return Ok(()) };
        let is = |row: Uuid| json!([["_uuid", "==", ["uuid", row.to_string()]]]);
        let row_id = json!(["uuid", found.interface_row.to_string()]);
        let operations = vec![
            // Nothing happens unless the interface still belongs to whom it belonged.
            json!({"op": "wait", "timeout": 0, "table": "Interface", "columns": ["_uuid"], "until": "==", "rows": [{"_uuid": row_id}],
                "where": [["_uuid", "==", row_id], ["external_ids", "includes", ["map", ids_of(port)]]]}),
            json!({"op": "mutate", "table": "Bridge", "where": is(found.bridge_row),
                "mutations": [["ports", "delete", ["set", [["uuid", found.port_row.to_string()]]]]]}),
        ];
        match session.transact(operations)? {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.operation == 0 && refusal.error == "timed out" => Ok(()),
            Err(refusal) => {
                Err(Problem::new(Code::Ovn, format!("Open vSwitch refused to remove port `{}` of `{}`", port.name, port.bridge))
                    .cause(refusal))
            }
        }
    }

    /// Does ovs-vswitchd run? Its database answers without it, and nothing that is written there is carried out.
    pub fn runs(&self) -> Result<(), String> {
        self.database.socket.parent().map_or(Ok(()), vswitchd)
    }

    /// What `doctor` asks: this host's system id, and whether the bridge is there.
    pub fn check(&self, bridge: &str) -> Result<(Option<String>, bool), Problem> {
        let results = self.database.open()?.read(vec![
            json!({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["external_ids"]}),
            json!({"op": "select", "table": "Bridge", "where": [["name", "==", bridge]], "columns": ["name"]}),
        ])?;
        let ids = value::read_map(&results[0]["rows"][0]["external_ids"]).unwrap_or_default();
        Ok((ids.get("system-id").cloned(), results[1]["rows"].as_array().is_some_and(|rows| !rows.is_empty())))
    }
}

/// ovs-vswitchd as its process id and its control socket in Open vSwitch's folder tell (ovs-vswitchd(8)). Where the database's
/// server keeps no process id either, they are kept elsewhere, and nothing can be told.
fn vswitchd(folder: &Path) -> Result<(), String> {
    let pid = match std::fs::read_to_string(folder.join("ovs-vswitchd.pid")) {
        Ok(pid) => pid,
        Err(_) if folder.join("ovsdb-server.pid").exists() => return Err("ovs-vswitchd has no process".to_string()),
        Err(_) => return Ok(()),
    };
    let control = folder.join(format!("ovs-vswitchd.{}.ctl", pid.trim()));
    match std::os::unix::net::UnixStream::connect(&control) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound) => {
            Err(format!("ovs-vswitchd has ended (`{}` does not answer)", control.display()))
        }
        _ => Ok(()),
    }
}

fn ids_of(port: &BridgePort) -> Vec<[String; 2]> {
    let mut ids = vec![["iface-id".to_string(), port.iface_id.clone()]];
    ids.extend(port.vm_id.map(|vm| ["vm-id".to_string(), vm.to_string()]));
    ids
}

/// Every port of every bridge that has an `iface-id`.
fn plugged(session: &mut Session) -> Result<Vec<Plugged>, Problem> {
    let results = session.read(vec![
        json!({"op": "select", "table": "Interface", "where": [], "columns": ["_uuid", "name", "external_ids"]}),
        json!({"op": "select", "table": "Port", "where": [], "columns": ["_uuid", "interfaces"]}),
        json!({"op": "select", "table": "Bridge", "where": [], "columns": ["_uuid", "name", "ports"]}),
    ])?;
    let rows = |n: usize| -> &[Value] { results[n]["rows"].as_array().map_or(&[], Vec::as_slice) };
    let parts = |table: usize, column: &'static str| -> BTreeMap<Uuid, &Value> {
        rows(table).iter().flat_map(|row| value::read_refs(&row[column]).into_iter().map(move |part| (part, row))).collect()
    };
    let (port_of, bridge_of) = (parts(1, "interfaces"), parts(2, "ports"));
    let plugged = |row: &Value| -> Option<Plugged> {
        let ids = value::read_map(&row["external_ids"])?;
        // What carries our own mark is no guest's: its deployment knows it by the mark.
        if ids.contains_key(INSTALLATION) {
            return None;
        }
        let interface_row = value::read_uuid(&row["_uuid"])?;
        let port_row = value::read_uuid(&port_of.get(&interface_row)?["_uuid"])?;
        let bridge = bridge_of.get(&port_row)?;
        let port = BridgePort {
            bridge: bridge["name"].as_str()?.to_string(),
            name: row["name"].as_str()?.to_string(),
            iface_id: ids.get("iface-id")?.clone(),
            vm_id: ids.get("vm-id").and_then(|text| Uuid::parse_str(text).ok()),
        };
        Some(Plugged { port, bridge_row: value::read_uuid(&bridge["_uuid"])?, port_row, interface_row })
    };
    Ok(rows(0).iter().filter_map(plugged).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_has_ended_is_told_from_one_that_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, pid) = (folder.path(), folder.path().join("ovs-vswitchd.pid"));
        assert_eq!(vswitchd(path), Ok(()), "not the folder of such daemons");
        std::fs::write(path.join("ovsdb-server.pid"), "6\n").expect("written");
        assert!(vswitchd(path).is_err_and(|why| why.contains("no process")));
        std::fs::write(&pid, "7\n").expect("written");
        assert!(vswitchd(path).is_err_and(|why| why.contains("has ended")));
        let listener = std::os::unix::net::UnixListener::bind(path.join("ovs-vswitchd.7.ctl")).expect("bound");
        assert_eq!(vswitchd(path), Ok(()));
        // Killed: the socket is left over.
        drop(listener);
        assert!(vswitchd(path).is_err_and(|why| why.contains("has ended")));
    }
}
