//! OVN's northbound database: what is there with a deployment's mark, and carrying out a change of it.
//!
//! A change is one transaction that also asserts what was seen before, so a repeated or concurrent change never makes a
//! row twice. Must not know Open vSwitch or libvirt.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    change,
    ovsdb::Database,
    settle,
    value::{self, EXTERNAL_IDS},
};
use crate::{
    backend::Owner,
    error::{Code, Problem},
    names::{DeploymentName, GuestName},
    orchestrate::host::Cancel,
    plan::{
        blueprint::{Blueprint, Column, RowKey, Table},
        observed::{ObservedRow, Stranger},
        step::NetworkChange,
    },
    topology::Leases,
};

/// Mark: the installation.
pub const INSTALLATION: &str = "testbedos-installation";
/// Mark: the deployment.
pub const DEPLOYMENT: &str = "testbedos-deployment";
/// Mark: the row's key within its deployment.
pub const KEY: &str = "testbedos-key";
/// Mark: the operation that made or last changed it.
pub const OPERATION: &str = "testbedos-operation";

/// How often a change is built anew because someone else was faster.
const TRIES: usize = 4;
/// How long a database that restarts is waited for.
const RETURN_LIMIT: Duration = Duration::from_secs(8);

/// The northbound database.
pub struct Northbound {
    database: Database,
    southbound: Option<PathBuf>,
}

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

impl Northbound {
    /// The database behind `socket`. The southbound one is looked for beside it, to name a host that lags behind.
    pub fn new(socket: &Path) -> Self {
        let southbound = socket.parent().map(|folder| folder.join("ovnsb_db.sock"));
        Northbound { database: Database::northbound(socket), southbound }
    }

    /// Connects and asks what version of the schema is there and how many chassis: for `doctor`.
    pub fn check(&self) -> Result<String, Problem> {
        let mut session = self.database.open()?;
        if !session.databases()?.iter().any(|name| name == self.database.name) {
            return Err(self.database.problem("the server behind the socket holds other databases"));
        }
        let counters = settle::counters(&mut session)?;
        let chassis = self.southbound.as_deref().and_then(|socket| settle::chassis(socket).ok()).map(|chassis| chassis.len());
        let chassis = chassis.map_or_else(String::new, |count| format!(", {count} chassis"));
        Ok(format!("northbound database answers, configuration {} of {} is on every chassis{chassis}", counters.hv, counters.nb))
    }

    /// Our rows, strangers that hold a name which the blueprint needs, in one transaction.
    pub fn observe(&self, owner: &Owner, wanted: Option<&Blueprint>) -> Result<(Vec<ObservedRow>, Vec<Stranger>), Problem> {
        let mut session = self.database.open()?;
        let mut operations = select_ours(owner);
        operations.extend(wanted.iter().flat_map(|_| NAMED.iter().map(|(table, _)| select_names(*table))));
        let mut results = session.read(operations)?;
        let named = results.split_off(Table::ALL.len());
        let seen = seen_rows(&results);
        let strangers = wanted.map(|wanted| strangers(owner, wanted, &named)).unwrap_or_default();
        Ok((seen.into_iter().map(|seen| seen.row).collect(), strangers))
    }

    /// The addresses of guests' ports: of rows `port/<guest>/<n>` that carry one.
    pub fn leases(&self, owner: &Owner) -> Result<Leases, Problem> {
        let mut session = self.database.open()?;
        let results = session.read(select_ours(owner))?;
        Ok(seen_rows(&results).iter().filter_map(|seen| lease(&seen.row)).collect())
    }

    /// Key and deployment of every row with this installation's mark.
    pub fn marked(&self, installation: &str) -> Result<Vec<(String, DeploymentName)>, Problem> {
        let mut session = self.database.open()?;
        let ours = json!([[EXTERNAL_IDS, "includes", ["map", [[INSTALLATION, installation]]]]]);
        let select = |table: &Table| json!({"op": "select", "table": table.name(), "where": ours, "columns": [EXTERNAL_IDS]});
        let results = session.read(Table::ALL.iter().map(select).collect())?;
        let rows = Table::ALL.iter().zip(&results).flat_map(|(table, result)| rows_of(result).iter().map(move |row| (table, row)));
        Ok(rows
            .filter_map(|(table, row)| {
                let ids = value::read_map(&row[EXTERNAL_IDS])?;
                let deployment = DeploymentName::new(ids.get(DEPLOYMENT)?).ok()?;
                Some((format!("{} {}", table.name(), ids.get(KEY).map_or("?", String::as_str)), deployment))
            })
            .collect())
    }

    /// Makes a change in one transaction and waits until every chassis has it.
    pub fn apply(
        &self,
        owner: &Owner,
        operation: Uuid,
        change: &NetworkChange,
        cancel: &Cancel,
        say: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), Problem> {
        let deadline = Instant::now() + RETURN_LIMIT;
        let target = loop {
            match self.commit(owner, operation, change, cancel) {
                Ok(outcome) => break outcome?,
                Err(silence) if Instant::now() >= deadline => return Err(silence),
                // It may come back; whether the change was made meanwhile, the next try sees.
                Err(_) => {
                    cancel.wait(Duration::from_millis(200));
                    cancel.check()?;
                }
            }
        };
        settle::wait(&self.database, self.southbound.as_deref(), target, cancel, say)
    }

    /// Makes a change; returns its sequence number or why it was refused. Fails when the database does not answer.
    fn commit(&self, owner: &Owner, operation: Uuid, change: &NetworkChange, cancel: &Cancel) -> Result<Result<i64, Problem>, Problem> {
        let mut session = self.database.open()?;
        for _ in 0..TRIES {
            if let Err(cancelled) = cancel.check() {
                return Ok(Err(cancelled));
            }
            let seen = seen_rows(&session.read(select_ours(owner))?);
            let mut operations = guards(owner, &seen);
            let guarded = operations.len();
            let (labels, changes): (Vec<String>, Vec<Value>) = match change::operations(owner, operation, change, &seen) {
                Ok(changes) => changes.into_iter().unzip(),
                Err(problem) => return Ok(Err(problem)),
            };
            operations.extend(changes);
            operations.push(json!({"op": "mutate", "table": "NB_Global", "where": [], "mutations": [["nb_cfg", "+=", 1]]}));
            operations.push(json!({"op": "select", "table": "NB_Global", "where": [], "columns": ["nb_cfg"]}));
            match session.transact(operations)? {
                Ok(results) => {
                    let target = results.last().and_then(|result| rows_of(result).first()?["nb_cfg"].as_i64());
                    return Ok(target.ok_or_else(settle::no_row));
                }
                // A guard failed: the rows are not as they were seen. Look again.
                Err(refusal) if refusal.operation < guarded && refusal.error == "timed out" => {}
                Err(refusal) => {
                    let whose = labels.get(refusal.operation.wrapping_sub(guarded));
                    let whose = whose.map_or_else(String::new, |label| format!(" ({label})"));
                    return Ok(Err(Problem::new(Code::Ovn, format!("OVN refused the change of the network{whose}")).cause(refusal)));
                }
            }
        }
        Ok(Err(Problem::new(Code::Conflict, "the network's rows change faster than they can be read")
            .hint("is another server with the same installation at work? See `testbed doctor`")))
    }
}

/// Tables in which a name may stand only once, whoever made the row, and what people call such a row.
const NAMED: &[(Table, &str)] = &[(Table::LogicalSwitchPort, "port"), (Table::LogicalRouterPort, "router port")];

fn ours(owner: &Owner) -> Value {
    let marks = [[INSTALLATION.to_string(), owner.installation.to_string()], [DEPLOYMENT.to_string(), owner.deployment.to_string()]];
    json!([[EXTERNAL_IDS, "includes", ["map", marks]]])
}

fn select_ours(owner: &Owner) -> Vec<Value> {
    let select = |table: &Table| {
        let mut columns = vec!["_uuid", EXTERNAL_IDS];
        columns.extend(value::managed(*table).iter().map(|(name, _)| *name));
        columns.extend(value::lists(*table));
        json!({"op": "select", "table": table.name(), "where": ours(owner), "columns": columns})
    };
    Table::ALL.iter().map(select).collect()
}

fn select_names(table: Table) -> Value {
    json!({"op": "select", "table": table.name(), "where": [], "columns": ["name", EXTERNAL_IDS]})
}

/// Asserts that our rows are exactly those that were seen.
fn guards(owner: &Owner, seen: &[Seen]) -> Vec<Value> {
    let guard = |table: &Table| {
        let of_table = seen.iter().filter(|seen| seen.row.table == *table);
        let rows: Vec<Value> = of_table.map(|seen| json!({"_uuid": ["uuid", seen.row.uuid.to_string()]})).collect();
        json!({"op": "wait", "timeout": 0, "table": table.name(), "where": ours(owner), "columns": ["_uuid"], "until": "==", "rows": rows})
    };
    Table::ALL.iter().map(guard).collect()
}

fn rows_of(result: &Value) -> &[Value] {
    result["rows"].as_array().map_or(&[], Vec::as_slice)
}

/// Turns the results of [`select_ours`] into rows, references into keys.
fn seen_rows(results: &[Value]) -> Vec<Seen> {
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

fn strangers(owner: &Owner, wanted: &Blueprint, named: &[Value]) -> Vec<Stranger> {
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
                let whose = match ids.get(DEPLOYMENT) {
                    Some(deployment) => format!("it belongs to deployment `{deployment}`"),
                    None => format!("look at it with `ovn-nbctl list {} {name}`", table.name()),
                };
                found.insert(Stranger { kind: (*kind).to_string(), name: name.to_string(), hint: whose });
            }
        }
    }
    found.into_iter().collect()
}

fn lease(row: &ObservedRow) -> Option<((GuestName, usize), IpAddr)> {
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
