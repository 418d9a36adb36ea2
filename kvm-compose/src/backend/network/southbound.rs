//! OVN's southbound database on the master: open to members' ovn-controllers over TLS, and cleaned of members that left
//! (ovn-sb(5), `SB_Global`, `Connection`, `SSL`, `Chassis`).
//!
//! Must not know who is a member.

use std::path::Path;

use serde_json::{Value, json};

use super::{ovsdb::Database, value};
use crate::error::{Code, Problem};

/// The role under which ovn-controller may change only what is its own (ovn-sb(5)). It needs certificates whose common name
/// is the chassis' name.
const ROLE: &str = "ovn-controller";

/// Files that TLS is set up with.
#[derive(Debug, Clone, Copy)]
pub struct TlsFiles<'a> {
    /// The private key, PEM.
    pub key: &'a Path,
    /// The certificate, PEM.
    pub certificate: &'a Path,
    /// The authority's certificate, PEM.
    pub authority: &'a Path,
}

impl TlsFiles<'_> {
    /// The row of an `SSL` table, which all of OVSDB's schemas share.
    pub(super) fn row(&self) -> Value {
        json!({
            "private_key": self.key.to_string_lossy(),
            "certificate": self.certificate.to_string_lossy(),
            "ca_cert": self.authority.to_string_lossy(),
            "bootstrap_ca_cert": false,
        })
    }

    /// True when a row names these files.
    pub(super) fn is(&self, row: &Value) -> bool {
        let wanted = self.row();
        ["private_key", "certificate", "ca_cert"].iter().all(|column| row[*column] == wanted[*column])
    }
}

/// Lets members' ovn-controllers in, over TLS on `port`. Done already is success; a TLS set-up of somebody else's is a
/// conflict.
pub fn open(socket: &Path, files: TlsFiles<'_>, port: u16) -> Result<(), Problem> {
    let target = format!("pssl:{port}");
    let mut session = Database::southbound(socket).open()?;
    let found = session.read(vec![
        json!({"op": "select", "table": "SB_Global", "where": [], "columns": ["_uuid", "connections", "ssl"]}),
        json!({"op": "select", "table": "Connection", "where": [], "columns": ["_uuid", "target"]}),
        json!({"op": "select", "table": "SSL", "where": [], "columns": ["_uuid", "private_key", "certificate", "ca_cert"]}),
    ])?;
    let rows = |index: usize| found[index]["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(global) = rows(0).first().and_then(|row| value::read_uuid(&row["_uuid"])) else {
        return Err(Problem::new(Code::Ovn, "OVN's southbound database has no row in `SB_Global`").hint("`ovn-sbctl init` makes it"));
    };
    let is_global = json!([["_uuid", "==", ["uuid", global.to_string()]]]);
    let mut operations = Vec::new();
    match rows(2) {
        [] => {
            operations.push(json!({"op": "insert", "table": "SSL", "row": files.row(), "uuid-name": "tls"}));
            operations.push(json!({"op": "update", "table": "SB_Global", "where": is_global, "row": {"ssl": ["named-uuid", "tls"]}}));
        }
        [row, ..] if files.is(row) => {}
        [row, ..] => {
            return Err(Problem::new(Code::Conflict, format!("OVN's southbound database has keys of its own: {}", row["private_key"]))
                .hint("`ovn-sbctl del-ssl` removes them, if nobody else needs them"));
        }
    }
    if !rows(1).iter().any(|row| row["target"].as_str().is_some_and(|text| text == target || text.starts_with(&format!("{target}:")))) {
        let row = json!({"target": target, "role": ROLE});
        operations.push(json!({"op": "insert", "table": "Connection", "row": row, "uuid-name": "door"}));
        operations.push(json!({"op": "mutate", "table": "SB_Global", "where": is_global,
            "mutations": [["connections", "insert", ["named-uuid", "door"]]]}));
    }
    if operations.is_empty() {
        return Ok(());
    }
    let opened = session.transact(operations)?;
    opened.map(drop).map_err(|refusal| Problem::new(Code::Ovn, "OVN's southbound database cannot be opened to members").cause(refusal))
}

/// Removes a chassis that has left for good.
pub fn forget(socket: &Path, chassis: &str) -> Result<(), Problem> {
    let gone = |table: &str| json!({"op": "delete", "table": table, "where": [["name", "==", chassis]]});
    let forgotten = Database::southbound(socket).open()?.transact(vec![gone("Chassis"), gone("Chassis_Private")])?;
    forgotten.map(drop).map_err(|refusal| Problem::new(Code::Ovn, format!("OVN cannot forget the chassis `{chassis}`")).cause(refusal))
}
