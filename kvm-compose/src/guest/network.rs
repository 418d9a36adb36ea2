//! A running guest's network made another: its configuration sent to it and taken up by the code that it boots with.
//!
//! Must not know what changed, only which interfaces it concerns. Untouched interfaces go on undisturbed.

use std::time::{Duration, Instant};

use super::{agent::Agent, script::Guest};
use crate::{
    backend::hypervisor::AgentFault,
    error::{Code, Problem},
    orchestrate::event::clean,
};

/// What runs in the guest: the parts that a micro guest boots with, and what stands behind them.
const SCRIPT: &str = concat!(
    include_str!("../backend/images/micro/guest/lib.sh"),
    include_str!("../backend/images/micro/guest/network.sh"),
    include_str!("network_change.sh")
);
/// Where it lies in the guest while it runs, and the configuration beside it.
const FOLDER: &str = "/run/testbedos";
/// How long it may take: 10 s for interfaces to appear, 5 s for leases, and a slow machine.
const LIMIT: Duration = Duration::from_secs(60);
/// How long an agent may take to say that it is there.
const PING_LIMIT_S: u32 = 2;

/// Whether a guest took up what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It did.
    Up,
    /// It has no agent: it has to find out by itself.
    NoAgent,
}

/// Lets a running guest take up a network configuration on some of its interfaces. Its agent is waited for at most `agent`.
pub fn configure(
    inside: &Guest<'_>,
    network: &str,
    links: &[String],
    agent: Duration,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<Taken, Problem> {
    if !wait_for_agent(inside, agent)? {
        return Ok(Taken::NoAgent);
    }
    let failed = |fault: AgentFault| fault.problem(inside.guest);
    let (script, config) = (format!("{FOLDER}/network-change.sh"), format!("{FOLDER}/network-config"));
    inside.must(&["mkdir", "-p", FOLDER])?;
    let writer = Agent::new(inside.hypervisor, inside.domain, 20);
    writer.write_file(&script, SCRIPT.as_bytes()).map_err(failed)?;
    writer.write_file(&config, network.as_bytes()).map_err(failed)?;
    let mut argv = vec!["sh", &script, &config];
    argv.extend(links.iter().map(String::as_str));
    let ended = inside.run(&argv, LIMIT)?;
    let said = [ended.stdout, ended.stderr].concat();
    let lines: Vec<String> = String::from_utf8_lossy(&said).lines().map(clean).filter(|line| !line.trim().is_empty()).collect();
    if ended.status == 0 {
        lines.iter().for_each(|line| say(line));
        return Ok(Taken::Up);
    }
    let message = format!("guest `{}` did not take up its network: the change ended with status {}", inside.guest, ended.status);
    let mut problem =
        Problem::new(Code::ScriptFailed, message).hint("look at the guest with `testbed console`, then run `testbed up` again");
    problem.causes = lines;
    Err(problem)
}

/// True when the agent answers within the limit; a limit of nothing asks once.
fn wait_for_agent(inside: &Guest<'_>, limit: Duration) -> Result<bool, Problem> {
    let deadline = Instant::now() + limit;
    let agent = Agent::new(inside.hypervisor, inside.domain, PING_LIMIT_S);
    loop {
        inside.cancel.check()?;
        let fault = match agent.ping() {
            Ok(()) => return Ok(true),
            Err(AgentFault::Broken(problem)) => return Err(problem),
            Err(fault) => fault,
        };
        if Instant::now() >= deadline {
            return if limit.is_zero() { Ok(false) } else { Err(fault.problem(inside.guest)) };
        }
        inside.cancel.wait(Duration::from_millis(250));
    }
}
