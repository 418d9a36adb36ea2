//! Live change: NICs, addresses and networks of running guests, with faults at every step, and from any testbed to any other.

mod fake;

use std::collections::BTreeMap;

use fake::{FakeHost, Fault, World, blueprint, down, steps, up};
use kvm_compose::{
    api::UpOptions,
    orchestrate::host::{Cancel, Context, Host},
    plan::step::Impact,
};
use proptest::prelude::*;

/// A guest: its memory, and its NICs.
#[derive(Debug, Clone, PartialEq)]
struct Guest {
    memory: u16,
    disk: bool,
    nics: Vec<Nic>,
}

/// A NIC: its switch, a fixed address or none, a MAC address of its own or none.
#[derive(Debug, Clone, PartialEq)]
struct Nic {
    switch: u8,
    ip: Option<u8>,
    mac: bool,
}

/// What a testbed file may say.
#[derive(Debug, Clone, PartialEq)]
struct Testbed {
    switches: u8,
    guests: BTreeMap<u8, Guest>,
    routes: Vec<u8>,
    dhcp: bool,
}

impl Testbed {
    fn yaml(&self) -> String {
        let mut text = "machines:\n".to_string();
        if self.guests.is_empty() {
            text = "machines: []\n".to_string();
        }
        for (number, guest) in &self.guests {
            let nics: Vec<String> = guest.nics.iter().enumerate().map(|(index, nic)| self.nic(*number, index, nic)).collect();
            let kind = if guest.disk {
                format!("libvirt: {{cpus: 1, memory_mb: {}, libvirt_type: {{existing_disk: {{path: d.img}}}}}}", guest.memory)
            } else {
                format!("micro: {{memory_mb: {}}}", guest.memory)
            };
            text.push_str(&format!("  - {{name: g{number}, {kind}, network: [{}]}}\n", nics.join(", ")));
        }
        text.push_str("network:\n  ovn:\n    switches:\n");
        for switch in 0..self.switches {
            text.push_str(&format!("      s{switch}: {{subnet: 10.0.{switch}.0/24}}\n"));
        }
        text.push_str("    routers:\n      r:\n        ports:\n");
        for switch in 0..self.switches {
            text.push_str(&format!("          - {{name: p{switch}, gateway_ip: 10.0.{switch}.1/24, switch: s{switch}}}\n"));
        }
        let routes: Vec<String> = self.routes.iter().map(|to| format!("{{prefix: 10.{}.0.0/16, nexthop: 10.0.0.2}}", 100 + to)).collect();
        text.push_str(&format!("        static_routes: [{}]\n", routes.join(", ")));
        if self.dhcp {
            text.push_str("        dhcp: [{switch: s0, exclude_ips: {from: 10.0.0.1, to: 10.0.0.9}}]\n");
        }
        text
    }

    fn nic(&self, guest: u8, index: usize, nic: &Nic) -> String {
        let switch = nic.switch % self.switches;
        let ip = nic.ip.map_or("dynamic".to_string(), |ip| format!("10.0.{switch}.{}", 100 + guest * 8 + index as u8 * 2 + ip % 2));
        let mac = if nic.mac { format!(", mac: \"02:00:00:00:{guest:02x}:{index:02x}\"") } else { String::new() };
        format!("{{switch: s{switch}, ip: {ip}{mac}}}")
    }
}

/// The world without whether an agent was seen: a guest that need not have one is not waited for.
fn settled(world: &World) -> World {
    let mut world = world.shape();
    world.domains.values_mut().for_each(|domain| domain.agent = true);
    world
}

fn brought_up(text: &str) -> FakeHost {
    let host = FakeHost::default();
    up(&host, &blueprint(text, &World::default()), &UpOptions::default()).expect("it comes up");
    host
}

/// Pairs of testbeds, the second an edit of the first.
const EDITS: &[(&str, &str, &str)] = &[
    ("a NIC more", "[{switch: lan, ip: 10.9.0.5}]", "[{switch: lan, ip: 10.9.0.5}, {switch: wan}]"),
    ("a NIC less", "[{switch: lan, ip: 10.9.0.6}, {switch: wan}]", "[{switch: lan, ip: 10.9.0.6}]"),
    ("no NIC", "[{switch: lan, ip: 10.9.0.5}]", "[]"),
    ("another switch", "[{switch: lan, ip: 10.9.0.5}]", "[{switch: wan, ip: 10.8.0.5}]"),
    ("another address", "ip: 10.9.0.5", "ip: 10.9.0.77"),
    ("another MAC address", "ip: 10.9.0.5", "ip: 10.9.0.5, mac: \"02:00:00:00:00:42\""),
    ("a gateway", "ip: 10.9.0.5", "ip: 10.9.0.5, gateway: 10.9.0.1"),
    ("the first NIC goes", "[{switch: lan, ip: 10.9.0.6}, {switch: wan}]", "[{switch: wan}]"),
    ("a route", "static_routes: []", "static_routes: [{prefix: 0.0.0.0/0, nexthop: 10.8.0.254}]"),
    ("DHCP goes", "dhcp: [{switch: wan}]", "dhcp: []"),
    ("a container's address", "ip: 10.9.0.8", "ip: 10.9.0.88"),
    ("a container's switch", "[{switch: lan, ip: 10.9.0.8}]", "[{switch: wan, ip: 10.8.0.8}]"),
    ("a container's second NIC", "[{switch: lan, ip: 10.9.0.8}]", "[{switch: lan, ip: 10.9.0.8}, {switch: wan}]"),
    ("a container without a NIC", "[{switch: lan, ip: 10.9.0.8}]", "[]"),
    ("more memory", "memory_mb: 256", "memory_mb: 512"),
    ("all at once", "[{switch: lan, ip: 10.9.0.5}]}", "[{switch: wan, mac: \"02:00:00:00:00:43\"}, {switch: lan}]}"),
];

const BEFORE: &str = "
machines:
  - {name: a, micro: {}, network: [{switch: lan, ip: 10.9.0.5}]}
  - {name: b, micro: {}, network: [{switch: lan, ip: 10.9.0.6}, {switch: wan}]}
  - {name: d, libvirt: {cpus: 1, memory_mb: 256, libvirt_type: {existing_disk: {path: d.img}}}, network: [{switch: lan, ip: 10.9.0.7}], placement: {host: h1}}
  - {name: k, docker: {image: box}, network: [{switch: lan, ip: 10.9.0.8}]}
network:
  ovn:
    switches: {lan: {subnet: 10.9.0.0/24}, wan: {subnet: 10.8.0.0/24}}
    routers:
      r:
        ports: [{name: p1, gateway_ip: 10.9.0.1/24, switch: lan}, {name: p2, gateway_ip: 10.8.0.1/24, switch: wan}]
        static_routes: []
        dhcp: [{switch: wan}]
";

fn edits() -> impl Iterator<Item = (&'static str, String)> {
    EDITS.iter().map(|(name, from, to)| {
        assert!(BEFORE.contains(from), "{name}");
        (*name, BEFORE.replacen(from, to, 1))
    })
}

#[test]
fn an_edit_of_the_network_restarts_nobody() {
    for (name, after) in edits() {
        let host = brought_up(BEFORE);
        let wanted = blueprint(&after, &host.world.lock());
        let impacts: Vec<Impact> = steps(&host, &wanted).iter().map(|step| step.impact).collect();
        up(&host, &wanted, &UpOptions::default()).expect("it changes");
        let restarted = host.world.lock().starts.values().any(|starts| *starts > 1);
        assert_eq!(restarted, name == "more memory", "{name}");
        assert_eq!(impacts.contains(&Impact::Restart), restarted, "{name}: {impacts:?}");
        assert!(!impacts.contains(&Impact::Recreate), "{name}: {impacts:?}");
        assert_eq!(steps(&host, &wanted), [], "{name}");
    }
}

#[test]
fn who_brings_up_one_guest_cuts_off_no_other() {
    for (name, after) in edits() {
        let host = brought_up(BEFORE);
        let wanted = blueprint(&after, &host.world.lock());
        let only = UpOptions { guests: vec!["d".parse().expect("valid")], ..UpOptions::default() };
        up(&host, &wanted, &only).expect("it changes");
        // All that the others need was done with it: the network is one.
        assert_eq!(steps(&host, &wanted), [], "{name}");
        let restarted: Vec<bool> = host.world.lock().starts.iter().map(|(_, starts)| *starts > 1).collect();
        assert_eq!(restarted.contains(&true), name == "more memory", "{name}");
    }
    // One that does not run stays as it is.
    let host = brought_up(BEFORE);
    host.world.lock().domains.values_mut().filter(|domain| domain.guest.as_str() == "a").for_each(|domain| domain.active = false);
    let wanted = blueprint(&BEFORE.replacen("ip: 10.9.0.5", "ip: 10.9.0.77", 1), &host.world.lock());
    let only = UpOptions { guests: vec!["d".parse().expect("valid")], ..UpOptions::default() };
    up(&host, &wanted, &only).expect("it changes");
    assert!(host.world.lock().domains.values().any(|domain| domain.guest.as_str() == "a" && !domain.active));
}

#[test]
fn a_failure_at_any_step_of_an_edit_is_taken_back_and_a_death_is_repaired() {
    let mut points = 0;
    for (name, after) in edits() {
        let before = brought_up(BEFORE);
        let old = before.world.lock().clone();
        let wanted = blueprint(&after, &old);
        let finished = FakeHost::with(old.clone());
        up(&finished, &wanted, &UpOptions::default()).expect("it changes");
        let finished = finished.world.into_inner();
        for step in steps(&before, &wanted) {
            for fault in Fault::ALL {
                points += 1;
                let at = || format!("{name}: {} {fault:?}", step.id);
                let host = FakeHost::with(old.clone());
                host.fail_at(&step.work, fault);
                let failed = up(&host, &wanted, &UpOptions::default());
                assert!(failed.is_err(), "{}", at());
                let world = host.world.into_inner();
                // A guest that was taken down is not brought back: its memory is gone in any case.
                if !fault.dies() && name != "more memory" {
                    assert!(world.shape() == old.shape(), "{} was not taken back: {failed:?}", at());
                }
                let again = FakeHost::with(world.clone());
                up(&again, &wanted, &UpOptions::default()).unwrap_or_else(|problem| panic!("{}: {problem:?}", at()));
                assert!(settled(&again.world.lock()) == settled(&finished), "{}", at());
                assert_eq!(steps(&again, &wanted), [], "{}", at());
                // Or back to where it was.
                let back = FakeHost::with(world.clone());
                let first = blueprint(BEFORE, &World::default());
                up(&back, &first, &UpOptions::default()).unwrap_or_else(|problem| panic!("{}: {problem:?}", at()));
                assert!(settled(&back.world.lock()).domains == settled(&old).domains, "{}", at());
                let gone = FakeHost::with(world);
                down(&gone).expect("it goes down");
                assert_eq!(gone.world.into_inner().shape(), World::default(), "{}", at());
            }
        }
    }
    assert!(points > 150, "the matrix has shrunk to {points} points");
}

#[test]
fn every_step_of_an_edit_and_every_undo_can_be_repeated() {
    let say = |_: &str| {};
    let (cancel, deployment) = (Cancel::new(), fake::deployment());
    for (name, after) in edits() {
        let on = |host| Context { host, deployment: &deployment, operation: uuid::Uuid::nil(), cancel: &cancel, say: &say };
        let (once, twice) = (brought_up(BEFORE), brought_up(BEFORE));
        let old = once.world.lock().shape();
        let wanted = blueprint(&after, &old);
        let steps = steps(&once, &wanted);
        for step in &steps {
            once.apply(&step.work, &on(&step.host)).expect("once");
            for _ in 0..2 {
                twice.apply(&step.work, &on(&step.host)).expect("twice");
            }
        }
        assert_eq!(once.world.lock().shape(), twice.world.lock().shape(), "{name}");
        for undo in steps.iter().rev().filter_map(|step| Some((step.undo.as_ref()?, &step.host))) {
            for _ in 0..2 {
                twice.apply(undo.0, &on(undo.1)).expect("undone");
            }
        }
        if name != "more memory" {
            assert_eq!(twice.world.lock().shape(), old, "{name}");
        }
    }
}

#[test]
fn guests_are_named_and_untouched_ones_told_apart() {
    let host = brought_up(BEFORE);
    let plan = |after: &str| {
        let wanted = blueprint(after, &host.world.lock());
        kvm_compose::orchestrate::plan(&host, &wanted, &UpOptions::default()).expect("a plan")
    };
    let names = |guests: &[kvm_compose::names::GuestName]| guests.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
    let route = plan(&BEFORE.replace("static_routes: []", "static_routes: [{prefix: 0.0.0.0/0, nexthop: 10.8.0.254}]"));
    assert_eq!(route.changes.len(), 1, "{route:?}");
    let change = &route.changes[0];
    assert_eq!(
        (change.thing.as_str(), change.impact, names(&change.guests), names(&change.traffic)),
        ("router r", Impact::InPlace, String::new(), "a b d k".to_string())
    );
    assert_eq!(route.summary, "1 in place, nothing restarts");
    assert_eq!((names(&route.steps[0].guests), names(&route.steps[0].traffic)), (String::new(), "a b d k".to_string()));
    let nic = plan(&BEFORE.replace("[{switch: lan, ip: 10.9.0.5}]", "[{switch: lan, ip: 10.9.0.5}, {switch: wan}]"));
    // The guest has another name's address: names are a row of their own.
    assert_eq!(nic.summary, "1 in place, 1 hot-plug, nothing restarts");
    assert!(nic.changes[0].what.contains("eth1 plugged"), "{nic:?}");
    let memory = plan(&BEFORE.replace("memory_mb: 256", "memory_mb: 512"));
    assert_eq!((memory.summary.as_str(), memory.changes[0].what.as_str()), ("1 restart", "memory 256 → 512 MiB"));
    let micro = plan(&BEFORE.replacen("micro: {}", "micro: {memory_mb: 256}", 1));
    assert_eq!((micro.summary.as_str(), names(&micro.changes[0].guests)), ("1 recreate", "a".to_string()));
    assert!(plan(BEFORE).changes.is_empty() && plan(BEFORE).summary.is_empty());
}

const TWO_ROUTERS: &str = "
machines:
  - {name: pc, micro: {}, network: [{switch: home, ip: 10.140.0.5, gateway: 10.140.0.1}]}
  - {name: web, micro: {}, network: [{switch: racks, ip: 10.141.0.5, gateway: 10.141.0.1}]}
  - {name: db, micro: {}, network: [{switch: racks, ip: 10.141.0.6, gateway: 10.141.0.1}]}
  - {name: alone, micro: {}, network: [{switch: island, ip: 10.142.0.5}]}
network:
  ovn:
    switches: {home: {subnet: 10.140.0.0/24}, line: {subnet: 10.143.0.0/24}, racks: {subnet: 10.141.0.0/24}, island: {subnet: 10.142.0.0/24}}
    routers:
      west:
        ports:
          - {name: west-home, gateway_ip: 10.140.0.1/24, switch: home}
          - {name: west-line, gateway_ip: 10.143.0.1/24, switch: line, set_gateway_chassis: h1}
        static_routes: [{prefix: 10.141.0.0/24, nexthop: 10.143.0.2}]
        nat: [{nat_type: snat, external_ip: 10.143.0.1, logical_ip: 10.141.0.0/16}]
      east:
        ports:
          - {name: east-line, gateway_ip: 10.143.0.2/24, switch: line}
          - {name: east-racks, gateway_ip: 10.141.0.1/24, switch: racks}
        static_routes: [{prefix: 0.0.0.0/0, nexthop: 10.143.0.1}]
    acl: {apply_deny_all: false, switches: {racks: []}}
";

#[test]
fn traffic_is_followed_through_as_many_routers_as_there_are() {
    let host = brought_up(TWO_ROUTERS);
    let traffic = |from: &str, to: &str, thing: &str| {
        assert!(TWO_ROUTERS.contains(from), "{from}");
        let wanted = blueprint(&TWO_ROUTERS.replace(from, to), &host.world.lock());
        let plan = kvm_compose::orchestrate::plan(&host, &wanted, &UpOptions::default()).expect("a plan");
        let change = plan.changes.iter().find(|change| change.thing == thing).unwrap_or_else(|| panic!("{thing}: {plan:?}"));
        assert!(change.guests.is_empty(), "{change:?}");
        change.traffic.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ")
    };
    let all = "db pc web";
    let nat = "        nat: [{nat_type: snat, external_ip: 10.143.0.1, logical_ip: 10.141.0.0/16}]\n";
    assert_eq!(traffic(nat, "", "router west"), all);
    assert_eq!(traffic("prefix: 10.141.0.0/24, nexthop", "prefix: 10.141.0.0/25, nexthop", "router west"), all);
    let rule = "racks: [{direction: to-lport, priority: 9, match: \"ip4.src == 10.140.0.5\", action: drop}]";
    assert_eq!(traffic("racks: []", rule, "switch racks"), all);
    let third = "    routers:\n      north: {ports: [{name: north-line, gateway_ip: 10.143.0.9/24, switch: line}]}\n";
    assert_eq!(traffic("    routers:\n", third, "router north"), all);
    // What only the island's guest can hear.
    let bridge = "    routers:\n      shore: {ports: [{name: shore-island, gateway_ip: 10.142.0.1/24, switch: island}]}\n";
    assert_eq!(traffic("    routers:\n", bridge, "router shore"), "alone");
    assert_eq!(
        traffic("island: {subnet: 10.142.0.0/24}", "island: {subnet: 10.142.0.0/24}, new: {subnet: 10.144.0.0/24}", "switch new"),
        ""
    );
}

/// Somebody took a running guest's port off its bridge: the NIC is plugged anew, said so, and nobody restarts.
#[test]
fn a_nic_whose_port_stands_in_no_bridge_is_plugged_again() {
    let host = brought_up(BEFORE);
    let wanted = blueprint(BEFORE, &host.world.lock());
    let lost = wanted.guests[1].domain.nics[1].port;
    host.world.lock().unplugged.insert(lost);
    let before = host.world.lock().clone();
    let plan = kvm_compose::orchestrate::plan(&host, &wanted, &UpOptions::default()).expect("a plan");
    let told: Vec<_> = plan.changes.iter().map(|change| (change.thing.as_str(), change.impact, change.what.as_str())).collect();
    let what = "eth1 unplugged, as no bridge of its host holds its port; eth1 plugged; eth1 configured anew through its agent";
    assert_eq!(told, [("guest b", Impact::HotPlug, what)]);
    let all = steps(&host, &wanted);
    let ids: Vec<&str> = all.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["release/b", "unplug/b/eth1", "plug/b/eth1", "configure/b"]);
    for step in &all {
        for fault in Fault::ALL {
            let host = FakeHost::with(before.clone());
            host.fail_at(&step.work, fault);
            up(&host, &wanted, &UpOptions::default()).expect_err("it fails");
            let again = FakeHost::with(host.world.into_inner());
            up(&again, &wanted, &UpOptions::default()).unwrap_or_else(|problem| panic!("{} {fault:?}: {problem:?}", step.id));
            assert!(again.world.lock().unplugged.is_empty() && steps(&again, &wanted).is_empty(), "{} {fault:?}", step.id);
        }
    }
    up(&host, &wanted, &UpOptions::default()).expect("it mends");
    let mended = host.world.lock().clone();
    assert!(mended.unplugged.is_empty() && mended.starts == before.starts && mended.inside == before.inside);
    assert_eq!(steps(&host, &wanted), []);
}

fn any_testbed() -> impl Strategy<Value = Testbed> {
    let nic = (0u8..4, proptest::option::of(0u8..2), any::<bool>()).prop_map(|(switch, ip, mac)| Nic { switch, ip, mac });
    let guest = (prop_oneof![Just(128u16), Just(192)], proptest::bool::weighted(0.3), proptest::collection::vec(nic, 0..4))
        .prop_map(|(memory, disk, nics)| Guest { memory, disk, nics });
    (1u8..4, proptest::collection::btree_map(0u8..5, guest, 0..5), proptest::collection::btree_set(0u8..4, 0..3), any::<bool>())
        .prop_map(|(switches, guests, routes, dhcp)| Testbed { switches, guests, routes: routes.into_iter().collect(), dhcp })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Plan then apply to a model gives what is wanted, step by step what the impact says, and planning twice is empty.
    #[test]
    fn from_any_testbed_to_any_other(first in any_testbed(), second in any_testbed()) {
        let host = brought_up(&first.yaml());
        let wanted = blueprint(&second.yaml(), &host.world.lock());
        let starts = host.world.lock().starts.clone();
        let plan = steps(&host, &wanted);
        up(&host, &wanted, &UpOptions::default()).expect("it changes");
        let fresh = FakeHost::default();
        up(&fresh, &wanted, &UpOptions::default()).expect("it comes up");
        // Devices, definition, seed, rows, and what each guest's own system has: as if it had booted so.
        prop_assert_eq!(host.world.lock().shape(), fresh.world.lock().shape());
        prop_assert_eq!(steps(&host, &wanted), vec![]);
        for (number, guest) in &first.guests {
            let Some(after) = second.guests.get(number) else { continue };
            let name: kvm_compose::names::GuestName = format!("g{number}").parse().expect("valid");
            let again = host.world.lock().starts[&name] > starts[&name];
            let must = (guest.memory, guest.disk) != (after.memory, after.disk);
            prop_assert_eq!(again, must, "g{} {:?} {:?}", number, guest, after);
            let told = plan.iter().any(|step| step.guests.contains(&name) && matches!(step.impact, Impact::Restart | Impact::Recreate));
            prop_assert_eq!(told, must);
        }
        down(&host).expect("it goes down");
        prop_assert_eq!(host.world.lock().shape(), World::default());
    }
}
