//! Scripts in guests: written, run, and marked as done by a file in the guest that bears their digest.
//!
//! "Has run" is asked of the guest, never remembered. Must not know when a script is due.

use std::{collections::BTreeSet, time::Duration};

use uuid::Uuid;

use super::{
    agent::Agent,
    exec::{self, Command, Ended},
};
use crate::{
    backend::hypervisor::Hypervisor,
    error::{Code, Problem},
    orchestrate::{event::clean, host::Cancel},
    plan::blueprint::Script,
};

/// Where a script lies while it runs.
const PLACE: &str = "/run/testbedos/scripts";
/// Where the marks of scripts that have run lie. On the guest's disk: a new disk has none.
const MARKS: &str = "/var/lib/testbedos-guest/scripts";
/// Reads the testbed's variables, then becomes the interpreter.
const WRAPPER: &str = "set -a; [ -f /etc/testbedos/environment ] && . /etc/testbedos/environment; set +a; exec \"$@\"";
/// How long a small command beside the script may take.
const BESIDE: Duration = Duration::from_secs(60);

/// A guest to work in.
#[derive(Clone, Copy)]
pub struct Guest<'a> {
    /// Who passes commands on.
    pub hypervisor: &'a dyn Hypervisor,
    /// Its name, for messages.
    pub guest: &'a str,
    /// Its domain.
    pub domain: Uuid,
    /// Asks to stop.
    pub cancel: &'a Cancel,
}

/// When a script is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Only when its mark is missing.
    Unmarked,
    /// In any case.
    Always,
}

/// Digests of the scripts that have run in a guest.
pub fn marks(inside: &Guest<'_>) -> Result<BTreeSet<String>, Problem> {
    let ended = inside.run_small(&["ls", "-1", MARKS])?;
    // Without the folder nothing has run.
    let is_digest = |line: &&str| line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok(String::from_utf8_lossy(&ended.stdout).lines().filter(is_digest).map(str::to_string).collect())
}

/// Runs a script to success and marks it as done. Its output goes to `say` when it ends.
pub fn run(inside: &Guest<'_>, script: &Script, when: When, say: &(dyn Fn(&str) + Send + Sync)) -> Result<(), Problem> {
    let digest = &script.digest;
    if digest.is_empty() || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Problem::internal(format!("script `{}` has no digest", script.name)));
    }
    let path = format!("{PLACE}/{}.sh", &digest[..digest.len().min(16)]);
    let mark = format!("{MARKS}/{digest}");
    if when == When::Unmarked && marks(inside)?.contains(digest) {
        return Ok(());
    }
    inside.must(&["mkdir", "-p", PLACE, MARKS])?;
    let guest = inside.guest;
    Agent::new(inside.hypervisor, inside.domain, 20).write_file(&path, script.content.as_bytes()).map_err(|fault| fault.problem(guest))?;
    let mut argv = vec!["sh", "-c", WRAPPER, "sh"];
    argv.extend(interpreter(&script.content));
    argv.push(&path);
    let ended = inside.run(&argv, Duration::from_secs(script.timeout_s))?;
    for line in String::from_utf8_lossy(&ended.stdout).lines().chain(String::from_utf8_lossy(&ended.stderr).lines()) {
        say(&clean(line));
    }
    if ended.truncated {
        say("(the output is longer than is kept)");
    }
    if ended.status != 0 {
        return Err(failed(guest, script, &ended));
    }
    inside.must(&["touch", &mark])
}

/// The program that a script's first line names, with its argument. `/run` may forbid execution, so it is called by name.
fn interpreter(content: &str) -> Vec<&str> {
    let first = content.lines().next().unwrap_or_default();
    let named = first.strip_prefix("#!").map(str::trim).filter(|line| !line.is_empty());
    match named.map(|line| line.split_once(char::is_whitespace)) {
        // As Linux does it: everything after the program is one argument.
        Some(Some((program, argument))) => vec![program, argument.trim()],
        Some(None) => vec![named.unwrap_or("sh")],
        None => vec!["sh"],
    }
}

fn failed(guest: &str, script: &Script, ended: &Ended) -> Problem {
    let message = format!("script `{}` in guest `{guest}` ended with status {}", script.name, ended.status);
    let words = String::from_utf8_lossy(if ended.stderr.is_empty() { &ended.stdout } else { &ended.stderr }).into_owned();
    let last = words.lines().rev().map(clean).find(|line| !line.trim().is_empty());
    let problem = Problem::new(Code::ScriptFailed, message);
    let problem = match last {
        Some(line) => problem.cause(line.chars().take(300).collect::<String>()),
        None => problem,
    };
    problem.hint("its whole output is in the action's log; run the command again once the script is mended")
}

impl Guest<'_> {
    /// Runs a command to its end.
    pub fn run(&self, argv: &[&str], limit: Duration) -> Result<Ended, Problem> {
        self.with_command(argv, limit, |command| exec::run(self.hypervisor, command, self.cancel, &|_, _| {}))
    }

    fn run_small(&self, argv: &[&str]) -> Result<Ended, Problem> {
        self.with_command(argv, BESIDE, |command| exec::run_small(self.hypervisor, command, self.cancel))
    }

    fn with_command<T>(&self, argv: &[&str], limit: Duration, work: impl FnOnce(&Command<'_>) -> T) -> T {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_string()).collect();
        let environment = Default::default();
        work(&Command { guest: self.guest, domain: self.domain, argv: &argv, environment: &environment, stdin: b"", limit })
    }

    /// Runs a small command to success.
    pub fn must(&self, argv: &[&str]) -> Result<(), Problem> {
        let ended = self.run_small(argv)?;
        if ended.status == 0 {
            return Ok(());
        }
        let message = format!("`{}` in guest `{}` ended with status {}", argv.join(" "), self.guest, ended.status);
        Err(Problem::new(Code::ScriptFailed, message).cause(clean(String::from_utf8_lossy(&ended.stderr).trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_interpreter() {
        for (content, expected) in [
            ("echo", vec!["sh"]),
            ("", vec!["sh"]),
            ("#!\n", vec!["sh"]),
            ("#!/bin/bash\necho", vec!["/bin/bash"]),
            ("#! /usr/bin/env python3 -u \n", vec!["/usr/bin/env", "python3 -u"]),
        ] {
            assert_eq!(interpreter(content), expected, "{content:?}");
        }
    }
}
