//! Waiting until a guest is ready: for a fact, with a limit, and with what was last seen in the error.
//!
//! Must not know what is done in the guest afterwards.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{agent::Agent, condition};
use crate::{
    backend::hypervisor::{AgentFault, DomainState, Hypervisor},
    error::{Code, Problem},
    orchestrate::{event::clean, host::Cancel},
    plan::blueprint::Readiness,
};

/// How long the agent may take for a ping once it is connected.
const PING_LIMIT_S: u32 = 5;
/// How much of the console is looked at for the message.
const CONSOLE_TAIL: i64 = 4096;

/// Waits until the condition holds. Fails at once when the domain ends.
pub fn wait(
    hypervisor: &dyn Hypervisor,
    guest: &str,
    domain: Uuid,
    ready: &Readiness,
    console_log: &Path,
    cancel: &Cancel,
) -> Result<(), Problem> {
    let deadline = Instant::now() + Duration::from_secs(ready.timeout_s);
    let agent = Agent::new(hypervisor, domain, PING_LIMIT_S);
    let mut pause = Duration::from_millis(50);
    loop {
        cancel.check()?;
        let state = match hypervisor.state(domain) {
            // libvirt may restart while a guest boots.
            Err(problem) if problem.code == Code::Libvirt && Instant::now() < deadline => {
                cancel.wait(pause);
                continue;
            }
            other => other?,
        };
        if !state.is_some_and(|state| state.is_active() || state.is_passing()) {
            return Err(ended(guest, state, console_log));
        }
        let running = state.is_some_and(DomainState::is_running);
        let last = match running {
            true => match seen(ready, &agent, console_log, cancel) {
                Ok(None) => return Ok(()),
                Ok(Some(seen)) => seen,
                Err(AgentFault::Broken(problem)) if problem.code != Code::Libvirt => return Err(problem),
                Err(fault) => fault.text(),
            },
            false => state.map_or_else(String::new, |state| format!("the domain is {state}")),
        };
        if Instant::now() >= deadline {
            return Err(late(guest, ready, &last, console_log));
        }
        if cancel.wait(pause) {
            return cancel.check();
        }
        pause = (pause * 3 / 2).min(Duration::from_millis(500));
    }
}

fn seen(ready: &Readiness, agent: &Agent<'_>, console_log: &Path, cancel: &Cancel) -> Result<Option<String>, AgentFault> {
    if ready.set_up
        && let Some(seen) = condition::set_up(agent)?
    {
        return Ok(Some(seen));
    }
    condition::holds(&ready.condition, agent, console_log, cancel)
}

fn ended(guest: &str, state: Option<DomainState>, console_log: &Path) -> Problem {
    let seen = state.map_or_else(|| "it is gone".to_string(), |state| format!("it is {state}"));
    let problem = Problem::new(Code::GuestNotReady, format!("guest `{guest}` stopped before it was ready: {seen}"));
    console(problem, console_log).hint("`testbed up --keep-on-failure` leaves the guest and its console's log for a look")
}

fn late(guest: &str, ready: &Readiness, last: &str, console_log: &Path) -> Problem {
    let (condition, limit) = (&ready.condition, ready.timeout_s);
    let message = format!("guest `{guest}` is not ready: waited {limit} s until {condition}; last seen: {}", clean(last));
    let hint = "`testbed up --keep-on-failure` leaves the guest and its console's log for a look; `ready: {timeout_s: …}` gives it longer"
        .to_string();
    console(Problem::new(Code::GuestNotReady, message), console_log).hint(hint)
}

/// The last lines of the console as causes, safe to show.
fn console(mut problem: Problem, log: &Path) -> Problem {
    let tail = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
        file.seek(SeekFrom::End(-length.min(CONSOLE_TAIL)))?;
        let mut tail = Vec::new();
        file.take(CONSOLE_TAIL as u64).read_to_end(&mut tail)?;
        Ok(tail)
    };
    let text = String::from_utf8_lossy(&tail().unwrap_or_default()).replace('\r', "\n");
    let lines: Vec<String> = text.lines().map(|line| clean(line).trim().to_string()).filter(|line| !line.is_empty()).collect();
    for line in &lines[lines.len().saturating_sub(5)..] {
        problem = problem.cause(format!("console: {}", line.chars().take(200).collect::<String>()));
    }
    problem
}
