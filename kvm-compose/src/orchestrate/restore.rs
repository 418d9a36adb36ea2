//! Bringing guests back as a snapshot has them: an `up` whose guests go on from their saved memory.
//!
//! What was there before is gone when this begins, so nothing is taken back: a failure leaves what came back standing still, and
//! the same call again goes on from there. Must not know files.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Operation,
    event::EventKind,
    execute::{Direction, OnFailure, execute},
    host::Host,
    plan_up,
};
use crate::{
    api::{UpOptions, snapshot::GuestReport},
    error::Problem,
    names::GuestName,
    plan::{
        blueprint::Blueprint,
        describe,
        restore::{Life, restored},
        snapshot::{SavedLink, SavedPort},
        step::{Step, Work},
    },
};

/// What comes back.
pub struct Back<'a> {
    /// Guests and how each comes to life.
    pub lives: &'a BTreeMap<GuestName, Life>,
    /// Only these guests come back, and the others are left as they are.
    pub alone: bool,
    /// What links did.
    pub links: &'a [SavedLink],
    /// Cables that were pulled.
    pub down: &'a [SavedPort],
}

/// Brings guests back. Returns what became of each beside what became of the whole.
pub fn restore(
    host: &dyn Host,
    blueprint: &Blueprint,
    back: &Back<'_>,
    operation: &Operation<'_>,
) -> (Vec<GuestReport>, Result<(), Problem>) {
    let unharmed = || back.lives.keys().map(|guest| GuestReport::of(guest.clone(), None)).collect();
    let blueprint = as_saved(blueprint, back);
    let options = UpOptions { guests: if back.alone { back.lives.keys().cloned().collect() } else { Vec::new() }, ..UpOptions::default() };
    let plan = match plan_up(host, &blueprint, &options) {
        Ok((plan, _)) => restored(plan, &blueprint, back.lives, back.down),
        Err(problem) => return (unharmed(), Err(problem)),
    };
    if let Err(problem) = operation.sink.emit(EventKind::Planned { steps: plan.steps.iter().map(describe::planned).collect() }) {
        return (unharmed(), Err(problem));
    }
    let ran = execute(host, &plan, &blueprint.deployment, operation, OnFailure::CarryOn, Direction::Forward);
    let touching = |guest: &GuestName| -> BTreeSet<_> {
        plan.steps.iter().filter(|step| step.guests.as_slice() == std::slice::from_ref(guest)).map(|step| &step.id).collect()
    };
    let report = |guest: &GuestName| {
        let own = touching(guest);
        let failed = ran.failures.iter().find(|(step, _)| own.contains(step)).map(|(_, problem)| problem.clone());
        GuestReport::of(guest.clone(), failed)
    };
    let reports = back.lives.keys().map(report).collect();
    let outcome = ran.failures.into_iter().next().map_or(Ok(()), |(_, problem)| Err(problem));
    let outcome = outcome.and_then(|()| verify(host, &blueprint, &options, back));
    (reports, outcome)
}

/// Links do what they did, whatever the file says of them.
fn as_saved(blueprint: &Blueprint, back: &Back<'_>) -> Blueprint {
    let mut blueprint = blueprint.clone();
    for guest in blueprint.guests.iter_mut().filter(|guest| back.lives.contains_key(&guest.name)) {
        for link in &mut guest.links {
            let saved = back.links.iter().find(|saved| saved.port == link.port);
            link.shape = saved.map(|saved| saved.shape).unwrap_or_default();
        }
    }
    blueprint
}

/// Looks at what came back: nothing may be left to do but what the snapshot itself leaves open.
fn verify(host: &dyn Host, blueprint: &Blueprint, options: &UpOptions, back: &Back<'_>) -> Result<(), Problem> {
    let (plan, _) = plan_up(host, blueprint, options)?;
    let open = |step: &&Step| !is_left_open(step, back);
    let left: Vec<String> = plan.steps.iter().filter(open).map(|step| format!("{} ({})", step.id, step.reason)).collect();
    if left.is_empty() {
        return Ok(());
    }
    Err(left
        .into_iter()
        .fold(Problem::internal("what came back is not as the snapshot has it"), Problem::cause)
        .hint("`testbed plan` shows what differs, `testbed up` mends it"))
}

/// Guests that were off or paused stay so, a cable that was pulled stays pulled, and scripts have run.
fn is_left_open(step: &Step, back: &Back<'_>) -> bool {
    let rests = |guest: &GuestName| matches!(back.lives.get(guest), Some(Life::Off | Life::Load { paused: true, .. }));
    match &step.work {
        Work::RunScript { .. } => true,
        Work::SetCarrier { port, .. } => back.down.iter().any(|down| down.port == *port),
        // An agent that is asked while its guest is busy may not answer at once.
        Work::AwaitReady { .. } | Work::PullImage { .. } => true,
        _ => !step.guests.is_empty() && step.guests.iter().all(rests),
    }
}
