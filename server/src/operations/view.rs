//! What a deployment is, laid beside what its file wants: guests, phase, and what stands in the way of looking.
//!
//! Pure. Must not know how anything was looked at.

use std::collections::{BTreeMap, BTreeSet};

use kvm_compose::{
    api::{GuestState, NicState, Phase},
    backend::local::Prepared,
    error::Problem,
    names::{DeploymentName, InstallationId, domain_name},
    plan::{
        blueprint::ReadyCondition,
        container::Runtime,
        lifecycle::PAUSED,
        observed::{Observed, ObservedDomain},
    },
    topology::Assignment,
};

use super::driver::View;

/// Lays what is wanted beside what is there.
pub fn view(
    deployment: &DeploymentName,
    installation: InstallationId,
    prepared: Result<Prepared, Problem>,
    observed: Result<Observed, Problem>,
) -> View {
    let mut notes = Vec::new();
    let prepared = match prepared {
        // Warnings were said when it came up; a look repeats only what stands in the way of looking.
        Ok(prepared) => Some(prepared),
        Err(problem) => {
            notes.push(with_causes("the testbed file cannot be used: ", &problem));
            None
        }
    };
    let observed = observed.map_err(|problem| notes.push(with_causes("cannot be observed: ", &problem))).ok();
    for (host, why) in observed.iter().flat_map(|observed| &observed.away) {
        notes.push(format!("host `{host}` does not answer, so what stands there is unknown: {why}"));
    }
    let mut guests = match &prepared {
        Some(prepared) => wanted_guests(deployment, installation, prepared, observed.as_ref()),
        None => Vec::new(),
    };
    if let Some(observed) = &observed {
        let known: BTreeSet<_> = guests.iter().map(|guest| guest.name.clone()).collect();
        guests.extend(observed.domains.iter().filter(|domain| !known.contains(&domain.guest)).map(|domain| GuestState {
            name: domain.guest.clone(),
            kind: if domain.runtime == Runtime::Docker { "docker" } else { "libvirt" }.to_string(),
            wanted: prepared.is_none(),
            state: domain.state.clone(),
            ready: false,
            host: domain.host.to_string(),
            domain: domain.name.clone(),
            uuid: domain.uuid,
            cpus: 0,
            memory_mb: 0,
            labels: BTreeMap::new(),
            nics: Vec::new(),
            console_log: None,
        }));
    }
    guests.sort_by(|one, other| one.name.cmp(&other.name));
    View {
        phase: phase(prepared.as_ref(), observed.as_ref()),
        guests,
        rows_wanted: prepared.as_ref().map_or(0, |prepared| prepared.blueprint.rows.len()),
        rows_observed: observed.as_ref().map_or(0, |observed| observed.rows.len()),
        warnings: notes,
    }
}

/// How the API calls where an address comes from.
fn word(assignment: Assignment) -> &'static str {
    match assignment {
        Assignment::Static => "static",
        Assignment::Dhcp => "dhcp",
        Assignment::Assigned => "assigned",
        Assignment::Slaac => "slaac",
    }
}

fn with_causes(doing: &str, problem: &Problem) -> String {
    problem.causes.iter().fold(format!("{doing}{problem}"), |text, cause| format!("{text}: {cause}"))
}

fn wanted_guests(
    deployment: &DeploymentName,
    installation: InstallationId,
    prepared: &Prepared,
    observed: Option<&Observed>,
) -> Vec<GuestState> {
    let decided = prepared.blueprint.guests.iter();
    let mut guests = Vec::new();
    for blueprint in decided {
        let Some(guest) = prepared.loaded.topology.guests.iter().find(|guest| guest.name == blueprint.name) else { continue };
        let there = observed.and_then(|observed| observed.domains.iter().find(|domain| domain.guest == guest.name));
        let nics = guest.nics.iter().enumerate().map(|(index, nic)| NicState {
            name: nic.name.clone(),
            switch: nic.switch.to_string(),
            address: nic.address(),
            assignment: nic.addresses.first().map_or("none", |address| word(address.assignment)).to_string(),
            mac: nic.mac.to_string(),
            port: installation.port_uuid(deployment, &guest.name, index),
        });
        let is_known = observed.is_some_and(|observed| !observed.away.contains_key(&blueprint.host));
        let unseen = if is_known { "absent" } else { "unknown" };
        guests.push(GuestState {
            name: guest.name.clone(),
            kind: guest.kind.word().to_string(),
            wanted: true,
            state: there.map_or(unseen, |domain| domain.state.as_str()).to_string(),
            ready: there.is_some_and(|domain| match blueprint.ready.condition {
                _ if domain.state == PAUSED => false,
                ReadyCondition::Running | ReadyCondition::Log(_) => domain.active,
                ReadyCondition::Agent | ReadyCondition::Tcp(_) | ReadyCondition::Http { .. } => domain.active && domain.agent,
            }),
            host: blueprint.host.to_string(),
            domain: domain_name(deployment, &guest.name),
            uuid: installation.domain_uuid(deployment, &guest.name),
            cpus: guest.cpus,
            memory_mb: guest.memory_mb,
            labels: guest.labels.clone(),
            nics: nics.collect(),
            // What a container prints is kept by Docker.
            console_log: (blueprint.domain.runtime() == Runtime::Libvirt).then(|| blueprint.domain.console_log.display().to_string()),
        });
    }
    guests
}

/// How much of a deployment is there.
fn phase(prepared: Option<&Prepared>, observed: Option<&Observed>) -> Phase {
    let Some(observed) = observed else { return Phase::Unknown };
    if !observed.away.is_empty() {
        return Phase::Unknown;
    }
    if observed.is_nothing() {
        return Phase::Down;
    }
    // Without a usable file nobody can say that *all* of it is there.
    let Some(blueprint) = prepared.map(|prepared| &prepared.blueprint) else { return Phase::Partial };
    let rows: BTreeSet<_> = observed.rows.iter().map(|row| &row.key).collect();
    // A guest that is paused is there, but it does not run.
    let runs = |domain: &&ObservedDomain| domain.active && domain.state != PAUSED;
    let running: BTreeSet<_> = observed.domains.iter().filter(runs).map(|domain| &domain.guest).collect();
    let all_rows = blueprint.rows.iter().all(|row| rows.contains(&row.key)) && rows.len() == blueprint.rows.len();
    let all_guests = blueprint.guests.iter().all(|guest| running.contains(&guest.name)) && observed.domains.len() == blueprint.guests.len();
    let all_interfaces = blueprint.outside.internals.len() == observed.outside.internals.len();
    if all_rows && all_guests && all_interfaces { Phase::Up } else { Phase::Partial }
}
