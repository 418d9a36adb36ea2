//! What the northbound database answered, as rows with marks: ours, and strangers' with a name we need.
//!
//! Pure. Must not know sockets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde_json::Value;
use uuid::Uuid;

use super::value::{self, EXTERNAL_IDS};
use crate::{
    backend::Owner,
    names::GuestName,
    plan::{
        blueprint::{Blueprint, Column, RowKey, Table},
        observed::{ObservedRow, Stranger},
    },
};

/// Mark: the installation.
pub const INSTALLATION: &str = "testbedos-installation";
/// Mark: the deployment.
pub const DEPLOYMENT: &str = "testbedos-deployment";
/// Mark: the row's key within its deployment.
pub const KEY: &str = "testbedos-key";
/// Mark: the operation that made or last changed it.
pub const OPERATION: &str = "testbedos-operation";

/// Tables in which a name may stand only once, whoever made the row, and what people call such a row.
pub const NAMED: &[(Table, &str)] = &[(Table::LogicalSwitchPort, "port"), (Table::LogicalRouterPort, "router port")];

/// A row with an owner's mark, with what a change needs beyond what a plan does.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What a plan needs.
    pub row: ObservedRow,
    /// All of `external_ids`, marks included.
    pub external_ids: BTreeMap<String, String>,
    /// The row that lists it: its id and its column.
    pub listed_in: Option<(Uuid, &'static str)>,
}

/// The rows of one `select`.
pub fn rows_of(result: &Value) -> &[Value] {
    result["rows"].as_array().map_or(&[], Vec::as_slice)
}

/// Turns the results of one `select` per table of [`Table::ALL`] into rows, references into keys.
pub fn seen_rows(results: &[Value]) -> Vec<Seen> {
    let rows: Vec<(Table, &Value, Uuid, BTreeMap<String, String>)> = Table::ALL
        .iter()
        .zip(results)
        .flat_map(|(table, result)| rows_of(result).iter().map(move |row| (*table, row)))
        .filter_map(|(table, row)| Some((table, row, value::read_uuid(&row["_uuid"])?, value::read_map(&row[EXTERNAL_IDS])?)))
        .filter(|(_, _, _, ids)| ids.contains_key(KEY))
        .collect();
    let keys: BTreeMap<Uuid, RowKey> = rows.iter().map(|(_, _, uuid, ids)| (*uuid, RowKey(ids[KEY].clone()))).collect();
    let key_of = |uuid: Uuid| keys.get(&uuid).cloned().unwrap_or_else(|| RowKey(format!("?{uuid}")));
    let mut listed: BTreeMap<Uuid, (Uuid, &'static str)> = BTreeMap::new();
    for (table, row, uuid, _) in &rows {
        for column in value::lists(*table) {
            listed.extend(value::read_refs(&row[*column]).into_iter().map(|part| (part, (*uuid, *column))));
        }
    }
    let mut seen: Vec<Seen> = rows
        .iter()
        .map(|(table, row, uuid, ids)| {
            let managed = value::managed(*table).iter();
            let mut columns: BTreeMap<String, Column> =
                managed.filter_map(|(name, kind)| Some(((*name).to_string(), value::read(*kind, &row[*name], &key_of)?))).collect();
            let rest = ids.iter().filter(|(name, _)| ![INSTALLATION, DEPLOYMENT, KEY, OPERATION].contains(&name.as_str()));
            columns.insert(EXTERNAL_IDS.to_string(), Column::Map(rest.map(|(k, v)| (k.clone(), v.clone())).collect()));
            let listed_in = listed.get(uuid).copied();
            let parent = listed_in.map(|(parent, _)| key_of(parent));
            let row = ObservedRow { uuid: *uuid, key: keys[uuid].clone(), table: *table, columns, parent };
            Seen { row, external_ids: ids.clone(), listed_in }
        })
        .collect();
    seen.sort_by(|a, b| (a.row.table.name(), &a.row.key, a.row.uuid).cmp(&(b.row.table.name(), &b.row.key, b.row.uuid)));
    seen
}

/// Rows that hold a name which the blueprint needs and are not the owner's; `named` are the rows of [`NAMED`].
pub fn strangers(owner: &Owner, wanted: &Blueprint, named: &[Value]) -> Vec<Stranger> {
    let mut found = BTreeSet::new();
    for ((table, kind), result) in NAMED.iter().zip(named) {
        let names: BTreeSet<&str> = wanted
            .rows
            .iter()
            .filter(|row| row.table == *table)
            .filter_map(|row| match row.columns.get("name") {
                Some(Column::Text(name)) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        for row in rows_of(result) {
            let ids = value::read_map(&row[EXTERNAL_IDS]).unwrap_or_default();
            let is_ours = ids.get(INSTALLATION) == Some(&owner.installation.to_string())
                && ids.get(DEPLOYMENT).map(String::as_str) == Some(owner.deployment.as_str());
            if let Some(name) = row["name"].as_str().filter(|name| names.contains(name) && !is_ours) {
                found.insert(match (ids.get(INSTALLATION), ids.get(DEPLOYMENT)) {
                    (Some(installation), Some(deployment)) => Stranger::of_installation(kind, name, installation, deployment),
                    _ => Stranger {
                        kind: (*kind).to_string(),
                        name: name.to_string(),
                        hint: format!("look at it with `ovn-nbctl list {} {name}`", table.name()),
                        installation: None,
                    },
                });
            }
        }
    }
    found.into_iter().collect()
}

/// The address of a guest's port, if the row is one.
pub fn lease(row: &ObservedRow) -> Option<((GuestName, usize), IpAddr)> {
    let mut parts = row.key.0.strip_prefix("port/")?.split('/');
    let (guest, index) = (GuestName::new(parts.next()?).ok()?, parts.next()?.parse().ok()?);
    let (None, Some(Column::Set(addresses))) = (parts.next(), row.columns.get("addresses")) else { return None };
    let address = addresses.first()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(((guest, index), address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_only_from_a_guests_port() {
        let row = |key: &str, addresses: &[&str]| ObservedRow {
            uuid: Uuid::nil(),
            key: RowKey(key.to_string()),
            table: Table::LogicalSwitchPort,
            columns: BTreeMap::from([("addresses".into(), Column::Set(addresses.iter().map(|a| a.to_string()).collect()))]),
            parent: None,
        };
        let web = GuestName::new("web").expect("valid");
        let found = lease(&row("port/web/1", &["02:00:00:00:00:01 10.0.0.7"]));
        assert_eq!(found, Some(((web, 1), "10.0.0.7".parse().expect("valid"))));
        for (key, addresses) in [
            ("port/web/1", &["router"][..]),
            ("port/web", &["m 10.0.0.7"]),
            ("port/web/x", &["m 10.0.0.7"]),
            ("uplink/a/1", &["m 1.1.1.1"]),
            ("port/web/1/2", &["m 1.1.1.1"]),
            ("port/web/1", &[]),
        ] {
            assert_eq!(lease(&row(key, addresses)), None, "{key} {addresses:?}");
        }
    }
}
