//! Running a command in a guest, from start to status, bounded and cancelled with the action.
//!
//! ```text
//! agent ─► setsid sh: makes files, notes its id ─► the command ─► out, err ─┬─► little and soon: with the status
//!                                                                          └─► read in pieces, as they grow
//! ```
//!
//! The command has a session of its own, so that all its processes can be ended together. A guest without a shell gets the
//! command as it is: its output then comes at its end. Must not know why it is run.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    agent::{Agent, Program, Status},
    output::{Say, Tail},
};
use crate::{
    api::event::OutputStream,
    backend::hypervisor::{AgentFault, Hypervisor},
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

/// How long the agent may take for one message. A busy guest under emulation may need seconds.
const MESSAGE_LIMIT_S: u32 = 20;
/// How often an agent that fell silent while a program runs is asked again.
const SILENCES: u32 = 3;
/// How long a command that is ended may take for it: its own second, and time for a busy guest.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// The longest pause between two questions.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// The search path of programs whose environment the caller adds to.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longer messages hang the agent's channel, so longer input goes through a file in the guest, written in pieces.
const LONGEST_STDIN: usize = 48 << 10;
/// What a command line and its environment may be long, for the same reason.
const LONGEST_COMMAND: usize = 100 << 10;

/// Makes the files, takes the input from its file (gone once it is open), becomes the command in a shell beside it (which adds
/// variables to what the guest has: a count, then `NAME=VALUE`s), and hands over what little was printed with its status: a dot
/// after it says that this worked. Processes are dear where QEMU translates, so there are few.
const RUNNER: &str = r#"d=$1 i=$2 n=$3; shift 3
( umask 077; set -C; : >"$d.out" && : >"$d.err" && echo $$ >"$d.pid" ) 2>/dev/null || { echo "no place"; exit 125; }
[ -z "$i" ] || { exec <"$i" || exit; rm -f "$i"; }
trap : TERM
exec 3>&2 2>/dev/null
( while [ "$n" -gt 0 ]; do export "$1"; shift; n=$((n-1)); done
case $1 in
*/*) [ -e "$1" ] || { echo "$1: not found" >&2; exit 127; }
[ -x "$1" ] && [ ! -d "$1" ] || { echo "$1: cannot be executed" >&2; exit 126; } ;;
*) command -v "$1" >/dev/null 2>&1 || { echo "$1: not found" >&2; exit 127; } ;;
esac
exec "$@" ) >>"$d.out" 2>>"$d.err" 3>&-
r=$?
{ [ ! -s "$d.out" ] || head -c 16384 "$d.out"; } && { [ ! -s "$d.err" ] || head -c 16384 "$d.err" >&3; } && printf .
exit $r"#;
/// So much of each stream comes with the status.
const AT_ONCE: usize = 16384;
/// What the script says when the guest has no room for the files.
const NO_PLACE: &[u8] = b"no place\n";
/// Ends all processes of a command: asks, then a second later kills.
const ENDER: &str = r#"n=0
while [ ! -s "$1.pid" ] && [ $n -lt 20 ]; do sleep 0.1; n=$((n+1)); done
read -r p <"$1.pid" || exit
kill -TERM -"$p" 2>/dev/null || kill -TERM "$p" 2>/dev/null
n=0
while kill -0 -"$p" 2>/dev/null && [ $n -lt 10 ]; do sleep 0.1; n=$((n+1)); done
kill -KILL -"$p" 2>/dev/null || kill -KILL "$p" 2>/dev/null"#;
/// What has ended by then is not looked at before: its output comes with its status.
const QUICK_LOOKS: u32 = 4;

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
    /// One of them is longer than is kept.
    pub truncated: bool,
}

/// Runs a command and waits for its end. Hands what it prints to `say` as it comes, also when it fails.
pub fn run(hypervisor: &dyn Hypervisor, command: &Command<'_>, cancel: &Cancel, say: Say<'_>) -> Result<Ended, Problem> {
    cancel.check()?;
    let Some(program) = command.argv.first() else {
        return Err(Problem::new(Code::BadRequest, "there is no command to run"));
    };
    let added = command.environment.iter().map(|(name, value)| name.len() + value.len());
    if command.argv.iter().map(String::len).chain(added).sum::<usize>() > LONGEST_COMMAND {
        let message = format!("the command for guest `{}` is longer than {} KiB", command.guest, LONGEST_COMMAND >> 10);
        return Err(Problem::new(Code::TooLarge, message).hint("pass the data on standard input (`-i`), or as a file"));
    }
    let agent = Agent::new(hypervisor, command.domain, MESSAGE_LIMIT_S);
    let place = format!("/run/testbedos-exec-{}", Uuid::new_v4());
    let input = if command.stdin.len() > LONGEST_STDIN { format!("{place}.in") } else { String::new() };
    if !input.is_empty() {
        agent.write_file(&input, command.stdin).map_err(|fault| fault.problem(command.guest))?;
    }
    let arguments = command.argv.iter().map(String::as_str);
    let variables: Vec<String> = command.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let count = variables.len().to_string();
    let added = [count.as_str()].into_iter().chain(variables.iter().map(String::as_str));
    let shell = Program {
        path: "setsid",
        arguments: ["sh", "-c", RUNNER, "sh", &place, &input].into_iter().chain(added).chain(arguments.clone()).collect(),
        environment: Vec::new(),
        stdin: if input.is_empty() { command.stdin } else { b"" },
    };
    let pid = match started(&agent, &shell, command)? {
        // Without a session of its own it is ended alone.
        None => started(&agent, &Program { path: "sh", arguments: shell.arguments[1..].to_vec(), ..shell.clone() }, command)?,
        some => some,
    };
    if let Some(pid) = pid {
        let mut at_work = AtWork::new(agent, command, Some(&place));
        let ended = at_work.wait(pid, cancel, say);
        at_work.tidy();
        match ended {
            Ok(ended) if ended.status == 125 && ended.stdout == NO_PLACE && !at_work.began => {}
            other => return other,
        }
    }
    if !input.is_empty() {
        let message = format!("guest `{}` has no shell or no room in /run, so it takes no input of more than 48 KiB", command.guest);
        return Err(Problem::new(Code::CommandFailed, message));
    }
    let bare = Program { path: program, arguments: arguments.skip(1).collect(), environment: environment(command.environment), ..shell };
    match started(&agent, &bare, command)? {
        Some(pid) => AtWork::new(agent, command, None).wait(pid, cancel, say),
        None => {
            let stderr = format!("{program}: not found\n").into_bytes();
            say(OutputStream::Stderr, &stderr);
            Ok(Ended { status: 127, stdout: Vec::new(), stderr, truncated: false })
        }
    }
}

/// Runs a small command of our own without a shell around it; what it prints comes at its end.
pub fn run_small(hypervisor: &dyn Hypervisor, command: &Command<'_>, cancel: &Cancel) -> Result<Ended, Problem> {
    cancel.check()?;
    let path = command.argv.first().map_or("", String::as_str);
    let arguments = command.argv.iter().skip(1).map(String::as_str).collect();
    let agent = Agent::new(hypervisor, command.domain, MESSAGE_LIMIT_S);
    match started(&agent, &Program { path, arguments, ..Program::default() }, command)? {
        Some(pid) => AtWork::new(agent, command, None).wait(pid, cancel, &|_, _| {}),
        None => Ok(Ended { status: 127, stdout: Vec::new(), stderr: format!("{path}: not found\n").into_bytes(), truncated: false }),
    }
}

/// Starts a program; nothing when the guest does not have it.
fn started(agent: &Agent<'_>, program: &Program<'_>, command: &Command<'_>) -> Result<Option<i64>, Problem> {
    match agent.start(program) {
        Ok(pid) => Ok(Some(pid)),
        Err(AgentFault::Refused(words)) if words.contains("Failed to execute child process") => Ok(None),
        Err(fault) => Err(fault.problem(command.guest)),
    }
}

/// The agent replaces a program's whole environment when it is given one.
fn environment(added: &BTreeMap<String, String>) -> Vec<String> {
    if added.is_empty() {
        return Vec::new();
    }
    let defaults = [("PATH", PATH), ("HOME", "/root")].into_iter().filter(|(name, _)| !added.contains_key(*name));
    defaults.map(|(name, value)| format!("{name}={value}")).chain(added.iter().map(|(name, value)| format!("{name}={value}"))).collect()
}

/// A command at work in a guest.
struct AtWork<'a> {
    agent: Agent<'a>,
    command: &'a Command<'a>,
    place: Option<&'a str>,
    tails: Vec<Tail>,
    /// Something of its output was there to be read.
    began: bool,
    looks: u32,
    silences: u32,
}

impl<'a> AtWork<'a> {
    fn new(agent: Agent<'a>, command: &'a Command<'a>, place: Option<&'a str>) -> Self {
        let streams = [(OutputStream::Stdout, "out"), (OutputStream::Stderr, "err")];
        let tails = place.iter().flat_map(|place| streams.map(|(stream, name)| Tail::of(stream, format!("{place}.{name}")))).collect();
        AtWork { agent, command, place, tails, began: false, looks: 0, silences: 0 }
    }

    fn wait(&mut self, pid: i64, cancel: &Cancel, say: Say<'_>) -> Result<Ended, Problem> {
        let deadline = Instant::now() + self.command.limit;
        let mut pause = Duration::from_millis(6);
        if cancel.wait(pause) {
            self.end(pid, say);
            cancel.check()?;
        }
        loop {
            let before = self.printed();
            if let Some(ended) = self.look(pid, say)? {
                return Ok(ended);
            }
            // Whoever prints is looked at again soon.
            pause = if self.printed() > before { Duration::from_millis(20) } else { (pause * 3 / 2).min(LONGEST_PAUSE) };
            if Instant::now() >= deadline {
                self.end(pid, say);
                let seconds = self.command.limit.as_secs();
                let message = format!("a command in guest `{}` did not end within {seconds} s", self.command.guest);
                return Err(Problem::new(Code::Timeout, message)
                    .cause(format!("`{}` still ran and was killed", crate::names::printable(&self.command.argv.join(" "))))
                    .hint("give it more time, or find out in the guest what it waits for"));
            }
            if cancel.wait(pause) {
                self.end(pid, say);
                cancel.check()?;
            }
        }
    }

    fn printed(&self) -> usize {
        self.tails.iter().map(|tail| tail.content.len()).sum()
    }

    /// Reads what was printed and asks whether it ended. A few silences are passed over.
    fn look(&mut self, pid: i64, say: Say<'_>) -> Result<Option<Ended>, Problem> {
        match self.visit(pid, say) {
            Ok(found) => {
                self.silences = 0;
                Ok(found)
            }
            Err(AgentFault::Silent(_)) if self.silences < SILENCES => {
                self.silences += 1;
                Ok(None)
            }
            Err(fault) => Err(fault.problem(self.command.guest)),
        }
    }

    fn visit(&mut self, pid: i64, say: Say<'_>) -> Result<Option<Ended>, AgentFault> {
        self.looks += 1;
        if self.looks > QUICK_LOOKS {
            for tail in &mut self.tails {
                self.began |= tail.visit(&self.agent, say)? > 0;
            }
        }
        let Status::Ended { status, stdout, stderr, truncated } = self.agent.status(pid)? else { return Ok(None) };
        let [out, err] = self.tails.as_mut_slice() else {
            say(OutputStream::Stdout, &stdout);
            say(OutputStream::Stderr, &stderr);
            return Ok(Some(Ended { status, stdout, stderr, truncated }));
        };
        if status == 125 && stdout == NO_PLACE {
            return Ok(Some(Ended { status, stdout, stderr: Vec::new(), truncated: false }));
        }
        if let (Some((b'.', printed)), false) = (stdout.split_last(), out.is_open() || err.is_open() || truncated)
            && printed.len() < AT_ONCE
            && stderr.len() < AT_ONCE
        {
            say(OutputStream::Stdout, printed);
            say(OutputStream::Stderr, &stderr);
            return Ok(Some(Ended { status, stdout: printed.to_vec(), stderr, truncated: false }));
        }
        // The agent has forgotten it now: what cannot be read any more does not cost its status.
        for tail in [&mut *out, &mut *err] {
            if let Err(fault) = tail.finish(&self.agent, say) {
                tracing::warn!(guest = self.command.guest, fault = fault.text(), "the end of a command's output is lost");
                tail.truncated = true;
            }
        }
        let truncated = out.truncated || err.truncated;
        Ok(Some(Ended { status, stdout: std::mem::take(&mut out.content), stderr: std::mem::take(&mut err.content), truncated }))
    }

    /// Ends the command with all its processes, and passes on what it still says. Best effort: the guest may be beyond asking.
    fn end(&mut self, pid: i64, say: Say<'_>) {
        let pid_text = pid.to_string();
        let ender = match self.place {
            Some(place) => Program { path: "sh", arguments: vec!["-c", ENDER, "sh", place], ..Program::default() },
            None => Program { path: "kill", arguments: vec!["-KILL", &pid_text], ..Program::default() },
        };
        if let Err(fault) = self.agent.start(&ender) {
            tracing::debug!(pid, fault = fault.text(), "a command in a guest could not be killed");
            return;
        }
        let (until, going) = (Instant::now() + LAST_WORDS, Cancel::new());
        while Instant::now() < until && matches!(self.look(pid, say), Ok(None)) {
            going.wait(Duration::from_millis(50));
        }
    }

    /// Closes and removes what it left in the guest.
    fn tidy(&mut self) {
        for tail in &mut self.tails {
            tail.close(&self.agent);
        }
        let Some(place) = self.place else { return };
        let files = ["out", "err", "pid", "in"].map(|name| format!("{place}.{name}"));
        let arguments = ["-f"].into_iter().chain(files.iter().map(String::as_str)).collect();
        if let Err(fault) = self.agent.start(&Program { path: "rm", arguments, ..Program::default() }) {
            tracing::debug!(place, fault = fault.text(), "a command's files stay in the guest");
        }
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
