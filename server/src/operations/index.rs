//! The indexes of actions: `<name>-logs.json` of each deployment, and the one of images, which belong to none.
//!
//! An outcome that cannot be written (a full disk) is kept in memory and written with the next one: it is never lost to
//! those who ask, and no action reads as running for ever.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use kvm_compose::{
    api::{Command, LogEntry, LogIndex},
    error::{Code, Problem},
    names::DeploymentName,
};
use parking_lot::Mutex;
use uuid::Uuid;

use super::{
    Operations,
    journal::{Paths, result_beside},
};
use crate::{
    data::{DataDir, read_if_there},
    store::{
        DeploymentRecord, Expected, Versioned, atomic,
        records::{self, has_ended, to_json},
        update,
    },
};

/// A longer answer is kept in a file beside the log and given out with the entry alone, not with the whole index.
const LONGEST_RESULT_IN_INDEX: usize = 16 * 1024;

/// What the store does not hold: actions on images, and outcomes that are not on disk yet.
pub struct Indexes {
    images_path: PathBuf,
    images: Mutex<LogIndex>,
    unsaved: Mutex<BTreeMap<DeploymentName, BTreeMap<Uuid, LogEntry>>>,
    passing: Mutex<BTreeMap<(DeploymentName, Uuid), LogEntry>>,
}

/// So many plans of deployments that do not exist can be asked for after they ended.
const PASSING_KEPT: usize = 50;

/// The name under which actions on images log. Their index is apart, so a deployment of the same name is no conflict.
pub fn images_owner() -> Result<DeploymentName, Problem> {
    DeploymentName::new("images")
}

impl Indexes {
    /// Reads the index of images; one that does not parse is set aside.
    pub fn open(data: &DataDir) -> Result<Self, Problem> {
        let images_path = data.logs().join("images-logs.json");
        let images = match read_if_there(&images_path)?.map(|content| serde_json::from_slice(&content)) {
            Some(Ok(index)) => index,
            Some(Err(error)) => {
                let aside = images_path.with_extension("json.corrupt");
                fs::rename(&images_path, &aside)
                    .map_err(|error| Problem::io(format_args!("cannot set {} aside", images_path.display()), &error))?;
                tracing::error!(file = %aside.display(), %error, "the index of actions on images cannot be read and is set aside");
                LogIndex::default()
            }
            None => LogIndex::default(),
        };
        Ok(Indexes { images_path, images: Mutex::new(images), unsaved: Mutex::default(), passing: Mutex::default() })
    }
}

impl Operations {
    /// All actions of a deployment, without answers that are kept apart.
    pub fn index(&self, name: &DeploymentName) -> Result<LogIndex, Problem> {
        let mut index = self.store.logs.get(name)?.map(|found| LogIndex::clone(&found.value)).unwrap_or_default();
        if let Some(unsaved) = self.indexes.unsaved.lock().get(name) {
            index.0.extend(unsaved.clone());
        }
        Ok(index)
    }

    /// One action of a deployment, or `not_found`.
    pub fn entry(&self, name: &DeploymentName, uuid: Uuid) -> Result<LogEntry, Problem> {
        let unsaved = self.indexes.unsaved.lock().get(name).and_then(|entries| entries.get(&uuid).cloned());
        let found = match unsaved.or_else(|| self.indexes.passing.lock().get(&(name.clone(), uuid)).cloned()) {
            Some(entry) => Some(entry),
            None => self.store.logs.get(name)?.and_then(|index| index.value.0.get(&uuid).cloned()),
        };
        found.ok_or_else(|| crate::error::not_found(format_args!("the action {uuid} of deployment `{name}`")))
    }

    /// One action; `not_found` speaks of the deployment when that is what is missing.
    pub fn entry_or_no_deployment(&self, name: &DeploymentName, uuid: Uuid) -> Result<LogEntry, Problem> {
        self.entry(name, uuid).or_else(|problem| self.record(name).and(Err(problem)))
    }

    /// All actions on images.
    pub fn image_index(&self) -> LogIndex {
        self.indexes.images.lock().clone()
    }

    /// One action on images, or `not_found`.
    pub fn image_entry(&self, uuid: Uuid) -> Result<LogEntry, Problem> {
        let found = self.indexes.images.lock().0.get(&uuid).cloned();
        found.ok_or_else(|| crate::error::not_found(format_args!("the action {uuid} on images")))
    }

    /// Puts an entry on record, with those that could not be written before, and drops the oldest ended ones.
    pub(super) fn put_entry(
        &self,
        command: Command,
        name: &DeploymentName,
        uuid: Uuid,
        mut entry: LogEntry,
        keep: usize,
    ) -> Result<(), Problem> {
        move_long_result(&mut entry)?;
        let dropped = if command.is_on_images() {
            let mut images = self.indexes.images.lock();
            let mut changed = images.clone();
            changed.0.insert(uuid, entry);
            let dropped = drop_oldest(&mut changed, keep);
            atomic::write(&self.indexes.images_path, &to_json(&changed)?)?;
            *images = changed;
            dropped
        } else if command == Command::Plan && self.store.deployments.get(name)?.is_none() {
            self.put_passing(name, uuid, entry)
        } else {
            self.indexes.passing.lock().remove(&(name.clone(), uuid));
            self.put_deployment_entry(name, uuid, &entry, keep)?
        };
        for entry in dropped {
            remove_files(&Paths { log: entry.log_path.into(), events: entry.events_path.into() });
        }
        Ok(())
    }

    /// The plan of a deployment that does not exist is kept in memory for its reader, and leaves nothing behind.
    fn put_passing(&self, name: &DeploymentName, uuid: Uuid, entry: LogEntry) -> Vec<LogEntry> {
        let mut passing = self.indexes.passing.lock();
        passing.insert((name.clone(), uuid), entry);
        let mut ended: Vec<_> = passing.iter().filter(|(_, entry)| has_ended(entry.state)).map(|((_, uuid), _)| *uuid).collect();
        // Ids begin with the time.
        ended.sort();
        ended.truncate(ended.len().saturating_sub(PASSING_KEPT));
        let mut dropped = Vec::new();
        passing.retain(|(_, uuid), entry| {
            let goes = ended.contains(uuid);
            if goes {
                dropped.push(entry.clone());
            }
            !goes
        });
        dropped
    }

    fn put_deployment_entry(&self, name: &DeploymentName, uuid: Uuid, entry: &LogEntry, keep: usize) -> Result<Vec<LogEntry>, Problem> {
        loop {
            let found = self.store.logs.get(name)?;
            let expected = found.as_ref().map_or(Expected::Absent, |found| Expected::Revision(found.revision));
            let mut index = self.index(name)?;
            let unsaved: Vec<_> = self.indexes.unsaved.lock().get(name).into_iter().flatten().map(|(uuid, _)| *uuid).collect();
            index.0.insert(uuid, entry.clone());
            let dropped = drop_oldest(&mut index, keep);
            match self.store.logs.put(name, index, expected) {
                Ok(_) => {
                    if let Some(entries) = self.indexes.unsaved.lock().get_mut(name) {
                        entries.retain(|uuid, _| !unsaved.contains(uuid));
                    }
                    return Ok(dropped);
                }
                Err(problem) if problem.code == Code::Conflict => {}
                Err(problem) => return Err(problem),
            }
        }
    }

    /// Keeps an outcome that could not be written in memory.
    pub(super) fn keep_unsaved(&self, command: Command, name: &DeploymentName, uuid: Uuid, entry: LogEntry) {
        if command.is_on_images() {
            self.indexes.images.lock().0.insert(uuid, entry);
        } else {
            self.indexes.unsaved.lock().entry(name.clone()).or_default().insert(uuid, entry);
        }
    }

    /// Writes outcomes that could not be written before, into index and record. Called from time to time.
    pub fn save_unsaved(&self) {
        let waiting: Vec<_> = self.indexes.unsaved.lock().iter().map(|(name, entries)| (name.clone(), entries.clone())).collect();
        for (name, entries) in waiting {
            for (uuid, entry) in entries {
                let summary = records::summary(uuid, &entry);
                let noted = update(&*self.store.deployments, &name, |record| record.note_if_younger(&summary));
                match noted.and_then(|_| self.put_deployment_entry(&name, uuid, &entry, usize::MAX)) {
                    Ok(_) => tracing::info!(deployment = %name, action = %uuid, "an outcome that could not be written before is on record"),
                    Err(problem) => tracing::warn!(deployment = %name, action = %uuid, %problem, "an outcome still cannot be written"),
                }
            }
        }
        self.indexes.unsaved.lock().retain(|_, entries| !entries.is_empty());
    }

    /// A record with the outcomes that are not on disk yet.
    pub(super) fn with_unsaved(&self, found: Versioned<DeploymentRecord>) -> Versioned<DeploymentRecord> {
        let unsaved = self.indexes.unsaved.lock();
        let Some(entries) = unsaved.get(&found.value.name).filter(|entries| !entries.is_empty()) else { return found };
        let mut record = DeploymentRecord::clone(&found.value);
        for (uuid, entry) in entries {
            record.note_if_younger(&records::summary(*uuid, entry));
        }
        Versioned { value: Arc::new(record), revision: found.revision }
    }

    pub(super) fn forget_unsaved(&self, name: &DeploymentName) {
        self.indexes.unsaved.lock().remove(name);
    }
}

/// An entry with the answer that is kept beside its log.
pub fn with_result(mut entry: LogEntry) -> LogEntry {
    if entry.result.is_none() {
        let path = result_beside(Path::new(&entry.log_path));
        entry.result = fs::read(path).ok().and_then(|content| serde_json::from_slice(&content).ok());
    }
    entry
}

fn move_long_result(entry: &mut LogEntry) -> Result<(), Problem> {
    let Some(result) = &entry.result else { return Ok(()) };
    let content = serde_json::to_vec(result).map_err(|error| Problem::internal("a result is not JSON").cause(error))?;
    if content.len() > LONGEST_RESULT_IN_INDEX {
        atomic::write(&result_beside(Path::new(&entry.log_path)), &content)?;
        entry.result = None;
    }
    Ok(())
}

/// Takes out the oldest ended entries beyond `keep`, but never the last `up` or `down`: it tells why a deployment is as it is.
fn drop_oldest(index: &mut LogIndex, keep: usize) -> Vec<LogEntry> {
    let mut ended: Vec<_> =
        index.0.iter().filter(|(_, entry)| has_ended(entry.state)).map(|(uuid, entry)| (entry.started, *uuid)).collect();
    ended.sort();
    let last_change = index
        .0
        .iter()
        .filter(|(_, entry)| matches!(entry.command, Command::Up | Command::Down))
        .max_by_key(|(_, entry)| entry.started)
        .map(|(uuid, _)| *uuid);
    let beyond = ended.len().saturating_sub(keep);
    let doomed = ended.into_iter().map(|(_, uuid)| uuid).filter(|uuid| Some(*uuid) != last_change).take(beyond);
    doomed.collect::<Vec<_>>().into_iter().filter_map(|uuid| index.0.remove(&uuid)).collect()
}

/// Removes an action's files; one that is gone already is no fault.
pub fn remove_files(paths: &Paths) {
    for path in [&paths.log, &paths.events, &paths.result()] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(file = %path.display(), %error, "cannot remove a file of an old action");
            }
            _ => {}
        }
    }
}
