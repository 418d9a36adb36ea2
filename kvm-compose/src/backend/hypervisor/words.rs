//! libvirt's errors in this project's words: codes, hints, and libvirt's own words as the cause.
//!
//! Pure. Must not know connections.

use virt::error::{Error, ErrorNumber};

use super::{AgentFault, connections::Fault};
use crate::error::{Code, Problem};

/// There is no such domain.
pub fn is_absent(error: &Error) -> bool {
    error.code() == ErrorNumber::NoDomain
}

/// A domain without the owner's mark stands where ours should.
pub fn stranger(name: &str) -> Problem {
    Problem::new(Code::Conflict, format!("the domain `{name}` is not ours"))
        .hint(format!("it does not carry this deployment's mark; look at it with `virsh dumpxml {name}`"))
}

/// A domain that was there a moment ago.
pub fn gone(name: &str) -> Problem {
    Problem::new(Code::Conflict, format!("the domain `{name}` is gone before it ran")).hint("something removed it; run the command again")
}

/// Our domain was made from another XML than the step's.
pub fn changed(name: &str) -> Problem {
    Problem::new(Code::Conflict, format!("the domain `{name}` was made from another definition"))
        .hint("something changed it after the plan was made; run the command again")
}

/// Why an agent gave no reply.
pub fn agent_fault(error: Error) -> AgentFault {
    let text = error.message().to_string();
    match error.code() {
        ErrorNumber::NoDomain | ErrorNumber::OperationInvalid => AgentFault::Off(text),
        ErrorNumber::AgentUnresponsive | ErrorNumber::AgentUnsynced | ErrorNumber::AgentCommandTimeout => AgentFault::Silent(text),
        ErrorNumber::ConfigUnsupported | ErrorNumber::ArgumentUnsupported | ErrorNumber::OperationTimeout => AgentFault::Silent(text),
        ErrorNumber::AgentCommandFailed => AgentFault::Refused(text),
        // Versions before 7.1 report an agent's own error so.
        ErrorNumber::InternalError if text.contains("agent command") => AgentFault::Refused(text),
        ErrorNumber::Rpc if text.contains("too large") || text.contains("length") || text.contains("encode") => AgentFault::TooLarge(text),
        _ => AgentFault::Broken(problem("libvirt could not pass a command to a guest agent", Fault::Libvirt(error))),
    }
}

/// Why a domain did not start, with a hint for what people can mend.
pub fn start_problem(name: &str, fault: Fault) -> Problem {
    let found = problem(format!("cannot start domain `{name}`"), fault);
    let cause = found.causes.first().cloned().unwrap_or_default();
    if found.hint.is_some() || found.code != Code::Libvirt {
        return found;
    }
    if cause.contains("No space left") {
        return Problem { code: Code::DiskFull, ..found }.hint("free some space on the server's disk, then run the command again");
    }
    if cause.contains("Cannot allocate memory") || cause.contains("cannot set up guest memory") {
        return Problem { code: Code::Capacity, ..found }.hint("lower `memory_mb`, or stop other guests");
    }
    if cause.contains("Permission denied") {
        return found.hint("the user that QEMU runs as must be able to reach every file of the guest");
    }
    found
}

/// What went wrong, with libvirt's own words as the cause.
pub fn problem(doing: impl Into<String>, fault: Fault) -> Problem {
    match fault {
        Fault::Ours(problem) => problem,
        Fault::Libvirt(error) => Problem::new(Code::Libvirt, doing).cause(error.message()),
    }
}
