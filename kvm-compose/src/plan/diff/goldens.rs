//! Steps for golden images: each is made when a clone needs it and it is not there, and travels to the hosts of other clones.
//!
//! Pure. A golden guest is made like any other guest; what follows is the step that keeps its disk.

use super::{Differ, Fate};
use crate::plan::{
    blueprint::{Base, Blueprint, GuestBlueprint},
    golden::Golden,
    step::{Impact, StepId, Work},
};

impl Differ<'_> {
    /// True when the golden image that a guest's disk rests on is not on its host.
    pub(super) fn lacks_golden(&self, guest: &GuestBlueprint) -> bool {
        guest.bases.iter().any(|base| base.golden.is_some() && self.lacks(guest, base))
    }

    fn lacks(&self, guest: &GuestBlueprint, base: &Base) -> bool {
        self.observed.missing_bases.iter().any(|missing| missing.host == guest.host && missing.path == base.path)
    }

    /// Golden images that are not there and that a guest needs which is made.
    pub(super) fn needed_goldens<'w>(&self, wanted: &'w Blueprint, fates: &[(&GuestBlueprint, Fate)]) -> Vec<&'w Golden> {
        let is_missing = |golden: &&Golden| {
            self.observed.missing_bases.iter().any(|missing| missing.host == wanted.master && missing.path == golden.path)
        };
        let rests = |guest: &GuestBlueprint, golden: &Golden| {
            guest.bases.iter().any(|base| base.golden.as_ref() == Some(&golden.key) && self.lacks(guest, base))
        };
        let is_needed = |golden: &&Golden| {
            fates.iter().any(|(guest, fate)| matches!(fate, Fate::Create | Fate::Replace { .. }) && rests(guest, golden))
        };
        let mut needed: Vec<&Golden> = wanted.goldens.iter().filter(is_missing).filter(is_needed).collect();
        // Two machines that are the same but for their name rest on one image.
        let mut seen = std::collections::BTreeSet::new();
        needed.retain(|golden| seen.insert(&golden.key));
        needed
    }

    /// Makes a golden image.
    pub(super) fn golden(&mut self, golden: &Golden) {
        let Some(kept) = golden.kept() else { return };
        let ports: Vec<_> = golden.guest.domain.ports().collect();
        let stays = self.observed.domains.iter().filter(|domain| domain.active && !self.removed.contains_key(&domain.guest));
        let is_taken = stays.flat_map(|domain| domain.ports()).any(|port| ports.contains(&port))
            || self.observed.links.iter().any(|link| ports.contains(&link.what.port));
        let guest = if is_taken { golden.alone() } else { golden.guest.clone() };
        let made = self.guest(&guest, &Fate::Create, None);
        let reason = ("it has not been made yet", Impact::Create);
        let (id, guests) = (format!("golden/{}", guest.name), vec![guest.name.clone()]);
        let id = self.push(id, guest.host.clone(), Work::KeepGolden { kept }, made, reason, guests);
        self.goldens.insert(golden.key.clone(), id);
    }

    /// What brings a golden image to a clone's host; nothing where it is there.
    pub(super) fn golden_base(&mut self, guest: &GuestBlueprint, base: &Base) -> Option<StepId> {
        let key = base.golden.as_ref()?;
        let made = self.goldens.get(key).cloned();
        if guest.host == *self.master || !self.lacks(guest, base) {
            return made.filter(|_| guest.host == *self.master);
        }
        let place = (guest.host.clone(), base.path.clone());
        if let Some(step) = self.fetched.get(&place) {
            return Some(step.clone());
        }
        let id = format!("fetch/golden-{}@{}", key.get(..12).unwrap_or(key), guest.host);
        let reason = ("the host does not have it", Impact::Create);
        let step =
            self.push(id, guest.host.clone(), Work::FetchBase { base: base.clone() }, made.into_iter().collect(), reason, Vec::new());
        self.fetched.insert(place, step.clone());
        Some(step)
    }
}
