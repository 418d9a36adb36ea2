//! Blueprint against observed → plan: only the difference, a reason on each step.
//!
//! Pure. `up` and `down` are the same function: `down` compares with the empty blueprint.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{
    blueprint::{Blueprint, GuestBlueprint, ReadyCondition, ScriptKind},
    diff_outside, diff_rows, link_diff,
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

/// The difference between the wanted and the observed world. With `only`, guests outside it are left as they are.
pub fn diff(wanted: &Blueprint, observed: &Observed, taints: &Taints, only: Option<&BTreeSet<GuestName>>) -> Plan {
    let chosen = |guest: &GuestName| only.is_none_or(|only| only.contains(guest));
    let master = &wanted.master;
    let mut differ = Differ {
        steps: Vec::new(),
        observed,
        taints,
        master,
        network: None,
        before_network: Vec::new(),
        removed: BTreeMap::new(),
        freed: Vec::new(),
        fetched: BTreeMap::new(),
        settled: BTreeMap::new(),
    };
    let fates: Vec<(&GuestBlueprint, Fate)> =
        wanted.guests.iter().filter(|guest| chosen(&guest.name)).map(|guest| (guest, differ.fate(guest))).collect();
    let kept: BTreeSet<&GuestName> = wanted.guests.iter().map(|guest| &guest.name).collect();
    for domain in &observed.domains {
        if !kept.contains(&domain.guest) && only.is_none() {
            differ.remove_domain(domain, Impact::Remove, "no longer in the file");
        }
    }
    // A guest was placed anew while its host was away: the one on the old host gives way.
    for (guest, _) in &fates {
        for double in observed.domains.iter().filter(|domain| domain.guest == guest.name) {
            if differ.domain_of(guest).is_some_and(|it| it.host != double.host) {
                differ.remove_domain(double, Impact::Remove, &format!("it stands on `{}` now", guest.host));
            }
        }
    }
    for (guest, fate) in &fates {
        if let (Fate::Replace { impact, reason }, Some(domain)) = (fate, differ.domain_of(guest)) {
            differ.remove_domain(domain, *impact, reason);
        }
    }
    differ.remove_left_ports(&fates);
    differ.remove_files(wanted, &fates, only);
    let outside = diff_outside::before(wanted, observed);
    differ.before_network.extend(outside.iter().map(|step| step.id.clone()));
    differ.steps.extend(outside);
    differ.network(wanted);
    differ.steps.extend(diff_outside::after(wanted, observed, differ.network.as_ref()));
    let settled: Vec<StepId> = fates.iter().flat_map(|(guest, fate)| differ.guest(guest, fate)).collect();
    for (guest, _) in &fates {
        differ.run_scripts(guest, &settled);
    }
    Plan { steps: link_diff::with_links(differ.steps, wanted, observed, only) }
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
    taints: &'a Taints,
    master: &'a HostName,
    network: Option<StepId>,
    /// Steps that come before the network changes.
    before_network: Vec<StepId>,
    /// Guest → the step that removes its domain.
    removed: BTreeMap<GuestName, StepId>,
    /// Steps that free a name or a file which a new guest may need.
    freed: Vec<StepId>,
    /// Host and base file → the step that brings it there.
    fetched: BTreeMap<(HostName, PathBuf), StepId>,
    /// Guest → the steps after which it has settled.
    settled: BTreeMap<GuestName, Vec<StepId>>,
}

/// The id of a guest's n-th script.
fn numbered(word: &str, guest: &GuestBlueprint, number: usize) -> String {
    if number == 0 { format!("{word}/{}", guest.name) } else { format!("{word}/{}/{}", guest.name, number + 1) }
}

impl<'a> Differ<'a> {
    fn domain_of(&self, guest: &GuestBlueprint) -> Option<&'a ObservedDomain> {
        let its: Vec<&ObservedDomain> = self.observed.domains.iter().filter(|domain| domain.guest == guest.name).collect();
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
        let lost_disk = guest.volumes.iter().any(|volume| !self.observed.has_file(&guest.host, &volume.path));
        let lost_seed = guest.seed.as_ref().is_some_and(|seed| !self.observed.has_file(&guest.host, &seed.path));
        match (lost_disk, domain.digest == guest.domain.digest, lost_seed) {
            (true, true, _) => replace(Impact::Recreate, "its disk is missing"),
            (true, false, _) => replace(Impact::Recreate, "its disk is another"),
            (false, false, _) => {
                replace(if guest.volumes.is_empty() { Impact::Recreate } else { Impact::Restart }, "its definition changed")
            }
            (false, true, true) => {
                replace(if guest.volumes.is_empty() { Impact::Recreate } else { Impact::Restart }, "its seed is missing")
            }
            (false, true, false) if !domain.active => Fate::Start { reason: format!("it was {}", domain.state) },
            (false, true, false) if domain.uuid != guest.domain.uuid => replace(Impact::Recreate, "its id is another"),
            // The server died before it let it run, or somebody paused it: either way it is to run.
            (false, true, false) if domain.state == "paused" => Fate::Start { reason: "it was paused".to_string() },
            (false, true, false) => Fate::Keep,
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
        let id = StepId(id);
        let undo = work.undo();
        self.steps.push(Step { id: id.clone(), host, work, needs, reason: reason.to_string(), impact, guests, undo });
        id
    }

    fn remove_domain(&mut self, domain: &ObservedDomain, impact: Impact, reason: &str) {
        let work = Work::RemoveDomain { name: domain.name.clone(), uuid: domain.uuid };
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
        for OnHost { host, what: port } in &self.observed.bridge_ports {
            let owner = self
                .observed
                .domains
                .iter()
                .filter(|domain| &domain.host == host)
                .find(|domain| Some(domain.uuid) == port.vm_id || domain.ports.iter().any(|p| p.to_string() == port.iface_id));
            let wanted = fates.iter().find(|(guest, _)| guest.domain.ports.iter().any(|p| p.to_string() == port.iface_id));
            if owner.is_some_and(|domain| domain.active) {
                continue;
            }
            let guests: Vec<GuestName> =
                owner.map(|domain| domain.guest.clone()).or(wanted.map(|(guest, _)| guest.name.clone())).into_iter().collect();
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

    fn remove_files(&mut self, wanted: &Blueprint, fates: &[(&GuestBlueprint, Fate)], only: Option<&BTreeSet<GuestName>>) {
        if only.is_some() || self.observed.files.is_empty() {
            return;
        }
        let needed: BTreeSet<(&HostName, &PathBuf)> = wanted
            .guests
            .iter()
            .flat_map(|guest| {
                let seed = guest.seed.as_ref().map(|seed| &seed.path);
                let paths = guest.volumes.iter().map(|volume| &volume.path).chain(seed).chain([&guest.domain.console_log]);
                paths.map(|path| (&guest.host, path))
            })
            .collect();
        let anew: BTreeSet<(&HostName, &PathBuf)> = match self.taints.provision {
            true => fates.iter().flat_map(|(guest, _)| guest.volumes.iter().map(|volume| (&guest.host, &volume.path))).collect(),
            false => BTreeSet::new(),
        };
        for OnHost { host, what: path } in &self.observed.files {
            let reason = match (needed.contains(&(host, path)), anew.contains(&(host, path))) {
                (true, false) => continue,
                (true, true) => "--provision",
                (false, _) => "nothing needs it",
            };
            let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
            let kind =
                path.parent().and_then(|folder| folder.file_name()).map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default();
            // A domain may hold the file open, or be defined with it.
            let needs = self.removed.values().cloned().collect();
            let work = Work::RemoveFile { path: path.clone() };
            let id = self.push(
                format!("file/{kind}/{name}{}", self.suffix(host)),
                host.clone(),
                work,
                needs,
                (reason, Impact::Remove),
                Vec::new(),
            );
            self.freed.push(id);
        }
    }

    fn network(&mut self, wanted: &Blueprint) {
        let change = diff_rows::diff_rows(&wanted.rows, &self.observed.rows);
        if change.is_empty() {
            return;
        }
        let (reason, impact) = match (self.observed.rows.is_empty(), wanted.rows.is_empty()) {
            (true, _) => ("new", Impact::Create),
            (_, true) => ("no longer wanted", Impact::Remove),
            _ => ("the network changed", Impact::InPlace),
        };
        // A guest leaves before its port does.
        let needs = self.removed.values().chain(&self.before_network).cloned().collect();
        let id = self.push("network".to_string(), self.master.clone(), Work::Network { change }, needs, (reason, impact), Vec::new());
        self.network = Some(id);
    }

    /// The steps of one wanted guest; returns those after which it has settled.
    fn guest(&mut self, guest: &GuestBlueprint, fate: &Fate) -> Vec<StepId> {
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
            needs.extend(guest.depends_on.iter().filter_map(|other| self.settled.get(other)).flatten().cloned());
            let work = Work::StartDomain { domain: Box::new(guest.domain.clone()) };
            let id =
                self.push(format!("start/{}", guest.name), guest.host.clone(), work, needs, (reason, impact), vec![guest.name.clone()]);
            if let (Fate::Start { .. }, Some(step)) = (fate, self.steps.last_mut()) {
                // It was there before: taking back means stopping it, not removing it. One that was paused goes on running.
                step.undo = domain
                    .is_some_and(|domain| !domain.active)
                    .then(|| Work::StopDomain { name: guest.domain.name.clone(), uuid: guest.domain.uuid });
            }
            started = Some(id);
        }
        let ready = match guest.ready.condition {
            ReadyCondition::Running | ReadyCondition::Log(_) => started.is_none(),
            // Whether a port is open is only asked of a guest that starts.
            ReadyCondition::Agent | ReadyCondition::Tcp(_) | ReadyCondition::Http { .. } => {
                started.is_none() && domain.is_some_and(|domain| domain.agent)
            }
        };
        let mut settled: Vec<StepId> = started.iter().cloned().collect();
        if !ready {
            let work = Work::AwaitReady {
                guest: guest.name.clone(),
                domain: guest.domain.name.clone(),
                uuid: guest.domain.uuid,
                ready: guest.ready.clone(),
                console_log: guest.domain.console_log.clone(),
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

    fn files(&mut self, guest: &GuestBlueprint, fate: &Fate, reason: &str) -> Vec<StepId> {
        let mut made = self.fetches(guest);
        let freed: Vec<StepId> = self.freed.iter().chain(&made).cloned().collect();
        let anew = self.taints.provision && matches!(fate, Fate::Replace { .. });
        for volume in &guest.volumes {
            if anew || !self.observed.has_file(&guest.host, &volume.path) {
                let work = Work::CreateVolume { volume: volume.clone() };
                let impact = if self.domain_of(guest).is_some() { Impact::Recreate } else { Impact::Create };
                made.push(self.push(
                    format!("disk/{}", guest.name),
                    guest.host.clone(),
                    work,
                    freed.clone(),
                    (reason, impact),
                    vec![guest.name.clone()],
                ));
            }
        }
        if let Some(seed) = &guest.seed
            && !self.observed.has_file(&guest.host, &seed.path)
        {
            let work = Work::WriteSeed { seed: seed.clone() };
            made.push(self.push(
                format!("seed/{}", guest.name),
                guest.host.clone(),
                work,
                Vec::new(),
                (reason, Impact::Create),
                vec![guest.name.clone()],
            ));
        }
        made
    }

    /// Base files that the guest's host does not have; each goes to a host once.
    fn fetches(&mut self, guest: &GuestBlueprint) -> Vec<StepId> {
        let mut steps = Vec::new();
        for base in &guest.bases {
            let missing = self.observed.missing_bases.iter().any(|missing| missing.host == guest.host && missing.path == base.path);
            let Some(sum) = base.sum.as_ref().filter(|_| missing) else { continue };
            let key = (guest.host.clone(), base.path.clone());
            let step = match self.fetched.get(&key) {
                Some(step) => step.clone(),
                None => {
                    let id = format!("fetch/{}@{}", &sum.sha256[..12.min(sum.sha256.len())], guest.host);
                    let work = Work::FetchBase { base: base.clone() };
                    let step =
                        self.push(id, guest.host.clone(), work, Vec::new(), ("the host does not have it", Impact::Create), Vec::new());
                    self.fetched.insert(key, step.clone());
                    step
                }
            };
            steps.push(step);
        }
        steps
    }

    /// What keeps the ids of steps on several hosts apart.
    fn suffix(&self, host: &HostName) -> String {
        if host == self.master { String::new() } else { format!("@{host}") }
    }

    /// Scripts that run at the end of every `up`, when every guest has settled.
    fn run_scripts(&mut self, guest: &GuestBlueprint, settled: &[StepId]) {
        let mut before = settled.to_vec();
        for (number, script) in guest.scripts.iter().filter(|script| script.kind == ScriptKind::Run).enumerate() {
            let work = Work::RunScript { guest: guest.name.clone(), uuid: guest.domain.uuid, script: script.clone(), rerun: true };
            let id = self.push(
                numbered("run", guest, number),
                guest.host.clone(),
                work,
                before,
                ("it runs at every up", Impact::None),
                vec![guest.name.clone()],
            );
            before = vec![id];
        }
    }
}
