//! Room set aside in the data folder, given up when the disk is full: `down`, which makes room, needs some to begin.
//!
//! Must not know what it is given up for.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use kvm_compose::error::Problem;
use rustix::{
    fs::{FallocateFlags, fallocate, statvfs},
    io::Errno,
};

/// How much is set aside: the journal, the log and the records of a `down` of some thousand guests.
pub const SIZE: u64 = 4 << 20;

/// It is set aside (again) when so much is free, so that it never takes the last room.
const ENOUGH: u64 = 4 * SIZE;

/// The file that holds the room.
#[derive(Debug, Clone)]
pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// The reserve of a data folder; nothing is made yet.
    pub fn of(data: &Path) -> Self {
        Reserve { path: data.join("reserve") }
    }

    /// True while the room is set aside.
    pub fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| found.len() == SIZE)
    }

    /// Sets the room aside when there is enough. Called from time to time.
    pub fn fill(&self) -> Result<(), Problem> {
        if self.is_there() || self.free() < ENOUGH {
            return Ok(());
        }
        let made = self.allocate();
        if made.is_err() {
            // Half a reserve only takes room away.
            self.give_up();
        }
        made.map_err(|error| Problem::io(format_args!("cannot set room aside in {}", self.path.display()), &error))
    }

    /// Gives the room up; true when there was some.
    pub fn give_up(&self) -> bool {
        let given = fs::remove_file(&self.path).is_ok();
        if given {
            tracing::warn!(file = %self.path.display(), "the disk is full: the room set aside for `down` is given up");
        }
        given
    }

    /// Gives the room up when less than it would be is free.
    pub fn give_up_if_low(&self) {
        if self.free() < SIZE {
            self.give_up();
        }
    }

    /// Bytes that are free beside it; what nobody can say counts as plenty.
    fn free(&self) -> u64 {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        statvfs(folder).map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn allocate(&self) -> io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, SIZE) {
            Ok(()) => {}
            // Not every file system can promise blocks; bytes that cannot be compressed away take them.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let mut random = io::Read::take(File::open("/dev/urandom")?, SIZE);
                io::copy(&mut random, &mut file)?;
                file.flush()?;
            }
            Err(error) => return Err(error.into()),
        }
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_room_is_taken_for_real_and_given_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let reserve = Reserve::of(folder.path());
        assert!(!reserve.is_there() && !reserve.give_up());
        reserve.fill().expect("there is room");
        let found = fs::metadata(folder.path().join("reserve")).expect("a file");
        assert!(reserve.is_there() && found.blocks() * 512 >= SIZE, "{} blocks", found.blocks());
        reserve.give_up_if_low();
        assert!(reserve.is_there(), "there is room besides");
        assert!(reserve.give_up() && !reserve.is_there());
        // Where nothing can be written, nothing is promised.
        assert!(Reserve::of(&folder.path().join("none")).fill().is_err());
    }
}
