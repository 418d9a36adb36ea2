//! Steps in words, for `testbed plan`, the log and the screen.
//!
//! Pure.

use super::{
    blueprint::{Blueprint, Column, ReadyCondition},
    container::Runtime,
    link,
    observed::Observed,
    step::{Impact, NetworkChange, Plan, Step, Work},
    things,
};
use crate::api::{PlanDocument, deployment::Placement, event::PlannedStep};

/// What a step does, in words.
pub fn what(work: &Work) -> String {
    match work {
        Work::Network { change } => {
            let mut parts = Vec::new();
            for (count, word) in [(change.insert.len(), "added"), (change.update.len(), "changed"), (change.delete.len(), "removed")] {
                if count > 0 {
                    parts.push(format!("{count} {word}"));
                }
            }
            format!("network rows in one transaction: {}", parts.join(", "))
        }
        Work::FetchBase { base } if base.golden.is_some() => "get the golden image from the master".to_string(),
        Work::KeepGolden { kept } => format!("shut {} down and keep its disk as a golden image", kept.domain),
        Work::FetchBase { base } => {
            let bytes = base.sum.as_ref().map_or(0, |sum| sum.bytes);
            format!("get a base file from the master, {} MiB", bytes.div_ceil(1 << 20))
        }
        Work::PullImage { image } => format!("get the image {image}"),
        Work::CreateVolume { volume } => {
            let base = volume.base.as_ref().map(|base| base.display());
            if let (true, Some(base)) = (volume.deep_copy, &base) {
                return format!("copy the disk {base}");
            }
            let grown = volume.grown_to.map_or_else(String::new, |bytes| format!(" of {:.1} GiB", bytes as f64 / f64::from(1 << 30)));
            match base {
                Some(base) => format!("make a disk{grown} on top of {base}"),
                None => format!("make an empty disk{grown}"),
            }
        }
        Work::WriteSeed { .. } => "write the seed".to_string(),
        Work::RemoveFile { path } => format!("remove {}", path.display()),
        Work::StartDomain { domain: started } if started.container.is_some() => {
            let image = started.container.as_ref().map_or("", |container| &container.image);
            format!("start {} from {image}", started.name)
        }
        Work::StartDomain { domain } => {
            format!("start {}: {} MiB, {} CPU{}", domain.name, domain.memory_mb, domain.cpus, if domain.cpus == 1 { "" } else { "s" })
        }
        Work::LoadDomain { domain, .. } => format!("start {} from its saved memory", domain.name),
        Work::ResumeDomain { name, .. } => format!("let {name} run"),
        Work::StopDomain { name, .. } => format!("stop {name}"),
        Work::RemoveDomain { name, .. } => format!("stop and remove {name}"),
        Work::AttachNic { name, nic, .. } => format!("plug {} ({}) into {name}", nic.name, nic.mac),
        Work::DetachNic { name, nic, .. } => format!("unplug {} ({}) from {name}", nic.name, nic.mac),
        Work::ConfigureNetwork { links, .. } if links.is_empty() => "note its network".to_string(),
        Work::ConfigureNetwork { links, .. } => format!("let the guest configure {}", links.join(", ")),
        Work::SetUpUplink { uplink } => format!("lead the network {} to the bridge {}", uplink.mapping.network, uplink.mapping.bridge),
        Work::PlugInternal { port } => format!("give the host the interface {} with {}", port.interface, port.address),
        Work::UnplugInternal { interface, .. } => format!("take the interface {interface} away"),
        Work::RemoveBridgePort { port } => format!("take port {} off {}", port.name, port.bridge),
        Work::ShapeLink { guest, link, .. } => format!("link {guest}:{}: {}", link.interface, link::words(&link.shape)),
        Work::UnshapeLink { label, .. } => format!("link {label}: plain"),
        Work::SetCarrier { guest, interface, up, .. } => format!("link {guest}:{interface}: {}", if *up { "up" } else { "down" }),
        Work::AwaitReady { ready, runtime: Runtime::Docker, .. }
            if matches!(ready.condition, ReadyCondition::Running | ReadyCondition::Agent) =>
        {
            format!("wait until the container runs, at most {} s", ready.timeout_s)
        }
        Work::AwaitReady { ready, .. } => format!("wait until {}, at most {} s", ready.condition, ready.timeout_s),
        Work::SendContext { context, .. } => format!("send its context, {} MiB at most", context.sum.bytes.div_ceil(1 << 20)),
        Work::RunScript { script, .. } => format!("run {}", script.name),
    }
}

/// A step as people see it.
pub fn planned(step: &Step) -> PlannedStep {
    PlannedStep {
        id: step.id.to_string(),
        what: what(&step.work),
        reason: step.reason.clone(),
        impact: step.impact,
        host: step.host.to_string(),
        guests: step.guests.clone(),
        traffic: step.traffic.clone(),
    }
}

/// A plan as `testbed plan` shows it.
pub fn document(blueprint: &Blueprint, plan: &Plan, observed: &Observed, offline: bool) -> PlanDocument {
    let changes = things::changes(blueprint, plan, observed);
    let network = plan.steps.iter().find_map(|step| match &step.work {
        Work::Network { change } => Some(network(change)),
        _ => None,
    });
    PlanDocument {
        deployment: blueprint.deployment.clone(),
        offline,
        steps: plan.steps.iter().map(planned).collect(),
        placement: blueprint
            .guests
            .iter()
            .map(|guest| Placement { guest: guest.name.clone(), host: guest.host.to_string(), why: guest.placement.clone() })
            .collect(),
        network: network.unwrap_or_default(),
        summary: if changes.is_empty() { String::new() } else { things::summary(&changes, observed.domains.is_empty()) },
        changes,
    }
}

/// The word for an impact, as people read it.
pub fn impact_word(impact: Impact) -> &'static str {
    match impact {
        Impact::Create => "create",
        Impact::InPlace => "in place",
        Impact::HotPlug => "hot-plug",
        Impact::Restart => "restart",
        Impact::Recreate => "recreate",
        Impact::Remove => "remove",
        Impact::None => "-",
    }
}

fn network(change: &NetworkChange) -> Vec<String> {
    let added = change.insert.iter().map(|row| match row.columns.get("addresses").map(value) {
        Some(addresses) if row.key.0.starts_with("port/") => format!("+ {} {addresses}", row.key),
        _ => format!("+ {}", row.key),
    });
    let changed = change.update.iter().map(|update| {
        let moved = update.moved.iter().map(|moved| format!("{} → {}", moved.from.0, moved.to.0));
        let columns = update.to.iter().map(|(column, to)| match update.from.get(column) {
            Some(from) => format!("{column}: {} → {}", value(from), value(to)),
            None => format!("{column}: {}", value(to)),
        });
        format!("~ {} {}", update.key, moved.chain(columns).collect::<Vec<_>>().join("; "))
    });
    let removed = change.delete.iter().map(|row| format!("- {}", row.key));
    added.chain(changed).chain(removed).collect()
}

/// A column's value, short enough for a line.
pub(super) fn value(column: &Column) -> String {
    const LONGEST: usize = 120;
    let text = match column {
        Column::Text(text) => text.clone(),
        Column::Flag(flag) => flag.to_string(),
        Column::Set(set) => set.join(", "),
        Column::Map(map) => map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" "),
        Column::Refs(keys) => keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None if text.is_empty() => "nothing".to_string(),
        None => text,
    }
}
