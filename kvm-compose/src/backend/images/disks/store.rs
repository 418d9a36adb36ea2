//! Where disk images are kept, by their content: `<images>/disks/`.
//!
//! ```text
//! content/<sha256>         the image, qcow2, readable for all: guests' disks rest on it
//! content/<sha256>.json    what it is and where it came from
//! names/<name>.json        which content the name stands for
//! parts/…                  half-finished downloads, and what is being taken in
//! ```
//!
//! What has a name is whole: content is written under another name, checked, synced and renamed; then described; then
//! named. Knows files; knows nothing of downloads or formats.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::{
    documents::{files, read_json, sync, write_json},
    users::Users,
};
use crate::{
    api::{ImageInfo, ImageSource, RemovedImages},
    error::{Code, Problem},
    names::{is_image, printable},
    orchestrate::host::Cancel,
};

/// What is known of an image's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// SHA-256 of the content, in hexadecimal.
    pub digest: String,
    /// The name it was pulled or imported under.
    pub name: String,
    /// Length of the file in bytes.
    pub size_bytes: u64,
    /// Size of the disk that a guest sees, in bytes.
    pub virtual_bytes: u64,
    /// Who logs in where the testbed file names nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where it comes from.
    pub source: ImageSource,
    /// When it was taken in.
    pub created: DateTime<Utc>,
}

/// What `names/<name>.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct Named {
    digest: String,
}

/// The folder of disk images.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// The right to change the store; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
}

impl Store {
    /// The store in a folder of images. Nothing is made or read yet.
    pub fn new(images: &Path) -> Self {
        Store { folder: images.join("disks") }
    }

    /// Where content lies, by digest.
    pub fn content(&self) -> PathBuf {
        self.folder.join("content")
    }

    /// Where half-finished files lie.
    pub fn parts(&self) -> PathBuf {
        self.folder.join("parts")
    }

    /// Makes the folders. QEMU passes through those that lead to content; parts are ours alone.
    pub fn prepare(&self) -> Result<(), Problem> {
        for (folder, mode) in [(self.folder.clone(), 0o755), (self.content(), 0o755), (self.names(), 0o755), (self.parts(), 0o700)] {
            let doing = |error| Problem::io(format!("preparing the folder of images {}", folder.display()), &error);
            fs::create_dir_all(&folder).map_err(doing)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).map_err(doing)?;
        }
        Ok(())
    }

    /// Waits for the right to change the store; it is held for moments.
    pub fn lock(&self, cancel: &Cancel) -> Result<Lock, Problem> {
        self.prepare()?;
        let path = self.folder.join(".lock");
        let doing = |error: std::io::Error| Problem::io(format!("locking {}", path.display()), &error);
        let file = fs::File::create(&path).map_err(doing)?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(doing(error.into())),
            }
            cancel.wait(Duration::from_millis(50));
            cancel.check()?;
        }
    }

    /// Where the content of this digest lies. The name is made of hexadecimal digits alone, whatever a damaged file says.
    pub fn path(&self, digest: &str) -> PathBuf {
        let name: String = digest.chars().filter(char::is_ascii_hexdigit).take(64).collect();
        self.content().join(if name.is_empty() { "none" } else { &name })
    }

    /// Takes in a file that is checked and synced, and gives it its name. The file must lie in [`Store::parts`].
    pub fn publish(&self, _lock: &Lock, file: &Path, description: &Description) -> Result<(), Problem> {
        let path = self.path(&description.digest);
        let doing = |error| Problem::io(format!("taking the image in as {}", path.display()), &error);
        // The description first: content without one would be nobody's.
        write_json(&described(&path), description)?;
        // Nobody writes to a base: a guest's disk rests on it.
        fs::set_permissions(file, fs::Permissions::from_mode(0o444)).map_err(doing)?;
        fs::rename(file, &path).map_err(doing)?;
        sync(&self.content())?;
        self.name(_lock, &description.name, &description.digest)
    }

    /// Lets a name stand for content that is there.
    pub fn name(&self, _lock: &Lock, name: &str, digest: &str) -> Result<(), Problem> {
        write_json(&self.name_file(name)?, &Named { digest: digest.to_owned() })?;
        sync(&self.names())
    }

    /// The image of this name, if it is whole.
    pub fn find(&self, name: &str) -> Result<Option<Description>, Problem> {
        let named: Option<Named> = read_json(&self.name_file(name)?)?;
        named.map_or(Ok(None), |named| self.describe(&named.digest))
    }

    /// Content that was downloaded with this sum of its publisher's, if it is there.
    pub fn with_sum(&self, wanted: &str) -> Result<Option<Description>, Problem> {
        let all = self.contents()?;
        Ok(all.into_iter().find(|it| matches!(&it.source, ImageSource::Published { sum, .. } if sum == wanted)))
    }

    /// Every image, by name; content without a name as `name@digest`.
    pub fn list(&self, users: &Users) -> Result<Vec<ImageInfo>, Problem> {
        let mut images = Vec::new();
        let mut seen = BTreeSet::new();
        for (name, digest) in self.all_names()? {
            if let Some(found) = self.describe(&digest)? {
                seen.insert(digest);
                images.push(self.info(name, found, users));
            }
        }
        for found in self.contents()?.into_iter().filter(|it| !seen.contains(&it.digest)) {
            images.push(self.info(nameless(&found), found, users));
        }
        images.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(images)
    }

    /// Takes a name away, and its content when no other name stands for it. Refused while a guest's disk rests on it.
    pub fn remove(&self, _lock: &Lock, name: &str, users: &Users) -> Result<RemovedImages, Problem> {
        let names = self.all_names()?;
        let Some(digest) = names.get(name).cloned() else { return Err(not_there(name, names.keys())) };
        if let Some(found) = users.of(&digest) {
            return Err(in_use(name, found.iter().map(|it| it.as_str())));
        }
        let doing = |error| Problem::io(format!("removing the image `{}`", printable(name)), &error);
        fs::remove_file(self.name_file(name)?).map_err(doing)?;
        sync(&self.names())?;
        let mut removed = RemovedImages { removed: vec![name.to_owned()], freed_bytes: 0 };
        if !names.iter().any(|(other, content)| other != name && *content == digest) {
            removed.freed_bytes = self.remove_content(&digest)?;
        }
        Ok(removed)
    }

    /// Removes content that no name stands for and no guest's disk rests on.
    pub fn prune(&self, _lock: &Lock, users: &Users) -> Result<RemovedImages, Problem> {
        let named: BTreeSet<String> = self.all_names()?.into_values().collect();
        let mut removed = RemovedImages::default();
        for found in self.contents()?.into_iter().filter(|it| !named.contains(&it.digest) && users.of(&it.digest).is_none()) {
            removed.freed_bytes += self.remove_content(&found.digest)?;
            removed.removed.push(nameless(&found));
        }
        // A death between description and content leaves the one without the other.
        for path in files(&self.content())? {
            let Some(digest) = digest_of(&path).filter(|digest| !named.contains(digest) && users.of(digest).is_none()) else { continue };
            if self.describe(&digest)?.is_none() {
                removed.freed_bytes += self.remove_content(&digest)?;
            }
        }
        Ok(removed)
    }

    fn remove_content(&self, digest: &str) -> Result<u64, Problem> {
        let path = self.path(digest);
        let freed = fs::metadata(&path).map_or(0, |found| found.len());
        // The content first: a description alone is swept, content alone would not be known.
        for file in [path.clone(), described(&path)] {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Problem::io(format!("removing {}", file.display()), &error));
                }
                _ => {}
            }
        }
        sync(&self.content())?;
        Ok(freed)
    }

    /// What is known of content, if it is there with the length that is known.
    fn describe(&self, digest: &str) -> Result<Option<Description>, Problem> {
        let path = self.path(digest);
        let found: Option<Description> = read_json(&described(&path))?;
        let whole = |it: &Description| fs::metadata(&path).is_ok_and(|data| data.is_file() && data.len() == it.size_bytes);
        Ok(found.filter(|it| it.digest == digest && whole(it)))
    }

    fn contents(&self) -> Result<Vec<Description>, Problem> {
        let digests: BTreeSet<String> = files(&self.content())?.iter().filter_map(|path| digest_of(path)).collect();
        let all: Result<Vec<_>, Problem> = digests.iter().map(|digest| self.describe(digest)).collect();
        Ok(all?.into_iter().flatten().collect())
    }

    /// Which content each name stands for.
    pub fn all_names(&self) -> Result<BTreeMap<String, String>, Problem> {
        let mut names = BTreeMap::new();
        for path in files(&self.names())? {
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")).filter(|name| is_image(name));
            if let (Some(name), Some(named)) = (name, read_json::<Named>(&path)?) {
                names.insert(name.to_owned(), named.digest);
            }
        }
        Ok(names)
    }

    fn info(&self, name: String, found: Description, users: &Users) -> ImageInfo {
        ImageInfo {
            name,
            files: vec![self.path(&found.digest).display().to_string()],
            used_by: users.of(&found.digest).into_iter().flatten().cloned().collect(),
            size_bytes: found.size_bytes,
            created: found.created,
            source: found.source,
            virtual_bytes: Some(found.virtual_bytes),
            user: found.user,
            digest: found.digest,
        }
    }

    fn names(&self) -> PathBuf {
        self.folder.join("names")
    }

    fn name_file(&self, name: &str) -> Result<PathBuf, Problem> {
        super::check_name(name)?;
        Ok(self.names().join(format!("{name}.json")))
    }
}

/// An image that deployments use, by their names.
pub fn in_use<'a>(name: &str, users: impl Iterator<Item = &'a str>) -> Problem {
    let users: Vec<String> = users.map(|user| format!("`{user}`")).collect();
    Problem::new(Code::Conflict, format!("the image `{}` is in use by {}", printable(name), users.join(", ")))
        .hint("take them down first, with `testbed -p NAME down`")
}

fn not_there<'a>(name: &str, names: impl Iterator<Item = &'a String>) -> Problem {
    let names: Vec<&str> = names.map(String::as_str).collect();
    let near = crate::spec::reader::suggestion(name, &names).map_or_else(String::new, |near| format!("{near} "));
    Problem::new(Code::NotFound, format!("there is no image `{}`", printable(name))).hint(format!("{near}`testbed image list` shows them"))
}

fn nameless(found: &Description) -> String {
    format!("{}@{}", found.name, found.digest.get(..16).unwrap_or(&found.digest))
}

/// Where the description of content lies.
fn described(content: &Path) -> PathBuf {
    content.with_extension("json")
}

/// The digest that a file in the folder of content is called by.
fn digest_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".json").unwrap_or(name);
    (name.len() == 64 && name.chars().all(|c| c.is_ascii_hexdigit())).then(|| name.to_owned())
}
