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
        blueprint::{Blueprint, Column, Row, RowKey, Table},
        observed::{ObservedRow, Stranger},
        render::claims::CLAIMS,
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

/// The option of a port that names the hosts' network it leads to (ovn-nb(5), type `localnet`).
const NETWORK: &str = "network_name";

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
                        deployment: None,
                    },
                });
            }
        }
    }
    found.into_iter().collect()
}

/// Addresses of hosts' networks that the blueprint needs and another deployment answers for. `ways` are all ports of the type
/// `localnet`, whoever made them.
pub fn taken(owner: &Owner, wanted: &Blueprint, ways: &Value) -> Vec<Stranger> {
    let needed: BTreeSet<(String, IpAddr)> = wanted.rows.iter().flat_map(wanted_claims).collect();
    let installation = owner.installation.to_string();
    let mut found = BTreeSet::new();
    for row in rows_of(ways).iter().filter(|_| !needed.is_empty()) {
        let ids = value::read_map(&row[EXTERNAL_IDS]).unwrap_or_default();
        let options = value::read_map(&row["options"]).unwrap_or_default();
        let (Some(whose), Some(deployment)) = (ids.get(INSTALLATION), ids.get(DEPLOYMENT)) else { continue };
        if *whose == installation && deployment == owner.deployment.as_str() {
            continue;
        }
        let other = Some(whose.as_str()).filter(|whose| *whose != installation);
        let held = claims(options.get(NETWORK), ids.get(CLAIMS)).into_iter().filter(|claim| needed.contains(claim));
        found.extend(held.map(|(network, address)| Stranger::of_address(address, &network, other, deployment)));
    }
    found.into_iter().collect()
}

fn wanted_claims(row: &Row) -> BTreeSet<(String, IpAddr)> {
    let of = |column: &str, key: &str| match row.columns.get(column) {
        Some(Column::Map(map)) => map.get(key),
        _ => None,
    };
    claims(of("options", NETWORK), of(EXTERNAL_IDS, CLAIMS))
}

/// The addresses that a way to a hosts' network names, each with the network.
fn claims(network: Option<&String>, addresses: Option<&String>) -> BTreeSet<(String, IpAddr)> {
    let (Some(network), Some(addresses)) = (network, addresses) else { return BTreeSet::new() };
    addresses.split_whitespace().filter_map(|address| Some((network.clone(), address.parse().ok()?))).collect()
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
    use crate::names::{DeploymentName, InstallationId};

    #[test]
    fn an_address_outside_that_another_deployment_answers_for_is_taken() {
        let (ours, theirs) = (InstallationId(Uuid::from_u128(1)), InstallationId(Uuid::from_u128(2)));
        let owner = Owner { installation: ours, deployment: DeploymentName::new("two").expect("valid") };
        let map = |entries: &[(&str, &str)]| Column::Map(entries.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect());
        let way = Row {
            key: RowKey("localnet/way".to_string()),
            table: Table::LogicalSwitchPort,
            columns: BTreeMap::from([
                ("options".to_string(), map(&[("network_name", "public")])),
                (EXTERNAL_IDS.to_string(), map(&[(CLAIMS, "172.16.1.200 2001:db8::1")])),
            ]),
            parent: None,
        };
        let wanted = Blueprint {
            installation: ours,
            deployment: owner.deployment.clone(),
            master: "m".parse().expect("valid"),
            folder: "/d".into(),
            rows: vec![way],
            guests: Vec::new(),
            goldens: Vec::new(),
            outside: Default::default(),
        };
        let seen = |installation: InstallationId, deployment: &str, network: &str, addresses: &str| {
            let ids = [[INSTALLATION, &installation.to_string()], [DEPLOYMENT, deployment], [CLAIMS, addresses]];
            serde_json::json!({"options": ["map", [["network_name", network]]], "external_ids": ["map", ids]})
        };
        let found = |rows: Vec<Value>| -> Vec<String> {
            taken(&owner, &wanted, &serde_json::json!({ "rows": rows })).iter().map(Stranger::taken).collect()
        };
        assert_eq!(
            found(vec![seen(ours, "one", "public", "172.16.1.9 172.16.1.200"), seen(theirs, "three", "public", "2001:0db8::1")]),
            [
                "`172.16.1.200`, an address of the network `public`, is taken: deployment `one` has it".to_string(),
                format!(
                    "`2001:db8::1`, an address of the network `public`, is taken: deployment `three` of another installation, {theirs}, has it"
                ),
            ]
        );
        assert!(found(vec![seen(ours, "two", "public", "172.16.1.200"), seen(ours, "one", "lab", "172.16.1.200")]).is_empty());
        assert!(found(vec![seen(ours, "one", "public", "172.16.1.20"), serde_json::json!({})]).is_empty());
    }

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
