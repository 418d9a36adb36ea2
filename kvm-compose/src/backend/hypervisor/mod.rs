//! Domains in this project's words: a small trait, and its one real adapter, libvirt.
//!
//! Must not know OVN, files or what a deployment wants.

pub mod carrier;
mod connections;
pub mod console;
pub mod ending;
pub mod lend;
pub mod libvirt;
pub mod mark;
mod nics;
mod pace;
mod save;
mod words;

use std::{collections::BTreeSet, fmt};

use uuid::Uuid;

pub use libvirt::Libvirt;
pub use mark::Mark;

use super::Owner;
use crate::{
    error::{Code, Problem},
    plan::{blueprint::Domain, observed::ObservedNic},
};

/// Whoever runs domains. The fake for tests of `guest` implements it too.
pub trait Hypervisor: Send + Sync {
    /// All domains; details only of those whose mark `ours` accepts.
    fn domains(&self, ours: &dyn Fn(&Mark) -> bool) -> Result<Listing, Problem>;

    /// The state of one domain, or nothing when there is none.
    fn state(&self, uuid: Uuid) -> Result<Option<DomainState>, Problem>;

    /// Defines a domain and starts it. One with the owner's mark and the same digest is only started.
    fn start(&self, domain: &Domain, owner: &Owner, operation: Uuid) -> Result<(), Problem>;

    /// Stops a domain and keeps its definition. Stopped or absent already is success.
    fn stop(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<(), Problem>;

    /// Stops and undefines a domain. Absent already is success.
    fn remove(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<(), Problem>;

    /// Passes a command to the guest agent of a domain and returns its reply, both JSON. Never repeated by itself.
    fn agent(&self, uuid: Uuid, command: &str, limit_s: u32) -> Result<String, AgentFault>;
}

/// What [`Hypervisor::domains`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Domains whose mark was accepted.
    pub ours: Vec<DomainFact>,
    /// The others.
    pub others: Vec<OtherDomain>,
}

/// A domain whose mark was not accepted, or that has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherDomain {
    /// libvirt's name.
    pub name: String,
    /// libvirt's UUID.
    pub uuid: Uuid,
    /// The mark of whoever made it.
    pub mark: Option<Mark>,
}

/// A domain with an accepted mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainFact {
    /// libvirt's name.
    pub name: String,
    /// libvirt's UUID.
    pub uuid: Uuid,
    /// Our mark.
    pub mark: Mark,
    /// Its state.
    pub state: DomainState,
    /// Its NICs, in the order of its definition.
    pub nics: Vec<ObservedNic>,
    /// The `interfaceid`s of those whose link was taken down.
    pub down: BTreeSet<Uuid>,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Virtual CPUs.
    pub cpus: u32,
}

/// libvirt's states of a domain (libvirt-domain.h, `virDomainState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words are libvirt's own")]
pub enum DomainState {
    NoState,
    Running,
    Idle,
    Paused,
    InShutdown,
    ShutOff,
    Crashed,
    Suspended,
}

impl DomainState {
    /// The state with libvirt's number; an unknown one is `NoState`.
    pub fn from_number(number: u32) -> Self {
        match number {
            1 => DomainState::Running,
            2 => DomainState::Idle,
            3 => DomainState::Paused,
            4 => DomainState::InShutdown,
            5 => DomainState::ShutOff,
            6 => DomainState::Crashed,
            7 => DomainState::Suspended,
            _ => DomainState::NoState,
        }
    }

    /// True when the domain has a process.
    pub fn is_active(self) -> bool {
        !matches!(self, DomainState::ShutOff | DomainState::Crashed | DomainState::NoState)
    }

    /// True when the guest's processor runs.
    pub fn is_running(self) -> bool {
        matches!(self, DomainState::Running | DomainState::Idle)
    }

    /// True when the state is about to become another by itself.
    pub fn is_passing(self) -> bool {
        matches!(self, DomainState::NoState | DomainState::InShutdown)
    }
}

impl fmt::Display for DomainState {
    /// The word that virsh(1) `domstate` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DomainState::NoState => "no state",
            DomainState::Running => "running",
            DomainState::Idle => "idle",
            DomainState::Paused => "paused",
            DomainState::InShutdown => "in shutdown",
            DomainState::ShutOff => "shut off",
            DomainState::Crashed => "crashed",
            DomainState::Suspended => "pmsuspended",
        })
    }
}

/// Why an agent command gave no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentFault {
    /// There is no such domain, or it does not run.
    Off(String),
    /// The domain runs, its agent is not there (not started yet, not installed, or it hangs).
    Silent(String),
    /// The agent answered with an error.
    Refused(String),
    /// The reply is larger than libvirt passes on.
    TooLarge(String),
    /// libvirt itself failed.
    Broken(Problem),
}

impl AgentFault {
    /// What was seen, in a few words.
    pub fn text(&self) -> String {
        match self {
            AgentFault::Off(text) | AgentFault::Silent(text) | AgentFault::Refused(text) | AgentFault::TooLarge(text) => text.clone(),
            AgentFault::Broken(problem) => problem.causes.first().unwrap_or(&problem.message).clone(),
        }
    }

    /// The fault as a problem with the agent of `guest`.
    pub fn problem(self, guest: &str) -> Problem {
        match self {
            AgentFault::Broken(problem) => problem,
            AgentFault::Off(text) => Problem::new(Code::AgentUnavailable, format!("guest `{guest}` does not run"))
                .cause(text)
                .hint(format!("`testbed start {guest}` starts it")),
            AgentFault::Silent(text) => Problem::new(Code::AgentUnavailable, format!("the agent of guest `{guest}` does not answer"))
                .cause(text)
                .hint("the guest may still boot, or its image lacks `qemu-guest-agent`"),
            AgentFault::Refused(text) => {
                Problem::new(Code::AgentUnavailable, format!("the agent of guest `{guest}` refused a command")).cause(text)
            }
            AgentFault::TooLarge(text) => {
                let message =
                    format!("the command in guest `{guest}` printed more than the guest agent can pass on, and its status is lost");
                Problem::new(Code::CommandFailed, message)
                    .cause(text)
                    .hint("let it print at most about 3 MB: redirect the rest to a file in the guest, or compress it")
            }
        }
    }
}
