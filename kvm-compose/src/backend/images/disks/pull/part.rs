//! A half-finished download on disk: what has come so far, whose it is, and the sums of it.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

use super::{
    super::{
        documents::{read_json, write_json},
        ova::hexadecimal,
    },
    sums::Sum,
};
use crate::{error::Problem, orchestrate::host::Cancel};

/// What names of half-finished downloads end in.
pub const ENDING: &str = "part";

/// What is known of a download that may be gone on with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Where it comes from.
    pub url: String,
    /// What the publisher calls this very content: a strong ETag, or else the time of its last change (RFC 9110 13.1.5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validator: Option<String>,
}

/// A download on disk, held by this process alone.
pub struct Part {
    path: PathBuf,
    file: File,
    length: u64,
    sha256: Sha256,
    sha512: Sha512,
    /// What is known of it.
    pub origin: Origin,
    /// Some of it came with an earlier connection.
    pub pieced: bool,
}

impl Part {
    /// Opens the download of this key, and reads what is there of it. Waits while another process has it.
    pub fn open(folder: &Path, key: &str, url: &str, cancel: &Cancel) -> Result<Part, Problem> {
        let path = folder.join(format!("{key}.{ENDING}"));
        let doing = |error: io::Error| Problem::io(format!("opening {}", path.display()), &error);
        let file = loop {
            let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(doing)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // It may have got its name, or been removed, while we waited for it.
                Ok(()) if is_still(&file, &path) => break file,
                Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(doing(error.into())),
            }
            cancel.wait(Duration::from_millis(100));
            cancel.check()?;
        };
        let origin = read_json::<Origin>(&beside(&path))?.filter(|origin| origin.url == url).unwrap_or_default();
        let mut part = Part { path, file, length: 0, sha256: Sha256::new(), sha512: Sha512::new(), origin, pieced: false };
        part.read_back(cancel)?;
        part.pieced = part.length > 0;
        if part.origin.url.is_empty() {
            part.restart(Origin { url: url.to_owned(), validator: None })?;
        }
        Ok(part)
    }

    fn read_back(&mut self, cancel: &Cancel) -> Result<(), Problem> {
        let mut chunk = vec![0; 1 << 20];
        loop {
            cancel.check()?;
            let count = self.file.read(&mut chunk).map_err(|error| self.failed("reading", &error))?;
            let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
            self.sha256.update(bytes);
            self.sha512.update(bytes);
            self.length += count as u64;
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are there.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Begins anew, with what is known of the content that comes.
    pub fn restart(&mut self, origin: Origin) -> Result<(), Problem> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|error| self.failed("emptying", &error))?;
        (self.length, self.pieced, self.sha256, self.sha512) = (0, false, Sha256::new(), Sha512::new());
        self.origin = origin;
        write_json(&beside(&self.path), &self.origin)
    }

    /// Takes the next bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        if let Err(error) = self.file.write_all(bytes) {
            // A full disk may have taken half of them.
            let back = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            return Err(back.map_or_else(|error| self.failed("writing", &error), |_| self.failed("writing", &error)));
        }
        self.sha256.update(bytes);
        self.sha512.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// The sum of what is there, of the same kind as `like`.
    pub fn sum(&self, like: &Sum) -> Sum {
        match like {
            Sum::Sha256(_) => Sum::Sha256(self.sha256()),
            Sum::Sha512(_) => Sum::Sha512(hexadecimal(&self.sha512.clone().finalize())),
        }
    }

    /// SHA-256 of what is there.
    pub fn sha256(&self) -> String {
        hexadecimal(&self.sha256.clone().finalize())
    }

    /// Removes it: it is no use to anybody, or it has its name.
    pub fn remove(self) -> Result<(), Problem> {
        for path in [self.path.clone(), beside(&self.path)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.failed("removing", &error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn failed(&self, doing: &str, error: &io::Error) -> Problem {
        Problem::io(format!("{doing} {}", self.path.display()), error)
    }
}

/// Where it is said what a half-finished download is.
pub fn beside(part: &Path) -> PathBuf {
    part.with_extension("json")
}

fn is_still(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => ours.ino() == there.ino() && ours.dev() == there.dev(),
        _ => false,
    }
}
