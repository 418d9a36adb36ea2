//! The engine: carries out plans through a [`host::Host`], with a journal, cancelling and unwinding.
//!
//! ```text
//! up:    observe ─► diff ─► execute ─► done
//!                              │ a step fails, or a request to stop
//!                              ▼
//!                           unwind what this operation began, in reverse ─► failed, cancelled
//! down:  observe ─► diff with nothing ─► execute, past failures ─► sweep ─► observe again: nothing is left
//! ```
//!
//! Must not know libvirt, OVN, HTTP or terminals.

pub mod execute;
pub mod host;
pub mod link;
pub mod restore;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use uuid::Uuid;

pub use crate::api::event;

use crate::{
    api::{PlanDocument, UpOptions},
    error::{Code, Problem},
    names::GuestName,
    plan::{
        self, Taints,
        blueprint::{Base, Blueprint, GuestBlueprint},
        describe,
        observed::{MissingBase, Observed},
        step::{Impact, Plan, Step, StepId, Work},
    },
};
use event::EventKind;
use execute::{Direction, OnFailure, Ran, execute};
use host::{Cancel, Host};

/// How long unwinding waits for a part that is away, such as a restarting libvirt.
const UNWIND_PATIENCE: Duration = Duration::from_secs(60);

/// Takes the events of one operation. A `StepStarted` is on disk when `emit` returns.
pub trait Sink: Send + Sync {
    /// Takes one event. An error stops the operation as a failed step would.
    fn emit(&self, event: EventKind) -> Result<(), Problem>;
}

/// What an operation works with.
pub struct Operation<'a> {
    /// Its id.
    pub uuid: Uuid,
    /// Asks it to stop.
    pub cancel: &'a Cancel,
    /// Takes its events.
    pub sink: &'a dyn Sink,
}

/// Makes the world look like the blueprint: observe, diff, execute; on failure unwinds what this operation made (unless
/// `keep_on_failure`). Emits `Planned` and the steps' events; the caller emits `Started` and `Finished`.
pub fn up(host: &dyn Host, blueprint: &Blueprint, options: &UpOptions, operation: &Operation<'_>) -> Result<(), Problem> {
    let (plan, _) = plan_up(host, blueprint, options)?;
    operation.sink.emit(EventKind::Planned { steps: plan.steps.iter().map(describe::planned).collect() })?;
    let ran = execute(host, &plan, &blueprint.deployment, operation, OnFailure::Stop, Direction::Forward);
    let Some((_, problem)) = ran.failures.first().cloned() else { return Ok(()) };
    // A request to stop makes waiting steps fail; the request is the reason then.
    let cancelled = ran.failures.iter().find(|(_, problem)| problem.code == Code::Cancelled).map(|(_, problem)| problem.clone());
    let problem = cancelled.filter(|_| operation.cancel.is_cancelled()).unwrap_or(problem);
    if options.keep_on_failure {
        return Err(with_hint(problem, "what was made is kept; `up` again goes on from there, `down` removes it"));
    }
    unwind(host, &plan, &ran, blueprint, operation).map_or(Err(problem.clone()), |left| Err(problem.cause(left)))
}

/// Takes back what the operation began, in reverse. Returns what could not be taken back, in words.
fn unwind(host: &dyn Host, plan: &Plan, ran: &Ran, blueprint: &Blueprint, operation: &Operation<'_>) -> Option<String> {
    let undo = undo_plan(plan, &ran.begun);
    if undo.is_empty() {
        return None;
    }
    // The journal may be what failed (a full disk); unwinding goes on without it.
    let _untold = operation.sink.emit(EventKind::Unwinding { steps: undo.steps.len() });
    // A request to stop has done its work; unwinding itself cannot be stopped.
    let going = Cancel::new();
    let operation = Operation { cancel: &going, ..*operation };
    let back = Direction::Back { until: Instant::now() + UNWIND_PATIENCE };
    let undone = execute(host, &undo, &blueprint.deployment, &operation, OnFailure::CarryOn, back);
    if undone.failures.is_empty() {
        // Only a deployment of which nothing is left gives up its folder.
        if host.observe(&blueprint.deployment, None).is_ok_and(|left| left.is_nothing()) {
            let _swept = host.sweep(&blueprint.deployment);
        }
        return None;
    }
    let steps: Vec<String> = undone.failures.iter().map(|(step, problem)| format!("{step} ({problem})")).collect();
    Some(format!("not everything could be taken back: {}; `down` removes the rest", steps.join(", ")))
}

/// The undo of every step that began, each after the undo of all that needed it.
fn undo_plan(plan: &Plan, begun: &BTreeSet<StepId>) -> Plan {
    let undone: BTreeMap<&StepId, &Step> =
        plan.steps.iter().filter(|step| begun.contains(&step.id) && step.undo.is_some()).map(|step| (&step.id, step)).collect();
    // A step without an undo (a wait) passes its needs on to those that wait for it.
    let mut dependants: BTreeMap<&StepId, BTreeSet<StepId>> = BTreeMap::new();
    for step in plan.steps.iter().rev() {
        let own = dependants.get(&step.id).cloned().unwrap_or_default();
        let carried = if undone.contains_key(&step.id) { BTreeSet::from([step.id.clone()]) } else { own };
        for need in &step.needs {
            if let Some(need) = plan.steps.iter().find(|other| &other.id == need) {
                dependants.entry(&need.id).or_default().extend(carried.iter().cloned());
            }
        }
    }
    let mut steps: Vec<Step> = Vec::new();
    for step in plan.steps.iter().rev() {
        let Some(undo) = undone.get(&step.id).and_then(|step| step.undo.clone()) else { continue };
        let needs = dependants.get(&step.id).into_iter().flatten().cloned().collect();
        let undo = Step {
            id: step.id.clone(),
            host: step.host.clone(),
            work: undo,
            needs,
            reason: "the action failed".to_string(),
            impact: Impact::Remove,
            guests: step.guests.clone(),
            traffic: step.traffic.clone(),
            undo: None,
        };
        if let (Work::StartDomain { domain }, Work::RemoveDomain { .. }) = (&step.work, &undo.work) {
            // A guest that is taken back takes its console's log along.
            let work = Work::RemoveFile { path: domain.console_log.clone() };
            steps.push(Step { id: StepId::new(format!("console/{}", domain.guest)), work, needs: vec![undo.id.clone()], ..undo.clone() });
        }
        steps.push(undo);
    }
    Plan { steps }
}

/// Makes the world look like the empty blueprint. Carries on past a failure, reports all, never unwinds.
pub fn down(host: &dyn Host, nothing: &Blueprint, operation: &Operation<'_>) -> Result<(), Problem> {
    let deployment = &nothing.deployment;
    let mut failures: Vec<(StepId, Problem)> = Vec::new();
    // What is left after one pass (a step that lost its race with a dying guest) is taken by the second.
    for pass in 0..2 {
        let observed = host.observe(deployment, None)?;
        let plan = plan::diff(nothing, &observed, &Taints::default(), None);
        if pass == 0 || !plan.is_empty() {
            operation.sink.emit(EventKind::Planned { steps: plan.steps.iter().map(describe::planned).collect() })?;
        }
        if plan.is_empty() {
            break;
        }
        let ran = execute(host, &plan, deployment, operation, OnFailure::CarryOn, Direction::Forward);
        failures = ran.failures;
        if operation.cancel.is_cancelled() {
            break;
        }
    }
    operation.cancel.check()?;
    let left = host.observe(deployment, None)?;
    if left.is_nothing() {
        return host.sweep(deployment);
    }
    let mut problem = match failures.into_iter().next() {
        Some((_, problem)) => problem,
        None if !left.away.is_empty() => {
            let hosts: Vec<String> = left.away.keys().map(|host| format!("`{host}`")).collect();
            Problem::new(Code::HostAway, format!("what stands on {} could not be removed", hosts.join(", ")))
        }
        None => Problem::new(Code::Internal, format!("`down` of `{deployment}` ended, but something is left")),
    };
    problem.causes.push(format!("left: {}", leftovers(&left).join(", ")));
    Err(with_hint(problem, "run `down` again once the cause is removed"))
}

/// What `up` would do now.
pub fn plan(host: &dyn Host, blueprint: &Blueprint, options: &UpOptions) -> Result<PlanDocument, Problem> {
    let (plan, observed) = plan_up(host, blueprint, options)?;
    Ok(describe::document(blueprint, &plan, &observed, false))
}

/// What `up` would do if nothing were there yet: needs no host.
pub fn plan_from_nothing(blueprint: &Blueprint) -> PlanDocument {
    let nowhere = nowhere(blueprint);
    let plan = plan::diff(blueprint, &nowhere, &Taints::default(), None);
    describe::document(blueprint, &plan, &nowhere, true)
}

fn plan_up(host: &dyn Host, blueprint: &Blueprint, options: &UpOptions) -> Result<(Plan, Observed), Problem> {
    let only: Option<BTreeSet<GuestName>> = (!options.guests.is_empty()).then(|| options.guests.iter().cloned().collect());
    if let Some(unknown) = only.iter().flatten().find(|name| !blueprint.guests.iter().any(|guest| &guest.name == *name)) {
        let names: Vec<&str> = blueprint.guests.iter().map(|guest| guest.name.as_str()).collect();
        return Err(
            Problem::new(Code::NotFound, format!("the file has no guest `{unknown}`")).hint(format!("guests: {}", names.join(", ")))
        );
    }
    let observed = host.observe(&blueprint.deployment, Some(blueprint))?;
    refuse_strangers(&observed)?;
    refuse_missing(blueprint, &observed)?;
    let taints = Taints { provision: options.provision, rerun_scripts: options.rerun_scripts };
    Ok((plan::diff(blueprint, &observed, &taints, only.as_ref()), observed))
}

fn refuse_strangers(observed: &Observed) -> Result<(), Problem> {
    let Some(first) = observed.strangers.first() else { return Ok(()) };
    let mut problem = Problem::new(Code::Conflict, first.taken()).hint(first.hint.clone());
    problem.causes = observed.strangers[1..].iter().map(|stranger| format!("also: {} `{}`", stranger.kind, stranger.name)).collect();
    Err(problem)
}

fn refuse_missing(blueprint: &Blueprint, observed: &Observed) -> Result<(), Problem> {
    let here = |guest: &GuestBlueprint, base: &Base| {
        observed
            .missing_bases
            .iter()
            .find(|missing| missing.host == guest.host && missing.path == base.path)
            .map(|missing| missing.why.clone())
    };
    // What comes from the master is fetched by a step of the plan.
    let bases = blueprint.guests.iter().flat_map(|guest| guest.bases.iter().map(move |base| (guest, base)));
    // Of a golden image that is not there, what it is made from must be.
    let goldens = blueprint
        .goldens
        .iter()
        .filter(|golden| observed.missing_bases.iter().any(|missing| missing.host == blueprint.master && missing.path == golden.path));
    let bases = bases.chain(goldens.flat_map(|golden| golden.guest.bases.iter().map(move |base| (&golden.guest, base))));
    let is_demanded = |base: &Base| base.sum.is_none() && base.golden.is_none();
    let missing = bases.filter(|(_, base)| is_demanded(base)).filter_map(|(guest, base)| Some((guest, &base.path, here(guest, base)?)));
    let mut problem: Option<Problem> = None;
    for (guest, base, why) in missing {
        match &mut problem {
            None => {
                let message = format!("guest `{}` cannot start: {} {why}", guest.name, base.display());
                problem = Some(Problem::new(Code::ImageMissing, message).hint("bring the file back, or name another in the testbed file"));
            }
            Some(problem) => problem.causes.push(format!("guest `{}`: {} {why}", guest.name, base.display())),
        }
    }
    problem.map_or(Ok(()), Err)
}

fn with_hint(mut problem: Problem, hint: &str) -> Problem {
    problem.hint = Some(problem.hint.map_or_else(|| hint.to_string(), |own| format!("{own}; {hint}")));
    problem
}

/// A world in which nothing is there, not even the base files that hosts get from the master.
fn nowhere(blueprint: &Blueprint) -> Observed {
    let travelling = blueprint.guests.iter().flat_map(|guest| guest.bases.iter().map(move |base| (guest, base)));
    let missing = travelling.filter(|(_, base)| base.sum.is_some() || base.golden.is_some()).map(|(guest, base)| MissingBase {
        host: guest.host.clone(),
        path: base.path.clone(),
        why: String::new(),
    });
    let goldens = blueprint.goldens.iter().map(|golden| MissingBase {
        host: blueprint.master.clone(),
        path: golden.path.clone(),
        why: String::new(),
    });
    Observed { missing_bases: missing.chain(goldens).collect(), ..Observed::default() }
}

fn leftovers(observed: &Observed) -> Vec<String> {
    let rows = observed.rows.iter().map(|row| format!("row {}", row.key));
    let domains = observed.domains.iter().map(|domain| format!("domain {}", domain.name));
    let files = observed.files.iter().map(|file| file.what.display().to_string());
    let ports = observed.bridge_ports.iter().map(|port| format!("port {}", port.what.name));
    let links = observed.links.iter().map(|link| format!("link {}", link.what.device));
    let internals = observed.outside.internals.iter().map(|port| format!("interface {}", port.what.interface));
    let away = observed.away.iter().map(|(host, why)| format!("whatever stands on host `{host}` ({why})"));
    away.chain(rows).chain(domains).chain(files).chain(ports).chain(internals).chain(links).take(10).collect()
}
