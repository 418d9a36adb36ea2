//! Golden images: `<images>/golden/<digest of what made it>`, and beside each `<digest>.json` that says what that was.
//!
//! What has a name is whole and stays as it is, since clones' disks rest on it: it is written under another name and renamed,
//! and who comes second finds it there. Knows files and qemu-img(1); must not know guests.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};
use rustix::fs::{CWD, FlockOperation, RenameFlags};
use serde::{Deserialize, Serialize};

use super::disks::{
    documents::{files, read_json, sync, write_json},
    spool,
    users::Users,
};
use crate::{
    api::{ImageInfo, ImageSource, RemovedImages},
    error::Problem,
    orchestrate::host::Cancel,
    process::Call,
};

/// A large disk takes minutes.
const LIMIT: Duration = Duration::from_secs(3600);
/// How the name of a half-written image ends.
const ENDING: &str = "part";

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Description {
    /// What it was made from, for people.
    made_from: String,
    /// The machine whose clones it was made for first.
    machine: String,
    /// When it was made.
    created: DateTime<Utc>,
    /// Size of the disk that a guest sees, in bytes.
    virtual_bytes: u64,
}

/// The folder of golden images.
#[derive(Debug, Clone)]
pub struct Goldens {
    folder: PathBuf,
}

impl Goldens {
    /// Those in a folder of images. Nothing is made or read yet.
    pub fn new(images: &Path) -> Self {
        Goldens { folder: images.join("golden") }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the image with this digest is, or would be.
    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.join(key)
    }

    /// True when it is there.
    pub fn has(&self, key: &str) -> bool {
        fs::symlink_metadata(self.path(key)).is_ok_and(|found| found.is_file())
    }

    /// Keeps a disk, whose guest does not run, as an image that stands alone. One that is there already stays.
    pub fn keep(&self, key: &str, disk: &Path, machine: &str, made_from: &str, cancel: &Cancel) -> Result<(), Problem> {
        let path = self.path(key);
        let doing = |error: std::io::Error| Problem::io(format!("keeping the golden image {}", path.display()), &error);
        fs::create_dir_all(&self.folder).map_err(doing)?;
        // QEMU runs as another user and must reach it.
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o755)).map_err(doing)?;
        for left in files(&self.folder)?.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == ENDING)) {
            spool::remove_if_nobody_holds(&left)?;
        }
        let part = self.folder.join(format!("{key}.{}.{ENDING}", uuid::Uuid::new_v4().simple()));
        let held = File::options().write(true).create_new(true).open(&part).map_err(doing)?;
        // What nobody holds is left over from a kill.
        rustix::fs::flock(&held, FlockOperation::LockExclusive).map_err(|error| doing(error.into()))?;
        let kept = self.write(disk, &part, cancel).and_then(|virtual_bytes| {
            held.set_permissions(fs::Permissions::from_mode(0o644)).and_then(|()| held.sync_all()).map_err(doing)?;
            let said = Description { made_from: made_from.to_string(), machine: machine.to_string(), created: Utc::now(), virtual_bytes };
            match rustix::fs::renameat_with(CWD, &part, CWD, &path, RenameFlags::NOREPLACE) {
                Ok(()) => {}
                // Somebody made it meanwhile, and disks may rest on theirs.
                Err(rustix::io::Errno::EXIST) => return Ok(()),
                Err(error) => return Err(doing(error.into())),
            }
            write_json(&path.with_extension("json"), &said)?;
            sync(&self.folder)
        });
        match fs::remove_file(&part) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(file = %part.display(), %error, "cannot remove it")
            }
            _ => {}
        }
        kept
    }

    /// Writes a copy that stands alone; says how large a disk it is.
    fn write(&self, disk: &Path, part: &Path, cancel: &Cancel) -> Result<u64, Problem> {
        let text = |path: &Path| path.to_str().map(str::to_string).ok_or_else(|| Problem::internal("a path that is not UTF-8"));
        let (from, to) = (text(disk)?, text(part)?);
        let argv = ["qemu-img", "convert", "-q", "-f", "qcow2", "-O", "qcow2", "--", &from, &to];
        Call::new(argv, LIMIT).succeed(&format!("cannot keep the disk `{from}`"), cancel)?;
        let mut header = [0; 32];
        let read = File::open(part).and_then(|file| std::os::unix::fs::FileExt::read_exact_at(&file, &mut header, 0));
        read.map_err(|error| Problem::io(format!("reading {to}"), &error))?;
        // The size stands at byte 24 (docs/interop/qcow2.txt of QEMU).
        Ok(u64::from_be_bytes(std::array::from_fn(|at| header[24 + at])))
    }

    /// Every golden image, as `<machine>@<digest>`.
    pub fn list(&self, deployments: &Path) -> Result<Vec<ImageInfo>, Problem> {
        let users = Users::look(deployments, &self.folder)?;
        let mut all = Vec::new();
        for path in files(&self.folder)? {
            let Some(key) = key_of(&path) else { continue };
            let Ok(found) = fs::metadata(&path) else { continue };
            let said: Option<Description> = read_json(&path.with_extension("json"))?;
            all.push(ImageInfo {
                name: format!("{}@{}", said.as_ref().map_or("golden", |said| &said.machine), &key[..16]),
                files: vec![path.display().to_string()],
                size_bytes: found.len(),
                created: said.as_ref().map_or_else(|| found.modified().map_or_else(|_| Utc::now(), DateTime::from), |said| said.created),
                source: ImageSource::Golden { made_from: said.as_ref().map(|said| said.made_from.clone()).unwrap_or_default() },
                virtual_bytes: said.as_ref().map(|said| said.virtual_bytes),
                user: None,
                used_by: users.of(&key).into_iter().flatten().cloned().collect(),
                digest: key,
            });
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// Removes those that no disk rests on, and what a killed server was writing.
    pub fn prune(&self, deployments: &Path) -> Result<RemovedImages, Problem> {
        let mut removed = RemovedImages::default();
        for image in self.list(deployments)?.into_iter().filter(|image| image.used_by.is_empty()) {
            for path in [self.path(&image.digest), self.path(&image.digest).with_extension("json")] {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Problem::io(format!("removing {}", path.display()), &error));
                    }
                    _ => {}
                }
            }
            removed.freed_bytes += image.size_bytes;
            removed.removed.push(image.name);
        }
        for path in files(&self.folder)? {
            if path.extension().is_some_and(|ending| ending == ENDING) {
                removed.freed_bytes += spool::remove_if_nobody_holds(&path)?;
            } else if path.extension().is_some_and(|ending| ending == "json") && !path.with_extension("").exists() {
                fs::remove_file(&path).map_err(|error| Problem::io(format!("removing {}", path.display()), &error))?;
            }
        }
        Ok(removed)
    }
}

fn key_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    (name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(path: &Path, argv: &[&str]) {
        let path = path.to_str().expect("text");
        let all = ["qemu-img", "create", "-q", "-f", "qcow2"].iter().chain(argv).copied().chain([path, "2M"]);
        Call::new(all, Duration::from_secs(60)).succeed("a disk", &Cancel::new()).expect("made");
    }

    #[test]
    fn what_is_kept_stands_alone_stays_as_it_is_and_is_pruned_when_nobody_rests_on_it() {
        let data = tempfile::tempdir().expect("a folder");
        let (base, own) = (data.path().join("base.qcow2"), data.path().join("own.qcow2"));
        disk(&base, &[]);
        disk(&own, &["-F", "qcow2", "-b", base.to_str().expect("text")]);
        let (goldens, key, other) = (Goldens::new(data.path()), "a".repeat(64), "b".repeat(64));
        assert!(!goldens.has(&key));
        goldens.keep(&key, &own, "worker", "base, shared.sh", &Cancel::new()).expect("kept");
        let before = fs::read(goldens.path(&key)).expect("there");
        assert_eq!(&before[8..16], &[0; 8], "it rests on nothing");
        disk(&own, &[]);
        goldens.keep(&key, &own, "worker", "base, shared.sh", &Cancel::new()).expect("there already");
        assert_eq!(fs::read(goldens.path(&key)).expect("there"), before);
        goldens.keep(&other, &own, "other", "base, shared.sh", &Cancel::new()).expect("kept");
        assert!(goldens.keep(&key, &data.path().join("none"), "x", "x", &Cancel::new()).is_err());
        fs::write(goldens.folder().join(format!("{key}.x.part")), b"half").expect("a leftover");

        let deployments = data.path().join("deployments");
        fs::create_dir_all(deployments.join("lab/disks")).expect("made");
        disk(&deployments.join("lab/disks/worker-0.qcow2"), &["-F", "qcow2", "-b", goldens.path(&key).to_str().expect("text")]);
        let listed = goldens.list(&deployments).expect("listed");
        let names: Vec<(&str, usize)> = listed.iter().map(|image| (image.name.as_str(), image.used_by.len())).collect();
        assert_eq!(names, [("other@bbbbbbbbbbbbbbbb", 0), ("worker@aaaaaaaaaaaaaaaa", 1)]);
        assert_eq!(goldens.prune(&deployments).expect("pruned").removed, ["other@bbbbbbbbbbbbbbbb"]);
        let left: Vec<_> = files(goldens.folder()).expect("listed");
        assert_eq!(left.len(), 2, "the image and what it is: {left:?}");
    }
}
