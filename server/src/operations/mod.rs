//! Actions: one owner per deployment, each action in a thread of its own, its outcome on record.
//!
//! ```text
//!            ┌─ refused: busy, not_found, unavailable
//! start ──── ┤
//!            └─ running ──┬─ succeeded                     (error code 0)
//!                         ├─ failed, cancelled             (the problem's code)
//!                         └─ interrupted                   (written by the next server: `recovery`)
//! ```
//!
//! Must not know HTTP, websockets or libvirt: it is asked by handlers and asks the [`driver::Driver`].

mod captures;
pub mod check;
pub mod consoles;
mod copies;
pub mod driver;
pub mod export;
pub mod far_console;
pub mod fleet;
pub mod images;
pub mod index;
pub mod journal;
pub mod local;
pub mod output;
pub mod perform;
pub mod projects;
pub mod recovery;
pub mod removal;
pub mod snapshots;
pub mod table;
mod view;
pub mod why;

use std::{path::PathBuf, sync::Arc};

use chrono::Utc;
use kvm_compose::{
    api::{
        ActionRequest, ActionState, Command, LogEntry, OperationSummary, Phase, RunState,
        copy::{GuestPath, PathSeen},
        link::LinkReport,
    },
    backend::local::CopySpool,
    error::{Code, Problem},
    names::{DeploymentName, GuestName},
    orchestrate::host::Cancel,
};
use parking_lot::RwLock;
use tokio::sync::{broadcast, watch};
use uuid::Uuid;

use crate::{
    data::DataDir,
    metrics::Metrics,
    store::{DeploymentRecord, Store, Versioned, reserve::Reserve},
};
use consoles::{Consoles, Viewer};
use driver::{CaptureLimits, Driver, View};
use index::Indexes;
use journal::{Bus, End, Journal, Progress};
use table::{Running, Slot, Table};

/// Events that a watcher may be behind before it is told to come back.
const BUS_LENGTH: usize = 256;

/// Bounds that may change while the server runs.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of log and journal that one action may write.
    pub log_bytes: u64,
    /// Ended actions kept per deployment.
    pub log_entries: usize,
}

/// All actions of the server.
pub struct Operations {
    /// The records.
    pub store: Store,
    /// Where files are.
    pub data: DataDir,
    /// Room for `down` on a full disk.
    pub reserve: Reserve,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Consoles that somebody looks at.
    pub consoles: Arc<Consoles>,
    driver: Arc<dyn Driver>,
    table: Table,
    indexes: Indexes,
    bus: Bus,
    limits: RwLock<Limits>,
}

/// What a follower of an action needs.
pub struct Followed {
    /// The log.
    pub log: PathBuf,
    /// The journal.
    pub events: PathBuf,
    /// How far they have come.
    pub progress: watch::Receiver<Progress>,
}

impl Operations {
    /// Actions over a store and a driver.
    pub fn new(store: Store, data: DataDir, driver: Arc<dyn Driver>, limits: Limits, metrics: Arc<Metrics>) -> Result<Arc<Self>, Problem> {
        let indexes = Indexes::open(&data)?;
        let reserve = Reserve::of(data.root());
        if let Err(problem) = reserve.fill() {
            tracing::warn!(%problem, causes = ?problem.causes, "no room is set aside for `down` on a full disk");
        }
        let operations = Operations {
            reserve,
            store,
            data,
            metrics,
            consoles: Arc::default(),
            driver,
            table: Table::default(),
            indexes,
            bus: broadcast::channel(BUS_LENGTH).0,
            limits: RwLock::new(limits),
        };
        Ok(Arc::new(operations))
    }

    /// The driver; it blocks.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// Events of all actions from now on.
    pub fn events(&self) -> broadcast::Receiver<Arc<journal::Live>> {
        self.bus.subscribe()
    }

    /// Changes the bounds for actions that start from now on.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.write() = limits;
    }

    /// Starts an action on a deployment. Fails with `busy` while another one owns it. Blocks for some disk writes.
    pub fn start(self: &Arc<Self>, name: &DeploymentName, request: ActionRequest) -> Result<Uuid, Problem> {
        perform::check(&request)?;
        if let ActionRequest::Up(options) = &request {
            self.check_guests(name, &options.guests)?;
        }
        if request.command() != Command::Down {
            return self.start_checked(name, request);
        }
        // Its log comes before it makes room.
        self.reserve.give_up_if_low();
        match self.start_checked(name, request.clone()) {
            Err(problem) if problem.code == Code::DiskFull && self.reserve.give_up() => self.start_checked(name, request),
            other => other,
        }
    }

    fn start_checked(self: &Arc<Self>, name: &DeploymentName, request: ActionRequest) -> Result<Uuid, Problem> {
        let uuid = Uuid::now_v7();
        let slot = self.table.claim(name, request.command(), uuid, || match self.record(name) {
            // A draft is all that its plan needs.
            Err(problem) if problem.code == Code::NotFound && perform::brings_a_draft(&request) => crate::store::check_new_name(name),
            other => other.map(|_| ()),
        })?;
        self.launch(slot, perform::Job::Action(request))
    }

    fn launch(self: &Arc<Self>, slot: Slot<'_>, job: perform::Job) -> Result<Uuid, Problem> {
        let limits = *self.limits.read();
        let (name, uuid, command) = (slot.deployment().clone(), slot.uuid(), slot.command());
        let journal = Journal::create(&self.data.orchestration(), &name, uuid, self.bus.clone(), limits.log_bytes)?;
        let paths = journal.paths().clone();
        let entry = LogEntry {
            log_path: paths.log.display().to_string(),
            events_path: paths.events.display().to_string(),
            error_code: None,
            command,
            started: Utc::now(),
            ended: None,
            state: ActionState::Running,
            problem: None,
            exit_status: None,
            result: None,
        };
        let running = Running { uuid, deployment: name.clone(), started: entry.started, command, cancel: Cancel::new(), journal };
        let recorded = self.put_entry(command, &name, uuid, entry, limits.log_entries);
        if let Err(problem) = recorded {
            index::remove_files(&paths);
            return Err(problem);
        }
        let running = slot.run(running);
        let thread = std::thread::Builder::new().name(format!("op-{name}")).spawn({
            let (operations, running) = (self.clone(), running.clone());
            move || operations.perform(&running, &job)
        });
        if let Err(error) = thread {
            let problem = Problem::new(Code::Unavailable, "no thread can be started for the action").cause(error);
            self.finish(&running, perform::Outcome::failed(problem.clone()));
            return Err(problem);
        }
        tracing::info!(deployment = %name, action = %uuid, %command, "action started");
        Ok(uuid)
    }

    /// Asks an action to stop. Fails with `not_found` or, when it has ended, with `conflict`.
    pub fn cancel(&self, name: &DeploymentName, uuid: Uuid) -> Result<(), Problem> {
        if let Some(running) = self.table.running(uuid).filter(|running| running.deployment == *name && !running.command.is_on_images()) {
            tracing::info!(deployment = %name, action = %uuid, "action is asked to stop");
            running.cancel.cancel();
            return Ok(());
        }
        let entry = self.entry_or_no_deployment(name, uuid)?;
        Err(Problem::new(Code::Conflict, format!("the action {uuid} has ended already: {}", entry.state)))
    }

    /// Observes a deployment and forgets that its last change failed: its state follows from its phase again. Blocks.
    pub fn reset(&self, name: &DeploymentName) -> Result<Versioned<DeploymentRecord>, Problem> {
        let _claim = self.table.claim_removal(name)?;
        self.record(name)?;
        let phase = self.driver.observe(name, self.project(name)).phase;
        let changed = crate::store::update(&*self.store.deployments, name, |record| {
            record.phase = phase;
            record.forgiven = record.last_change.as_ref().map(|change| change.uuid);
        })?;
        changed.ok_or_else(|| crate::error::no_deployment(name))
    }

    /// A deployment's record, or `not_found`.
    pub fn record(&self, name: &DeploymentName) -> Result<Versioned<DeploymentRecord>, Problem> {
        let found = self.store.deployments.get(name)?.ok_or_else(|| crate::error::no_deployment(name))?;
        Ok(self.with_unsaved(found))
    }

    /// All deployments' records, by name.
    pub fn records(&self) -> Result<Vec<Versioned<DeploymentRecord>>, Problem> {
        Ok(self.store.deployments.list()?.into_iter().map(|(_, found)| self.with_unsaved(found)).collect())
    }

    /// The files of an action on a deployment and how far they have come.
    pub fn follow(&self, name: &DeploymentName, uuid: Uuid) -> Result<Followed, Problem> {
        self.follow_entry(uuid, || self.entry(name, uuid))
    }

    fn follow_entry(&self, uuid: Uuid, entry: impl Fn() -> Result<LogEntry, Problem>) -> Result<Followed, Problem> {
        let mut found = entry()?;
        let progress = match self.table.running(uuid) {
            Some(running) => running.journal.watch(),
            None => {
                // It may have ended between the two looks; its outcome was on record before it left the table.
                found = entry()?;
                if found.state == ActionState::Running {
                    return Err(Problem::new(Code::Unavailable, format!("the action {uuid} is about to start")).hint("try again"));
                }
                let length = |path: &str| std::fs::metadata(path).map_or(0, |found| found.len());
                let end = End { state: found.state, error_code: found.error_code.unwrap_or(0) };
                watch::channel(Progress { log: length(&found.log_path), events: length(&found.events_path), end: Some(end) }).1
            }
        };
        Ok(Followed { log: found.log_path.into(), events: found.events_path.into(), progress })
    }

    /// Observes a deployment and takes note of its phase. Blocks.
    pub fn observe(&self, name: &DeploymentName) -> Result<View, Problem> {
        let before = self.record(name)?;
        let view = self.driver.observe(name, self.project(name));
        // What was seen while an action changes it, or before a change that is on record, is not the last word.
        if before.value.phase != view.phase && !self.table.is_owned(name) {
            let mut record = DeploymentRecord::clone(&before.value);
            record.phase = view.phase;
            match self.store.deployments.put(name, record, crate::store::Expected::Revision(before.revision)) {
                Ok(_) => {}
                Err(problem) => tracing::debug!(deployment = %name, %problem, "the phase was not put on record"),
            }
        }
        Ok(view)
    }

    /// Links of guests, asked and measured. Blocks, with `probe` for some seconds.
    pub fn links(&self, name: &DeploymentName, only: &dyn Fn(&GuestName, &str) -> bool, probe: bool) -> Result<Vec<LinkReport>, Problem> {
        self.record(name)?;
        self.driver.links(&self.project(name)?, only, probe)
    }

    /// Captures what passes interfaces of guests, as [`Driver::capture`] does; a few at once. Blocks.
    pub fn capture(
        &self,
        name: &DeploymentName,
        wanted: &[(GuestName, Option<String>)],
        limits: &CaptureLimits,
        write: &mut dyn FnMut(Vec<u8>) -> bool,
    ) -> Result<(), Problem> {
        self.record(name)?;
        self.driver.capture(&self.project(name)?, wanted, limits, write)
    }

    /// A look at a guest's serial console, shared with whoever looks at it already. Blocks.
    pub fn console(&self, name: &DeploymentName, guest: &GuestName) -> Result<Viewer, Problem> {
        self.record(name)?;
        self.consoles.join(name, guest, || self.driver.console(name, guest))
    }

    /// What is at a path in a guest. Blocks.
    pub fn look_at_path(&self, name: &DeploymentName, guest: &GuestName, path: &GuestPath) -> Result<PathSeen, Problem> {
        self.record(name)?;
        self.driver.look_at_path(name, guest, path)
    }

    /// A file for an archive on its way into a guest. Blocks.
    pub fn copy_spool(&self, name: &DeploymentName) -> Result<CopySpool, Problem> {
        self.record(name)?;
        self.driver.copy_spool(name)
    }

    /// Unpacks an archive into a folder of a guest. Blocks.
    pub fn put_files(
        &self,
        name: &DeploymentName,
        guest: &GuestName,
        folder: &GuestPath,
        archive: &CopySpool,
        cancel: &Cancel,
    ) -> Result<(), Problem> {
        self.driver.put_files(name, guest, folder, archive, cancel)
    }

    /// Packs a path of a guest, until nobody reads. Blocks.
    pub fn get_files(
        &self,
        name: &DeploymentName,
        guest: &GuestName,
        path: &GuestPath,
        cancel: &Cancel,
        write: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), Problem> {
        self.record(name)?;
        self.driver.get_files(name, guest, path, cancel, write)
    }

    /// What a guest has said, or its last lines. Blocks.
    pub fn said(&self, name: &DeploymentName, guest: &GuestName, last: Option<u32>) -> Result<Vec<u8>, Problem> {
        self.record(name)?;
        self.driver.said(name, guest, last)
    }

    /// The action that has a deployment to itself, or else the last one that ended. What is run in guests never counts.
    pub fn last_action(&self, record: &DeploymentRecord) -> Option<OperationSummary> {
        let running = self.table.owner(&record.name).map(|running| OperationSummary {
            uuid: running.uuid,
            command: running.command,
            state: ActionState::Running,
            error_code: None,
            started: running.started,
            ended: None,
        });
        running.or_else(|| record.last_action.clone())
    }

    /// The actions that run now.
    pub fn running(&self) -> Vec<Arc<Running>> {
        self.table.all()
    }

    /// Refuses new actions from now on and asks those that run to stop.
    pub fn stop(&self) {
        self.table.close();
        for running in self.table.all() {
            running.cancel.cancel();
        }
    }

    /// How many actions run, now and from now on.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.table.count()
    }
}

/// The one word that a list shows, and the command that failed.
pub fn run_state(record: &DeploymentRecord, phase: Phase, last_action: Option<&OperationSummary>) -> (RunState, Option<Command>) {
    if last_action.is_some_and(|action| action.state == ActionState::Running) {
        return (RunState::Running, None);
    }
    let change = record.last_change.as_ref();
    match change {
        Some(change) if change.state != ActionState::Succeeded && record.forgiven != Some(change.uuid) => {
            (RunState::Failed, Some(change.command))
        }
        _ => match (phase, change.map(|change| change.command)) {
            (Phase::Up | Phase::Partial, _) | (Phase::Unknown, Some(Command::Up)) => (RunState::Up, None),
            (Phase::Down | Phase::Unknown, _) => (RunState::Down, None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(command: Command, state: ActionState) -> OperationSummary {
        OperationSummary { uuid: Uuid::nil(), command, state, error_code: None, started: Utc::now(), ended: None }
    }

    #[test]
    fn the_state_is_derived_from_phase_and_the_last_change() {
        let mut record = DeploymentRecord {
            name: DeploymentName::new("lab").expect("valid"),
            project_location: None,
            created: Utc::now(),
            phase: Phase::Down,
            last_action: None,
            last_change: None,
            forgiven: None,
            file: None,
        };
        assert_eq!(run_state(&record, Phase::Down, None), (RunState::Down, None));
        assert_eq!(run_state(&record, Phase::Unknown, None), (RunState::Down, None));
        for (command, state, phase, expected) in [
            (Command::Up, ActionState::Succeeded, Phase::Up, (RunState::Up, None)),
            (Command::Up, ActionState::Succeeded, Phase::Partial, (RunState::Up, None)),
            (Command::Up, ActionState::Succeeded, Phase::Unknown, (RunState::Up, None)),
            (Command::Up, ActionState::Succeeded, Phase::Down, (RunState::Down, None)),
            (Command::Down, ActionState::Succeeded, Phase::Down, (RunState::Down, None)),
            (Command::Down, ActionState::Failed, Phase::Partial, (RunState::Failed, Some(Command::Down))),
            (Command::Up, ActionState::Interrupted, Phase::Up, (RunState::Failed, Some(Command::Up))),
            (Command::Up, ActionState::Cancelled, Phase::Down, (RunState::Failed, Some(Command::Up))),
        ] {
            record.note(action(command, state));
            assert_eq!(run_state(&record, phase, record.last_action.as_ref()), expected, "{command} {state} {phase:?}");
        }
        record.note(action(Command::Up, ActionState::Succeeded));
        record.note(action(Command::Exec, ActionState::Failed));
        assert_eq!(record.last_action.as_ref().map(|action| action.command), Some(Command::Up), "what is run in a guest is not noted");
        record.note(action(Command::Plan, ActionState::Failed));
        assert_eq!(run_state(&record, Phase::Up, record.last_action.as_ref()), (RunState::Up, None));
        let running = action(Command::Plan, ActionState::Running);
        assert_eq!(run_state(&record, Phase::Up, Some(&running)), (RunState::Running, None));
    }
}
