//! Looking at the world: domains, rows, files, bridge ports, agents.
//!
//! A part that does not answer is an error: an unknown world is never taken for an empty one. Changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use uuid::Uuid;

use super::LocalHost;
use crate::{
    backend::{
        files::{bases, seed},
        hypervisor::{DomainFact, Hypervisor, Listing, OtherDomain},
        link::is_link_device,
    },
    error::Problem,
    guest::{agent::Agent, script},
    names::{DeploymentName, GuestName},
    orchestrate::host::Cancel,
    plan::{
        blueprint::{Blueprint, Column, GuestBlueprint, Table},
        container::Runtime,
        golden::Golden,
        observed::{MissingBase, Observed, ObservedDomain, OnHost, Stranger},
    },
};

/// How many agents are asked at once.
const AGENTS_AT_ONCE: usize = 8;
/// How long an agent may take to say that it is there.
const PING_LIMIT_S: u32 = 2;

impl LocalHost {
    /// What is there of a deployment: the logical network, and what stands on this host.
    pub(super) fn look(&self, deployment: &DeploymentName, wanted: Option<&Blueprint>) -> Result<Observed, Problem> {
        // libvirt and OVN know nothing of each other: ask both at once.
        let (listing, network) = std::thread::scope(|scope| {
            let network = scope.spawn(|| self.look_at_network(deployment, wanted));
            let listing = self.listing(deployment);
            (listing, network.join().unwrap_or_else(|_| Err(Problem::internal("looking at the network panicked"))))
        });
        let (listing, mut observed) = (listing?, network?);
        let ports = port_names(&observed);
        observed.merge(self.look_at_guests(deployment, wanted, &listing, &ports)?);
        Ok(observed)
    }

    /// The logical network alone.
    fn look_at_network(&self, deployment: &DeploymentName, wanted: Option<&Blueprint>) -> Result<Observed, Problem> {
        let (rows, strangers) = self.northbound.observe(&self.owner(deployment), wanted)?;
        Ok(Observed { rows, strangers, ..Observed::default() })
    }

    /// What stands on this host. `ports` names logical ports of the deployment that no guest here may have any more.
    pub fn look_here(
        &self,
        deployment: &DeploymentName,
        wanted: Option<&Blueprint>,
        ports: &BTreeSet<String>,
    ) -> Result<Observed, Problem> {
        self.look_at_guests(deployment, wanted, &self.listing(deployment)?, ports)
    }

    fn listing(&self, deployment: &DeploymentName) -> Result<Listing, Problem> {
        let owner = self.owner(deployment);
        self.libvirt.domains(&|mark| mark.is_of(&owner))
    }

    fn look_at_guests(
        &self,
        deployment: &DeploymentName,
        wanted: Option<&Blueprint>,
        listing: &Listing,
        ports: &BTreeSet<String>,
    ) -> Result<Observed, Problem> {
        let here = |guest: &&GuestBlueprint| guest.host == self.config.host;
        let wanted_here: Vec<&GuestBlueprint> = wanted.iter().flat_map(|wanted| wanted.guests.iter().filter(here)).collect();
        let (outside, elsewhere) = self.look_outside(deployment, wanted)?;
        let files = self.folder(deployment).files()?;
        let contained = self.look_at_containers(deployment, &wanted_here, &files)?;
        let goldens: Vec<&Golden> =
            wanted.iter().filter(|wanted| wanted.master == self.config.host).flat_map(|wanted| &wanted.goldens).collect();
        let made_here: Vec<&GuestBlueprint> = wanted_here.iter().copied().chain(goldens.iter().map(|golden| &golden.guest)).collect();
        let strangers = strange_domains(&made_here, listing).into_iter().chain(elsewhere).chain(contained.strangers).collect();
        let mut domains = self.domains(&listing.ours, &wanted_here)?;
        domains.extend(contained.domains);
        let plugged = self.switch.ports(&iface_ids(ports, &domains, &wanted_here), &vm_ids(&domains, &wanted_here))?;
        let links = self.links(deployment).observe()?;
        let missing_bases = match wanted {
            Some(_) => self.missing_bases(&made_here, &goldens)?,
            None => Vec::new(),
        };
        let seeds = seed::observed(&files);
        Ok(Observed {
            domains,
            files: files.into_iter().map(|what| OnHost { host: self.config.host.clone(), what }).collect(),
            seeds: seeds.into_iter().map(|what| OnHost { host: self.config.host.clone(), what }).collect(),
            // Ports of ours belong to their links.
            bridge_ports: plugged
                .into_iter()
                .filter(|port| !is_link_device(&port.name))
                .map(|what| OnHost { host: self.config.host.clone(), what })
                .chain(contained.ports)
                .collect(),
            images: contained.images,
            links: links.into_iter().map(|what| OnHost { host: self.config.host.clone(), what }).collect(),
            strangers,
            missing_bases,
            outside,
            switch_down: self.switch.runs().err().map(|why| (self.config.host.clone(), why)).into_iter().collect(),
            ..Observed::default()
        })
    }

    fn missing_bases(&self, wanted: &[&GuestBlueprint], goldens: &[&Golden]) -> Result<Vec<MissingBase>, Problem> {
        let paths = wanted.iter().flat_map(|guest| guest.bases.iter().map(|base| &base.path));
        let paths = paths.chain(goldens.iter().map(|golden| &golden.path));
        let missing = bases::missing(paths, self.user_of_qemu()?);
        Ok(missing.into_iter().map(|(path, why)| MissingBase { host: self.config.host.clone(), path, why }).collect())
    }

    /// libvirt's facts, and what the agents of wanted guests say.
    fn domains(&self, facts: &[DomainFact], wanted: &[&GuestBlueprint]) -> Result<Vec<ObservedDomain>, Problem> {
        let guests: BTreeMap<Uuid, &GuestBlueprint> = wanted.iter().map(|guest| (guest.domain.uuid, *guest)).collect();
        let asked: Vec<(Uuid, &GuestBlueprint)> =
            facts.iter().filter(|fact| fact.state.is_running()).filter_map(|fact| Some((fact.uuid, *guests.get(&fact.uuid)?))).collect();
        let mut answers = self.ask_agents(&asked)?;
        let observed = |fact: &DomainFact| {
            let answer = answers.remove(&fact.uuid);
            Some(ObservedDomain {
                name: fact.name.clone(),
                uuid: fact.uuid,
                guest: GuestName::new(&fact.mark.guest).ok()?,
                host: self.config.host.clone(),
                digest: fact.mark.digest.clone(),
                active: fact.state.is_active(),
                state: fact.state.to_string(),
                agent: answer.is_some(),
                scripts: answer.unwrap_or_default(),
                memory_mb: fact.memory_mb,
                cpus: fact.cpus,
                network: fact.mark.network.clone(),
                nics: fact.nics.clone(),
                down: fact.down.clone(),
                runtime: Runtime::Libvirt,
                image: String::new(),
            })
        };
        Ok(facts.iter().filter_map(observed).collect())
    }

    /// Domains whose agent answers, with the scripts that have run in them.
    fn ask_agents(&self, asked: &[(Uuid, &GuestBlueprint)]) -> Result<BTreeMap<Uuid, BTreeSet<String>>, Problem> {
        let next = AtomicUsize::new(0);
        let answers = Mutex::new(BTreeMap::new());
        let failed = Mutex::new(None);
        let work = || {
            while let Some((uuid, guest)) = asked.get(next.fetch_add(1, Ordering::Relaxed)) {
                if Agent::new(&self.libvirt, *uuid, PING_LIMIT_S).ping().is_err() {
                    continue;
                }
                let scripts = if guest.scripts.is_empty() && guest.context.is_none() {
                    Ok(BTreeSet::new())
                } else {
                    let cancel = Cancel::new();
                    script::marks(&script::Guest { hypervisor: &self.libvirt, guest: guest.name.as_str(), domain: *uuid, cancel: &cancel })
                };
                match scripts {
                    Ok(scripts) => drop(answers.lock().insert(*uuid, scripts)),
                    // It answered a moment ago, so what has run in it is unknown, not nothing.
                    Err(problem) => drop(failed.lock().get_or_insert(problem)),
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..AGENTS_AT_ONCE.min(asked.len()) {
                scope.spawn(work);
            }
        });
        match failed.into_inner() {
            Some(problem) => Err(problem),
            None => Ok(answers.into_inner()),
        }
    }

    /// Asked once: libvirt's settings do not change while it runs.
    pub(super) fn user_of_qemu(&self) -> Result<Option<(u32, u32)>, Problem> {
        let mut known = self.qemu_ids.lock();
        if known.is_none() {
            *known = self.libvirt.qemu_ids()?;
        }
        Ok(*known)
    }
}

fn strange_domains(wanted: &[&GuestBlueprint], listing: &Listing) -> Vec<Stranger> {
    let wanted: Vec<_> = wanted.iter().filter(|guest| guest.domain.runtime() == Runtime::Libvirt).collect();
    let is_needed = |other: &&OtherDomain| wanted.iter().any(|guest| guest.domain.name == other.name || guest.domain.uuid == other.uuid);
    let stranger = |other: &OtherDomain| match &other.mark {
        Some(mark) => Stranger::of_installation("domain", &other.name, &mark.installation, &mark.deployment),
        None => Stranger {
            kind: "domain".to_string(),
            name: other.name.clone(),
            hint: format!("it carries no mark of ours; look at it with `virsh dumpxml {}`", other.name),
            installation: None,
            deployment: None,
        },
    };
    listing.others.iter().filter(is_needed).map(stranger).collect()
}

/// Names of the deployment's logical ports that are there.
pub fn port_names(observed: &Observed) -> BTreeSet<String> {
    let ports = observed.rows.iter().filter(|row| row.table == Table::LogicalSwitchPort);
    let names = ports.filter_map(|row| match row.columns.get("name") {
        Some(Column::Text(name)) => Some(name.clone()),
        _ => None,
    });
    names.collect()
}

/// The `iface-id`s of the plugs that belong to the deployment.
fn iface_ids(ports: &BTreeSet<String>, domains: &[ObservedDomain], wanted: &[&GuestBlueprint]) -> BTreeSet<String> {
    let plugged = domains.iter().flat_map(ObservedDomain::ports);
    let planned = wanted.iter().flat_map(|guest| guest.domain.ports());
    ports.iter().cloned().chain(plugged.chain(planned).map(|port| port.to_string())).collect()
}

fn vm_ids(domains: &[ObservedDomain], wanted: &[&GuestBlueprint]) -> BTreeSet<Uuid> {
    let planned = wanted.iter().map(|guest| guest.domain.uuid);
    domains.iter().map(|domain| domain.uuid).chain(planned).collect()
}
