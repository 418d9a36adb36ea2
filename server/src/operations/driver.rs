//! What the server asks of the machine: one narrow trait, implemented by the real local host and, in tests, by a fake.
//!
//! Must not know HTTP, records or log files.

use std::path::PathBuf;

use kvm_compose::{
    api::{CheckResult, ExecRequest, GuestState, ImageInfo, Phase, PlanDocument, UpOptions},
    backend::local::ExecResult,
    error::Problem,
    guest::output::Say,
    names::DeploymentName,
    orchestrate::{Operation, host::Cancel},
};

/// A testbed file and where it stands.
#[derive(Debug, Clone)]
pub struct Project {
    /// The deployment.
    pub deployment: DeploymentName,
    /// The file's name, for messages.
    pub file: String,
    /// Its text.
    pub text: String,
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

    /// What is there, beside what is wanted. A file that cannot be used is a warning, never an error.
    fn observe(&self, deployment: &DeploymentName, project: Result<Project, Problem>) -> View;

    /// Each real part: does it do what it is for.
    fn checks(&self) -> Vec<CheckResult>;

    /// Everything that carries this server's mark, such as `domain lab.web`, with the deployment it belongs to.
    fn marked(&self) -> Result<Vec<(String, DeploymentName)>, Problem>;

    /// The base images.
    fn images(&self) -> Result<Vec<ImageInfo>, Problem>;

    /// Makes the micro image; returns its digest.
    fn build_micro(&self, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<String, Problem>;
}
