//! Golden pictures (`UPDATE_PICTURES=1` writes them anew), and what must hold for any picture.

use std::{collections::BTreeMap, path::Path};

use kvm_compose::{
    names::{DeploymentName, GuestName},
    picture::{Format, Scene, Standing, document, svg},
    topology::{Leases, Topology, load},
};

fn topology(yaml: &str) -> Topology {
    let name = DeploymentName::new("lab").expect("a name");
    load("kvm-compose.yaml", yaml, &name, &Leases::new()).expect("a testbed").topology
}

/// Many guests on few switches, two routers, guests on two switches.
fn large(guests: usize) -> String {
    let mut yaml = String::from("machines:\n");
    for index in 0..guests {
        let switch = ["office", "lab", "dmz"][index % 3];
        let second = if index % 17 == 5 { ", {switch: backup, ip: dynamic}" } else { "" };
        yaml.push_str(&format!("  - {{name: guest-{index:02}, micro: {{}}, network: [{{switch: {switch}}}{second}]}}\n"));
    }
    yaml.push_str("network:\n  ovn:\n    switches:\n");
    for (index, switch) in ["office", "lab", "dmz", "backup"].iter().enumerate() {
        yaml.push_str(&format!("      {switch}: {{subnet: 10.0.{index}.0/24}}\n"));
    }
    yaml.push_str("    routers:\n");
    for (router, switches) in [("edge", vec![0, 2]), ("core", vec![0, 1])] {
        yaml.push_str(&format!("      {router}:\n        ports:\n"));
        for index in switches {
            let switch = ["office", "lab", "dmz"][index];
            let host = if router == "edge" { 1 } else { 2 };
            yaml.push_str(&format!("          - {{name: {router}-{switch}, gateway_ip: 10.0.{index}.{host}/24, switch: {switch}}}\n"));
        }
    }
    yaml
}

fn check(name: &str, found: String) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures").join(name);
    if std::env::var_os("UPDATE_PICTURES").is_some() {
        std::fs::write(&path, &found).expect("written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, golden, "{name} has changed: look at it, then run the test with UPDATE_PICTURES=1");
    found
}

#[test]
fn the_quickstart() {
    let guest = |name: &str| GuestName::new(name).expect("a name");
    let standing = BTreeMap::from([(guest("web"), Standing::Ready), (guest("client"), Standing::Starting)]);
    let link = |guest: &GuestName| format!("/gui/deployments/lab/guests/{guest}");
    let yaml = include_str!("../../examples/quickstart/kvm-compose.yaml");
    let picture = check("quickstart.svg", svg(&topology(yaml), &Scene { standing: Some(standing), link: Some(&link) }));
    for word in ["guest ready", "guest starting", "10.0.2.10", "10.0.1.1/24", "router r1", "href=\"/gui/deployments/lab/guests/web\""] {
        assert!(picture.contains(word), "{word}");
    }
}

#[test]
fn fifty_guests() {
    let all =
        [Standing::Ready, Standing::Starting, Standing::Paused, Standing::Off, Standing::Crashed, Standing::Absent, Standing::Unknown];
    let yaml = large(50);
    let standing = topology(&yaml).guests.iter().zip(all.iter().cycle()).map(|(guest, standing)| (guest.name.clone(), *standing)).collect();
    check("fifty.svg", svg(&topology(&yaml), &Scene { standing: Some(standing), link: None }));
}

#[test]
fn every_word_is_escaped_and_nothing_is_style_or_script() {
    let yaml = include_str!("../../examples/quickstart/kvm-compose.yaml");
    let link = |_: &GuestName| "\"><script>alert(1)</script>&'".to_string();
    let picture = svg(&topology(yaml), &Scene { standing: None, link: Some(&link) });
    assert!(picture.contains("&quot;&gt;&lt;script&gt;") && !picture.contains("<script") && !picture.contains("style"), "{picture}");
}

#[test]
fn files_of_their_own() {
    let topology = topology(include_str!("../../examples/quickstart/kvm-compose.yaml"));
    for (format, name, words) in [
        (Format::Svg, "quickstart-alone.svg", ["xmlns=\"http://www.w3.org/2000/svg\"", "<style>"]),
        (Format::Mermaid, "quickstart.mmd", ["flowchart LR", "r0 ===|\"10.0.1.1/24\"| s0"]),
        (Format::Dot, "quickstart.dot", ["graph \"lab\" {", "r0 -- s0 [label=\"10.0.1.1/24\", penwidth=2]"]),
        (Format::D2, "quickstart.d2", ["direction: right", "r0 -- s0: \"10.0.1.1/24\""]),
    ] {
        let found = check(name, document(&topology, format));
        assert!(words.iter().all(|word| found.contains(word)), "{found}");
    }
}

/// Wires, a way out, a port of the host, two kinds of addresses, conditions on a switch, on an interface and on a wire.
const EVERYTHING: &str = "
machines:
  - {name: web, micro: {}, network: [{switch: dmz, ip: 10.2.0.10, gateway: 10.2.0.1}]}
  - {name: db, micro: {}, network: [{switch: dmz, ip: 10.2.0.11, gateway: 10.2.0.1}, {switch: office, ip: 10.1.0.11}]}
  - {name: pc, micro: {}, network: [{switch: office, ip: 10.1.0.10, gateway: 10.1.0.1, impairment: {rate_mbit: 10}}]}
  - {name: left, micro: {}, network: [{switch: office, ip: 10.1.0.12}]}
  - {name: right, micro: {}}
network:
  ovn:
    switches:
      public: {subnet: 172.16.0.0/24, ports: [{name: uplink, localnet: {network_name: internet}}]}
      office: {subnet: 10.1.0.0/24, ipv6: {subnet: 'fd00:1::/64'}}
      dmz:
        subnet: 10.2.0.0/24
        impairment: {delay_ms: 25, jitter_ms: 5}
        ports: [{name: probe, internal: {ip: 10.2.0.99, mac: '02:00:00:00:99:01'}}]
    routers:
      edge:
        ports:
          - {name: edge-public, gateway_ip: 172.16.0.2/24, switch: public, set_gateway_chassis: main}
          - {name: edge-office, gateway_ip: 10.1.0.1/24, switch: office}
          - {name: edge-dmz, gateway_ip: 10.2.0.1/24, switch: dmz}
        nat: [{nat_type: snat, external_ip: 172.16.0.2, logical_ip: 10.1.0.0/24}]
  links:
    - {ends: ['left:eth1', 'right:eth0'], impairment: {loss_percent: 2}}
";

#[test]
fn everything_a_network_can_have() {
    let topology = topology(EVERYTHING);
    let found = check("everything.svg", document(&topology, Format::Svg));
    for words in [
        "outside network internet",
        "wire left:eth1 – right:eth0, 2 % loss",
        ">25±5 ms<",
        ">10 Mbit/s<",
        ">fd00:1::1/64<",
        ">10.1.0.0/24 fd00:1::/64<",
        "10.1.0.0/24 leaves as 172.16.0.2",
        "probe (host)",
        ">10.1.0.11 office<",
    ] {
        assert!(found.contains(words), "{words}: {found}");
    }
    let found = document(&topology, Format::Dot);
    for words in ["[label=\"2 % loss\", penwidth=2]", "[label=\"internet\\noutside\", shape=folder", "style=dashed"] {
        assert!(found.contains(words), "{words}: {found}");
    }
}
