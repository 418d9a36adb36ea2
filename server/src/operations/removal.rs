//! How a deployment is forgotten: only when nothing of it is left in the world.

use std::{fs, sync::Arc};

use kvm_compose::{
    api::{ActionRequest, Phase},
    error::{Code, Problem},
    names::DeploymentName,
};

use super::{
    Operations,
    index::remove_files,
    journal::{End, Paths},
};

impl Operations {
    /// Removes a deployment's record, logs and own folder (never `project_location`). Fails with `busy` while an action
    /// runs, and with `conflict` while anything of it exists. Blocks.
    pub fn remove(&self, name: &DeploymentName) -> Result<(), Problem> {
        let _claim = self.table.claim_removal(name)?;
        self.reserve.give_up_if_low();
        let record = self.record(name)?;
        self.refuse_snapshots(name)?;
        if record.value.last_change.is_some() || record.value.phase != Phase::Down {
            let view = self.driver().observe(name, self.project(name));
            match view.phase {
                Phase::Down => {}
                Phase::Unknown => {
                    return Err(view.warnings.into_iter().fold(
                        Problem::new(Code::Unavailable, format!("nobody can say whether anything of `{name}` is left")),
                        |problem, warning| problem.cause(warning),
                    ));
                }
                Phase::Up | Phase::Partial => {
                    return Err(Problem::new(Code::Conflict, format!("`{name}` is not down: some of it still exists"))
                        .hint("`testbed down` removes it; `?force` does that first"));
                }
            }
        }
        // The record goes last: a server killed on the way finds it, and the removal can be repeated.
        let folder = self.data.deployment(name);
        if let Err(error) = fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Problem::io(format_args!("cannot remove {}", folder.display()), &error));
        }
        if let Some(index) = self.store.logs.get(name)? {
            for entry in index.value.0.values() {
                remove_files(&Paths { log: entry.log_path.clone().into(), events: entry.events_path.clone().into() });
            }
            self.store.logs.delete(name, index.revision)?;
        }
        self.forget_unsaved(name);
        // Its revision may have moved on by an observation meanwhile.
        let record = self.record(name)?;
        self.store.deployments.delete(name, record.revision)?;
        tracing::info!(deployment = %name, "deployment removed");
        Ok(())
    }

    /// `down` first, as an action like any other, then the removal. Fails with what `down` failed with.
    pub async fn remove_by_force(self: Arc<Self>, name: DeploymentName) -> Result<(), Problem> {
        let operations = self.clone();
        let uuid = {
            let (operations, name) = (self.clone(), name.clone());
            crate::app::blocking(move || operations.start(&name, ActionRequest::Down {})).await?
        };
        let mut progress = self.follow(&name, uuid)?.progress;
        let ended = progress.wait_for(|progress| progress.end.is_some()).await.map(|progress| progress.end);
        if !matches!(ended, Ok(Some(End { error_code: 0, .. }))) {
            let problem = self.entry(&name, uuid)?.problem;
            return Err(problem.unwrap_or_else(|| Problem::internal("`down` ended without an outcome")));
        }
        crate::app::blocking(move || operations.delete_snapshots(&name).and_then(|()| operations.remove(&name))).await
    }
}
