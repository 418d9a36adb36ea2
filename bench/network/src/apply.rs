//! The same network applied by the testbed, and by hand with `ovn-nbctl`. Everything is taken away again.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use kvm_compose::{
    backend::{
        Owner,
        network::{Northbound, ovsdb::Database},
    },
    names::{DeploymentName, InstallationId},
    orchestrate::host::Cancel,
    plan::{
        self,
        blueprint::{Blueprint, Column, Row, Table},
        step::NetworkChange,
    },
};
use serde_json::json;
use uuid::Uuid;

/// How long a change took, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// Until the database had it.
    pub committed: f64,
    /// Until every chassis had it.
    pub everywhere: f64,
}

/// OVN's northbound database.
pub struct Ovn {
    socket: PathBuf,
    owner: Owner,
}

impl Ovn {
    /// A northbound database, and an installation of our own there.
    pub fn new(socket: &Path) -> Result<Self> {
        let deployment = DeploymentName::new("bench-network").map_err(|problem| anyhow!("{problem}"))?;
        Ok(Ovn { socket: socket.to_path_buf(), owner: Owner { installation: InstallationId(Uuid::new_v4()), deployment } })
    }

    /// Whose the network is.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// By the testbed: one transaction, and a wait until every chassis has it.
    pub fn testbed(&self, blueprint: &Blueprint) -> Result<Took> {
        let change = plan::diff_rows(&blueprint.rows, &[]);
        let witness = name(last(&blueprint.rows, Table::LogicalSwitch)?)?;
        self.timed(&witness, || self.apply(&change))
    }

    /// Takes away what the testbed made; returns how long that took.
    pub fn remove(&self) -> Result<f64> {
        let (rows, _) = Northbound::new(&self.socket).observe(&self.owner, None).map_err(|problem| anyhow!("{problem}"))?;
        let begun = Instant::now();
        self.apply(&plan::diff_rows(&[], &rows))?;
        Ok(begun.elapsed().as_secs_f64())
    }

    fn apply(&self, change: &NetworkChange) -> Result<()> {
        let applied = Northbound::new(&self.socket).apply(&self.owner, Uuid::new_v4(), change, &Cancel::new(), &|_| {});
        applied.map_err(|problem| anyhow!("{problem} {:?}", problem.causes))
    }

    /// By hand: all commands joined by `--`, one process, one transaction.
    pub fn joined(&self, commands: &[Vec<String>], witness: &str) -> Result<Took> {
        let arguments: Vec<&str> =
            commands.iter().enumerate().flat_map(|(index, command)| separator(index).chain(words(command))).collect();
        self.timed(witness, || self.nbctl(&[&["--wait=hv"], arguments.as_slice()].concat()))
    }

    /// By hand: a process for each command. Only the last one waits for the chassis.
    pub fn one_by_one(&self, commands: &[Vec<String>]) -> Result<f64> {
        let begun = Instant::now();
        for command in commands {
            self.nbctl(&words(command).collect::<Vec<_>>())?;
        }
        self.nbctl(&["--wait=hv", "sync"])?;
        Ok(begun.elapsed().as_secs_f64())
    }

    fn nbctl(&self, arguments: &[&str]) -> Result<()> {
        let database = format!("--db=unix:{}", self.socket.display());
        let out = Command::new("ovn-nbctl").arg(database).args(arguments).stdin(Stdio::null()).output().context("starting ovn-nbctl")?;
        ensure!(out.status.success(), "ovn-nbctl: {}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    }

    /// Times a change; a second connection watches for the switch that it makes.
    fn timed(&self, witness: &str, change: impl FnOnce() -> Result<()>) -> Result<Took> {
        let over = AtomicBool::new(false);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let watching = scope.spawn(|| self.watch(witness, begun, &over));
            let changed = change();
            let everywhere = begun.elapsed().as_secs_f64();
            over.store(true, Ordering::Relaxed);
            let committed = watching.join().map_err(|_| anyhow!("the watcher panicked"))??;
            changed?;
            Ok(Took { committed: committed.unwrap_or(everywhere), everywhere })
        })
    }

    fn watch(&self, witness: &str, begun: Instant, over: &AtomicBool) -> Result<Option<f64>> {
        let mut session = Database::northbound(&self.socket).open().map_err(|problem| anyhow!("{problem}"))?;
        let select = json!({"op": "select", "table": "Logical_Switch", "where": [["name", "==", witness]], "columns": ["name"]});
        while !over.load(Ordering::Relaxed) {
            let found = session.read(vec![select.clone()]).map_err(|problem| anyhow!("{problem}"))?;
            if found[0]["rows"].as_array().is_some_and(|rows| !rows.is_empty()) {
                return Ok(Some(begun.elapsed().as_secs_f64()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(None)
    }
}

fn separator<'a>(index: usize) -> impl Iterator<Item = &'a str> {
    (index > 0).then_some("--").into_iter()
}

fn words(command: &[String]) -> impl Iterator<Item = &str> {
    command.iter().map(String::as_str)
}

fn last(rows: &[Row], table: Table) -> Result<&Row> {
    rows.iter().rev().find(|row| row.table == table).context("the network has no switch")
}

fn name(row: &Row) -> Result<String> {
    match row.columns.get("name") {
        Some(Column::Text(name)) => Ok(name.clone()),
        _ => Err(anyhow!("a row without a name")),
    }
}
