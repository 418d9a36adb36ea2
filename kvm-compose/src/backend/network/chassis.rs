//! This machine as a chassis of another machine's OVN: what ovn-controller(8) reads from Open vSwitch's database.
//!
//! ovn-controller follows the keys and the `SSL` table by itself; no restart is needed. Must not know who the master is.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    ovsdb::{Database, Session},
    southbound::TlsFiles,
    value,
};
use crate::error::{Code, Problem};

/// Keys of `external_ids` in the table `Open_vSwitch` that belong to OVN's set-up here.
const KEYS: [&str; 3] = ["ovn-remote", "ovn-encap-type", "ovn-encap-ip"];

/// What this machine is as a chassis.
#[derive(Debug, Clone)]
pub struct Chassis<'a> {
    /// Its name.
    pub system_id: &'a str,
    /// The southbound database, such as `ssl:10.0.0.1:6642`.
    pub remote: &'a str,
    /// The address of its tunnels.
    pub encap_ip: IpAddr,
    /// Its certificate, whose common name is the chassis' name.
    pub files: TlsFiles<'a>,
}

/// What held before, to be put back when the chassis leaves.
pub type Before = BTreeMap<String, String>;

struct Seen {
    row: Uuid,
    ids: BTreeMap<String, String>,
    tls: Vec<(Uuid, Value)>,
}

fn look(session: &mut Session) -> Result<Seen, Problem> {
    let found = session.read(vec![
        json!({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["_uuid", "external_ids"]}),
        json!({"op": "select", "table": "SSL", "where": [], "columns": ["_uuid", "private_key", "certificate", "ca_cert"]}),
    ])?;
    let row = &found[0]["rows"][0];
    let missing = || Problem::new(Code::Ovn, "Open vSwitch's database is empty").hint("`ovs-vsctl init` makes its first row");
    let tls = found[1]["rows"].as_array().into_iter().flatten();
    Ok(Seen {
        row: value::read_uuid(&row["_uuid"]).ok_or_else(missing)?,
        ids: value::read_map(&row["external_ids"]).unwrap_or_default(),
        tls: tls.filter_map(|row| Some((value::read_uuid(&row["_uuid"])?, row.clone()))).collect(),
    })
}

/// The chassis' name, when Open vSwitch has one.
pub fn system_id(socket: &Path) -> Result<Option<String>, Problem> {
    Ok(look(&mut Database::switch(socket).open()?)?.ids.get("system-id").cloned())
}

/// Makes this machine a chassis, in one transaction. Done already is success. Returns what held before.
///
/// Keys of somebody else's and a southbound database of another machine are a conflict: this machine serves another OVN.
pub fn join(socket: &Path, chassis: &Chassis<'_>) -> Result<Before, Problem> {
    let mut session = Database::switch(socket).open()?;
    let seen = look(&mut session)?;
    if let Some(remote) = seen.ids.get("ovn-remote").filter(|remote| *remote != chassis.remote && !remote.starts_with("unix:")) {
        let ours = seen.tls.iter().any(|(_, row)| chassis.files.is(row));
        if !ours {
            return Err(Problem::new(Code::Conflict, format!("this machine is a chassis of another OVN already: `{remote}`"))
                .hint("if that is no longer so: ovs-vsctl remove Open_vSwitch . external_ids ovn-remote"));
        }
    }
    let before: Before = KEYS.iter().filter_map(|key| Some(((*key).to_string(), seen.ids.get(*key)?.clone()))).collect();
    let ids: BTreeMap<String, String> = [
        ("system-id", chassis.system_id.to_string()),
        ("ovn-remote", chassis.remote.to_string()),
        ("ovn-encap-type", "geneve".to_string()),
        ("ovn-encap-ip", chassis.encap_ip.to_string()),
    ]
    .map(|(key, value)| (key.to_string(), value))
    .into();
    let is_row = json!([["_uuid", "==", ["uuid", seen.row.to_string()]]]);
    let mut operations = Vec::new();
    match seen.tls.as_slice() {
        [] => {
            operations.push(json!({"op": "insert", "table": "SSL", "row": chassis.files.row(), "uuid-name": "tls"}));
            operations.push(json!({"op": "update", "table": "Open_vSwitch", "where": is_row, "row": {"ssl": ["named-uuid", "tls"]}}));
        }
        [(_, row), ..] if chassis.files.is(row) => {}
        [(_, row), ..] => {
            return Err(Problem::new(Code::Conflict, format!("Open vSwitch has keys of its own: {}", row["private_key"]))
                .hint("`ovs-vsctl del-ssl` removes them, if nobody else needs them"));
        }
    }
    if ids.iter().any(|(key, value)| seen.ids.get(key) != Some(value)) {
        operations.push(set(&is_row, &ids));
    }
    if !operations.is_empty() {
        let done = session.transact(operations)?;
        done.map_err(|refusal| Problem::new(Code::Ovn, "Open vSwitch refused to become a chassis").cause(refusal))?;
    }
    Ok(before)
}

/// Makes this machine nobody's chassis: puts back what held before.
pub fn leave(socket: &Path, files: TlsFiles<'_>, before: &Before) -> Result<(), Problem> {
    let mut session = Database::switch(socket).open()?;
    let seen = look(&mut session)?;
    let is_row = json!([["_uuid", "==", ["uuid", seen.row.to_string()]]]);
    let keys = json!(["set", KEYS]);
    let mut operations =
        vec![json!({"op": "mutate", "table": "Open_vSwitch", "where": is_row, "mutations": [["external_ids", "delete", keys]]})];
    if !before.is_empty() {
        operations.push(json!({"op": "mutate", "table": "Open_vSwitch", "where": is_row,
            "mutations": [["external_ids", "insert", value::write_map(before)]]}));
    }
    if seen.tls.iter().any(|(_, row)| files.is(row)) {
        // A row that nothing refers to is removed by the database.
        operations.push(json!({"op": "update", "table": "Open_vSwitch", "where": is_row, "row": {"ssl": ["set", []]}}));
    }
    let done = session.transact(operations)?;
    done.map(drop).map_err(|refusal| Problem::new(Code::Ovn, "Open vSwitch refused to leave OVN").cause(refusal))
}

fn set(is_row: &Value, ids: &BTreeMap<String, String>) -> Value {
    let keys: Vec<&String> = ids.keys().collect();
    json!({"op": "mutate", "table": "Open_vSwitch", "where": is_row,
        "mutations": [["external_ids", "delete", ["set", keys]], ["external_ids", "insert", value::write_map(ids)]]})
}
