//! Snapshots as actions: what is on record of the testbed file goes into them and comes back out of them.
//!
//! ```text
//! create    sweep ─► driver.take_snapshot
//! restore   sweep ─► checked, staged ─► mark ─► the file, the guests ─► mark away
//! ```
//!
//! A server that died in between leaves marks: [`Operations::mend_snapshots`] gives up or finishes what they speak of, before the
//! next action and when a server starts. Must not know libvirt.

pub mod driver;

use std::sync::Arc;

use kvm_compose::{
    api::{
        ActionRequest, SnapshotInfo,
        snapshot::{GuestReport, SnapshotOperation, SnapshotReport, SnapshotRequest},
    },
    backend::{files::sums::hexadecimal, snapshots::Restoring},
    error::{Code, Problem},
    names::{DeploymentName, SnapshotName},
    orchestrate::{Operation, event::EventKind},
    plan::snapshot::SavedTestbed,
    spec::Sources,
};
use sha2::{Digest as _, Sha256};

use super::{Operations, driver::Project, perform::Outcome, projects};

/// What a restore does with the testbed file on record.
pub trait Kept {
    /// The testbed, read from a snapshot's file or else from the one on record.
    fn project(&self, saved: Option<&SavedTestbed>) -> Result<Project, Problem>;

    /// SHA-256 of the file on record.
    fn digest(&self) -> Result<String, Problem>;

    /// Puts a snapshot's file, and all that came with it, on record.
    fn put(&self, saved: &SavedTestbed) -> Result<(), Problem>;
}

struct OnRecord<'a> {
    operations: &'a Operations,
    name: &'a DeploymentName,
}

impl Kept for OnRecord<'_> {
    fn project(&self, saved: Option<&SavedTestbed>) -> Result<Project, Problem> {
        let Some(saved) = saved else { return self.operations.project(self.name) };
        let folder = self.operations.project_folder(self.name)?;
        let sources = Sources { composition: saved.composition.clone(), ..Sources::alone(&saved.file, &saved.text) };
        Ok(projects::whole(self.name, sources, folder))
    }

    fn digest(&self) -> Result<String, Problem> {
        Ok(hexadecimal(&Sha256::digest(self.operations.yaml(self.name)?)))
    }

    fn put(&self, saved: &SavedTestbed) -> Result<(), Problem> {
        self.operations.keep_composition(self.name, &saved.composition)?;
        self.operations.put_yaml(self.name, saved.text.as_bytes(), Some(saved.file.clone()))
    }
}

impl Operations {
    /// Carries out the action.
    pub(super) fn snapshot(&self, name: &DeploymentName, request: &SnapshotRequest, operation: &Operation<'_>) -> Result<Outcome, Problem> {
        let (pause_ms, guests, outcome) = match request.operation {
            SnapshotOperation::Create => {
                let (guests, outcome) = self.driver().take_snapshot(&self.project(name)?, request, operation);
                (outcome.as_ref().ok().copied(), guests, outcome.map(|_| ()))
            }
            SnapshotOperation::Restore => {
                let (guests, outcome) = self.restore(name, &request.name, &request.guests, operation);
                (None, guests, outcome)
            }
            SnapshotOperation::Delete => (None, Vec::new(), self.delete_snapshot(name, &request.name)),
        };
        let report = SnapshotReport { name: request.name.clone(), operation: request.operation, pause_ms, guests };
        let result = serde_json::to_value(report).map_err(|error| Problem::internal("a report is not JSON").cause(error))?;
        Ok(Outcome { problem: outcome.err(), exit_status: None, result: Some(result) })
    }

    fn restore(
        &self,
        name: &DeploymentName,
        snapshot: &SnapshotName,
        guests: &[kvm_compose::names::GuestName],
        operation: &Operation<'_>,
    ) -> (Vec<GuestReport>, Result<(), Problem>) {
        let wanted = Restoring { name: snapshot.clone(), guests: guests.to_vec(), replaced: String::new() };
        self.driver().restore_snapshot(name, &wanted, &OnRecord { operations: self, name }, operation)
    }

    fn delete_snapshot(&self, name: &DeploymentName, snapshot: &SnapshotName) -> Result<(), Problem> {
        if self.driver().restoring(name)?.is_some_and(|restoring| restoring.name == *snapshot) {
            return Err(Problem::new(Code::Conflict, format!("a restore of the snapshot `{snapshot}` is not done"))
                .hint("`testbed up` finishes it, `testbed down` gives it up"));
        }
        self.driver().delete_snapshot(name, snapshot)
    }

    /// Before an action that changes something: what a dead server left of snapshots is given up or finished.
    pub(super) fn mend_snapshots(&self, name: &DeploymentName, request: &ActionRequest, operation: &Operation<'_>) -> Result<(), Problem> {
        if request.command().is_beside() || matches!(request, ActionRequest::Plan(_)) {
            return Ok(());
        }
        let gives_up = matches!(request, ActionRequest::Down {});
        let restores = matches!(request, ActionRequest::Snapshot(request) if request.operation != SnapshotOperation::Create);
        for text in self.driver().sweep_snapshots(name)? {
            operation.sink.emit(EventKind::Line { guest: None, text })?;
        }
        match self.driver().restoring(name)? {
            Some(restoring) if !restores && !gives_up => {
                let text = format!("the restore of the snapshot `{}` was not done: it is finished first", restoring.name);
                operation.sink.emit(EventKind::Line { guest: None, text })?;
                self.restore(name, &restoring.name, &restoring.guests, operation).1
            }
            Some(restoring) if gives_up => {
                // What comes up later is the new, as the guests' disks are.
                self.driver().put_restored(name, &restoring, &OnRecord { operations: self, name })
            }
            _ => Ok(()),
        }
    }

    /// After a successful `down` nothing is left to be restored.
    pub(super) fn forget_restore(&self, name: &DeploymentName) -> Result<(), Problem> {
        self.driver().forget_restore(name)
    }

    /// When the server starts: guests that stand still for a snapshot go on, and a restore that was begun is finished as an action of
    /// its own. In a thread, so that the server answers meanwhile.
    pub fn mend_in_background(self: &Arc<Self>) {
        let operations = self.clone();
        let mend = move || {
            let names = operations.store.deployments.list().unwrap_or_default().into_iter().map(|(name, _)| name);
            for name in names {
                if let Err(problem) = operations.mend_at_start(&name) {
                    tracing::warn!(deployment = %name, %problem, causes = ?problem.causes, "what is left of a snapshot cannot be mended yet");
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("snapshots".to_string()).spawn(mend) {
            tracing::warn!(%error, "no thread can be started to look after snapshots");
        }
    }

    fn mend_at_start(self: &Arc<Self>, name: &DeploymentName) -> Result<(), Problem> {
        {
            // Whoever has it meanwhile does the same.
            let Ok(_claim) = self.table.claim_removal(name) else { return Ok(()) };
            for text in self.driver().sweep_snapshots(name)? {
                tracing::info!(deployment = %name, "{text}");
            }
        }
        if let Some(Restoring { name: snapshot, guests, .. }) = self.driver().restoring(name)? {
            let request = SnapshotRequest { operation: SnapshotOperation::Restore, name: snapshot, guests, memory: false };
            let uuid = self.start(name, ActionRequest::Snapshot(request))?;
            tracing::info!(deployment = %name, action = %uuid, "a restore that was not done is finished");
        }
        Ok(())
    }

    /// The snapshots of a deployment, by name. Blocks.
    pub fn snapshots(&self, name: &DeploymentName) -> Result<Vec<SnapshotInfo>, Problem> {
        self.record(name)?;
        self.driver().snapshots(name)
    }

    /// One snapshot. Blocks.
    pub fn snapshot_info(&self, name: &DeploymentName, snapshot: &SnapshotName) -> Result<SnapshotInfo, Problem> {
        let all = self.snapshots(name)?;
        let known: Vec<String> = all.iter().map(|found| found.name.to_string()).collect();
        all.into_iter().find(|found| found.name == *snapshot).ok_or_else(|| {
            let known = if known.is_empty() { "there is none".to_string() } else { format!("snapshots: {}", known.join(", ")) };
            Problem::new(Code::NotFound, format!("`{name}` has no snapshot `{snapshot}`")).hint(known)
        })
    }

    /// Refuses to forget a deployment that has snapshots.
    pub(super) fn refuse_snapshots(&self, name: &DeploymentName) -> Result<(), Problem> {
        let known: Vec<String> = self.driver().snapshots(name)?.into_iter().map(|found| found.name.to_string()).collect();
        if known.is_empty() {
            return Ok(());
        }
        Err(Problem::new(Code::Conflict, format!("`{name}` has snapshots: {}", known.join(", ")))
            .hint("`testbed snapshot delete` gives one up; `--force` (`?force`) deletes them all"))
    }

    /// Deletes all snapshots of a deployment that is about to be forgotten.
    pub(super) fn delete_snapshots(&self, name: &DeploymentName) -> Result<(), Problem> {
        self.driver().snapshots(name)?.iter().try_for_each(|found| self.driver().delete_snapshot(name, &found.name))?;
        self.driver().forget_restore(name)?;
        self.driver().sweep_snapshots(name).map(|_| ())
    }
}
