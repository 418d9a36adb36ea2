//! What the user wrote, key by key. The JSON Schema is generated from these types.
//!
//! Pure data. Names are checked, references are not: that is the topology's work.

use std::{collections::BTreeMap, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::model_network::*;
use super::{node::Mark, reader::Spanned};
use crate::{
    addr::Mac,
    names::{GuestName, HostName, NetworkName},
};

/// A testbed file: `kvm-compose.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, title = "kvm-compose.yaml")]
pub struct Spec {
    /// The language's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1))]
    pub version: Option<Spanned<u64>>,
    /// The guests.
    pub machines: Vec<Machine>,
    /// The network they stand on.
    pub network: Network,
    /// Expectations that `testbed check` puts to the test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<super::checks::Check>,
    /// Reserved; has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tooling: Option<serde_json::Map<String, serde_json::Value>>,
    /// Reserved; has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testbed_options: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A guest. Exactly one of `micro` and `libvirt` says what it boots.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Machine {
    /// Its name: letters, digits and `-`, at most 50.
    #[schemars(length(min = 1, max = 50), pattern(r"^[A-Za-z0-9]([-_A-Za-z0-9]*[A-Za-z0-9])?$"))]
    pub name: Spanned<GuestName>,
    /// Its interfaces: eth0, eth1, … in this order.
    #[serde(default)]
    pub network: Vec<Interface>,
    /// A tiny guest that boots the built-in kernel and initramfs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro: Option<Micro>,
    /// A virtual machine with a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub libvirt: Option<Libvirt>,
    /// When it counts as ready; `up` ends when all guests are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// Where it may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Where it stands in the file.
    #[serde(skip)]
    #[schemars(skip)]
    pub at: Mark,
}

/// An interface of a guest.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Interface {
    /// The switch it is plugged into.
    pub switch: Spanned<NetworkName>,
    /// An address of the switch's subnet, or `dynamic` (the default).
    #[serde(default)]
    pub ip: Option<Spanned<IpChoice>>,
    /// The default gateway. With `dynamic` the DHCP rule gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub gateway: Option<Spanned<IpAddr>>,
    /// Its MAC address; generated, and the same in every run, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Spanned<Mac>>,
    /// Conditions of its link; the switch's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impairment: Option<Impairment>,
    /// Where it stands in the file.
    #[serde(skip)]
    #[schemars(skip)]
    pub at: Mark,
}

/// `dynamic` or an address without a mask.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum IpChoice {
    /// From the switch's DHCP rule, or else chosen by the testbed.
    Dynamic,
    /// This one.
    Address(IpAddr),
}

impl Serialize for IpChoice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            IpChoice::Dynamic => serializer.serialize_str("dynamic"),
            IpChoice::Address(address) => serializer.collect_str(address),
        }
    }
}

impl JsonSchema for IpChoice {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IpChoice".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "anyOf": [{"const": "dynamic"}, {"format": "ipv4"}, {"format": "ipv6"}]})
    }
}

/// A guest without a disk: built-in kernel and initramfs, ready in about 3 s even without KVM.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Micro {
    /// Virtual CPUs; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512))]
    pub cpus: Option<Spanned<u64>>,
    /// Memory in MiB; 128 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 96, max = 4194304))]
    pub memory_mb: Option<Spanned<u64>>,
    /// Variables in the guest's environment, also through `/etc/nocloud/env.sh KEY`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub environment: BTreeMap<String, Spanned<String>>,
    /// A script that runs once, after the first boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_script: Option<Spanned<String>>,
    /// A script that runs at the end of every `up`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_script: Option<Spanned<String>>,
    /// Test services and their TCP ports: `http: 80` serves a page.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub services: BTreeMap<String, Spanned<u64>>,
}

/// A virtual machine with a disk.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Libvirt {
    /// Virtual CPUs.
    #[schemars(range(min = 1, max = 512))]
    #[schemars(required)]
    pub cpus: Option<Spanned<u64>>,
    /// Memory in MiB.
    #[schemars(required, range(min = 16, max = 4194304))]
    pub memory_mb: Option<Spanned<u64>>,
    /// Virtual graphics with VNC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extended_graphics_support: Option<Spanned<bool>>,
    /// A user of the image, for people who read the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<Spanned<String>>,
    /// The user's password, for people who read the file.
    #[serde(skip_serializing)]
    pub password: Option<Spanned<String>>,
    /// What it boots.
    pub libvirt_type: LibvirtType,
}

/// What a virtual machine boots.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LibvirtType {
    /// A disk that exists already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_disk: Option<ExistingDisk>,
}

/// A disk that exists already.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ExistingDisk {
    /// The image: relative to the project folder, or absolute in an image folder that the server allows.
    pub path: Spanned<String>,
    /// The image's format; `raw` when absent. A file whose header says otherwise is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_type: Option<Spanned<DiskFormat>>,
    /// `disk` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_type: Option<Spanned<DiskDevice>>,
    /// The guest may not write to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly: Option<Spanned<bool>>,
    /// Copy the image whole instead of a linked clone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_deep_copy: Option<Spanned<bool>>,
    /// A script that runs once, after the first boot; needs the QEMU guest agent in the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_script: Option<Spanned<String>>,
    /// A script that runs at the end of every `up`; needs the QEMU guest agent in the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_script: Option<Spanned<String>>,
}

/// When a guest counts as ready.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ready {
    /// What is waited for: the guest agent answers (`agent: true`), or only that the domain runs (`agent: false`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<bool>")]
    pub agent: Option<Spanned<ReadyCondition>>,
    /// The limit in seconds; 300 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_s: Option<Spanned<u64>>,
}

/// Where a guest may run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Placement {
    /// The host; `main` and `master` both name the master.
    pub host: Option<Spanned<HostName>>,
}

/// A disk image's format (qemu-img(1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// A plain image.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
}

impl DiskFormat {
    /// The name that QEMU and libvirt use.
    pub const fn name(self) -> &'static str {
        match self {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        }
    }
}

/// A fact about a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadyCondition {
    /// libvirt says that it runs.
    Running,
    /// Its guest agent answers.
    Agent,
}

impl std::fmt::Display for ReadyCondition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ReadyCondition::Running => "the domain runs",
            ReadyCondition::Agent => "the guest agent answers",
        })
    }
}

/// How a disk looks to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskDevice {
    /// A hard disk.
    Disk,
    /// A CD-ROM drive.
    Cdrom,
}
