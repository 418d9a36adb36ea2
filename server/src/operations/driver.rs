//! What the server asks of the machine: one narrow trait, implemented by the real local host and, in tests, by a fake.
//!
//! Must not know HTTP, records or log files.

use std::{path::PathBuf, sync::Arc, time::Duration};

use kvm_compose::{
    api::{
        CatalogueEntry, CheckResult, ExecRequest, GuestState, ImageInfo, Phase, PlanDocument, RemovedImages, SnapshotInfo, SnapshotRequest,
        UpOptions, WhyAnswer, WhyRequest,
        link::{LinkReport, SetLink},
    },
    backend::{
        images::disks::{Import, spool::Spool},
        local::ExecResult,
        snapshots::Restoring,
    },
    error::Problem,
    guest::output::Say,
    names::{DeploymentName, GuestName, SnapshotName},
    orchestrate::{Operation, host::Cancel},
    spec::Sources,
    topology::Topology,
};

use super::snapshots::{Kept, driver::Ended};

/// A testbed and where it stands.
#[derive(Debug, Clone)]
pub struct Project {
    /// The deployment.
    pub deployment: DeploymentName,
    /// All that it is read from.
    pub sources: Sources,
    /// Where relative paths lead.
    pub folder: PathBuf,
}

/// A deployment, desired and observed.
#[derive(Debug, Clone)]
pub struct View {
    /// How much of it is there.
    pub phase: Phase,
    /// Guests of the file and guests that are there, by name.
    pub guests: Vec<GuestState>,
    /// How many rows of the northbound database are wanted.
    pub rows_wanted: usize,
    /// How many are there.
    pub rows_observed: usize,
    /// What could not be found out.
    pub warnings: Vec<String>,
}

/// When a capture ends by itself, and how much it keeps.
#[derive(Clone)]
pub struct CaptureLimits {
    /// After so many frames.
    pub frames: Option<u64>,
    /// Before the file is longer than so many bytes.
    pub bytes: Option<u64>,
    /// After so long.
    pub duration: Option<Duration>,
    /// Bytes kept of each frame.
    pub snap: usize,
    /// When somebody says so.
    pub end: Cancel,
}

/// A guest's serial console. Read, written and closed by different threads.
pub trait Console: Send + Sync + 'static {
    /// Waits for what the guest says next; 0 when the console is closed, from whichever end.
    fn read(&self, buffer: &mut [u8]) -> usize;

    /// Says something to the guest; may wait for it to listen.
    fn write(&self, bytes: &[u8]) -> Result<(), Problem>;

    /// Closes the console; a read that waits returns.
    fn close(&self);
}

/// Whoever does the work. Every method blocks; none is called from async code.
pub trait Driver: Send + Sync + 'static {
    /// Makes the world look like the testbed file.
    fn up(&self, project: &Project, options: &UpOptions, operation: &Operation<'_>) -> Result<(), Problem>;

    /// Makes the world look like the empty testbed; needs no testbed file.
    fn down(&self, deployment: &DeploymentName, operation: &Operation<'_>) -> Result<(), Problem>;

    /// What `up` would do.
    fn plan(&self, project: &Project, options: &UpOptions, operation: &Operation<'_>) -> Result<PlanDocument, Problem>;

    /// Runs a command in a guest. What it prints goes to `say` as it comes, also when it fails.
    fn exec(
        &self,
        deployment: &DeploymentName,
        request: &ExecRequest,
        stdin: &[u8],
        cancel: &Cancel,
        say: Say<'_>,
    ) -> Result<ExecResult, Problem>;

    /// Changes a guest's link while it runs.
    fn set_link(&self, project: &Project, request: &SetLink, operation: &Operation<'_>) -> Result<(), Problem>;

    /// Each link of each guest that `only` accepts, with what was measured of it; with `probe` in some seconds.
    fn links(&self, project: &Project, only: &dyn Fn(&GuestName, &str) -> bool, probe: bool) -> Result<Vec<LinkReport>, Problem>;

    /// What a testbed file means, with the addresses that its guests have.
    fn topology(&self, project: &Project) -> Result<Topology, Problem>;

    /// Whether one guest can reach another, and what stands in the way.
    fn why(&self, project: &Project, request: &WhyRequest, operation: &Operation<'_>) -> Result<WhyAnswer, Problem>;

    /// Writes the frames of guests' interfaces, all of a guest's where none is named, as one pcapng stream: whole blocks go to
    /// `write` until a limit is reached or it says that nobody reads; it is called with nothing to be asked that.
    fn capture(
        &self,
        project: &Project,
        wanted: &[(GuestName, Option<String>)],
        limits: &CaptureLimits,
        write: &mut dyn FnMut(Vec<u8>) -> bool,
    ) -> Result<(), Problem>;

    /// Opens a guest's serial console, taking it from whoever has it; beside it the end of what it said before.
    fn console(&self, deployment: &DeploymentName, guest: &GuestName) -> Result<(Arc<dyn Console>, Vec<u8>), Problem>;

    /// What a guest has said, or its last lines: a machine on its serial console, a container on its output.
    fn said(&self, deployment: &DeploymentName, guest: &GuestName, last: Option<u32>) -> Result<Vec<u8>, Problem>;

    /// What is there, beside what is wanted. A file that cannot be used is a warning, never an error.
    fn observe(&self, deployment: &DeploymentName, project: Result<Project, Problem>) -> View;

    /// Makes a snapshot of guests; whoever runs stands still for a moment, which is returned in milliseconds.
    fn take_snapshot(&self, project: &Project, request: &SnapshotRequest, operation: &Operation<'_>) -> Ended<u64>;

    /// Restores a snapshot, or finishes a restore that a dead server began.
    fn restore_snapshot(&self, deployment: &DeploymentName, wanted: &Restoring, kept: &dyn Kept, operation: &Operation<'_>) -> Ended<()>;

    /// The restore that gave up what was there and is not done.
    fn restoring(&self, deployment: &DeploymentName) -> Result<Option<Restoring>, Problem>;

    /// Before a `down` that gives such a restore up: the file is the one that the guests' disks belong to.
    fn put_restored(&self, deployment: &DeploymentName, restoring: &Restoring, kept: &dyn Kept) -> Result<(), Problem>;

    /// Such a restore is given up.
    fn forget_restore(&self, deployment: &DeploymentName) -> Result<(), Problem>;

    /// Deletes a snapshot.
    fn delete_snapshot(&self, deployment: &DeploymentName, name: &SnapshotName) -> Result<(), Problem>;

    /// The snapshots of a deployment, by name.
    fn snapshots(&self, deployment: &DeploymentName) -> Result<Vec<SnapshotInfo>, Problem>;

    /// Gives up what dead servers left of snapshots, and lets their guests go on; says what was done.
    fn sweep_snapshots(&self, deployment: &DeploymentName) -> Result<Vec<String>, Problem>;

    /// Each real part: does it do what it is for.
    fn checks(&self) -> Vec<CheckResult>;

    /// Everything that carries this server's mark, such as `domain lab.web`, with the deployment it belongs to.
    fn marked(&self) -> Result<Vec<(String, DeploymentName)>, Problem>;

    /// The base images.
    fn images(&self) -> Result<Vec<ImageInfo>, Problem>;

    /// The names that the catalogue has.
    fn catalogue(&self) -> Result<Vec<CatalogueEntry>, Problem>;

    /// Downloads an image of the catalogue, or waits for whoever downloads it; returns its digest.
    fn pull_image(&self, name: &str, operation: &Operation<'_>) -> Result<String, Problem>;

    /// A file to hand an image over in.
    fn spool_image(&self) -> Result<Spool, Problem>;

    /// Takes an image in that was handed over; returns its digest.
    fn import_image(&self, import: &Import, operation: &Operation<'_>) -> Result<String, Problem>;

    /// Removes an image; refused while a guest's disk rests on it.
    fn remove_image(&self, name: &str) -> Result<RemovedImages, Problem>;

    /// Removes images that no name stands for, and what half-finished downloads left.
    fn prune_images(&self, goldens_stay: bool) -> Result<RemovedImages, Problem>;

    /// Makes the micro image; returns its digest.
    fn build_micro(&self, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<String, Problem>;
}
