//! A store in a folder of its own, images made by qemu-img, and an operation whose words are kept.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::Duration,
};

use kvm_compose::{
    api::{ImageInfo, event::EventKind},
    backend::images::disks::{Disks, Import, Settings, store::Description},
    catalogue::{Catalogue, Image},
    error::Problem,
    orchestrate::{Operation, Sink, host::Cancel},
};
use sha2::{Digest as _, Sha256, Sha512};
use uuid::Uuid;

#[derive(Default)]
pub struct Said(pub Mutex<Vec<EventKind>>);

impl Sink for Said {
    fn emit(&self, event: EventKind) -> Result<(), Problem> {
        self.0.lock().expect("the words").push(event);
        Ok(())
    }
}

impl Said {
    pub fn text(&self) -> String {
        self.0.lock().expect("the words").iter().map(|event| event.text() + "\n").collect()
    }
}

pub struct Lab {
    pub folder: tempfile::TempDir,
    pub disks: Disks,
}

/// A store whose limits are small enough for tests.
pub fn settings() -> Settings {
    Settings { stall: Duration::from_millis(400), largest_bytes: 8 << 20, ..Settings::default() }
}

impl Lab {
    pub fn start() -> Lab {
        Lab::with(settings())
    }

    pub fn with(settings: Settings) -> Lab {
        let folder = tempfile::tempdir().expect("a folder");
        Lab { disks: Disks::new(&folder.path().join("images"), settings), folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A qcow2 image with something in it that does not compress.
    pub fn qcow2(&self, seed: u8) -> Vec<u8> {
        let (raw, image) = (self.path("made.raw"), self.path("made.qcow2"));
        fs::write(&raw, noise(seed)).expect("a disk");
        qemu_img(&["convert", "-f", "raw", "-O", "qcow2", text(&raw), text(&image)]);
        fs::read(&image).expect("an image")
    }

    pub fn pull(&self, name: &str, url: &str, sums: &str) -> (Result<Description, Problem>, Said) {
        let said = Said::default();
        let result = self.disks.pull(name, &published(url, sums), &operation(&said, &Cancel::new()));
        (result, said)
    }

    pub fn import(&self, name: &str, content: &[u8]) -> (Result<Description, Problem>, Said) {
        let spool = self.disks.spool().expect("a spool");
        fs::write(spool.path(), content).expect("handed over");
        let said = Said::default();
        let import = Import { spool, file: format!("{name}.file"), name: name.to_string() };
        let result = self.disks.import(&import, &operation(&said, &Cancel::new()));
        (result, said)
    }

    pub fn deployments(&self) -> PathBuf {
        self.path("deployments")
    }

    pub fn list(&self) -> Vec<ImageInfo> {
        self.disks.list(&self.deployments()).expect("a list")
    }

    /// What is left of downloads and uploads.
    pub fn parts(&self) -> Vec<String> {
        let parts = fs::read_dir(self.path("images/disks/parts")).expect("parts");
        let mut names: Vec<String> = parts.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

pub fn operation<'a>(said: &'a Said, cancel: &'a Cancel) -> Operation<'a> {
    Operation { uuid: Uuid::nil(), cancel, sink: said }
}

/// A name of the catalogue whose sums are in a file.
pub fn published(url: &str, sums: &str) -> Image {
    let text = format!("[it]\nurl = \"{url}\"\nchecksums = \"{sums}\"\nuser = \"me\"\n");
    Catalogue::built_in().and_then(|all| all.extended(&text, "images.toml")).expect("right").find("it").expect("there").clone()
}

pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha512(content: &[u8]) -> String {
    Sha512::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A mebibyte that no two seeds share.
pub fn noise(seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..1 << 20).map(|_| step()).collect()
}

pub fn qemu_img(arguments: &[&str]) {
    let done = Command::new("qemu-img").args(arguments).output().expect("qemu-img");
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
