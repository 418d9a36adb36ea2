//! Guests started, stopped, held and let go on, apart from what the testbed file wants changed: the steps for it.
//!
//! Pure. What stops keeps its definition, its disks and its rows. What starts is started by the steps that `up` would take for
//! it, and by those alone; where `up` would have to make it anew, that is told instead.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    blueprint::{Blueprint, GuestBlueprint, ScriptKind},
    diff::{Taints, diff},
    observed::{Observed, ObservedDomain},
    step::{Impact, Plan, Step, StepId, Work},
};
use crate::{
    error::{Code, Problem},
    names::GuestName,
    plan::container::Runtime,
};

/// How long a machine has to shut down by itself, in seconds. Under emulation a distribution takes twenty.
const MACHINE_S: u64 = 60;
/// The same of a container, as `docker stop` has it.
const CONTAINER_S: u64 = 10;
/// What libvirt and Docker call a guest that is held.
pub const PAUSED: &str = "paused";

/// What is asked of guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Run, whatever they did before.
    Start,
    /// Shut down; at the limit in seconds by force, at once with 0. Without a limit each kind has its own.
    Stop(Option<u64>),
    /// Shut down, then run.
    Restart(Option<u64>),
    /// Be held.
    Pause,
    /// Go on.
    Resume,
}

/// The steps that fulfil a wish for these guests, for all that are there when none is named. Without a blueprint (the testbed
/// file cannot be used) nothing can start, and what stops does so in no order.
pub fn plan(wish: Wish, blueprint: Option<&Blueprint>, observed: &Observed, named: &[GuestName]) -> Result<Plan, Problem> {
    let chosen = chosen(wish, blueprint, observed, named)?;
    let domains: Vec<&ObservedDomain> = observed.domains.iter().filter(|domain| chosen.contains(&domain.guest)).collect();
    let wanted = || blueprint.ok_or_else(|| Problem::internal("what starts is in the testbed file"));
    Ok(match wish {
        Wish::Start => start(wanted()?, observed, &chosen)?,
        Wish::Stop(limit) => Plan { steps: stops(blueprint, &domains, limit) },
        Wish::Restart(limit) => restart(wanted()?, observed, &chosen, stops(blueprint, &domains, limit))?,
        Wish::Pause => Plan { steps: domains.iter().filter(|domain| domain.state != PAUSED).map(|domain| pause(domain)).collect() },
        Wish::Resume => Plan { steps: domains.iter().filter(|domain| domain.state == PAUSED).map(|domain| resume(domain)).collect() },
    })
}

/// The guests that are meant. One that is named must be there, and able to do what is asked.
fn chosen(wish: Wish, blueprint: Option<&Blueprint>, observed: &Observed, named: &[GuestName]) -> Result<BTreeSet<GuestName>, Problem> {
    let unable = |domain: &ObservedDomain| match wish {
        Wish::Pause | Wish::Resume => !domain.active,
        Wish::Start | Wish::Stop(_) | Wish::Restart(_) => false,
    };
    if named.is_empty() {
        // A guest that is no longer in the file has nothing that it could be started as.
        let starts = matches!(wish, Wish::Start | Wish::Restart(_));
        let known = |guest: &GuestName| blueprint.is_some_and(|wanted| wanted.guests.iter().any(|other| &other.name == guest));
        let able = observed.domains.iter().filter(|domain| !unable(domain) && (!starts || known(&domain.guest)));
        let able: BTreeSet<GuestName> = able.map(|domain| domain.guest.clone()).collect();
        return match observed.away.iter().next() {
            Some((host, why)) if able.is_empty() => Err(away(host.as_str(), why)),
            _ => Ok(able),
        };
    }
    for guest in named {
        let wanted = blueprint.and_then(|wanted| wanted.guests.iter().find(|other| &other.name == guest));
        let domain = observed.domains.iter().find(|domain| &domain.guest == guest);
        match (wanted, domain) {
            (None, None) => {
                let names: Vec<&str> = blueprint.iter().flat_map(|wanted| &wanted.guests).map(|guest| guest.name.as_str()).collect();
                let problem = Problem::new(Code::NotFound, format!("the file has no guest `{guest}`"));
                return Err(if names.is_empty() { problem } else { problem.hint(format!("guests: {}", names.join(", "))) });
            }
            (Some(wanted), None) => {
                if let Some(why) = observed.away.get(&wanted.host) {
                    return Err(away(wanted.host.as_str(), why));
                }
                return Err(
                    Problem::new(Code::NotFound, format!("guest `{guest}` is not there")).hint(format!("`testbed up {guest}` makes it"))
                );
            }
            (None, Some(_)) if matches!(wish, Wish::Start | Wish::Restart(_)) => {
                return Err(Problem::new(Code::Conflict, format!("guest `{guest}` is no longer in the file, so it cannot be started"))
                    .hint("`testbed stop` stops it, `testbed up` removes it"));
            }
            (_, Some(domain)) if unable(domain) => {
                let message = format!("guest `{guest}` does not run: it is {}", domain.state);
                return Err(Problem::new(Code::Conflict, message).hint(format!("`testbed start {guest}` makes it run")));
            }
            (_, Some(_)) => {}
        }
    }
    Ok(named.iter().cloned().collect())
}

fn away(host: &str, why: &str) -> Problem {
    Problem::new(Code::HostAway, format!("host `{host}` does not answer"))
        .cause(why)
        .hint("`testbed cluster list` says which hosts answer; run the command again once it is back")
}

/// Those on which others rest stop after these.
fn stops(blueprint: Option<&Blueprint>, domains: &[&ObservedDomain], limit: Option<u64>) -> Vec<Step> {
    let mut before: BTreeMap<&GuestName, Vec<StepId>> = BTreeMap::new();
    let mut steps = Vec::new();
    // A guest comes after those that it depends on, so from the last to the first.
    for guest in blueprint.iter().flat_map(|wanted| wanted.guests.iter().rev()) {
        let mut after = before.remove(&guest.name).unwrap_or_default();
        if let Some(domain) = domains.iter().find(|domain| domain.guest == guest.name && domain.active) {
            let step = stop(domain, limit, std::mem::take(&mut after));
            after.push(step.id.clone());
            steps.push(step);
        }
        for other in &guest.depends_on {
            before.entry(other).or_default().extend(after.iter().cloned());
        }
    }
    let known = |domain: &&&ObservedDomain| blueprint.is_some_and(|wanted| wanted.guests.iter().any(|guest| guest.name == domain.guest));
    let strays = domains.iter().filter(|domain| domain.active && !known(domain));
    steps.extend(strays.map(|domain| stop(domain, limit, Vec::new())));
    steps
}

fn step(word: &str, domain: &ObservedDomain, work: Work, needs: Vec<StepId>) -> Step {
    Step {
        id: StepId::new(format!("{word}/{}", domain.guest)),
        host: domain.host.clone(),
        work,
        needs,
        reason: "asked for".to_string(),
        impact: Impact::InPlace,
        guests: vec![domain.guest.clone()],
        traffic: Vec::new(),
        undo: None,
    }
}

fn stop(domain: &ObservedDomain, limit: Option<u64>, needs: Vec<StepId>) -> Step {
    let own = if domain.runtime == Runtime::Docker { CONTAINER_S } else { MACHINE_S };
    let work = Work::ShutDownDomain {
        guest: domain.guest.clone(),
        name: domain.name.clone(),
        uuid: domain.uuid,
        limit_s: limit.unwrap_or(own),
        runtime: domain.runtime,
    };
    step("stop", domain, work, needs)
}

fn pause(domain: &ObservedDomain) -> Step {
    let work = Work::PauseDomain { name: domain.name.clone(), uuid: domain.uuid, runtime: domain.runtime };
    step("pause", domain, work, Vec::new())
}

fn resume(domain: &ObservedDomain) -> Step {
    let work = Work::ResumeDomain { name: domain.name.clone(), uuid: domain.uuid, runtime: domain.runtime };
    step("resume", domain, work, Vec::new())
}

/// What `up` would do to make these guests run, and nothing else.
fn start(blueprint: &Blueprint, observed: &Observed, chosen: &BTreeSet<GuestName>) -> Result<Plan, Problem> {
    let wanted = with_links_as_they_are(blueprint, observed);
    let mut steps = diff(&wanted, observed, &Taints::default(), Some(chosen)).steps;
    if let Some(step) = steps.iter().find(|step| matches!(step.work, Work::RemoveDomain { .. } | Work::CreateVolume { .. })) {
        let guest = step.guests.first().map_or_else(String::new, ToString::to_string);
        let message = format!("guest `{guest}` is not as the file wants it ({}), so it is not started as it is", step.reason);
        return Err(Problem::new(Code::Conflict, message).hint(format!("`testbed up {guest}` makes it as the file says, and starts it")));
    }
    // Guests that run already are left alone, whatever the file wants of them.
    let started: BTreeSet<GuestName> = steps.iter().filter_map(|step| starts(&step.work)).cloned().collect();
    steps.retain(|step| is_for_a_start(&step.work) && step.guests.iter().any(|guest| started.contains(guest)));
    Ok(Plan { steps })
}

fn starts(work: &Work) -> Option<&GuestName> {
    match work {
        Work::StartDomain { domain } => Some(&domain.guest),
        _ => None,
    }
}

/// A guest that keeps nothing (its system is in memory) is set up again; what runs at each `up` waits for the next.
fn is_for_a_start(work: &Work) -> bool {
    match work {
        Work::StartDomain { .. }
        | Work::AwaitReady { .. }
        | Work::WriteSeed { .. }
        | Work::RemoveBridgePort { .. }
        | Work::ShapeLink { .. }
        | Work::UnshapeLink { .. } => true,
        Work::RunScript { script, .. } => script.kind == ScriptKind::Setup,
        _ => false,
    }
}

/// What was asked of links since the last `up` outlives a stop.
fn with_links_as_they_are(blueprint: &Blueprint, observed: &Observed) -> Blueprint {
    let mut wanted = blueprint.clone();
    for link in wanted.guests.iter_mut().flat_map(|guest: &mut GuestBlueprint| &mut guest.links) {
        // Of a guest that does not run the link is at fault, and its relay still knows what was asked of it.
        if let Some(there) = observed.links.iter().find(|there| there.what.port == link.port && !there.what.shape.is_plain()) {
            link.shape = there.what.shape;
        }
    }
    wanted
}

/// All stop, then each starts when those that it depends on are ready.
fn restart(blueprint: &Blueprint, observed: &Observed, chosen: &BTreeSet<GuestName>, stops: Vec<Step>) -> Result<Plan, Problem> {
    let mut after = observed.clone();
    for domain in after.domains.iter_mut().filter(|domain| chosen.contains(&domain.guest)) {
        (domain.active, domain.agent, domain.state) = (false, false, "stopped".to_string());
        domain.nics.iter_mut().for_each(|nic| nic.live = false);
        // Guests whose disk keeps it have run their scripts; it is asked once they run.
        domain.scripts.clear();
    }
    let gone: BTreeSet<String> = after
        .domains
        .iter()
        .filter(|domain| chosen.contains(&domain.guest))
        .flat_map(|domain| domain.ports())
        .map(|port| port.to_string())
        .collect();
    // libvirt takes a guest's ports off the bridge with it, and a container's end with its namespace.
    after.bridge_ports.retain(|port| !gone.contains(&port.what.iface_id));
    let mut steps = stops;
    let stopped: BTreeSet<StepId> = steps.iter().map(|step| step.id.clone()).collect();
    for mut step in start(blueprint, &after, chosen)?.steps {
        let own = step.guests.iter().map(|guest| StepId::new(format!("stop/{guest}"))).filter(|id| stopped.contains(id));
        let own: Vec<StepId> = own.collect();
        step.needs.extend(own);
        if let Work::StartDomain { .. } = &step.work {
            step.reason = "restarted".to_string();
        }
        steps.push(step);
    }
    Ok(Plan { steps })
}
