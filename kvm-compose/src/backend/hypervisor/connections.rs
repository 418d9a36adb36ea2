//! A room of libvirt connections: opened when needed, watched by keep-alive, replaced when broken.
//!
//! One connection serves only five requests at once (libvirtd.conf `max_client_requests`), so there are several, used in
//! turn. Must not know what is asked over a connection.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use virt::{connect::Connect, error::Error};

use crate::{
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

/// A libvirtd that does not answer within this time is taken for dead.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// How long a restarting libvirtd is waited for when a connection broke in use.
const RETURN_LIMIT: Duration = Duration::from_secs(8);
/// Keep-alive: a message each so many seconds, and so many unanswered ones end the connection.
const KEEP_ALIVE: (i32, u32) = (5, 4);

/// Why a call failed.
#[derive(Debug)]
pub enum Fault {
    /// libvirt said so.
    Libvirt(Error),
    /// We said so.
    Ours(Problem),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Libvirt(error)
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Fault::Ours(problem)
    }
}

/// Several connections to one libvirtd.
pub struct Room {
    uri: String,
    slots: Vec<Mutex<Option<Arc<Link>>>>,
    turn: AtomicUsize,
    /// When a connection was last opened: states are not to be trusted for a while after libvirtd started.
    opened: Mutex<Option<Instant>>,
}

/// One open connection; closed when the last user lets go.
struct Link {
    connect: Connect,
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Err(error) = self.connect.close() {
            tracing::debug!(%error, "closing a libvirt connection failed");
        }
    }
}

impl Room {
    /// A room for `size` connections; none is opened yet.
    pub fn new(uri: &str, size: usize) -> Self {
        virt::error::clear_error_callback();
        Room {
            uri: uri.to_string(),
            slots: (0..size).map(|_| Mutex::new(None)).collect(),
            turn: AtomicUsize::new(0),
            opened: Mutex::new(None),
        }
    }

    /// Runs calls that may be repeated as a whole: once more on a new connection when theirs broke.
    pub fn repeatable<T>(&self, calls: impl Fn(&Connect) -> Result<T, Fault>) -> Result<T, Fault> {
        let slot = self.slot();
        let link = self.link(slot)?;
        match calls(&link.connect) {
            Err(Fault::Libvirt(error)) if self.is_lost(&link) => {
                tracing::warn!(%error, "the libvirt connection broke; opening another");
                self.leave(slot, &link);
                let link = self.reopen(slot)?;
                calls(&link.connect)
            }
            other => other,
        }
    }

    /// Runs calls that must not be repeated by themselves.
    pub fn once<T>(&self, calls: impl FnOnce(&Connect) -> Result<T, Fault>) -> Result<T, Fault> {
        let slot = self.slot();
        let link = self.link(slot)?;
        let result = calls(&link.connect);
        if matches!(result, Err(Fault::Libvirt(_))) && self.is_lost(&link) {
            self.leave(slot, &link);
        }
        result
    }

    /// True for a few seconds after a connection was opened: libvirtd may have just started.
    pub fn opened_lately(&self) -> bool {
        self.opened.lock().is_some_and(|at| at.elapsed() < Duration::from_secs(5))
    }

    fn slot(&self) -> &Mutex<Option<Arc<Link>>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.slots[turn % self.slots.len()]
    }

    fn link(&self, slot: &Mutex<Option<Arc<Link>>>) -> Result<Arc<Link>, Problem> {
        let mut held = slot.lock();
        if let Some(link) = held.as_ref() {
            if !self.is_lost(link) {
                return Ok(link.clone());
            }
            // It broke while nobody used it: libvirtd went away and may be back by now.
            *held = None;
        }
        let link = Arc::new(Link { connect: open(&self.uri)? });
        *self.opened.lock() = Some(Instant::now());
        *held = Some(link.clone());
        Ok(link)
    }

    fn reopen(&self, slot: &Mutex<Option<Arc<Link>>>) -> Result<Arc<Link>, Problem> {
        let deadline = Instant::now() + RETURN_LIMIT;
        let pause = Cancel::new();
        loop {
            match self.link(slot) {
                Ok(link) => return Ok(link),
                Err(problem) if Instant::now() >= deadline => return Err(problem),
                Err(_) => {
                    // Nobody cancels this wait: it ends with libvirtd's return or at the limit above.
                    pause.wait(Duration::from_millis(200));
                }
            }
        }
    }

    fn leave(&self, slot: &Mutex<Option<Arc<Link>>>, link: &Arc<Link>) {
        let mut held = slot.lock();
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, link)) {
            *held = None;
        }
    }

    fn is_lost(&self, link: &Link) -> bool {
        !link.connect.is_alive().unwrap_or(false)
    }
}

/// Lets so many callers through at once; the others wait their turn, which each call's own limit bounds.
pub struct Gate {
    free: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    /// A gate for `width` callers.
    pub fn new(width: usize) -> Self {
        Gate { free: Mutex::new(width), changed: Condvar::new() }
    }

    /// Waits for a turn and takes it.
    pub fn pass<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Turn<'a>(&'a Gate);
        impl Drop for Turn<'_> {
            fn drop(&mut self) {
                *self.0.free.lock() += 1;
                self.0.changed.notify_one();
            }
        }
        let mut free = self.free.lock();
        while *free == 0 {
            self.changed.wait(&mut free);
        }
        *free -= 1;
        drop(free);
        let _turn = Turn(self);
        work()
    }
}

/// Opens a connection on a thread of its own, so that a libvirtd that accepts and then hangs costs a limit, not us.
pub fn open(uri: &str) -> Result<Connect, Problem> {
    run_event_loop();
    let (sender, receiver) = mpsc::channel();
    let wanted = uri.to_string();
    let spawned = std::thread::Builder::new().name("libvirt-open".to_string()).spawn(move || {
        let opened = Connect::open(Some(&wanted));
        if let Err(mpsc::SendError(Ok(mut late))) = sender.send(opened) {
            late.close().ok();
        }
    });
    spawned.map_err(|error| Problem::io("cannot start a thread", &error))?;
    let down = |cause: String| {
        Problem::new(Code::Libvirt, format!("libvirt does not answer at `{uri}`"))
            .cause(cause)
            .hint("`testbed doctor` says which part is down and how to start it")
    };
    match receiver.recv_timeout(OPEN_LIMIT) {
        Ok(Ok(connect)) => {
            // Drivers without a socket (test:///) refuse keep-alive and need none.
            connect.set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1).ok();
            Ok(connect)
        }
        Ok(Err(error)) => Err(down(error.message().to_string())),
        Err(_) => Err(down(format!("no answer within {} s", OPEN_LIMIT.as_secs()))),
    }
}

/// libvirt sends keep-alive messages from an event loop, which must be there before the first connection.
fn run_event_loop() {
    static LOOP: OnceLock<()> = OnceLock::new();
    LOOP.get_or_init(|| {
        if let Err(error) = virt::event::event_register_default_impl() {
            tracing::warn!(%error, "libvirt has no event loop; its keep-alive is off");
            return;
        }
        let spawned = std::thread::Builder::new().name("libvirt-events".to_string()).spawn(|| {
            while let Ok(()) = virt::event::event_run_default_impl() {}
            tracing::warn!("libvirt's event loop ended; its keep-alive is off");
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "libvirt has no event loop; its keep-alive is off");
        }
    });
}
