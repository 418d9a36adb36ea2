//! A host applies steps and says what is there. The local one calls the backends; a fake one lives in the tests.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use std::time::{Duration, Instant};
use uuid::Uuid;

use crate::{
    error::{Code, Problem},
    names::{DeploymentName, HostName},
    plan::{blueprint::Blueprint, observed::Observed, step::Work},
    topology::Leases,
};

/// Whoever carries out steps: one machine, or a fleet that passes each step on to its host.
pub trait Host: Send + Sync {
    /// What is there of a deployment. With a blueprint, also strangers in its way and missing base files.
    ///
    /// Fails when a part that must answer (libvirt, OVN) does not: an unknown world is never taken for an empty one.
    fn observe(&self, deployment: &DeploymentName, wanted: Option<&Blueprint>) -> Result<Observed, Problem>;

    /// The addresses that the deployment's guests have now.
    fn leases(&self, deployment: &DeploymentName) -> Result<Leases, Problem>;

    /// Carries out one step. Safe to repeat. Returns soon after the context is cancelled.
    fn apply(&self, work: &Work, context: &Context<'_>) -> Result<(), Problem>;

    /// Removes what is left of the deployment's folder once nothing of it remains, project copy excepted.
    fn sweep(&self, deployment: &DeploymentName) -> Result<(), Problem>;
}

/// What a step is told beside its work.
pub struct Context<'a> {
    /// Where it is done.
    pub host: &'a HostName,
    /// The deployment it belongs to.
    pub deployment: &'a DeploymentName,
    /// The operation, put into the marks of what is made.
    pub operation: Uuid,
    /// Asks the step to stop.
    pub cancel: &'a Cancel,
    /// Takes lines for the action's log: what a script printed, what is being waited for.
    pub say: &'a (dyn Fn(&str) + Send + Sync),
}

/// A request to stop that can be waited on. Clones share one flag.
#[derive(Clone, Default)]
pub struct Cancel {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl Cancel {
    /// A request that has not been made.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the request; every waiter wakes at once.
    pub fn cancel(&self) {
        *self.shared.0.lock() = true;
        self.shared.1.notify_all();
    }

    /// True once the request was made.
    pub fn is_cancelled(&self) -> bool {
        *self.shared.0.lock()
    }

    /// Fails with `cancelled` once the request was made.
    pub fn check(&self) -> Result<(), Problem> {
        if self.is_cancelled() { Err(Problem::new(Code::Cancelled, "the action was cancelled")) } else { Ok(()) }
    }

    /// Waits for the request, at most `limit`; true when it was made.
    pub fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut cancelled = self.shared.0.lock();
        while !*cancelled {
            if self.shared.1.wait_until(&mut cancelled, deadline).timed_out() {
                break;
            }
        }
        *cancelled
    }
}
