//! A deployment's folder: what lies in it, and removing from it without ever leaving it.
//!
//! Must not know what the files are for.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

use crate::{
    error::{Code, Problem},
    names::DeploymentName,
};

/// The parts of the folder that the engine makes and removes; the rest (the project's copy) is not ours to touch.
const PARTS: &[&str] = &["disks", "seeds", "console"];
/// Parts that others make and remove, swept with the rest when they were killed.
const SWEPT: &[&str] = &[crate::backend::link::RELAY_FOLDER, COPIES];
/// Where archives lie on their way into guests and out of them.
pub const COPIES: &str = "copies";
/// QEMU's user passes through folders but does not list them.
const FOLDER_MODE: u32 = 0o711;

/// A deployment's folder below the server's data folder.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder of a deployment.
    pub fn new(deployments: &Path, deployment: &DeploymentName) -> Self {
        Folder { path: deployments.join(deployment.as_str()) }
    }

    /// Files in it that the engine may have made. Symbolic links are listed and not followed.
    pub fn files(&self) -> Result<BTreeSet<PathBuf>, Problem> {
        let mut files = BTreeSet::new();
        for part in PARTS {
            list(&self.path.join(part), 3, &mut files)?;
        }
        Ok(files)
    }

    /// Makes the folder that will hold `path`, which must lie in one of our parts.
    pub fn make_room_for(&self, path: &Path) -> Result<(), Problem> {
        self.within(path)?;
        let Some(parent) = path.parent() else { return Ok(()) };
        let made = fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(parent);
        made.map_err(|error| Problem::io(format!("cannot make the folder `{}`", parent.display()), &error))?;
        // The process's umask may have taken bits away that QEMU's user needs.
        let ours = parent.ancestors().take_while(|folder| folder.starts_with(&self.path));
        for folder in ours {
            let set = fs::set_permissions(folder, fs::Permissions::from_mode(FOLDER_MODE));
            set.map_err(|error| Problem::io(format!("cannot open the folder `{}` to QEMU", folder.display()), &error))?;
        }
        Ok(())
    }

    /// Writes a file so that it is there whole or not at all. Only QEMU and the server are to read it.
    pub fn write(&self, path: &Path, content: &[u8]) -> Result<(), Problem> {
        self.make_room_for(path)?;
        let part = part_of(path);
        let write = || -> io::Result<()> {
            let mut file = File::create(&part)?;
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().map_err(|error| Problem::io(format!("cannot write `{}`", part.display()), &error))?;
        self.finish(path)
    }

    /// Gives a finished `.part` file its name, durably.
    pub fn finish(&self, path: &Path) -> Result<(), Problem> {
        let parent = path.parent().unwrap_or(&self.path);
        let rename = || -> io::Result<()> {
            fs::rename(part_of(path), path)?;
            File::open(parent)?.sync_all()
        };
        rename().map_err(|error| Problem::io(format!("cannot put `{}` in place", path.display()), &error))
    }

    /// Removes a file of one of our parts. Absent already is success; nothing outside is ever touched, whatever links say.
    pub fn remove(&self, path: &Path) -> Result<(), Problem> {
        let inner = self.within(path)?;
        let doing = || format!("cannot remove `{}`", path.display());
        let (Some(parent), Some(name)) = (inner.parent(), inner.file_name()) else { return Err(self.refusal(path)) };
        let Some(root) = gone_is_none(rustix::fs::open(&self.path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()), doing)? else {
            return Ok(());
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = rustix::fs::openat2(&root, parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty(), resolve);
        let Some(parent) = gone_is_none(opened, doing)? else { return Ok(()) };
        gone_is_none(rustix::fs::unlinkat(&parent, name, AtFlags::empty()), doing)?;
        Ok(())
    }

    /// Removes our parts and, when nothing else lies in it, the folder.
    pub fn sweep(&self) -> Result<(), Problem> {
        for part in PARTS.iter().chain(SWEPT) {
            let part = self.path.join(part);
            match fs::remove_dir_all(&part) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Problem::io(format!("cannot remove `{}`", part.display()), &error));
                }
                _ => {}
            }
        }
        match fs::remove_dir(&self.path) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                Err(Problem::io(format!("cannot remove `{}`", self.path.display()), &error))
            }
            _ => Ok(()),
        }
    }

    /// The path inside the folder, or a refusal.
    fn within(&self, path: &Path) -> Result<PathBuf, Problem> {
        let inner = path.strip_prefix(&self.path).map_err(|_| self.refusal(path))?;
        let plain = inner.components().all(|component| matches!(component, Component::Normal(_)));
        let is_ours = PARTS.iter().any(|part| inner.starts_with(part)) && inner.components().count() > 1;
        if plain && is_ours { Ok(inner.to_path_buf()) } else { Err(self.refusal(path)) }
    }

    fn refusal(&self, path: &Path) -> Problem {
        let parts = PARTS.join(", ");
        Problem::internal(format!("`{}` is not a file below `{}` ({parts})", path.display(), self.path.display()))
    }
}

/// Names of the folders below `deployments` that hold something of ours: deployments with files.
pub fn deployments_with_files(deployments: &Path) -> Result<Vec<(PathBuf, DeploymentName)>, Problem> {
    let reading = |error: &io::Error| Problem::io(format!("cannot read `{}`", deployments.display()), error);
    let entries = match fs::read_dir(deployments) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(reading(&error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| reading(&error))?;
        let name = entry.file_name().to_str().and_then(|name| DeploymentName::new(name).ok());
        if let Some(name) = name.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            && !Folder::new(deployments, &name).files()?.is_empty()
        {
            found.push((entry.path(), name));
        }
    }
    found.sort();
    Ok(found)
}

/// Where a file is made before it gets its name.
pub fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".part");
    PathBuf::from(name)
}

fn list(folder: &Path, depth: usize, files: &mut BTreeSet<PathBuf>) -> Result<(), Problem> {
    let reading = |error: &io::Error| Problem::io(format!("cannot read `{}`", folder.display()), error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(reading(&error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| reading(&error))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if depth > 0 {
                list(&entry.path(), depth - 1, files)?;
            }
        } else {
            files.insert(entry.path());
        }
    }
    Ok(())
}

fn gone_is_none<T>(result: rustix::io::Result<T>, doing: impl Fn() -> String) -> Result<Option<T>, Problem> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::XDEV | rustix::io::Errno::NOTDIR) => {
            Err(Problem::new(Code::Storage, doing()).cause("a symbolic link stands in its way"))
        }
        Err(error) => Err(Problem::io(doing(), &io::Error::from(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let data = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(data.path(), &DeploymentName::new("lab").expect("valid"));
        (data, folder)
    }

    #[test]
    fn what_is_written_is_listed_and_removed_and_the_rest_stays() {
        let (data, folder) = folder();
        let path = data.path().join("lab/seeds/a.iso");
        folder.write(&path, b"x").expect("written");
        fs::write(part_of(&path), b"half").expect("a stray file");
        fs::create_dir(data.path().join("lab/project")).expect("a project");
        assert_eq!(folder.files().expect("listed"), BTreeSet::from([path.clone(), part_of(&path)]));
        assert_eq!(deployments_with_files(data.path()).expect("listed").len(), 1);
        folder.remove(&path).expect("removed");
        folder.remove(&path).expect("absent is fine");
        folder.sweep().expect("swept");
        assert!(data.path().join("lab/project").is_dir() && !data.path().join("lab/seeds").exists());
        fs::remove_dir(data.path().join("lab/project")).expect("empty");
        folder.sweep().expect("swept");
        assert!(!data.path().join("lab").exists());
        folder.sweep().expect("absent is fine");
    }

    #[test]
    fn nothing_outside_our_parts_is_removed() {
        let (data, folder) = folder();
        let lab = data.path().join("lab");
        fs::create_dir_all(lab.join("project")).expect("a project");
        for path in [
            PathBuf::from("/etc/passwd"),
            lab.join("project/kvm-compose.yaml"),
            lab.clone(),
            lab.join("disks"),
            lab.join("disks/../project/x"),
            PathBuf::from("lab/disks/x"),
            data.path().join("other/disks/x"),
        ] {
            assert_eq!(folder.remove(&path).expect_err("refused").code, Code::Internal, "{path:?}");
            assert!(folder.write(&path, b"").is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_link_in_the_way_is_refused_and_a_link_itself_removed() {
        let (data, folder) = folder();
        let outside = data.path().join("outside");
        fs::create_dir_all(&outside).expect("made");
        fs::write(outside.join("x"), b"").expect("made");
        fs::create_dir_all(data.path().join("lab/disks")).expect("made");
        std::os::unix::fs::symlink(&outside, data.path().join("lab/disks/sub")).expect("made");
        assert!(folder.remove(&data.path().join("lab/disks/sub/x")).is_err());
        folder.remove(&data.path().join("lab/disks/sub")).expect("the link alone");
        std::os::unix::fs::symlink(&outside, data.path().join("lab/seeds")).expect("made");
        assert!(folder.remove(&data.path().join("lab/seeds/x")).is_err());
        folder.sweep().ok();
        assert!(outside.join("x").exists());
    }
}
