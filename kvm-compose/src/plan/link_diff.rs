//! Links wanted against links there → steps, put between those of the guests they belong to.
//!
//! Pure. A link is shaped in place: its guest is named, keeps running, and loses a frame or two at most. A guest that starts
//! gets a new device, so what stood in its place goes before it starts, and its links are shaped after.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{
    blueprint::{Blueprint, GuestBlueprint},
    link::{Link, ObservedLink, words},
    observed::{Observed, ObservedDomain, OnHost},
    step::{Impact, Step, StepId, Work},
};
use crate::names::GuestName;

/// The steps with those of links among them.
pub fn with_links(steps: Vec<Step>, wanted: &Blueprint, observed: &Observed, only: Option<&BTreeSet<GuestName>>) -> Vec<Step> {
    let lookup = Lookup::new(&steps, wanted, observed);
    let chosen = |guest: &GuestName| only.is_none_or(|only| only.contains(guest));
    let mut before: Vec<Step> = Vec::new();
    for link in &observed.links {
        before.extend(lookup.undone(link, wanted, &chosen));
    }
    let mut after: BTreeMap<&GuestName, Vec<Step>> = BTreeMap::new();
    for guest in wanted.guests.iter().filter(|guest| chosen(&guest.name)) {
        let made = guest.links.iter().flat_map(|link| lookup.made(guest, link));
        let made: Vec<Step> = made.collect();
        if !made.is_empty() {
            after.insert(&guest.name, made);
        }
    }
    if before.is_empty() && after.is_empty() {
        return steps;
    }
    let plugs: BTreeSet<StepId> = lookup.plugged.values().cloned().collect();
    let (started, gone) = (lookup.started, before.iter().map(|step| step.id.clone()).collect::<Vec<_>>());
    let running: Vec<Step> = wanted
        .guests
        .iter()
        .filter(|guest| !started.contains_key(&guest.name))
        .filter_map(|guest| after.get(&guest.name))
        .flatten()
        .filter(|step| !step.needs.iter().any(|need| plugs.contains(need)))
        .cloned()
        .collect();
    let mut early = Some(before.into_iter().chain(running));
    let mut all = Vec::with_capacity(steps.len() + gone.len());
    for mut step in steps {
        let is_late =
            matches!(step.work, Work::StartDomain { .. } | Work::AttachNic { .. } | Work::AwaitReady { .. } | Work::RunScript { .. });
        all.extend(early.take_if(|_| is_late).into_iter().flatten());
        match &step.work {
            // Two devices with one `iface-id` would be one too many.
            Work::StartDomain { .. } | Work::AttachNic { .. } => step.needs.extend(gone.iter().cloned()),
            // Scripts find the links as the file says.
            Work::RunScript { guest, .. } => {
                step.needs.extend(after.get(guest).into_iter().flatten().map(|made| made.id.clone()));
            }
            _ => {}
        }
        let guest = match &step.work {
            Work::StartDomain { domain } => Some(domain.guest.clone()),
            _ => None,
        };
        let id = step.id.clone();
        all.push(step);
        if plugs.contains(&id) {
            all.extend(after.values().flatten().filter(|made| made.needs.contains(&id)).cloned());
        }
        all.extend(guest.and_then(|guest| after.get(&guest)).into_iter().flatten().cloned());
    }
    all.extend(early.into_iter().flatten());
    all
}

/// What steps and world say of guests and ports.
struct Lookup<'a> {
    /// Guest → the step that starts it.
    started: BTreeMap<GuestName, StepId>,
    /// Guests that get a new process: theirs is not there, or goes.
    anew: BTreeSet<GuestName>,
    /// Port → the step that plugs a NIC into it while its guest runs.
    plugged: BTreeMap<Uuid, StepId>,
    /// Port → the step that unplugs a NIC from it.
    unplugged: BTreeMap<Uuid, StepId>,
    /// Domain's name → the step that removes it.
    removed: BTreeMap<String, StepId>,
    links: BTreeMap<Uuid, &'a OnHost<ObservedLink>>,
    domains: BTreeMap<Uuid, &'a ObservedDomain>,
    wanted: BTreeMap<Uuid, (&'a GuestBlueprint, &'a Link)>,
}

impl<'a> Lookup<'a> {
    fn new(steps: &[Step], wanted: &'a Blueprint, observed: &'a Observed) -> Self {
        let (mut started, mut removed, mut anew) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let (mut plugged, mut unplugged) = (BTreeMap::new(), BTreeMap::new());
        // Those that go keep no device, whether or not they run.
        let mut running: BTreeSet<Uuid> = observed.domains.iter().filter(|there| there.active).map(|there| there.uuid).collect();
        for step in steps {
            if let Work::RemoveDomain { uuid, .. } = &step.work {
                running.remove(uuid);
            }
        }
        for step in steps {
            match &step.work {
                Work::StartDomain { domain } => {
                    // One that is only made to run again has its devices.
                    if !running.contains(&domain.uuid) {
                        anew.insert(domain.guest.clone());
                    }
                    started.insert(domain.guest.clone(), step.id.clone());
                }
                Work::AttachNic { nic, .. } => drop(plugged.insert(nic.port, step.id.clone())),
                Work::DetachNic { nic, .. } => drop(unplugged.insert(nic.port, step.id.clone())),
                Work::RemoveDomain { name, .. } => drop(removed.insert(name.clone(), step.id.clone())),
                _ => {}
            }
        }
        let ports = observed.domains.iter().flat_map(|domain| domain.ports().map(move |port| (port, domain)));
        let links = wanted.guests.iter().flat_map(|guest| guest.links.iter().map(move |link| (link.port, (guest, link))));
        Lookup {
            started,
            anew,
            plugged,
            unplugged,
            removed,
            links: observed.links.iter().map(|link| (link.what.port, link)).collect(),
            domains: ports.collect(),
            wanted: links.collect(),
        }
    }

    /// The step that makes a link plain that is no longer wanted, or whose guest starts anew.
    fn undone(&self, there: &OnHost<ObservedLink>, wanted: &Blueprint, chosen: &dyn Fn(&GuestName) -> bool) -> Option<Step> {
        let port = there.what.port;
        let (asked, domain) = (self.wanted.get(&port), self.domains.get(&port));
        let guest = asked.map(|(guest, _)| &guest.name).or(domain.map(|domain| &domain.guest));
        if !guest.is_none_or(chosen) {
            return None;
        }
        let elsewhere = asked.is_some_and(|(guest, _)| guest.host != there.host);
        let (reason, impact, in_place) = match asked {
            None => ("no longer in the file", Impact::Remove, false),
            Some(_) if elsewhere => ("its guest stands on another host now", Impact::Remove, false),
            Some((guest, _)) if self.anew.contains(&guest.name) => ("its guest starts anew", Impact::Remove, false),
            Some(_) if self.plugged.contains_key(&port) => ("its NIC is another", Impact::Remove, false),
            Some((_, link)) if link.shape.is_plain() => ("the file asks for none", Impact::InPlace, true),
            Some(_) => return None,
        };
        let label = match (asked, guest) {
            (Some((guest, link)), _) => format!("{}:{}", guest.name, link.interface),
            (None, Some(guest)) => format!("{guest}:{}", there.what.device),
            (None, None) => there.what.device.clone(),
        };
        let undo = match asked {
            Some((guest, link)) if in_place && there.what.fault.is_none() => {
                Some(Work::ShapeLink { guest: guest.name.clone(), link: Link { shape: there.what.shape, ..(*link).clone() }, before: None })
            }
            _ => None,
        };
        let mut id = format!("unlink/{label}");
        if there.host != wanted.master {
            id = format!("{id}@{}", there.host);
        }
        Some(Step {
            id: StepId::new(id),
            host: there.host.clone(),
            work: Work::UnshapeLink { port, label },
            needs: domain.and_then(|domain| self.removed.get(&domain.name)).into_iter().chain(self.unplugged.get(&port)).cloned().collect(),
            reason: reason.to_string(),
            impact,
            guests: guest.cloned().into_iter().collect(),
            traffic: Vec::new(),
            undo,
        })
    }

    /// The steps that make a guest's link as it is wanted.
    fn made(&self, guest: &GuestBlueprint, link: &Link) -> Vec<Step> {
        let mut made = Vec::new();
        let start = self.started.get(&guest.name);
        let plug = self.plugged.get(&link.port);
        let needs: Vec<StepId> = start.into_iter().chain(plug).cloned().collect();
        let anew = self.anew.contains(&guest.name) || plug.is_some();
        let impact = if anew { Impact::Create } else { Impact::InPlace };
        let step = |id: String, work: Work, reason: String| Step {
            id: StepId::new(id),
            host: guest.host.clone(),
            undo: work.undo(),
            work,
            needs: needs.clone(),
            reason,
            impact,
            guests: vec![guest.name.clone()],
            traffic: Vec::new(),
        };
        if let Some((reason, before)) = self.why(guest, link, anew) {
            let work = Work::ShapeLink { guest: guest.name.clone(), link: link.clone(), before };
            made.push(step(format!("link/{}:{}", guest.name, link.interface), work, reason));
        }
        // A definition that is kept keeps what it says of the link; one that is made anew says nothing.
        let kept = self.domains.get(&link.port).filter(|domain| plug.is_none() && !self.removed.contains_key(&domain.name));
        if kept.is_some_and(|domain| domain.down.contains(&link.port)) {
            let work = Work::SetCarrier {
                guest: guest.name.clone(),
                domain: guest.domain.name.clone(),
                uuid: guest.domain.uuid,
                interface: link.interface.clone(),
                port: link.port,
                up: true,
                runtime: guest.domain.runtime(),
            };
            made.push(step(format!("carrier/{}:{}", guest.name, link.interface), work, "it was taken down".to_string()));
        }
        made
    }

    /// Why a link has to be shaped, and what it did to frames before; nothing when it is as it is wanted.
    fn why(&self, guest: &GuestBlueprint, link: &Link, anew: bool) -> Option<(String, Option<crate::topology::Shape>)> {
        if link.shape.is_plain() {
            return None;
        }
        let there = self.links.get(&link.port).filter(|there| !anew && there.host == guest.host).map(|there| &there.what);
        match there {
            None if anew => Some(("new".to_string(), None)),
            None => Some(("the file asks for it".to_string(), None)),
            Some(ObservedLink { fault: Some(fault), .. }) => Some((fault.clone(), None)),
            Some(there) if there.shape != link.shape => Some((format!("it is {}", words(&there.shape)), Some(there.shape))),
            Some(_) => None,
        }
    }
}
