//! Steps in running guests: NICs that go and come, networks taken up, seeds written anew.
//!
//! Pure. The order: the guest lets go, NICs go, rows change, NICs come, the guest takes up the rest.

use super::{Differ, Fate, NO_LONGER};
use crate::plan::{
    blueprint::{GuestBlueprint, ReadyCondition},
    live::{self, Change, Live},
    step::{Impact, StepId, Work},
};

/// Why a NIC is unplugged and plugged again.
pub const LOST_PORT: &str = "no bridge of its host holds its port";

impl Differ<'_> {
    /// What a guest that has a process takes up while it runs.
    pub(super) fn live(&self, guest: &GuestBlueprint, fate: &Fate) -> Option<Live> {
        let domain = self.domain_of(guest).filter(|domain| domain.active)?;
        let live = match fate {
            Fate::Keep | Fate::Start { .. } => live::live(guest, domain, &self.domains.lost(domain)),
            Fate::Create | Fate::Replace { .. } => return None,
        };
        (!live.is_nothing()).then_some(live)
    }

    /// The guest lets go of NICs, then they are taken away.
    pub(super) fn unplug(&mut self, guest: &GuestBlueprint, live: &Live) {
        let guests = || vec![guest.name.clone()];
        let released: Vec<StepId> =
            live.release.iter().map(|change| self.configure(format!("release/{}", guest.name), guest, change, Vec::new())).collect();
        for nic in &live.unplug {
            let work = Work::DetachNic {
                name: guest.domain.name.clone(),
                uuid: guest.domain.uuid,
                nic: nic.clone(),
                runtime: guest.domain.runtime(),
            };
            let reason = match guest.domain.nics.iter().find(|wanted| wanted.name == nic.name) {
                Some(wanted) if wanted.alias == nic.alias => LOST_PORT,
                Some(_) => "it is another",
                None => NO_LONGER,
            };
            let id = format!("unplug/{}/{}", guest.name, nic.name);
            let id = self.push(id, guest.host.clone(), work, released.clone(), (reason, Impact::HotPlug), guests());
            self.unplugged.push(id);
        }
    }

    /// The guest takes up a network configuration.
    fn configure(&mut self, id: String, guest: &GuestBlueprint, change: &Change, needs: Vec<StepId>) -> StepId {
        let agent_s = match guest.ready.condition {
            ReadyCondition::Running => 0,
            _ => guest.ready.timeout_s,
        };
        let work = |network: &str| Work::ConfigureNetwork {
            guest: guest.name.clone(),
            name: guest.domain.name.clone(),
            uuid: guest.domain.uuid,
            network: network.to_string(),
            links: change.links.clone(),
            agent_s,
        };
        let reason = ("its network changed", Impact::InPlace);
        let id = self.push(id, guest.host.clone(), work(&change.to), needs, reason, vec![guest.name.clone()]);
        if let Some(step) = self.steps.last_mut() {
            step.undo = Some(work(&change.from));
        }
        id
    }

    /// NICs come, then the guest takes up the rest of its network. Returns what it has to wait for.
    pub(super) fn plug(&mut self, guest: &GuestBlueprint, live: &Live, seeds: Vec<StepId>, started: Option<&StepId>) -> Vec<StepId> {
        let own = format!("unplug/{}/", guest.name);
        // An address or a name that another NIC had must be free.
        let gone = self.unplugged.iter().filter(|step| step.as_str().starts_with(&own)).cloned();
        let mut needs: Vec<StepId> = self.network.iter().chain(started).cloned().chain(gone).collect();
        needs.sort();
        needs.dedup();
        let mut plugged = Vec::new();
        for nic in &live.plug {
            let work = Work::AttachNic {
                name: guest.domain.name.clone(),
                uuid: guest.domain.uuid,
                nic: nic.clone(),
                runtime: guest.domain.runtime(),
            };
            let id = format!("plug/{}/{}", guest.name, nic.name);
            let reason = match live.unplug.iter().find(|old| old.name == nic.name) {
                Some(old) if old.alias == nic.alias => LOST_PORT,
                Some(_) => "it is another",
                None => "new",
            };
            plugged.push(self.push(id, guest.host.clone(), work, needs.clone(), (reason, Impact::HotPlug), vec![guest.name.clone()]));
        }
        match &live.configure {
            Some(change) => {
                let needs = needs.into_iter().chain(plugged).chain(seeds).collect();
                vec![self.configure(format!("configure/{}", guest.name), guest, change, needs)]
            }
            None => seeds.into_iter().chain(plugged).collect(),
        }
    }

    /// The seed of a guest that keeps running: what it boots from next time.
    pub(super) fn seed_in_place(&mut self, guest: &GuestBlueprint) -> Option<StepId> {
        let seed = guest.seed.as_ref()?;
        let there = self.observed.seed(&guest.host, &seed.path);
        if there == Some(&seed.digest) {
            return None;
        }
        let before = self.domain_of(guest).zip(there).and_then(|(domain, digest)| live::seed_before(seed, &domain.network, digest));
        let reason = if there.is_some() { "its network changed" } else { "its seed is missing" };
        let work = Work::WriteSeed { seed: seed.clone() };
        let guests = vec![guest.name.clone()];
        let id = self.push(format!("seed/{}", guest.name), guest.host.clone(), work, Vec::new(), (reason, Impact::InPlace), guests);
        if let Some(step) = self.steps.last_mut() {
            step.undo = before.map(|seed| Work::WriteSeed { seed });
        }
        Some(id)
    }
}
