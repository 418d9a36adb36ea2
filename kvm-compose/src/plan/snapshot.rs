//! What a snapshot consists of: its manifest, written when all of it is there.
//!
//! Pure data. It names everything that a second testbed could be made from as well: file, addresses, rows, disks, memory.

use std::{net::IpAddr, path::PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    blueprint::{GuestBlueprint, Row},
    container::Runtime,
};
use crate::{
    api::{
        Composition,
        snapshot::{Holds, SavedState, SnapshotFile, SnapshotGuest, SnapshotInfo},
    },
    error::{Code, Problem},
    names::{DeploymentName, GuestName, HostName, InstallationId, SnapshotName},
    topology::{Leases, Shape},
};

/// The version of the manifest that is written and read.
pub const VERSION: u32 = 1;

/// A snapshot's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// The snapshot.
    pub name: SnapshotName,
    /// The deployment that it was made of.
    pub deployment: DeploymentName,
    /// The server that made it.
    pub installation: InstallationId,
    /// The action that made it.
    pub operation: Uuid,
    /// When.
    pub created: DateTime<Utc>,
    /// It holds the whole testbed.
    pub whole: bool,
    /// It holds the memory of guests that ran.
    pub memory: bool,
    /// How long guests stood still, in milliseconds.
    pub pause_ms: u64,
    /// The testbed file and all that it consists of.
    pub testbed: SavedTestbed,
    /// The addresses that the file left to the testbed.
    pub leases: Vec<SavedLease>,
    /// The logical network.
    pub rows: Vec<Row>,
    /// What links did to frames, whatever the file says.
    pub links: Vec<SavedLink>,
    /// Interfaces whose cable was pulled.
    pub down: Vec<SavedPort>,
    /// The guests, by name.
    pub guests: Vec<SavedGuest>,
}

/// A testbed file as it was kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedTestbed {
    /// Its text, byte for byte.
    pub text: String,
    /// What messages call it.
    pub file: String,
    /// Included files, variables and `--set`.
    pub composition: Composition,
}

/// An address that a guest's interface had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedLease {
    /// The guest.
    pub guest: GuestName,
    /// The interface's place among its guest's.
    pub interface: usize,
    /// The address.
    pub address: IpAddr,
}

/// What a link did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedLink {
    /// The OVN port.
    pub port: Uuid,
    /// What it did to frames.
    pub shape: Shape,
}

/// An interface, by guest and port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPort {
    /// The guest.
    pub guest: GuestName,
    /// The OVN port.
    pub port: Uuid,
}

/// A guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedGuest {
    /// Its name.
    pub name: GuestName,
    /// What ran it.
    pub runtime: Runtime,
    /// What it did.
    pub state: SavedState,
    /// The digest of its definition.
    pub digest: String,
    /// Its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<SavedFile>,
    /// Its disks.
    pub disks: Vec<SavedDisk>,
    /// A container's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<SavedImage>,
}

/// A file in the snapshot's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFile {
    /// Its name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedDisk {
    /// The file's name below the deployment's `disks`, which ends in a digest of what the disk was made from.
    pub disk: PathBuf,
    /// Its content.
    pub content: SavedFile,
}

/// An image that holds a container's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedImage {
    /// Its name in Docker.
    pub name: String,
    /// Its id.
    pub id: String,
}

impl Manifest {
    /// The leases as the resolver takes them.
    pub fn leases(&self) -> Leases {
        self.leases.iter().map(|lease| ((lease.guest.clone(), lease.interface), lease.address)).collect()
    }

    /// A guest of it.
    pub fn guest(&self, name: &GuestName) -> Option<&SavedGuest> {
        self.guests.iter().find(|guest| guest.name == *name)
    }

    /// The chosen guests; all when none is. Fails with `not_found`.
    pub fn chosen(&self, only: &[GuestName]) -> Result<Vec<&SavedGuest>, Problem> {
        if let Some(unknown) = only.iter().find(|name| self.guest(name).is_none()) {
            let names: Vec<&str> = self.guests.iter().map(|guest| guest.name.as_str()).collect();
            return Err(Problem::new(Code::NotFound, format!("the snapshot `{}` has no guest `{unknown}`", self.name))
                .hint(format!("guests: {}", names.join(", "))));
        }
        Ok(self.guests.iter().filter(|guest| only.is_empty() || only.contains(&guest.name)).collect())
    }

    /// All its files.
    pub fn files(&self) -> impl Iterator<Item = &SavedFile> {
        self.guests.iter().flat_map(|guest| guest.memory.iter().chain(guest.disks.iter().map(|disk| &disk.content)))
    }

    /// As people and programs see it; `bytes` is what it takes on the disk.
    pub fn info(&self, bytes: u64) -> SnapshotInfo {
        let file = |holds: Holds, file: &SavedFile| SnapshotFile {
            holds,
            file: file.file.clone(),
            bytes: file.bytes,
            sha256: file.sha256.clone(),
        };
        let guest = |guest: &SavedGuest| SnapshotGuest {
            name: guest.name.clone(),
            state: guest.state,
            files: guest
                .memory
                .iter()
                .map(|memory| file(Holds::Memory, memory))
                .chain(guest.disks.iter().map(|disk| file(Holds::Disk, &disk.content)))
                .collect(),
            image: guest.image.as_ref().map(|image| image.name.clone()),
        };
        SnapshotInfo {
            name: self.name.clone(),
            created: self.created,
            whole: self.whole,
            memory: self.memory,
            pause_ms: self.pause_ms,
            bytes,
            guests: self.guests.iter().map(guest).collect(),
            fault: None,
        }
    }
}

/// Refuses guests that a snapshot cannot hold: those on other hosts than the master's.
pub fn refuse_members(guests: &[&GuestBlueprint], master: &HostName) -> Result<(), Problem> {
    let Some(far) = guests.iter().find(|guest| guest.host != *master) else { return Ok(()) };
    let message = format!("guest `{}` stands on host `{}`: snapshots hold guests of the master's own host alone", far.name, far.host);
    Err(Problem::new(Code::Unsupported, message).hint("name the guests that stand on the master, or place it there (`placement`)"))
}
