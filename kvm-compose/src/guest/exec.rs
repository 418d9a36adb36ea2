//! Running a command in a guest, from start to status, bounded and cancelled with the action.
//!
//! Must not know why it is run.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::agent::{Agent, Program, Status};
use crate::{
    backend::hypervisor::{AgentFault, Hypervisor},
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

/// How long the agent may take for one message. A busy guest under emulation may need seconds.
const MESSAGE_LIMIT_S: u32 = 20;
/// How often an agent that fell silent while a program runs is asked again.
const SILENCES: u32 = 3;
/// The search path of programs whose environment the caller adds to.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Longer messages hang the agent's channel, so longer input goes through a file in the guest, written in pieces.
const LONGEST_STDIN: usize = 48 << 10;
/// Reads its input from the file, which is gone once it is open, and becomes the program.
const FROM_FILE: &str = "exec <\"$1\" || exit; rm -f \"$1\"; shift; exec \"$@\"";

/// A command for a guest.
#[derive(Debug, Clone)]
pub struct Command<'a> {
    /// The guest, for messages.
    pub guest: &'a str,
    /// Its domain.
    pub domain: Uuid,
    /// Program and arguments.
    pub argv: &'a [String],
    /// Added to its environment.
    pub environment: &'a BTreeMap<String, String>,
    /// What it reads.
    pub stdin: &'a [u8],
    /// The limit.
    pub limit: Duration,
}

/// What a command ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// 0 to 255; 128 + n for a signal n; 127 when the guest has no such program.
    pub status: i32,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
    /// The agent cut one of them.
    pub truncated: bool,
}

/// Runs a command and waits for its end.
pub fn run(hypervisor: &dyn Hypervisor, command: &Command<'_>, cancel: &Cancel) -> Result<Ended, Problem> {
    cancel.check()?;
    let Some((program, arguments)) = command.argv.split_first() else {
        return Err(Problem::new(Code::BadRequest, "there is no command to run"));
    };
    let agent = Agent::new(hypervisor, command.domain, MESSAGE_LIMIT_S);
    let mut program = Program {
        path: program,
        arguments: arguments.iter().map(String::as_str).collect(),
        environment: environment(command.environment),
        stdin: command.stdin,
    };
    let file = format!("/run/testbedos-stdin-{}", Uuid::new_v4());
    if command.stdin.len() > LONGEST_STDIN {
        agent.write_file(&file, command.stdin).map_err(|fault| fault.problem(command.guest))?;
        let (path, arguments) = (program.path, std::mem::take(&mut program.arguments));
        program = Program {
            path: "sh",
            arguments: ["-c", FROM_FILE, "sh", &file, path].into_iter().chain(arguments).collect(),
            stdin: b"",
            ..program
        };
    }
    let pid = match agent.start(&program) {
        Ok(pid) => pid,
        // As a shell would say it.
        Err(AgentFault::Refused(words)) if words.contains("Failed to execute child process") => {
            return Ok(Ended { status: 127, stdout: Vec::new(), stderr: format!("{words}\n").into_bytes(), truncated: false });
        }
        Err(fault) => return Err(fault.problem(command.guest)),
    };
    wait(&agent, pid, command, cancel)
}

/// The agent replaces a program's whole environment when it is given one.
fn environment(added: &BTreeMap<String, String>) -> Vec<String> {
    if added.is_empty() {
        return Vec::new();
    }
    let defaults = [("PATH", PATH), ("HOME", "/root")].into_iter().filter(|(name, _)| !added.contains_key(*name));
    defaults.map(|(name, value)| format!("{name}={value}")).chain(added.iter().map(|(name, value)| format!("{name}={value}"))).collect()
}

fn wait(agent: &Agent<'_>, pid: i64, command: &Command<'_>, cancel: &Cancel) -> Result<Ended, Problem> {
    let deadline = Instant::now() + command.limit;
    let mut pause = Duration::from_millis(5);
    let mut silences = 0;
    loop {
        match agent.status(pid) {
            Ok(Status::Ended { status, stdout, stderr, truncated }) => return Ok(Ended { status, stdout, stderr, truncated }),
            Ok(Status::Running) => silences = 0,
            Err(AgentFault::Silent(_)) if silences < SILENCES => silences += 1,
            Err(fault) => return Err(fault.problem(command.guest)),
        }
        if Instant::now() >= deadline {
            kill(agent, pid);
            let seconds = command.limit.as_secs();
            return Err(Problem::new(Code::Timeout, format!("a command in guest `{}` did not end within {seconds} s", command.guest))
                .cause(format!("`{}` still ran and was killed", crate::names::printable(&command.argv.join(" "))))
                .hint("give it more time, or find out in the guest what it waits for"));
        }
        if cancel.wait(pause) {
            kill(agent, pid);
            cancel.check()?;
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Best effort: the guest may be beyond asking.
fn kill(agent: &Agent<'_>, pid: i64) {
    let pid = pid.to_string();
    let killed = agent.start(&Program { path: "kill", arguments: vec!["-KILL", &pid], ..Program::default() });
    if let Err(fault) = killed {
        tracing::debug!(pid, fault = fault.text(), "a command in a guest could not be killed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_added_variable_comes_with_a_path() {
        assert!(environment(&BTreeMap::new()).is_empty());
        let added = BTreeMap::from([("A".to_string(), "1=2".to_string()), ("HOME".to_string(), "/x".to_string())]);
        assert_eq!(environment(&added), [format!("PATH={PATH}"), "A=1=2".to_string(), "HOME=/x".to_string()]);
    }
}
