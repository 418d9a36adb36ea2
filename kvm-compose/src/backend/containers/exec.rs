//! A command in a container, from start to status, bounded and cancelled with the action.
//!
//! Docker streams what it prints and takes what it reads; when it is to end, its processes are killed from outside. Must not
//! know why it is run.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bollard::{container::LogOutput, exec::StartExecResults, models::ExecConfig};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use super::{Engine, cancelled};
use crate::{
    api::event::OutputStream,
    error::{Code, Problem},
    guest::{
        exec::Ended,
        output::{LONGEST, Say},
    },
    names::printable,
    orchestrate::host::Cancel,
};

/// How long a command that is ended may take for it.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How Docker says on a command's own output that there was none.
const NOT_STARTED: &str = "OCI runtime exec failed";

/// A command for a container.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// The guest, for messages.
    pub guest: &'a str,
    /// Its container.
    pub container: &'a str,
    /// Program and arguments.
    pub argv: &'a [String],
    /// Added to its environment.
    pub environment: &'a BTreeMap<String, String>,
    /// What it reads.
    pub stdin: &'a [u8],
    /// The limit.
    pub limit: Duration,
}

/// Why it is no longer waited for.
enum Stop {
    Late,
    Cancelled,
}

/// What it has printed.
#[derive(Default)]
struct Printed {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: bool,
}

impl Printed {
    fn take(&mut self, output: LogOutput, say: Say<'_>) {
        let stream = if matches!(output, LogOutput::StdErr { .. }) { OutputStream::Stderr } else { OutputStream::Stdout };
        let kept = if stream == OutputStream::Stderr { &mut self.stderr } else { &mut self.stdout };
        let bytes = output.into_bytes();
        let piece = &bytes[..bytes.len().min(LONGEST - kept.len())];
        self.truncated |= piece.len() < bytes.len();
        // Held back until it is known to be the command's own: Docker's complaint comes alone and first.
        let complaint = kept.is_empty() && piece.starts_with(NOT_STARTED.as_bytes());
        kept.extend_from_slice(piece);
        if !complaint && !piece.is_empty() {
            say(stream, piece);
        }
    }
}

impl Engine {
    /// Runs a command in a container and waits for its end. Hands what it prints to `say` as it comes, also when it fails.
    pub fn exec(&self, command: Command<'_>, cancel: &Cancel, say: Say<'_>) -> Result<Ended, Problem> {
        cancel.check()?;
        if command.argv.is_empty() {
            return Err(Problem::new(Code::BadRequest, "there is no command to run"));
        }
        let doing = format!("Docker does not run a command in guest `{}`", command.guest);
        // The answer to `start` comes when the command has begun; what it prints then has no limit but the command's.
        self.converse(command.limit + LAST_WORDS, async |docker| {
            let failed = |error| self.problem(&doing, error);
            let config = ExecConfig {
                attach_stdin: Some(!command.stdin.is_empty()),
                attach_stdout: Some(true),
                attach_stderr: Some(true),
                env: Some(command.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
                cmd: Some(command.argv.to_vec()),
                ..ExecConfig::default()
            };
            let id = docker.create_exec(command.container, config).await.map_err(failed)?.id;
            let StartExecResults::Attached { mut output, mut input } = docker.start_exec(&id, None).await.map_err(failed)? else {
                return Err(Problem::internal("Docker ran a command apart from us"));
            };
            let feed = async {
                // A command that does not read, or ends before it has read all, is no fault.
                if input.write_all(command.stdin).await.is_ok() {
                    let _closed = input.shutdown().await;
                }
                std::future::pending::<()>().await
            };
            let mut printed = Printed::default();
            let deadline = tokio::time::Instant::now() + command.limit;
            let read = async {
                while let Some(piece) = output.next().await {
                    printed.take(piece.map_err(failed)?, say);
                }
                Ok::<(), Problem>(())
            };
            let stopped = tokio::select! {
                read = read => { read?; None }
                () = feed => None,
                () = tokio::time::sleep_until(deadline) => Some(Stop::Late),
                () = cancelled(cancel) => Some(Stop::Cancelled),
            };
            let inspect = async || docker.inspect_exec(&id).await.map_err(failed);
            if let Some(stop) = stopped {
                let pid = inspect().await?.pid.and_then(|pid| i32::try_from(pid).ok());
                pid.into_iter().for_each(end);
                let rest = async {
                    while let Some(Ok(piece)) = output.next().await {
                        printed.take(piece, say);
                    }
                };
                let _late = tokio::time::timeout(LAST_WORDS, rest).await;
                return Err(match stop {
                    Stop::Cancelled => Problem::new(Code::Cancelled, "the action was cancelled"),
                    Stop::Late => late(command),
                });
            }
            // The end of the output may come a moment before the status.
            let mut seen = inspect().await?;
            let until = Instant::now() + LAST_WORDS;
            while seen.running.unwrap_or_default() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
                seen = inspect().await?;
            }
            let status = i32::try_from(seen.exit_code.unwrap_or_default()).unwrap_or(255);
            Ok(ended(command, status, printed, say))
        })
    }
}

fn late(command: Command<'_>) -> Problem {
    let message = format!("a command in guest `{}` did not end within {} s", command.guest, command.limit.as_secs());
    Problem::new(Code::Timeout, message)
        .cause(format!("`{}` still ran and was killed", printable(&command.argv.join(" "))))
        .hint("give it more time, or find out in the guest what it waits for")
}

/// A command that could not be started is told of as in any other guest.
fn ended(command: Command<'_>, status: i32, printed: Printed, say: Say<'_>) -> Ended {
    let Printed { stdout, stderr, truncated } = printed;
    let complaint = [&stdout, &stderr].into_iter().find(|text| text.starts_with(NOT_STARTED.as_bytes()));
    let Some(complaint) = complaint.filter(|_| matches!(status, 126 | 127)) else {
        // It was the command's own after all.
        for (stream, text) in [(OutputStream::Stdout, &stdout), (OutputStream::Stderr, &stderr)] {
            if text.starts_with(NOT_STARTED.as_bytes()) {
                say(stream, text);
            }
        }
        return Ended { status, stdout, stderr, truncated };
    };
    let words = String::from_utf8_lossy(complaint).into_owned();
    let program = command.argv.first().map_or("", String::as_str);
    let (status, what) = match words.contains("not found") || words.contains("no such file") {
        true => (127, "not found".to_string()),
        false if words.contains("permission denied") => (126, "cannot be executed".to_string()),
        false => (126, words.trim().to_string()),
    };
    let stderr = format!("{program}: {what}\n").into_bytes();
    say(OutputStream::Stderr, &stderr);
    Ended { status, stdout: Vec::new(), stderr, truncated }
}

/// Ends a command with all processes of its session: asks, then kills.
fn end(leader: i32) {
    use rustix::process::Signal;
    let tell = |signal| {
        let all = session(leader);
        for pid in all.iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid)) {
            // Gone already is what is wanted.
            let _gone = rustix::process::kill_process(pid, signal);
        }
        all.is_empty()
    };
    let until = Instant::now() + LAST_WORDS;
    tell(Signal::TERM);
    while !session(leader).is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    tell(Signal::KILL);
}

/// The processes of a session (proc_pid_stat(5), field 6), the dead that nobody has asked for left out.
fn session(leader: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_of = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything.
        let Some((_, rest)) = stat.rsplit_once(')') else { return false };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        fields.first() != Some(&"Z") && fields.get(3).and_then(|session| session.parse::<i32>().ok()) == Some(leader)
    };
    pids.filter(is_of).collect()
}
