//! What the server remembers: one trait per kind of record, whoever keeps it.
//!
//! Knows records and revisions. Must not know HTTP, actions or libvirt.

pub mod atomic;
pub mod file;
pub mod records;
pub mod reserve;

use std::sync::Arc;

use kvm_compose::{
    error::{Code, Problem},
    names::DeploymentName,
};

pub use records::DeploymentRecord;

/// A record as it is kept: its value, and how often it has been changed.
#[derive(Debug)]
pub struct Versioned<T> {
    /// The value.
    pub value: Arc<T>,
    /// Counts changes, from 1.
    pub revision: u64,
}

impl<T> Clone for Versioned<T> {
    fn clone(&self) -> Self {
        Versioned { value: self.value.clone(), revision: self.revision }
    }
}

/// What a `put` expects to find; anything else is a `conflict`, and nothing is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// No record of that name.
    Absent,
    /// The record at this revision.
    Revision(u64),
}

/// Records of one kind, by deployment. A value that `put` accepted survives the server's and the machine's death.
pub trait Records<T>: Send + Sync {
    /// All of them, by name.
    fn list(&self) -> Result<Vec<(DeploymentName, Versioned<T>)>, Problem>;

    /// One of them.
    fn get(&self, name: &DeploymentName) -> Result<Option<Versioned<T>>, Problem>;

    /// Writes one (compare-and-set). Fails with `conflict` when something else than expected is there.
    fn put(&self, name: &DeploymentName, value: T, expected: Expected) -> Result<Versioned<T>, Problem>;

    /// Removes one (compare-and-set). Fails with `not_found` or `conflict`.
    fn delete(&self, name: &DeploymentName, revision: u64) -> Result<(), Problem>;

    /// Records that could not be read and were set aside, with the reason.
    fn set_aside(&self) -> Vec<String>;
}

/// The kinds of records, each with its provider.
pub struct Store {
    /// Deployments.
    pub deployments: Box<dyn Records<DeploymentRecord>>,
    /// Their actions.
    pub logs: Box<dyn Records<kvm_compose::api::LogIndex>>,
}

impl Store {
    /// Opens the store that keeps files in a folder.
    pub fn open_files(folder: &std::path::Path) -> Result<Store, Problem> {
        let written = atomic::sweep(folder)?;
        if written > 0 {
            tracing::info!(count = written, "removed temporary files that an earlier server left behind");
        }
        Ok(Store { deployments: Box::new(file::FileRecords::open(folder)?), logs: Box::new(file::FileRecords::open(folder)?) })
    }

    /// Records that could not be read and were set aside.
    pub fn set_aside(&self) -> Vec<String> {
        let mut all = self.deployments.set_aside();
        all.extend(self.logs.set_aside());
        all
    }
}

/// Changes a record until no one else changed it in between. `change` may be called more than once.
pub fn update<T: Clone>(
    records: &dyn Records<T>,
    name: &DeploymentName,
    mut change: impl FnMut(&mut T),
) -> Result<Option<Versioned<T>>, Problem> {
    loop {
        let Some(found) = records.get(name)? else { return Ok(None) };
        let mut value = T::clone(&found.value);
        change(&mut value);
        match records.put(name, value, Expected::Revision(found.revision)) {
            Err(problem) if problem.code == Code::Conflict => {}
            other => return other.map(Some),
        }
    }
}

/// Refuses a deployment name whose record's file would be another deployment's log index.
pub fn check_new_name(name: &DeploymentName) -> Result<(), Problem> {
    name.check_not_reserved()
}
