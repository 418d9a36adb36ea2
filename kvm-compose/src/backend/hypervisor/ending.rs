//! A domain shut down cleanly, held, and let go on.
//!
//! ```text
//! agent answers ─► guest-shutdown ──┬─► shut off
//! no agent, or it does not help ────┴─► power button (ACPI) ─► shut off
//!                                                    at the limit ─► its process is ended
//! ```
//!
//! Every call looks at what is there first, so all of it may be repeated.

use std::time::{Duration, Instant};

use uuid::Uuid;
use virt::{connect::Connect, domain::Domain as Handle, error::ErrorNumber, sys};

use super::{
    AgentFault, DomainState, Hypervisor, Libvirt,
    connections::Fault,
    libvirt::{find, owned, state},
    words::{gone, problem},
};
use crate::{
    backend::Owner,
    error::{Code, Problem},
    guest::agent::Agent,
    names::GuestName,
    orchestrate::host::Cancel,
};

/// How long the agent may take to say that it is there.
const PING_LIMIT_S: u32 = 2;
/// How long the agent may take for the request: it says nothing when it does as it is told.
const ASK_LIMIT_S: u32 = 5;
/// How long a guest is given before its power button is pressed as well.
const AGENT_PATIENCE: Duration = Duration::from_secs(15);
/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// What ends.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// The guest, for messages.
    pub guest: &'a GuestName,
    /// libvirt's name.
    pub name: &'a str,
    /// libvirt's UUID.
    pub uuid: Uuid,
    /// How long it has before it is forced; at once without any.
    pub limit: Duration,
}

impl Libvirt {
    /// Asks a domain to shut down and waits for it; at the limit its process is ended. Its definition stays.
    pub fn shut_down(&self, ending: &Ending<'_>, owner: &Owner, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<(), Problem> {
        let Ending { guest, name, uuid, limit } = *ending;
        let seen = self.mine(name, uuid, owner)?;
        if !seen.is_some_and(DomainState::is_active) {
            return Ok(());
        }
        if limit.is_zero() {
            return self.stop(name, uuid, owner);
        }
        if seen == Some(DomainState::Paused) {
            // A guest that is held hears nothing.
            self.go_on(name, uuid, owner)?;
        }
        let began = Instant::now();
        let mut pressed = !self.ask_agent(uuid);
        if pressed {
            self.press(name, uuid, say)?;
        }
        let mut pause = Duration::from_millis(20);
        while self.state(uuid)?.is_some_and(DomainState::is_active) {
            if began.elapsed() >= limit {
                say(&format!("guest `{guest}` did not shut down within {} s: it is ended by force", limit.as_secs()));
                return self.stop(name, uuid, owner);
            }
            if !pressed && began.elapsed() >= AGENT_PATIENCE {
                pressed = true;
                self.press(name, uuid, say)?;
            }
            if cancel.wait(pause.min(limit.saturating_sub(began.elapsed()))) {
                cancel.check()?;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }

    /// Asks through the agent; false when there is none, or when it cannot.
    fn ask_agent(&self, uuid: Uuid) -> bool {
        if Agent::new(self, uuid, PING_LIMIT_S).ping().is_err() {
            return false;
        }
        match Agent::new(self, uuid, ASK_LIMIT_S).shut_down() {
            // It says nothing, or is gone before it can.
            Ok(()) | Err(AgentFault::Silent(_) | AgentFault::Off(_)) => true,
            Err(fault) => {
                tracing::debug!(%uuid, fault = fault.text(), "an agent does not shut its guest down");
                false
            }
        }
    }

    /// Presses the power button, once.
    fn press(&self, name: &str, uuid: Uuid, say: &dyn Fn(&str)) -> Result<(), Problem> {
        let press = |connect: &Connect| {
            let Some(handle) = find(connect, uuid)? else { return Ok(()) };
            match handle.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN) {
                // It has just ended.
                Err(error) if error.code() == ErrorNumber::OperationInvalid => Ok(()),
                other => Ok(other.map(drop)?),
            }
        };
        match self.lives.repeatable(press) {
            Ok(()) => Ok(()),
            // A machine without a power button is ended at the limit.
            Err(Fault::Libvirt(error)) => {
                say(&format!("the power button of {name} cannot be pressed: {}", error.message()));
                Ok(())
            }
            Err(Fault::Ours(problem)) => Err(problem),
        }
    }

    /// Holds a running domain. Held already is success.
    pub fn hold(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<(), Problem> {
        self.turn(name, uuid, owner, DomainState::Paused, "hold", |handle| handle.suspend().map(drop))
    }

    /// Lets a domain that is held go on. Running already is success.
    pub fn go_on(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<(), Problem> {
        self.turn(name, uuid, owner, DomainState::Running, "resume", |handle| handle.resume().map(drop))
    }

    fn turn(
        &self,
        name: &str,
        uuid: Uuid,
        owner: &Owner,
        to: DomainState,
        word: &str,
        turn: impl Fn(&Handle) -> Result<(), virt::error::Error>,
    ) -> Result<(), Problem> {
        let work = |connect: &Connect| {
            let handle = find(connect, uuid)?.ok_or_else(|| gone(name))?;
            owned(&handle, name, owner)?;
            let now = state(&handle)?;
            if now == to {
                return Ok(());
            }
            if !now.is_active() {
                return Err(Problem::new(Code::Conflict, format!("domain `{name}` does not run: it is {now}")).into());
            }
            match turn(&handle) {
                // Somebody was faster.
                Err(_) if state(&handle)? == to => Ok(()),
                other => Ok(other?),
            }
        };
        self.lives.repeatable(work).map_err(|fault| problem(format!("cannot {word} domain `{name}`"), fault))
    }

    /// The state of a domain of ours; nothing when there is none.
    fn mine(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<Option<DomainState>, Problem> {
        let look = |connect: &Connect| {
            let Some(handle) = find(connect, uuid)? else { return Ok(None) };
            owned(&handle, name, owner)?;
            state(&handle).map(Some)
        };
        self.lives.repeatable(look).map_err(|fault| problem(format!("cannot look at domain `{name}`"), fault))
    }
}
