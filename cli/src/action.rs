//! An action from its request to its end: shows its events, passes Ctrl-C on, fetches what became of it.

use std::{
    future::{Future, pending},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::LocalBoxFuture;
use kvm_compose::{
    api::{ActionAccepted, action::LogRecord},
    error::{Code, Problem},
    orchestrate::event::{Event, EventKind, OutputStream},
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use uuid::Uuid;

use crate::{
    args::Format,
    client::{Client, Owner},
    exit::{self, Outcome},
    follow::{Follower, Next},
    host::Host,
    output::{self, Output},
    progress::Progress,
    session::Session,
};

/// An action that was followed to its end.
pub struct Ended {
    pub record: LogRecord,
    /// Ctrl-C was pressed.
    pub interrupted: bool,
    /// What the events told of the work.
    pub told: Told,
}

/// What an action's events told of its work.
#[derive(Debug, Default)]
pub struct Told {
    /// Steps that began.
    pub begun: usize,
    /// Steps that were undone; none when nothing was taken back.
    pub undone: Option<usize>,
    /// Steps that could not be undone.
    pub stuck: Vec<String>,
    /// Bytes of a command's standard output and error that were printed as they came.
    pub printed: [usize; 2],
}

impl Told {
    fn print(&mut self, kind: &EventKind, out: &Output) {
        let EventKind::Output { stream, data_base64, .. } = kind else { return };
        let Ok(bytes) = STANDARD.decode(data_base64) else { return };
        match stream {
            OutputStream::Stdout => out.bytes(&bytes),
            OutputStream::Stderr => output::error_bytes(&bytes),
        }
        self.printed[usize::from(*stream == OutputStream::Stderr)] += bytes.len();
    }

    fn event(&mut self, kind: &EventKind) {
        match kind {
            EventKind::StepStarted { .. } => self.begun += 1,
            EventKind::Unwinding { .. } => self.undone = Some(0),
            EventKind::UndoDone { .. } => self.undone = self.undone.map(|undone| undone + 1),
            EventKind::UndoFailed { step, .. } => self.stuck.push(step.clone()),
            _ => {}
        }
    }
}

impl Ended {
    /// How it counts: by the entry, but 130 after Ctrl-C, however it ended then.
    pub fn outcome(&self) -> Outcome {
        let outcome = exit::of_entry(&self.record.entry);
        if !self.interrupted {
            return outcome;
        }
        let done = || Problem::new(Code::Cancelled, format!("`{}` was done before it could be cancelled", self.record.entry.command));
        Err(Problem { code: Code::Cancelled, ..outcome.err().unwrap_or_else(done) })
    }
}

/// How an action is watched.
pub struct Watch {
    pub progress: Progress,
    /// It is cancelled when it takes longer.
    pub limit: Option<Duration>,
    /// What a command in a guest prints is printed here as it comes.
    pub prints: bool,
}

/// What following comes to.
pub enum Followed {
    Ended(Box<Ended>),
    /// A second Ctrl-C: the action goes on without being watched.
    Left,
}

/// Ctrl-C, which from now on no longer ends this program.
pub struct Interrupts(Signal);

impl Interrupts {
    /// Call it before the request: an action that the server has accepted must not be left by accident.
    pub fn catch() -> Result<Interrupts, Problem> {
        signal(SignalKind::interrupt()).map(Interrupts).map_err(|error| Problem::internal("Ctrl-C cannot be handled").cause(error))
    }
}

/// Waits for the acceptance, then follows the action to its end.
pub async fn run(
    session: &Session,
    client: &Client,
    owner: &Owner,
    request: impl Future<Output = Result<ActionAccepted, Problem>>,
    watch: Watch,
) -> Result<Followed, Problem> {
    let interrupts = Interrupts::catch()?;
    let uuid = request.await?.uuid;
    follow(session, client, owner, uuid, interrupts, watch).await
}

async fn follow(
    session: &Session,
    client: &Client,
    owner: &Owner,
    uuid: Uuid,
    mut interrupts: Interrupts,
    Watch { mut progress, limit: allowed, prints }: Watch,
) -> Result<Followed, Problem> {
    let mut follower = Follower::new(client, owner.path(&["logs", &uuid.to_string(), "stream"]), "format=events&from={from}");
    let mut interrupted = false;
    let mut out_of_time = false;
    let mut told = Told::default();
    let mut cancelling: Option<LocalBoxFuture<'static, Result<(), Problem>>> = None;
    let limit = async {
        match allowed {
            Some(limit) => tokio::time::sleep(limit).await,
            None => pending().await,
        }
    };
    tokio::pin!(limit);
    loop {
        tokio::select! {
            next = follower.next() => match next.map_err(|problem| lost(&client.host, problem, follower.nobody_listens(), uuid))? {
                Next::Line(line) => {
                    if session.global.output == Format::Ndjson {
                        session.out.line(&line);
                    }
                    // An event of a newer server that this command does not know is passed over.
                    if let Ok(event) = serde_json::from_str::<Event>(&line) {
                        told.event(&event.kind);
                        if prints {
                            told.print(&event.kind, &session.out);
                        }
                        progress.event(&event);
                    }
                }
                Next::Cut => progress.note("the connection to the server was lost; trying again for a minute at most"),
                Next::Back => progress.note("connected again"),
                Next::End(_) => break,
            },
            _ = interrupts.0.recv() => {
                if interrupted {
                    progress.finish();
                    progress.note(&format!("not watching any more; `testbed logs -f {uuid}` watches again"));
                    return Ok(Followed::Left);
                }
                interrupted = true;
                progress.note("asking the server to cancel; Ctrl-C again stops watching only");
                cancelling = Some(cancel(client, owner, uuid));
            }
            () = &mut limit, if !out_of_time => {
                out_of_time = true;
                progress.note("the time given with --timeout is over; asking the server to cancel");
                cancelling = Some(cancel(client, owner, uuid));
            }
            result = async { match &mut cancelling { Some(asking) => asking.await, None => pending().await } } => {
                cancelling = None;
                if let Err(problem) = result {
                    progress.note(&format!("the server did not take the request to cancel: {problem}"));
                }
            }
        }
    }
    progress.finish();
    let record = client.log_record(owner, uuid).await?;
    if out_of_time && !interrupted && exit::of_entry(&record.entry).is_err() {
        let limit = allowed.unwrap_or_default().as_secs();
        return Err(Problem::new(Code::Timeout, format!("`{}` took longer than {limit} s and was cancelled", record.entry.command))
            .hint("allow it more time with `--timeout`, or leave the flag out to wait for as long as it takes"));
    }
    Ok(Followed::Ended(Box::new(Ended { record, interrupted, told })))
}

fn cancel(client: &Client, owner: &Owner, uuid: Uuid) -> LocalBoxFuture<'static, Result<(), Problem>> {
    let (client, owner) = (client.clone(), owner.clone());
    Box::pin(async move { client.cancel(&owner, uuid).await })
}

/// What it means for the action that its server cannot be followed any more.
fn lost(host: &Host, problem: Problem, nobody_listens: bool, uuid: Uuid) -> Problem {
    match problem.code {
        Code::Unavailable if nobody_listens => {
            let start = problem.hint.clone().unwrap_or_default();
            Problem { message: format!("the server at `{host}` is gone, and the action with it"), ..problem }
                .hint(format!("{start}; once it is back, the same command completes what was begun"))
        }
        Code::Unavailable => problem
            .hint(format!("if the server still runs, the action goes on without being watched; `testbed logs -f {uuid}` watches again")),
        _ => problem,
    }
}
