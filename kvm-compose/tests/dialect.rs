//! The dialect of existing files: every key loads, is checked, is resolved, and is printed back.

use kvm_compose::{
    diagnostic::{Diagnostic, Severity},
    error::{Code, Problem},
    names::DeploymentName,
    topology::{self, Android, Assignment, GuestKind, Leases, Loaded, ReadyCondition},
};

fn load(text: &str) -> Result<Loaded, Problem> {
    topology::load("kvm-compose.yaml", text, &DeploymentName::new("lab").expect("valid"), &Leases::new())
}

fn good(text: &str) -> Loaded {
    load(text).unwrap_or_else(|problem| panic!("{text}\n{}", problem.diagnostics.iter().map(Diagnostic::render).collect::<String>()))
}

const NETWORK: &str = "network:\n  ovn:\n    switches:\n      sw0: {subnet: 10.0.0.0/24}\n      sw1: {subnet: 10.1.0.0/24}\n";

fn with(machines: &str) -> String {
    format!("machines:\n{machines}\n{NETWORK}")
}

/// (line, column, code) of each error, with messages for the panic.
fn faults(text: &str) -> Vec<(u32, u32, String)> {
    let problem = load(text).expect_err(text);
    let errors = problem.diagnostics.into_iter().filter(|fault| fault.severity == Severity::Error);
    errors
        .inspect(|fault| assert!(fault.hint.is_some() || fault.code == "E030", "{fault:?}"))
        .map(|fault| (fault.at.line, fault.at.column, fault.code))
        .collect()
}

fn codes(text: &str) -> Vec<String> {
    faults(text).into_iter().map(|fault| fault.2).collect()
}

/// What the file is printed as means the same and is printed the same.
fn comes_back(text: &str) -> Loaded {
    let first = good(text);
    let printed = serde_json::to_string_pretty(&first.resolved()).expect("JSON");
    let again = good(&printed);
    assert_eq!(first.resolved(), again.resolved(), "{printed}");
    let plain = |loaded: &Loaded| {
        let mut value = serde_json::to_value(&loaded.topology).expect("JSON");
        without_places(&mut value);
        value
    };
    let (one, other) = (plain(&first), plain(&again));
    assert_eq!(one, other, "{printed}");
    first
}

/// Where a thing stands differs between the two texts; so does whether the file or the testbed chose an address.
fn without_places(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            for key in ["at", "source", "assignment"] {
                map.remove(key);
            }
            map.values_mut().for_each(without_places);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(without_places),
        _ => {}
    }
}

/// Keys that `up` refuses, by their place.
fn refused(loaded: &Loaded) -> Vec<(u32, u32)> {
    let Some(problem) = topology::refused("kvm-compose.yaml", loaded) else { return Vec::new() };
    assert_eq!((problem.code, problem.code.exit_status()), (Code::Unsupported, 2));
    problem.diagnostics.iter().map(|fault| (fault.at.line, fault.at.column)).collect()
}

#[test]
fn a_cloud_image_loads_with_every_key() {
    let text = with(
        "  - name: server
    network:
      - switch: sw0
        gateway: 10.0.0.1
        mac: \"00:00:00:00:00:01\"
        ip: \"10.0.0.10\"
    libvirt:
      cpus: 1
      memory_mb: 1024
      username: nocloud
      password: password
      extended_graphics_support: true
      libvirt_type:
        cloud_image:
          name: ubuntu_20_04
          expand_gigabytes: 2
          setup_script: setup.sh
          run_script: run.sh
          context: ${PWD}/files
          environment: {A: 1, B: \"two\", C: true, D: }",
    );
    let loaded = comes_back(&text);
    let guest = &loaded.topology.guests[0];
    let GuestKind::CloudImage { image, expand_gb, username, password, graphics } = &guest.kind else { panic!("{guest:?}") };
    assert_eq!((image.path.as_str(), *expand_gb, *graphics), ("ubuntu_20_04", 2, true));
    assert_eq!((username.as_deref(), password.as_deref()), (Some("nocloud"), Some("password")));
    let environment: Vec<_> = guest.environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(environment, ["A=1", "B=two", "C=true", "D="]);
    assert_eq!(guest.context.as_ref().map(|context| context.path.as_str()), Some("${PWD}/files"));
    assert_eq!((guest.setup_scripts.len(), guest.run_scripts.len()), (1, 1));
    assert_eq!(refused(&loaded), []);
}

#[test]
fn disks_and_installers_load_with_every_key() {
    let text = with(
        "  - name: disk
    libvirt:
      cpus: 2
      memory_mb: 512
      libvirt_type:
        existing_disk: {path: a.qcow2, driver_type: qcow2, device_type: disk, readonly: false, create_deep_copy: true, context: files}
  - name: installer
    libvirt:
      cpus: 2
      memory_mb: 512
      libvirt_type: {iso_guest: {path: /images/a.iso, expand_gigabytes: 8}}
  - name: small
    libvirt: {cpus: 1, memory_mb: 512, libvirt_type: {iso_guest: {path: a.iso}}}",
    );
    let loaded = comes_back(&text);
    let sizes: Vec<u64> = loaded
        .topology
        .guests
        .iter()
        .filter_map(|guest| if let GuestKind::IsoGuest { disk_gb, .. } = guest.kind { Some(disk_gb) } else { None })
        .collect();
    assert_eq!(sizes, [8, 20]);
    assert_eq!(refused(&loaded), [], "disks and installers can be started");
}

#[test]
fn a_container_loads_with_every_key() {
    let text = with(
        "  - name: web
    network: [{switch: sw0, ip: dynamic}]
    docker:
      image: registry.example:5000/team/nginx:stable
      command: \"sh -c 'echo \\\"hello world\\\"; exec nginx' -- a\\\\ b\"
      entrypoint: [/entry, \"with space\", 3]
      environment: {A: B, TWO: \"2\", THREE: 3}
      env_file: docker.env
      volumes:
        - {source: '${PWD}/html', target: /usr/share/nginx/html}
        - {source: conf, target: /etc/nginx, read_only: true}
      privileged: false
      user: 1000:1000
      device: [/dev/kvm, '/dev/fuse:/dev/other:rw', {source: /dev/null, permissions: r}]",
    );
    let loaded = comes_back(&text);
    let GuestKind::Docker(container) = &loaded.topology.guests[0].kind else { panic!("a container") };
    assert_eq!(container.command.as_deref(), Some(&["sh", "-c", "echo \"hello world\"; exec nginx", "--", "a b"].map(String::from)[..]));
    assert_eq!(container.entrypoint.as_deref(), Some(&["/entry", "with space", "3"].map(String::from)[..]));
    assert!(!container.privileged);
    let devices: Vec<_> =
        container.devices.iter().map(|device| format!("{}>{}:{}", device.source, device.target, device.permissions)).collect();
    assert_eq!(devices, ["/dev/kvm>/dev/kvm:rwm", "/dev/fuse>/dev/other:rw", "/dev/null>/dev/null:r"]);
    assert_eq!(container.volumes.iter().map(|volume| volume.read_only).collect::<Vec<_>>(), [false, true]);
    assert_eq!(refused(&loaded), []);
    let limited = good(&with("  - {name: a, docker: {image: x}, resources: {cpu_shares: 9, memory_max_mb: 8, disk_iops: 7}}"));
    assert_eq!(refused(&limited).len(), 1, "all but its disks can be limited");
}

#[test]
fn an_android_emulator_loads_in_both_forms() {
    let text = with(
        "  - name: phone
    network: [{switch: sw0, gateway: 10.0.0.1, mac: \"00:00:00:00:00:01\", ip: \"dynamic\"}]
    android:
      avd: {android_api_version: 28, playstore_enabled: false, setup_script: a.sh, run_script: b.sh}
  - name: quoted
    android: {avd: {android_api_version: \"30\"}}
  - name: existing
    android: {existing_avd: {path: phone.avd}}",
    );
    let loaded = comes_back(&text);
    let versions: Vec<_> = loaded.topology.guests.iter().map(|guest| format!("{:?}", guest.kind)).collect();
    assert!(versions[0].contains("api_version: 28") && versions[1].contains("api_version: 30"), "{versions:?}");
    assert!(matches!(&loaded.topology.guests[2].kind, GuestKind::Android(Android::Existing { path }) if path.path == "phone.avd"));
    assert_eq!(refused(&loaded), [(4, 5), (7, 5), (9, 5)]);
}

#[test]
fn clones_stand_where_their_switch_says_with_positional_addresses() {
    let text = with(
        "  - name: scaled
    libvirt:
      cpus: 1
      memory_mb: 256
      libvirt_type: {existing_disk: {path: a.img}}
      scaling:
        count: 3
        interfaces:
          sw0:
            clones: [0, 2]
            gateway: \"10.0.0.1\"
            ip_type: {ip_range: {from: 10.0.0.20, to: 10.0.0.21}}
            mac_range: {from: \"00:00:00:00:00:0a\", to: \"00:00:00:00:00:0b\"}
          sw1:
            clones: [2, 1]
            ip_type: dynamic
        clone_setup:
          - {script: one.sh, clones: [0, 1]}
          - {script: two.sh, clones: [1]}
        clone_run: [{script: run.sh}]
  - name: after
    micro: {}
    network: [{switch: sw1}]",
    );
    let loaded = comes_back(&text);
    let guests = &loaded.topology.guests;
    assert_eq!(guests.iter().map(|guest| guest.name.as_str()).collect::<Vec<_>>(), ["scaled-0", "scaled-1", "scaled-2", "after"]);
    let nics = |n: usize| {
        guests[n]
            .nics
            .iter()
            .map(|nic| format!("{} {} {} {}", nic.name, nic.switch, nic.addresses[0].net.addr(), nic.mac))
            .collect::<Vec<_>>()
    };
    assert_eq!(nics(0), ["eth0 sw0 10.0.0.20 00:00:00:00:00:0a"]);
    assert!(nics(1)[0].starts_with("eth0 sw1 10.1.0.2 02:"), "{:?}", nics(1));
    assert_eq!(nics(2)[0], "eth0 sw0 10.0.0.21 00:00:00:00:00:0b");
    assert!(nics(2)[1].starts_with("eth1 sw1 10.1.0.3 02:"));
    let scripts: Vec<_> =
        guests.iter().map(|guest| guest.setup_scripts.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(scripts, ["one.sh", "one.sh two.sh", "", ""]);
    assert!(guests[..3].iter().all(|guest| guest.run_scripts.len() == 1 && guest.ready.condition == ReadyCondition::Agent));
    assert_eq!(refused(&loaded), [], "clones of a disk can be made");
    let shared = text.replace("        clone_run:", "        shared_setup: shared.sh\n        clone_run:");
    let shared = comes_back(&shared);
    assert_eq!(refused(&shared), [], "and of a golden image");
    assert_eq!(shared.topology.scaled[0].shared_setup.as_ref().map(|file| file.path.as_str()), Some("shared.sh"));
    assert!(shared.topology.guests.iter().all(|guest| guest.ready.condition == ReadyCondition::Agent));
}

#[test]
fn containers_are_scaled_by_switch_or_by_list_and_a_tag_is_taken_for_its_key() {
    let text = with(
        "  - name: nginx
    docker:
      image: nginx:stable
      scaling:
        count: 2
        interfaces:
          sw0:
            clones: [0, 1]
            gateway: \"10.0.0.1\"
            ip_type: !ip_range {from: 10.0.0.7, to: 10.0.0.8}
            mac_range: {from: \"00:00:00:00:00:02\", to: \"00:00:00:00:00:03\"}",
    );
    let tagged = comes_back(&text);
    let beside = text.replace("ip_type: !ip_range {from: 10.0.0.7, to: 10.0.0.8}", "ip_range: {from: 10.0.0.7, to: 10.0.0.8}");
    assert_eq!(tagged.topology.guests[1].nics, comes_back(&beside).topology.guests[1].nics);
    let twice = with(
        "  - name: many
    docker: {image: a, scaling: {count: 4, interfaces: [{switch: sw0, clones: [0]}, {switch: sw0, clones: [1, 0]}, {switch: sw1}]}}",
    );
    let guests = comes_back(&twice).topology.guests;
    assert_eq!(guests.iter().map(|guest| guest.nics.len()).collect::<Vec<_>>(), [3, 2, 1, 1]);
}

#[test]
fn bridges_become_switches_wherever_they_stand() {
    let machines = "machines:
  - name: server
    interfaces: [{bridge: br0}, {bridge: br2, mac: 00:00:00:00:00:01}]
    micro: {}
  - name: client
    interfaces:
      - bridge: br1
    micro: {}
";
    let keys = "bridges:
  - {name: br0, protocol: OpenFlow13}
  - name: br1
    protocol: OpenFlow13
  - name: br2
bridge_connections:
  br0: br1
";
    let below: String = keys.lines().map(|line| format!("  {line}\n")).collect();
    let oldest = comes_back(&format!("{machines}{keys}"));
    let older = comes_back(&format!("{machines}network:\n{below}"));
    assert_eq!(oldest.resolved(), older.resolved());
    let topology = &oldest.topology;
    assert_eq!(topology.switches.iter().map(|switch| switch.name.as_str()).collect::<Vec<_>>(), ["br0", "br2"]);
    let on: Vec<_> = topology.guests.iter().flat_map(|guest| &guest.nics).map(|nic| nic.switch.as_str()).collect();
    assert_eq!(on, ["br0", "br2", "br0"]);
    assert!(topology.guests.iter().flat_map(|guest| &guest.nics).all(|nic| nic.addresses[0].assignment == Assignment::Assigned));
    // Only what has no effect is worth a word.
    assert_eq!(oldest.warnings.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>(), ["W003", "W003"]);
    // No edit of other bridges moves a subnet.
    let fewer = good(&format!("{machines}bridges: [br2, br1, br0, br9]\n"));
    let subnet = |loaded: &Loaded, name: &str| {
        let named = loaded.topology.switches.iter().find(|switch| switch.name.as_str() == name);
        format!("{:?}", named.and_then(|switch| switch.subnet))
    };
    assert_eq!(subnet(&fewer, "br2"), subnet(&oldest, "br2"));
}

#[test]
fn the_external_bridge_has_a_way_out() {
    let text = "machines:
  - name: server
    interfaces: [{bridge: public}]
    libvirt: {cpus: 1, memory_mb: 1024, libvirt_type: {cloud_image: {name: ubuntu_20_04, expand_gigabytes: 2}}}
bridges: [{name: br0}, {name: public}]
bridge_connections: {br0: [public]}
external_bridge: public
";
    let topology = comes_back(text).topology;
    assert_eq!(topology.switches.iter().map(|switch| switch.name.as_str()).collect::<Vec<_>>(), ["br0", "public-2"]);
    let (router, nic) = (&topology.routers[0], &topology.guests[0].nics[0]);
    assert_eq!((nic.switch.as_str(), nic.addresses[0].assignment), ("br0", Assignment::Dhcp));
    assert_eq!((router.nat.len(), router.routes.len(), router.ports.len()), (1, 1, 2));
    assert_eq!(nic.addresses[0].gateway, Some(router.ports[0].address.addr()));
    assert_eq!(topology.switches[1].localnets[0].network.as_str(), "public");
}

#[test]
fn what_a_bridge_and_a_clone_may_not_be_is_said_with_its_place() {
    let bridges = |rest: &str| {
        format!("machines:\n  - {{name: a, micro: {{}}, interfaces: [{{bridge: br9}}]}}\nbridges: [{{name: br0}}, {{name: br1}}]\n{rest}")
    };
    assert_eq!(
        faults(&bridges("external_bridge: br2\nbridge_connections: {br0: [br0, br1], br1: br0}\n"))
            .into_iter()
            .map(|fault| (fault.0, fault.2))
            .collect::<Vec<_>>(),
        [(2, "E024".to_string()), (4, "E024".to_string()), (5, "E025".to_string()), (5, "E011".to_string())]
    );
    assert_eq!(codes(&format!("machines: []\nbridges: [br0]\n{NETWORK}")), ["E007"]);
    assert_eq!(codes("machines: []\nnetwork: {bridges: [br0], ovn: {switches: {}}}\n"), ["E007"]);
    assert_eq!(codes(&with("  - {name: a, micro: {}, interfaces: [{bridge: sw0}]}")), ["E024"]);
    assert_eq!(codes(&with("  - {name: a, micro: {}, network: [], interfaces: [{bridge: sw0}]}")), ["E007", "E024"]);
    let scaled = |rest: &str| with(&format!("  - name: a\n    docker:\n      image: x\n      scaling: {rest}"));
    for (rest, wanted) in [
        ("{count: 0}", vec!["E006"]),
        ("{}", vec!["E004"]),
        ("{count: 2, interfaces: {sw0: {clones: [0, 2, 0]}}}", vec!["E026", "E011"]),
        ("{count: 2, interfaces: {sw9: {clones: [0, 1]}}}", vec!["E020"]),
        ("{count: 2, interfaces: {sw0: {ip_range: {from: 10.0.0.5, to: 10.0.0.9}}}}", vec!["E027"]),
        ("{count: 2, interfaces: {sw0: {ip_range: {from: 10.0.0.5, to: 10.0.0.4}}}}", vec!["E039"]),
        ("{count: 1, interfaces: {sw0: {ip_range: {from: 10.9.0.5, to: 10.9.0.5}}}}", vec!["E031"]),
        ("{count: 2, interfaces: {sw0: {mac_range: {from: \"00:00:00:00:00:01\", to: \"00:00:00:00:00:01\"}}}}", vec!["E027"]),
        ("{count: 2, interfaces: {sw0: {ip_type: static}}}", vec!["E006"]),
        ("{count: 2, interfaces: {sw0: {ip: 10.0.0.4}}}", vec!["E003"]),
        ("{count: 2, shared_setup: a.sh}", vec!["E003"]),
        ("{count: 2, interfaces: , sw0: {clones: [0]}}", vec!["E003"]),
    ] {
        assert_eq!(codes(&scaled(rest)), wanted, "{rest}");
    }
    let own = "  - name: a\n    network: [{switch: sw0}]\n    docker: {image: x, scaling: {count: 2, interfaces: {sw1: {}}}}";
    assert_eq!(codes(&with(own)), ["E007"]);
    let disk = "  - name: a\n    libvirt: {cpus: 1, memory_mb: 64, libvirt_type: {existing_disk: {path: x, setup_script: a.sh}}, scaling: {count: 2}}";
    assert_eq!(codes(&with(disk)), ["E007"]);
    let iso = "  - name: a\n    libvirt: {cpus: 1, memory_mb: 64, libvirt_type: {iso_guest: {path: x}}, scaling: {count: 2}}";
    assert_eq!(codes(&with(iso)), ["E007"]);
    assert_eq!(codes(&with("  - {name: a, micro: {scaling: {count: 2}}}")), ["E003"]);
    assert_eq!(codes(&with("  - {name: a-0, micro: {}}\n  - {name: a, docker: {image: x, scaling: {count: 2}}}")), ["E011"]);
    let long = format!("  - {{name: {}, docker: {{image: x, scaling: {{count: 11}}}}}}", "a".repeat(48));
    assert_eq!(codes(&with(&long)), ["E010"]);
    let many: String = (0..11).map(|n| format!("  - {{name: m{n}, docker: {{image: x, scaling: {{count: 10000}}}}}}\n")).collect();
    assert!(codes(&with(&many)).contains(&"E029".to_string()));
}

#[test]
fn exactly_one_kind_and_nothing_misplaced() {
    for (machine, wanted) in [
        ("{name: a}", vec!["E007"]),
        ("{name: a, micro: {}, docker: {image: x}}", vec!["E007"]),
        ("{name: a, dcoker: {image: x}}", vec!["E003"]),
        ("{name: a, avd: {android_api_version: 28}}", vec!["E003"]),
        ("{name: a, android: {avd: {android_api_version: 28}, existing_avd: {path: x}}}", vec!["E007"]),
        ("{name: a, android: {}}", vec!["E007"]),
        ("{name: a, android: {android_api_version: 28}}", vec!["E003"]),
        ("{name: a, android: {avd: {android_api_version: new}}}", vec!["E006"]),
        ("{name: a, libvirt: }", vec!["E004"]),
        ("{name: a, libvirt: {cpus: 1, memory_mb: 64}}", vec!["E004"]),
        ("{name: a, libvirt: {cpus: 1, memory_mb: 64, cloud_image: {name: x}}}", vec!["E003"]),
        ("{name: a, libvirt: {cpus: 1, memory_mb: 64, libvirt_type: cloud_image}}", vec!["E005"]),
        ("{name: a, libvirt: {cpus: 1, memory_mb: 64, libvirt_type: {iso-guest: {path: x}}}}", vec!["E003"]),
        ("{name: a, libvirt: {cpus: 1, memory_mbs: 64, libvirt_type: {existing_disk: {path: x}}}}", vec!["E003"]),
        ("{name: a, libvirt: {cpus: 1, memory_mb: 64, username: Root, libvirt_type: {cloud_image: {name: x}}}}", vec!["E010"]),
        ("{name: a, libvirt: {cpus: 1, memory_mb: 64, libvirt_type: {cloud_image: {name: ../x}}}}", vec!["E010"]),
        ("{name: a, docker: {}}", vec!["E004"]),
        ("{name: a, docker: {image: 'a b'}}", vec!["E010"]),
        ("{name: a, docker: {image: x, command: \"sh -c 'open\"}}", vec!["E028"]),
        ("{name: a, docker: {image: x, command: []}}", vec!["E006"]),
        ("{name: a, docker: {image: x, volumes: ['./html:/srv:ro']}}", vec!["E005"]),
        ("{name: a, docker: {image: x, volumes: [{source: a, target: srv}, {source: a, target: /}]}}", vec!["E006", "E006"]),
        ("{name: a, docker: {image: x, volumes: [{source: a, target: /b}, {source: c, target: /b}]}}", vec!["E011"]),
        ("{name: a, docker: {image: x, device: [/etc/passwd]}}", vec!["E006"]),
        ("{name: a, docker: {image: x, privileged: 'yes'}}", vec!["E005"]),
        ("{name: a, docker: {image: x, ports: ['80:80']}}", vec!["E003"]),
        ("{name: a, docker: {image: x, env_file: ~/x}}", vec!["E006"]),
        ("{name: a, docker: {image: x, environment: {1A: x}}}", vec!["E010"]),
    ] {
        assert_eq!(codes(&with(&format!("  - {machine}"))), wanted, "{machine}");
    }
}

#[test]
fn machines_name_each_other_and_circles_are_named() {
    let text = with(
        "  - {name: db, micro: {}, labels: {tier: back, \"example.org/x\": 1}}
  - {name: web, docker: {image: x, scaling: {count: 2}}, depends_on: db, placement: {near: db, apart: [web], weight: 4}}
  - {name: last, micro: {}, depends_on: [web, db], placement: {host: main, apart: web-1}}
  - {name: all, micro: {}, ready: {http: 8080/health, timeout_s: 9}, resources: {cpu_shares: 512, memory_low_mb: 64, memory_max_mb: 256, disk_iops: 100}}",
    );
    let loaded = comes_back(&text);
    let guests = &loaded.topology.guests;
    let names = |list: &[kvm_compose::names::GuestName]| list.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
    assert_eq!(names(&guests[1].depends_on), "db");
    assert_eq!((names(&guests[1].placement.apart), names(&guests[2].placement.apart)), ("web-1".to_string(), "web-0".to_string()));
    assert_eq!(names(&guests[3].depends_on), "db web-0 web-1");
    assert_eq!(guests[4].ready.condition, ReadyCondition::Http { port: 8080, path: "/health".to_string() });
    assert_eq!(guests[0].labels.get("example.org/x").map(String::as_str), Some("1"));
    for (machines, wanted) in [
        ("  - {name: a, micro: {}, depends_on: [bb]}\n  - {name: b, micro: {}}", vec![(2, 39, "E022")]),
        ("  - {name: a, micro: {}, depends_on: [a]}", vec![(2, 39, "E023")]),
        (
            "  - {name: a, micro: {}, depends_on: b}\n  - {name: b, micro: {}, depends_on: c}\n  - {name: c, micro: {}, depends_on: [a]}",
            vec![(4, 39, "E023")],
        ),
        ("  - {name: a, micro: {}, placement: {near: b, apart: b}}\n  - {name: b, micro: {}}", vec![(2, 54, "E007")]),
        ("  - {name: a, micro: {}, placement: {near: [x, x]}}", vec![(2, 45, "E022"), (2, 48, "E011")]),
        ("  - {name: a, micro: {}, placement: {weight: 0}}", vec![(2, 46, "E006")]),
        ("  - {name: a, micro: {}, ready: {tcp: 80, agent: true}}", vec![(2, 43, "E007")]),
        ("  - {name: a, micro: {}, ready: {http: 'http://example.org/'}}", vec![(2, 40, "E006")]),
        ("  - {name: a, micro: {}, ready: {tcp: 0}}", vec![(2, 39, "E006")]),
        ("  - {name: a, micro: {}, labels: {-a: b}}", vec![(2, 39, "E010")]),
        ("  - {name: a, micro: {}, resources: {memory_low_mb: 9, memory_max_mb: 8}}", vec![(2, 53, "E039"), (2, 71, "E006")]),
    ] {
        let wanted: Vec<_> = wanted.into_iter().map(|(line, column, code)| (line, column, code.to_string())).collect();
        assert_eq!(faults(&with(machines)), wanted, "{machines}");
    }
    let circle = load(&with("  - {name: a, micro: {}, depends_on: b}\n  - {name: b, micro: {}, depends_on: a}")).expect_err("a circle");
    assert!(circle.message.contains("`a` → `b` → `a`"), "{circle}");
}

#[test]
fn ready_takes_each_condition() {
    let condition = |ready: &str| {
        comes_back(&with(&format!("  - {{name: a, micro: {{}}, ready: {{{ready}}}}}"))).topology.guests[0].ready.condition.clone()
    };
    let http = |port, path: &str| ReadyCondition::Http { port, path: path.to_string() };
    for (written, meant) in [
        ("agent: true", ReadyCondition::Agent),
        ("agent: false", ReadyCondition::Running),
        ("ssh: true", ReadyCondition::Tcp(22)),
        ("ssh: false", ReadyCondition::Running),
        ("tcp: 5432", ReadyCondition::Tcp(5432)),
        ("http: 80", http(80, "/")),
        ("http: /health", http(80, "/health")),
        ("http: ':8080/x'", http(8080, "/x")),
        ("http: 'http://localhost:8080/x?y=1'", http(8080, "/x?y=1")),
        ("http: 'http://127.0.0.1'", http(80, "/")),
        ("log: 'login:'", ReadyCondition::Log("login:".to_string())),
        ("timeout_s: 5", ReadyCondition::Agent),
    ] {
        assert_eq!(condition(written), meant, "{written}");
    }
}

#[test]
fn what_up_refuses_is_listed_whole_and_no_other_warning_hides_it() {
    let mut machines: String = (0..300).map(|n| format!("  - {{name: g_{n}, micro: {{}}, network: [{{switch: sw0}}]}}\n")).collect();
    machines = machines.replace("10.0.0.0/24", "10.0.0.0/16");
    let text = format!(
        "machines:\n{machines}  - {{name: web, android: {{avd: {{android_api_version: 28}}}}}}\n{}",
        NETWORK.replace("10.0.0.0/24", "10.0.0.0/16")
    );
    let loaded = good(&text);
    let problem = topology::refused("f.yaml", &loaded).expect("refused");
    assert_eq!(problem.diagnostics.len(), 1);
    assert!(problem.message.contains("`android`") && problem.message.contains("`web`"), "{problem}");
    assert_eq!(problem.at.as_ref().map(|at| (at.line, at.column)), Some((302, 17)));
}

#[test]
fn a_circle_of_ten_thousand_is_found_quickly() {
    let machines: String = (0..10_000).map(|n| format!("  - {{name: g{n}, micro: {{}}, depends_on: g{}}}\n", (n + 1) % 10_000)).collect();
    let problem = load(&with(&machines)).expect_err("a circle");
    assert!(problem.message.contains("more)") && problem.message.len() < 400, "{problem}");
}
