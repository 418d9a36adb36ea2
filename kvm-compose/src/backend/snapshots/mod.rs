//! The folder of a deployment's snapshots, and what in it survives a death.
//!
//! ```text
//! snapshots/clean/manifest.json        whole: the manifest is written last, then the folder gets its name
//!                 web.memory, web-….qcow2
//! snapshots/clean.part/making.json     in the making: who stands still for it; to be given up
//! snapshots/clean.gone/                being deleted; to be given up
//! snapshots/restoring.json             a restore has given up what was there before; to be finished
//! ```
//!
//! Must not know guests, libvirt or Docker.

mod copy;

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

pub use copy::{copy, sum};

use crate::{
    error::{Code, Problem},
    names::{DeploymentName, GuestName, SnapshotName},
    plan::{
        container::Runtime,
        snapshot::{Manifest, VERSION},
    },
};

/// The folder's name in the deployment's.
pub const FOLDER: &str = "snapshots";
const MANIFEST: &str = "manifest.json";
const MAKING: &str = "making.json";
const RESTORING: &str = "restoring.json";
const PART: &str = ".part";
const GONE: &str = ".gone";
/// libvirt and QEMU pass through folders but do not list them.
const FOLDER_MODE: u32 = 0o711;

/// The snapshots of one deployment.
#[derive(Debug, Clone)]
pub struct Shelf {
    path: PathBuf,
}

/// On disk before anybody stands still: who is to run again, whatever happens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Making {
    /// Guests that ran.
    pub held: Vec<Held>,
    /// Images that may have been made of containers.
    pub images: Vec<String>,
}

/// A guest that stands still for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The guest.
    pub guest: GuestName,
    /// libvirt's or Docker's name.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// What runs it.
    pub runtime: Runtime,
}

/// On disk before a restore gives up what was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoring {
    /// The snapshot.
    pub name: SnapshotName,
    /// The guests asked for; the whole testbed when none is named.
    pub guests: Vec<GuestName>,
    /// SHA-256 of the testbed file that is given up with what was there: where it still stands, the snapshot's takes its place.
    pub replaced: String,
}

/// A snapshot by name, with its manifest or why it cannot be read.
pub type Shelved = (SnapshotName, Result<Manifest, Problem>);

/// What a death left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// A snapshot in the making.
    Part(PathBuf, Making),
    /// A snapshot being deleted, with the images of its containers.
    Gone(PathBuf, Vec<String>),
}

impl Shelf {
    /// The snapshots of a deployment.
    pub fn new(deployments: &Path, deployment: &DeploymentName) -> Self {
        Shelf { path: deployments.join(deployment.as_str()).join(FOLDER) }
    }

    /// A snapshot's folder.
    pub fn folder(&self, name: &SnapshotName) -> PathBuf {
        self.path.join(name.as_str())
    }

    /// All snapshots, by name; one whose manifest cannot be read with the reason.
    pub fn list(&self) -> Result<Vec<Shelved>, Problem> {
        let mut found = Vec::new();
        for folder in self.folders()? {
            let name = folder.file_name().and_then(|name| name.to_str()).and_then(|name| SnapshotName::new(name).ok());
            if let Some(name) = name {
                let manifest = self.read(&name);
                found.push((name, manifest));
            }
        }
        Ok(found)
    }

    /// A snapshot's manifest. Fails with `not_found`.
    pub fn read(&self, name: &SnapshotName) -> Result<Manifest, Problem> {
        let path = self.folder(name).join(MANIFEST);
        let manifest: Option<Manifest> = read(&path)?;
        let manifest = match manifest {
            Some(manifest) => manifest,
            None if self.folder(name).is_dir() => {
                let message = format!("the snapshot `{name}` has no {MANIFEST}");
                return Err(Problem::new(Code::Storage, message).hint(format!("`testbed snapshot delete {name}` gives it up")));
            }
            None => {
                let known: Vec<String> = self.list()?.into_iter().map(|(name, _)| name.to_string()).collect();
                let known = if known.is_empty() { "there is none".to_string() } else { format!("snapshots: {}", known.join(", ")) };
                return Err(Problem::new(Code::NotFound, format!("there is no snapshot `{name}`")).hint(known));
            }
        };
        if manifest.version != VERSION {
            let message = format!("the snapshot `{name}` is of version {}, and this server reads {VERSION}", manifest.version);
            return Err(Problem::new(Code::Unsupported, message));
        }
        Ok(manifest)
    }

    /// What a snapshot takes on the disk.
    pub fn bytes(&self, name: &SnapshotName) -> u64 {
        let entries = fs::read_dir(self.folder(name)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|found| found.blocks() * 512).sum()
    }

    /// Makes the folder of a snapshot in the making, with its mark. Fails with `conflict` when there is one of that name.
    pub fn begin(&self, name: &SnapshotName, making: &Making) -> Result<PathBuf, Problem> {
        if self.folder(name).exists() {
            return Err(Problem::new(Code::Conflict, format!("there is a snapshot `{name}` already"))
                .hint(format!("choose another name, or give it up with `testbed snapshot delete {name}`")));
        }
        let part = self.path.join(format!("{name}{PART}"));
        let make = || -> io::Result<()> {
            for folder in [&self.path, &part] {
                fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
                // The process's umask may have taken bits away.
                fs::set_permissions(folder, fs::Permissions::from_mode(FOLDER_MODE))?;
            }
            Ok(())
        };
        make().map_err(|error| Problem::io(format!("cannot make the folder `{}`", part.display()), &error))?;
        write(&part.join(MAKING), making)?;
        sync(&self.path)?;
        Ok(part)
    }

    /// Gives a finished snapshot its name, durably. From here on it is there.
    pub fn finish(&self, manifest: &Manifest) -> Result<(), Problem> {
        let part = self.path.join(format!("{}{PART}", manifest.name));
        write(&part.join(MANIFEST), manifest)?;
        let folder = self.folder(&manifest.name);
        fs::rename(&part, &folder)
            .map_err(|error| Problem::io(format!("cannot give the snapshot `{}` its name", manifest.name), &error))?;
        sync(&self.path)?;
        // The mark means nothing under the final name.
        fs::remove_file(folder.join(MAKING)).ok();
        Ok(())
    }

    /// Takes a snapshot's name away. From here on it is gone; its files go with [`Shelf::clear`].
    pub fn unname(&self, name: &SnapshotName) -> Result<PathBuf, Problem> {
        let gone = self.path.join(format!("{name}{GONE}"));
        self.clear(&gone)?;
        fs::rename(self.folder(name), &gone).map_err(|error| Problem::io(format!("cannot delete the snapshot `{name}`"), &error))?;
        sync(&self.path)?;
        Ok(gone)
    }

    /// Removes a folder with all that is in it, and the shelf with its last one.
    pub fn clear(&self, folder: &Path) -> Result<(), Problem> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Problem::io(format!("cannot remove `{}`", folder.display()), &error));
            }
            _ => {}
        }
        // It stays while anything is in it.
        fs::remove_dir(&self.path).ok();
        Ok(())
    }

    /// What deaths left behind.
    pub fn left(&self) -> Result<Vec<Left>, Problem> {
        let mut left = Vec::new();
        for folder in self.folders()? {
            match folder.extension().and_then(|ending| ending.to_str()) {
                Some("part") => {
                    // A mark that was not written to its end was written before anybody stood still.
                    let making = read(&folder.join(MAKING)).ok().flatten().unwrap_or_default();
                    left.push(Left::Part(folder, making));
                }
                Some("gone") => {
                    let manifest: Option<Manifest> = read(&folder.join(MANIFEST)).ok().flatten();
                    let guests = manifest.into_iter().flat_map(|manifest| manifest.guests);
                    let images = guests.filter_map(|guest| guest.image).map(|image| image.name);
                    left.push(Left::Gone(folder, images.collect()));
                }
                _ => {}
            }
        }
        Ok(left)
    }

    /// The restore that has given up what was there and is not done.
    pub fn restoring(&self) -> Result<Option<Restoring>, Problem> {
        read(&self.path.join(RESTORING))
    }

    /// From here on the restore is to be finished.
    pub fn set_restoring(&self, restoring: &Restoring) -> Result<(), Problem> {
        write(&self.path.join(RESTORING), restoring)
    }

    /// The restore is done, or what it was for is given up.
    pub fn clear_restoring(&self) -> Result<(), Problem> {
        let path = self.path.join(RESTORING);
        match fs::remove_file(&path) {
            Ok(()) => sync(&self.path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Problem::io(format!("cannot remove `{}`", path.display()), &error)),
        }
    }

    fn folders(&self) -> Result<Vec<PathBuf>, Problem> {
        let failed = |error: io::Error| Problem::io(format!("cannot read `{}`", self.path.display()), &error);
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut folders = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
        folders.sort();
        Ok(folders)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Problem> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Problem::io(format!("cannot read `{}`", path.display()), &error)),
    };
    let parsed = serde_json::from_slice(&content);
    parsed.map(Some).map_err(|error| Problem::new(Code::Storage, format!("`{}` cannot be understood", path.display())).cause(error))
}

/// Writes a document so that it is there whole or not at all, for us alone: testbed files may hold secrets.
fn write<T: Serialize>(path: &Path, document: &T) -> Result<(), Problem> {
    let content = serde_json::to_vec_pretty(document).map_err(|error| Problem::internal("a document is not JSON").cause(error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let put = || -> io::Result<()> {
        let mut temporary = tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder)?;
        temporary.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
        temporary.write_all(&content)?;
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    };
    put().map_err(|error| Problem::io(format!("cannot write `{}`", path.display()), &error))
}

fn sync(folder: &Path) -> Result<(), Problem> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| Problem::io(format!("cannot write `{}`", folder.display()), &error))
}

#[cfg(test)]
mod tests;
