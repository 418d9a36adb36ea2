//! OVN's northbound database: what is there with a deployment's mark, and carrying out a change of it.
//!
//! A change is one transaction that also asserts what was seen before, so a repeated or concurrent change never makes a
//! row twice. Must not know Open vSwitch or libvirt.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    change, foreign,
    ovsdb::Database,
    seen::{self, DEPLOYMENT, INSTALLATION, KEY, NAMED, Seen, rows_of, seen_rows},
    settle,
    value::{self, EXTERNAL_IDS},
};
use crate::{
    backend::Owner,
    error::{Code, Problem},
    names::DeploymentName,
    orchestrate::host::Cancel,
    plan::{
        blueprint::{Blueprint, Table},
        observed::{ObservedRow, Stranger},
        step::NetworkChange,
    },
    topology::Leases,
    why::Foreign,
};

/// How often a change is built anew because someone else was faster.
const TRIES: usize = 4;
/// How long a database that restarts is waited for.
const RETURN_LIMIT: Duration = Duration::from_secs(8);

/// The northbound database.
pub struct Northbound {
    database: Database,
    southbound: Option<PathBuf>,
    /// Chassis that nobody waits for.
    away: Mutex<settle::Away>,
}

impl Northbound {
    /// The database behind `socket`. The southbound one is looked for beside it, to name a host that lags behind.
    pub fn new(socket: &Path) -> Self {
        let southbound = socket.parent().map(|folder| folder.join("ovnsb_db.sock"));
        Northbound { database: Database::northbound(socket), southbound, away: Mutex::default() }
    }

    /// From now on these chassis are not waited for.
    pub fn set_away(&self, chassis: settle::Away) {
        *self.away.lock() = chassis;
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
        operations.extend(wanted.iter().flat_map(|_| NAMED.iter().map(|(table, _)| select_names(*table)).chain([select_ways()])));
        let mut results = session.read(operations)?;
        let named = results.split_off(Table::ALL.len());
        let seen = seen_rows(&results);
        let mut strangers = wanted.map(|wanted| seen::strangers(owner, wanted, &named)).unwrap_or_default();
        strangers.extend(wanted.zip(named.last()).into_iter().flat_map(|(wanted, ways)| seen::taken(owner, wanted, ways)));
        Ok((seen.into_iter().map(|seen| seen.row).collect(), strangers))
    }

    /// The addresses of guests' ports: of rows `port/<guest>/<n>` that carry one.
    pub fn leases(&self, owner: &Owner) -> Result<Leases, Problem> {
        let mut session = self.database.open()?;
        let results = session.read(select_ours(owner))?;
        Ok(seen_rows(&results).iter().filter_map(|seen| seen::lease(&seen.row)).collect())
    }

    /// Rows that somebody else has put on the deployment's switches and routers.
    pub fn foreign(&self, owner: &Owner) -> Result<Vec<Foreign>, Problem> {
        foreign::rows(&mut self.database.open()?, owner)
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
        let away = || self.away.lock().clone();
        settle::wait(&self.database, self.southbound.as_deref(), target, &away, cancel, say)
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

/// Every way to a network of the hosts, whoever made it.
fn select_ways() -> Value {
    let ways = json!([["type", "==", "localnet"]]);
    json!({"op": "select", "table": Table::LogicalSwitchPort.name(), "where": ways, "columns": ["options", EXTERNAL_IDS]})
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
