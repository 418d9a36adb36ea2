//! Interfaces of this machine on the integration bridge, which are a deployment's own (`internal` ports of switches).
//!
//! Each carries the deployment's marks from its first moment: whatever kills the server, the next `down` finds them.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    host_commit::commit,
    host_link::{self, Link},
    ovsdb::{Database, Session},
    seen::{DEPLOYMENT, INSTALLATION, KEY, OPERATION, rows_of},
    value,
};
use crate::{
    backend::Owner,
    error::{Code, Problem},
    names::NetworkName,
    orchestrate::host::Cancel,
    plan::outside::{InternalPort, SeenInternal},
};

/// How long OVN may take to make a port of it.
const LIMIT: Duration = Duration::from_secs(15);
/// What ovn-controller writes when a port works (ovn-controller(8)).
const INSTALLED: &str = "ovn-installed";

/// A row of the table `Interface`.
struct Row {
    uuid: Uuid,
    name: String,
    ids: BTreeMap<String, String>,
    error: Option<String>,
}

impl Row {
    fn is_of(&self, owner: &Owner) -> bool {
        self.ids.get(INSTALLATION) == Some(&owner.installation.to_string())
            && self.ids.get(DEPLOYMENT).map(String::as_str) == Some(owner.deployment.as_str())
    }

    /// The name in the testbed file.
    fn port(&self) -> Option<NetworkName> {
        NetworkName::new(self.ids.get(KEY)?.strip_prefix("internal/")?).ok()
    }
}

fn rows(session: &mut Session, condition: &Value) -> Result<Vec<Row>, Problem> {
    let columns = ["_uuid", "name", "external_ids", "error"];
    let results = session.read(vec![json!({"op": "select", "table": "Interface", "where": condition, "columns": columns})])?;
    let row = |row: &Value| {
        Some(Row {
            uuid: value::read_uuid(&row["_uuid"])?,
            name: row["name"].as_str()?.to_string(),
            ids: value::read_map(&row["external_ids"])?,
            error: value::elements(&row["error"]).first().and_then(Value::as_str).map(str::to_string),
        })
    };
    Ok(rows_of(&results[0]).iter().filter_map(row).collect())
}

fn named(name: &str) -> Value {
    json!([["name", "==", name]])
}

/// The deployment's interfaces here.
pub fn observe(socket: &Path, owner: &Owner) -> Result<Vec<SeenInternal>, Problem> {
    let mark = [[INSTALLATION, &owner.installation.to_string()], [DEPLOYMENT, owner.deployment.as_str()]];
    let found = rows(&mut Database::switch(socket).open()?, &json!([["external_ids", "includes", ["map", mark]]]))?;
    let seen = |row: Row| {
        let (name, iface_id) = (row.port()?, row.ids.get("iface-id").cloned().unwrap_or_default());
        Some(SeenInternal { name, interface: row.name, iface_id, mac: None, mtu: None, addresses: Vec::new(), up: false })
    };
    Ok(found.into_iter().filter_map(seen).collect())
}

/// Adds what the kernel says of them.
pub fn with_links(seen: &mut [SeenInternal], links: &BTreeMap<String, Link>) {
    for port in seen {
        if let Some(link) = links.get(&port.interface) {
            (port.mac, port.mtu, port.up) = (link.mac, link.mtu, link.up);
            port.addresses.clone_from(&link.addresses);
        }
    }
}

/// Makes an interface, or makes the one that is there as it is wanted; returns when OVN has made a port of it.
pub fn plug(socket: &Path, owner: &Owner, operation: Uuid, port: &InternalPort, cancel: &Cancel) -> Result<(), Problem> {
    let mut session = Database::switch(socket).open()?;
    let ids = BTreeMap::from([
        ("iface-id".to_string(), port.iface_id.clone()),
        (INSTALLATION.to_string(), owner.installation.to_string()),
        (DEPLOYMENT.to_string(), owner.deployment.to_string()),
        (KEY.to_string(), format!("internal/{}", port.name)),
        (OPERATION.to_string(), operation.to_string()),
    ]);
    let columns = json!({"mac": port.mac.to_string(), "mtu_request": port.mtu});
    let operations = match rows(&mut session, &named(&port.interface))?.into_iter().next() {
        Some(there) if !there.is_of(owner) => {
            return Err(Problem::new(Code::Conflict, format!("there is an interface named `{}` already", port.interface))
                .hint(format!("look at it with `ovs-vsctl list Interface {}`", port.interface)));
        }
        Some(there) => {
            let is = json!([["_uuid", "==", ["uuid", there.uuid.to_string()]]]);
            let keys: Vec<&String> = ids.keys().collect();
            vec![
                json!({"op": "update", "table": "Interface", "where": is, "row": columns}),
                json!({"op": "mutate", "table": "Interface", "where": is,
                    "mutations": [["external_ids", "delete", ["set", keys]], ["external_ids", "insert", value::write_map(&ids)]]}),
            ]
        }
        None => vec![
            json!({"op": "insert", "table": "Interface", "uuid-name": "interface", "row": {"name": port.interface, "type": "internal",
                "mac": port.mac.to_string(), "mtu_request": port.mtu, "external_ids": value::write_map(&ids)}}),
            json!({"op": "insert", "table": "Port", "uuid-name": "port",
                "row": {"name": port.interface, "interfaces": ["named-uuid", "interface"]}}),
            json!({"op": "mutate", "table": "Bridge", "where": [["name", "==", port.bridge]],
                "mutations": [["ports", "insert", ["set", [["named-uuid", "port"]]]]]}),
        ],
    };
    let refused = |refusal| Problem::new(Code::Ovn, format!("Open vSwitch refused the interface `{}`", port.interface)).cause(refusal);
    commit(&mut session, operations, cancel)?.map_err(refused)?;
    host_link::bring_up(&port.interface, Some(port.address), true, cancel)?;
    wait_for_ovn(&mut session, port, cancel)
}

fn wait_for_ovn(session: &mut Session, port: &InternalPort, cancel: &Cancel) -> Result<(), Problem> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        let row = rows(session, &named(&port.interface))?.into_iter().next();
        if let Some(error) = row.as_ref().and_then(|row| row.error.clone()) {
            return Err(Problem::new(Code::Ovn, format!("Open vSwitch cannot make the interface `{}`", port.interface)).cause(error));
        }
        let Some(row) = row else {
            let message = format!("the interface `{}` is not there", port.interface);
            return Err(Problem::new(Code::Ovn, message)
                .cause(format!("the bridge `{}` may not be there", port.bridge))
                .hint("`testbed doctor` says which part is down and how to start it"));
        };
        if row.ids.get(INSTALLED).is_some_and(|installed| installed == "true") {
            return Ok(());
        }
        if begun.elapsed() >= LIMIT {
            return Err(Problem::new(Code::Ovn, format!("OVN did not take up the port `{}` within {} s", port.iface_id, LIMIT.as_secs()))
                .hint("is ovn-controller running? See `testbed doctor`"));
        }
        if cancel.wait(pause) {
            cancel.check()?;
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Takes an interface with the owner's mark away. Absent already is success, and so is one of somebody else's.
pub fn unplug(socket: &Path, owner: &Owner, interface: &str, cancel: &Cancel) -> Result<(), Problem> {
    let mut session = Database::switch(socket).open()?;
    let Some(row) = rows(&mut session, &named(interface))?.into_iter().find(|row| row.is_of(owner)) else { return Ok(()) };
    let results = session.read(vec![
        json!({"op": "select", "table": "Port", "where": [["interfaces", "includes", ["uuid", row.uuid.to_string()]]], "columns": ["_uuid"]}),
    ])?;
    let Some(port) = rows_of(&results[0]).first().and_then(|row| value::read_uuid(&row["_uuid"])) else { return Ok(()) };
    let reference = json!(["uuid", port.to_string()]);
    let operations = vec![json!({"op": "mutate", "table": "Bridge", "where": [["ports", "includes", reference]],
        "mutations": [["ports", "delete", ["set", [reference]]]]})];
    let refused = |refusal| Problem::new(Code::Ovn, format!("Open vSwitch refused to remove the interface `{interface}`")).cause(refusal);
    commit(&mut session, operations, cancel)?.map_err(refused)
}
