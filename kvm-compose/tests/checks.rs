//! The `checks` section: what it means, and how its faults are reported.

use kvm_compose::{
    diagnostic::Severity,
    names::DeploymentName,
    topology::{
        self, Leases, Loaded,
        checks::{Expect, Probe},
    },
};

const BASE: &str = "\
machines:
  - {name: a, micro: {}, network: [{switch: left, ip: 10.0.0.5}, {switch: right, ip: 10.1.0.5}]}
  - {name: b, micro: {}, network: [{switch: right, ip: 10.1.0.6}, {switch: left, ip: 10.0.0.6}]}
  - {name: lone, micro: {}, network: []}
  - {name: disk, libvirt: {cpus: 1, memory_mb: 64, libvirt_type: {existing_disk: {path: x}}}, network: [{switch: left, ip: 10.0.0.7}]}
network: {ovn: {switches: {left: {subnet: 10.0.0.0/24}, right: {subnet: 10.1.0.0/24}}}}
checks:
";
/// The line of the first check.
const FIRST: u32 = 8;

fn load(checks: &str) -> Result<Loaded, kvm_compose::error::Problem> {
    topology::load("x.yaml", &format!("{BASE}{checks}"), &DeploymentName::new("lab").expect("valid"), &Leases::new())
}

/// (line of `checks`, column, code) of each error, and all hints.
fn faults(checks: &str) -> (Vec<(u32, u32, String)>, String) {
    let faults = load(checks).expect_err("the file has faults").diagnostics;
    let errors: Vec<_> = faults.iter().filter(|fault| fault.severity == Severity::Error).collect();
    assert!(errors.iter().all(|fault| fault.hint.is_some()), "{errors:#?}");
    let hints: Vec<&str> = errors.iter().filter_map(|fault| fault.hint.as_deref()).collect();
    (errors.iter().map(|fault| (fault.at.line - FIRST + 1, fault.at.column, fault.code.clone())).collect(), hints.join("\n"))
}

#[test]
fn guests_become_addresses_and_names_are_made() {
    let checks = "  - {ping: {from: a, to: b}}
  - {ping: {from: a, to: b}, expect: fail}
  - {name: ping-a-b-2, ping: {from: a, to: \"b:eth0\"}, timeout_s: 5}
  - {tcp: {from: lone2, to: b, port: 22}}
";
    assert_eq!(faults(checks).0, [(4, 18, "E060".to_string())]);
    let loaded = load(&checks.replace("lone2", "b")).expect("valid");
    let checks = &loaded.topology.checks;
    let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["ping-a-b", "ping-a-b-3", "ping-a-b-2", "tcp-b-b-22"]);
    let addresses: Vec<String> = checks
        .iter()
        .map(|check| match &check.probe {
            Probe::Ping { to, .. } | Probe::Tcp { to, .. } => to.address.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    // On a switch that both share comes first.
    assert_eq!(addresses, ["10.1.0.6", "10.1.0.6", "10.1.0.6", "10.1.0.6"]);
    assert_eq!((checks[1].expect, checks[1].timeout_s, checks[2].timeout_s, checks[3].at.line), (Expect::Fail, 10, 5, FIRST + 3));
}

#[test]
fn urls_are_read_and_guests_in_them_are_found() {
    let checks = "  - {http: {from: a, url: \"http://b:8080/x?y=1\", contains: z}}
  - {http: {from: a, url: \"http://[fd00::1]/\", status: 404}}
  - {http: {from: a, url: \"http://www.example.org\"}}
";
    let loaded = load(checks).expect("valid");
    let seen: Vec<(String, u16, String, String)> = loaded
        .topology
        .checks
        .iter()
        .map(|check| match &check.probe {
            Probe::Http { url, to, .. } => (to.address.clone(), url.port, url.path.clone(), url.authority.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected =
        [("10.1.0.6", 8080, "/x?y=1", "b:8080"), ("fd00::1", 80, "/", "[fd00::1]"), ("www.example.org", 80, "/", "www.example.org")];
    assert_eq!(seen, expected.map(|(address, port, path, host)| (address.to_string(), port, path.to_string(), host.to_string())));
}

#[test]
fn every_fault_has_its_place_and_a_hint() {
    let (places, hints) = faults(
        "  - {ping: {from: c, to: bb}}
  - {ping: {from: lone, to: b}, tcp: {from: a, to: lone, port: 1}}
  - {exec: {guest: disk, command: [ls]}}
  - {http: {from: a, url: \"ftp://b/\"}}
  - {http: {from: a, url: \"https://b/\"}}
  - {tcp: {from: a, to: \"b:eth7\", port: 70000}}
  - {pin: {from: a, to: b}}
  - {exec: {guest: a, command: []}, expect: maybe}
  - {dns: {from: a, name: \"-x\", address: 10.0.0.300}}
  - {name: twice, exec: {guest: a, command: ls}}
  - {name: twice, exec: {guest: a, command: ls}, timeout_s: 0}
  - {ping: }
",
    );
    let expected = [
        (1, 19, "E060"),
        (1, 26, "E060"),
        (2, 19, "E061"),
        (2, 33, "E007"),
        (2, 52, "E061"),
        (3, 20, "E061"),
        (4, 27, "E062"),
        (5, 27, "E061"),
        (6, 25, "E060"),
        (6, 41, "E006"),
        (7, 5, "E007"),
        (7, 6, "E003"),
        (8, 32, "E006"),
        (8, 45, "E006"),
        (9, 27, "E010"),
        (9, 42, "E030"),
        (11, 12, "E011"),
        (11, 61, "E006"),
        (12, 6, "E004"),
    ];
    assert_eq!(places, expected.map(|(line, column, code)| (line, column, code.to_string())));
    for words in ["did you mean `b`?", "interfaces of `b`: eth0, eth1", "did you mean `ping`?", "ready: {agent: true}"] {
        assert!(hints.contains(words), "no `{words}` in {hints}");
    }
}

#[test]
fn the_resolved_file_means_the_same() {
    let checks = "  - {ping: {from: a, to: b, count: 1}}
  - {tcp: {from: a, to: 10.1.0.6, port: 80}, expect: fail}
  - {http: {from: a, url: \"http://b/\", status: 200, contains: \"<b>\"}}
  - {dns: {from: a, name: b, address: 10.0.0.6}}
  - {exec: {guest: a, command: \"echo 'x  y' | wc\", status: 3, stdout_contains: \"1\"}, timeout_s: 60}
";
    let first = load(checks).expect("valid");
    let again = serde_json::to_string(&first.resolved()).expect("JSON is YAML");
    let second = topology::load("y.yaml", &again, &DeploymentName::new("lab").expect("valid"), &Leases::new()).expect("valid");
    assert_eq!(first.resolved(), second.resolved());
    assert_eq!(first.resolved()["checks"][4]["exec"]["command"], serde_json::json!(["sh", "-c", "echo 'x  y' | wc"]));
}
