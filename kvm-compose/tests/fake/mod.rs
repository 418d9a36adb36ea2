//! A world in memory behind the engine's `Host` trait, with faults on demand.
//!
//! It keeps what the real backends keep (rows, domains, files) and refuses what they refuse (a child without its
//! parent, a file outside the deployment, a start without its disk), so that a wrong order of steps fails here too.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use kvm_compose::{
    api::UpOptions,
    error::{Code, Problem},
    names::{DeploymentName, GuestName, HostName, InstallationId},
    orchestrate::{
        self, Operation, Sink,
        event::EventKind,
        host::{Cancel, Context, Host},
    },
    plan::{
        self,
        blueprint::{Base, Blueprint, ContextFrom, DiskFormat, NicDevice, Row, RowKey, Seed, Sum},
        link::ObservedLink,
        observed::{BridgePort, MissingBase, Observed, ObservedDomain, ObservedNic, ObservedRow, ObservedSeed, OnHost, SeenImage},
        outside::{InternalPort, Mapping, SeenInternal, SeenOutside, SeenUplink},
        site::{Accelerator, DiskFile, Hosts, MicroImage, PackedTree, ProjectFiles, Site, StoredImage},
        step::Work,
    },
    topology::{self, Leases},
};
use parking_lot::Mutex;
use uuid::Uuid;

/// What goes wrong at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails before it has done anything.
    Before,
    /// It does its work, then fails.
    After,
    /// It panics half-way.
    Panic,
    /// The server dies before it has done anything: nothing is done from then on.
    DieBefore,
    /// The server dies after it has done its work.
    DieAfter,
    /// Somebody asks to stop; the step sees it.
    Cancel,
}

impl Fault {
    pub const ALL: [Fault; 6] = [Fault::Before, Fault::After, Fault::Panic, Fault::DieBefore, Fault::DieAfter, Fault::Cancel];
    pub fn dies(self) -> bool {
        matches!(self, Fault::DieBefore | Fault::DieAfter)
    }
}

/// What is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    pub rows: BTreeMap<RowKey, Row>,
    pub domains: BTreeMap<GuestName, ObservedDomain>,
    pub files: BTreeSet<OnHost<PathBuf>>,
    /// What the seeds among them hold.
    pub seeds: BTreeMap<OnHost<PathBuf>, Seed>,
    /// What each guest's own system made of its network: the configuration of each interface that it has.
    pub inside: BTreeMap<GuestName, BTreeMap<String, String>>,
    /// Shaped links, by their ports.
    pub links: BTreeMap<Uuid, OnHost<ObservedLink>>,
    /// Golden images; they stay.
    pub goldens: BTreeSet<String>,
    /// Base files that came from the master; they stay.
    pub bases: BTreeSet<OnHost<PathBuf>>,
    /// Images of containers; they stay.
    pub images: BTreeSet<OnHost<String>>,
    /// Hosts' networks that lead somewhere; they stay.
    pub uplinks: BTreeSet<OnHost<PathBuf>>,
    /// Hosts' interfaces, by name.
    pub internals: BTreeMap<String, InternalPort>,
    /// Ports of running guests that somebody took off their bridge.
    pub unplugged: BTreeSet<Uuid>,
    /// How often each domain was started.
    pub starts: BTreeMap<GuestName, u32>,
}

impl World {
    /// The world without what only history knows.
    pub fn shape(&self) -> World {
        let mut shape = World {
            starts: BTreeMap::new(),
            goldens: BTreeSet::new(),
            bases: BTreeSet::new(),
            images: BTreeSet::new(),
            uplinks: BTreeSet::new(),
            ..self.clone()
        };
        shape.domains.values_mut().for_each(|domain| domain.nics.sort_by(|a, b| a.alias.cmp(&b.alias)));
        shape
    }
}

#[derive(Default)]
pub struct FakeHost {
    pub world: Mutex<World>,
    fault: Mutex<Option<(Work, Fault)>>,
    dead: Mutex<bool>,
    pub strangers: Mutex<Vec<kvm_compose::plan::observed::Stranger>>,
    pub missing: Mutex<Vec<MissingBase>>,
    /// Work in the order in which it was done.
    pub history: Mutex<Vec<Work>>,
}

impl FakeHost {
    pub fn with(world: World) -> Self {
        FakeHost { world: Mutex::new(world), ..Self::default() }
    }

    pub fn fail_at(&self, work: &Work, fault: Fault) {
        *self.fault.lock() = Some((work.clone(), fault));
    }

    fn dead(&self) -> Result<(), Problem> {
        if *self.dead.lock() { Err(Problem::internal("the server is dead")) } else { Ok(()) }
    }

    fn done(&self, work: &Work, host: &HostName) -> Result<(), Problem> {
        let on = |path: &PathBuf| OnHost { host: host.clone(), what: path.clone() };
        let mut world = self.world.lock();
        self.history.lock().push(work.clone());
        let refuse = |text: String| Err(Problem::new(Code::Internal, text));
        match work {
            Work::Network { change } => {
                // A row that moves belongs to its new list at once, so its old one does not take it along.
                for update in &change.update {
                    if let (Some(moved), Some(row)) = (&update.moved, world.rows.get_mut(&update.key)) {
                        row.parent = Some(moved.to.clone());
                    }
                }
                for delete in &change.delete {
                    world.rows.remove(&delete.key);
                    let orphans: Vec<RowKey> = world
                        .rows
                        .values()
                        .filter(|row| row.parent.as_ref().is_some_and(|(key, _)| key == &delete.key))
                        .map(|row| row.key.clone())
                        .collect();
                    for orphan in orphans {
                        world.rows.remove(&orphan);
                    }
                }
                for row in &change.insert {
                    if let Some((parent, _)) = &row.parent
                        && !world.rows.contains_key(parent)
                    {
                        return refuse(format!("row {} has no parent {parent}", row.key));
                    }
                    world.rows.insert(row.key.clone(), row.clone());
                }
                for moved in change.update.iter().filter_map(|update| update.moved.as_ref()) {
                    if !world.rows.contains_key(&moved.to.0) {
                        return refuse(format!("there is no {} to move to", moved.to.0));
                    }
                }
                for update in &change.update {
                    match world.rows.get_mut(&update.key) {
                        Some(row) => row.columns.extend(update.to.clone()),
                        None => return refuse(format!("row {} is not there", update.key)),
                    }
                }
            }
            Work::FetchBase { base } => {
                if base.golden.as_ref().is_some_and(|key| !world.goldens.contains(key)) {
                    return refuse(format!("{} is not on the master", base.path.display()));
                }
                world.bases.insert(on(&base.path));
            }
            Work::KeepGolden { kept } => {
                let agent = world.domains.get(&kept.guest).is_some_and(|domain| domain.agent && !domain.scripts.is_empty());
                let may_be_kept = agent && world.files.contains(&on(&kept.disk));
                if !may_be_kept && !world.goldens.contains(&kept.key) {
                    return refuse(format!("{} is not set up", kept.domain));
                }
                world.goldens.insert(kept.key.clone());
                world.domains.remove(&kept.guest);
                world.inside.remove(&kept.guest);
                for path in kept.beside.iter().chain([&kept.disk]) {
                    world.files.remove(&on(path));
                    world.seeds.remove(&on(path));
                }
            }
            Work::PullImage { image } => drop(world.images.insert(OnHost { host: host.clone(), what: image.clone() })),
            Work::CreateVolume { volume } => {
                let base = volume.base.clone().unwrap_or_default();
                if base.starts_with(BASES) && !world.bases.contains(&on(&base)) {
                    return refuse(format!("{} has no base", volume.path.display()));
                }
                let golden = base.strip_prefix(GOLDENS).ok().map(|key| key.display().to_string());
                if golden
                    .is_some_and(|key| !world.goldens.contains(&key) || (*host != HostName::master() && !world.bases.contains(&on(&base))))
                {
                    return refuse(format!("{} has no golden image", volume.path.display()));
                }
                world.files.insert(on(&volume.path));
            }
            Work::WriteSeed { seed } => {
                world.files.insert(on(&seed.path));
                world.seeds.insert(on(&seed.path), seed.clone());
            }
            Work::AttachNic { uuid, nic, .. } => {
                let there = world.rows.values().any(|row| format!("{:?}", row.columns.get("name")).contains(&nic.port.to_string()));
                let Some(domain) = world.domains.values_mut().find(|domain| &domain.uuid == uuid) else {
                    return refuse(format!("there is no domain for {}", nic.name));
                };
                if !there {
                    return refuse(format!("{} of {} has no port", nic.name, domain.name));
                }
                if domain.nics.iter().any(|other| other.alias != nic.alias && (other.mac == nic.mac || other.port == Some(nic.port))) {
                    return refuse(format!("{} of {} has the MAC address or port of another", nic.name, domain.name));
                }
                let port = nic.port;
                match domain.nics.iter_mut().find(|there| there.alias == nic.alias) {
                    Some(there) => (there.live, there.defined) = (domain.active, true),
                    None => domain.nics.push(observed_nic(nic, domain.active)),
                }
                world.unplugged.remove(&port);
            }
            Work::DetachNic { uuid, nic, .. } => {
                world.unplugged.remove(&nic.port);
                if let Some(domain) = world.domains.values_mut().find(|domain| &domain.uuid == uuid) {
                    domain.nics.retain(|there| there.alias != nic.alias);
                    let (guest, gone) = (domain.guest.clone(), nic.mac.clone());
                    // An interface that goes takes its configuration along.
                    if let Some(inside) = world.inside.get_mut(&guest) {
                        inside.retain(|_, section| !section.contains(&gone));
                    }
                }
            }
            Work::ConfigureNetwork { guest, uuid, network, links, .. } => {
                let Some(domain) = world.domains.values_mut().find(|domain| &domain.uuid == uuid) else {
                    return refuse(format!("guest {guest} is not there"));
                };
                domain.network = network.clone();
                let macs: Vec<String> = domain.nics.iter().filter(|nic| nic.live).map(|nic| nic.mac.clone()).collect();
                if domain.active {
                    let inside = world.inside.entry(guest.clone()).or_default();
                    let wanted = sections(network);
                    for link in links {
                        inside.remove(link);
                        if let Some(section) = wanted.get(link) {
                            if !macs.iter().any(|mac| section.contains(mac)) {
                                return refuse(format!("guest {guest} has no device for {link}"));
                            }
                            inside.insert(link.clone(), section.clone());
                        }
                    }
                }
            }
            Work::RemoveFile { path } => {
                let file = path.clone();
                if world.domains.values().any(|domain| domain.active && domain.name == format!("uses {}", file.display())) {
                    return refuse(format!("{} is in use", file.display()));
                }
                world.files.remove(&on(path));
                world.seeds.remove(&on(path));
            }
            Work::StartDomain { domain } => {
                for port in domain.ports() {
                    let there = world.rows.values().any(|row| format!("{:?}", row.columns.get("name")).contains(&port.to_string()));
                    if !there {
                        return refuse(format!("domain {} has no port {port}", domain.name));
                    }
                }
                for line in domain.xml.lines().filter(|line| line.contains("<source file=")) {
                    let path = line.split('"').nth(1).unwrap_or_default();
                    if path.contains("/deployments/") && !world.files.contains(&on(&PathBuf::from(path))) {
                        return refuse(format!("domain {} has no file {path}", domain.name));
                    }
                }
                for line in domain.xml.lines().filter(|line| line.contains(BASES)) {
                    let path = line.split(['"', '>', '<']).find(|part| part.starts_with(BASES)).unwrap_or_default();
                    if !world.bases.contains(&on(&PathBuf::from(path))) {
                        return refuse(format!("domain {} has no base {path}", domain.name));
                    }
                }
                let image = domain.container.as_ref().map(|container| container.image.clone()).unwrap_or_default();
                if !image.is_empty() && !world.images.contains(&OnHost { host: host.clone(), what: image.clone() }) {
                    return refuse(format!("container {} has no image {image}", domain.name));
                }
                if let Some(old) = world.domains.get(&domain.guest)
                    && old.digest != domain.digest
                {
                    return refuse(format!("domain {} is there with another digest", domain.name));
                }
                // OVN would take either of two devices with one `iface-id`.
                let runs = world.domains.get(&domain.guest).is_some_and(|domain| domain.active);
                if let Some(port) = domain.ports().find(|port| world.links.contains_key(port) && !runs) {
                    return refuse(format!("domain {} finds its port {port} taken by a link", domain.name));
                }
                world.files.insert(on(&domain.console_log));
                // It boots with what its seed says.
                let seed =
                    world.seeds.iter().find(|(path, _)| domain.xml.contains(&*path.what.to_string_lossy())).map(|(_, seed)| seed.clone());
                let booted = seed.as_ref().and_then(|seed| seed.files.get("network-config")).map(|text| sections(text));
                let runs = world.domains.get(&domain.guest).is_some_and(|old| old.active);
                if runs {
                    if let Some(old) = world.domains.get_mut(&domain.guest) {
                        old.state = "running".to_string();
                    }
                    *world.starts.entry(domain.guest.clone()).or_default() += 1;
                    return Ok(());
                }
                world.inside.insert(domain.guest.clone(), booted.unwrap_or_default());
                let down = world.domains.get(&domain.guest).map(|there| there.down.clone()).unwrap_or_default();
                let observed = ObservedDomain {
                    name: domain.name.clone(),
                    uuid: domain.uuid,
                    guest: domain.guest.clone(),
                    host: host.clone(),
                    digest: domain.digest.clone(),
                    active: true,
                    state: "running".to_string(),
                    agent: domain.container.is_some(),
                    scripts: BTreeSet::new(),
                    memory_mb: domain.memory_mb,
                    cpus: domain.cpus,
                    network: domain.network.clone(),
                    nics: domain.nics.iter().map(|nic| observed_nic(nic, true)).collect(),
                    down,
                    runtime: domain.runtime(),
                    image: if image.is_empty() { image } else { image_id(&image) },
                };
                world.domains.insert(domain.guest.clone(), observed);
                *world.starts.entry(domain.guest.clone()).or_default() += 1;
            }
            Work::LoadDomain { domain, memory } => {
                if world.domains.get(&domain.guest).is_some_and(|there| there.active) {
                    return Ok(());
                }
                let observed = ObservedDomain {
                    name: domain.name.clone(),
                    uuid: domain.uuid,
                    guest: domain.guest.clone(),
                    host: host.clone(),
                    digest: domain.digest.clone(),
                    active: true,
                    state: "paused".to_string(),
                    agent: false,
                    // What was in its memory, by the file that it lies in.
                    scripts: BTreeSet::from([memory.display().to_string()]),
                    memory_mb: domain.memory_mb,
                    cpus: domain.cpus,
                    network: domain.network.clone(),
                    nics: domain.nics.iter().map(|nic| observed_nic(nic, true)).collect(),
                    down: BTreeSet::new(),
                    runtime: domain.runtime(),
                    image: String::new(),
                };
                world.files.insert(on(&domain.console_log));
                world.domains.insert(domain.guest.clone(), observed);
            }
            Work::ResumeDomain { guest, .. } => match world.domains.get_mut(guest) {
                Some(domain) => (domain.state, domain.agent) = ("running".to_string(), true),
                None => return refuse(format!("guest {guest} is not there")),
            },
            Work::StopDomain { uuid, .. } => {
                for domain in world.domains.values_mut().filter(|domain| &domain.uuid == uuid) {
                    (domain.active, domain.agent, domain.state) = (false, false, "shut off".to_string());
                    domain.nics.iter_mut().for_each(|nic| nic.live = false);
                }
            }
            Work::RemoveDomain { uuid, .. } => {
                let gone = world.domains.values().find(|domain| &domain.uuid == uuid).map(|domain| domain.guest.clone());
                if let Some(guest) = gone {
                    world.domains.remove(&guest);
                    world.inside.remove(&guest);
                }
            }
            Work::RemoveBridgePort { .. } => {}
            Work::ShapeLink { guest, link, .. } => match world.domains.get(guest) {
                Some(domain) if domain.active => {
                    let what =
                        ObservedLink { port: link.port, device: format!("tbl{}", link.port.simple()), shape: link.shape, fault: None };
                    world.links.insert(link.port, OnHost { host: host.clone(), what });
                }
                _ => return refuse(format!("guest {guest} has no device to shape")),
            },
            Work::UnshapeLink { port, .. } => drop(world.links.remove(port)),
            Work::SetCarrier { guest, port, up, .. } => match world.domains.get_mut(guest) {
                Some(domain) if *up => drop(domain.down.remove(port)),
                Some(domain) => drop(domain.down.insert(*port)),
                None => return refuse(format!("guest {guest} is not there")),
            },
            Work::SetUpUplink { uplink } => {
                world.uplinks.insert(on(&PathBuf::from(uplink.mapping.network.as_str())));
            }
            Work::PlugInternal { port } => {
                // OVN makes no port of an interface whose row is not there.
                if !world.rows.contains_key(&RowKey(format!("internal/{}", port.name))) {
                    return refuse(format!("interface {} has no port", port.name));
                }
                world.internals.insert(port.interface.clone(), port.clone());
            }
            Work::UnplugInternal { interface, .. } => drop(world.internals.remove(interface)),
            Work::AwaitReady { guest, .. } => match world.domains.get_mut(guest) {
                Some(domain) if domain.active => domain.agent = true,
                _ => return refuse(format!("guest {guest} does not run")),
            },
            Work::SendContext { guest, context, .. } => {
                if let ContextFrom::Packed(path) = &context.from
                    && !world.bases.contains(&on(path))
                {
                    return refuse(format!("the context of {guest} is not there"));
                }
                match world.domains.get_mut(guest) {
                    Some(domain) if domain.agent => drop(domain.scripts.insert(context.digest.clone())),
                    _ => return refuse(format!("guest {guest} has no agent")),
                }
            }
            Work::RunScript { guest, script, .. } => match world.domains.get_mut(guest) {
                Some(domain) if domain.agent => {
                    domain.scripts.insert(script.digest.clone());
                }
                _ => return refuse(format!("guest {guest} has no agent")),
            },
        }
        Ok(())
    }
}

/// The same work, also when it goes by another name once its guest is gone.
fn same(one: &Work, other: &Work) -> bool {
    match (one, other) {
        (Work::UnshapeLink { port, .. }, Work::UnshapeLink { port: other, .. }) => port == other,
        _ => one == other,
    }
}

/// Plugs of running guests, as libvirt makes them; not those that somebody took away.
fn bridge_ports(world: &World) -> Vec<OnHost<BridgePort>> {
    let running = world.domains.values().filter(|domain| domain.active);
    let live = running.flat_map(|domain| domain.nics.iter().filter(|nic| nic.live).map(move |nic| (domain, nic)));
    let plugged = live.filter_map(|(domain, nic)| Some((domain, nic.port.filter(|port| !world.unplugged.contains(port))?)));
    let port = |(domain, port): (&ObservedDomain, Uuid)| OnHost {
        host: domain.host.clone(),
        what: BridgePort {
            bridge: "br-int".to_string(),
            name: format!("vnet-{port}"),
            iface_id: port.to_string(),
            vm_id: Some(domain.uuid),
        },
    };
    plugged.map(port).collect()
}

/// Links as they are seen: one whose guest has lost its device does not pass frames.
fn links(world: &World) -> Vec<OnHost<ObservedLink>> {
    let alive = |port: &Uuid| world.domains.values().any(|domain| domain.active && domain.ports().any(|own| own == *port));
    let seen = |(port, link): (&Uuid, &OnHost<ObservedLink>)| {
        let fault = (!alive(port)).then(|| "its device is gone".to_string());
        OnHost { host: link.host.clone(), what: ObservedLink { fault, ..link.what.clone() } }
    };
    world.links.iter().map(seen).collect()
}

/// What an image's name leads to.
pub fn image_id(name: &str) -> String {
    format!("sha256:{name}")
}

fn on_host(there: &OnHost<String>, id: &str) -> OnHost<SeenImage> {
    OnHost { host: there.host.clone(), what: SeenImage { name: there.what.clone(), id: id.to_string() } }
}

impl Host for FakeHost {
    fn observe(&self, _: &DeploymentName, wanted: Option<&Blueprint>) -> Result<Observed, Problem> {
        self.dead()?;
        let world = self.world.lock();
        let rows = world.rows.values().map(|row| ObservedRow {
            uuid: Uuid::nil(),
            key: row.key.clone(),
            table: row.table,
            columns: row.columns.clone(),
            parent: row.parent.clone().map(|(key, _)| key),
        });
        Ok(Observed {
            rows: rows.collect(),
            domains: world.domains.values().cloned().collect(),
            files: world.files.clone(),
            seeds: world
                .seeds
                .iter()
                .map(|(path, seed)| OnHost {
                    host: path.host.clone(),
                    what: ObservedSeed { path: path.what.clone(), digest: seed.digest.clone() },
                })
                .collect(),
            links: links(&world),
            images: world.images.iter().map(|there| on_host(there, &image_id(&there.what))).collect(),
            bridge_ports: bridge_ports(&world),
            strangers: if wanted.is_some() { self.strangers.lock().clone() } else { Vec::new() },
            missing_bases: self.missing.lock().iter().cloned().chain(travelling(&world, wanted)).collect(),
            away: BTreeMap::new(),
            switch_down: BTreeMap::new(),
            outside: outside(&world, wanted),
        })
    }

    fn leases(&self, _: &DeploymentName) -> Result<Leases, Problem> {
        Ok(leases(&self.world.lock()))
    }

    fn apply(&self, work: &Work, context: &Context<'_>) -> Result<(), Problem> {
        self.dead()?;
        let fault = self.fault.lock().clone().filter(|(at, _)| same(at, work)).map(|(_, fault)| fault);
        match fault {
            None => {
                if matches!(work, Work::AwaitReady { .. }) {
                    context.cancel.check()?;
                }
                self.done(work, context.host)
            }
            Some(Fault::Before) => Err(Problem::internal("injected before")),
            Some(Fault::After) => self.done(work, context.host).and(Err(Problem::internal("injected after"))),
            Some(Fault::Panic) => panic!("injected panic"),
            Some(Fault::DieBefore) => {
                *self.dead.lock() = true;
                Err(Problem::internal("died before"))
            }
            Some(Fault::DieAfter) => {
                self.done(work, context.host)?;
                *self.dead.lock() = true;
                Err(Problem::internal("died after"))
            }
            Some(Fault::Cancel) => {
                context.cancel.cancel();
                context.cancel.check()
            }
        }
    }

    fn sweep(&self, _: &DeploymentName) -> Result<(), Problem> {
        self.dead()
    }
}

fn observed_nic(nic: &NicDevice, live: bool) -> ObservedNic {
    let NicDevice { alias, mac, port, xml, .. } = nic.clone();
    ObservedNic { alias, mac, port: Some(port), live, defined: true, xml }
}

/// The configuration of each interface, by name: what a guest's system reads from the whole.
fn sections(network: &str) -> BTreeMap<String, String> {
    let mut sections: BTreeMap<String, String> = BTreeMap::new();
    let mut name = String::new();
    for line in network.lines() {
        if let Some(entry) = line.strip_prefix("  ").filter(|entry| !entry.starts_with(' ')) {
            name = entry.trim_end_matches(':').to_string();
        }
        if let Some((remark, _)) = line.strip_prefix("# ").and_then(|line| line.split_once(": ")) {
            name = remark.to_string();
        }
        if !name.is_empty() {
            sections.entry(name.clone()).or_default().push_str(line);
        }
    }
    sections
}

fn leases(world: &World) -> Leases {
    let mut leases = Leases::new();
    for row in world.rows.values() {
        let parts: Vec<&str> = row.key.0.split('/').collect();
        if let (["port", guest, nic], Some(plan::blueprint::Column::Set(addresses))) = (parts.as_slice(), row.columns.get("addresses")) {
            let address: IpAddr = addresses[0].split(' ').nth(1).expect("an address").parse().expect("valid");
            leases.insert((guest.parse().expect("valid"), nic.parse().expect("a number")), address);
        }
    }
    leases
}

/// What is there outside OVN.
fn outside(world: &World, wanted: Option<&Blueprint>) -> SeenOutside {
    let there = |host: &HostName, network: &str| world.uplinks.contains(&OnHost { host: host.clone(), what: PathBuf::from(network) });
    let uplinks = wanted.iter().flat_map(|wanted| &wanted.outside.uplinks).filter(|it| there(&it.host, it.mapping.network.as_str()));
    let uplink = |network| SeenUplink { network, there: true, lacks: Vec::new() };
    let internal = |port: &InternalPort| SeenInternal {
        name: port.name.clone(),
        interface: port.interface.clone(),
        iface_id: port.iface_id.clone(),
        mac: Some(port.mac),
        mtu: Some(port.mtu),
        addresses: vec![port.address],
        up: true,
    };
    SeenOutside {
        uplinks: uplinks.map(|it| OnHost { host: it.host.clone(), what: uplink(it.mapping.network.clone()) }).collect(),
        internals: world.internals.values().map(|port| OnHost { host: port.host.clone(), what: internal(port) }).collect(),
    }
}

/// Base files that a host does not have yet.
fn travelling(world: &World, wanted: Option<&Blueprint>) -> Vec<MissingBase> {
    let bases = wanted.iter().flat_map(|wanted| wanted.guests.iter().flat_map(|guest| guest.bases.iter().map(move |base| (guest, base))));
    let is_there = |host: &HostName, base: &Base| match &base.golden {
        Some(key) if *host == HostName::master() => world.goldens.contains(key),
        _ => world.bases.contains(&OnHost { host: host.clone(), what: base.path.clone() }),
    };
    let goldens = wanted.iter().flat_map(|wanted| wanted.goldens.iter()).filter(|golden| !world.goldens.contains(&golden.key));
    let goldens = goldens.map(|golden| MissingBase { host: HostName::master(), path: golden.path.clone(), why: "not there".to_string() });
    let missing = bases.filter(|(guest, base)| (base.sum.is_some() || base.golden.is_some()) && !is_there(&guest.host, base));
    missing
        .map(|(guest, base)| MissingBase { host: guest.host.clone(), path: base.path.clone(), why: "not there".to_string() })
        .chain(goldens)
        .collect()
}

/// Where members keep base files.
const BASES: &str = "/data/images/bases";
/// Where golden images are.
const GOLDENS: &str = "/data/images/golden";

/// Events, kept.
#[derive(Default)]
pub struct Events(pub Mutex<Vec<EventKind>>);

impl Sink for Events {
    fn emit(&self, event: EventKind) -> Result<(), Problem> {
        self.0.lock().push(event);
        Ok(())
    }
}

pub fn installation() -> InstallationId {
    InstallationId(Uuid::from_u128(7))
}

pub fn deployment() -> DeploymentName {
    DeploymentName::new("lab").expect("valid")
}

pub fn site() -> Site {
    Site {
        installation: installation(),
        host: HostName::master(),
        deployments: PathBuf::from("/data/deployments"),
        accelerator: Accelerator::Tcg { reason: "a test".to_string() },
        emulator: PathBuf::from("/usr/bin/qemu-system-x86_64"),
        micro: Some(MicroImage {
            digest: "d".repeat(64),
            kernel: PathBuf::from("/images/vmlinux"),
            initramfs: PathBuf::from("/images/initramfs"),
        }),
        bridge: "br-int".to_string(),
        chassis: None,
        resolver: None,
        mappings: vec![Mapping {
            network: "public".parse().expect("valid"),
            bridge: "br-ex".to_string(),
            address: Some("172.16.1.1/24".parse().expect("valid")),
        }],
        masquerade: false,
        unified_cgroups: false,
        mtu: 1442,
        bases: PathBuf::from(BASES),
        goldens: PathBuf::from(GOLDENS),
        free_memory_mb: 65536,
        cpus: 4,
        busy_cpus: 0,
    }
}

/// The master, and a member so busy that only guests whose file asks for it stand there.
pub fn hosts() -> Hosts {
    let host = HostName::new("h1").expect("valid");
    let member = Site { host, deployments: PathBuf::from("/member/deployments"), busy_cpus: 10_000, micro: None, ..site() };
    Hosts { members: vec![member], ..Hosts::alone(site()) }
}

/// The blueprint of a file, with the addresses that the world's guests have.
pub fn blueprint(text: &str, world: &World) -> Blueprint {
    let loaded =
        topology::load("kvm-compose.yaml", text, &deployment(), &leases(world)).unwrap_or_else(|problem| panic!("{problem:?}\n{text}"));
    let mut files = ProjectFiles::default();
    for shared in loaded.topology.scaled.iter().filter_map(|scaled| scaled.shared_setup.as_ref()) {
        files.scripts.insert(shared.path.clone(), format!("#!/bin/sh\necho {}\n", shared.path));
    }
    for guest in &loaded.topology.guests {
        for script in guest.setup_scripts.iter().chain(&guest.run_scripts) {
            files.scripts.insert(script.path.clone(), format!("#!/bin/sh\necho {}\n", script.path));
        }
        if let topology::GuestKind::ExistingDisk { disk, format, .. } = &guest.kind {
            let file = DiskFile { path: PathBuf::from("/images").join(&disk.path), format: *format, version: "1".to_string() };
            files.disks.insert(disk.path.clone(), file);
        }
        if let Some(context) = &guest.context {
            let sum = Sum { sha256: format!("{:0>64}", context.path.len()), bytes: 1024 };
            files.contexts.insert(context.path.clone(), PackedTree { path: PathBuf::from("/project").join(&context.path), sum });
        }
        if let topology::GuestKind::IsoGuest { iso, .. } = &guest.kind {
            let file = DiskFile { path: PathBuf::from("/images").join(&iso.path), format: DiskFormat::Raw, version: "1".to_string() };
            files.disks.insert(iso.path.clone(), file);
        }
        if let topology::GuestKind::CloudImage { image, .. } = &guest.kind {
            let stored = StoredImage {
                path: PathBuf::from("/images/disks").join(&image.path),
                digest: image.path.clone(),
                virtual_bytes: 2 << 30,
                user: None,
            };
            files.images.insert(image.path.clone(), stored);
        }
        if let topology::GuestKind::Docker(container) = &guest.kind {
            let variables = BTreeMap::from([("FILE".to_string(), "a b".to_string())]);
            files.env_files.extend(container.env_file.iter().map(|file| (file.path.clone(), variables.clone())));
            files.trees.extend(container.volumes.iter().map(|mount| (mount.source.path.clone(), PathBuf::from("/project/tree"))));
        }
    }
    let hosts = hosts();
    let places = plan::place(&loaded.topology.guests, &hosts).expect("they fit");
    let sum = |path: PathBuf| {
        let sum = Sum { sha256: Uuid::new_v5(&Uuid::NAMESPACE_OID, path.as_os_str().as_encoded_bytes()).simple().to_string(), bytes: 3 };
        (path, sum)
    };
    let sums = plan::travelling(&loaded.topology, &hosts, &places, &files).into_iter().map(sum).collect();
    plan::lower(&loaded.topology, &hosts, &places, &files, &sums).expect("it can be lowered")
}

pub fn up(host: &FakeHost, blueprint: &Blueprint, options: &UpOptions) -> Result<(), Problem> {
    let (cancel, events) = (Cancel::new(), Events::default());
    orchestrate::up(host, blueprint, options, &Operation { uuid: Uuid::from_u128(1), cancel: &cancel, sink: &events })
}

pub fn down(host: &FakeHost) -> Result<(), Problem> {
    let (cancel, events) = (Cancel::new(), Events::default());
    orchestrate::down(host, &nothing(), &Operation { uuid: Uuid::from_u128(2), cancel: &cancel, sink: &events })
}

/// The blueprint of nothing.
pub fn nothing() -> Blueprint {
    plan::nothing(installation(), &deployment(), &HostName::master())
}

/// The steps that `up` would take.
pub fn steps(host: &FakeHost, wanted: &Blueprint) -> Vec<plan::step::Step> {
    let observed = host.observe(&deployment(), Some(wanted)).expect("it answers");
    plan::diff(wanted, &observed, &plan::Taints::default(), None).steps
}
