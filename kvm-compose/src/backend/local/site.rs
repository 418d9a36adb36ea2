//! What planning must know of this host: its place, its room, whether KVM works, and who stands here already.
//!
//! Asks the real parts; decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{AcceleratorChoice, LocalHost};
use crate::{
    backend::{accelerator, hypervisor::Hypervisor, images},
    error::Problem,
    names::{DeploymentName, GuestName},
    plan::site::{Accelerator, Hosts, MicroImage, Site, Standing},
};

/// MTU of guests' interfaces: 1500 less what Geneve adds over IPv4 (RFC 8926).
const MTU: u16 = 1442;

impl LocalHost {
    /// This host's name in OVN, when Open vSwitch has one.
    pub fn chassis(&self) -> Result<Option<String>, Problem> {
        Ok(self.switch.check(&self.config.bridge)?.0)
    }

    /// From now on these chassis of OVN are not waited for: their hosts are away.
    pub fn set_away(&self, chassis: BTreeSet<String>) {
        self.northbound.set_away(chassis);
    }

    /// Memory free for guests, in MiB.
    pub fn free_memory_mb(&self) -> Result<u64, Problem> {
        free_memory_mb()
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
    pub fn standing(&self, deployment: &DeploymentName) -> Result<BTreeMap<GuestName, Standing>, Problem> {
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

    fn site_with(&self, accelerator: impl FnOnce(Option<&MicroImage>) -> Accelerator) -> Result<Site, Problem> {
        let micro = self.find_micro()?;
        Ok(Site {
            installation: self.config.installation,
            host: self.config.host.clone(),
            deployments: self.deployments(),
            bases: self.bases(),
            goldens: self.goldens.folder().to_path_buf(),
            accelerator: accelerator(micro.as_ref()),
            emulator: accelerator::emulator(),
            micro,
            bridge: self.config.bridge.clone(),
            chassis: self.chassis()?,
            resolver: resolver(),
            mappings: self.config.mappings.clone(),
            masquerade: self.config.masquerade,
            // There in the root of the hierarchy of version 2 alone (cgroups(7)).
            unified_cgroups: std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            mtu: MTU,
            free_memory_mb: free_memory_mb()?,
            cpus: std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
            busy_cpus: self.libvirt.busy_cpus()?,
        })
    }

    pub(super) fn known_accelerator(&self, micro: Option<&MicroImage>) -> Option<Accelerator> {
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
}

/// The first name server of the host that is not the host itself; where a stub listens on loopback, the one behind it.
fn resolver() -> Option<std::net::IpAddr> {
    ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
        .into_iter()
        .find_map(|file| named_resolver(&std::fs::read_to_string(file).ok()?))
}

/// The first name server of a resolv.conf(5) that others could ask as well.
fn named_resolver(text: &str) -> Option<std::net::IpAddr> {
    let named = text.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse::<std::net::IpAddr>().ok());
    named.into_iter().find(|address| !address.is_loopback() && !address.is_unspecified())
}

/// Memory that guests could have without anything being pushed out, in MiB (proc_meminfo(5)).
fn free_memory_mb() -> Result<u64, Problem> {
    let text = std::fs::read_to_string("/proc/meminfo").map_err(|error| Problem::io("cannot read /proc/meminfo", &error))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib / 1024).ok_or_else(|| Problem::internal("/proc/meminfo has no `MemAvailable`"))
}
