//! What `lower` must know of the place: paths, the emulator, the micro image, and what the project's files hold.
//!
//! Pure data, gathered by the effects before planning.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    blueprint::{DiskFormat, Sum},
    outside::Mapping,
};
use crate::names::{GuestName, HostName, InstallationId};

/// A host, as far as planning needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// The installation.
    pub installation: InstallationId,
    /// The host's name.
    pub host: HostName,
    /// The folder that holds one folder per deployment.
    pub deployments: PathBuf,
    /// The folder that holds base files that came from the master, by digest.
    pub bases: PathBuf,
    /// The folder that holds golden images, by digest of what made them.
    #[serde(default)]
    pub goldens: PathBuf,
    /// How guests' instructions are run.
    pub accelerator: Accelerator,
    /// The emulator, such as `/usr/bin/qemu-system-x86_64`.
    pub emulator: PathBuf,
    /// The micro image, when it is there.
    pub micro: Option<MicroImage>,
    /// The integration bridge of OVN, `br-int`.
    pub bridge: String,
    /// Its name as a chassis of OVN (`system-id`), when it is one.
    #[serde(default)]
    pub chassis: Option<String>,
    /// Whom the host asks for names, when that is somebody its guests could ask as well.
    #[serde(default)]
    pub resolver: Option<IpAddr>,
    /// Its networks, by the names that testbed files use.
    #[serde(default)]
    pub mappings: Vec<Mapping>,
    /// It forwards what comes from those networks and hides it behind its own addresses.
    #[serde(default)]
    pub masquerade: bool,
    /// Its control groups are of version 2, whose weights are others and where libvirt keeps no memory for a guest.
    #[serde(default)]
    pub unified_cgroups: bool,
    /// MTU of guests' interfaces: 1500 less Geneve's 58 bytes (RFC 8926 over IPv4).
    pub mtu: u16,
    /// Memory free for guests, in MiB.
    pub free_memory_mb: u64,
    /// Virtual CPUs of the host.
    pub cpus: u32,
    /// Virtual CPUs of all guests that run on it, whosever they are.
    pub busy_cpus: u32,
}

/// The hosts that guests can stand on, and where they stand already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// The master's own host.
    pub master: Site,
    /// The members that are there.
    pub members: Vec<Site>,
    /// Where guests of the deployment stand, or were last told to.
    pub standing: BTreeMap<GuestName, Standing>,
    /// Members that do not answer, with the reason.
    pub away: BTreeMap<HostName, String>,
}

/// Where a guest stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The host.
    pub host: HostName,
    /// It runs, so that its memory is no longer among what is free.
    pub running: bool,
}

impl Hosts {
    /// A master without members.
    pub fn alone(master: Site) -> Self {
        Hosts { master, members: Vec::new(), standing: BTreeMap::new(), away: BTreeMap::new() }
    }

    /// The master, then the members.
    pub fn all(&self) -> impl Iterator<Item = &Site> {
        std::iter::once(&self.master).chain(&self.members)
    }

    /// The host of this name.
    pub fn find(&self, name: &HostName) -> Option<&Site> {
        self.all().find(|site| &site.host == name)
    }
}

/// How guests' instructions are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Accelerator {
    /// The processor runs them.
    Kvm,
    /// QEMU translates them (TCG), because of `reason`.
    Tcg {
        /// Why KVM is not used.
        reason: String,
    },
}

/// The built-in image for `micro` guests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MicroImage {
    /// SHA-256 of kernel and initramfs, in hexadecimal.
    pub digest: String,
    /// An ELF `vmlinux` (PVH boot) or a bzImage.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
}

/// What the files named by a testbed file hold, by the path as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectFiles {
    /// Scripts' texts.
    pub scripts: BTreeMap<String, String>,
    /// Disks: where they are, and the format their header says.
    pub disks: BTreeMap<String, DiskFile>,
    /// Images of the catalogue that are there, by name.
    #[serde(default)]
    pub images: BTreeMap<String, StoredImage>,
    /// Variables of containers, from their files.
    pub env_files: BTreeMap<String, BTreeMap<String, String>>,
    /// Files and folders that are in containers, or that guests get: where they are, without symbolic links.
    pub trees: BTreeMap<String, PathBuf>,
    /// The public SSH key of the deployment.
    #[serde(default)]
    pub ssh_key: Option<String>,
    /// Files and folders that guests get as their context.
    #[serde(default)]
    pub contexts: BTreeMap<String, PackedTree>,
}

/// A file or folder of the project that guests get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedTree {
    /// Where it is, without symbolic links.
    pub path: PathBuf,
    /// Of the tar stream that it packs into.
    pub sum: Sum,
}

/// An image that a name of the catalogue stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredImage {
    /// Where its content is: qcow2, standing alone, never written to.
    pub path: PathBuf,
    /// SHA-256 of its content, in hexadecimal.
    pub digest: String,
    /// Size of the disk that a guest sees, in bytes.
    pub virtual_bytes: u64,
    /// Who logs in where the testbed file names nobody.
    pub user: Option<String>,
}

/// A disk image that the testbed file names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFile {
    /// Where it is, without symbolic links.
    pub path: PathBuf,
    /// The format its header says.
    pub format: DiskFormat,
    /// Its size and time of change, as a text that differs when the file does.
    pub version: String,
}
