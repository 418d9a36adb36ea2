//! A container, decided: what its engine is told, and what is set up on its interfaces.
//!
//! Pure data. A container is a guest as a domain is; only what runs it differs.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What runs a guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// A domain of libvirt.
    #[default]
    Libvirt,
    /// A container of Docker.
    Docker,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The image, as `docker pull` names it.
    pub image: String,
    /// The image that the name led to when this was planned; nothing when the host did not have it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// The image that a snapshot put its files into, when it is made from that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<String>,
    /// Its hostname.
    pub hostname: String,
    /// Takes the place of the image's command.
    pub command: Option<Vec<String>>,
    /// Takes the place of the image's entry point.
    pub entrypoint: Option<Vec<String>>,
    /// Its variables, those of its file included.
    pub environment: BTreeMap<String, String>,
    /// Files and folders of the host that are in it.
    pub mounts: Vec<Bind>,
    /// It has every right on its host.
    pub privileged: bool,
    /// The user that it runs as, where it is not the image's.
    pub user: Option<String>,
    /// Devices of the host that are in it.
    pub devices: Vec<HostDevice>,
    /// Its weight where processors are scarce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// Memory in MiB that is not taken from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_low_mb: Option<u64>,
    /// The most memory in MiB that it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max_mb: Option<u64>,
}

/// A file or folder of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// On the host, links resolved.
    pub source: PathBuf,
    /// In the container.
    pub target: String,
    /// The container may not write to it.
    pub read_only: bool,
}

/// A device of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDevice {
    /// On the host.
    pub source: String,
    /// In the container.
    pub target: String,
    /// Any of `r`, `w` and `m`.
    pub permissions: String,
}

/// What is set up on a container's interface, from outside: nothing in the image has to know of it. Stands as JSON where
/// libvirt's element stands in a domain's NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its MTU.
    pub mtu: u16,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its default gateways.
    pub gateways: Vec<IpAddr>,
    /// Whom to ask for names.
    pub name_servers: Vec<IpAddr>,
    /// Addresses that are reached over it without a gateway.
    pub beside: Vec<IpAddr>,
    /// Routers that advertise themselves (RFC 4861) are listened to.
    pub advertised: bool,
}
