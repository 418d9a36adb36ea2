//! The engine: carries out plans through a [`host::Host`], with a journal, cancelling and unwinding.
//!
//! Must not know libvirt, OVN, HTTP or terminals.

pub mod event;
pub mod host;

use uuid::Uuid;

use crate::{
    api::{PlanDocument, UpOptions},
    error::Problem,
    names::{DeploymentName, InstallationId},
    plan::blueprint::Blueprint,
};
use event::EventKind;
use host::{Cancel, Host};

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
    let _ = (host, blueprint, options, operation.uuid);
    todo!()
}

/// Makes the world look like the empty blueprint. Carries on past a failure, reports all, never unwinds.
pub fn down(host: &dyn Host, installation: InstallationId, deployment: &DeploymentName, operation: &Operation<'_>) -> Result<(), Problem> {
    let _ = (host, installation, deployment, operation.uuid);
    todo!()
}

/// What `up` would do now.
pub fn plan(host: &dyn Host, blueprint: &Blueprint, options: &UpOptions) -> Result<PlanDocument, Problem> {
    let _ = (host, blueprint, options);
    todo!()
}

/// What `up` would do if nothing were there yet: needs no host.
pub fn plan_from_nothing(blueprint: &Blueprint) -> PlanDocument {
    let _ = blueprint;
    todo!()
}
