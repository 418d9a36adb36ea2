//! A file that is being taken in: nameless to everybody else, and gone when whoever makes it is gone.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;
use uuid::Uuid;

use super::documents::files;
use crate::error::Problem;

/// Names of spooled files begin so.
const PREFIX: &str = "taking-";

/// A file that is being taken in; removed when dropped.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    file: File,
}

impl Spool {
    /// An empty file in a folder that is there.
    pub fn new(folder: &Path) -> Result<Spool, Problem> {
        let path = folder.join(format!("{PREFIX}{}", Uuid::new_v4()));
        let doing = |error: io::Error| Problem::io(format!("making {}", path.display()), &error);
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(doing)?;
        // Held for as long as the file is made; what nobody holds is left over from a kill.
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|error| doing(error.into()))?;
        Ok(Spool { path, file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What to write into.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            // It has its name in the store now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(file = %self.path.display(), %error, "cannot remove what was taken in"),
            Ok(()) => {}
        }
    }
}

/// Removes what a killed server was taking in; says how many bytes that frees.
pub fn sweep(folder: &Path) -> Result<u64, Problem> {
    let mut freed = 0;
    for path in files(folder)? {
        let is_spool = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        if is_spool {
            freed += remove_if_nobody_holds(&path)?;
        }
    }
    Ok(freed)
}

/// Removes a file unless somebody works on it; says how many bytes that frees.
pub fn remove_if_nobody_holds(path: &Path) -> Result<u64, Problem> {
    let doing = |error: io::Error| Problem::io(format!("removing {}", path.display()), &error);
    let file = match File::options().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(doing(error)),
    };
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(0);
    }
    let length = file.metadata().map_err(doing)?.len();
    fs::remove_file(path).map_err(doing)?;
    Ok(length)
}
