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
    // Interfaces that are plugged into a running guest: their links come after.
    let mut plugged: BTreeMap<StepId, Vec<Step>> = BTreeMap::new();
    for guest in wanted.guests.iter().filter(|guest| chosen(&guest.name)) {
        for link in &guest.links {
            let made = lookup.made(guest, link);
            match lookup.plugged.get(&plug_step(&guest.name, link)).filter(|_| !made.is_empty()) {
                Some(plug) => drop(plugged.insert(plug.clone(), made)),
                None if made.is_empty() => {}
                None => after.entry(&guest.name).or_default().extend(made),
            }
        }
    }
    if before.is_empty() && after.is_empty() && plugged.is_empty() {
        return steps;
    }
    let (started, gone) = (lookup.started, before.iter().map(|step| step.id.clone()).collect::<Vec<_>>());
    let running: Vec<Step> = wanted
        .guests
        .iter()
        .filter(|guest| !started.contains_key(&guest.name))
        .filter_map(|guest| after.get(&guest.name))
        .flatten()
        .cloned()
        .collect();
    let mut early = Some(before.into_iter().chain(running));
    let mut all = Vec::with_capacity(steps.len() + gone.len());
    for mut step in steps {
        let is_late = matches!(step.work, Work::StartDomain { .. } | Work::AwaitReady { .. } | Work::RunScript { .. })
            || plugged.contains_key(&step.id);
        all.extend(early.take_if(|_| is_late).into_iter().flatten());
        match &step.work {
            // Two devices with one `iface-id` would be one too many.
            Work::StartDomain { .. } => step.needs.extend(gone.iter().cloned()),
            // Scripts find the links as the file says.
            Work::RunScript { guest, .. } => {
                step.needs.extend(after.get(guest).into_iter().flatten().map(|made| made.id.clone()));
            }
            _ if plugged.contains_key(&step.id) => step.needs.extend(gone.iter().cloned()),
            _ => {}
        }
        let guest = match &step.work {
            Work::StartDomain { domain } => Some(domain.guest.clone()),
            _ => None,
        };
        let links = plugged.remove(&step.id);
        all.push(step);
        all.extend(links.into_iter().flatten());
        all.extend(guest.and_then(|guest| after.get(&guest)).into_iter().flatten().cloned());
    }
    all.extend(early.into_iter().flatten());
    all
}

/// The step that plugs an interface into a guest while it runs.
fn plug_step(guest: &GuestName, link: &Link) -> StepId {
    StepId(format!("plug/{guest}/{}", link.interface))
}

/// What steps and world say of guests and ports.
struct Lookup<'a> {
    /// Guest → the step that starts it.
    started: BTreeMap<GuestName, StepId>,
    /// Guests that get a new process: theirs is not there, or goes.
    anew: BTreeSet<GuestName>,
    /// Steps that plug an interface into a guest while it runs.
    plugged: BTreeSet<StepId>,
    /// Domain's name → the step that removes it.
    removed: BTreeMap<String, StepId>,
    links: BTreeMap<Uuid, &'a OnHost<ObservedLink>>,
    domains: BTreeMap<Uuid, &'a ObservedDomain>,
    wanted: BTreeMap<Uuid, (&'a GuestBlueprint, &'a Link)>,
}

impl<'a> Lookup<'a> {
    fn new(steps: &[Step], wanted: &'a Blueprint, observed: &'a Observed) -> Self {
        let (mut started, mut removed, mut anew) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        for step in steps {
            match &step.work {
                Work::StartDomain { domain } => {
                    // One that is only made to run again has its devices.
                    let active = observed.domains.iter().any(|there| there.uuid == domain.uuid && there.active);
                    if !active || steps.iter().any(|step| matches!(&step.work, Work::RemoveDomain { uuid, .. } if *uuid == domain.uuid)) {
                        anew.insert(domain.guest.clone());
                    }
                    started.insert(domain.guest.clone(), step.id.clone());
                }
                Work::RemoveDomain { name, .. } => drop(removed.insert(name.clone(), step.id.clone())),
                _ => {}
            }
        }
        let ports = observed.domains.iter().flat_map(|domain| domain.ports.iter().map(move |port| (*port, domain)));
        let links = wanted.guests.iter().flat_map(|guest| guest.links.iter().map(move |link| (link.port, (guest, link))));
        Lookup {
            plugged: steps.iter().map(|step| &step.id).filter(|id| id.0.starts_with("plug/")).cloned().collect(),
            started,
            anew,
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
            Some((guest, link)) if self.plugged.contains(&plug_step(&guest.name, link)) => {
                ("its interface is plugged anew", Impact::Remove, false)
            }
            Some((_, link)) if link.shape.is_plain() => ("the file asks for none", Impact::InPlace, true),
            Some(_) => return None,
        };
        let label = match (asked, guest) {
            (Some((guest, link)), _) => format!("{}:{}", guest.name, link.interface),
            // The file has no name for it; its guest may be gone by the next look, its device is not.
            (None, _) => there.what.device.clone(),
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
            id: StepId(id),
            host: there.host.clone(),
            work: Work::UnshapeLink { port, label },
            needs: domain.and_then(|domain| self.removed.get(&domain.name)).cloned().into_iter().collect(),
            reason: reason.to_string(),
            impact,
            guests: guest.cloned().into_iter().collect(),
            undo,
        })
    }

    /// The steps that make a guest's link as it is wanted.
    fn made(&self, guest: &GuestBlueprint, link: &Link) -> Vec<Step> {
        let mut made = Vec::new();
        let start = self.started.get(&guest.name);
        let plug = self.plugged.get(&plug_step(&guest.name, link));
        let needs: Vec<StepId> = start.into_iter().chain(plug).cloned().collect();
        let anew = self.anew.contains(&guest.name) || plug.is_some();
        let impact = if anew { Impact::Create } else { Impact::InPlace };
        let step = |id: String, work: Work, reason: String| Step {
            id: StepId(id),
            host: guest.host.clone(),
            undo: work.undo(),
            work,
            needs: needs.clone(),
            reason,
            impact,
            guests: vec![guest.name.clone()],
        };
        if let Some((reason, before)) = self.why(guest, link, anew) {
            let work = Work::ShapeLink { guest: guest.name.clone(), link: link.clone(), before };
            made.push(step(format!("link/{}:{}", guest.name, link.interface), work, reason));
        }
        // A definition that is kept keeps what it says of the link; one that is made anew says nothing.
        let kept = self.domains.get(&link.port).filter(|domain| !self.removed.contains_key(&domain.name));
        if kept.is_some_and(|domain| domain.down.contains(&link.port)) {
            let work = Work::SetCarrier {
                guest: guest.name.clone(),
                domain: guest.domain.name.clone(),
                uuid: guest.domain.uuid,
                interface: link.interface.clone(),
                port: link.port,
                up: true,
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
