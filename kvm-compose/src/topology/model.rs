//! The topology: what a testbed file means, with every default filled in and every reference resolved.
//!
//! Pure data. Knows nothing of hosts' paths, XML or OVN rows.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use crate::spec::model::{DiskDevice, DiskFormat, ReadyCondition};
use crate::{
    addr::Mac,
    diagnostic::Diagnostic,
    error::Place,
    names::{DeploymentName, GuestName, HostName, NetworkName},
};

/// A testbed, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// The deployment it belongs to.
    pub deployment: DeploymentName,
    /// Layer-2 segments, by name.
    pub switches: Vec<Switch>,
    /// Routers, by name.
    pub routers: Vec<Router>,
    /// Guests, in the file's order.
    pub guests: Vec<Guest>,
    /// Expectations, in the file's order.
    pub checks: Vec<super::checks::Check>,
}

/// A layer-2 segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Switch {
    /// Its name.
    pub name: NetworkName,
    /// Its subnet, host bits cleared.
    pub subnet: IpNet,
    /// The DHCP rule for it, if there is one.
    pub dhcp: Option<Dhcp>,
}

/// What OVN's DHCP server answers on a switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dhcp {
    /// The router whose rule it is.
    pub router: NetworkName,
    /// The default gateway handed out, and the server's address.
    pub gateway: IpAddr,
    /// The MAC address the server answers from.
    pub server_mac: Mac,
    /// The lease time in seconds.
    pub lease_s: u32,
    /// Addresses that are not handed out: first and last.
    pub excluded: Option<(IpAddr, IpAddr)>,
}

/// A layer-3 router.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Router {
    /// Its name.
    pub name: NetworkName,
    /// Its ports.
    pub ports: Vec<RouterPort>,
    /// Its static routes.
    pub routes: Vec<StaticRoute>,
}

/// A router's port, connected to a switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouterPort {
    /// Its name, unique in the deployment.
    pub name: NetworkName,
    /// Its MAC address.
    pub mac: Mac,
    /// Its address and prefix length.
    pub address: IpNet,
    /// The switch.
    pub switch: NetworkName,
}

/// A static route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StaticRoute {
    /// Where to.
    pub prefix: IpNet,
    /// Through whom.
    pub nexthop: IpAddr,
}

/// A guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guest {
    /// Its name.
    pub name: GuestName,
    /// Its hostname.
    pub hostname: String,
    /// What it boots.
    pub kind: GuestKind,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Its interfaces: `eth0`, `eth1`, …
    pub nics: Vec<Nic>,
    /// The host the file asks for.
    pub host: Option<HostRef>,
    /// When it is ready.
    pub ready: Readiness,
    /// Variables in the guest's environment.
    pub environment: BTreeMap<String, String>,
    /// Runs once in its life.
    pub setup_script: Option<FileRef>,
    /// Runs at the end of every `up`.
    pub run_script: Option<FileRef>,
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
}

impl GuestKind {
    /// The key in the testbed file.
    pub fn word(&self) -> &'static str {
        match self {
            GuestKind::Micro { .. } => "micro",
            GuestKind::ExistingDisk { .. } => "libvirt",
        }
    }
}

/// A host that the testbed file names, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRef {
    /// The host.
    pub name: HostName,
    /// Where it is named.
    pub at: Place,
}

/// A file that the testbed file names, relative to the project folder or absolute, and where it is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileRef {
    /// The path as written, `${PWD}` unresolved.
    pub path: String,
    /// Where it is named.
    pub at: Place,
    /// The source line, for the diagnostic.
    pub source: String,
}

/// An interface of a guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nic {
    /// Its name in the guest.
    pub name: String,
    /// The switch.
    pub switch: NetworkName,
    /// Its MAC address.
    pub mac: Mac,
    /// Its address and prefix length.
    pub address: IpNet,
    /// Where the address comes from.
    pub assignment: Assignment,
    /// The default gateway it uses.
    pub gateway: Option<IpAddr>,
}

/// Where an interface's address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Assignment {
    /// The file names it.
    Static,
    /// The testbed chose it and OVN's DHCP server hands it out.
    Dhcp,
    /// The testbed chose it and the seed configures it, since no DHCP rule covers the switch.
    Assigned,
}

/// Addresses that guests' interfaces have now: (guest, index of the interface) → address. They are kept where the file
/// leaves the choice to the testbed, so that no edit moves an untouched guest.
pub type Leases = BTreeMap<(GuestName, usize), IpAddr>;

/// A testbed file, read and resolved without an error.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it means.
    pub topology: Topology,
    /// What it says, defaults filled in: `testbed config`.
    pub resolved: serde_json::Value,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
}

/// When a guest counts as ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// The fact that is waited for.
    pub condition: ReadyCondition,
    /// The limit, in seconds.
    pub timeout_s: u64,
}
