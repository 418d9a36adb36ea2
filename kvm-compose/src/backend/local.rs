//! The local host: the real parts of this machine behind the engine's `Host` trait.
//!
//! Puts the parts together and decides nothing. Must not know the engine's order of steps.

mod apply;
mod console;
mod containers;
mod contexts;
mod golden;
mod images;
mod keys;
mod observe;
mod outside;
mod prepare;
mod site;
mod snapshots;
mod way;

pub use observe::port_names;
pub use prepare::{Prepared, Purpose};
pub use snapshots::Take;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;

use uuid::Uuid;

use super::{
    Owner, checks,
    containers::Engine,
    files::{Folder, folder, pack, sums},
    hypervisor::{Hypervisor, Libvirt},
    images::{
        disks::{self, Disks},
        golden::Goldens,
    },
    link::{self, Links},
    network::{Northbound, Switch},
};
use crate::{
    api::{CheckResult, link::LinkMeasured},
    capture::{Counts, Frame},
    error::{Code, Problem},
    guest::{exec, output::Say},
    names::{DeploymentName, GuestName, HostName, InstallationId},
    orchestrate::host::{Cancel, Context, Host},
    plan::{
        blueprint::{Blueprint, Sum},
        observed::Observed,
        outside::Mapping,
        site::{Accelerator, MicroImage},
        step::Work,
    },
    topology::Leases,
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
    /// Files that extend the image catalogue, where they are there.
    pub catalogues: Vec<PathBuf>,
    /// How images are downloaded.
    pub images: disks::Settings,
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
    /// This host's networks, by the names that testbed files use.
    pub mappings: Vec<Mapping>,
    /// The host forwards what comes from those networks and hides it behind its own addresses.
    pub masquerade: bool,
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
    libvirt: Libvirt,
    docker: Engine,
    northbound: Northbound,
    switch: Switch,
    /// Disk images by name.
    disks: Disks,
    /// What scaled machines' clones are made from.
    goldens: Goldens,
    /// Held while KVM is probed, so that nobody probes it twice at once.
    probing: Mutex<()>,
    /// User and group that QEMU runs as, once libvirt said so.
    qemu_ids: Mutex<Option<(u32, u32)>>,
    /// Content of base files that other hosts may ask for.
    sums: sums::Known,
    /// What projects' folders hold that guests get.
    packed: pack::Known,
    /// Where base files come from, on a host that is not the master's.
    source: Option<Box<dyn BaseSource>>,
    /// The micro image that came from the master.
    micro: Mutex<Option<MicroImage>>,
}

/// Where a member of a cluster gets base files.
pub trait BaseSource: Send + Sync {
    /// Brings the content to `to`, whole and verified, or not at all. Present already is success.
    fn fetch(&self, sum: &Sum, to: &Path, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<(), Problem>;
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
    /// True when one of them is longer than is kept.
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
        LocalHost {
            libvirt: Libvirt::new(&config.libvirt_uri),
            docker: Engine::usual(),
            northbound: Northbound::new(&config.ovn_nb),
            switch: Switch::new(&config.ovs_db),
            disks: Disks::new(&config.images_dir, config.images.clone()),
            goldens: Goldens::new(&config.images_dir),
            probing: Mutex::new(()),
            qemu_ids: Mutex::new(None),
            sums: sums::Known::default(),
            packed: pack::Known::default(),
            source: None,
            micro: Mutex::new(None),
            config,
        }
    }

    /// A host of a cluster, which gets base files from its master.
    pub fn member(config: LocalConfig, source: Box<dyn BaseSource>) -> Self {
        LocalHost { source: Some(source), ..LocalHost::new(config) }
    }

    /// How this host is set up.
    pub fn config(&self) -> &LocalConfig {
        &self.config
    }

    /// The content of a base file, computed once.
    pub fn sum_of(&self, path: &Path, cancel: &Cancel) -> Result<Sum, Problem> {
        self.sums.of(path, cancel)
    }

    /// The base file with this content, among those that were asked for.
    pub fn base_with(&self, sha256: &str) -> Option<(PathBuf, Sum)> {
        self.sums.find(sha256)
    }

    /// Each real part: does it do what it is for, and what to do when not.
    pub fn checks(&self) -> Vec<CheckResult> {
        let micro = self.find_micro();
        let untested = || Accelerator::Tcg { reason: "KVM is being tested; ask again in some seconds".to_string() };
        let accelerator = self.known_accelerator(micro.as_ref().ok().and_then(Option::as_ref)).unwrap_or_else(untested);
        // A libvirt that does not answer is told of by its own check.
        let qemu = self.user_of_qemu().ok().flatten();
        let device = checks::kvm_device(Path::new(checks::KVM_DEVICE), qemu);
        vec![
            checks::libvirt(&self.libvirt),
            checks::kvm(&accelerator, device),
            checks::ovn(&self.northbound),
            checks::ovs(&self.switch, &self.config.bridge),
            checks::docker(&self.docker),
            checks::disk(&self.config.data_dir, qemu),
            checks::micro(micro),
        ]
    }

    /// The parts that a member of a cluster must have of its own.
    pub fn member_checks(&self) -> Vec<CheckResult> {
        vec![
            checks::libvirt(&self.libvirt),
            checks::open_vswitch(&self.switch, &self.config.bridge),
            checks::disk(&self.config.data_dir, self.user_of_qemu().ok().flatten()),
        ]
    }

    /// Brings a base file from the master, and says where it lies.
    pub fn fetch_base(&self, sum: &Sum, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<PathBuf, Problem> {
        let source = self.source.as_ref().ok_or_else(|| Problem::internal("this host has no master to get base files from"))?;
        let path = self.bases().join(&sum.sha256);
        source.fetch(sum, &path, cancel, say)?;
        Ok(path)
    }

    /// Runs a command in a guest, through its agent or Docker. What it prints goes to `say` as it comes.
    pub fn exec(&self, deployment: &DeploymentName, call: &ExecCall<'_>, cancel: &Cancel, say: Say<'_>) -> Result<ExecResult, Problem> {
        if let Some(result) = self.exec_in_container(deployment, call, cancel, say)? {
            return Ok(result);
        }
        let domain = self.config.installation.domain_uuid(deployment, call.guest);
        if self.libvirt.state(domain)?.is_none() {
            return Err(Problem::new(Code::NotFound, format!("deployment `{deployment}` has no guest `{}`", call.guest))
                .hint("`testbed ps` lists its guests; `testbed up` starts them"));
        }
        let command = exec::Command {
            guest: call.guest.as_str(),
            domain,
            argv: call.argv,
            environment: call.environment,
            stdin: call.stdin,
            limit: Duration::from_secs(call.timeout_s),
        };
        let exec::Ended { status, stdout, stderr, truncated } = exec::run(&self.libvirt, &command, cancel, say)?;
        Ok(ExecResult { status, stdout, stderr, truncated })
    }

    /// Names of everything that carries this installation's mark, with the deployment it belongs to: for
    /// `doctor --orphans`.
    pub fn marked(&self) -> Result<Vec<(String, DeploymentName)>, Problem> {
        let mut marked = self.marked_here()?;
        marked.extend(self.northbound.marked(&self.config.installation.to_string())?);
        Ok(marked)
    }

    /// The same, without the logical network, which is not a host's.
    pub fn marked_here(&self) -> Result<Vec<(String, DeploymentName)>, Problem> {
        let installation = self.config.installation.to_string();
        let domains = self.libvirt.marked()?.into_iter().filter(|(_, mark)| mark.installation == installation);
        let mut marked: Vec<(String, DeploymentName)> =
            domains.filter_map(|(name, mark)| Some((format!("domain {name}"), DeploymentName::new(&mark.deployment).ok()?))).collect();
        marked.extend(self.marked_containers());
        let relays = link::running(&installation);
        marked.extend(relays.into_iter().map(|(pid, name)| (format!("relay of links, process {pid}"), name)));
        let folders = folder::deployments_with_files(&self.deployments())?;
        marked.extend(folders.into_iter().map(|(path, name)| (format!("folder {}", path.display()), name)));
        Ok(marked)
    }

    fn deployments(&self) -> PathBuf {
        self.config.data_dir.join("deployments")
    }

    /// Where base files from the master lie, by digest.
    fn bases(&self) -> PathBuf {
        self.config.images_dir.join("bases")
    }

    fn folder(&self, deployment: &DeploymentName) -> Folder {
        Folder::new(&self.deployments(), deployment)
    }

    fn links(&self, deployment: &DeploymentName) -> Links {
        let folder = self.deployments().join(deployment.as_str());
        Links::new(self.owner(deployment), &folder, &self.config.ovs_db, &self.config.bridge)
    }

    /// What was measured of a guest's link; nothing for a plain one.
    pub fn measure_link(&self, deployment: &DeploymentName, port: Uuid, probe: bool) -> Result<Option<LinkMeasured>, Problem> {
        self.links(deployment).measure(port, probe)
    }

    /// Hands over the frames of ports of guests that run here, until it is cancelled or `take` says that it is enough; `begun`
    /// is called once all ports are listened to. Returns the counts of each port.
    pub fn capture(
        &self,
        deployment: &DeploymentName,
        ports: &[Uuid],
        snap: usize,
        cancel: &Cancel,
        begun: &mut dyn FnMut(),
        take: &mut dyn FnMut(Frame) -> bool,
    ) -> Result<Vec<Counts>, Problem> {
        let links = self.links(deployment);
        super::capture::listen(ports, &|| links.taps(ports), snap, cancel, begun, take)
    }

    fn owner(&self, deployment: &DeploymentName) -> Owner {
        Owner { installation: self.config.installation, deployment: deployment.clone() }
    }
}

impl Host for LocalHost {
    fn observe(&self, deployment: &DeploymentName, wanted: Option<&Blueprint>) -> Result<Observed, Problem> {
        self.look(deployment, wanted)
    }

    fn leases(&self, deployment: &DeploymentName) -> Result<Leases, Problem> {
        self.northbound.leases(&self.owner(deployment))
    }

    fn apply(&self, work: &Work, context: &Context<'_>) -> Result<(), Problem> {
        self.carry_out(work, context)
    }

    fn sweep(&self, deployment: &DeploymentName) -> Result<(), Problem> {
        self.folder(deployment).sweep()
    }
}
