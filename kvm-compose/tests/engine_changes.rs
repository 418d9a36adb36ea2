//! What an edit of the file changes, and what it leaves alone.

mod fake;

use std::collections::BTreeSet;

use fake::{FakeHost, World, blueprint, down, steps, up};
use kvm_compose::{
    api::UpOptions,
    error::Code,
    plan::{observed::Stranger, step::Work},
};
use proptest::prelude::*;

/// A testbed of guests on switches with a router; a guest is (number, switch, dynamic).
fn testbed(switches: u8, guests: &[(u8, u8, bool)]) -> String {
    let mut text = "machines:\n".to_string();
    if guests.is_empty() {
        text = "machines: []\n".to_string();
    }
    for (number, switch, dynamic) in guests {
        let switch = switch % switches;
        let ip = if *dynamic { "dynamic".to_string() } else { format!("10.0.{switch}.{}", 100 + number) };
        text.push_str(&format!("  - {{name: g{number}, micro: {{}}, network: [{{switch: s{switch}, ip: {ip}}}]}}\n"));
    }
    text.push_str("network:\n  ovn:\n    switches:\n");
    for switch in 0..switches {
        text.push_str(&format!("      s{switch}: {{subnet: 10.0.{switch}.0/24}}\n"));
    }
    text.push_str("    routers:\n      r:\n        ports:\n");
    for switch in 0..switches {
        text.push_str(&format!("          - {{name: p{switch}, gateway_ip: 10.0.{switch}.1/24, switch: s{switch}}}\n"));
    }
    text.push_str("        dhcp: [{switch: s0}]\n");
    text
}

fn brought_up(text: &str) -> FakeHost {
    let host = FakeHost::default();
    up(&host, &blueprint(text, &World::default()), &UpOptions::default()).expect("it comes up");
    host
}

#[test]
fn a_second_up_has_nothing_to_do() {
    let text = testbed(2, &[(1, 0, true), (2, 1, false)]);
    let host = brought_up(&text);
    let wanted = blueprint(&text, &host.world.lock());
    assert_eq!(steps(&host, &wanted), []);
}

#[test]
fn an_added_guest_is_all_that_is_added_wherever_it_stands_in_the_file() {
    let before = [(1, 0, true), (2, 0, true), (3, 1, false)];
    let after = [(4, 0, true), (1, 0, true), (2, 0, true), (3, 1, false)];
    let host = brought_up(&testbed(2, &before));
    let wanted = blueprint(&testbed(2, &after), &host.world.lock());
    let steps = steps(&host, &wanted);
    let ids: BTreeSet<String> = steps.iter().map(|step| step.id.to_string()).collect();
    assert_eq!(ids, ["network", "seed/g4", "start/g4", "ready/g4"].map(String::from).into());
    let Some(Work::Network { change }) = steps.iter().map(|step| &step.work).find(|work| matches!(work, Work::Network { .. })) else {
        panic!("no network step")
    };
    assert_eq!(change.insert.iter().map(|row| row.key.0.as_str()).collect::<Vec<_>>(), ["port/g4/0"]);
    // Its name is told to all.
    assert_eq!(change.update.iter().map(|update| update.key.0.as_str()).collect::<Vec<_>>(), ["dns"]);
    assert!(change.delete.is_empty());
}

#[test]
fn a_removed_guest_is_all_that_is_removed() {
    let host = brought_up(&testbed(2, &[(1, 0, true), (2, 0, true), (3, 1, false)]));
    let wanted = blueprint(&testbed(2, &[(2, 0, true), (3, 1, false)]), &host.world.lock());
    let steps = steps(&host, &wanted);
    assert!(steps.iter().all(|step| step.id.as_str().contains("g1") || step.id.as_str() == "network"), "{steps:?}");
    up(&host, &wanted, &UpOptions::default()).expect("it comes up");
    let world = host.world.lock();
    assert!(world.starts.values().all(|starts| *starts == 1));
    assert!(!world.files.iter().any(|file| file.what.to_string_lossy().contains("g1")), "{:?}", world.files);
}

#[test]
fn a_changed_guest_restarts_alone_and_a_dead_one_is_started() {
    let text = testbed(1, &[(1, 0, false), (2, 0, false)]);
    let host = brought_up(&text);
    let wanted = blueprint(&text.replacen("micro: {}", "micro: {memory_mb: 256}", 1), &host.world.lock());
    up(&host, &wanted, &UpOptions::default()).expect("it comes up");
    assert_eq!(host.world.lock().starts.values().copied().collect::<Vec<_>>(), [2, 1]);
    for domain in host.world.lock().domains.values_mut() {
        (domain.active, domain.agent, domain.state) = (false, false, "shut off".to_string());
    }
    assert_eq!(
        steps(&host, &wanted).iter().map(|step| step.id.as_str()).collect::<Vec<_>>(),
        ["start/g1", "ready/g1", "start/g2", "ready/g2"]
    );
}

#[test]
fn a_paused_guest_is_made_to_run_and_keeps_running_when_the_action_fails() {
    let text = testbed(1, &[(1, 0, false), (2, 0, false)]);
    let host = brought_up(&text);
    let wanted = blueprint(&text, &host.world.lock());
    for domain in host.world.lock().domains.values_mut().filter(|domain| domain.guest.as_str() == "g1") {
        (domain.agent, domain.state) = (false, "paused".to_string());
    }
    let steps = steps(&host, &wanted);
    assert_eq!(steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ["start/g1", "ready/g1"]);
    assert!(steps.iter().all(|step| step.undo.is_none()), "taking back must not stop what ran before");
    up(&host, &wanted, &UpOptions::default()).expect("it comes up");
    assert_eq!(host.world.lock().domains.values().filter(|domain| domain.state == "running").count(), 2);
}

#[test]
fn only_the_named_guests_come_up() {
    let host = FakeHost::default();
    let wanted = blueprint(&testbed(1, &[(1, 0, false), (2, 0, false)]), &World::default());
    let options = |name: &str| UpOptions { guests: vec![name.parse().expect("valid")], ..UpOptions::default() };
    up(&host, &wanted, &options("g2")).expect("it comes up");
    assert_eq!(host.world.lock().domains.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["g2"]);
    assert_eq!(up(&host, &wanted, &options("g9")).expect_err("no such guest").code, Code::NotFound);
}

#[test]
fn provision_makes_every_guest_anew() {
    let text = testbed(1, &[(1, 0, false)]);
    let host = brought_up(&text);
    let wanted = blueprint(&text, &host.world.lock());
    up(&host, &wanted, &UpOptions { provision: true, ..UpOptions::default() }).expect("it comes up");
    assert_eq!(host.world.lock().starts.values().copied().collect::<Vec<_>>(), [2]);
}

#[test]
fn strangers_and_missing_bases_are_refused_before_anything_is_done() {
    let wanted = blueprint(&testbed(1, &[(1, 0, false)]), &World::default());
    let host = FakeHost::default();
    host.strangers.lock().push(Stranger {
        kind: "domain".to_string(),
        name: "lab.g1".to_string(),
        hint: "rename it".to_string(),
        installation: None,
        deployment: None,
    });
    let problem = up(&host, &wanted, &UpOptions::default()).expect_err("a stranger");
    assert_eq!((problem.code, problem.hint.as_deref()), (Code::Conflict, Some("rename it")));
    *host.strangers.lock() = vec![Stranger::of_installation("domain", "lab.g1", "an-id", "lab")];
    let problem = up(&host, &wanted, &UpOptions::default()).expect_err("another installation's");
    assert_eq!(problem.message, "there is a domain named `lab.g1` already: another installation, an-id, has it");
    assert!(problem.hint.is_some_and(|hint| hint.contains("take it down there")));
    let other = FakeHost::default();
    let (on, path) = (wanted.guests[0].host.clone(), wanted.guests[0].bases[0].path.clone());
    other.missing.lock().push(kvm_compose::plan::observed::MissingBase { host: on, path, why: "does not exist".to_string() });
    let problem = up(&other, &wanted, &UpOptions::default()).expect_err("a missing base");
    assert_eq!(problem.code, Code::ImageMissing);
    assert!(problem.message.contains("`g1`"), "{}", problem.message);
    assert!(host.history.lock().is_empty() && other.history.lock().is_empty());
}

#[test]
fn a_host_that_does_not_exist_is_told_with_its_place() {
    let text = testbed(1, &[(1, 0, false)]).replace("micro: {}", "micro: {}, placement: {host: moon}");
    let name = "lab".parse().expect("valid");
    let loaded = kvm_compose::topology::load("other.yaml", &text, &name, &Default::default()).expect("it loads");
    let problem = kvm_compose::plan::place(&loaded.topology.guests, &fake::hosts()).expect_err("no such host");
    let at = problem.at.expect("a place");
    assert_eq!((problem.code, at.file.as_str(), at.line), (Code::Capacity, "other.yaml", 2));
    assert_eq!(text.lines().nth(1).expect("a line").chars().skip(at.column as usize - 1).take(4).collect::<String>(), "moon");
}

fn any_testbed() -> impl Strategy<Value = String> {
    (1u8..4, proptest::collection::btree_map(0u8..12, (0u8..4, any::<bool>()), 0..7)).prop_map(|(switches, guests)| {
        testbed(switches, &guests.into_iter().map(|(number, (switch, dynamic))| (number, switch, dynamic)).collect::<Vec<_>>())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// From any testbed to any other: the world ends as wanted, planning again is empty, and down leaves nothing.
    #[test]
    fn any_change_ends_as_if_made_from_nothing(first in any_testbed(), second in any_testbed()) {
        let host = brought_up(&first);
        let wanted = blueprint(&second, &host.world.lock());
        up(&host, &wanted, &UpOptions::default()).expect("it changes");
        let fresh = FakeHost::default();
        up(&fresh, &wanted, &UpOptions::default()).expect("it comes up");
        prop_assert_eq!(host.world.lock().shape(), fresh.world.lock().shape());
        prop_assert_eq!(steps(&host, &wanted).len(), 0);
        down(&host).expect("it goes down");
        prop_assert_eq!(host.world.lock().shape(), World::default());
    }
}

#[test]
fn a_guest_that_moves_leaves_nothing_behind_and_its_base_travels_once() {
    let text = |host: &str| {
        format!(
            "machines:\n  - {{name: a, micro: {{}}, network: [{{switch: lan}}], placement: {{host: {host}}}}}\n  \
             - {{name: b, micro: {{}}, network: [{{switch: lan}}], placement: {{host: h1}}}}\n\
             network: {{ovn: {{switches: {{lan: {{subnet: 10.9.0.0/24}}}}}}}}\n"
        )
    };
    let host = FakeHost::default();
    up(&host, &blueprint(&text("master"), &World::default()), &UpOptions::default()).expect("up");
    let fetches = |host: &FakeHost| host.history.lock().iter().filter(|work| matches!(work, Work::FetchBase { .. })).count();
    assert_eq!(fetches(&host), 2, "kernel and initramfs");
    let moved = blueprint(&text("h1"), &host.world.lock().clone());
    let plan: Vec<String> = steps(&host, &moved).iter().map(|step| format!("{} on {}", step.id, step.host)).collect();
    assert!(plan.contains(&"remove/a on master".to_string()) && plan.contains(&"start/a on h1".to_string()), "{plan:?}");
    up(&host, &moved, &UpOptions::default()).expect("moved");
    assert_eq!(fetches(&host), 2, "they are there");
    let world = host.world.lock().clone();
    assert!(world.domains.values().all(|domain| domain.host.as_str() == "h1") && world.files.iter().all(|file| file.host.as_str() == "h1"));
    down(&host).expect("down");
    assert_eq!(host.world.into_inner().shape(), World::default());
}
