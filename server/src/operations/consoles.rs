//! Consoles that somebody looks at: each is opened once and shared, so that a second window neither takes it away nor
//! misses what was said.
//!
//! ```text
//! first viewer ─► open ─► reader thread ─► recent bytes + every viewer
//!                     └── writer thread ◄─ what viewers type
//! last viewer leaves ─► close ─► both threads end
//! ```
//!
//! Must not know websockets or libvirt.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use kvm_compose::{
    error::{Code, Problem},
    names::{DeploymentName, GuestName},
};
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc};

use super::driver::Console;

/// Consoles open at once; each has two threads and a connection.
const MOST: usize = 64;

/// What a new viewer is shown of what was said before.
const RECENT: usize = 64 * 1024;

/// Bytes read at once.
const CHUNK: usize = 4 * 1024;

/// Chunks that a viewer may be behind before it is let go.
const BEHIND: usize = 512;

/// Pieces of input that may wait for a guest that does not listen; what comes beyond is lost, as on a real line.
const TYPED: usize = 256;

type Key = (DeploymentName, GuestName);

/// All consoles that somebody looks at.
#[derive(Default)]
pub struct Consoles {
    table: Mutex<HashMap<Key, Entry>>,
}

struct Entry {
    shared: Arc<Shared>,
    viewers: usize,
}

/// One console.
struct Shared {
    console: Arc<dyn Console>,
    voice: Mutex<Voice>,
    typed: mpsc::Sender<Vec<u8>>,
}

/// What it said last, and who is told what it says next; nobody once it is closed.
struct Voice {
    recent: VecDeque<u8>,
    listeners: Option<broadcast::Sender<Arc<[u8]>>>,
}

/// One who looks at a console, from joining until it is dropped.
pub struct Viewer {
    consoles: Arc<Consoles>,
    key: Key,
    shared: Arc<Shared>,
    /// What was said before.
    pub recent: Vec<u8>,
    /// What is said from then on.
    pub live: broadcast::Receiver<Arc<[u8]>>,
}

impl Viewer {
    /// Types something. False when it is lost because the guest does not listen.
    pub fn type_in(&self, bytes: Vec<u8>) -> bool {
        self.shared.typed.try_send(bytes).is_ok()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let mut table = self.consoles.table.lock();
        let Some(entry) = table.get_mut(&self.key).filter(|entry| Arc::ptr_eq(&entry.shared, &self.shared)) else { return };
        entry.viewers -= 1;
        if entry.viewers == 0 {
            table.remove(&self.key);
            drop(table);
            self.shared.console.close();
        }
    }
}

impl Consoles {
    /// Joins those who look at a console, or opens it. Blocks while it is opened.
    pub fn join(
        self: &Arc<Self>,
        deployment: &DeploymentName,
        guest: &GuestName,
        open: impl FnOnce() -> Result<(Arc<dyn Console>, Vec<u8>), Problem>,
    ) -> Result<Viewer, Problem> {
        let key = (deployment.clone(), guest.clone());
        if let Some(viewer) = self.join_open(&key) {
            return Ok(viewer);
        }
        if self.table.lock().len() >= MOST {
            return Err(Problem::new(Code::RateLimited, format!("{MOST} consoles are open already")).hint("close some, then try again"));
        }
        let (console, past) = open()?;
        // Somebody else may have opened it meanwhile; libvirt then gave it to us and closed theirs, which leaves the table.
        let (typed, input) = mpsc::channel(TYPED);
        let (listeners, live) = broadcast::channel(BEHIND);
        let recent = past.clone();
        let voice = Mutex::new(Voice { recent: past.into(), listeners: Some(listeners) });
        let shared = Arc::new(Shared { console, voice, typed });
        let replaced = self.table.lock().insert(key.clone(), Entry { shared: shared.clone(), viewers: 1 });
        if let Some(replaced) = replaced {
            replaced.shared.console.close();
        }
        let viewer = Viewer { consoles: self.clone(), key: key.clone(), shared: shared.clone(), recent, live };
        let console = shared.console.clone();
        spawn("console-in", move || write(&*console, input))?;
        let consoles = self.clone();
        spawn("console-out", move || {
            listen(&shared);
            consoles.ended(&key, &shared);
        })?;
        Ok(viewer)
    }

    fn join_open(self: &Arc<Self>, key: &Key) -> Option<Viewer> {
        let mut table = self.table.lock();
        let entry = table.get_mut(key)?;
        let shared = entry.shared.clone();
        // Under one lock: what is said next goes either into `recent` or to the listener.
        let voice = shared.voice.lock();
        let live = voice.listeners.as_ref()?.subscribe();
        let recent = voice.recent.iter().copied().collect();
        drop(voice);
        entry.viewers += 1;
        Some(Viewer { consoles: self.clone(), key: key.clone(), shared, recent, live })
    }

    /// Forgets a console that was closed from the other end.
    fn ended(&self, key: &Key, shared: &Arc<Shared>) {
        let mut table = self.table.lock();
        if table.get(key).is_some_and(|entry| Arc::ptr_eq(&entry.shared, shared)) {
            table.remove(key);
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Problem> {
    let spawned = std::thread::Builder::new().name(name.to_string()).spawn(work);
    spawned.map(drop).map_err(|error| Problem::new(Code::Unavailable, "no thread can be started for the console").cause(error))
}

/// Passes on what the guest says, until the console is closed.
fn listen(shared: &Shared) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = shared.console.read(&mut buffer);
        let mut voice = shared.voice.lock();
        if count == 0 {
            voice.listeners = None;
            return;
        }
        let said: Arc<[u8]> = buffer[..count].into();
        voice.recent.extend(said.iter());
        let surplus = voice.recent.len().saturating_sub(RECENT);
        voice.recent.drain(..surplus);
        if let Some(listeners) = &voice.listeners {
            // Without a listener nobody is told, which is as it should be.
            listeners.send(said).ok();
        }
    }
}

/// Passes on what viewers type, until the last of them is gone.
fn write(console: &dyn Console, mut input: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = input.blocking_recv() {
        if let Err(problem) = console.write(&bytes) {
            tracing::debug!(%problem, causes = ?problem.causes, "a console takes no input");
            return;
        }
    }
}
