//! `why`: gathers what is known of two guests and the way between them, and asks `kvm_compose::why` what it means.
//!
//! Changes nothing. Each question has a limit; what cannot be found out is a fact, too.

mod edge;

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use kvm_compose::{
    api::{CheckOutcome, ExecRequest, Traffic, WhyAnswer, WhyRequest},
    backend::local::{Prepared, Purpose},
    check::{self, Answer, ask},
    error::{Code, Place, Problem},
    names::{DeploymentName, GuestName, printable},
    orchestrate::{
        Operation,
        event::EventKind,
        host::{Cancel, Host as _},
    },
    plan::{
        blueprint::{Column, Table},
        diff_rows,
        observed::Observed,
    },
    spec::reader::suggestion,
    topology::{
        Assignment, Guest, Shape, Topology,
        checks::{Check, Expect, Probe, Target as Asked},
    },
    why::{
        self, Drift, End, Facts, Nic, Probed, Target, diagnose,
        facts::Rule,
        inside::{self, Inside},
        trace::{Packet, Traced},
    },
};

use super::{
    driver::{Driver as _, Project},
    fleet::LOOK,
    local::LocalDriver,
};

/// How long a guest may take to say what it sees, in seconds.
const INSIDE_S: u64 = 8;
/// How long a probe may take, in seconds.
const PROBE_S: u64 = 3;

/// A question, and what it is asked of.
struct Asking<'a> {
    driver: &'a LocalDriver,
    request: &'a WhyRequest,
    deployment: &'a DeploymentName,
    topology: &'a Topology,
    prepared: &'a Prepared,
    observed: &'a Observed,
    cancel: &'a Cancel,
}

/// Can one guest reach another, and what stands in the way?
pub fn answer(driver: &LocalDriver, project: &Project, request: &WhyRequest, operation: &Operation<'_>) -> Result<WhyAnswer, Problem> {
    let began = Instant::now();
    let say = |text: &str| operation.sink.emit(EventKind::Line { guest: None, text: text.to_string() });
    let deployment = &project.deployment;
    let fleet = driver.fleet(LOOK, operation.cancel);
    let hosts = || fleet.hosts_at_a_glance(deployment);
    let prepared = driver.host().prepare(deployment, &project.sources, &project.folder, Purpose::Looking, hosts)?;
    say("looking at guests and at the network's rows")?;
    let observed = fleet.observe(deployment, Some(&prepared.blueprint))?;
    operation.cancel.check()?;
    let topology = &prepared.loaded.topology;
    let asking = Asking { driver, request, deployment, topology, prepared: &prepared, observed: &observed, cancel: operation.cancel };
    let from = asking.guest(&request.from)?;
    say(&format!("asking guest `{}`, and sending a probe from it", from.name))?;
    let facts = asking.facts(from)?;
    operation.cancel.check()?;
    let verdict = diagnose(&facts);
    Ok(WhyAnswer {
        deployment: deployment.clone(),
        question: request.clone(),
        reachable: verdict.reachable,
        culprit: verdict.culprit,
        sentence: verdict.sentence,
        hint: verdict.hint,
        evidence: why::evidence(&facts),
        millis: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

impl Asking<'_> {
    fn guest(&self, name: &GuestName) -> Result<&Guest, Problem> {
        let guests = &self.topology.guests;
        guests.iter().find(|guest| guest.name == *name).ok_or_else(|| {
            let known: Vec<&str> = guests.iter().map(|guest| guest.name.as_str()).collect();
            let hint = suggestion(name.as_str(), &known).unwrap_or_else(|| format!("guests: {}", known.join(", ")));
            Problem::new(Code::NotFound, format!("`{}` has no guest `{name}`", self.deployment)).hint(hint)
        })
    }

    fn facts(&self, from: &Guest) -> Result<Facts, Problem> {
        let wrote = &self.request.to;
        // A guest, or one of its interfaces.
        let (word, interface) = wrote.split_once(':').map_or((wrote.as_str(), None), |(guest, nic)| (guest, Some(nic)));
        let named = self.topology.guests.iter().find(|guest| guest.name.as_str() == word);
        let chosen = named.zip(interface).and_then(|(guest, wanted)| guest.nics.iter().position(|nic| nic.name == wanted));
        if let (Some(guest), Some(wanted), None) = (named, interface, chosen) {
            let known: Vec<&str> = guest.nics.iter().map(|nic| nic.name.as_str()).collect();
            return Err(Problem::new(Code::NotFound, format!("guest `{}` has no interface `{}`", guest.name, printable(wanted)))
                .hint(format!("interfaces: {}", known.join(", "))));
        }
        let mut address = wrote.parse::<IpAddr>().ok();
        if let (None, None) = (named, address) {
            address = self.look_up(from, wrote);
        }
        let owner = |address: IpAddr| {
            self.topology.guests.iter().find(|guest| guest.nics.iter().flat_map(|nic| &nic.addresses).any(|one| one.net.addr() == address))
        };
        let to = named.or_else(|| address.and_then(owner));
        let address = address.or_else(|| named?.nics.get(chosen?)?.address_for(from));
        let (from_nic, to_nic) = nics(from, to, address);
        let address = address.or_else(|| to?.nics.get(to_nic?)?.address_for(from));
        let ipv4 = address.is_none_or(|address| address.is_ipv4());
        let own = from_nic.and_then(|index| from.nics[index].address_of(ipv4).or_else(|| from.nics[index].address()));
        // Both guests and the probe at once: each may wait for somebody who does not answer.
        let (inside, other, probe) = std::thread::scope(|scope| {
            let probe = scope.spawn(|| self.probe(from, address));
            let other = scope.spawn(|| to.map(|to| self.inside(to, own)));
            let inside = self.inside(from, address);
            let other = other.join().unwrap_or_else(|_| Some(Err("asking it panicked".to_string())));
            (inside, other, probe.join().unwrap_or_else(|_| Probed::NotSent("it panicked".to_string())))
        });
        let mut from_end = self.end(from, from_nic, inside);
        let mut to_end = to.map(|to| self.end(to, to_nic, other.unwrap_or_else(|| Err("it was not asked".to_string()))));
        self.bind(from, from_nic, &mut from_end);
        if let (Some(to), Some(end)) = (to, &mut to_end) {
            self.bind(to, to_nic, end);
        }
        let forward = address.and_then(|address| self.trace(from, from_nic, &from_end, address, false));
        // The way of the answers is only plain where no router changes addresses.
        let direct = to_end
            .as_ref()
            .is_some_and(|end| end.nic.as_ref().is_some_and(|nic| nic.addresses.iter().any(|net| Some(net.addr()) == address)));
        let back = match (to, &to_end, own) {
            (Some(to), Some(end), Some(own)) if direct => self.trace(to, to_nic, end, own, true),
            _ => None,
        };
        let joined = match (from_nic, to.zip(to_nic)) {
            (Some(own), Some((to, other))) => edge::joined(self.topology, &from.nics[own].switch, &to.nics[other].switch),
            _ => true,
        };
        let outside = address.filter(|_| to.is_none()).and_then(|address| {
            let config = self.driver.host().config();
            edge::outside(self.topology, &config.mappings, config.masquerade, from, from_nic?, address)
        });
        Ok(Facts {
            deployment: self.deployment.to_string(),
            by: self.request.by,
            from: from_end,
            to: Target { wrote: wrote.clone(), address, end: to_end },
            probe,
            forward,
            back,
            drift: self.drift(),
            acls: self.rules(),
            translated: edge::translated(self.topology),
            foreign: self.driver.host().foreign_rows(self.deployment).unwrap_or_default(),
            outside,
            joined,
            bridges: self.prepared.loaded.bridges,
            mtu: self.driver.host().site_at_once().map_or(1442, |site| u32::from(site.mtu)),
            behind: self.driver.host().network_behind().unwrap_or_default(),
        })
    }

    /// What a guest says of itself; the address matters to it.
    fn inside(&self, guest: &Guest, matters: Option<IpAddr>) -> Result<Inside, String> {
        let found = self.observed.domains.iter().find(|domain| domain.guest == guest.name);
        match found {
            Some(domain) if !domain.active || domain.state == "paused" => return Err(format!("it is {}", domain.state)),
            Some(domain) if !domain.agent => return Err("it gave no sign".to_string()),
            None => return Err("it is not there".to_string()),
            Some(_) => {}
        }
        let matters = matters.map_or_else(|| "-".to_string(), |address| address.to_string());
        let argv = ["sh", "-c", inside::SCRIPT, "sh", &matters].map(str::to_string).to_vec();
        let ended = self.exec(&guest.name, argv, INSIDE_S).map_err(|problem| problem.message)?;
        Ok(inside::read(&ended.0))
    }

    fn exec(&self, guest: &GuestName, argv: Vec<String>, timeout_s: u64) -> Result<(Vec<u8>, Vec<u8>, i32), Problem> {
        let request =
            ExecRequest { guest: guest.clone(), argv, environment: BTreeMap::new(), stdin_base64: None, timeout_s: Some(timeout_s) };
        let ended = self.driver.exec(self.deployment, &request, &[], self.cancel, &|_, _| {})?;
        Ok((ended.stdout, ended.stderr, ended.status))
    }

    /// Runs a check of our own from inside; nothing when it could not be asked.
    fn ask(&self, guest: &Guest, probe: Probe) -> (CheckOutcome, String) {
        let at = Place { file: String::new(), line: 0, column: 0 };
        let check = Check { name: "why".to_string(), guest: guest.name.clone(), probe, expect: Expect::Pass, timeout_s: PROBE_S, at };
        match self.exec(&guest.name, check::command(&check), ask::limit_s(&check)) {
            Ok((stdout, stderr, status)) => check::verdict(&check, Answer::Ended { status, stdout: &stdout, stderr: &stderr }),
            Err(problem) if problem.code == Code::Timeout => check::verdict(&check, Answer::Late),
            Err(problem) => (CheckOutcome::Error, problem.message),
        }
    }

    fn probe(&self, from: &Guest, to: Option<IpAddr>) -> Probed {
        let answers = self.observed.domains.iter().any(|domain| domain.guest == from.name && domain.agent);
        let Some(to) = to.filter(|_| answers) else { return Probed::NotSent("there was nobody to send it".to_string()) };
        let to = Asked { wrote: self.request.to.clone(), address: to.to_string() };
        let probe = match self.request.by {
            Traffic::Icmp => Probe::Ping { to, count: 2 },
            Traffic::Tcp(port) => Probe::Tcp { to, port },
            Traffic::Udp(_) => return Probed::NotSent("who gets UDP need not answer".to_string()),
        };
        match self.ask(from, probe) {
            (CheckOutcome::Passed, seen) => Probed::Reached(seen),
            (CheckOutcome::Failed, seen) => Probed::Failed(seen),
            (CheckOutcome::Error, why) => Probed::NotSent(why),
        }
    }

    fn look_up(&self, from: &Guest, name: &str) -> Option<IpAddr> {
        kvm_compose::spec::decode_checks::host_name(name).ok()?;
        let (outcome, seen) = self.ask(from, Probe::Dns { name: name.to_string(), address: None });
        (outcome == CheckOutcome::Passed).then(|| seen.split(", ").find_map(|address| address.parse().ok())).flatten()
    }

    fn end(&self, guest: &Guest, index: Option<usize>, inside: Result<Inside, String>) -> End {
        let domain = self.observed.domains.iter().find(|domain| domain.guest == guest.name);
        let host = self.prepared.blueprint.guests.iter().find(|one| one.name == guest.name).map(|one| &one.host);
        let away = host.and_then(|host| self.observed.away.get(host).map(|why| (host.to_string(), why.clone())));
        let switch_down = host.and_then(|host| self.observed.switch_down.get(host).map(|why| (host.to_string(), why.clone())));
        let nic = index.map(|index| {
            let (nic, port) = (&guest.nics[index], self.port(guest, index));
            let link = self.observed.links.iter().find(|link| link.what.port == port).map(|link| &link.what);
            let loss = |shape: &Shape| shape.to_guest.loss_ppm.max(shape.from_guest.loss_ppm);
            let loss_ppm = link.map_or(0, |link| loss(&link.shape));
            Nic {
                name: nic.name.clone(),
                switch: nic.switch.to_string(),
                mac: nic.mac.to_string(),
                addresses: nic.addresses.iter().map(|address| address.net).collect(),
                gateway: nic.addresses.iter().find_map(|address| address.gateway),
                dhcp: nic.addresses.iter().any(|address| address.assignment == Assignment::Dhcp),
                loss_ppm,
                loss_by_file: loss(&nic.shape) >= loss_ppm,
                link_fault: link.and_then(|link| link.fault.clone()),
                plugged: host.filter(|host| !self.observed.away.contains_key(host)).map(|_| self.is_plugged(port)),
                key: format!("port/{}/{index}", guest.name),
                binding: None,
            }
        });
        End { guest: guest.name.clone(), domain: domain.map(|domain| domain.state.clone()), away, switch_down, inside, nic }
    }

    /// Does a host's bridge hold an interface with the port's id?
    fn is_plugged(&self, port: uuid::Uuid) -> bool {
        let own = self.observed.bridge_ports.iter().any(|plug| plug.what.iface_id == port.to_string());
        own || self.observed.links.iter().any(|link| link.what.port == port)
    }

    /// What OVN says of the port. A database that does not answer says nothing.
    fn bind(&self, guest: &Guest, index: Option<usize>, end: &mut End) {
        let (Some(index), Some(nic)) = (index, &mut end.nic) else { return };
        let port = self.port(guest, index);
        nic.binding = self.driver.host().port_bindings(&[port]).ok().and_then(|mut found| found.remove(&port));
    }

    fn port(&self, guest: &Guest, index: usize) -> uuid::Uuid {
        self.driver.host().config().installation.port_uuid(self.deployment, &guest.name, index)
    }

    /// OVN's account of the way from a guest to an address.
    fn trace(&self, guest: &Guest, index: Option<usize>, end: &End, to: IpAddr, answer: bool) -> Option<Traced> {
        let nic = &guest.nics[index?];
        let way = end.inside.as_ref().ok().and_then(|inside| inside.way.as_ref());
        let local = nic.addresses.iter().any(|address| address.net.contains(&to));
        let gateway = nic.addresses.iter().find_map(|address| address.gateway);
        let hop = match way {
            Some(way) => way.via.unwrap_or(to),
            None if local => to,
            None => gateway?,
        };
        let source = nic.addresses.iter().map(|address| address.net.addr()).find(|address| address.is_ipv4() == to.is_ipv4())?;
        let packet = Packet {
            inport: self.port(guest, index?).to_string(),
            macs: (nic.mac.to_string(), self.mac_of(hop, nic.switch.as_str())?),
            addresses: (source, to),
            by: self.request.by,
            answer,
        };
        let switch = format!("{}.{}", self.deployment, nic.switch);
        let traced = self.driver.host().trace(&switch, &packet, self.cancel).unwrap_or_else(|problem| Traced::Unclear(problem.message));
        Some(self.named(traced))
    }

    /// Who has an address on a switch: a router, for itself or for one that it translates, or a guest.
    fn mac_of(&self, address: IpAddr, switch: &str) -> Option<String> {
        let here = |name: &kvm_compose::names::NetworkName| name.as_str() == switch;
        for router in &self.topology.routers {
            let translates = router.nat.iter().any(|nat| nat.external == address);
            let mut ports = router.ports.iter().filter(|port| here(&port.switch));
            if let Some(port) = ports.find(|port| translates || port.addresses().any(|net| net.addr() == address)) {
                return Some(port.mac.to_string());
            }
        }
        let nics = self.topology.guests.iter().flat_map(|guest| &guest.nics).filter(|nic| here(&nic.switch));
        nics.into_iter().find(|nic| nic.addresses.iter().any(|one| one.net.addr() == address)).map(|nic| nic.mac.to_string())
    }

    /// The file's name for a switch or router instead of the row's id.
    fn named(&self, traced: Traced) -> Traced {
        let name = |id: String| {
            let row = self.observed.rows.iter().find(|row| row.uuid.to_string() == id);
            row.map_or(id, |row| row.key.0.clone())
        };
        match traced {
            Traced::Dropped { datapath, stage, matched, priority } => {
                Traced::Dropped { datapath: name(datapath), stage, matched, priority }
            }
            Traced::Asks { datapath } => Traced::Asks { datapath: name(datapath) },
            other => other,
        }
    }

    fn drift(&self) -> Vec<Drift> {
        let change = diff_rows(&self.prepared.blueprint.rows, &self.observed.rows);
        let missing = change.insert.into_iter().map(|row| Drift { key: row.key.0, missing: true });
        missing.chain(change.update.into_iter().map(|row| Drift { key: row.key.0, missing: false })).collect()
    }

    /// The file's rules, in its order; what `apply_deny_all` drops last, without a place.
    fn rules(&self) -> Vec<Rule> {
        let rules = self.prepared.blueprint.rows.iter().filter(|row| row.table == Table::Acl);
        let rule = |row: &kvm_compose::plan::blueprint::Row| {
            let text = |column: &str| match row.columns.get(column) {
                Some(Column::Text(text)) => text.clone(),
                _ => String::new(),
            };
            let switch = row.key.0.split('/').nth(1)?.to_string();
            let (direction, priority, matches) = (text("direction"), text("priority").parse().ok()?, text("match"));
            let of_file = self.topology.switches.iter().find(|one| one.name.as_str() == switch)?.acls.iter();
            let same = |acl: &&kvm_compose::topology::Acl| {
                u32::from(acl.priority) == priority && acl.matches == matches && acl.direction.word() == direction
            };
            let at = of_file.into_iter().find(same).map(|acl| acl.at.clone());
            Some(Rule { switch, direction, priority, matches, at })
        };
        rules.filter_map(rule).collect()
    }
}

/// Which interfaces the way begins and ends at: those on a switch that both share, else the one with the address, else the first
/// with a gateway.
fn nics(from: &Guest, to: Option<&Guest>, address: Option<IpAddr>) -> (Option<usize>, Option<usize>) {
    let addressed = to.and_then(|to| to.nics.iter().position(|nic| nic.addresses.iter().any(|one| Some(one.net.addr()) == address)));
    let shared = to.and_then(|to| {
        let mut pairs = from
            .nics
            .iter()
            .enumerate()
            .flat_map(|(own, nic)| to.nics.iter().enumerate().map(move |(other, peer)| (own, nic, other, peer)));
        pairs
            .find(|(_, nic, other, peer)| nic.switch == peer.switch && addressed.is_none_or(|index| index == *other))
            .map(|(own, _, other, _)| (own, other))
    });
    if let Some((own, other)) = shared {
        return (Some(own), Some(other));
    }
    let local = from.nics.iter().position(|nic| nic.addresses.iter().any(|one| address.is_some_and(|address| one.net.contains(&address))));
    let leads = |guest: &Guest| {
        let gateway = guest.nics.iter().position(|nic| nic.addresses.iter().any(|one| one.gateway.is_some()));
        gateway.or_else(|| (!guest.nics.is_empty()).then_some(0))
    };
    (local.or_else(|| leads(from)), addressed.or_else(|| to.and_then(leads)))
}
