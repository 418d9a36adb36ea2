//! What base files hold: SHA-256 and length, computed once per version of a file.
//!
//! Knows files; knows nothing of hosts or of how a file travels.

use std::{
    collections::HashMap,
    fs::File,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::{error::Problem, orchestrate::host::Cancel, plan::blueprint::Sum};

/// Read at once.
const CHUNK: usize = 1 << 20;

/// What tells two versions of a file apart: device, inode, length, and time of change in nanoseconds.
type Version = (u64, u64, u64, i128);

/// Sums that are known.
#[derive(Debug, Default)]
pub struct Known {
    sums: Mutex<HashMap<PathBuf, (Version, Sum)>>,
}

impl Known {
    /// The file's sum; read whole when it is new or has changed.
    pub fn of(&self, path: &Path, cancel: &Cancel) -> Result<Sum, Problem> {
        let failed = |error: std::io::Error| Problem::io(format!("cannot read `{}`", path.display()), &error);
        let mut file = File::open(path).map_err(failed)?;
        let version = version(&file).map_err(failed)?;
        if let Some((known, sum)) = self.sums.lock().get(path)
            && *known == version
        {
            return Ok(sum.clone());
        }
        let mut chunk = vec![0; CHUNK];
        let (mut hash, mut bytes) = (Sha256::new(), 0u64);
        loop {
            cancel.check()?;
            match file.read(&mut chunk).map_err(failed)? {
                0 => break,
                count => {
                    hash.update(&chunk[..count]);
                    bytes += count as u64;
                }
            }
        }
        let sum = Sum { sha256: hexadecimal(&hash.finalize()), bytes };
        self.sums.lock().insert(path.to_path_buf(), (version, sum.clone()));
        Ok(sum)
    }

    /// The file that had this content when it was last read.
    pub fn find(&self, sha256: &str) -> Option<(PathBuf, Sum)> {
        let sums = self.sums.lock();
        sums.iter().find(|(_, (_, sum))| sum.sha256 == sha256).map(|(path, (_, sum))| (path.clone(), sum.clone()))
    }
}

fn version(file: &File) -> std::io::Result<Version> {
    let found = file.metadata()?;
    Ok((found.dev(), found.ino(), found.len(), i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec())))
}

/// Bytes in hexadecimal, lower case.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("base");
        let (known, cancel) = (Known::default(), Cancel::new());
        std::fs::write(&path, b"abc").expect("written");
        let sum = known.of(&path, &cancel).expect("read");
        assert_eq!((sum.sha256.as_str(), sum.bytes), ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 3));
        assert_eq!(known.find(&sum.sha256), Some((path.clone(), sum.clone())));
        std::fs::write(&path, b"abcd").expect("written");
        assert_ne!(known.of(&path, &cancel).expect("read"), sum);
        assert_eq!(known.find(&sum.sha256), None);
    }
}
