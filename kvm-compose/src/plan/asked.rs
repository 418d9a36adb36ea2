//! What a testbed file asks of hosts by name, held against the hosts there are: all that is wrong with it at once.
//!
//! Pure. Placing and lowering refuse the same things, one at a time.

use super::{
    lower::gateway,
    outside::{networks, uplink},
    place::asked_for,
    site::Hosts,
};
use crate::{
    diagnostic::{Diagnostic, Severity},
    error::{Code, Problem},
    spec::Sources,
    topology::Topology,
};

/// The faults, each with its place: a host that is not there (E045), a network that no host has (E046). Nothing when all is
/// well. A host that does not answer is no fault of the file, and is told alone.
pub fn refused(sources: &Sources, topology: &Topology, hosts: &Hosts) -> Option<Problem> {
    let placed = topology.guests.iter().filter_map(|guest| asked_for(guest, guest.placement.host.as_ref()?, hosts).err());
    let ports = topology.routers.iter().flat_map(|router| &router.ports);
    let gateways = ports.filter_map(|port| gateway(port.gateway_chassis.as_ref()?, hosts).err());
    let faults: Vec<(&str, Problem)> = placed.chain(gateways).map(|problem| ("E045", problem)).collect();
    if let Some((_, away)) = faults.iter().find(|(_, problem)| problem.code == Code::HostAway) {
        return Some(away.clone());
    }
    // Where traffic leaves is known before guests are placed when there is one host alone.
    let known = networks(&hosts.master);
    let leading = topology.switches.iter().filter(|_| hosts.members.is_empty()).flat_map(|switch| &switch.localnets);
    let unmapped = leading.filter_map(|localnet| Some(("E046", uplink(localnet, &hosts.master, &known).err()?)));
    let mut faults: Vec<(&str, Problem)> = faults.into_iter().chain(unmapped).collect();
    faults.sort_by(|(_, one), (_, other)| place(one).cmp(&place(other)).then(one.message.cmp(&other.message)));
    faults.dedup_by(|(_, one), (_, other)| place(one) == place(other) && one.message == other.message);
    let diagnostics: Vec<Diagnostic> = faults.iter().filter_map(|(code, problem)| diagnostic(sources, code, problem)).collect();
    let many = faults.len();
    let (_, first) = faults.into_iter().next()?;
    let message = match many {
        1 => first.message.clone(),
        _ => format!("`{}` asks for {many} things that the hosts do not have", sources.file),
    };
    Some(Problem { message, diagnostics, ..first })
}

fn place(problem: &Problem) -> Option<(&str, u32, u32)> {
    problem.at.as_ref().map(|at| (at.file.as_str(), at.line, at.column))
}

fn diagnostic(sources: &Sources, code: &str, problem: &Problem) -> Option<Diagnostic> {
    let at = problem.at.clone()?;
    let source = sources.line(&at);
    // What is named is a word.
    let rest = source.chars().skip(at.column.saturating_sub(1) as usize);
    let width = rest.take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.')).count().max(1) as u32;
    let (message, hint) = (problem.message.clone(), problem.hint.clone());
    Some(Diagnostic { severity: Severity::Error, code: code.to_string(), message, at, width, source, hint })
}
