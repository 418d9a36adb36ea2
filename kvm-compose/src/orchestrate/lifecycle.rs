//! Starting, stopping and holding guests, outside an `up`: journalled steps, carried on past a failure.
//!
//! Nothing is taken back: a guest that stopped as asked stays stopped when another does not. The same command again does what is
//! left. Must not know how a guest is started or stopped.

use super::{
    Operation,
    event::EventKind,
    execute::{Direction, OnFailure, execute},
    host::Host,
};
use crate::{
    error::Problem,
    names::{DeploymentName, GuestName},
    plan::{
        blueprint::Blueprint,
        describe,
        lifecycle::{self, Wish},
    },
};

/// Fulfils a wish for guests, for all that are there when none is named.
pub fn fulfil(
    host: &dyn Host,
    (deployment, blueprint): (&DeploymentName, Option<&Blueprint>),
    wish: Wish,
    guests: &[GuestName],
    operation: &Operation<'_>,
) -> Result<(), Problem> {
    let observed = host.observe(deployment, blueprint)?;
    let plan = lifecycle::plan(wish, blueprint, &observed, guests)?;
    operation.sink.emit(EventKind::Planned { steps: plan.steps.iter().map(describe::planned).collect() })?;
    let ran = execute(host, &plan, deployment, operation, OnFailure::CarryOn, Direction::Forward);
    operation.cancel.check()?;
    let mut failures = ran.failures.into_iter();
    let Some((_, mut problem)) = failures.next() else { return Ok(()) };
    problem.causes.extend(failures.map(|(step, other)| format!("{step}: {other}")));
    Err(problem)
}
