//! Carrying out what the master asks: each call in a thread of its own, done once however often it is asked.
//!
//! ```text
//! asked ─► running ─► ended, kept for a while ─► forgotten
//!            ▲  asked again over another connection: goes on, and its lines and its end go there
//! ```
//!
//! Must not know sockets.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kvm_compose::{
    api::event::OutputStream,
    backend::local::{ExecCall, LocalHost},
    error::{Code, Problem},
    orchestrate::host::{Cancel, Context, Host as _},
    plan::{site::Standing, step::Work},
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;
use uuid::Uuid;

use super::{capture, console, copy};
use crate::cluster::wire::{Call, Ended, FromMember, Outcome, Seat};

/// How long an outcome is kept for a master that did not hear it.
const KEPT: Duration = Duration::from_secs(300);
/// Lines and pieces of output kept for a master that is away, of each call.
const KEPT_UNSENT: usize = 1000;

/// All calls.
pub struct Calls {
    local: LocalHost,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    link: Option<UnboundedSender<FromMember>>,
    calls: HashMap<Uuid, State>,
    /// One at a time for each domain: what a master that gave up had begun ends before what it asks next.
    turns: HashMap<Uuid, Arc<Mutex<()>>>,
    /// What is typed into consoles that calls opened.
    consoles: HashMap<Uuid, mpsc::Sender<Vec<u8>>>,
}

enum State {
    Running { cancel: Cancel, unsent: Vec<FromMember> },
    Ended { outcome: Outcome, at: Instant },
}

impl Calls {
    /// No calls yet, over this host.
    pub fn new(local: LocalHost) -> Arc<Self> {
        Arc::new(Calls { local, inner: Mutex::default() })
    }

    /// The host.
    pub fn host(&self) -> &LocalHost {
        &self.local
    }

    /// From now on everything is said over this connection; over none when there is none.
    pub fn link(&self, out: Option<UnboundedSender<FromMember>>) {
        self.inner.lock().link = out;
    }

    /// Asks every running call to stop.
    pub fn stop(&self) {
        for state in self.inner.lock().calls.values() {
            if let State::Running { cancel, .. } = state {
                cancel.cancel();
            }
        }
    }

    /// Types into the console that a call opened.
    pub fn type_in(&self, id: Uuid, bytes: &str) {
        if let (Some(console), Ok(bytes)) = (self.inner.lock().consoles.get(&id), STANDARD.decode(bytes)) {
            // A console that has just ended takes nothing.
            let _ended = console.send(bytes);
        }
    }

    /// Asks one call to stop.
    pub fn cancel(&self, id: Uuid) {
        if let Some(State::Running { cancel, .. }) = self.inner.lock().calls.get(&id) {
            cancel.cancel();
        }
    }

    /// Carries out a call, or goes on with it.
    pub fn begin(self: &Arc<Self>, id: Uuid, call: Call) {
        let cancel = Cancel::new();
        {
            let mut inner = self.inner.lock();
            inner.calls.retain(|_, state| !matches!(state, State::Ended { at, .. } if at.elapsed() > KEPT));
            let link = inner.link.clone();
            let said = |message| link.as_ref().is_some_and(|link| link.send(message).is_ok());
            match inner.calls.get_mut(&id) {
                Some(State::Running { unsent, .. }) => {
                    unsent.retain(|message| !said(message.clone()));
                    return;
                }
                Some(State::Ended { outcome, .. }) => {
                    // Not heard either: it is asked for again.
                    said(FromMember::Done { id, outcome: outcome.clone() });
                    return;
                }
                None => drop(inner.calls.insert(id, State::Running { cancel: cancel.clone(), unsent: Vec::new() })),
            }
        }
        let calls = self.clone();
        let spawned = std::thread::Builder::new().name("call".to_string()).spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| calls.carry_out(id, &call, &cancel)))
                .unwrap_or_else(|_| Err(Problem::internal("a call panicked on its host")));
            calls.end(id, outcome);
        });
        if let Err(error) = spawned {
            self.end(id, Err(Problem::io("a host cannot start a thread", &error)));
        }
    }

    fn end(&self, id: Uuid, outcome: Result<Value, Problem>) {
        let outcome = outcome.map_or_else(Outcome::Problem, Outcome::Answer);
        let mut inner = self.inner.lock();
        inner.calls.insert(id, State::Ended { outcome: outcome.clone(), at: Instant::now() });
        inner.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        if let Some(link) = &inner.link {
            // Without a master it is kept, and asked for again.
            let _unheard = link.send(FromMember::Done { id, outcome });
        }
    }

    /// Says something of a running call; what nobody hears is kept until it is asked for again.
    fn say(&self, id: Uuid, message: FromMember) {
        let mut inner = self.inner.lock();
        if inner.link.as_ref().is_none_or(|link| link.send(message.clone()).is_err())
            && let Some(State::Running { unsent, .. }) = inner.calls.get_mut(&id)
            && unsent.len() < KEPT_UNSENT
        {
            unsent.push(message);
        }
    }

    fn turn(&self, work: &Work) -> Option<Arc<Mutex<()>>> {
        let domain = match work {
            Work::StartDomain { domain } => domain.uuid,
            Work::StopDomain { uuid, .. }
            | Work::ShutDownDomain { uuid, .. }
            | Work::PauseDomain { uuid, .. }
            | Work::ResumeDomain { uuid, .. }
            | Work::RemoveDomain { uuid, .. }
            | Work::AttachNic { uuid, .. }
            | Work::DetachNic { uuid, .. }
            | Work::ConfigureNetwork { uuid, .. }
            | Work::SetCarrier { uuid, .. } => *uuid,
            _ => return None,
        };
        Some(self.inner.lock().turns.entry(domain).or_default().clone())
    }

    fn carry_out(&self, id: Uuid, call: &Call, cancel: &Cancel) -> Result<Value, Problem> {
        let host = &self.local.config().host;
        match call {
            Call::Site { deployment, at_once } => {
                let site = if *at_once { self.local.site_at_once() } else { self.local.site() };
                let standing = self.local.standing(deployment)?.into_iter().map(|(guest, Standing { running, .. })| (guest, running));
                json(&Seat { site: site?, standing: standing.collect() })
            }
            Call::Observe { deployment, wanted, ports } => json(&self.local.look_here(deployment, wanted.as_deref(), ports)?),
            Call::Apply { deployment, operation, work } => {
                let turn = self.turn(work);
                let _turn = turn.as_ref().map(|turn| turn.lock());
                let say = |text: &str| self.say(id, FromMember::Line { id, text: text.to_string() });
                let context = Context { host, deployment, operation: *operation, cancel, say: &say };
                self.local.apply(work, &context).map(|()| Value::Null)
            }
            Call::Sweep { deployment } => self.local.sweep(deployment).map(|()| Value::Null),
            Call::Exec { deployment, guest, argv, environment, stdin, timeout_s } => {
                let stdin =
                    STANDARD.decode(stdin).map_err(|error| Problem::new(Code::BadRequest, "the input is not base64").cause(error))?;
                let call = ExecCall { guest, argv, environment, stdin: &stdin, timeout_s: *timeout_s };
                let say = |stream, bytes: &[u8]| self.say(id, FromMember::Output { id, stream, bytes: STANDARD.encode(bytes) });
                let ended = self.local.exec(deployment, &call, cancel, &say)?;
                json(&Ended {
                    status: ended.status,
                    stdout: STANDARD.encode(ended.stdout),
                    stderr: STANDARD.encode(ended.stderr),
                    truncated: ended.truncated,
                })
            }
            Call::Console { deployment, guest } => {
                let (console, typed) = mpsc::channel();
                self.inner.lock().consoles.insert(id, console);
                let say =
                    |bytes: &[u8]| self.say(id, FromMember::Output { id, stream: OutputStream::Stdout, bytes: STANDARD.encode(bytes) });
                let served = console::serve(&self.local, (deployment, guest), cancel, typed, &say);
                self.inner.lock().consoles.remove(&id);
                served.map(|()| Value::Null)
            }
            Call::MeasureLink { deployment, port, probe } => json(&self.local.measure_link(deployment, *port, *probe)?),
            Call::Capture { deployment, ports, snap } => {
                let say =
                    |bytes: &[u8]| self.say(id, FromMember::Output { id, stream: OutputStream::Stdout, bytes: STANDARD.encode(bytes) });
                json(&capture::serve(&self.local, (deployment, ports, *snap), cancel, &say)?)
            }
            Call::LookAtPath { deployment, guest, path } => json(&self.local.look_at_path(deployment, guest, path, false, cancel)?),
            Call::PutArchive { deployment, guest, folder, sum } => {
                let archive = self.local.fetch_archive(deployment, sum, cancel)?;
                self.local.put_archive(deployment, guest, folder, &archive, cancel).map(|()| Value::Null)
            }
            Call::GetArchive { deployment, guest, path } => {
                let (read, word) = mpsc::channel();
                self.inner.lock().consoles.insert(id, read);
                let say =
                    |bytes: &[u8]| self.say(id, FromMember::Output { id, stream: OutputStream::Stdout, bytes: STANDARD.encode(bytes) });
                let served = copy::serve(&self.local, (deployment, guest, path), cancel, &word, &say);
                self.inner.lock().consoles.remove(&id);
                served.map(|()| Value::Null)
            }
            Call::Marked => json(&self.local.marked_here()?),
        }
    }
}

fn json<T: serde::Serialize>(answer: &T) -> Result<Value, Problem> {
    serde_json::to_value(answer).map_err(|error| Problem::internal("an answer cannot be written").cause(error))
}
