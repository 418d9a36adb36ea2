//! A packet's way through OVN, looked at: ports in both databases, and `ovn-trace`. Changes nothing.
//!
//! Must not know guests or what a deployment wants.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::json;
use uuid::Uuid;

use super::{
    ovsdb::Database,
    settle,
    value::{elements, read_uuid},
};
use crate::{
    backend::files::process::Call,
    error::Problem,
    orchestrate::host::Cancel,
    why::{Binding, trace::Packet},
};

/// How long `ovn-trace` may take.
const TRACE_LIMIT: Duration = Duration::from_secs(5);
/// How often connection tracking may be asked on one way.
const TRACKED: usize = 12;

/// What both databases say of ports, by their names.
pub fn bindings(northbound: &Path, southbound: &Path, ports: &[Uuid]) -> Result<BTreeMap<Uuid, Binding>, Problem> {
    let of = |table: &str, column: &str, port: &Uuid, columns: &[&str]| json!({"op": "select", "table": table, "where": [[column, "==", port.to_string()]], "columns": columns});
    let switched = Database::northbound(northbound)
        .open()?
        .read(ports.iter().map(|port| of("Logical_Switch_Port", "name", port, &["enabled"])).collect())?;
    let mut session = Database::southbound(southbound).open()?;
    let mut asked: Vec<_> = ports.iter().map(|port| of("Port_Binding", "logical_port", port, &["chassis", "up"])).collect();
    asked.push(json!({"op": "select", "table": "Chassis", "where": [], "columns": ["_uuid", "name", "hostname"]}));
    let bound = session.read(asked)?;
    let chassis: BTreeMap<Uuid, String> = bound[ports.len()]["rows"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| {
            let name = row["hostname"].as_str().filter(|name| !name.is_empty()).or_else(|| row["name"].as_str());
            Some((read_uuid(&row["_uuid"])?, name?.to_string()))
        })
        .collect();
    let binding = |index: usize| {
        let row = &bound[index]["rows"][0];
        let is_true = |value: &serde_json::Value| value.as_bool().or_else(|| elements(value).first().and_then(serde_json::Value::as_bool));
        Binding {
            present: row.is_object(),
            enabled: is_true(&switched[index]["rows"][0]["enabled"]).unwrap_or(true),
            chassis: elements(&row["chassis"])
                .first()
                .or(Some(&row["chassis"]))
                .and_then(read_uuid)
                .and_then(|id| chassis.get(&id).cloned()),
            up: is_true(&row["up"]).unwrap_or(false),
        }
    };
    Ok(ports.iter().enumerate().map(|(index, port)| (*port, binding(index))).collect())
}

/// What of OVN is behind its northbound database, in words; nothing when all is carried out.
pub fn behind(northbound: &Path) -> Result<Option<String>, Problem> {
    let counters = settle::counters(&mut Database::northbound(northbound).open()?)?;
    Ok(match counters {
        settle::Counters { nb, sb, .. } if sb < nb => Some(format!("ovn-northd is at configuration {sb} of {nb}")),
        settle::Counters { nb, hv, .. } if hv < nb => Some(format!("a host's ovn-controller is at configuration {hv} of {nb}")),
        _ => None,
    })
}

/// `ovn-trace`'s account of a packet that enters a switch.
pub fn trace(southbound: &Path, switch: &str, packet: &Packet, cancel: &Cancel) -> Result<String, Problem> {
    let mut argv = vec!["ovn-trace".to_string(), format!("--db=unix:{}", southbound.display()), "--no-friendly-names".to_string()];
    argv.push("--detailed".to_string());
    argv.extend(std::iter::repeat_n(format!("--ct={}", packet.tracked()), TRACKED));
    argv.extend([switch.to_string(), packet.microflow()]);
    let finished = Call::new(argv, TRACE_LIMIT).run(cancel)?;
    let mut text = String::from_utf8_lossy(&finished.stdout).into_owned();
    if !finished.status.success() {
        text.push_str(&String::from_utf8_lossy(&finished.stderr));
    }
    Ok(text)
}
