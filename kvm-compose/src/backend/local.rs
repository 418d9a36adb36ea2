//! The local host: the real parts of this machine behind the engine's `Host` trait.
//!
//! Puts the parts together and decides nothing. Must not know the engine's order of steps.

mod apply;
mod console;
mod observe;

pub use observe::port_names;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    Owner, accelerator, checks,
    files::{Folder, folder, sums},
    hypervisor::{Hypervisor, Libvirt},
    images,
    network::{Northbound, Switch},
    project,
};
use crate::{
    api::{CheckResult, ImageInfo},
    diagnostic::problem_of,
    error::{Code, Problem},
    guest::{exec, output::Say},
    names::{DeploymentName, GuestName, HostName, InstallationId},
    orchestrate::host::{Cancel, Context, Host},
    plan::{
        self,
        blueprint::{Blueprint, Sum},
        observed::Observed,
        site::{Accelerator, Hosts, MicroImage, Site, Standing},
        step::Work,
    },
    topology::{self, Leases, Loaded},
};

/// MTU of guests' interfaces: 1500 less what Geneve adds over IPv4 (RFC 8926).
const MTU: u16 = 1442;

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
    libvirt: Libvirt,
    northbound: Northbound,
    switch: Switch,
    /// Held while KVM is probed, so that nobody probes it twice at once.
    probing: Mutex<()>,
    /// User and group that QEMU runs as, once libvirt said so.
    qemu_ids: Mutex<Option<(u32, u32)>>,
    /// Content of base files that other hosts may ask for.
    sums: sums::Known,
    /// Where base files come from, on a host that is not the master's.
    source: Option<Box<dyn BaseSource>>,
    /// The micro image that came from the master.
    micro: Mutex<Option<MicroImage>>,
}

/// What a testbed file is prepared for.
#[derive(Clone, Copy)]
pub enum Purpose<'a> {
    /// To compare with what is there, for people: large files are not read.
    Looking,
    /// To carry it out or to plan it; may be told to stop.
    Doing(&'a Cancel),
}

/// Where a member of a cluster gets base files.
pub trait BaseSource: Send + Sync {
    /// Brings the content to `to`, whole and verified, or not at all. Present already is success.
    fn fetch(&self, sum: &Sum, to: &Path, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<(), Problem>;
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
            northbound: Northbound::new(&config.ovn_nb),
            switch: Switch::new(&config.ovs_db),
            probing: Mutex::new(()),
            qemu_ids: Mutex::new(None),
            sums: sums::Known::default(),
            source: None,
            micro: Mutex::new(None),
            config,
        }
    }

    /// A host of a cluster, which gets base files from its master.
    pub fn member(config: LocalConfig, source: Box<dyn BaseSource>) -> Self {
        LocalHost { source: Some(source), ..LocalHost::new(config) }
    }

    /// This host's name in OVN, when Open vSwitch has one.
    pub fn chassis(&self) -> Result<Option<String>, Problem> {
        Ok(self.switch.check(&self.config.bridge)?.0)
    }

    /// From now on these chassis of OVN are not waited for: their hosts are away.
    pub fn set_away(&self, chassis: std::collections::BTreeSet<String>) {
        self.northbound.set_away(chassis);
    }

    /// Memory free for guests, in MiB.
    pub fn free_memory_mb(&self) -> Result<u64, Problem> {
        free_memory_mb()
    }

    /// How this host is set up.
    pub fn config(&self) -> &LocalConfig {
        &self.config
    }

    /// What planning must know of this host. Tests KVM on first use (see [`accelerator`]).
    pub fn site(&self) -> Result<Site, Problem> {
        self.site_with(|micro| self.accelerator(micro))
    }

    /// What looking must know of this host: never waits for the test of KVM.
    pub fn site_at_once(&self) -> Result<Site, Problem> {
        let untested = || Accelerator::Tcg { reason: "KVM is being tested".to_string() };
        self.site_with(|micro| self.known_accelerator(micro).unwrap_or_else(untested))
    }

    /// The micro image that tests KVM here: made on this host, or the master's.
    pub fn find_micro(&self) -> Result<Option<MicroImage>, Problem> {
        Ok(images::find_micro(&self.config.images_dir)?.or_else(|| self.micro.lock().clone()))
    }

    /// Takes the master's micro image for the test of KVM.
    pub fn use_micro(&self, image: MicroImage) {
        *self.micro.lock() = Some(image);
    }

    /// The content of a base file, computed once.
    pub fn sum_of(&self, path: &Path, cancel: &Cancel) -> Result<Sum, Problem> {
        self.sums.of(path, cancel)
    }

    /// The base file with this content, among those that were asked for.
    pub fn base_with(&self, sha256: &str) -> Option<(PathBuf, Sum)> {
        self.sums.find(sha256)
    }

    /// This host as the only one.
    pub fn alone(&self, deployment: &DeploymentName) -> Result<Hosts, Problem> {
        Ok(Hosts { standing: self.standing(deployment)?, ..Hosts::alone(self.site()?) })
    }

    /// How many guests with this installation's mark stand on this host.
    pub fn guest_count(&self) -> Result<u32, Problem> {
        let installation = self.config.installation.to_string();
        let ours = self.libvirt.marked()?.into_iter().filter(|(_, mark)| mark.installation == installation);
        Ok(u32::try_from(ours.count()).unwrap_or(u32::MAX))
    }

    /// The guests of a deployment that stand on this host.
    pub fn standing(&self, deployment: &DeploymentName) -> Result<std::collections::BTreeMap<GuestName, Standing>, Problem> {
        let owner = self.owner(deployment);
        let facts = self.libvirt.domains(&|mark| mark.is_of(&owner))?.ours;
        let standing = facts.iter().filter_map(|fact| {
            let guest = GuestName::new(&fact.mark.guest).ok()?;
            Some((guest, Standing { host: self.config.host.clone(), running: fact.state.is_active() }))
        });
        Ok(standing.collect())
    }

    /// Finds out now whether KVM works, so that the first `up` need not wait for it.
    pub fn test_kvm(&self) {
        match self.find_micro() {
            Ok(micro) => tracing::info!(accelerator = ?self.accelerator(micro.as_ref()), "accelerator"),
            Err(problem) => tracing::warn!(%problem, "KVM is not tested"),
        }
    }

    /// True when the next [`LocalHost::prepare`] waits for the test of KVM.
    pub fn must_test_kvm(&self) -> bool {
        self.find_micro().is_ok_and(|micro| self.known_accelerator(micro.as_ref()).is_none())
    }

    /// The base images that are there.
    pub fn images(&self) -> Result<Vec<ImageInfo>, Problem> {
        images::list_images(&self.config.images_dir)
    }

    fn site_with(&self, accelerator: impl FnOnce(Option<&MicroImage>) -> Accelerator) -> Result<Site, Problem> {
        let micro = self.find_micro()?;
        Ok(Site {
            installation: self.config.installation,
            host: self.config.host.clone(),
            deployments: self.deployments(),
            bases: self.bases(),
            accelerator: accelerator(micro.as_ref()),
            emulator: accelerator::emulator(),
            micro,
            bridge: self.config.bridge.clone(),
            mtu: MTU,
            free_memory_mb: free_memory_mb()?,
            cpus: std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
            busy_cpus: self.libvirt.busy_cpus()?,
        })
    }

    /// Reads, resolves, places and lowers a testbed file. `hosts` is asked for once the file is found good.
    pub fn prepare(
        &self,
        deployment: &DeploymentName,
        file: &str,
        text: &str,
        project: &Path,
        purpose: Purpose<'_>,
        hosts: impl FnOnce() -> Result<Hosts, Problem>,
    ) -> Result<Prepared, Problem> {
        let leases = self.leases(deployment)?;
        let loaded = topology::load(file, text, deployment, &leases)?;
        let mut allowed: Vec<&Path> = self.config.allowed_image_dirs.iter().map(PathBuf::as_path).collect();
        allowed.push(&self.config.images_dir);
        let files = project::read(&loaded.topology, &project::Places { project, allowed })
            .map_err(|faults| problem_of(file, faults).unwrap_or_else(|| Problem::internal("a fault without a fault")))?;
        let hosts = hosts()?;
        let places = plan::place(&loaded.topology.guests, &hosts)?;
        let travelling = plan::travelling(&loaded.topology, &hosts, &places, &files);
        let sum = |path: &Path| match purpose {
            Purpose::Doing(cancel) => self.sums.of(path, cancel),
            Purpose::Looking => Ok(Sum { sha256: String::new(), bytes: 0 }),
        };
        let sums: Result<plan::Sums, Problem> = travelling.into_iter().map(|path| sum(&path).map(|sum| (path, sum))).collect();
        let blueprint = plan::lower(&loaded.topology, &hosts, &places, &files, &sums?)?;
        let used = hosts.all().filter(|site| blueprint.guests.iter().any(|guest| guest.host == site.host));
        let warnings = used.filter_map(|site| match &site.accelerator {
            Accelerator::Kvm => None,
            Accelerator::Tcg { reason } if hosts.members.is_empty() => Some(format!("guests run without KVM and are slower: {reason}")),
            Accelerator::Tcg { reason } => Some(format!("guests on `{}` run without KVM and are slower: {reason}", site.host)),
        });
        let warnings = warnings.collect();
        Ok(Prepared { loaded, blueprint, warnings })
    }

    /// Each real part: does it do what it is for, and what to do when not.
    pub fn checks(&self) -> Vec<CheckResult> {
        let micro = self.find_micro();
        let untested = || Accelerator::Tcg { reason: "KVM is being tested; ask again in some seconds".to_string() };
        let accelerator = self.known_accelerator(micro.as_ref().ok().and_then(Option::as_ref)).unwrap_or_else(untested);
        vec![
            checks::libvirt(&self.libvirt),
            checks::kvm(&accelerator),
            checks::ovn(&self.northbound),
            checks::ovs(&self.switch, &self.config.bridge),
            checks::docker(),
            checks::disk(&self.config.data_dir),
            checks::micro(micro),
        ]
    }

    /// The parts that a member of a cluster must have of its own.
    pub fn member_checks(&self) -> Vec<CheckResult> {
        vec![checks::libvirt(&self.libvirt), checks::open_vswitch(&self.switch, &self.config.bridge), checks::disk(&self.config.data_dir)]
    }

    /// Brings a base file from the master, and says where it lies.
    pub fn fetch_base(&self, sum: &Sum, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<PathBuf, Problem> {
        let source = self.source.as_ref().ok_or_else(|| Problem::internal("this host has no master to get base files from"))?;
        let path = self.bases().join(&sum.sha256);
        source.fetch(sum, &path, cancel, say)?;
        Ok(path)
    }

    /// Runs a command in a guest through its agent. What it prints goes to `say` as it comes.
    pub fn exec(&self, deployment: &DeploymentName, call: &ExecCall<'_>, cancel: &Cancel, say: Say<'_>) -> Result<ExecResult, Problem> {
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

    /// Makes the micro image from this machine's packages.
    pub fn build_micro(&self, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<MicroImage, Problem> {
        cancel.check()?;
        images::build_micro(&self.config.images_dir, &images::MicroSources::find()?, cancel, say)
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
        let folders = folder::deployments_with_files(&self.deployments())?;
        marked.extend(folders.into_iter().map(|(path, name)| (format!("folder {}", path.display()), name)));
        Ok(marked)
    }

    fn known_accelerator(&self, micro: Option<&MicroImage>) -> Option<Accelerator> {
        match self.config.accelerator {
            AcceleratorChoice::Auto => accelerator::known(&accelerator::emulator(), micro, &self.config.data_dir),
            AcceleratorChoice::Kvm | AcceleratorChoice::Tcg => Some(self.accelerator(micro)),
        }
    }

    fn accelerator(&self, micro: Option<&MicroImage>) -> Accelerator {
        match self.config.accelerator {
            AcceleratorChoice::Kvm => Accelerator::Kvm,
            AcceleratorChoice::Tcg => Accelerator::Tcg { reason: "the server's settings say so".to_string() },
            AcceleratorChoice::Auto => {
                let _one_at_a_time = self.probing.lock();
                accelerator::probe(&accelerator::emulator(), micro, &self.config.data_dir)
            }
        }
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

/// Memory that guests could have without anything being pushed out, in MiB (proc_meminfo(5)).
fn free_memory_mb() -> Result<u64, Problem> {
    let text = std::fs::read_to_string("/proc/meminfo").map_err(|error| Problem::io("cannot read /proc/meminfo", &error))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib / 1024).ok_or_else(|| Problem::internal("/proc/meminfo has no `MemAvailable`"))
}
