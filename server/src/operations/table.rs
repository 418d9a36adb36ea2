//! Who runs now, and who owns which deployment.
//!
//! `up`, `down`, `plan`, `set_link`, `start`, `stop`, `restart`, `pause` and `resume` own their deployment alone, the building of the
//! micro image that image; `exec`, `check` and `why`, and what downloads images or takes them in, run beside them, many at once.
//! Must not know what an action does.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use kvm_compose::{
    api::Command,
    error::{Code, Problem},
    names::DeploymentName,
    orchestrate::host::Cancel,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

use super::journal::Journal;

/// An action at work.
pub struct Running {
    /// Its id.
    pub uuid: Uuid,
    /// The deployment.
    pub deployment: DeploymentName,
    /// What was asked.
    pub command: Command,
    /// When it was accepted.
    pub started: DateTime<Utc>,
    /// Asks it to stop.
    pub cancel: Cancel,
    /// Its files.
    pub journal: Journal,
}

/// All claims and all actions at work.
pub struct Table {
    claims: Mutex<Claims>,
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct Claims {
    closed: bool,
    // The image builder's key is a name that a deployment may have as well, so the kind is part of the key.
    owners: BTreeMap<(Kind, DeploymentName), Owner>,
    beside: BTreeMap<(Kind, DeploymentName), usize>,
    running: BTreeMap<Uuid, Arc<Running>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Deployment,
    Images,
}

#[derive(Clone, Copy)]
enum Owner {
    Action(Uuid, Command),
    Removal,
}

impl Default for Table {
    fn default() -> Self {
        Table { claims: Mutex::default(), count: watch::channel(0).0 }
    }
}

/// A claim that is given back when it is dropped before the action runs.
pub struct Slot<'a> {
    table: &'a Table,
    deployment: DeploymentName,
    command: Command,
    uuid: Uuid,
    held: bool,
}

/// The claim of whoever changes a deployment's record without an action (a removal, a reset), given back when it is dropped.
pub struct RemovalClaim<'a> {
    table: &'a Table,
    deployment: DeploymentName,
}

impl Drop for RemovalClaim<'_> {
    fn drop(&mut self) {
        self.table.claims.lock().owners.remove(&(Kind::Deployment, self.deployment.clone()));
    }
}

impl Slot<'_> {
    /// The deployment it is for.
    pub fn deployment(&self) -> &DeploymentName {
        &self.deployment
    }

    /// The action's id.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The action's command.
    pub fn command(&self) -> Command {
        self.command
    }

    /// The action runs: the claim is held until [`Table::release`].
    pub fn run(mut self, running: Running) -> Arc<Running> {
        let running = Arc::new(running);
        let mut claims = self.table.claims.lock();
        claims.running.insert(self.uuid, running.clone());
        self.table.count.send_replace(claims.running.len());
        self.held = false;
        running
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if self.held {
            self.table.claims.lock().give_back(&self.deployment, self.command);
        }
    }
}

impl Claims {
    fn give_back(&mut self, deployment: &DeploymentName, command: Command) {
        let key = (kind(command), deployment.clone());
        if owns(command) {
            self.owners.remove(&key);
        } else if let Some(count) = self.beside.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.beside.remove(&key);
            }
        }
    }
}

/// What a command is about.
fn kind(command: Command) -> Kind {
    if command.is_on_images() { Kind::Images } else { Kind::Deployment }
}

/// True for commands that have it to themselves; others run beside them.
fn owns(command: Command) -> bool {
    match command {
        Command::Up | Command::Down | Command::Plan | Command::SetLink | Command::Snapshot | Command::BuildImage => true,
        Command::Start | Command::Stop | Command::Restart | Command::Pause | Command::Resume => true,
        Command::Exec | Command::Check | Command::Why | Command::PullImage | Command::ImportImage => false,
    }
}

fn busy(deployment: &DeploymentName, owner: Owner) -> Problem {
    match owner {
        Owner::Action(uuid, command) => {
            Problem::new(Code::Busy, format!("`{deployment}` is busy: the action {uuid} ({command}) runs on it"))
                .hint(format!("follow it with `testbed logs -f {uuid}`, or stop it with `testbed cancel {uuid}`; then try again"))
        }
        Owner::Removal => Problem::new(Code::Busy, format!("`{deployment}` is busy: it is being removed or reset")),
    }
}

impl Table {
    /// Claims a deployment for a command. `exists` is asked under the lock, so that no removal comes in between.
    pub fn claim(
        &self,
        deployment: &DeploymentName,
        command: Command,
        uuid: Uuid,
        exists: impl FnOnce() -> Result<(), Problem>,
    ) -> Result<Slot<'_>, Problem> {
        let mut claims = self.claims.lock();
        if claims.closed {
            return Err(
                Problem::new(Code::Unavailable, "the server is stopping and takes no new actions").hint("try again when it is back")
            );
        }
        exists()?;
        let key = (kind(command), deployment.clone());
        match claims.owners.get(&key) {
            Some(owner) if owns(command) => return Err(busy(deployment, *owner)),
            Some(Owner::Removal) => return Err(busy(deployment, Owner::Removal)),
            _ if owns(command) => {
                claims.owners.insert(key, Owner::Action(uuid, command));
            }
            _ => *claims.beside.entry(key).or_insert(0) += 1,
        }
        Ok(Slot { table: self, deployment: deployment.clone(), command, uuid, held: true })
    }

    /// Claims a deployment for its removal or reset: nothing may run on it.
    pub fn claim_removal(&self, deployment: &DeploymentName) -> Result<RemovalClaim<'_>, Problem> {
        let mut claims = self.claims.lock();
        let key = (Kind::Deployment, deployment.clone());
        if let Some(owner) = claims.owners.get(&key) {
            return Err(busy(deployment, *owner));
        }
        if claims.beside.contains_key(&key) {
            let is_beside = |running: &&Arc<Running>| running.deployment == *deployment && kind(running.command) == Kind::Deployment;
            let beside = claims.running.values().find(is_beside);
            let owner = beside.map_or(Owner::Removal, |running| Owner::Action(running.uuid, running.command));
            return Err(busy(deployment, owner));
        }
        claims.owners.insert(key, Owner::Removal);
        Ok(RemovalClaim { table: self, deployment: deployment.clone() })
    }

    /// Gives back what an action that ran had claimed.
    pub fn release(&self, running: &Running) {
        let mut claims = self.claims.lock();
        claims.running.remove(&running.uuid);
        claims.give_back(&running.deployment, running.command);
    }

    /// Tells whoever counts, once followers know of the end: a server that stops closes connections when none is left.
    pub fn recount(&self) {
        let claims = self.claims.lock();
        self.count.send_replace(claims.running.len());
    }

    /// An action at work.
    pub fn running(&self, uuid: Uuid) -> Option<Arc<Running>> {
        self.claims.lock().running.get(&uuid).cloned()
    }

    /// The action that has the deployment to itself; those beside it (`exec`) say nothing about the deployment.
    pub fn owner(&self, deployment: &DeploymentName) -> Option<Arc<Running>> {
        let claims = self.claims.lock();
        let owns = |running: &&Arc<Running>| {
            running.deployment == *deployment && owns(running.command) && kind(running.command) == Kind::Deployment
        };
        claims.running.values().find(owns).cloned()
    }

    /// True while one action has the deployment to itself.
    pub fn is_owned(&self, deployment: &DeploymentName) -> bool {
        self.claims.lock().owners.contains_key(&(Kind::Deployment, deployment.clone()))
    }

    /// All actions at work.
    pub fn all(&self) -> Vec<Arc<Running>> {
        self.claims.lock().running.values().cloned().collect()
    }

    /// Refuses claims from now on.
    pub fn close(&self) {
        self.claims.lock().closed = true;
    }

    /// How many actions are at work, now and from now on.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}
