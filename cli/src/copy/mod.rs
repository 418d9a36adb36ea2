//! Files and folders as archives (tar): packed here for a guest, unpacked here from one.
//!
//! What comes from a guest is a stranger's. Must not know how an archive travels.

pub mod pack;
pub mod unpack;

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What was copied so far.
#[derive(Debug, Default)]
pub struct Tally {
    files: AtomicU64,
    bytes: AtomicU64,
    skipped: AtomicU64,
}

/// What was copied.
#[derive(Debug, Serialize)]
pub struct Copied {
    /// Files, links among them.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Devices, pipes and sockets, which are not copied.
    pub skipped: u64,
    pub seconds: f64,
}

impl Tally {
    fn file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    fn bytes(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn skip(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of files so far.
    pub fn so_far(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The whole, after so many seconds.
    pub fn copied(&self, seconds: f64) -> Copied {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Copied { files: count(&self.files), bytes: count(&self.bytes), skipped: count(&self.skipped), seconds }
    }
}
