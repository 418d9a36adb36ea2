//! The topology: guests, what they boot, and what is said of each.
//!
//! Pure data. Their interfaces are in `model`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::model::{DiskDevice, DiskFormat, FileRef, HostRef, Labels, Nic, ReadyCondition};
use crate::names::GuestName;

/// A guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guest {
    /// Its name.
    pub name: GuestName,
    /// Its hostname.
    pub hostname: String,
    /// What it boots.
    pub kind: GuestKind,
    /// Virtual CPUs; 0 for a container, which has no number of its own.
    pub cpus: u32,
    /// Memory in MiB; 0 for a container without a limit.
    pub memory_mb: u64,
    /// Its interfaces: `eth0`, `eth1`, …
    pub nics: Vec<Nic>,
    /// Where it may run.
    pub placement: Placement,
    /// Guests that must be ready before it starts.
    pub depends_on: Vec<GuestName>,
    /// When it is ready.
    pub ready: Readiness,
    /// What it may use of its host.
    pub resources: Resources,
    /// Variables in the guest's environment.
    pub environment: BTreeMap<String, String>,
    /// Run once in its life, in this order.
    pub setup_scripts: Vec<FileRef>,
    /// Run at the end of every `up`, in this order.
    pub run_scripts: Vec<FileRef>,
    /// A file or folder that is in the guest at `/etc/nocloud/context/`.
    pub context: Option<FileRef>,
    /// Free words, to find it by.
    pub labels: Labels,
    /// Which clone of a scaled machine it is.
    pub clone_of: Option<CloneOf>,
}

/// A clone of a scaled machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneOf {
    /// The machine, one of [`Topology::scaled`].
    pub machine: GuestName,
    /// Counts from 0.
    pub id: u32,
}

/// A machine of which there are several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaled {
    /// Its name; no guest has it.
    pub machine: GuestName,
    /// Runs once in the image that its clones are made from.
    pub shared_setup: Option<FileRef>,
    /// `scaling` in the language, defaults filled in, as `testbed config` prints it.
    pub written: serde_json::Value,
}

/// Where a guest may run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The host the file asks for.
    pub host: Option<HostRef>,
    /// Guests on whose host it stands.
    pub near: Vec<GuestName>,
    /// Guests on whose hosts it does not stand.
    pub apart: Vec<GuestName>,
    /// How many virtual CPUs it counts for where the least loaded host is looked for.
    pub weight: Option<u32>,
}

/// What a guest may use of its host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Its weight where processors are scarce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// Memory in MiB that is not taken from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_low_mb: Option<u64>,
    /// The most memory in MiB that it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max_mb: Option<u64>,
    /// The most reads and writes of its disks in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_iops: Option<u64>,
}

/// What a guest boots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum GuestKind {
    /// The built-in kernel and initramfs, no disk.
    Micro {
        /// Test services and their TCP ports, such as `http: 80`.
        services: BTreeMap<String, u16>,
    },
    /// A disk that exists already.
    ExistingDisk {
        /// The image.
        disk: FileRef,
        /// Its format.
        format: DiskFormat,
        /// Disk or CD-ROM.
        device: DiskDevice,
        /// The guest may not write to it.
        readonly: bool,
        /// Copy it whole instead of a linked clone.
        deep_copy: bool,
        /// Virtual graphics with VNC.
        graphics: bool,
    },
    /// A publisher's image that sets itself up by cloud-init.
    CloudImage {
        /// A name of the image catalogue, and where it stands.
        image: FileRef,
        /// Added to the image's size, in GiB.
        expand_gb: u64,
        /// The user, where it is not the catalogue's.
        username: Option<String>,
        /// The user's password, for the console.
        password: Option<String>,
        /// Virtual graphics with VNC.
        graphics: bool,
    },
    /// An installer on a CD-ROM, and an empty disk.
    IsoGuest {
        /// The ISO image.
        iso: FileRef,
        /// The size of the empty disk, in GiB.
        disk_gb: u64,
        /// Virtual graphics with VNC.
        graphics: bool,
    },
    /// A container.
    Docker(Box<Container>),
    /// An Android emulator.
    Android(Android),
}

impl GuestKind {
    /// The key in the testbed file.
    pub fn word(&self) -> &'static str {
        match self {
            GuestKind::Micro { .. } => "micro",
            GuestKind::ExistingDisk { .. } | GuestKind::CloudImage { .. } | GuestKind::IsoGuest { .. } => "libvirt",
            GuestKind::Docker(_) => "docker",
            GuestKind::Android(_) => "android",
        }
    }

    /// True for what this version can start.
    pub fn is_startable(&self) -> bool {
        !matches!(self, GuestKind::Android(_))
    }
}

/// A container, as the testbed file describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// The image, as `docker pull` names it.
    pub image: String,
    /// Takes the place of the image's command.
    pub command: Option<Vec<String>>,
    /// Takes the place of the image's entry point.
    pub entrypoint: Option<Vec<String>>,
    /// A file of `KEY=value` lines; the guest's environment goes before it.
    pub env_file: Option<FileRef>,
    /// Files and folders of the host that are in it.
    pub volumes: Vec<Mount>,
    /// It has every right on its host.
    pub privileged: bool,
    /// The user, or user and group, that it runs as.
    pub user: Option<String>,
    /// Devices of the host that are in it.
    pub devices: Vec<Device>,
}

/// A file or folder of the host that is in a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// The file or folder.
    pub source: FileRef,
    /// Where it is in the container.
    pub target: String,
    /// The container may not write to it.
    pub read_only: bool,
}

/// A device of the host that is in a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// The device on the host.
    pub source: String,
    /// Where it is in the container.
    pub target: String,
    /// Any of `r`, `w` and `m`.
    pub permissions: String,
}

/// An Android emulator's device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Android {
    /// The testbed makes it.
    Made {
        /// The version of Android's programming interface.
        api_version: u32,
        /// With Google's store and services.
        playstore: bool,
    },
    /// It exists already.
    Existing {
        /// Its folder.
        path: FileRef,
    },
}

/// When a guest counts as ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// The fact that is waited for.
    pub condition: ReadyCondition,
    /// The limit, in seconds.
    pub timeout_s: u64,
    /// Before that, cloud-init is to have set the guest up, where the guest has it.
    #[serde(default)]
    pub set_up: bool,
}
