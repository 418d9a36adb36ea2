//! The plan of an `up` turned into that of a restore: guests go on from their saved memory, all at once.
//!
//! Pure. Network, disks, seeds and links are planned as ever; only how guests come to life differs:
//!
//! ```text
//! up:       start/a ─► ready/a ─► setup/a       restore:   load/a ─► link/a:eth0 ─┐
//!           start/b (after ready/a) ─► …                   load/b ────────────────┴─► resume/a, resume/b
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use uuid::Uuid;

use super::{
    blueprint::Blueprint,
    container::Runtime,
    snapshot::{SavedGuest, SavedPort},
    step::{Impact, Plan, Step, StepId, Work},
};
use crate::names::GuestName;

/// How a guest comes to life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It goes on from its saved memory.
    Load {
        /// The file.
        memory: PathBuf,
        /// It stays as it is, standing still: somebody had paused it.
        paused: bool,
    },
    /// It boots, as its memory is not in the snapshot; a container's command begins anew.
    Boot {
        /// Of a container: the image with its files.
        image: Option<String>,
    },
    /// It stays off.
    Off,
}

/// Makes the plan that of a restore. Guests without a life of their own are left to the plan.
pub fn restored(plan: Plan, blueprint: &Blueprint, lives: &BTreeMap<GuestName, Life>, down: &[SavedPort]) -> Plan {
    let life = |step: &Step| guest_of(&step.work).and_then(|guest| lives.get(guest));
    let is_life = |work: &Work| matches!(work, Work::StartDomain { .. } | Work::AwaitReady { .. } | Work::RunScript { .. });
    // A step whose place another takes, and the one that takes it, if any does.
    let mut instead: BTreeMap<StepId, Option<StepId>> = BTreeMap::new();
    for step in &plan.steps {
        match (life(step), &step.work, guest_of(&step.work)) {
            (Some(Life::Load { .. }), Work::StartDomain { .. }, Some(guest)) => {
                instead.insert(step.id.clone(), Some(load(guest)));
            }
            (Some(Life::Load { paused, .. }), Work::AwaitReady { .. } | Work::RunScript { .. }, Some(guest)) => {
                instead.insert(step.id.clone(), (!paused).then(|| resume(guest)));
            }
            (Some(Life::Off), _, _) => drop(instead.insert(step.id.clone(), None)),
            _ => {}
        }
    }
    let born: BTreeSet<StepId> = plan.steps.iter().filter(|step| is_life(&step.work)).map(|step| step.id.clone()).collect();
    let mut pulled = BTreeSet::new();
    let mut steps = Vec::with_capacity(plan.steps.len());
    for mut step in plan.steps {
        // Memory waits for no other guest: the order in which they first came up is of no matter.
        let loads = matches!((life(&step), &step.work), (Some(Life::Load { .. }), Work::StartDomain { .. }));
        let needs = step.needs.iter().filter(|need| !loads || !born.contains(need));
        let needs: Vec<StepId> = needs.filter_map(|need| instead.get(need).cloned().unwrap_or_else(|| Some(need.clone()))).collect();
        let gone = matches!(life(&step), Some(Life::Off));
        let replaced = instead.contains_key(&step.id) && !loads;
        // The file knows nothing of a cable that was pulled by hand.
        let mends = matches!(&step.work, Work::SetCarrier { port, .. } if down.iter().any(|down| down.port == *port));
        if gone || replaced || mends {
            continue;
        }
        let work = match (life(&step).cloned(), &step.work) {
            (Some(Life::Load { memory, .. }), Work::StartDomain { domain }) => {
                step.id = load(&domain.guest);
                Work::LoadDomain { domain: domain.clone(), memory }
            }
            (Some(Life::Boot { image: Some(image) }), Work::StartDomain { domain }) => {
                let mut domain = domain.clone();
                if let Some(container) = &mut Arc::make_mut(&mut domain).container {
                    container.restored = Some(image);
                }
                Work::StartDomain { domain }
            }
            (_, Work::PullImage { image }) => {
                pulled.insert((step.id.clone(), image.clone()));
                step.work.clone()
            }
            _ => step.work.clone(),
        };
        steps.push(Step { work, needs, undo: None, ..step });
    }
    drop_pulls(&mut steps, &pulled);
    let waits: Vec<StepId> = steps.iter().filter(|step| comes_before_life(&step.work)).map(|step| step.id.clone()).collect();
    let carriers: Vec<Step> = down.iter().filter_map(|port| carrier(port, blueprint, lives, &waits)).collect();
    let all: Vec<StepId> = waits.into_iter().chain(carriers.iter().map(|step| step.id.clone())).collect();
    steps.extend(carriers);
    for guest in &blueprint.guests {
        if let Some(Life::Load { paused: false, .. }) = lives.get(&guest.name) {
            let work = Work::WakeDomain { guest: guest.name.clone(), name: guest.domain.name.clone(), uuid: guest.domain.uuid };
            steps.push(step(resume(&guest.name), &guest.host, work, all.clone(), &guest.name));
        }
    }
    Plan { steps }
}

/// Each guest's life, by what the snapshot has of it. `file` says where a file of it lies.
pub fn lives(guests: &[&SavedGuest], file: impl Fn(&str) -> PathBuf) -> BTreeMap<GuestName, Life> {
    use crate::api::snapshot::SavedState;
    let life = |guest: &SavedGuest| match (&guest.memory, guest.state) {
        (_, SavedState::Off) => Life::Off,
        (Some(memory), state) => Life::Load { memory: file(&memory.file), paused: state == SavedState::Paused },
        (None, _) => Life::Boot { image: guest.image.as_ref().map(|image| image.name.clone()) },
    };
    guests.iter().map(|guest| (guest.name.clone(), life(guest))).collect()
}

/// What must be done before anybody runs.
fn comes_before_life(work: &Work) -> bool {
    matches!(
        work,
        Work::Network { .. }
            | Work::LoadDomain { .. }
            | Work::ShapeLink { .. }
            | Work::UnshapeLink { .. }
            | Work::SetCarrier { .. }
            | Work::PlugInternal { .. }
    )
}

fn load(guest: &GuestName) -> StepId {
    StepId::new(format!("load/{guest}"))
}

fn resume(guest: &GuestName) -> StepId {
    StepId::new(format!("resume/{guest}"))
}

fn guest_of(work: &Work) -> Option<&GuestName> {
    match work {
        Work::StartDomain { domain } => Some(&domain.guest),
        Work::AwaitReady { guest, .. } | Work::RunScript { guest, .. } | Work::ShapeLink { guest, .. } | Work::SetCarrier { guest, .. } => {
            Some(guest)
        }
        _ => None,
    }
}

/// Images that only containers need which are made from a snapshot's image are not needed.
fn drop_pulls(steps: &mut Vec<Step>, pulled: &BTreeSet<(StepId, String)>) {
    let needed: BTreeSet<String> = steps
        .iter()
        .filter_map(|step| match &step.work {
            Work::StartDomain { domain } => domain.container.as_ref().filter(|container| container.restored.is_none()),
            _ => None,
        })
        .map(|container| container.image.clone())
        .collect();
    let dropped: BTreeSet<&StepId> = pulled.iter().filter(|(_, image)| !needed.contains(image)).map(|(id, _)| id).collect();
    steps.retain(|step| !dropped.contains(&step.id));
}

/// A cable that was pulled when the snapshot was made.
fn carrier(port: &SavedPort, blueprint: &Blueprint, lives: &BTreeMap<GuestName, Life>, waits: &[StepId]) -> Option<Step> {
    let guest = blueprint.guests.iter().find(|guest| guest.name == port.guest)?;
    let nic = guest.domain.nics.iter().find(|nic| nic.port == port.port)?;
    if matches!(lives.get(&guest.name)?, Life::Off) {
        return None;
    }
    let work = Work::SetCarrier {
        guest: guest.name.clone(),
        domain: guest.domain.name.clone(),
        uuid: guest.domain.uuid,
        interface: nic.name.clone(),
        port: port.port,
        up: false,
        runtime: guest.domain.runtime(),
    };
    let started = StepId::new(format!("start/{}", guest.name));
    let needs = match guest.domain.runtime() {
        Runtime::Docker => vec![started],
        Runtime::Libvirt => waits.iter().cloned().chain([started]).collect(),
    };
    Some(step(StepId::new(format!("carrier/{}:{}", guest.name, nic.name)), &guest.host, work, needs, &guest.name))
}

fn step(id: StepId, host: &crate::names::HostName, work: Work, needs: Vec<StepId>, guest: &GuestName) -> Step {
    Step {
        id,
        host: host.clone(),
        work,
        needs,
        reason: "as in the snapshot".to_string(),
        impact: Impact::Create,
        guests: vec![guest.clone()],
        traffic: Vec::new(),
        undo: None,
    }
}

/// The ports of a guest, for what is looked up by port.
pub fn ports_of(blueprint: &Blueprint, guests: &BTreeSet<GuestName>) -> BTreeSet<Uuid> {
    blueprint.guests.iter().filter(|guest| guests.contains(&guest.name)).flat_map(|guest| guest.domain.ports()).collect()
}
