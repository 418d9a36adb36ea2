//! A file copied without its holes, shared with the old one where the file system can.
//!
//! Must not know what is in it.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use rustix::fs::SeekFrom as Sought;
use sha2::{Digest as _, Sha256};

use crate::{backend::files::sums::hexadecimal, error::Problem, orchestrate::host::Cancel, plan::snapshot::SavedFile};

/// Copied and read at once.
const CHUNK: usize = 4 << 20;

/// Copies a file to a new one; not synced.
pub fn copy(from: &Path, to: &Path, cancel: &Cancel) -> Result<(), Problem> {
    let failed = |error: io::Error| Problem::io(format!("cannot copy `{}` to `{}`", from.display(), to.display()), &error);
    let source = File::open(from).map_err(failed)?;
    let target = File::options().write(true).create(true).truncate(true).open(to).map_err(failed)?;
    target.set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    let length = source.metadata().map_err(failed)?.len();
    target.set_len(length).map_err(failed)?;
    let mut at = 0;
    while let Some(data) = seek(&source, Sought::Data(at)).map_err(failed)? {
        let end = seek(&source, Sought::Hole(data)).map_err(failed)?.unwrap_or(length);
        copy_range(&source, &target, data, end, cancel, &failed)?;
        at = end;
    }
    Ok(())
}

/// Where the next data or hole begins; nothing after the last.
fn seek(file: &File, to: Sought) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, to) {
        Ok(at) => Ok(Some(at)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn copy_range(
    mut source: &File,
    mut target: &File,
    from: u64,
    to: u64,
    cancel: &Cancel,
    failed: &dyn Fn(io::Error) -> Problem,
) -> Result<(), Problem> {
    source.seek(SeekFrom::Start(from)).map_err(failed)?;
    target.seek(SeekFrom::Start(from)).map_err(failed)?;
    let mut chunk = vec![0; CHUNK.min(usize::try_from(to - from).unwrap_or(CHUNK))];
    let mut left = to - from;
    while left > 0 {
        cancel.check()?;
        let wanted = chunk.len().min(usize::try_from(left).unwrap_or(chunk.len()));
        let count = source.read(&mut chunk[..wanted]).map_err(failed)?;
        if count == 0 {
            break;
        }
        target.write_all(&chunk[..count]).map_err(failed)?;
        left -= count as u64;
    }
    Ok(())
}

/// Length and SHA-256 of a file of a snapshot; with `sync`, on the disk for good when this returns.
pub fn sum(path: &Path, sync: bool, cancel: &Cancel) -> Result<SavedFile, Problem> {
    let failed = |error: io::Error| Problem::io(format!("cannot read `{}`", path.display()), &error);
    let mut file = File::open(path).map_err(failed)?;
    if sync {
        file.sync_all().map_err(failed)?;
    }
    let (mut chunk, mut hash, mut bytes) = (vec![0; CHUNK], Sha256::new(), 0u64);
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
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(SavedFile { file: name, bytes, sha256: hexadecimal(&hash.finalize()) })
}
