//! `check`: all expectations of a testbed file put to the test at once, a few at a time, each in its guest.
//!
//! What is asked and what an answer means is decided in `kvm_compose::check`; here it is only asked.

use std::time::Instant;

use kvm_compose::{
    api::{CheckOptions, CheckOutcome, CheckReport, Checked, ExecRequest},
    check::{self, Answer, ask},
    error::{Code, Problem},
    names::{DeploymentName, GuestName, printable},
    orchestrate::{
        Operation,
        event::{EventKind, Impact, PlannedStep},
    },
    spec::reader::suggestion,
    topology::{Topology, checks::Check},
};

use parking_lot::{Condvar, Mutex};

use super::driver::Driver;

/// So many checks run at once: libvirt has 20 workers, and some are for others.
const AT_ONCE: usize = 12;
/// So many run at once in one guest: more would wait for its one processor until their time is over.
const AT_ONCE_IN_GUEST: usize = 3;

/// The checks that are asked for, in the file's order. Fails with `not_found` for a name that no check has.
pub fn chosen<'a>(topology: &'a Topology, options: &CheckOptions, file: &str) -> Result<Vec<&'a Check>, Problem> {
    let known: Vec<&str> = topology.checks.iter().map(|check| check.name.as_str()).collect();
    if let Some(unknown) = options.names.iter().find(|name| !known.contains(&name.as_str())) {
        let hint = suggestion(unknown, &known).unwrap_or_else(|| match known.as_slice() {
            [] => "the file has no `checks`".to_string(),
            _ => format!("checks: {}", known.join(", ")),
        });
        return Err(Problem::new(Code::NotFound, format!("`{file}` has no check `{}`", printable(unknown))).hint(hint));
    }
    let wanted = |check: &&Check| options.names.is_empty() || options.names.contains(&check.name);
    Ok(topology.checks.iter().filter(wanted).collect())
}

/// Runs checks. Fails only when it is told to stop or cannot write its journal; what the checks come to is in the report.
pub fn run(driver: &dyn Driver, deployment: &DeploymentName, checks: &[&Check], operation: &Operation<'_>) -> Result<CheckReport, Problem> {
    let steps = checks.iter().map(|check| planned(check)).collect();
    operation.sink.emit(EventKind::Planned { steps })?;
    let began = Instant::now();
    let turns = Turns::of(checks.iter().map(|check| &check.guest).collect());
    let done: Mutex<Vec<(usize, Result<Checked, Problem>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(checks.len()) {
            scope.spawn(|| {
                while let Some(turn) = turns.next() {
                    if operation.cancel.is_cancelled() {
                        return;
                    }
                    let checked = told(driver, deployment, checks[turn.index], operation);
                    done.lock().push((turn.index, checked));
                }
            });
        }
    });
    operation.cancel.check()?;
    let mut done = done.into_inner();
    done.sort_by_key(|(index, _)| *index);
    let checks: Vec<Checked> = done.into_iter().map(|(_, checked)| checked).collect::<Result<_, _>>()?;
    let count = |outcome| checks.iter().filter(|checked| checked.outcome == outcome).count();
    Ok(CheckReport {
        deployment: deployment.clone(),
        passed: count(CheckOutcome::Passed),
        failed: count(CheckOutcome::Failed),
        errors: count(CheckOutcome::Error),
        millis: millis(began),
        checks,
    })
}

/// Why a report is no success; nothing when every check passed.
pub fn problem(report: &CheckReport) -> Option<Problem> {
    let (failed, errors, all) = (report.failed, report.errors, report.checks.len());
    let s = if all == 1 { "" } else { "s" };
    let message = match (failed, errors) {
        (0, 0) => return None,
        (0, errors) => format!("{errors} of {all} check{s} could not be asked"),
        (failed, 0) => format!("{failed} of {all} check{s} failed"),
        (failed, errors) => format!("{failed} of {all} checks failed, and {errors} could not be asked"),
    };
    Some(Problem::new(Code::ChecksFailed, message))
}

/// Whose turn it is.
struct Turns<'a> {
    guests: Vec<&'a GuestName>,
    state: Mutex<Waiting>,
    changed: Condvar,
}

struct Waiting {
    waiting: Vec<usize>,
    running: Vec<usize>,
}

/// A turn, given back also when the check panics.
struct Turn<'a> {
    turns: &'a Turns<'a>,
    index: usize,
}

impl<'a> Turns<'a> {
    fn of(guests: Vec<&'a GuestName>) -> Self {
        let waiting = (0..guests.len()).collect();
        Turns { guests, state: Mutex::new(Waiting { waiting, running: Vec::new() }), changed: Condvar::new() }
    }

    /// The next check whose guest is not busy; nothing when all have begun. Each check has its limit, so this wait has one too.
    fn next(&'a self) -> Option<Turn<'a>> {
        let mut state = self.state.lock();
        loop {
            if state.waiting.is_empty() {
                return None;
            }
            let busy = |index: usize| state.running.iter().filter(|other| self.guests[**other] == self.guests[index]).count();
            if let Some(at) = state.waiting.iter().position(|index| busy(*index) < AT_ONCE_IN_GUEST) {
                let index = state.waiting.remove(at);
                state.running.push(index);
                return Some(Turn { turns: self, index });
            }
            self.changed.wait(&mut state);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.state.lock().running.retain(|index| *index != self.index);
        self.turns.changed.notify_all();
    }
}

fn id(check: &Check) -> String {
    format!("check/{}", check.name)
}

fn planned(check: &Check) -> PlannedStep {
    let reason = format!("expected to {}", if check.expect == kvm_compose::topology::checks::Expect::Pass { "pass" } else { "fail" });
    let guests = vec![check.guest.clone()];
    PlannedStep { id: id(check), what: check::words(check), reason, impact: Impact::None, host: String::new(), guests, traffic: Vec::new() }
}

/// Runs one check, and tells the journal when it begins and how it ends.
fn told(driver: &dyn Driver, deployment: &DeploymentName, check: &Check, operation: &Operation<'_>) -> Result<Checked, Problem> {
    operation.sink.emit(EventKind::StepStarted { step: id(check) })?;
    let began = Instant::now();
    let (outcome, seen) = asked(driver, deployment, check, operation);
    operation.cancel.check()?;
    let millis = millis(began);
    operation.sink.emit(match outcome {
        CheckOutcome::Passed => EventKind::StepDone { step: id(check), millis },
        CheckOutcome::Failed => {
            let problem = Problem::new(Code::ChecksFailed, format!("{}: {seen}", check::words(check)));
            let expected = check.expect == kvm_compose::topology::checks::Expect::Fail;
            let problem = if expected { problem.hint("this check is expected to fail") } else { problem };
            EventKind::StepFailed { step: id(check), problem }
        }
        CheckOutcome::Error => EventKind::StepFailed { step: id(check), problem: Problem::new(Code::AgentUnavailable, seen.clone()) },
    })?;
    Ok(Checked {
        name: check.name.clone(),
        kind: check.probe.word().to_string(),
        guest: check.guest.clone(),
        asked: check::words(check),
        expect: check.expect,
        outcome,
        seen,
        millis,
        at: check.at.clone(),
    })
}

fn asked(driver: &dyn Driver, deployment: &DeploymentName, check: &Check, operation: &Operation<'_>) -> (CheckOutcome, String) {
    let request = ExecRequest {
        guest: check.guest.clone(),
        argv: check::command(check),
        environment: Default::default(),
        stdin_base64: None,
        timeout_s: Some(ask::limit_s(check)),
    };
    match driver.exec(deployment, &request, &[], operation.cancel, &|_, _| {}) {
        Ok(ended) => {
            let answer = Answer::Ended { status: ended.status, stdout: &ended.stdout, stderr: &ended.stderr };
            check::verdict(check, answer)
        }
        Err(problem) if problem.code == Code::Timeout => check::verdict(check, Answer::Late),
        Err(problem) => {
            let causes: String = problem.causes.iter().map(|cause| format!(": {cause}")).collect();
            (CheckOutcome::Error, format!("{}{causes}", problem.message))
        }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
