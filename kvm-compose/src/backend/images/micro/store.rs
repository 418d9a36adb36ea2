//! Where micro images are kept: `<images>/micro/<digest>/{vmlinux,initramfs,image.json}` and `<images>/micro/current.json`.
//!
//! An image is made in a folder of another name and renamed when it is whole and on the disk, so what has the name of an
//! image is one. Knows files; knows nothing of what is in an image.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{error::Problem, orchestrate::host::Cancel, plan::site::MicroImage};

/// Names of folders in the making begin so.
const MAKING: &str = ".making-";

/// What `image.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// SHA-256 of kernel and initramfs, in hexadecimal.
    pub digest: String,
    /// The kernel's version.
    pub kernel_version: String,
    /// `elf` (unpacked, PVH) or `bzimage`.
    pub kernel_form: String,
    /// Size of the kernel in bytes.
    pub kernel_bytes: u64,
    /// Size of the initramfs in bytes.
    pub initramfs_bytes: u64,
    /// When it was made.
    pub created: DateTime<Utc>,
}

/// What `current.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct Current {
    digest: String,
}

/// The folder of micro images.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// The right to change the store; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
}

/// The digest of an image, in hexadecimal.
pub fn digest(kernel: &[u8], initramfs: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update((kernel.len() as u64).to_le_bytes());
    hash.update(kernel);
    hash.update(initramfs);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Store {
    /// The store in a folder of images. Nothing is made or read yet.
    pub fn new(images: &Path) -> Self {
        Store { folder: images.join("micro") }
    }

    /// Makes the folder and waits for the right to change it. Folders that a crash left half made are removed.
    pub fn lock(&self, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<Lock, Problem> {
        let doing = |error: &std::io::Error| Problem::io(format!("preparing the folder of micro images {}", self.folder.display()), error);
        fs::create_dir_all(&self.folder).map_err(|error| doing(&error))?;
        readable(&self.folder, 0o755)?;
        let file = fs::File::create(self.folder.join(".lock")).map_err(|error| doing(&error))?;
        let mut told = false;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(doing(&error.into())),
            }
            if !told {
                say("waiting for another build of the micro image");
                told = true;
            }
            cancel.wait(Duration::from_millis(100));
            cancel.check()?;
        }
        for entry in fs::read_dir(&self.folder).map_err(|error| doing(&error))? {
            let entry = entry.map_err(|error| doing(&error))?;
            if entry.file_name().to_string_lossy().starts_with(MAKING) {
                say(&format!("removing the half-made image {}", entry.path().display()));
                fs::remove_dir_all(entry.path()).map_err(|error| doing(&error))?;
            }
        }
        Ok(Lock { _file: file })
    }

    /// True when the image is there with exactly this content.
    pub fn holds(&self, digest_wanted: &str) -> bool {
        let folder = self.image_folder(digest_wanted);
        let (Ok(kernel), Ok(initramfs)) = (fs::read(folder.join("vmlinux")), fs::read(folder.join("initramfs"))) else { return false };
        self.describe(digest_wanted).is_some() && digest(&kernel, &initramfs) == digest_wanted
    }

    /// Writes an image; one of the same name, which can only be damaged, is replaced.
    pub fn write(&self, _lock: &Lock, description: &Description, kernel: &[u8], initramfs: &[u8]) -> Result<(), Problem> {
        let doing = |error: &std::io::Error| Problem::io(format!("writing the micro image to {}", self.folder.display()), error);
        let making = tempfile::Builder::new().prefix(MAKING).tempdir_in(&self.folder).map_err(|error| doing(&error))?;
        let json = serde_json::to_vec_pretty(description).map_err(|error| Problem::internal(error.to_string()))?;
        for (name, content) in [("vmlinux", kernel), ("initramfs", initramfs), ("image.json", &json)] {
            write_file(&making.path().join(name), content)?;
        }
        readable(making.path(), 0o755)?;
        sync(making.path())?;
        let folder = self.image_folder(&description.digest);
        if folder.exists() {
            let aside = tempfile::Builder::new().prefix(MAKING).tempdir_in(&self.folder).map_err(|error| doing(&error))?;
            fs::rename(&folder, aside.path().join("damaged")).map_err(|error| doing(&error))?;
        }
        fs::rename(making.keep(), &folder).map_err(|error| doing(&error))?;
        sync(&self.folder)
    }

    /// Makes an image the one that `find` gives.
    pub fn make_current(&self, _lock: &Lock, digest: &str) -> Result<(), Problem> {
        let doing = |error: &std::io::Error| Problem::io(format!("writing {}", self.current_file().display()), error);
        let json =
            serde_json::to_vec_pretty(&Current { digest: digest.to_owned() }).map_err(|error| Problem::internal(error.to_string()))?;
        let mut file = tempfile::Builder::new().prefix(".current-").tempfile_in(&self.folder).map_err(|error| doing(&error))?;
        file.write_all(&json).and_then(|()| file.as_file().sync_all()).map_err(|error| doing(&error))?;
        readable(file.path(), 0o644)?;
        file.persist(self.current_file()).map_err(|error| doing(&error.error))?;
        sync(&self.folder)
    }

    /// The current image, if it is whole.
    pub fn find(&self) -> Result<Option<MicroImage>, Problem> {
        let text = match fs::read(self.current_file()) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Problem::io(format!("reading {}", self.current_file().display()), &error)),
        };
        let Ok(current) = serde_json::from_slice::<Current>(&text) else {
            tracing::warn!(file = %self.current_file().display(), "not what this program writes; the micro image has to be built again");
            return Ok(None);
        };
        Ok(self.describe(&current.digest).map(|description| self.image(&description)))
    }

    /// Every whole image, the newest first.
    pub fn list(&self) -> Result<Vec<(Description, MicroImage)>, Problem> {
        let doing = |error: &std::io::Error| Problem::io(format!("reading the folder of micro images {}", self.folder.display()), error);
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(doing(&error)),
        };
        let mut images = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| doing(&error))?.file_name();
            let name = name.to_string_lossy();
            if name.len() == 16 && !name.starts_with('.') {
                images.extend(self.describe(&name).map(|description| (description.clone(), self.image(&description))));
            }
        }
        images.sort_by(|(a, _), (b, _)| b.created.cmp(&a.created).then_with(|| a.digest.cmp(&b.digest)));
        Ok(images)
    }

    /// What an image says of itself, if its files are there with the sizes it says.
    fn describe(&self, digest: &str) -> Option<Description> {
        let folder = self.image_folder(digest);
        let description: Description = serde_json::from_slice(&fs::read(folder.join("image.json")).ok()?).ok()?;
        let whole = |name: &str, bytes: u64| fs::metadata(folder.join(name)).is_ok_and(|data| data.is_file() && data.len() == bytes);
        let whole = whole("vmlinux", description.kernel_bytes) && whole("initramfs", description.initramfs_bytes);
        (whole && self.image_folder(&description.digest) == folder).then_some(description)
    }

    fn image(&self, description: &Description) -> MicroImage {
        let folder = self.image_folder(&description.digest);
        MicroImage { digest: description.digest.clone(), kernel: folder.join("vmlinux"), initramfs: folder.join("initramfs") }
    }

    fn image_folder(&self, digest: &str) -> PathBuf {
        // The name is made of hexadecimal digits alone, whatever a damaged file says.
        let name: String = digest.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        self.folder.join(if name.is_empty() { "none" } else { &name })
    }

    fn current_file(&self) -> PathBuf {
        self.folder.join("current.json")
    }
}

/// Lets everyone read: QEMU runs as its own user.
fn readable(path: &Path, mode: u32) -> Result<(), Problem> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| Problem::io(format!("making {} readable for QEMU", path.display()), &error))
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), Problem> {
    let doing = |error| Problem::io(format!("writing {}", path.display()), &error);
    let mut file = fs::File::create_new(path).map_err(doing)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(doing)?;
    readable(path, 0o644)
}

fn sync(folder: &Path) -> Result<(), Problem> {
    fs::File::open(folder).and_then(|file| file.sync_all()).map_err(|error| Problem::io(format!("writing {}", folder.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(kernel: &[u8], initramfs: &[u8]) -> Description {
        Description {
            digest: digest(kernel, initramfs),
            kernel_version: "6.1".into(),
            kernel_form: "elf".into(),
            kernel_bytes: kernel.len() as u64,
            initramfs_bytes: initramfs.len() as u64,
            created: DateTime::UNIX_EPOCH,
        }
    }

    fn put(store: &Store, kernel: &[u8], initramfs: &[u8]) -> Description {
        let lock = store.lock(&Cancel::new(), &|_| {}).expect("the lock");
        let description = described(kernel, initramfs);
        store.write(&lock, &description, kernel, initramfs).expect("written");
        store.make_current(&lock, &description.digest).expect("current");
        description
    }

    #[test]
    fn micro_store_gives_back_what_was_written_readable_for_all() {
        let images = tempfile::tempdir().expect("a temporary folder");
        let store = Store::new(images.path());
        assert_eq!(store.find(), Ok(None));
        assert_eq!(store.list(), Ok(vec![]));
        let description = put(&store, b"kernel", b"tree");
        let found = store.find().expect("readable").expect("there");
        assert_eq!(found.digest, description.digest);
        assert_eq!(found.kernel, images.path().join("micro").join(&description.digest[..16]).join("vmlinux"));
        assert!(store.holds(&description.digest));
        for (path, mode) in
            [(&found.kernel, 0o644), (&found.initramfs, 0o644), (&found.kernel.parent().expect("a folder").to_owned(), 0o755)]
        {
            assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o7777, mode);
        }
        assert_eq!(store.list().expect("a list").len(), 1);
    }

    #[test]
    fn micro_store_half_made_images_have_no_name_and_are_swept() {
        let images = tempfile::tempdir().expect("a temporary folder");
        let store = Store::new(images.path());
        let half = images.path().join("micro/.making-abc");
        fs::create_dir_all(&half).expect("a folder");
        fs::write(half.join("vmlinux"), "half").expect("a file");
        assert_eq!(store.list(), Ok(vec![]));
        put(&store, b"kernel", b"tree");
        assert!(!half.exists());
        let names: Vec<_> = fs::read_dir(images.path().join("micro")).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
    }

    #[test]
    fn micro_store_damaged_images_are_no_images_and_are_replaced() {
        let images = tempfile::tempdir().expect("a temporary folder");
        let store = Store::new(images.path());
        put(&store, b"older", b"tree");
        let description = put(&store, b"kernel", b"tree");
        let found = store.find().expect("readable").expect("there");
        fs::write(&found.initramfs, "").expect("a file");
        assert_eq!(store.find(), Ok(None));
        assert_eq!(store.list().expect("a list").len(), 1);
        fs::write(&found.initramfs, "eert").expect("a file");
        assert!(store.find().expect("readable").is_some() && !store.holds(&description.digest));
        put(&store, b"kernel", b"tree");
        assert!(store.holds(&description.digest));
        for text in ["", "{}", "{\"digest\":\"../../etc\"}"] {
            fs::write(images.path().join("micro/current.json"), text).expect("a file");
            assert_eq!(store.find(), Ok(None));
        }
    }

    #[test]
    fn micro_store_a_cancelled_wait_for_the_lock_ends() {
        let images = tempfile::tempdir().expect("a temporary folder");
        let store = Store::new(images.path());
        let _held = store.lock(&Cancel::new(), &|_| {}).expect("the lock");
        let cancel = Cancel::new();
        cancel.cancel();
        assert!(store.lock(&cancel, &|_| {}).is_err_and(|problem| problem.code == crate::error::Code::Cancelled));
    }
}
