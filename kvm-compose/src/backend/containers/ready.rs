//! Waiting until a container is ready: for a fact, with a limit, and with what was last seen in the error.
//!
//! The fact is looked for from outside, in the container's network namespace and in its log: its image needs no tool.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{Engine, namespace};
use crate::{
    backend::Owner,
    error::{Code, Problem},
    guest::condition::listens,
    orchestrate::{event::clean, host::Cancel},
    plan::blueprint::{Readiness, ReadyCondition},
};

/// How long a request in the container may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(8);
/// Lines of its log that stand in an error.
const LAST_LINES: u32 = 5;

/// The container that is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Awaited<'a> {
    /// The guest, for messages.
    pub guest: &'a str,
    /// Its container.
    pub name: &'a str,
    /// The guest's id.
    pub uuid: Uuid,
    /// Whose it is.
    pub owner: &'a Owner,
}

impl Engine {
    /// Waits until the condition holds. Fails at once when the container ends.
    pub fn await_ready(&self, of: Awaited<'_>, ready: &Readiness, cancel: &Cancel) -> Result<(), Problem> {
        let deadline = Instant::now() + Duration::from_secs(ready.timeout_s);
        let mut pause = Duration::from_millis(50);
        loop {
            cancel.check()?;
            let seen = self.look_at_ours(of.name, of.uuid, of.owner)?;
            let Some((pid, state)) = seen.as_ref().and_then(|seen| Some((seen.state.pid?, &seen.state))) else {
                // It may have said the word and ended before it was looked at.
                if seen.is_some() && matches!(ready.condition, ReadyCondition::Log(_)) && self.holds(of, &ready.condition, 0)?.is_none() {
                    return Ok(());
                }
                return Err(self.ended(of, seen.map(|seen| seen.state)));
            };
            let last = match state.paused {
                true => "it is paused".to_string(),
                false => match self.holds(of, &ready.condition, pid)? {
                    None => return Ok(()),
                    Some(last) => last,
                },
            };
            if Instant::now() >= deadline {
                return Err(self.late(of, ready, &last));
            }
            if cancel.wait(pause) {
                return cancel.check();
            }
            pause = (pause * 3 / 2).min(Duration::from_millis(500));
        }
    }

    /// Nothing when the condition holds, or else what was seen instead.
    fn holds(&self, of: Awaited<'_>, condition: &ReadyCondition, pid: i32) -> Result<Option<String>, Problem> {
        Ok(match condition {
            // A container has no agent: what is asked of one is asked of Docker.
            ReadyCondition::Running | ReadyCondition::Agent => None,
            ReadyCondition::Tcp(port) => {
                // The files are of the process's own network namespace (proc(5)).
                let table = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
                let listening = ["tcp", "tcp6"].iter().any(|name| listens(&table(name), *port));
                (!listening).then(|| format!("nothing listens on TCP port {port}"))
            }
            ReadyCondition::Http { port, path } => {
                let (port, url) = (*port, format!("http://127.0.0.1:{port}{path}"));
                match namespace::inside(pid, || Ok(answer(port, path))) {
                    Ok(Ok(status)) if (200..400).contains(&status) => None,
                    Ok(Ok(status)) => Some(format!("{url} answers with status {status}")),
                    Ok(Err(error)) => Some(format!("{url} does not answer: {error}")),
                    Err(problem) => Some(problem.to_string()),
                }
            }
            ReadyCondition::Log(text) => {
                let said = self.said(of.name, None)?;
                let has = said.windows(text.len().max(1)).any(|window| window == text.as_bytes());
                (!has).then(|| "it has not said it".to_string())
            }
        })
    }

    fn ended(&self, of: Awaited<'_>, state: Option<super::State>) -> Problem {
        let seen = state.as_ref().map_or_else(|| "it is gone".to_string(), |state| format!("it is {}", state.words()));
        let mut problem = Problem::new(Code::GuestNotReady, format!("guest `{}` stopped before it was ready: {seen}", of.guest));
        if let Some(fault) = state.map(|state| state.fault).filter(|fault| !fault.is_empty()) {
            problem = problem.cause(fault);
        }
        self.with_log(problem, of).hint("a container runs as long as its command does; `testbed up --keep-on-failure` leaves it for a look")
    }

    fn late(&self, of: Awaited<'_>, ready: &Readiness, last: &str) -> Problem {
        let (condition, limit) = (&ready.condition, ready.timeout_s);
        let message = format!("guest `{}` is not ready: waited {limit} s until {condition}; last seen: {}", of.guest, clean(last));
        self.with_log(Problem::new(Code::GuestNotReady, message), of)
            .hint("`testbed up --keep-on-failure` leaves the container for a look; `ready: {timeout_s: …}` gives it longer")
    }

    /// The last lines of its log as causes, safe to show.
    fn with_log(&self, mut problem: Problem, of: Awaited<'_>) -> Problem {
        let said = self.said(of.name, Some(LAST_LINES)).unwrap_or_default();
        let text = String::from_utf8_lossy(&said).replace('\r', "\n");
        for line in text.lines().map(|line| clean(line).trim().to_string()).filter(|line| !line.is_empty()) {
            problem = problem.cause(format!("log: {}", line.chars().take(200).collect::<String>()));
        }
        problem
    }
}

/// The status of an answer (RFC 9112 section 4), asked for from where this thread is.
fn answer(port: u16, path: &str) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), REQUEST_LIMIT)?;
    stream.set_read_timeout(Some(REQUEST_LIMIT))?;
    stream.set_write_timeout(Some(REQUEST_LIMIT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut line = Vec::new();
    stream.take(256).read_to_end(&mut line).or_else(|error| if line.is_empty() { Err(error) } else { Ok(0) })?;
    let text = String::from_utf8_lossy(&line);
    let status = text.strip_prefix("HTTP/").and_then(|rest| rest.split_whitespace().nth(1)).and_then(|word| word.parse().ok());
    status.ok_or_else(|| std::io::Error::other("its answer is not HTTP"))
}
