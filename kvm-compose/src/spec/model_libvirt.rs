//! What the user wrote, key by key: virtual machines with a disk.
//!
//! Pure data.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{model_scaling::Scaling, reader::Spanned};

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
    /// The user of a cloud image; the catalogue names one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z_][-a-z0-9_]{0,31}$"))]
    pub username: Option<Spanned<String>>,
    /// The user's password, for the console.
    #[serde(skip_serializing)]
    pub password: Option<Spanned<String>>,
    /// What it boots.
    pub libvirt_type: LibvirtType,
    /// Make several of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
}

/// What a virtual machine boots: exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LibvirtType {
    /// A publisher's image that sets itself up by cloud-init.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_image: Option<CloudImage>,
    /// A disk that exists already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_disk: Option<ExistingDisk>,
    /// An installer on a CD-ROM, and an empty disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iso_guest: Option<IsoGuest>,
}

/// A publisher's image that sets itself up by cloud-init.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CloudImage {
    /// A name of the image catalogue.
    pub name: Spanned<String>,
    /// Added to the image's size, in GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub expand_gigabytes: Option<Spanned<u64>>,
    /// A script that runs once, after the first boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_script: Option<Spanned<String>>,
    /// A script that runs at the end of every `up`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_script: Option<Spanned<String>>,
    /// A file or folder that is in the guest at `/etc/nocloud/context/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Spanned<String>>,
    /// Variables, in the guest through `/etc/nocloud/env.sh KEY`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    #[schemars(with = "BTreeMap<String, super::model_docker::Text>")]
    pub environment: BTreeMap<String, Spanned<String>>,
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
    /// A file or folder that is in the guest at `/etc/nocloud/context/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Spanned<String>>,
}

/// An installer on a CD-ROM, and an empty disk.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct IsoGuest {
    /// The ISO image: relative to the project folder, or absolute in an image folder that the server allows.
    pub path: Spanned<String>,
    /// The size of the empty disk in GiB; 20 when absent. It takes room only as it fills.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub expand_gigabytes: Option<Spanned<u64>>,
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

/// How a disk looks to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskDevice {
    /// A hard disk.
    Disk,
    /// A CD-ROM drive.
    Cdrom,
}
