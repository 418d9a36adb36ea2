//! A testbed file read, resolved, placed and lowered for the hosts there are.
//!
//! Brings the effects (files, leases, sums) and the pure steps together; decides nothing.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::LocalHost;
use crate::{
    diagnostic::problem_of,
    error::Problem,
    names::DeploymentName,
    orchestrate::host::{Cancel, Host},
    plan::{
        self,
        blueprint::{Blueprint, Sum},
        site::{Accelerator, Hosts, Site},
    },
    project, rules,
    spec::Sources,
    topology::{self, Guest, GuestKind, Leases, Loaded},
};

/// What a testbed file is prepared for.
#[derive(Clone, Copy)]
pub enum Purpose<'a> {
    /// To compare with what is there, for people: large files are not read.
    Looking,
    /// To plan it; nothing is made. May be told to stop.
    Planning(&'a Cancel),
    /// To carry it out; may be told to stop.
    Doing(&'a Cancel),
}

impl<'a> Purpose<'a> {
    /// Asks to stop; a look is not asked.
    fn cancel(self) -> Option<&'a Cancel> {
        match self {
            Purpose::Looking => None,
            Purpose::Planning(cancel) | Purpose::Doing(cancel) => Some(cancel),
        }
    }
}

/// A testbed file turned into a blueprint for this host.
pub struct Prepared {
    /// The file, read and resolved.
    pub loaded: Loaded,
    /// The blueprint.
    pub blueprint: Blueprint,
    /// Warnings of the place (TCG instead of KVM), beside those of the file.
    pub warnings: Vec<String>,
}

impl LocalHost {
    /// Reads, resolves, places and lowers a testbed file. `hosts` is asked for once the file is found good.
    pub fn prepare(
        &self,
        deployment: &DeploymentName,
        sources: &Sources,
        project: &Path,
        purpose: Purpose<'_>,
        hosts: impl FnOnce() -> Result<Hosts, Problem>,
    ) -> Result<Prepared, Problem> {
        self.prepare_with(deployment, sources, project, purpose, (hosts, &self.leases(deployment)?))
    }

    /// The same with the addresses that guests are to have, whatever they have now.
    pub fn prepare_with(
        &self,
        deployment: &DeploymentName,
        sources: &Sources,
        project: &Path,
        purpose: Purpose<'_>,
        (hosts, leases): (impl FnOnce() -> Result<Hosts, Problem>, &Leases),
    ) -> Result<Prepared, Problem> {
        let mut loaded = topology::load_all(sources, deployment, leases).map_err(|problem| match purpose.cancel() {
            Some(cancel) => rules::with_judged(problem, sources, deployment, cancel),
            None => problem,
        })?;
        // Before anything is looked at: what is refused is refused all at once.
        if let (Some(cancel), Some(refused)) = (purpose.cancel(), topology::refused(&sources.file, &loaded)) {
            return Err(rules::with_judged(refused, sources, deployment, cancel));
        }
        let mut allowed: Vec<&Path> = self.config.allowed_image_dirs.iter().map(PathBuf::as_path).collect();
        allowed.push(&self.config.images_dir);
        let catalogue = self.read_catalogue()?;
        let mut files = project::read(&loaded.topology, &project::Places { project, allowed, catalogue: Some(&catalogue) })
            .map_err(|faults| problem_of(&sources.file, faults).unwrap_or_else(|| Problem::internal("a fault without a fault")))?;
        files.images = self.stored_images(&loaded.topology, matches!(purpose, Purpose::Looking))?;
        self.read_contexts(&loaded.topology, &mut files, purpose.cancel())?;
        let is_cloud = |guest: &Guest| matches!(guest.kind, GuestKind::CloudImage { .. });
        if loaded.topology.guests.iter().any(is_cloud) {
            files.ssh_key = Some(match purpose {
                Purpose::Doing(cancel) => self.make_key(deployment, cancel)?,
                Purpose::Planning(_) | Purpose::Looking => self.known_key(deployment)?,
            });
        }
        if let Some(cancel) = purpose.cancel() {
            let judged = rules::judge(&loaded.topology, cancel)?;
            if let Some(problem) = problem_of(&sources.file, judged.clone()) {
                return Err(problem);
            }
            loaded.warnings.extend(judged);
        }
        let mut hosts = hosts()?;
        if let (Some(_), Some(refused)) = (purpose.cancel(), plan::refused(sources, &loaded.topology, &hosts)) {
            return Err(refused);
        }
        if matches!(purpose, Purpose::Looking) {
            // A host that the file names and the cluster does not have hinders `up`, not a look.
            let named = loaded.topology.guests.iter().filter_map(|guest| guest.placement.host.as_ref().map(|host| &host.name));
            let gateways = loaded.topology.routers.iter().flat_map(|router| &router.ports);
            let named = named.chain(gateways.filter_map(|port| port.gateway_chassis.as_ref().map(|host| &host.name)));
            let missing: BTreeSet<_> =
                named.filter(|name| hosts.find(name).is_none() && !matches!(name.as_str(), "main" | "master")).cloned().collect();
            hosts.members.extend(missing.into_iter().map(|host| Site { host, ..hosts.master.clone() }).collect::<Vec<_>>());
        }
        let places = plan::place(&loaded.topology.guests, &hosts)?;
        if let Some(cancel) = purpose.cancel() {
            self.pack_contexts(&loaded.topology, &hosts, &places, &files, cancel)?;
        }
        let travelling = plan::travelling(&loaded.topology, &hosts, &places, &files);
        let sum = |path: &Path| match purpose {
            Purpose::Planning(cancel) | Purpose::Doing(cancel) => self.sums.of(path, cancel),
            Purpose::Looking => Ok(Sum { sha256: String::new(), bytes: 0 }),
        };
        let sums: Result<plan::Sums, Problem> = travelling.into_iter().map(|path| sum(&path).map(|sum| (path, sum))).collect();
        let blueprint = plan::lower(&loaded.topology, &hosts, &places, &files, &sums?)?;
        let used = hosts.all().filter(|site| blueprint.guests.iter().any(|guest| guest.host == site.host));
        let warnings = used.filter_map(|site| match &site.accelerator {
            Accelerator::Kvm => None,
            Accelerator::Tcg { reason } if hosts.members.is_empty() => Some(format!("guests run without KVM and are slower: {reason}")),
            Accelerator::Tcg { reason } => Some(format!("guests on `{}` run without KVM and are slower: {reason}", site.host)),
        });
        let warnings = warnings.collect();
        Ok(Prepared { loaded, blueprint, warnings })
    }
}
