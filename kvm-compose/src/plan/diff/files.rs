//! Steps for files: disks, seeds and base files that guests need, and files that nothing needs any more.
//!
//! Pure.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{Differ, Fate};
use crate::{
    names::{GuestName, HostName},
    plan::{
        blueprint::{Blueprint, GuestBlueprint},
        golden::Golden,
        observed::OnHost,
        step::{Impact, StepId, Work},
    },
};

impl Differ<'_> {
    pub(super) fn remove_files(
        &mut self,
        wanted: &Blueprint,
        fates: &[(&GuestBlueprint, Fate)],
        goldens: &[&Golden],
        only: Option<&BTreeSet<GuestName>>,
    ) {
        if self.observed.files.is_empty() {
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
        // Disks whose golden image is gone, and what a golden guest that somebody left has.
        let lost: BTreeSet<(&HostName, &PathBuf)> = {
            let of_clones = fates.iter().map(|(guest, _)| *guest).filter(|guest| self.lacks_golden(guest));
            let left = goldens.iter().map(|golden| &golden.guest);
            let paths = |guest: &'_ GuestBlueprint| guest.volumes.iter().map(|volume| volume.path.clone()).collect::<Vec<_>>();
            let lost: BTreeSet<PathBuf> = of_clones
                .flat_map(paths)
                .chain(left.flat_map(|guest| paths(guest).into_iter().chain(guest.seed.iter().map(|seed| seed.path.clone()))))
                .collect();
            self.observed.files.iter().filter(|file| lost.contains(&file.what)).map(|file| (&file.host, &file.what)).collect()
        };
        for OnHost { host, what: path } in &self.observed.files {
            let is_lost = lost.contains(&(host, path));
            if only.is_some() && !is_lost {
                continue;
            }
            let reason = match (needed.contains(&(host, path)), anew.contains(&(host, path))) {
                (true, _) if is_lost => "its golden image is missing",
                (true, false) => continue,
                (true, true) => "--provision",
                (false, _) => "nothing needs it",
            };
            self.doomed.insert((host.clone(), path.clone()));
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

    pub(super) fn files(&mut self, guest: &GuestBlueprint, fate: &Fate, reason: &str) -> Vec<StepId> {
        let mut made = self.fetches(guest);
        let freed: Vec<StepId> = self.freed.iter().chain(&made).cloned().collect();
        let anew = self.taints.provision && matches!(fate, Fate::Replace { .. });
        for volume in &guest.volumes {
            if anew || self.is_gone(guest, &volume.path) {
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
        if let Some(seed) = guest.seed.as_ref().filter(|_| !matches!(fate, Fate::Start { .. }))
            && (self.observed.seed(&guest.host, &seed.path) != Some(&seed.digest) || self.is_gone(guest, &seed.path))
        {
            let work = Work::WriteSeed { seed: seed.clone() };
            // The guest before it may still read it.
            let gone = if self.doomed.contains(&(guest.host.clone(), seed.path.clone())) { freed } else { Vec::new() };
            let needs = self.removed.get(&guest.name).into_iter().cloned().chain(gone).collect();
            made.push(self.push(
                format!("seed/{}", guest.name),
                guest.host.clone(),
                work,
                needs,
                (reason, Impact::Create),
                vec![guest.name.clone()],
            ));
        }
        made
    }

    /// A file is not there, or this plan removes it before.
    fn is_gone(&self, guest: &GuestBlueprint, path: &Path) -> bool {
        !self.observed.has_file(&guest.host, path) || self.doomed.contains(&(guest.host.clone(), path.to_path_buf()))
    }

    /// Base files that the guest's host does not have; each goes to a host once.
    pub(super) fn fetches(&mut self, guest: &GuestBlueprint) -> Vec<StepId> {
        let mut steps = Vec::new();
        for base in &guest.bases {
            if base.golden.is_some() {
                steps.extend(self.golden_base(guest, base));
                continue;
            }
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
}
