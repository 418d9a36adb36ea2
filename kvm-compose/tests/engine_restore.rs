//! Restoring: guests go on from their memory, all at once, whatever faults come in between.

mod fake;

use std::collections::BTreeMap;
use std::path::PathBuf;

use fake::{Events, FakeHost, Fault, World, blueprint, up};
use kvm_compose::{
    api::{UpOptions, snapshot::GuestReport},
    error::Problem,
    names::GuestName,
    orchestrate::{
        Operation,
        host::{Cancel, Host},
        restore::{Back, restore},
    },
    plan::{
        blueprint::Blueprint,
        restore::Life,
        snapshot::{SavedLink, SavedPort},
        step::Work,
    },
};
use uuid::Uuid;

/// `b` waits for `a` when it boots; `c` is a container; `off` was off, `held` was paused; a script runs in `a`.
const FILE: &str = "machines:
  - {name: a, micro: {setup_script: s.sh, run_script: r.sh}, network: [{switch: lan, ip: 10.0.0.1, impairment: {delay_ms: 5}}]}
  - {name: b, micro: {}, depends_on: [a], network: [{switch: lan, ip: 10.0.0.2}]}
  - {name: c, docker: {image: web}, network: [{switch: lan, ip: 10.0.0.3}]}
  - {name: held, micro: {}, network: [{switch: lan, ip: 10.0.0.4}]}
  - {name: off, micro: {}, network: [{switch: lan, ip: 10.0.0.5}]}
network: {ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}
";

fn name(text: &str) -> GuestName {
    GuestName::new(text).expect("valid")
}

fn lives() -> BTreeMap<GuestName, Life> {
    let load = |guest: &str, paused| (name(guest), Life::Load { memory: PathBuf::from(format!("/snap/{guest}.memory")), paused });
    BTreeMap::from([
        load("a", false),
        load("b", false),
        (name("c"), Life::Boot { image: Some("testbedos-snapshot:c".to_string()) }),
        load("held", true),
        (name("off"), Life::Off),
    ])
}

/// A testbed that is up, and then given up as a restore gives it up.
fn given_up() -> (FakeHost, Blueprint) {
    let host = FakeHost::default();
    let wanted = blueprint(FILE, &World::default());
    up(&host, &wanted, &UpOptions::default()).expect("it comes up");
    host.world.lock().domains.clear();
    host.history.lock().clear();
    let wanted = blueprint(FILE, &host.world.lock());
    (host, wanted)
}

fn port(wanted: &Blueprint, guest: &str) -> Uuid {
    let guest = wanted.guests.iter().find(|found| found.name.as_str() == guest).expect("a guest");
    guest.links[0].port
}

fn back(host: &FakeHost, wanted: &Blueprint, lives: &BTreeMap<GuestName, Life>, alone: bool) -> (Vec<GuestReport>, Result<(), Problem>) {
    let (events, cancel) = (Events::default(), Cancel::new());
    let operation = Operation { uuid: Uuid::from_u128(9), cancel: &cancel, sink: &events };
    // The link of `a` was shaped by hand when the snapshot was made, and the cable of `b` pulled.
    let mut shape = wanted.guests[0].links[0].shape;
    shape.to_guest.delay_us = 77_000;
    let links = [SavedLink { port: port(wanted, "a"), shape }];
    let down = [SavedPort { guest: name("b"), port: port(wanted, "b") }];
    restore(host, wanted, &Back { lives, alone, links: &links, down: &down }, &operation)
}

#[test]
fn memory_is_loaded_and_links_are_set_before_anybody_runs() {
    let (host, wanted) = given_up();
    let (reports, outcome) = back(&host, &wanted, &lives(), false);
    outcome.expect("restored");
    assert_eq!(reports.iter().map(|report| (report.guest.as_str(), report.error_code)).collect::<Vec<_>>().len(), 5);
    assert!(reports.iter().all(|report| report.error_code == 0), "{reports:?}");
    let history = host.history.lock();
    let kind = |work: &Work| match work {
        Work::LoadDomain { domain, .. } => format!("load {}", domain.guest),
        Work::WakeDomain { guest, .. } => format!("resume {guest}"),
        Work::StartDomain { domain } => format!("start {}", domain.guest),
        Work::ShapeLink { guest, link, .. } => format!("shape {guest} {}", link.shape.to_guest.delay_us),
        Work::SetCarrier { guest, up, .. } => format!("carrier {guest} {up}"),
        Work::AwaitReady { guest, .. } => format!("ready {guest}"),
        Work::RunScript { guest, .. } => format!("script {guest}"),
        Work::PullImage { image } => format!("pull {image}"),
        other => format!("{other:?}"),
    };
    let done: Vec<String> = history.iter().map(kind).collect();
    let at = |what: &str| done.iter().position(|found| found == what).unwrap_or_else(|| panic!("no `{what}` in {done:?}"));
    for first in ["load a", "load b", "load held", "shape a 77000", "carrier b false"] {
        for then in ["resume a", "resume b"] {
            assert!(at(first) < at(then), "{done:?}");
        }
    }
    at("start c");
    for never in ["resume held", "start off", "start a", "ready a", "script a", "pull web", "load c"] {
        assert!(!done.iter().any(|found| found == never), "`{never}` in {done:?}");
    }
    let container = history.iter().find_map(|work| match work {
        Work::StartDomain { domain } => domain.container.clone(),
        _ => None,
    });
    assert_eq!(container.expect("a container").restored.as_deref(), Some("testbedos-snapshot:c"));
    let world = host.world.lock();
    let state = |guest: &str| world.domains.get(&name(guest)).map(|domain| domain.state.clone());
    assert_eq!((state("a").as_deref(), state("held").as_deref(), state("off")), (Some("running"), Some("paused"), None));
}

#[test]
fn one_guest_comes_back_alone() {
    let (host, wanted) = given_up();
    up(&host, &wanted, &UpOptions::default()).expect("it comes up again");
    host.world.lock().domains.remove(&name("a"));
    let others = |host: &FakeHost| {
        let mut domains = host.world.lock().domains.clone();
        domains.remove(&name("a"));
        domains
    };
    let before = others(&host);
    let only = lives().into_iter().filter(|(guest, _)| guest.as_str() == "a").collect();
    back(&host, &wanted, &only, true).1.expect("restored");
    assert_eq!(others(&host), before, "the others are as they were");
    assert_eq!(host.world.lock().domains[&name("a")].state, "running");
}

#[test]
fn a_restore_that_failed_anywhere_is_finished_by_the_next() {
    let (host, wanted) = given_up();
    let start = host.world.lock().clone();
    back(&host, &wanted, &lives(), false).1.expect("restored");
    let (expected, works) = (host.world.lock().shape(), host.history.lock().clone());
    for work in &works {
        for fault in Fault::ALL {
            // Whoever asks it to stop is not heard once what was there is given up.
            if fault == Fault::Cancel {
                continue;
            }
            let broken = FakeHost::with(start.clone());
            broken.fail_at(work, fault);
            let (reports, outcome) = back(&broken, &wanted, &lives(), false);
            let problem = outcome.expect_err("it failed");
            let runs = broken.world.lock().domains.values().any(|domain| domain.state == "running" && domain.image.is_empty());
            // What becomes of a container is no matter of the machines.
            let of_life = matches!(work, Work::WakeDomain { .. } | Work::StartDomain { .. } | Work::AwaitReady { .. });
            assert!(!runs || of_life, "a machine runs though `{work:?}` failed");
            if let Work::LoadDomain { domain, .. } = work
                && !fault.dies()
            {
                let failed: Vec<&str> =
                    reports.iter().filter(|report| report.error_code != 0).map(|report| report.guest.as_str()).collect();
                assert_eq!(failed, [domain.guest.as_str()], "{problem:?}");
            }
            let again = FakeHost::with(broken.world.lock().clone());
            back(&again, &wanted, &lives(), false).1.unwrap_or_else(|problem| panic!("{fault:?} at {work:?}: {problem:?}"));
            assert_eq!(again.world.lock().shape(), expected, "{fault:?} at {work:?}");
            assert!(again.observe(&fake::deployment(), None).is_ok());
        }
    }
}
