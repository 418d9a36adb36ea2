//! The local host: the real parts of this machine behind the engine's `Host` trait.

use std::path::{Path, PathBuf};

use crate::{
    api::CheckResult,
    error::Problem,
    names::{DeploymentName, GuestName, HostName, InstallationId},
    orchestrate::host::{Cancel, Context, Host},
    plan::{
        blueprint::Blueprint,
        observed::Observed,
        site::{MicroImage, Site},
        step::Work,
    },
    topology::{Leases, Loaded},
};

/// How the local host is set up.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The installation.
    pub installation: InstallationId,
    /// This host's name.
    pub host: HostName,
    /// The data folder.
    pub data_dir: PathBuf,
    /// The folder of base images.
    pub images_dir: PathBuf,
    /// Folders outside a project from which testbed files may name disks.
    pub allowed_image_dirs: Vec<PathBuf>,
    /// libvirt's URI, `qemu:///system`.
    pub libvirt_uri: String,
    /// The northbound database's socket.
    pub ovn_nb: PathBuf,
    /// Open vSwitch's database socket.
    pub ovs_db: PathBuf,
    /// The integration bridge.
    pub bridge: String,
    /// `auto`, `kvm` or `tcg`.
    pub accelerator: AcceleratorChoice,
}

/// Which accelerator the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorChoice {
    /// KVM where a probe boots a kernel with it, else TCG.
    #[default]
    Auto,
    /// KVM without a probe.
    Kvm,
    /// TCG.
    Tcg,
}

/// The local host.
pub struct LocalHost {
    config: LocalConfig,
}

/// A testbed file turned into a blueprint for this host.
pub struct Prepared {
    /// The file, read and resolved.
    pub loaded: Loaded,
    /// The blueprint.
    pub blueprint: Blueprint,
    /// Warnings of the place (TCG instead of KVM), beside those of the file.
    pub warnings: Vec<String>,
}

/// What a command in a guest ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecResult {
    /// Its status, 0 to 255; 128 + n for a signal n.
    pub status: i32,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
    /// True when the agent cut one of them.
    pub truncated: bool,
}

/// A command for a guest.
#[derive(Debug, Clone)]
pub struct ExecCall<'a> {
    /// The guest.
    pub guest: &'a GuestName,
    /// Program and arguments.
    pub argv: &'a [String],
    /// Added to its environment.
    pub environment: &'a std::collections::BTreeMap<String, String>,
    /// What it reads.
    pub stdin: &'a [u8],
    /// The limit in seconds.
    pub timeout_s: u64,
}

impl LocalHost {
    /// A host over the real parts of this machine. Connects lazily: parts that are down are found out by use.
    pub fn new(config: LocalConfig) -> Self {
        LocalHost { config }
    }

    /// What planning must know of this host. Probes KVM on first use (see `backend::accelerator`).
    pub fn site(&self) -> Result<Site, Problem> {
        todo!("{:?}", self.config)
    }

    /// Reads, resolves and lowers a testbed file.
    pub fn prepare(&self, deployment: &DeploymentName, file: &str, text: &str, project: &Path) -> Result<Prepared, Problem> {
        todo!("{deployment} {file} {text} {project:?}")
    }

    /// Each real part: does it do what it is for, and what to do when not.
    pub fn checks(&self) -> Vec<CheckResult> {
        todo!()
    }

    /// Runs a command in a guest through its agent.
    pub fn exec(&self, deployment: &DeploymentName, call: &ExecCall<'_>, cancel: &Cancel) -> Result<ExecResult, Problem> {
        todo!("{deployment} {call:?} {}", cancel.is_cancelled())
    }

    /// Makes the micro image from this machine's packages.
    pub fn build_micro(&self, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<MicroImage, Problem> {
        say("");
        cancel.check()?;
        todo!()
    }

    /// Names of everything that carries this installation's mark, with the deployment it belongs to: for
    /// `doctor --orphans`.
    pub fn marked(&self) -> Result<Vec<(String, DeploymentName)>, Problem> {
        todo!()
    }
}

impl Host for LocalHost {
    fn observe(&self, deployment: &DeploymentName, wanted: Option<&Blueprint>) -> Result<Observed, Problem> {
        todo!("{deployment} {wanted:?}")
    }

    fn leases(&self, deployment: &DeploymentName) -> Result<Leases, Problem> {
        todo!("{deployment}")
    }

    fn apply(&self, work: &Work, context: &Context<'_>) -> Result<(), Problem> {
        todo!("{work:?} {}", context.operation)
    }

    fn sweep(&self, deployment: &DeploymentName) -> Result<(), Problem> {
        todo!("{deployment}")
    }
}
