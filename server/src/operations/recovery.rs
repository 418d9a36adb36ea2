//! What the start does with actions that a killed server left open: they are ended as `interrupted`, on record and in
//! their logs, and the true phase of their deployments is observed.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc, time::Duration};

use chrono::Utc;
use kvm_compose::{
    api::{ActionState, Command, LogEntry, Phase},
    error::{Code, Problem},
    names::DeploymentName,
    orchestrate::event::{Event, EventKind},
};
use uuid::Uuid;

use super::{
    Operations,
    index::images_owner,
    journal::{Paths, end_interrupted, interrupted_problem, millis},
};
use crate::store::{self, records};

/// Logs that no index knows (their index was lost, or the server died while an action began) are kept this long.
const STRAY_LOG_AGE: Duration = Duration::from_secs(14 * 24 * 3600);

impl Operations {
    /// Ends every action that is open on record. Called once, before the first request. Returns the deployments concerned.
    pub fn recover(&self) -> Result<Vec<DeploymentName>, Problem> {
        let mut interrupted = Vec::new();
        for (name, index) in self.store.logs.list()? {
            for (uuid, entry) in index.value.0.iter().filter(|(_, entry)| entry.state == ActionState::Running) {
                self.end_open(&name, *uuid, entry.clone())?;
                interrupted.push(name.clone());
            }
            self.mend_record(&name)?;
        }
        let images = images_owner()?;
        for (uuid, entry) in self.image_index().0.iter().filter(|(_, entry)| entry.state == ActionState::Running) {
            self.end_open(&images, *uuid, entry.clone())?;
        }
        self.remove_stray_logs()?;
        interrupted.dedup();
        Ok(interrupted)
    }

    fn end_open(&self, name: &DeploymentName, uuid: Uuid, mut entry: LogEntry) -> Result<(), Problem> {
        let (ended, problem) = (Utc::now(), interrupted_problem());
        let kind = EventKind::Finished {
            state: ActionState::Interrupted.to_string(),
            error_code: Code::Interrupted.number(),
            problem: Some(problem.clone()),
            millis: millis(entry.started, ended),
        };
        let paths = Paths { log: PathBuf::from(&entry.log_path), events: PathBuf::from(&entry.events_path) };
        if let Err(problem) = end_interrupted(&paths, &Event { at: ended, operation: uuid, deployment: name.clone(), kind }) {
            tracing::error!(deployment = %name, action = %uuid, %problem, "the log of an interrupted action cannot be ended");
        }
        entry.state = ActionState::Interrupted;
        entry.error_code = Some(Code::Interrupted.number());
        entry.ended = Some(ended);
        entry.problem = Some(problem);
        tracing::warn!(deployment = %name, action = %uuid, command = %entry.command, "an action was interrupted by the end of the last server");
        self.put_entry(entry.command, name, uuid, entry, usize::MAX)
    }

    /// The index is written before the record: after a kill in between, the record is brought up to it.
    fn mend_record(&self, name: &DeploymentName) -> Result<(), Problem> {
        let counts = |entry: &LogEntry| entry.ended.is_some() && !entry.command.is_beside();
        let mut ended: Vec<_> = self.index(name)?.0.into_iter().filter(|(_, entry)| counts(entry)).collect();
        ended.sort_by_key(|(_, entry)| entry.ended);
        let last = ended.last().map(|(uuid, entry)| records::summary(*uuid, entry));
        let is_change = |(_, entry): &&(Uuid, LogEntry)| matches!(entry.command, Command::Up | Command::Down);
        let change = ended.iter().rfind(is_change).map(|(uuid, entry)| records::summary(*uuid, entry));
        let Some(record) = self.store.deployments.get(name)? else { return Ok(()) };
        if record.value.last_action == last && record.value.last_change == change {
            return Ok(());
        }
        let changed = change.is_some() && record.value.last_change != change;
        store::update(&*self.store.deployments, name, |record| {
            record.last_action = last.clone();
            if changed {
                // Nobody looked since: until someone does, the phase is not known.
                record.last_change = change.clone();
                record.phase = Phase::Unknown;
            }
        })?;
        Ok(())
    }

    /// Observes deployments in a thread of its own, so that the server answers meanwhile.
    pub fn observe_in_background(self: &Arc<Self>, names: Vec<DeploymentName>) {
        let operations = self.clone();
        let spawned = std::thread::Builder::new().name("recovery".to_string()).spawn(move || {
            for name in names {
                let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| operations.observe(&name)));
                match seen {
                    Ok(Ok(view)) => tracing::info!(deployment = %name, phase = ?view.phase, "looked at again"),
                    Ok(Err(problem)) => tracing::warn!(deployment = %name, %problem, "cannot be observed"),
                    Err(_) => tracing::error!(deployment = %name, "the observation panicked"),
                }
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread can be started to look at deployments");
        }
    }

    /// Deployments whose phase nobody knows, or whose last change did not end by itself.
    pub fn to_observe(&self) -> Result<Vec<DeploymentName>, Problem> {
        let all = self.store.deployments.list()?.into_iter();
        let doubtful = all.filter(|(_, record)| {
            let interrupted = record.value.last_change.as_ref().is_some_and(|change| change.state == ActionState::Interrupted);
            interrupted || record.value.phase == Phase::Unknown
        });
        Ok(doubtful.map(|(name, _)| name).collect())
    }

    fn remove_stray_logs(&self) -> Result<(), Problem> {
        let mut known = BTreeSet::new();
        let indexes = self.store.logs.list()?.into_iter().map(|(_, index)| index.value);
        for index in indexes.chain([Arc::new(self.image_index())]) {
            for entry in index.0.values() {
                let paths = Paths { log: entry.log_path.clone().into(), events: entry.events_path.clone().into() };
                known.extend([paths.result(), paths.log, paths.events]);
            }
        }
        let folder = self.data.orchestration();
        let failed = |error: std::io::Error| Problem::io(format_args!("cannot read {}", folder.display()), &error);
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let age = entry.metadata().and_then(|found| found.modified()).map(|at| at.elapsed().unwrap_or_default());
            if !known.contains(&entry.path()) && age.is_ok_and(|age| age > STRAY_LOG_AGE) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }
}
