//! Blueprint against observed → plan: only the difference, a reason on each step.
//!
//! Pure. `up` and `down` are the same function: `down` compares with the empty blueprint.

mod containers;
mod domains;
mod files;
mod goldens;
mod in_place;

pub(super) use in_place::LOST_PORT;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use uuid::Uuid;

use self::domains::Domains;
use super::{
    affected::{self, Affected, Wiring},
    blueprint::{Blueprint, GuestBlueprint, ReadyCondition, ScriptKind},
    container::Runtime,
    diff_outside, diff_rows, link_diff,
    live::{self, Live},
    observed::{Observed, ObservedDomain, OnHost},
    step::{Impact, Plan, Step, StepId, Work},
};
use crate::names::{GuestName, HostName};

/// What makes observed facts count as untrue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taints {
    /// Guests' domains, disks and seeds are made anew.
    pub provision: bool,
    /// Setup scripts run again.
    pub rerun_scripts: bool,
}

/// The difference between the wanted and the observed world. With `only`, guests outside it are neither made, started, removed nor
/// restarted. The network is one, though: running guests take up what it becomes, or they would be cut off.
pub fn diff(wanted: &Blueprint, observed: &Observed, taints: &Taints, only: Option<&BTreeSet<GuestName>>) -> Plan {
    let reached = only.map(|only| with_rewired(only, wanted, observed));
    let only = reached.as_ref();
    let chosen = |guest: &GuestName| only.is_none_or(|only| only.contains(guest));
    let master = &wanted.master;
    let mut differ = Differ {
        steps: Vec::new(),
        observed,
        domains: Domains::new(observed),
        taints,
        master,
        network: None,
        before_network: Vec::new(),
        removed: BTreeMap::new(),
        freed: Vec::new(),
        fetched: BTreeMap::new(),
        goldens: BTreeMap::new(),
        doomed: BTreeSet::new(),
        pulled: BTreeMap::new(),
        unplugged: Vec::new(),
        settled: BTreeMap::new(),
    };
    let fates: Vec<(&GuestBlueprint, Fate)> =
        wanted.guests.iter().filter(|guest| chosen(&guest.name)).map(|guest| (guest, differ.fate(guest))).collect();
    let kept: BTreeSet<&GuestName> = wanted.guests.iter().map(|guest| &guest.name).collect();
    let goldens = differ.needed_goldens(wanted, &fates);
    // A golden guest that somebody left half-made is made anew: what it is for is shared and must be right.
    let is_half_made = |domain: &ObservedDomain| goldens.iter().any(|golden| golden.guest.name == domain.guest);
    for domain in &observed.domains {
        if !kept.contains(&domain.guest) && (only.is_none() || is_half_made(domain)) {
            differ.remove_domain(domain, Impact::Remove, NO_LONGER);
        }
    }
    // A guest was placed anew while its host was away: the one on the old host gives way.
    for (guest, _) in &fates {
        let its = differ.domain_of(guest);
        for double in differ.domains.of(&guest.name) {
            if its.is_some_and(|it| it.host != double.host) {
                differ.remove_domain(double, Impact::Remove, &format!("it stands on `{}` now", guest.host));
            }
        }
    }
    for (guest, fate) in &fates {
        if let (Fate::Replace { impact, reason }, Some(domain)) = (fate, differ.domain_of(guest)) {
            differ.remove_domain(domain, *impact, reason);
        }
    }
    let lives: Vec<Option<Live>> = fates.iter().map(|(guest, fate)| differ.live(guest, fate)).collect();
    for ((guest, _), live) in fates.iter().zip(&lives) {
        live.iter().for_each(|live| differ.unplug(guest, live));
    }
    differ.remove_left_ports(&fates);
    differ.remove_files(wanted, &fates, &goldens, only);
    let outside = diff_outside::before(wanted, observed);
    differ.before_network.extend(outside.iter().map(|step| step.id.clone()));
    differ.steps.extend(outside);
    differ.network(wanted);
    differ.steps.extend(diff_outside::after(wanted, observed, differ.network.as_ref()));
    goldens.iter().for_each(|golden| differ.golden(golden));
    let settled: Vec<StepId> =
        fates.iter().zip(&lives).flat_map(|((guest, fate), live)| differ.guest(guest, fate, live.as_ref())).collect();
    for (guest, _) in &fates {
        differ.run_scripts(guest, &settled);
    }
    Plan { steps: link_diff::with_links(differ.steps, wanted, observed, only) }
}

/// The guests that are asked for, and those beside them that run as they are wanted but for their network.
fn with_rewired(only: &BTreeSet<GuestName>, wanted: &Blueprint, observed: &Observed) -> BTreeSet<GuestName> {
    let domains = Domains::new(observed);
    let rewired = wanted.guests.iter().filter(|guest| !only.contains(&guest.name)).filter(|guest| {
        let mut its = domains.of(&guest.name).into_iter().filter(|domain| domain.host == guest.host);
        its.any(|domain| {
            let same = domain.digest == guest.domain.digest && domain.uuid == guest.domain.uuid;
            let runs = domain.active && domain.state != "paused";
            let whole = guest.volumes.iter().all(|volume| observed.has_file(&guest.host, &volume.path));
            same && runs && whole && !live::live(guest, domain, &domains.lost(domain)).is_nothing()
        })
    });
    rewired.map(|guest| guest.name.clone()).chain(only.iter().cloned()).collect()
}

const NO_LONGER: &str = "no longer in the file";

/// What a running guest cannot take up, in words.
fn what_changed(guest: &GuestBlueprint, domain: &ObservedDomain) -> String {
    let mut changes = Vec::new();
    if domain.memory_mb != 0 && domain.memory_mb != guest.domain.memory_mb {
        changes.push(format!("memory {} → {} MiB", domain.memory_mb, guest.domain.memory_mb));
    }
    if domain.cpus != 0 && domain.cpus != guest.domain.cpus {
        changes.push(format!("CPUs {} → {}", domain.cpus, guest.domain.cpus));
    }
    if changes.is_empty() { "its definition changed".to_string() } else { changes.join(", ") }
}

/// What becomes of a wanted guest.
enum Fate {
    /// It stands as wanted.
    Keep,
    /// It is made.
    Create,
    /// It is defined as wanted but does not run.
    Start { reason: String },
    /// It is removed and made again.
    Replace { impact: Impact, reason: String },
}

struct Differ<'a> {
    steps: Vec<Step>,
    observed: &'a Observed,
    domains: Domains<'a>,
    taints: &'a Taints,
    master: &'a HostName,
    network: Option<StepId>,
    /// Steps that come before the network changes.
    before_network: Vec<StepId>,
    /// Guest → the step that removes its domain.
    removed: BTreeMap<GuestName, StepId>,
    /// Steps that free a name or a file which a new guest may need.
    freed: Vec<StepId>,
    /// Steps that unplug NICs: their ports leave after them.
    unplugged: Vec<StepId>,
    /// Host and base file → the step that brings it there.
    fetched: BTreeMap<(HostName, PathBuf), StepId>,
    /// Golden image → the step that makes it.
    goldens: BTreeMap<String, StepId>,
    /// Files that are there and that this plan removes.
    doomed: BTreeSet<(HostName, PathBuf)>,
    /// Host and image → the step that brings it there.
    pulled: BTreeMap<(HostName, String), StepId>,
    /// Guest → the steps after which it has settled.
    settled: BTreeMap<GuestName, Vec<StepId>>,
}

/// The id of a guest's n-th script.
fn numbered(word: &str, guest: &GuestBlueprint, number: usize) -> String {
    if number == 0 { format!("{word}/{}", guest.name) } else { format!("{word}/{}/{}", guest.name, number + 1) }
}

impl<'a> Differ<'a> {
    fn domain_of(&self, guest: &GuestBlueprint) -> Option<&'a ObservedDomain> {
        let its = self.domains.of(&guest.name);
        its.iter().find(|domain| domain.host == guest.host).or(its.first()).copied()
    }

    fn fate(&self, guest: &GuestBlueprint) -> Fate {
        let Some(domain) = self.domain_of(guest) else { return Fate::Create };
        let replace = |impact, reason: &str| Fate::Replace { impact, reason: reason.to_string() };
        if domain.host != guest.host {
            return replace(Impact::Recreate, &format!("it moves from `{}` to `{}`", domain.host, guest.host));
        }
        if self.taints.provision {
            return replace(Impact::Recreate, "--provision");
        }
        if self.lacks_golden(guest) {
            // Another image under the same name is not the same content, and its disk holds differences.
            return replace(Impact::Recreate, "the golden image that its disk rests on is missing");
        }
        let lost_disk = guest.volumes.iter().any(|volume| !self.observed.has_file(&guest.host, &volume.path));
        // A guest without a disk keeps nothing over a restart.
        let again = if guest.volumes.is_empty() { Impact::Recreate } else { Impact::Restart };
        match (lost_disk, domain.digest == guest.domain.digest) {
            (true, true) => replace(Impact::Recreate, "its disk is missing"),
            (true, false) => replace(Impact::Recreate, "its disk is another"),
            (false, false) => replace(again, &what_changed(guest, domain)),
            (false, true) if self.has_another_image(guest, domain) => replace(Impact::Recreate, "its image is another"),
            (false, true) if domain.uuid != guest.domain.uuid => replace(Impact::Recreate, "its id is another"),
            (false, true) if !domain.active => Fate::Start { reason: format!("it was {}", domain.state) },
            // The server died before it let it run, or somebody paused it: either way it is to run.
            (false, true) if domain.state == "paused" && domain.runtime == Runtime::Docker => {
                Fate::Start { reason: "it was paused".to_string() }
            }
            (false, true) if domain.state == "paused" => {
                // A NIC leaves only a guest that runs.
                let stuck = !live::live(guest, domain, &self.domains.lost(domain)).unplug.is_empty();
                if stuck { replace(again, "it was paused and loses a NIC") } else { Fate::Start { reason: "it was paused".to_string() } }
            }
            (false, true) => Fate::Keep,
        }
    }

    fn push(
        &mut self,
        id: String,
        host: HostName,
        work: Work,
        needs: Vec<StepId>,
        (reason, impact): (&str, Impact),
        guests: Vec<GuestName>,
    ) -> StepId {
        let id = StepId::new(id);
        let undo = work.undo();
        let (reason, traffic) = (reason.to_string(), Vec::new());
        self.steps.push(Step { id: id.clone(), host, work, needs, reason, impact, guests, traffic, undo });
        id
    }

    fn remove_domain(&mut self, domain: &ObservedDomain, impact: Impact, reason: &str) {
        let work = Work::RemoveDomain { name: domain.name.clone(), uuid: domain.uuid, runtime: domain.runtime };
        let known = self.removed.contains_key(&domain.guest);
        let id = self.push(
            if known { format!("remove/{}@{}", domain.guest, domain.host) } else { format!("remove/{}", domain.guest) },
            domain.host.clone(),
            work,
            Vec::new(),
            (reason, impact),
            vec![domain.guest.clone()],
        );
        self.removed.insert(domain.guest.clone(), id.clone());
        self.freed.push(id);
    }

    /// Ports of the integration bridge whose guest has no process: libvirt would have taken them away.
    fn remove_left_ports(&mut self, fates: &[(&GuestBlueprint, Fate)]) {
        let wanted: BTreeMap<Uuid, &GuestName> =
            fates.iter().flat_map(|(guest, _)| guest.domain.ports().map(|port| (port, &guest.name))).collect();
        for OnHost { host, what: port } in &self.observed.bridge_ports {
            let iface = port.iface_id.parse().ok();
            let owner = self.domains.owner(host, port.vm_id, iface);
            if owner.is_some_and(|domain| domain.active) {
                continue;
            }
            let wanted = iface.and_then(|iface: Uuid| wanted.get(&iface).copied());
            let guests: Vec<GuestName> = owner.map(|domain| &domain.guest).or(wanted).cloned().into_iter().collect();
            let needs = guests.first().and_then(|guest| self.removed.get(guest).cloned()).into_iter().collect();
            let id = self.push(
                format!("bridge-port/{}{}", port.name, self.suffix(host)),
                host.clone(),
                Work::RemoveBridgePort { port: port.clone() },
                needs,
                ("its guest does not run", Impact::Remove),
                guests,
            );
            self.freed.push(id);
        }
    }

    fn network(&mut self, wanted: &Blueprint) {
        let mut change = diff_rows::diff_rows(&wanted.rows, &self.observed.rows);
        if change.is_empty() {
            return;
        }
        let from_nothing = self.observed.rows.is_empty() || wanted.rows.is_empty();
        let Affected { touched, traffic } = if from_nothing {
            let ports = affected::keys(&change).filter_map(affected::port_of);
            Affected { touched: ports.map(|(guest, _)| guest).collect(), traffic: BTreeSet::new() }
        } else {
            Wiring::new(&wanted.rows, &self.observed.rows).of(affected::keys(&change))
        };
        let kept: BTreeSet<&GuestName> = wanted.guests.iter().map(|guest| &guest.name).collect();
        // Who is gone needs its port no more, even when the action fails.
        for delete in &mut change.delete {
            let stays = |guest: &GuestName| !self.removed.contains_key(guest) && kept.contains(guest);
            if affected::port_of(&delete.key).is_some_and(|(guest, _)| !stays(&guest)) {
                delete.was = None;
            }
        }
        let (reason, impact) = match (self.observed.rows.is_empty(), wanted.rows.is_empty()) {
            (true, _) => ("new", Impact::Create),
            (_, true) => ("no longer wanted", Impact::Remove),
            _ => ("the network changed", Impact::InPlace),
        };
        // A guest or its NIC leaves before the port does.
        let needs = self.removed.values().chain(&self.unplugged).chain(&self.before_network).cloned().collect();
        let guests = touched.into_iter().collect();
        let id = self.push("network".to_string(), self.master.clone(), Work::Network { change }, needs, (reason, impact), guests);
        if let Some(step) = self.steps.last_mut() {
            step.traffic = traffic.into_iter().collect();
        }
        self.network = Some(id);
    }

    /// The steps of one wanted guest; returns those after which it has settled.
    fn guest(&mut self, guest: &GuestBlueprint, fate: &Fate, live: Option<&Live>) -> Vec<StepId> {
        let domain = self.domain_of(guest);
        let (reason, impact) = match fate {
            Fate::Keep => ("", Impact::None),
            Fate::Create => ("new", Impact::Create),
            Fate::Start { reason } => (reason.as_str(), Impact::Create),
            Fate::Replace { impact, reason } => (reason.as_str(), *impact),
        };
        let mut started = None;
        if !matches!(fate, Fate::Keep) {
            let mut needs: Vec<StepId> = self.network.iter().chain(self.removed.get(&guest.name)).chain(&self.freed).cloned().collect();
            needs.sort();
            needs.dedup();
            needs.extend(self.files(guest, fate, reason));
            if matches!(fate, Fate::Start { .. }) {
                needs.extend(self.seed_in_place(guest));
            }
            needs.extend(guest.depends_on.iter().filter_map(|other| self.settled.get(other)).flatten().cloned());
            needs.extend(self.pull(guest));
            let work = Work::StartDomain { domain: self.pinned(guest) };
            let id =
                self.push(format!("start/{}", guest.name), guest.host.clone(), work, needs, (reason, impact), vec![guest.name.clone()]);
            if let (Fate::Start { .. }, Some(step)) = (fate, self.steps.last_mut()) {
                // It was there before: taking back means stopping it, not removing it. One that was paused goes on running.
                step.undo = domain.is_some_and(|domain| !domain.active).then(|| containers::stop(guest));
            }
            started = Some(id);
        }
        let mut configured = Vec::new();
        if matches!(fate, Fate::Keep) {
            configured.extend(self.seed_in_place(guest));
        }
        if let Some(live) = live {
            configured = self.plug(guest, live, configured, started.as_ref());
        }
        let ready = match guest.ready.condition {
            ReadyCondition::Running | ReadyCondition::Log(_) => started.is_none(),
            // Whether a port is open is only asked of a guest that starts.
            ReadyCondition::Agent | ReadyCondition::Tcp(_) | ReadyCondition::Http { .. } => {
                started.is_none() && domain.is_some_and(|domain| domain.agent)
            }
        };
        let mut settled: Vec<StepId> = started.iter().cloned().chain(configured).collect();
        if !ready {
            let work = Work::AwaitReady {
                guest: guest.name.clone(),
                domain: guest.domain.name.clone(),
                uuid: guest.domain.uuid,
                ready: guest.ready.clone(),
                console_log: guest.domain.console_log.clone(),
                runtime: guest.domain.runtime(),
            };
            let reason = if started.is_some() { "it starts" } else { "it is not ready yet" };
            let id = self.push(
                format!("ready/{}", guest.name),
                guest.host.clone(),
                work,
                settled.clone(),
                (reason, Impact::None),
                vec![guest.name.clone()],
            );
            settled = vec![id];
        }
        let mut before = settled.clone();
        if let Some(context) = &guest.context
            && (started.is_some() || domain.is_none_or(|domain| !domain.scripts.contains(&context.digest)))
        {
            let work = Work::SendContext { guest: guest.name.clone(), uuid: guest.domain.uuid, context: context.clone() };
            let why = match &started {
                Some(_) => ("it starts", Impact::None),
                None => ("it is another", Impact::InPlace),
            };
            before.extend(self.fetches(guest));
            let id = self.push(format!("context/{}", guest.name), guest.host.clone(), work, before, why, vec![guest.name.clone()]);
            before = vec![id.clone()];
            settled.push(id);
        }
        for (number, script) in guest.scripts.iter().filter(|script| script.kind == ScriptKind::Setup).enumerate() {
            let has_run = started.is_none() && domain.is_some_and(|domain| domain.scripts.contains(&script.digest));
            if !has_run || self.taints.rerun_scripts {
                let reason = if has_run { "--rerun-scripts" } else { "it has not run" };
                let work = Work::RunScript {
                    guest: guest.name.clone(),
                    uuid: guest.domain.uuid,
                    script: script.clone(),
                    rerun: self.taints.rerun_scripts,
                };
                let id = self.push(
                    numbered("setup", guest, number),
                    guest.host.clone(),
                    work,
                    before.clone(),
                    (reason, Impact::None),
                    vec![guest.name.clone()],
                );
                before = vec![id.clone()];
                settled.push(id);
            }
        }
        self.settled.insert(guest.name.clone(), settled.clone());
        settled
    }

    /// What keeps the ids of steps on several hosts apart.
    fn suffix(&self, host: &HostName) -> String {
        if host == self.master { String::new() } else { format!("@{host}") }
    }

    /// Scripts that run at the end of every `up`, when every guest has settled.
    fn run_scripts(&mut self, guest: &GuestBlueprint, settled: &[StepId]) {
        let mut before = None;
        for (number, script) in guest.scripts.iter().filter(|script| script.kind == ScriptKind::Run).enumerate() {
            let work = Work::RunScript { guest: guest.name.clone(), uuid: guest.domain.uuid, script: script.clone(), rerun: true };
            let id = self.push(
                numbered("run", guest, number),
                guest.host.clone(),
                work,
                before.map_or_else(|| settled.to_vec(), |before| vec![before]),
                ("it runs at every up", Impact::None),
                vec![guest.name.clone()],
            );
            before = Some(id);
        }
    }
}
