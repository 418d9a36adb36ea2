//! Disk images by name: downloaded from their publishers, handed over by users, kept by content.
//!
//! What a name stands for is a qcow2 image that stands alone, whole, checked and readable for QEMU; guests' disks are laid over
//! it. docs/images.md is the users' page.

pub mod documents;
pub mod header;
pub mod import;
pub mod inspect;
pub mod ova;
pub mod pull;
pub mod spool;
pub mod store;
pub mod users;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    api::{ImageInfo, RemovedImages},
    error::{Code, Problem},
    names::{IMAGE_RULE, is_image, printable},
    orchestrate::host::Cancel,
};
use pull::flights::Flights;
use spool::Spool;
use store::{Description, Store};
use users::Users;

pub use import::Import;

/// How images are downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where to ask instead, by the beginning of the URL.
    pub mirrors: BTreeMap<String, String>,
    /// The proxy; none means what the environment says, an empty text none at all.
    pub proxy: Option<String>,
    /// Hosts that are asked without the proxy, as in the variable NO_PROXY.
    pub no_proxy: Option<String>,
    /// More certificates to trust, as PEM.
    pub ca_file: Option<PathBuf>,
    /// A larger image is refused, in bytes.
    pub largest_bytes: u64,
    /// How long nothing may come before another attempt is made.
    pub stall: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            mirrors: BTreeMap::new(),
            proxy: None,
            no_proxy: None,
            ca_file: None,
            largest_bytes: 64 << 30,
            stall: Duration::from_secs(60),
        }
    }
}

/// The disk images of a server.
#[derive(Debug)]
pub struct Disks {
    store: Store,
    settings: Settings,
    flights: Flights<Description>,
}

impl Disks {
    /// The images in a folder. Nothing is made or read yet.
    pub fn new(images: &Path, settings: Settings) -> Self {
        Disks { store: Store::new(images), settings, flights: Flights::default() }
    }

    /// A file to hand an image over in.
    pub fn spool(&self) -> Result<Spool, Problem> {
        self.store.prepare()?;
        spool::sweep(&self.store.parts())?;
        Spool::new(&self.store.parts())
    }

    /// The largest image that is taken, in bytes.
    pub fn largest_bytes(&self) -> u64 {
        self.settings.largest_bytes
    }

    /// The image of this name.
    pub fn find(&self, name: &str) -> Result<Option<Description>, Problem> {
        self.store.find(name)
    }

    /// The names that stand for an image.
    pub fn names(&self) -> Result<Vec<String>, Problem> {
        self.store.all_names().map(|names| names.into_keys().collect())
    }

    /// Where the content of an image lies.
    pub fn path(&self, image: &Description) -> PathBuf {
        self.store.path(&image.digest)
    }

    /// Every image, with the deployments below this folder that use it.
    pub fn list(&self, deployments: &Path) -> Result<Vec<ImageInfo>, Problem> {
        self.store.list(&self.users(deployments)?)
    }

    /// Removes an image; refused while a disk of a deployment below this folder rests on it.
    pub fn remove(&self, name: &str, deployments: &Path, cancel: &Cancel) -> Result<RemovedImages, Problem> {
        let lock = self.store.lock(cancel)?;
        self.store.remove(&lock, name, &self.users(deployments)?)
    }

    /// Removes content without a name that nobody uses, and what half-finished downloads and uploads left behind.
    pub fn prune(&self, deployments: &Path, cancel: &Cancel) -> Result<RemovedImages, Problem> {
        let lock = self.store.lock(cancel)?;
        let mut removed = self.store.prune(&lock, &self.users(deployments)?)?;
        let parts = self.store.parts();
        removed.freed_bytes += spool::sweep(&parts)?;
        for path in documents::files(&parts)?.into_iter().filter(|path| path.extension().is_some_and(|it| it == pull::part::ENDING)) {
            let beside = pull::part::beside(&path);
            let origin = documents::read_json::<pull::part::Origin>(&beside)?;
            let url =
                origin.and_then(|origin| reqwest::Url::parse(&origin.url).ok()).map_or_else(String::new, |url| pull::reach::shown(&url));
            let freed = spool::remove_if_nobody_holds(&path)?;
            if !path.exists() {
                removed.freed_bytes += freed;
                removed.removed.push(format!("{url} (half-finished)"));
                spool::remove_if_nobody_holds(&beside)?;
            }
        }
        Ok(removed)
    }

    fn users(&self, deployments: &Path) -> Result<Users, Problem> {
        Users::look(deployments, &self.store.content())
    }
}

/// Refuses what is no image's name.
pub fn check_name(name: &str) -> Result<(), Problem> {
    if is_image(name) {
        return Ok(());
    }
    Err(Problem::new(Code::InvalidName, format!("`{}` is not an image's name", printable(name))).hint(IMAGE_RULE))
}
