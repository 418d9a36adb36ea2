//! The master's host and the members as one: each step goes to its host, a look asks them all.
//!
//! Decides nothing about the work; a host that does not answer is told, never taken for an empty one.

use std::collections::{BTreeMap, BTreeSet};

use kvm_compose::{
    api::{
        cluster::MemberState,
        link::{LinkMeasured, LinkReport},
    },
    backend::local::{LocalHost, port_names},
    error::{Code, Problem},
    names::{DeploymentName, GuestName, HostName},
    orchestrate::host::{Cancel, Context, Host},
    plan::{
        blueprint::Blueprint,
        observed::Observed,
        site::{Hosts, Site, Standing},
        step::Work,
    },
    topology::Leases,
};

use crate::cluster::{
    Cluster,
    calls::Patience,
    places::Placed,
    wire::{Call, Seat},
};

/// All hosts, as one operation or one look sees them.
pub struct Fleet<'a> {
    /// The master's own host.
    pub local: &'a LocalHost,
    /// The others, when there is a cluster.
    pub cluster: Option<&'a Cluster>,
    /// How long members are waited for.
    pub patience: Patience,
    /// Asks to stop.
    pub cancel: &'a Cancel,
}

/// Members that answered, each with its answer, and those that did not, each with the reason.
type Answers<T> = (Vec<(HostName, T)>, BTreeMap<HostName, String>);

impl Fleet<'_> {
    fn placed(&self, deployment: &DeploymentName) -> Result<Placed, Problem> {
        self.cluster.map_or(Ok(Placed::default()), |cluster| cluster.places.read(deployment))
    }

    /// Asks every member at once. One that `matters` and fails to look fails the whole; one that is away is told.
    fn ask<T: serde::de::DeserializeOwned + Send>(
        &self,
        call: impl Fn(&HostName) -> Call + Sync,
        otherwise: Patience,
        matters: impl Fn(&HostName) -> bool + Sync,
    ) -> Result<Answers<T>, Problem> {
        let Some(cluster) = self.cluster else { return Ok((Vec::new(), BTreeMap::new())) };
        let (mut answered, mut away) = (Vec::new(), BTreeMap::new());
        let mut asked = Vec::new();
        for (host, state) in cluster.states() {
            match state {
                MemberState::Ready | MemberState::Suspect => asked.push(host),
                MemberState::Joining | MemberState::Lost => drop(away.insert(host.clone(), cluster.why_away(&host))),
                MemberState::Left => {}
            }
        }
        let ask = |host: &HostName| {
            // A member that has nothing to do with it is not waited for when it does not answer.
            let patience = if matters(host) { self.patience } else { otherwise };
            cluster.call::<T>(host, &call(host), patience, self.cancel, &|_| {})
        };
        let results: Vec<Result<T, Problem>> = std::thread::scope(|scope| {
            let threads: Vec<_> = asked.iter().map(|host| scope.spawn(|| ask(host))).collect();
            let ended =
                threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(Problem::internal("asking a member panicked"))));
            ended.collect()
        });
        for (host, result) in asked.into_iter().zip(results) {
            match result {
                Ok(answer) => answered.push((host, answer)),
                Err(problem) if problem.code == Code::HostAway => drop(away.insert(host.clone(), cluster.why_away(&host))),
                Err(problem) if matters(&host) => return Err(problem.cause(format!("on host `{host}`"))),
                Err(problem) => tracing::warn!(%host, %problem, "a member cannot be looked at"),
            }
        }
        Ok((answered, away))
    }

    /// Where guests can stand, and stand already.
    pub fn hosts(&self, deployment: &DeploymentName) -> Result<Hosts, Problem> {
        let placed = self.placed(deployment)?;
        let mut hosts = self.local.alone(deployment)?;
        let call = |_: &HostName| Call::Site { deployment: deployment.clone(), at_once: false };
        let (seats, away) = self.ask::<Seat>(call, SEAT, |host| placed.hosts.contains(host))?;
        seat(&mut hosts, seats);
        // Where nobody can be asked, the record says who was told to stand there.
        for (guest, host) in placed.guests.into_iter().filter(|(_, host)| away.contains_key(host)) {
            hosts.standing.entry(guest).or_insert(Standing { host, running: true });
        }
        hosts.away = away;
        Ok(hosts)
    }

    /// As [`Fleet::hosts`], to look at what is there: nothing is refused for want of room, and a host that is away is
    /// taken to be as the master's.
    pub fn hosts_at_a_glance(&self, deployment: &DeploymentName) -> Result<Hosts, Problem> {
        let placed = self.placed(deployment)?;
        let mut hosts = Hosts { standing: self.local.standing(deployment)?, ..Hosts::alone(self.local.site_at_once()?) };
        let call = |_: &HostName| Call::Site { deployment: deployment.clone(), at_once: true };
        let (seats, away) = self.ask::<Seat>(call, LOOK, |_| false)?;
        seat(&mut hosts, seats);
        let missing = away.into_keys().map(|host| Site { host, ..hosts.master.clone() });
        let missing: Vec<Site> = missing.collect();
        hosts.members.extend(missing);
        for (guest, host) in placed.guests {
            hosts.standing.entry(guest).or_insert(Standing { host, running: false });
        }
        for site in std::iter::once(&mut hosts.master).chain(&mut hosts.members) {
            site.free_memory_mb = u64::MAX;
        }
        Ok(hosts)
    }

    /// Puts on record where guests are about to stand, before anything is made there.
    pub fn settle(&self, blueprint: &Blueprint) -> Result<(), Problem> {
        let Some(cluster) = self.cluster else { return Ok(()) };
        let mut placed = cluster.places.read(&blueprint.deployment)?;
        placed.guests = places_of(blueprint);
        placed.hosts.extend(members_of(blueprint));
        cluster.places.write(&blueprint.deployment, &placed)
    }

    /// After success: hosts that answer and have nothing of the deployment any more are forgotten.
    pub fn settled(&self, blueprint: &Blueprint) -> Result<(), Problem> {
        let Some(cluster) = self.cluster else { return Ok(()) };
        let states = cluster.states();
        let mut placed = cluster.places.read(&blueprint.deployment)?;
        let used = members_of(blueprint);
        placed.hosts.retain(|host| used.contains(host) || states.get(host).is_some_and(|state| *state != MemberState::Ready));
        cluster.places.write(&blueprint.deployment, &placed)
    }

    /// Adds what is measured of links, all at once.
    pub fn measure(&self, deployment: &DeploymentName, links: Vec<&mut LinkReport>, probe: bool) -> Result<(), Problem> {
        let here = self.local.config().host.as_str();
        let ask = |host: &str, port: uuid::Uuid| -> Result<Option<LinkMeasured>, Problem> {
            let member = self.cluster.filter(|_| host != here);
            let Some(cluster) = member else { return self.local.measure_link(deployment, port, probe) };
            let call = Call::MeasureLink { deployment: deployment.clone(), port, probe };
            cluster.call(&HostName::new(host)?, &call, PROBE, self.cancel, &|_| {})
        };
        std::thread::scope(|scope| {
            let asked: Vec<_> = links
                .into_iter()
                .map(|link| {
                    (
                        scope.spawn({
                            let (host, port) = (link.host.clone(), link.port);
                            move || ask(&host, port)
                        }),
                        link,
                    )
                })
                .collect();
            for (thread, link) in asked {
                let measured = thread.join().unwrap_or_else(|_| Err(Problem::internal("measuring a link panicked")))?;
                if let Some(LinkMeasured { to_guest, from_guest }) = measured {
                    for (direction, found) in [(&mut link.to_guest, to_guest), (&mut link.from_guest, from_guest)] {
                        (direction.probed, direction.traffic) = (found.probed, Some(found.traffic));
                    }
                }
            }
            Ok(())
        })
    }

    /// The member that a guest stands on; nothing for the master's own host.
    pub fn member_of(&self, deployment: &DeploymentName, guest: &GuestName) -> Result<Option<HostName>, Problem> {
        let host = self.placed(deployment)?.guests.remove(guest);
        Ok(host.filter(|host| *host != self.local.config().host))
    }

    /// Everything with the master's mark on members that answer.
    pub fn marked(&self) -> Result<Vec<(String, DeploymentName)>, Problem> {
        let mut marked = self.local.marked()?;
        let (answers, _) = self.ask::<Vec<(String, DeploymentName)>>(|_| Call::Marked, LOOK, |_| false)?;
        for (host, found) in answers {
            marked.extend(found.into_iter().map(|(what, deployment)| (format!("{what} on {host}"), deployment)));
        }
        Ok(marked)
    }
}

/// A host that has just joined may be testing whether KVM works there.
const SEAT: Patience = Patience::Look(std::time::Duration::from_secs(20));

/// A probe waits for its frames on a slow link.
const PROBE: Patience = Patience::Look(std::time::Duration::from_secs(30));

/// A look does not wait for a host that hangs.
pub const LOOK: Patience = Patience::Look(std::time::Duration::from_secs(5));

fn seat(hosts: &mut Hosts, seats: Vec<(HostName, Seat)>) {
    for (host, Seat { site, standing }) in seats {
        let standing = standing.into_iter().map(|(guest, running)| (guest, Standing { host: host.clone(), running }));
        for (guest, at) in standing {
            hosts.standing.entry(guest).or_insert(at);
        }
        hosts.members.push(Site { host, ..site });
    }
}

fn places_of(blueprint: &Blueprint) -> BTreeMap<GuestName, HostName> {
    blueprint.guests.iter().map(|guest| (guest.name.clone(), guest.host.clone())).collect()
}

fn members_of(blueprint: &Blueprint) -> BTreeSet<HostName> {
    blueprint.guests.iter().map(|guest| guest.host.clone()).filter(|host| *host != blueprint.master).collect()
}

impl Host for Fleet<'_> {
    fn observe(&self, deployment: &DeploymentName, wanted: Option<&Blueprint>) -> Result<Observed, Problem> {
        let mut observed = self.local.observe(deployment, wanted)?;
        if self.cluster.is_none() {
            return Ok(observed);
        }
        let ports = port_names(&observed);
        let placed = self.placed(deployment)?;
        let stands = |host: &HostName| wanted.is_some_and(|wanted| wanted.guests.iter().any(|guest| guest.host == *host));
        let matters = |host: &HostName| placed.hosts.contains(host) || stands(host);
        let call = |host: &HostName| Call::Observe {
            deployment: deployment.clone(),
            wanted: wanted.map(|wanted| Box::new(part(wanted, host))),
            ports: ports.clone(),
        };
        let (answers, away) = self.ask::<Observed>(call, LOOK, matters)?;
        for (_, other) in answers {
            observed.merge(other);
        }
        observed.away.extend(away.into_iter().filter(|(host, _)| matters(host)));
        Ok(observed)
    }

    fn leases(&self, deployment: &DeploymentName) -> Result<Leases, Problem> {
        self.local.leases(deployment)
    }

    fn apply(&self, work: &Work, context: &Context<'_>) -> Result<(), Problem> {
        let member = self.cluster.filter(|_| *context.host != self.local.config().host);
        let Some(cluster) = member else { return self.local.apply(work, context) };
        let (deployment, work) = (context.deployment.clone(), Box::new(self.local.known_work(work, context.cancel)?));
        let call = Call::Apply { deployment, operation: context.operation, work };
        cluster.call::<()>(context.host, &call, Patience::UntilLost, context.cancel, context.say)
    }

    fn sweep(&self, deployment: &DeploymentName) -> Result<(), Problem> {
        let placed = self.placed(deployment)?;
        let (_, away) = self.ask::<()>(|_| Call::Sweep { deployment: deployment.clone() }, LOOK, |host| placed.hosts.contains(host))?;
        self.local.sweep(deployment)?;
        let Some(cluster) = self.cluster else { return Ok(()) };
        let hosts = placed.hosts.into_iter().filter(|host| away.contains_key(host)).collect();
        cluster.places.write(deployment, &Placed { guests: BTreeMap::new(), hosts })
    }
}

/// What is wanted on one host.
fn part(wanted: &Blueprint, host: &HostName) -> Blueprint {
    let guests = wanted.guests.iter().filter(|guest| guest.host == *host).cloned().collect();
    Blueprint {
        installation: wanted.installation,
        deployment: wanted.deployment.clone(),
        master: wanted.master.clone(),
        folder: wanted.folder.clone(),
        rows: Vec::new(),
        guests,
        goldens: Vec::new(),
        outside: wanted.outside.on(host),
    }
}
