//! The two ends of a link: the guest's TAP device, which QEMU holds, and ours, which stands in the bridge.
//!
//! Reads and writes frames; must not know when.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use crate::raw::{self, BATCH, Inbox, LONGEST_FRAME};

/// Frames read in one go at most, so that one busy link does not keep the others waiting.
const TURN: usize = 8 * BATCH;

/// Both ends.
pub struct Ends {
    guest: OwnedFd,
    bridge: OwnedFd,
}

/// Buffers that all links share.
#[derive(Default)]
pub struct Buffers {
    inbox: Inbox,
    single: Vec<u8>,
    /// Frames that have left; their room is used again.
    spare: Vec<Vec<u8>>,
}

/// Buffers kept for later at most.
const SPARE: usize = 4096;

impl Buffers {
    fn fresh(spare: &mut Vec<Vec<u8>>) -> Vec<u8> {
        spare.pop().unwrap_or_default()
    }

    /// Takes back the room of a frame that has left.
    pub fn recycle(&mut self, frame: Vec<u8>) {
        if self.spare.len() < SPARE && frame.capacity() <= 4096 {
            self.spare.push(frame);
        }
    }
}

impl Ends {
    /// Opens both.
    pub fn open(tap: &str, tap_index: u32, device: &str) -> io::Result<Ends> {
        // The index says whether it is still the device that was meant.
        let there = index_of(tap)?;
        if there != tap_index {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("`{tap}` is another device now ({there}, not {tap_index})")));
        }
        let named = |name: &str, error: io::Error| io::Error::new(error.kind(), format!("cannot open `{name}`: {error}"));
        Ok(Ends {
            guest: raw::open_packet(tap_index).map_err(|error| named(tap, error))?,
            bridge: raw::open_tap(device).map_err(|error| named(device, error))?,
        })
    }

    /// What to wait on for frames from the guest.
    pub fn guest(&self) -> BorrowedFd<'_> {
        self.guest.as_fd()
    }

    /// What to wait on for frames to the guest.
    pub fn bridge(&self) -> BorrowedFd<'_> {
        self.bridge.as_fd()
    }

    /// Frames from the guest that are there, one turn of them.
    pub fn from_guest(&self, buffers: &mut Buffers, mut take: impl FnMut(Vec<u8>)) {
        let Buffers { inbox, spare, .. } = buffers;
        let mut left = TURN;
        while left > 0 {
            let received = inbox.receive(&self.guest, |frame, tag| {
                let mut own = Buffers::fresh(spare);
                raw::whole(frame, tag, &mut own);
                take(own);
            });
            // An error (the device went down, or away) ends the turn: what is amiss is told by whoever looks.
            let received = received.unwrap_or(0);
            left = if received < BATCH { 0 } else { left.saturating_sub(received) };
        }
    }

    /// Frames to the guest that are there, one turn of them.
    pub fn to_guest(&self, buffers: &mut Buffers, mut take: impl FnMut(Vec<u8>)) {
        let Buffers { single, spare, .. } = buffers;
        single.resize(LONGEST_FRAME, 0);
        for _ in 0..TURN {
            match rustix::io::read(&self.bridge, &mut *single) {
                Ok(length) if length > 0 => {
                    let mut own = Buffers::fresh(spare);
                    own.clear();
                    own.extend_from_slice(&single[..length]);
                    take(own);
                }
                _ => return,
            }
        }
    }

    /// Sends frames to the guest; how many its device took.
    pub fn send_to_guest(&self, frames: &[&[u8]]) -> usize {
        let mut taken = 0;
        for batch in frames.chunks(BATCH) {
            match raw::send_many(&self.guest, batch) {
                Ok(sent) => taken += sent,
                // One frame that is refused (too long, no room) is gone; the others are tried.
                Err(_) => taken += batch.iter().filter(|frame| raw::send_many(&self.guest, &[frame]).is_ok()).count(),
            }
        }
        taken
    }

    /// Sends a frame to the bridge; false when the device did not take it.
    pub fn send_to_bridge(&self, frame: &[u8]) -> bool {
        rustix::io::write(&self.bridge, frame).is_ok()
    }
}

/// A device's index in this process's network namespace.
pub fn index_of(name: &str) -> io::Result<u32> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::DGRAM, None)?;
    rustix::net::netdevice::name_to_index(socket, name).map_err(|error| match error {
        rustix::io::Errno::NODEV => io::Error::new(io::ErrorKind::NotFound, format!("there is no device `{name}`")),
        other => other.into(),
    })
}
