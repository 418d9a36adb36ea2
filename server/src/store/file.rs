//! The file provider: one JSON file per record, an index in memory behind a lock.
//!
//! Reads never touch the disk. A record that does not parse is set aside, and the rest still serve.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::Utc;
use kvm_compose::{
    error::{Code, Problem},
    names::DeploymentName,
};
use parking_lot::{Mutex, RwLock};

use super::{
    Expected, Records, Versioned, atomic,
    records::{FileRecord, Unreadable},
};

/// Records of one kind in a folder.
pub struct FileRecords<T> {
    folder: PathBuf,
    index: RwLock<BTreeMap<DeploymentName, Versioned<T>>>,
    // Held while a file is written, so that readers of the index never wait for the disk.
    writer: Mutex<()>,
    set_aside: Vec<String>,
}

impl<T: FileRecord> FileRecords<T> {
    /// Reads a folder. Fails when the folder cannot be read, or when a newer server wrote into it.
    pub fn open(folder: &Path) -> Result<Self, Problem> {
        let failed = |error: std::io::Error| Problem::io(format_args!("cannot read the folder {}", folder.display()), &error);
        let (mut index, mut set_aside) = (BTreeMap::new(), Vec::new());
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(file_name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if let Some((of, _)) = file_name.split_once(".json.corrupt-") {
                if Self::name_in(&format!("{of}.json")).is_some() {
                    set_aside.push(format!("{} (set aside earlier)", path.display()));
                }
                continue;
            }
            let Some(name) = Self::name_in(file_name) else { continue };
            match read(&path).and_then(|content| T::decode(&name, &content)) {
                Ok((value, revision)) => {
                    index.insert(name, Versioned { value: Arc::new(value), revision });
                }
                Err(Unreadable::Newer(format)) => {
                    return Err(Problem::new(
                        Code::Unsupported,
                        format!("{} has format {format}, which this version does not know", path.display()),
                    )
                    .hint("it was written by a newer server: use that one, or restore the data folder from before the upgrade"));
                }
                Err(Unreadable::Corrupt(reason)) => set_aside.push(put_aside(&path, &reason)?),
            }
        }
        Ok(FileRecords { folder: folder.to_path_buf(), index: RwLock::new(index), writer: Mutex::new(()), set_aside })
    }

    /// The deployment whose record a file of this name would be.
    fn name_in(file_name: &str) -> Option<DeploymentName> {
        let stem = file_name.strip_suffix(".json")?;
        let is_log_index = stem.ends_with("-logs");
        let stem = if T::SUFFIX.is_empty() { (!is_log_index).then_some(stem)? } else { stem.strip_suffix(T::SUFFIX)? };
        DeploymentName::new(stem).ok()
    }

    fn path(&self, name: &DeploymentName) -> PathBuf {
        self.folder.join(format!("{name}{}.json", T::SUFFIX))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Unreadable> {
    let kind = fs::symlink_metadata(path).map_err(|error| Unreadable::Corrupt(error.to_string()))?;
    if !kind.is_file() {
        return Err(Unreadable::Corrupt("it is not a regular file".to_string()));
    }
    fs::read(path).map_err(|error| Unreadable::Corrupt(error.to_string()))
}

fn put_aside(path: &Path, reason: &str) -> Result<String, Problem> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".corrupt-{}", Utc::now().format("%Y%m%dT%H%M%S%.3fZ")));
    let aside = PathBuf::from(aside);
    fs::rename(path, &aside).map_err(|error| Problem::io(format_args!("cannot set {} aside", path.display()), &error))?;
    tracing::error!(file = %path.display(), aside = %aside.display(), reason, "a record cannot be read and is set aside; its deployment is not served, its guests are untouched");
    Ok(format!("{}: {reason}", aside.display()))
}

impl<T: FileRecord> Records<T> for FileRecords<T> {
    fn list(&self) -> Result<Vec<(DeploymentName, Versioned<T>)>, Problem> {
        Ok(self.index.read().iter().map(|(name, found)| (name.clone(), found.clone())).collect())
    }

    fn get(&self, name: &DeploymentName) -> Result<Option<Versioned<T>>, Problem> {
        Ok(self.index.read().get(name).cloned())
    }

    fn put(&self, name: &DeploymentName, value: T, expected: Expected) -> Result<Versioned<T>, Problem> {
        if T::SUFFIX.is_empty() {
            super::check_new_name(name)?;
        }
        let _writing = self.writer.lock();
        let revision = match (self.index.read().get(name), expected) {
            (None, Expected::Absent) => 1,
            (Some(found), Expected::Revision(revision)) if found.revision == revision => revision + 1,
            (Some(_), Expected::Absent) => return Err(Problem::new(Code::Conflict, format!("`{name}` exists already"))),
            (_, Expected::Revision(_)) => {
                return Err(Problem::new(Code::Conflict, format!("`{name}` was changed by someone else meanwhile")));
            }
        };
        atomic::write(&self.path(name), &value.encode(revision)?)?;
        let written = Versioned { value: Arc::new(value), revision };
        self.index.write().insert(name.clone(), written.clone());
        Ok(written)
    }

    fn delete(&self, name: &DeploymentName, revision: u64) -> Result<(), Problem> {
        let _writing = self.writer.lock();
        match self.index.read().get(name).map(|found| found.revision) {
            None => return Err(crate::error::not_found(format_args!("`{name}`"))),
            Some(found) if found != revision => {
                return Err(Problem::new(Code::Conflict, format!("`{name}` was changed by someone else meanwhile")));
            }
            Some(_) => {}
        }
        let path = self.path(name);
        let removed = fs::remove_file(&path).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        });
        removed
            .and_then(|()| atomic::sync_folder(&self.folder))
            .map_err(|error| Problem::io(format_args!("cannot remove {}", path.display()), &error))?;
        self.index.write().remove(name);
        Ok(())
    }

    fn set_aside(&self) -> Vec<String> {
        self.set_aside.clone()
    }
}
