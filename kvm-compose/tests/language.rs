//! The language: what loads, and how every fault of a file is reported.

use kvm_compose::{
    diagnostic::{Diagnostic, Severity},
    error::Code,
    names::DeploymentName,
    spec,
    topology::{self, Assignment, Leases, Loaded},
};
use proptest::prelude::*;

fn load(text: &str) -> Result<Loaded, kvm_compose::error::Problem> {
    topology::load("kvm-compose.yaml", text, &DeploymentName::new("lab").expect("valid"), &Leases::new())
}

fn faults(text: &str) -> Vec<Diagnostic> {
    load(text).expect_err("the file has faults").diagnostics
}

/// (line, column, code) of each error.
fn places(text: &str) -> Vec<(u32, u32, String)> {
    faults(text).into_iter().filter(|d| d.severity == Severity::Error).map(|d| (d.at.line, d.at.column, d.code)).collect()
}

const NETWORK: &str = "network: {ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}\n";

#[test]
fn eight_different_faults_are_reported_at_once_with_their_places_and_hints() {
    let text = "\
machines:
  - name: bad/name
    micro: {}
    network: [{switch: lan, ip: 10.0.0.300}]
  - name: one
    micro: {memory: 128}
    network: [{swich: lan}]
  - name: two
    micro: {cpus: 0}
    network: [{switch: wan, ip: 10.0.0.7}]
  - name: two
    micro: {}
    network: [{switch: lan, ip: 10.9.0.7, mac: '01:00:00:00:00:01'}]
network:
  ovn:
    switches:
      lan: {subnet: 10.0.0.0/24}
";
    let expected = [
        (2, 11, "E010"),
        (4, 33, "E030"),
        (6, 13, "E003"),
        (7, 16, "E003"),
        (9, 19, "E006"),
        (10, 24, "E020"),
        (11, 11, "E011"),
        (13, 33, "E031"),
        (13, 48, "E034"),
    ];
    let expected: Vec<_> = expected.into_iter().map(|(line, column, code)| (line, column, code.to_string())).collect();
    assert_eq!(places(text), expected);
    let problem = load(text).expect_err("faults");
    assert_eq!((problem.code, problem.code.exit_status()), (Code::InvalidFile, 2));
    assert!(problem.diagnostics.iter().all(|d| d.hint.is_some()), "{:#?}", problem.diagnostics);
    let rendered: String = problem.diagnostics.iter().map(Diagnostic::render).collect();
    assert!(rendered.contains("did you mean `switch`?") && rendered.contains("did you mean `memory_mb`?"), "{rendered}");
    assert!(rendered.contains("7 |     network: [{swich: lan}]\n  |                ^^^^^"), "{rendered}");
}

#[test]
fn what_is_not_yaml_is_said_with_its_place() {
    for (text, line) in [
        ("machines: [\n", 1),
        ("a: b: c\n", 1),
        ("machines:\n\t- x\n", 2),
        ("a\0b", 1),
        ("x: 'open\n", 1),
        ("--- 1\n--- 2\n", 2),
        ("&a [*a]", 1),
    ] {
        let places = places(text);
        assert_eq!(places.len(), 1, "{text:?} {places:?}");
        assert_eq!((places[0].0, places[0].2.as_str()), (line, "E001"), "{text:?}");
    }
    assert_eq!(places("")[0].2, "E008");
    assert_eq!(places("a: 1\na: 2\n").iter().filter(|p| p.2 == "E002").count(), 1);
}

#[test]
fn an_alias_bomb_and_deep_nesting_are_refused_quickly() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for level in 1..12 {
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", ")));
    }
    assert!(faults(&bomb)[0].message.contains("aliases"));
    for opener in ["[", "{a: ", "- "] {
        let faults = faults(&opener.repeat(100_000));
        assert_eq!(faults[0].code, "E001", "{faults:?}");
    }
    assert!(faults(&format!("{}{}", "[".repeat(40), "]".repeat(40)))[0].message.contains("nest deeper"));
}

#[test]
fn hostile_names_are_refused_in_every_place() {
    for name in ["../x", "a;b", "<x/>", "'\"'", "😀", "$(id)", "a b", "-rf", ".."] {
        let quoted = serde_json::to_string(name).expect("a string");
        for text in [
            format!("machines: [{{name: {quoted}, micro: {{}}}}]\n{NETWORK}"),
            format!("machines: []\nnetwork: {{ovn: {{switches: {{{quoted}: {{subnet: 10.0.0.0/24}}}}}}}}"),
            format!("machines: []\nnetwork: {{ovn: {{switches: {{}}, routers: {{{quoted}: {{ports: []}}}}}}}}"),
        ] {
            assert!(places(&text).iter().any(|place| place.2 == "E010"), "{text}");
        }
    }
    let long = "a".repeat(10_000);
    let shown = &faults(&format!("machines: [{{name: {long}, micro: {{}}}}]\n{NETWORK}"))[0];
    assert!(shown.message.len() < 200 && shown.render().len() < 1000);
}

#[test]
fn impossible_networks_are_refused() {
    let router = |ports: &str, rest: &str| {
        format!(
            "machines: []\nnetwork:\n  ovn:\n    switches: {{a: {{subnet: 10.0.0.0/24}}, b: {{subnet: 10.0.0.128/25}}, c: {{subnet: 10.1.0.0/24}}}}\n    routers: {{r: {{ports: [{ports}]{rest}}}}}\n"
        )
    };
    let port = |name: &str, ip: &str, switch: &str| format!("{{name: {name}, gateway_ip: {ip}, switch: {switch}}}");
    let p = port("p", "10.0.0.1/24", "a");
    for (code, text) in [
        ("E031", router(&port("p", "10.9.0.1/24", "a"), "")),
        ("E031", router(&port("p", "10.0.0.1/16", "a"), "")),
        ("E032", router(&port("p", "10.0.0.255/24", "a"), "")),
        ("E033", router(&format!("{p}, {}", port("q", "10.0.0.1/24", "a")), "")),
        ("E038", router(&format!("{p}, {}", port("q", "10.0.0.129/25", "b")), "")),
        ("E011", router(&format!("{p}, {}", port("p", "10.1.0.1/24", "c")), "")),
        ("E037", router(&p, ", static_routes: [{prefix: 0.0.0.0/0, nexthop: 192.168.0.1}]")),
        ("E037", router(&p, ", static_routes: [{prefix: 0.0.0.0/0, nexthop: 10.0.0.1}]")),
        ("E021", router(&p, ", dhcp: [{switch: c}]")),
        ("E020", router(&p, ", dhcp: [{switch: d}]")),
        ("E011", router(&p, ", dhcp: [{switch: a}, {switch: a}]")),
        ("E039", router(&p, ", dhcp: [{switch: a, exclude_ips: {from: 10.0.0.9, to: 10.0.0.5}}]")),
        ("E031", router(&p, ", dhcp: [{switch: a, exclude_ips: {from: 10.2.0.1, to: 10.2.0.2}}]")),
    ] {
        assert!(places(&text).iter().any(|place| place.2 == code), "{code}: {text}: {:?}", places(&text));
    }
}

#[test]
fn gateways_and_subnets_that_make_no_sense_are_told() {
    let with = |subnet: &str, nic: &str| {
        format!(
            "machines: [{{name: a, micro: {{}}, network: [{{switch: lan, {nic}}}]}}]\nnetwork: {{ovn: {{switches: {{lan: {{subnet: {subnet}}}}}}}}}\n"
        )
    };
    assert_eq!(places(&with("10.0.0.0/24", "ip: 10.0.0.9, gateway: 10.0.0.9"))[0].2, "E036");
    for subnet in ["224.0.0.0/24", "127.0.0.0/8", "0.0.0.0/0", "0.0.0.0/8", "255.0.0.0/8", "169.254.0.0/16", "ff02::/64"] {
        assert_eq!(places(&with(subnet, "ip: dynamic"))[0].2, "E006", "{subnet}");
    }
    let warnings = |text: &str| load(text).expect("valid").warnings.into_iter().map(|warning| warning.code).collect::<Vec<_>>();
    assert_eq!(warnings(&with("10.0.0.0/24", "ip: 10.0.0.9, gateway: 10.0.0.1")), ["W004"]);
    assert_eq!(warnings(&with("10.0.0.5/24", "ip: 10.0.0.9")), ["W005"]);
}

#[test]
fn one_fault_of_a_router_port_makes_no_others() {
    let text = "machines: []\nnetwork:\n  ovn:\n    switches: {a: {subnet: 10.0.0.0/24}}\n    routers:\n      r:\n        ports: [{name: p, gateway_ip: 10.0.0.0/24, switch: a}]\n        static_routes: [{prefix: 0.0.0.0/0, nexthop: 10.0.0.9}]\n        dhcp: [{switch: a}]\n";
    assert_eq!(places(text).into_iter().map(|place| place.2).collect::<Vec<_>>(), ["E032"]);
    let many: String = (0..300).map(|n| format!("  - {{nme: g{n}, micro: {{}}}}\n")).collect();
    let problem = load(&format!("machines:\n{many}{NETWORK}")).expect_err("faults");
    assert!(
        problem.diagnostics.last().is_some_and(|last| last.code == "E009" && last.message.starts_with("100 ")),
        "{:?}",
        problem.diagnostics.last()
    );
}

#[test]
fn one_mistake_is_one_fault_whatever_follows_from_it() {
    let codes = |text: &str| places(text).into_iter().map(|place| place.2).collect::<Vec<_>>();
    let with = |machines: &str, network: &str, checks: &str| format!("machines:\n{machines}network: {network}\nchecks: [{checks}]\n");
    let ovn = "{ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}";
    let b = "  - {name: b, micro: {}, network: [{switch: lan}]}\n";
    let ping = "{ping: {from: a, to: b}}, {tcp: {from: b, to: a, port: 80}}";
    // The interface cannot be read, names no switch, or its machine has no kind: what cannot be asked of it is no news.
    for (a, code) in [
        ("  - {name: a, micro: {}, network: [{swich: lan}]}\n", "E003"),
        ("  - {name: a, micro: {}, network: [{switch: wan}]}\n", "E020"),
        ("  - {name: a, network: [{switch: lan}]}\n", "E007"),
    ] {
        assert_eq!(codes(&with(&format!("{a}{b}"), ovn, ping)), [code], "{a}");
    }
    // A guest that really has none, and one that really is not there, are told.
    assert_eq!(codes(&with(&format!("  - {{name: a, micro: {{}}, network: []}}\n{b}"), ovn, ping)), ["E061", "E061"]);
    assert_eq!(codes(&with(b, ovn, ping)), ["E060", "E060"]);
    // A bridge that does not exist is no missing switch as well.
    let bridged = "  - {name: a, micro: {}, network: [{switch: x}]}\n";
    assert_eq!(codes(&with(bridged, "{bridges: [{name: br0}]}", "{ping: {from: a, to: 10.0.0.1}}")), ["E024"]);
}

#[test]
fn a_tab_is_found_where_it_stands_and_a_long_line_is_shown_where_it_is_wrong() {
    let tabbed = "machines:\n  - name: a\n\tmicro: {}\nnetwork: {ovn: {switches: {}}}\n";
    let problem = load(tabbed).expect_err("a tab");
    let fault = &problem.diagnostics[0];
    assert_eq!((fault.at.line, fault.at.column), (3, 1), "{fault:?}");
    assert!(fault.hint.as_deref().is_some_and(|hint| hint.contains("spaces")), "{fault:?}");
    let long =
        format!("machines: [{{name: a, micro: {{}}, labels: {{x: \"{}\"}}, network: [{{swich: lan}}]}}]\n{NETWORK}", "y".repeat(250));
    let problem = load(&long).expect_err("a word");
    let drawn = problem.diagnostics[0].render();
    let lines: Vec<&str> = drawn.lines().collect();
    let (source, carets) = (lines[3], lines[4]);
    let start = carets.find('^').expect("carets");
    let word: String = source.chars().skip(start).take(carets.matches('^').count()).collect();
    assert_eq!(word, "swich", "{drawn}");
    assert!(source.starts_with("1 | …") && source.chars().count() < 180, "{drawn}");
}

#[test]
fn a_value_that_a_variable_brought_says_so() {
    let text = "machines: [{name: a, micro: {memory_mb: \"${MEM}\"}, network: [{switch: lan}]}]\nnetwork: {ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}\n";
    for value in ["lots", "1"] {
        let mut sources = kvm_compose::spec::Sources::alone("kvm-compose.yaml", text);
        sources.composition.variables.insert("MEM".to_string(), Some(value.to_string()));
        let name = "lab".parse().expect("valid");
        let problem = kvm_compose::topology::load_all(&sources, &name, &Default::default()).expect_err("not a size");
        let hint = problem.hint.expect("a hint");
        assert!(hint.contains("${MEM}") && hint.contains(".env"), "{value}: {hint}");
    }
}

#[test]
fn maps_take_over_others_and_own_words_are_left_alone() {
    let text = "x-small: &small {memory_mb: 96, cpus: 2}\nx-more: &more {memory_mb: 112, environment: {A: b}}\nmachines:\n  - {name: a, micro: {<<: *small}, network: [{switch: lan}]}\n  \
                - {name: b, micro: {cpus: 1, <<: [*small, *more]}, network: [{switch: lan}]}\nnetwork: {ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}\n";
    let guests = load(text).expect("valid").topology.guests;
    assert_eq!(guests.iter().map(|guest| (guest.memory_mb, guest.cpus)).collect::<Vec<_>>(), [(96, 2), (96, 1)]);
    assert_eq!(guests[1].environment.get("A").map(String::as_str), Some("b"));
    let faults = |from: &str, to: &str| places(&text.replace(from, to)).into_iter().map(|place| place.2).collect::<Vec<_>>();
    assert_eq!(faults("<<: *small", "<<: 5"), ["E005"]);
    assert_eq!(faults("{memory_mb: 112,", "{memory_mbs: 112,"), ["E003"]);
    assert_eq!(faults("x-small:", "small:"), ["E003"]);
}

#[test]
fn routers_keep_their_mac_addresses_whatever_stands_beside_them() {
    let file = |router: &str, ports: &[(&str, &str, &str)]| {
        let ports: Vec<String> =
            ports.iter().map(|(name, address, switch)| format!("{{name: {name}, gateway_ip: {address}, switch: {switch}}}")).collect();
        format!(
            "machines: []\nnetwork: {{ovn: {{switches: {{a: {{subnet: 10.0.0.0/24}}, b: {{subnet: 10.1.0.0/24}}, c: {{subnet: 'fd00:1::/64'}}}}, \
             routers: {{{router}: {{ports: [{}]}}}}}}}}\n",
            ports.join(", ")
        )
    };
    let macs = |text: &str| {
        let topology = load(text).expect("valid").topology;
        topology.routers[0]
            .ports
            .iter()
            .map(|port| (port.address.to_string(), port.mac.to_string()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let (a, b, c) = (("pa", "10.0.0.1/24", "a"), ("pb", "10.1.0.1/24", "b"), ("pc", "'fd00:1::1/64'", "c"));
    let before = macs(&file("r", &[a, b, c]));
    assert_eq!(before.values().collect::<std::collections::BTreeSet<_>>().len(), 3);
    assert_eq!(macs(&file("r", &[c, b, a])), before, "another order");
    assert_eq!(macs(&file("other", &[("x", a.1, a.2), ("y", b.1, b.2), ("z", c.1, c.2)])), before, "other names");
    assert_eq!(
        macs(&file("r", &[b, c])).iter().collect::<Vec<_>>(),
        before.iter().filter(|(address, _)| !address.starts_with("10.0")).collect::<Vec<_>>()
    );
}

#[test]
fn ipv6_subnets_that_guests_could_not_use_are_refused_and_what_is_shared_is_said_once() {
    let file = |switch: &str, nics: &str| {
        format!("machines: [{{name: a, micro: {{}}, network: [{nics}]}}]\nnetwork: {{ovn: {{switches: {{lan: {switch}}}}}}}\n")
    };
    let codes = |text: &str| places(text).into_iter().map(|place| place.2).collect::<Vec<_>>();
    for subnet in ["fd00:6::/128", "::ffff:10.0.0.0/120", "::10.0.0.0/112"] {
        assert_eq!(codes(&file(&format!("{{subnet: '{subnet}'}}"), "{switch: lan}"))[..1], ["E006"], "{subnet}");
    }
    // Where guests cannot make their addresses themselves they hear of no router either: both are given to them.
    let routed =
        file("{subnet: 'fd00:77:5::/48'}}, routers: {r: {ports: [{name: p, gateway_ip: 'fd00:77:5::1/48', switch: lan}]}", "{switch: lan}");
    let guest = load(&routed).expect("valid").topology.guests.remove(0);
    assert_eq!(guest.nics[0].addresses[0].gateway, Some("fd00:77:5::1".parse().expect("valid")));
    assert_eq!(codes(&file("{subnet: 10.0.0.0/24, impairment: {delay_ms: 1, jitter_ms: 5}}", "{switch: lan, ip: 10.0.0.9}")), ["E007"]);
    let warned = load(&file("{subnet: 10.0.0.0/24}", "{switch: lan}, {switch: lan}")).expect("valid").warnings;
    assert_eq!(warned.iter().filter(|warning| warning.code == "W002").count(), 1, "{warned:?}");
}

#[test]
fn a_guest_is_asked_for_at_an_address_that_the_asking_one_can_reach() {
    let text = "machines:\n  - {name: a, micro: {}, network: [{switch: lan, ip: 10.0.0.9}, {switch: six}]}\n  - {name: b, micro: {}, network: [{switch: six}]}\n  - {name: c, micro: {}, network: [{switch: lan, ip: 10.0.0.8}]}\n\
                network: {ovn: {switches: {lan: {subnet: 10.0.0.0/24, ipv6: {subnet: 'fd00:1::/64'}}, six: {subnet: 'fd00:6::/64'}}}}\n\
                checks: [{ping: {from: b, to: a}}, {ping: {from: c, to: a}}, {ping: {from: b, to: c}}]\n";
    let topology = load(text).expect("valid").topology;
    let asked = |index: usize| match &topology.checks[index].probe {
        kvm_compose::topology::checks::Probe::Ping { to, .. } => to.address.clone(),
        other => panic!("{other:?}"),
    };
    assert!(asked(0).starts_with("fd00:6:"), "the one on their switch: {}", asked(0));
    assert_eq!(asked(1), "10.0.0.9");
    assert!(asked(2).starts_with("fd00:1:"), "IPv6 is all that b has: {}", asked(2));
}

#[test]
fn dynamic_addresses_avoid_what_is_taken_and_stay_where_they_are() {
    let text = "\
machines:
  - {name: a, micro: {}, network: [{switch: lan}]}
  - {name: b, micro: {}, network: [{switch: lan, ip: 10.0.0.2}]}
  - {name: c, micro: {}, network: [{switch: lan, ip: dynamic}]}
network:
  ovn:
    switches: {lan: {subnet: 10.0.0.0/24}}
    routers: {r: {ports: [{name: p, gateway_ip: 10.0.0.1/24, switch: lan}], dhcp: [{switch: lan, exclude_ips: {from: 10.0.0.4, to: 10.0.0.9}}]}}
";
    let loaded = load(text).expect("valid");
    let addresses: Vec<String> = loaded.topology.guests.iter().map(|guest| guest.nics[0].addresses[0].net.addr().to_string()).collect();
    assert_eq!(addresses, ["10.0.0.3", "10.0.0.2", "10.0.0.10"]);
    let leases = Leases::from([(("c".parse().expect("valid"), 0), "10.0.0.77".parse().expect("valid"))]);
    let again = topology::load("f", text, &DeploymentName::new("lab").expect("valid"), &leases).expect("valid");
    let nic = &again.topology.guests[2].nics[0];
    assert_eq!((nic.addresses[0].net.to_string(), nic.addresses[0].assignment), ("10.0.0.77/24".to_string(), Assignment::Dhcp));
}

/// As JSON, without where in a file things stand.
#[test]
fn dynamic_addresses_avoid_next_hops_and_what_routers_hide_guests_behind() {
    let text = "\
machines:
  - {name: a, micro: {}, network: [{switch: public}]}
  - {name: b, micro: {}, network: [{switch: public}]}
network:
  ovn:
    switches:
      public: {subnet: 172.16.1.0/24, ports: [{name: out, localnet: {network_name: public}}]}
      lan: {subnet: 10.0.0.0/24}
    routers:
      r:
        ports:
          - {name: r-public, gateway_ip: 172.16.1.2/24, switch: public, set_gateway_chassis: main}
          - {name: r-lan, gateway_ip: 10.0.0.1/24, switch: lan}
        static_routes: [{prefix: 0.0.0.0/0, nexthop: 172.16.1.1}]
        nat: [{nat_type: dnat_and_snat, external_ip: 172.16.1.3, logical_ip: 10.0.0.9}]
";
    let loaded = load(text).expect("it loads");
    let addresses: Vec<String> =
        loaded.topology.guests.iter().map(|guest| guest.nics[0].address().expect("an address").to_string()).collect();
    assert_eq!(addresses, ["172.16.1.4", "172.16.1.5"]);
    // One that the file itself gives to both is a fault.
    assert_eq!(
        places(
            &text.replace(
                "name: a, micro: {}, network: [{switch: public}]",
                "name: a, micro: {}, network: [{switch: public, ip: 172.16.1.3}]"
            )
        )
        .len(),
        1
    );
}

#[test]
fn conditions_of_a_switch_without_guests_are_refused() {
    let text = format!("machines:\n  - {{name: a, micro: {{}}, network: [{{switch: lan}}]}}\n{NETWORK}");
    let with = |switch: &str| text.replace("lan: {", &format!("{switch}: {{impairment: {{delay_ms: 5}}, "));
    load(&with("lan")).expect("a guest stands there");
    let two = with("wan").replace("switches: {", "switches: {lan: {subnet: 10.1.0.0/24}, ");
    assert_eq!(places(&two), [(3, 56, "E044".to_string())], "{two}");
}

fn without_places(value: &impl serde::Serialize) -> serde_json::Value {
    fn strip(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(map) => {
                map.retain(|key, _| !matches!(key.as_str(), "at" | "source" | "action_at" | "action_source"));
                map.values_mut().for_each(strip);
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(value).expect("serialisable");
    strip(&mut value);
    value
}

#[test]
fn the_resolved_file_means_the_same_and_resolves_to_itself() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    for entry in std::fs::read_dir(folder).expect("examples/") {
        let path = entry.expect("an entry").path().join("kvm-compose.yaml");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let first = load(&text).unwrap_or_else(|problem| panic!("{}: {problem:?}", path.display()));
        let again = load(&first.resolved().to_string()).expect("the resolved file is valid");
        assert_eq!(first.resolved(), again.resolved());
        assert_eq!(without_places(&first.topology.switches), without_places(&again.topology.switches), "{}", path.display());
        // An address that the testbed chose is the file's own in the resolved one.
        let nics = |topology: &topology::Topology| {
            let nics: Vec<_> = topology.guests.iter().map(|guest| &guest.nics).collect();
            without_places(&nics).to_string().replace("\"assigned\"", "\"static\"")
        };
        assert_eq!(nics(&first.topology), nics(&again.topology), "{}", path.display());
    }
}

#[test]
fn the_schema_knows_the_keys() {
    let schema = spec::schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
    for key in ["machines", "network", "version"] {
        assert!(schema["properties"].get(key).is_some(), "{key}");
    }
    // The oldest files have their bridges at the top and no `network`.
    assert_eq!(schema["anyOf"][1]["required"], serde_json::json!(["machines", "bridges"]));
    assert_eq!(schema["anyOf"][0]["required"], serde_json::json!(["machines", "network"]));
    assert!(schema["anyOf"].to_string().contains("include"), "what is needed may stand in another file");
    assert_eq!(schema["properties"]["version"]["anyOf"][1]["$ref"], "#/$defs/Variable");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// No text panics, and every error has a place in the file.
    #[test]
    fn no_text_panics(text in "[a-z0-9:{}\\[\\], \n\"'&*#|>~./-]{0,200}") {
        if let Err(problem) = load(&text) {
            for fault in &problem.diagnostics {
                prop_assert!(fault.at.line >= 1 && fault.at.column >= 1);
            }
        }
    }

    /// Nor does a valid file with a piece cut out or doubled.
    #[test]
    fn no_mangled_file_panics(from in 0usize..1900, length in 0usize..60, double in any::<bool>()) {
        let text = include_str!("../../examples/quickstart/kvm-compose.yaml");
        let (from, to) = (from.min(text.len()), (from + length).min(text.len()));
        if let (Some(head), Some(piece), Some(tail)) = (text.get(..from), text.get(from..to), text.get(to..)) {
            let mangled = if double { format!("{head}{piece}{piece}{tail}") } else { format!("{head}{tail}") };
            if let Err(problem) = load(&mangled) {
                prop_assert!(!problem.diagnostics.is_empty());
            }
        }
    }
}

#[test]
fn many_warnings_are_cut_and_never_refuse_a_file() {
    let mut text = "machines:\n".to_string();
    (0..240).for_each(|index| {
        text.push_str(&format!("  - {{name: g{index}, micro: {{}}, network: [{{switch: lan, ip: 10.0.1.{index}, gateway: 10.0.9.9}}]}}\n"))
    });
    text.push_str("network: {ovn: {switches: {lan: {subnet: 10.0.0.0/16}}}}\n");
    let name = "lab".parse().expect("valid");
    let loaded = kvm_compose::topology::load("f", &text, &name, &Default::default()).expect("warnings are no errors");
    assert_eq!((loaded.topology.guests.len(), loaded.warnings.len()), (240, 201));
    assert!(loaded.warnings.iter().any(|warning| warning.code == "W009" && warning.message == "40 more warnings are not listed"));
    // An error behind them is still seen.
    let wrong = text.replace("10.0.0.0/16", "10.0.0.0/99");
    let problem = kvm_compose::topology::load("f", &wrong, &name, &Default::default()).expect_err("a wrong subnet");
    assert!(problem.diagnostics.iter().all(|fault| fault.code != "E009"), "{problem:?}");
}

#[test]
fn a_nul_and_a_variable_of_no_name_are_refused_with_a_hint() {
    let name = "lab".parse().expect("valid");
    let long = "a".repeat(10_000);
    for (micro, said) in [
        ("{environment: {K: \"a\\0b\"}}".to_string(), "holds the character NUL"),
        ("{setup_script: \"a\\0b\"}".to_string(), "holds the character NUL"),
        (format!("{{environment: {{{long}: v}}}}"), "is not a variable's name"),
        ("{environment: {'A;B': v}}".to_string(), "is not a variable's name"),
    ] {
        let text = format!("machines:\n  - {{name: a, micro: {micro}}}\nnetwork: {{ovn: {{switches: {{}}}}}}\n");
        let problem = kvm_compose::topology::load("f", &text, &name, &Default::default()).expect_err("refused");
        let fault = problem.diagnostics.iter().find(|fault| fault.message.contains(said)).unwrap_or_else(|| panic!("{problem:?}"));
        assert!(fault.code == "E010" && fault.hint.is_some() && fault.at.line == 2 && fault.message.len() < 400, "{fault:?}");
    }
}
