//! Listening on the devices of guests' ports, where they stand: what a guest sends and gets, as it does.
//!
//! A guest that is started anew gets another device, which is then listened to. Must not know files or who listens.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use testbedos_relay::raw::{self, Beside, Inbox};
use uuid::Uuid;

use super::link::device_index;
use crate::{
    capture::{Counts, Frame},
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

/// How long it listens before it looks whether it is to go on.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// How often it looks whether a guest has another device.
const LOOK: Duration = Duration::from_secs(1);

/// One port being listened to.
#[derive(Default)]
struct Ear {
    device: String,
    index: u32,
    socket: Option<OwnedFd>,
    counts: Counts,
}

/// Listens to ports until it is cancelled or `take` says that it is enough. `devices` says which device a port has now. Of
/// each frame the first `snap` bytes are kept. `begun` is called once all are listened to. Returns what was captured and what was lost, port by port.
///
/// # Errors
///
/// A port that has no device at the beginning, since its guest does not run; devices that cannot be listened to.
pub fn listen(
    ports: &[Uuid],
    devices: &dyn Fn() -> Result<BTreeMap<Uuid, String>, Problem>,
    snap: usize,
    cancel: &Cancel,
    begun: &mut dyn FnMut(),
    take: &mut dyn FnMut(Frame) -> bool,
) -> Result<Vec<Counts>, Problem> {
    let mut ears: Vec<Ear> = ports.iter().map(|_| Ear::default()).collect();
    let mut looked = Instant::now();
    attend(&mut ears, ports, &devices()?)?;
    if ears.iter().any(|ear| ear.socket.is_none()) {
        return Err(Problem::new(Code::Link, "a port has no device: its guest does not run")
            .hint("`testbed ps` shows which guests run; `testbed up` starts them"));
    }
    begun();
    let (mut inbox, mut frames) = (Inbox::default(), Vec::new());
    loop {
        let mut polled: Vec<PollFd<'_>> =
            ears.iter().filter_map(|ear| ear.socket.as_ref()).map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&TURN)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Problem::io("cannot wait for frames", &error.into())),
        }
        for (port, ear) in ears.iter_mut().enumerate() {
            ear.hear(port, snap, &mut inbox, &mut frames);
        }
        frames.sort_by_key(|frame: &Frame| frame.at);
        let enough = !frames.drain(..).all(|frame| {
            let port = frame.port;
            let goes_on = take(frame);
            if let Some(ear) = ears.get_mut(port) {
                ear.counts.captured += 1;
            }
            goes_on
        });
        if enough || cancel.is_cancelled() {
            return Ok(ears.into_iter().map(|ear| ear.counts).collect());
        }
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            // Open vSwitch may be restarted meanwhile; what is listened to stays.
            if let Ok(devices) = devices() {
                attend(&mut ears, ports, &devices)?;
            }
        }
    }
}

/// Listens to devices that are new.
fn attend(ears: &mut [Ear], ports: &[Uuid], devices: &BTreeMap<Uuid, String>) -> Result<(), Problem> {
    for (ear, port) in ears.iter_mut().zip(ports) {
        let Some(device) = devices.get(port) else { continue };
        let Some(index) = device_index(device) else { continue };
        if ear.socket.is_some() && ear.index == index {
            continue;
        }
        let failed = |error: std::io::Error| {
            Problem::io(format_args!("cannot listen to `{device}`"), &error).hint("capturing needs the right CAP_NET_RAW")
        };
        ear.count_lost();
        ear.socket = match raw::open_listener(index) {
            // It went away just now.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NODEV | Errno::NETDOWN)) => None,
            opened => Some(opened.map_err(failed)?),
        };
        (ear.device, ear.index) = (device.clone(), index);
    }
    Ok(())
}

impl Ear {
    fn hear(&mut self, port: usize, snap: usize, inbox: &mut Inbox, frames: &mut Vec<Frame>) {
        let Some(socket) = &self.socket else { return };
        let (mut gone, mut whole) = (false, Vec::new());
        // One turn for each; who is louder than that waits for the next.
        for _ in 0..8 {
            let heard = inbox.receive_stamped(socket, |frame, Beside { tag, at }| {
                raw::whole(frame, tag, &mut whole);
                let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let at = at.map_or_else(now, |(seconds, nanoseconds)| Duration::new(seconds, nanoseconds));
                let length = whole.len() as u32;
                whole.truncate(snap);
                frames.push(Frame { port, at, length, bytes: whole.clone() });
            });
            match heard {
                Ok(count) if count == raw::BATCH => {}
                Ok(_) => break,
                Err(error) => {
                    gone = error.kind() != std::io::ErrorKind::WouldBlock && error.kind() != std::io::ErrorKind::Interrupted;
                    break;
                }
            }
        }
        self.count_lost();
        if gone {
            tracing::debug!(device = self.device, "a device that is listened to is gone or down");
            (self.socket, self.index) = (None, 0);
        }
    }

    fn count_lost(&mut self) {
        let lost = self.socket.as_ref().and_then(|socket| raw::dropped(socket).ok());
        self.counts.dropped += u64::from(lost.unwrap_or(0));
    }
}
