//! Rows that somebody else has put on our switches and routers: routing policies, routes, address translations and rules without
//! our mark. Changes nothing, and takes none of them away: they are somebody's.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    ovsdb::Session,
    seen::{DEPLOYMENT, INSTALLATION, KEY, rows_of},
    value::{self, EXTERNAL_IDS},
};
use crate::{
    backend::Owner,
    error::Problem,
    why::{Foreign, ForeignKind},
};

/// Whose parts are looked at: the table, our columns that list parts, and the table and columns of those parts.
const PARTS: &[(&str, &str, &str, &[&str], ForeignKind)] = &[
    ("Logical_Router", "policies", "Logical_Router_Policy", &["priority", "match", "action"], ForeignKind::Policy),
    ("Logical_Router", "static_routes", "Logical_Router_Static_Route", &["ip_prefix", "nexthop"], ForeignKind::Route),
    ("Logical_Router", "nat", "NAT", &["type", "external_ip", "logical_ip"], ForeignKind::Nat),
    ("Logical_Switch", "acls", "ACL", &["direction", "priority", "match", "action"], ForeignKind::Acl),
];

/// All such rows of a deployment.
pub fn rows(session: &mut Session, owner: &Owner) -> Result<Vec<Foreign>, Problem> {
    let marks = [[INSTALLATION.to_string(), owner.installation.to_string()], [DEPLOYMENT.to_string(), owner.deployment.to_string()]];
    let ours = json!([[EXTERNAL_IDS, "includes", ["map", marks]]]);
    let owners = PARTS
        .iter()
        .map(|(table, list, ..)| json!({"op": "select", "table": table, "where": ours, "columns": ["name", EXTERNAL_IDS, list]}))
        .collect();
    let parts = PARTS.iter().map(|(_, _, table, columns, _)| {
        let columns = [&["_uuid", EXTERNAL_IDS], *columns].concat();
        json!({"op": "select", "table": table, "where": [], "columns": columns})
    });
    let (owners, parts) = (session.read(owners)?, session.read(parts.collect())?);
    Ok(found(&owners, &parts))
}

/// Pure: the answers to one `select` of owners and one of parts for each of [`PARTS`].
fn found(owners: &[Value], parts: &[Value]) -> Vec<Foreign> {
    let mut all = Vec::new();
    for (((_, list, _, _, kind), owners), parts) in PARTS.iter().zip(owners).zip(parts) {
        for owner in rows_of(owners) {
            let listed: BTreeSet<Uuid> = value::read_refs(&owner[*list]).into_iter().collect();
            let (Some(name), Some(ids)) = (owner["name"].as_str(), value::read_map(&owner[EXTERNAL_IDS])) else { continue };
            let Some(at) = ids.get(KEY) else { continue };
            let is_foreign = |row: &&Value| {
                let ids = value::read_map(&row[EXTERNAL_IDS]).unwrap_or_default();
                value::read_uuid(&row["_uuid"]).is_some_and(|id| listed.contains(&id)) && !ids.contains_key(KEY)
            };
            all.extend(rows_of(parts).iter().filter(is_foreign).map(|row| read(*kind, at, name, row)));
        }
    }
    all
}

fn read(kind: ForeignKind, at: &str, name: &str, row: &Value) -> Foreign {
    // As the command needs it; only what would not stay on its line is left out.
    let text = |column: &str| row[column].as_str().unwrap_or_default().chars().filter(|c| !c.is_control()).collect::<String>();
    let priority = row["priority"].as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
    // What a shell reads within single quotes, whatever is in it.
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let (matches, words, remove) = match kind {
        ForeignKind::Policy => {
            let matches = text("match");
            let words = format!("routing policy (priority {priority}, `{matches}`: {})", text("action"));
            let remove = format!("ovn-nbctl lr-policy-del {name} {priority} {}", quoted(&matches));
            (matches, words, remove)
        }
        ForeignKind::Route => {
            let (prefix, hop) = (text("ip_prefix"), text("nexthop"));
            let remove = format!("ovn-nbctl lr-route-del {name} {prefix} {hop}");
            let words = format!("route to {prefix} through {hop}");
            (prefix, words, remove)
        }
        ForeignKind::Nat => {
            let (kind, external, logical) = (text("type"), text("external_ip"), text("logical_ip"));
            let address = if kind == "snat" { &logical } else { &external };
            let remove = format!("ovn-nbctl lr-nat-del {name} {kind} {address}");
            (external.clone(), format!("{kind} between {external} and {logical}"), remove)
        }
        ForeignKind::Acl => {
            let (direction, matches) = (text("direction"), text("match"));
            let words = format!("rule ({direction}, priority {priority}, `{matches}`: {})", text("action"));
            let remove = format!("ovn-nbctl acl-del {name} {direction} {priority} {}", quoted(&matches));
            (matches, words, remove)
        }
    };
    Foreign { at: at.to_string(), kind, priority, matches, words, remove }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_our_mark_on_our_routers_are_found() {
        let id = |number: u128| json!(["uuid", Uuid::from_u128(number).to_string()]);
        let marked = |key: &str| json!(["map", [[KEY, key]]]);
        let router = |list: &str, ids: &[u128]| {
            let refs: Vec<Value> = ids.iter().map(|number| id(*number)).collect();
            json!({"rows": [{"name": "d.r1", EXTERNAL_IDS: marked("router/r1"), list: ["set", refs]}]})
        };
        let none = json!(["map", []]);
        let policy = |number, ids: &Value| json!({"_uuid": id(number), EXTERNAL_IDS: ids, "priority": 1000, "match": "ip4.dst == 10.0.0.1 && 'x'", "action": "drop"});
        let route =
            |number, ids: &Value| json!({"_uuid": id(number), EXTERNAL_IDS: ids, "ip_prefix": "10.2.0.0/16", "nexthop": "10.9.0.7"});
        let empty = || json!({"rows": []});
        let owners = [router("policies", &[1, 2]), router("static_routes", &[3, 4]), router("nat", &[]), empty()];
        let parts = [
            json!({"rows": [policy(1, &none), policy(2, &marked("policy/ours")), policy(9, &none)]}),
            json!({"rows": [route(3, &marked("route/r1/x")), route(4, &none)]}),
            empty(),
            empty(),
        ];
        let found = found(&owners, &parts);
        let told: Vec<(&str, &str)> = found.iter().map(|row| (row.at.as_str(), row.remove.as_str())).collect();
        assert_eq!(
            told,
            [
                ("router/r1", r"ovn-nbctl lr-policy-del d.r1 1000 'ip4.dst == 10.0.0.1 && '\''x'\'''"),
                ("router/r1", "ovn-nbctl lr-route-del d.r1 10.2.0.0/16 10.9.0.7"),
            ]
        );
    }
}
