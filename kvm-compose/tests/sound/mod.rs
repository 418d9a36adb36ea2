//! What must hold of every text that somebody may take for a testbed file, however broken: no panic, an end in time, faults
//! with places; and of one that is good: addresses of its own for everybody, a resolved file that means the same, and a plan
//! after which nothing is left to do.
//!
//! Shared by the tests and by the fuzzer (`fuzz/`), which brings the texts.
#![allow(dead_code, reason = "each user takes its part")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use kvm_compose::{
    diagnostic::Severity,
    error::Problem,
    names::{DeploymentName, NetworkName},
    orchestrate, picture,
    plan::{
        self, anywhere,
        blueprint::{Blueprint, DiskFormat, Sum},
        diff_rows,
        observed::{Observed, ObservedRow},
        site::{DiskFile, PackedTree, ProjectFiles, StoredImage},
    },
    spec::{Sources, compose::asked},
    topology::{self, GuestKind, Leases, Loaded, Topology},
};
use uuid::Uuid;

/// A line that begins with this divides a text into files: `%%% path` begins another file, `%%% env` variables, a line
/// each, and `%%% set` options, a line each.
const DIVIDER: &str = "%%% ";

/// The testbed that a text stands for.
pub fn sources(text: &str) -> Sources {
    let mut sources = Sources::alone("kvm-compose.yaml", "");
    let mut path = String::new();
    let mut part = String::new();
    let mut keep = |path: &str, part: &mut String| {
        let text = std::mem::take(part);
        match path {
            "" => sources.text = text,
            "env" => {
                for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
                    sources.composition.variables.insert(name.to_string(), Some(value.to_string()));
                }
            }
            "set" => sources.composition.set = text.lines().map(String::from).collect(),
            path => drop(sources.composition.files.insert(path.to_string(), text)),
        }
    };
    for line in text.split_inclusive('\n') {
        match line.strip_prefix(DIVIDER) {
            Some(next) => {
                keep(&path, &mut part);
                path = next.trim().to_string();
            }
            None => part.push_str(line),
        }
    }
    keep(&path, &mut part);
    sources
}

fn deployment() -> DeploymentName {
    DeploymentName::new("lab").expect("valid")
}

pub fn load(sources: &Sources) -> Result<Loaded, Problem> {
    topology::load_all(sources, &deployment(), &Leases::new())
}

/// How a text fared.
#[derive(Debug, PartialEq, Eq)]
pub enum Fared {
    /// It was refused.
    Refused,
    /// It is a testbed, but no host can carry it.
    NotPlaced,
    /// It is a testbed.
    Planned,
}

/// How long this thread was on a processor (schedstat of proc(5)): a busy machine makes nothing slower that way.
pub fn busy() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

/// Checks everything of a text; panics when something does not hold, or takes longer than `limit`.
pub fn check(text: &str, limit: Duration) -> Fared {
    let began = busy();
    let sources = sources(text);
    asked(&sources);
    let fared = match load(&sources) {
        Ok(loaded) => check_good(&sources, &loaded),
        Err(problem) => {
            check_refusal(&problem);
            // The files that it names are looked at nevertheless, and what there is of it can be drawn.
            topology::understood(&sources, &deployment()).iter().for_each(draw);
            Fared::Refused
        }
    };
    let took = busy() - began;
    assert!(took < limit, "it took {took:?}");
    fared
}

/// Every fault has a place and can be drawn, and the first error is what the problem is.
pub fn check_refusal(problem: &Problem) {
    assert!(problem.diagnostics.iter().any(|fault| fault.severity == Severity::Error), "{problem:?}");
    assert!(problem.at.is_some() && !problem.message.is_empty(), "{problem:?}");
    for fault in &problem.diagnostics {
        assert!(fault.at.line >= 1 && fault.at.column >= 1 && fault.width >= 1 && !fault.at.file.is_empty(), "{fault:?}");
        assert!(!fault.message.is_empty() && !fault.message.contains(|c: char| c.is_control()), "{fault:?}");
        assert!(fault.at.column as usize <= fault.source.chars().count().max(1) + 1 || fault.source.chars().count() >= 400, "{fault:?}");
        let drawn = fault.render();
        assert!(drawn.contains(&fault.code), "{drawn}");
    }
}

/// Draws it for a page and for files.
fn draw(topology: &Topology) {
    picture::svg(topology, &picture::Scene::default());
    for format in [picture::Format::Svg, picture::Format::Mermaid, picture::Format::Dot, picture::Format::D2] {
        picture::document(topology, format);
    }
}

fn check_good(sources: &Sources, loaded: &Loaded) -> Fared {
    check_addresses(&loaded.topology);
    check_leases(sources, loaded);
    let text = loaded.resolved().to_string();
    if text.len() > kvm_compose::spec::node::MAX_BYTES {
        return Fared::NotPlaced;
    }
    let again = load(&Sources::alone("resolved.yaml", &text)).unwrap_or_else(|problem| panic!("{problem:#?}\n{text}"));
    assert_eq!(again.resolved(), loaded.resolved(), "the resolved file means the same");
    draw(&loaded.topology);
    let blueprint = match lowered(&loaded.topology) {
        Ok(blueprint) => blueprint,
        Err(problem) => {
            assert!(!problem.message.is_empty());
            assert_ne!(problem.code, kvm_compose::error::Code::Internal, "{problem:?}");
            return Fared::NotPlaced;
        }
    };
    let other = lowered(&again.topology).unwrap_or_else(|problem| panic!("{problem:#?}"));
    assert_eq!(blueprint, other, "the resolved file gives the same");
    check_plan(&blueprint);
    Fared::Planned
}

/// On each segment everybody has an address and a MAC address of its own.
pub fn check_addresses(topology: &Topology) {
    let mut addresses: BTreeSet<(&NetworkName, IpAddr)> = BTreeSet::new();
    let mut macs: BTreeSet<(&NetworkName, String)> = BTreeSet::new();
    let mut take = |switch, address: Option<IpAddr>, mac: Option<String>, who: &dyn std::fmt::Display| {
        if let Some(address) = address {
            assert!(addresses.insert((switch, address)), "{address} on `{switch}` twice, the second time for {who}");
        }
        if let Some(mac) = mac {
            assert!(macs.insert((switch, mac.clone())), "{mac} on `{switch}` twice, the second time for {who}");
        }
    };
    for router in &topology.routers {
        for port in &router.ports {
            take(&port.switch, None, Some(port.mac.to_string()), &port.name);
            port.addresses().for_each(|net| take(&port.switch, Some(net.addr()), None, &port.name));
        }
    }
    for switch in &topology.switches {
        for internal in &switch.internals {
            take(&switch.name, Some(internal.address.addr()), Some(internal.mac.to_string()), &internal.name);
        }
    }
    for guest in &topology.guests {
        for nic in &guest.nics {
            take(&nic.switch, None, Some(nic.mac.to_string()), &guest.name);
            for address in &nic.addresses {
                take(&nic.switch, Some(address.net.addr()), None, &guest.name);
                let switch = topology.switch(&nic.switch).expect("the switch of an interface");
                let known = switch.subnet_of(address.net.addr());
                assert!(known.is_some_and(|net| net.prefix_len() == address.net.prefix_len()), "{} of {}", address.net, guest.name);
            }
        }
    }
}

/// A guest keeps the address that it has; and what others have, or nobody may have, is no reason for two with one address.
fn check_leases(sources: &Sources, loaded: &Loaded) {
    let held: Vec<_> = loaded
        .topology
        .guests
        .iter()
        .flat_map(|guest| guest.nics.iter().enumerate().filter_map(|(nic, it)| Some(((guest.name.clone(), nic), it.address()?))))
        .collect();
    let leases: Leases = held.iter().cloned().collect();
    let again = topology::load_all(sources, &deployment(), &leases).unwrap_or_else(|problem| panic!("{problem:#?}"));
    assert_eq!(again.resolved(), loaded.resolved(), "who has an address keeps it");
    let turned: Leases =
        held.iter().map(|(holder, _)| holder.clone()).zip(held.iter().skip(1).chain(held.first()).map(|(_, address)| *address)).collect();
    if let Ok(turned) = topology::load_all(sources, &deployment(), &turned) {
        check_addresses(&turned.topology);
    }
}

/// Planned from nothing there are steps with needs that come first; when the rows are as planned, none is left to change.
fn check_plan(blueprint: &Blueprint) {
    let from_nothing = plan::diff(blueprint, &Observed::default(), &plan::Taints::default(), None);
    let mut done = BTreeSet::new();
    for step in &from_nothing.steps {
        assert!(step.needs.iter().all(|need| done.contains(need)), "{:?} comes before what it needs", step.id);
        assert!(done.insert(step.id.clone()), "{:?} twice", step.id);
    }
    orchestrate::plan_from_nothing(blueprint);
    let mut keys = BTreeSet::new();
    for row in &blueprint.rows {
        assert!(keys.insert(&row.key), "row {} twice", row.key);
        assert!(row.parent.as_ref().is_none_or(|(parent, _)| keys.contains(parent)), "{} comes before its parent", row.key);
    }
    let row = |row: &plan::blueprint::Row| ObservedRow {
        uuid: Uuid::new_v5(&Uuid::NAMESPACE_OID, row.key.0.as_bytes()),
        key: row.key.clone(),
        table: row.table,
        columns: row.columns.clone(),
        parent: row.parent.as_ref().map(|(key, _)| key.clone()),
    };
    let there: Vec<ObservedRow> = blueprint.rows.iter().map(row).collect();
    let change = diff_rows(&blueprint.rows, &there);
    assert!(change.is_empty(), "{change:?}");
    let gone = diff_rows(&[], &there);
    assert_eq!(gone.delete.len(), there.len());
}

/// The blueprint for hosts that have all that a testbed may need, the ones it names among them.
pub fn lowered(topology: &Topology) -> Result<Blueprint, Problem> {
    let mut files = ProjectFiles::default();
    for shared in topology.scaled.iter().filter_map(|scaled| scaled.shared_setup.as_ref()) {
        files.scripts.insert(shared.path.clone(), "true".to_string());
    }
    for guest in &topology.guests {
        for script in guest.setup_scripts.iter().chain(&guest.run_scripts) {
            files.scripts.insert(script.path.clone(), "true".to_string());
        }
        if let GuestKind::ExistingDisk { disk, format, .. } = &guest.kind {
            let file = DiskFile { path: PathBuf::from("/project").join(&disk.path), format: *format, version: String::new() };
            files.disks.insert(disk.path.clone(), file);
        }
        if let GuestKind::IsoGuest { iso, .. } = &guest.kind {
            let file = DiskFile { path: PathBuf::from("/project").join(&iso.path), format: DiskFormat::Raw, version: String::new() };
            files.disks.insert(iso.path.clone(), file);
        }
        if let Some(context) = &guest.context {
            let sum = Sum { sha256: "0".repeat(64), bytes: 1024 };
            files.contexts.insert(context.path.clone(), PackedTree { path: PathBuf::from("/project").join(&context.path), sum });
        }
        if let GuestKind::CloudImage { image, .. } = &guest.kind {
            let stored = StoredImage {
                path: PathBuf::from("/images/disks").join(&image.path),
                digest: image.path.clone(),
                virtual_bytes: 2 << 30,
                user: None,
            };
            files.images.insert(image.path.clone(), stored);
        }
        if let GuestKind::Docker(container) = &guest.kind {
            files.env_files.extend(container.env_file.iter().map(|file| (file.path.clone(), BTreeMap::new())));
            files.trees.extend(container.volumes.iter().map(|mount| (mount.source.path.clone(), PathBuf::from("/project/tree"))));
        }
    }
    anywhere::blueprint(topology, &files)
}
