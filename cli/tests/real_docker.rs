//! Containers beside machines, on the real Docker, OVN and libvirt.

mod containers;
mod lab;

use std::time::Duration;

use containers::{IMAGE, container, image, inspected, left};
use lab::{Lab, Project, Ran};

/// A machine, a container on two switches, one behind the router, and one of each kind of rights; clones; every key.
fn yaml(web: &str) -> String {
    format!(
        r#"
machines:
  - name: vm
    micro: {{services: {{http: 80}}}}
    network: [{{switch: lan, ip: 10.79.0.10, gateway: 10.79.0.1}}]
  - name: web
    docker:
      image: {IMAGE}
      entrypoint: [/bin/sh, -c]
      command: ["echo serving; mkdir -p /www; echo from-web >/www/index.html; exec httpd -f -p 8080 -h /www"]
      environment: {{PLAIN: "{web}", HARD: "a  'b' \"c\" $$d\ne\\f #g", BOTH: here}}
      env_file: web.env
      volumes:
        - {{source: ./shared, target: /shared}}
        - {{source: "${{PWD}}/one.txt", target: /etc/one.txt, read_only: true}}
      device: ["/dev/zero:/dev/nought:r"]
    network: [{{switch: lan, ip: 10.79.0.20, gateway: 10.79.0.1}}]
    ready: {{http: 8080/, timeout_s: 30}}
  - name: far
    docker: {{image: {IMAGE}, command: "sh -c 'echo \"two  words\"; exec sleep 1000000'", user: "65534:65534", privileged: false}}
    network: [{{switch: far, ip: dynamic}}]
    ready: {{log: two  words}}
  - name: root
    docker: {{image: {IMAGE}, command: [sleep, "1000000"], privileged: {}}}
    network: [{{switch: lan, ip: dynamic}}]
  - name: c
    docker:
      image: {IMAGE}
      command: httpd -f -p 8080
      scaling:
        count: 3
        interfaces:
          lan: {{clones: [0, 1, 2], ip_type: {{ip_range: {{from: 10.79.0.100, to: 10.79.0.102}}}}}}
          far: {{clones: [2], ip_type: dynamic}}
network:
  ovn:
    switches: {{lan: {{subnet: 10.79.0.0/24}}, far: {{subnet: 10.80.0.0/24}}}}
    routers:
      r:
        ports:
          - {{name: r-lan, mac: "02:00:00:79:00:01", gateway_ip: 10.79.0.1/24, switch: lan}}
          - {{name: r-far, mac: "02:00:00:80:00:01", gateway_ip: 10.80.0.1/24, switch: far}}
        dhcp: [{{switch: far, exclude_ips: {{from: 10.80.0.1, to: 10.80.0.9}}}}]
"#,
        containers::can_be_privileged()
    )
}

fn project(lab: &mut Lab) -> Project {
    let project = lab.project("docker-real", &yaml("first"));
    std::fs::create_dir_all(project.folder.join("shared")).expect("a folder");
    std::fs::write(project.folder.join("one.txt"), "one\n").expect("written");
    std::fs::write(project.folder.join("web.env"), "# of the file\nFILE=' x \"y\" $z \\n\nBOTH=there\n").expect("written");
    project
}

fn exec(lab: &Lab, project: &Project, guest: &str, argv: &[&str]) -> Ran {
    lab.run(&project.args(&[&["exec", guest, "--"], argv].concat()))
}

fn said(lab: &Lab, project: &Project, guest: &str, script: &str) -> String {
    lab.ok(&project.args(&["exec", guest, "--", "sh", "-c", script])).stdout
}

#[test]
fn containers_and_machines_are_guests_of_one_network() {
    image();
    let mut lab = Lab::start();
    let project = project(&mut lab);
    lab.ok(&project.args(&["up"]));
    assert_eq!(lab.json(&project.args(&["plan"]))["steps"], serde_json::json!([]));
    let states = lab.json(&project.args(&["ps"])).to_string();
    assert_eq!(states.matches("\"running\"").count(), 7, "{states}");

    // Both ways on one switch and across the router, by name; one TCP transfer each, since a ping proves nothing of checksums.
    for (from, to) in [("vm", "web"), ("web", "vm"), ("web", "far"), ("vm", "far"), ("c-0", "vm"), ("vm", "c-2")] {
        let ran = exec(&lab, &project, from, &["ping", "-c", "2", "-W", "5", to]);
        assert_eq!(ran.status, 0, "{from} pings {to}: {}{}", ran.stdout, ran.stderr);
    }
    for (from, url, holds) in [
        ("vm", "http://web:8080/", "from-web"),
        ("far", "http://web:8080/", "from-web"),
        ("c-2", "http://web:8080/", "from-web"),
        ("web", "http://vm/", "<title>vm"),
        ("far", "http://vm/", "<title>vm"),
    ] {
        let ran = exec(&lab, &project, from, &["wget", "-q", "-O", "-", url]);
        assert!(ran.status == 0 && ran.stdout.contains(holds), "{from} gets {url}: {}{}", ran.stdout, ran.stderr);
    }
    let bytes = exec(&lab, &project, "web", &["sh", "-c", "head -c 3000000 /dev/zero >/www/big"]).status;
    assert_eq!((bytes, said(&lab, &project, "vm", "wget -q -O - http://web:8080/big | wc -c").trim()), (0, "3000000"));

    every_key_is_seen_from_inside(&lab, &project);
    clones_are_told_apart(&lab, &project);
    commands_run_in_a_container(&lab, &project);
    what_a_container_says_is_shown(&lab, &project);
    edits_reach_running_containers(&lab, &project);
    a_containers_link_is_shaped(&lab, &project);
    containers_outlive_the_server(&mut lab, &project);

    lab.ok(&project.args(&["down"]));
    assert_eq!(left(&lab, "docker-real"), Vec::<String>::new());
}

fn every_key_is_seen_from_inside(lab: &Lab, project: &Project) {
    assert_eq!(said(lab, project, "web", "printf %s \"$HARD\""), "a  'b' \"c\" $d\ne\\f #g");
    assert_eq!(said(lab, project, "web", "printf %s \"$FILE\""), "' x \"y\" $z \\n");
    assert_eq!(said(lab, project, "web", "printf %s \"$BOTH $PLAIN\""), "here first");
    // Both ways through a volume, and no way into one that is read only.
    std::fs::write(project.folder.join("shared/in"), "from the host\n").expect("written");
    assert_eq!(said(lab, project, "web", "cat /shared/in; echo back >/shared/out; cat /etc/one.txt"), "from the host\none\n");
    assert_eq!(std::fs::read_to_string(project.folder.join("shared/out")).expect("read"), "back\n");
    assert_ne!(exec(lab, project, "web", &["sh", "-c", "echo x >/etc/one.txt"]).status, 0);
    // A device under another name, to be read alone.
    assert_eq!(said(lab, project, "web", "head -c 3 /dev/nought | wc -c").trim(), "3");
    let devices =
        inspected(&container("docker-real", "web"), "{{range .HostConfig.Devices}}{{.PathInContainer}} {{.CgroupPermissions}}{{end}}");
    assert_eq!(devices, "/dev/nought r");
    // Rights: a user of its own, none beyond the usual, or all.
    assert_eq!(said(lab, project, "far", "id -u; id -g"), "65534\n65534\n");
    let rights = |guest| u64::from_str_radix(said(lab, project, guest, "sed -n 's/^CapBnd:\t//p' /proc/1/status").trim(), 16).expect("hex");
    let (net_admin, sys_admin, mknod) = (1 << 12, 1 << 21, 1 << 27);
    for guest in ["web", "far", "c-0"] {
        assert_eq!(rights(guest) & (net_admin | sys_admin | mknod), 0, "{guest}");
    }
    let all = if containers::can_be_privileged() { net_admin | sys_admin | mknod } else { 0 };
    assert_eq!(rights("root") & (net_admin | sys_admin | mknod), all);
    assert_ne!(exec(lab, project, "web", &["ip", "link", "set", "eth0", "down"]).status, 0);
    // Hostname, address, MTU, route and name server are there without any tool of the image's.
    assert_eq!(
        said(lab, project, "web", "hostname; cat /sys/class/net/eth0/mtu; cat /etc/resolv.conf"),
        "web\n1442\nnameserver 10.79.0.1\n"
    );
    assert!(said(lab, project, "web", "ip route").contains("default via 10.79.0.1 dev eth0"));
    let mac = lab.json(&project.args(&["ps"])).to_string();
    assert!(mac.contains(said(lab, project, "web", "cat /sys/class/net/eth0/address").trim()));
    // The image is pinned: what runs is what its name led to.
    let id = inspected(IMAGE, "{{.Id}}");
    assert_eq!(inspected(&container("docker-real", "web"), "{{.Image}}"), id);
    assert_eq!(inspected(&container("docker-real", "web"), "{{.Config.Image}}"), id);
}

fn clones_are_told_apart(lab: &Lab, project: &Project) {
    let tell = |guest| said(lab, project, guest, "hostname; ip -4 -o addr show eth0 | awk '{print $4}'; ls /sys/class/net | grep -c eth");
    assert_eq!(tell("c-0"), "c-0\n10.79.0.100/24\n1\n");
    assert_eq!(tell("c-1"), "c-1\n10.79.0.101/24\n1\n");
    assert_eq!(tell("c-2"), "c-2\n10.79.0.102/24\n2\n");
}

fn commands_run_in_a_container(lab: &Lab, project: &Project) {
    let ran = exec(lab, project, "web", &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.lines().next()), (7, "out\n", Some("err")), "{}", ran.stderr);
    assert_eq!(exec(lab, project, "web", &["head", "-c", "10000000", "/dev/zero"]).stdout.len(), 10_000_000);
    assert_eq!((exec(lab, project, "web", &["nope"]).status, exec(lab, project, "web", &["/etc/passwd"]).status), (127, 126));
    let mut fed = lab.command(&project.args(&["exec", "-i", "-e", "A=b c", "web", "--", "sh", "-c", "wc -c; echo $A"]));
    let mut child = fed.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().expect("testbed runs");
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), &[b'x'; 200_000]).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200000\nb c\n");
    // At its limit a command goes with all that it started.
    let late = lab.run(&project.args(&["exec", "--timeout", "1", "web", "--", "sh", "-c", "echo begun; sleep 4711 & sleep 4711"]));
    assert_eq!((late.status, late.stdout.as_str()), (1, "begun\n"), "{}", late.stderr);
    assert_eq!(said(lab, project, "web", "ps -o args | grep -c '^sleep 471[1]' || true"), "0\n");
}

fn what_a_container_says_is_shown(lab: &Lab, project: &Project) {
    assert_eq!(lab.ok(&project.args(&["logs", "web"])).stdout, "serving\n");
    assert_eq!(lab.ok(&project.args(&["logs", "far", "--tail", "1"])).stdout, "two  words\n");
    assert!(!lab.ok(&project.args(&["logs", "vm"])).stdout.is_empty(), "a machine's console");
    assert_eq!(lab.run(&project.args(&["logs", "nobody"])).status, 3);
}

fn edits_reach_running_containers(lab: &Lab, project: &Project) {
    let ids =
        || ["web", "far", "root", "c-0", "c-1", "c-2"].map(|guest| inspected(&container("docker-real", guest), "{{.Id}}{{.State.Pid}}"));
    let before = ids();
    // Another variable: one container is made anew, and nothing else is touched.
    std::fs::write(&project.file, yaml("second")).expect("written");
    let plan = lab.json(&project.args(&["plan"]));
    let steps: Vec<&str> = plan["steps"].as_array().expect("steps").iter().filter_map(|step| step["id"].as_str()).collect();
    assert_eq!(steps, ["remove/web", "start/web", "ready/web"], "{plan}");
    assert!(plan["steps"][1]["impact"] == "recreate", "{plan}");
    lab.ok(&project.args(&["up"]));
    assert_eq!(said(lab, project, "web", "printf %s \"$PLAIN\""), "second");
    let after = ids();
    assert!(before[0] != after[0] && before[1..] == after[1..], "{before:?} {after:?}");
    // A NIC more, then another address on it: the container goes on.
    let lan = "network: [{switch: lan, ip: 10.79.0.20, gateway: 10.79.0.1}]";
    for (edit, address) in [("{switch: far, ip: 10.80.0.77}", "10.80.0.77/24"), ("{switch: far, ip: 10.80.0.78}", "10.80.0.78/24")] {
        std::fs::write(&project.file, yaml("second").replace(lan, &lan.replace("}]", &format!("}}, {edit}]")))).expect("written");
        let plan = lab.json(&project.args(&["plan"])).to_string();
        assert!(plan.contains("plug/web/eth1") && plan.contains("hot_plug") && !plan.contains("start/web"), "{plan}");
        lab.ok(&project.args(&["up"]));
        assert!(said(lab, project, "web", "ip -4 -o addr show eth1").contains(address));
        assert_eq!(exec(lab, project, "c-2", &["ping", "-c", "2", "-W", "5", address.trim_end_matches("/24")]).status, 0);
        assert_eq!(ids(), after);
    }
    std::fs::write(&project.file, yaml("second")).expect("written");
    lab.ok(&project.args(&["up"]));
    assert_eq!((said(lab, project, "web", "ls /sys/class/net | grep -c eth").trim(), ids()), ("1", after));
    // What ended is seen, with its status, and started again; so is what lost its wire.
    lab::lines("docker", &["kill", &container("docker-real", "c-1")]);
    let states = || lab.json(&project.args(&["ps"])).to_string();
    assert!(states().contains("exited (137)"), "{}", states());
    lab::lines("docker", &["restart", "-t", "0", &container("docker-real", "c-0")]);
    lab.ok(&project.args(&["up"]));
    assert!(!states().contains("exited"), "{}", states());
    for guest in ["c-0", "c-1"] {
        assert_eq!(exec(lab, project, "vm", &["ping", "-c", "2", "-W", "5", guest]).status, 0, "{guest}");
    }
    assert_eq!(lab.json(&project.args(&["plan"]))["steps"], serde_json::json!([]));
}

fn a_containers_link_is_shaped(lab: &Lab, project: &Project) {
    let lan = "network: [{switch: lan, ip: 10.79.0.20, gateway: 10.79.0.1}]";
    let slow = lan.replace("}]", ", impairment: {delay_ms: 60}}]");
    std::fs::write(&project.file, yaml("second").replace(lan, &slow)).expect("written");
    lab.ok(&project.args(&["up"]));
    let trip = || {
        let pinged = said(lab, project, "vm", "ping -c 4 -W 5 web | tail -n 1");
        let average = pinged.split('/').nth(3).and_then(|text| text.trim().parse::<f64>().ok());
        average.unwrap_or_else(|| panic!("no average: {pinged}"))
    };
    let slowly = trip();
    assert!(slowly > 115.0, "60 ms each way: {slowly}");
    assert!(exec(lab, project, "vm", &["wget", "-q", "-O", "-", "http://web:8080/"]).stdout.contains("from-web"));
    lab.ok(&project.args(&["link", "set", "web:eth0", "down"]));
    assert_eq!(said(lab, project, "web", "cat /sys/class/net/eth0/carrier").trim(), "0");
    lab.ok(&project.args(&["link", "set", "web:eth0", "up"]));
    // Its marks outlive the relay: the plan is empty, and its interface is its own again.
    std::fs::write(&project.file, yaml("second")).expect("written");
    lab.ok(&project.args(&["up"]));
    assert!(trip() < 60.0, "plain again");
    assert_eq!(lab.json(&project.args(&["plan"]))["steps"], serde_json::json!([]));
}

fn containers_outlive_the_server(lab: &mut Lab, project: &Project) {
    let pid = || inspected(&container("docker-real", "web"), "{{.State.Pid}}");
    let before = pid();
    lab.kill();
    lab.boot();
    assert_eq!(lab.json(&project.args(&["plan"]))["steps"], serde_json::json!([]));
    assert_eq!(pid(), before);
    assert!(exec(lab, project, "vm", &["wget", "-q", "-O", "-", "http://web:8080/"]).stdout.contains("from-web"));
}

#[test]
fn addresses_of_every_kind_are_set_up_without_the_image() {
    image();
    let mut lab = Lab::start();
    let yaml = format!(
        r#"
machines:
  - name: vm
    micro: {{services: {{http: 80}}}}
    network: [{{switch: lan, ip: dynamic}}]
  - name: box
    docker: {{image: {IMAGE}, command: httpd -f -p 8080 -h /etc}}
    network: [{{switch: lan, ip: dynamic}}, {{switch: own, ip: dynamic}}]
    ready: {{tcp: 8080}}
  - name: mate
    docker: {{image: {IMAGE}, command: sleep 1000000}}
    network: [{{switch: own, ip: dynamic}}]
network:
  ovn:
    switches:
      lan: {{subnet: 10.81.0.0/24, ipv6: fd00:81::/64}}
      own: {{subnet: 10.82.0.0/24}}
    routers:
      r:
        ports: [{{name: r-lan, mac: "02:00:00:81:00:01", gateway_ip: 10.81.0.1/24, switch: lan}}]
        dhcp: [{{switch: lan, exclude_ips: {{from: 10.81.0.1, to: 10.81.0.9}}}}]
"#
    );
    let project = lab.project("docker-addresses", &yaml);
    lab.ok(&project.args(&["up"]));
    let state = lab.json(&project.args(&["ps"])).to_string();
    for guest in ["vm", "box"] {
        let (from, to) = if guest == "vm" { ("vm", "box") } else { ("box", "vm") };
        for version in ["-4", "-6"] {
            let ran = exec(&lab, &project, from, &["ping", version, "-c", "2", "-W", "5", to]);
            assert_eq!(ran.status, 0, "{from} pings {to} {version}: {}{}\n{state}", ran.stdout, ran.stderr);
        }
    }
    assert!(exec(&lab, &project, "vm", &["wget", "-q", "-O", "-", "http://box:8080/hostname"]).stdout.contains("box"));
    // A switch without a router has names too.
    assert_eq!(exec(&lab, &project, "mate", &["ping", "-c", "2", "-W", "5", "box"]).status, 0);
    lab.ok(&project.args(&["down"]));
    assert_eq!(left(&lab, "docker-addresses"), Vec::<String>::new());
}

#[test]
fn killed_servers_leave_nothing_that_down_does_not_find() {
    image();
    let mut lab = Lab::start();
    let machine = |name: &str| {
        format!("  - {{name: {name}, docker: {{image: {IMAGE}, command: sleep 1000000}}, network: [{{switch: lan}}, {{switch: lan}}]}}\n")
    };
    let yaml = format!(
        "machines:\n{}network: {{ovn: {{switches: {{lan: {{subnet: 10.83.0.0/24}}}}}}}}\n",
        ["a", "b", "c", "d"].map(machine).concat()
    );
    let project = lab.project("docker-kill", &yaml);
    for (number, command) in ["up", "up", "up", "up", "down", "down", "up", "down"].iter().enumerate() {
        if *command == "down" {
            lab.ok(&project.args(&["up"]));
        }
        let mut asked = lab.command(&project.args(&[command]));
        let mut child = asked.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("testbed runs");
        // Each round a little later: between any two of the steps.
        std::thread::sleep(Duration::from_millis(250 + 220 * number as u64));
        lab.kill();
        let _status = child.kill();
        let _status = child.wait();
        lab.boot();
        if number % 2 == 0 {
            lab.ok(&project.args(&["up"]));
            assert_eq!(lab.json(&project.args(&["plan"]))["steps"], serde_json::json!([]), "after {command} {number}");
            assert_eq!(exec(&lab, &project, "a", &["ping", "-c", "2", "-W", "5", "d"]).status, 0, "after {command} {number}");
        }
        lab.ok(&project.args(&["down"]));
        assert_eq!(left(&lab, "docker-kill"), Vec::<String>::new(), "after {command} {number}");
    }
}

#[test]
fn what_cannot_be_is_said_before_anything_is_left() {
    image();
    let mut lab = Lab::start();
    let network = "network: {ovn: {switches: {lan: {subnet: 10.84.0.0/24}}}}\n";
    let one = |docker: &str| format!("machines:\n  - {{name: a, docker: {{{docker}}}, network: [{{switch: lan}}]}}\n{network}");
    let refused = |lab: &mut Lab, yaml: &str, words: &[&str]| {
        let project = lab.project("docker-no", yaml);
        let ran = lab.run(&project.args(&["up"]));
        assert_ne!(ran.status, 0, "{yaml}");
        assert!(words.iter().all(|word| ran.stderr.contains(word)), "{words:?}: {}", ran.stderr);
        assert_eq!(left(lab, "docker-no"), Vec::<String>::new(), "{yaml}");
    };
    refused(&mut lab, &one("image: 'localhost:1/no-such-image'"), &["error 51", "no-such-image", "docker pull"]);
    refused(&mut lab, &one(&format!("image: {IMAGE}, command: /no/such/program")), &["/no/such/program", "`command`"]);
    refused(&mut lab, &one(&format!("image: {IMAGE}, command: \"sh -c 'echo last words; exit 3'\"")), &["exited (3)", "log: last words"]);
    refused(&mut lab, &one(&format!("image: {IMAGE}, volumes: [{{source: /etc, target: /a}}]")), &["E072", "/etc"]);
    refused(&mut lab, &one(&format!("image: {IMAGE}, volumes: [{{source: ../up, target: /a}}]")), &["E07"]);
    let slow = one(&format!("image: {IMAGE}, command: sleep 100000")).replace("network: [", "ready: {tcp: 9, timeout_s: 1}, network: [");
    refused(&mut lab, &slow, &["nothing listens on TCP port 9"]);
    let privileged = one(&format!("image: {IMAGE}, command: sleep 100000, privileged: true"));
    if containers::can_be_privileged() {
        let project = lab.project("docker-no", &privileged);
        lab.ok(&project.args(&["up"]));
        assert_eq!(inspected(&container("docker-no", "a"), "{{.HostConfig.Privileged}}"), "true");
        lab.ok(&project.args(&["down"]));
    } else {
        refused(&mut lab, &privileged, &["docker-no.a", "`privileged: true`"]);
    }
    // A stranger's container is left alone, by `up` and by `down`.
    lab::lines("docker", &["create", "--name", "docker-no.a", IMAGE, "true"]);
    let project = lab.project("docker-no", &one(&format!("image: {IMAGE}, command: sleep 100000")));
    let ran = lab.run(&project.args(&["up"]));
    lab.ok(&project.args(&["down"]));
    let kept = lab::lines("docker", &["rm", "docker-no.a"]);
    assert!(ran.status == 4 && ran.stderr.contains("docker inspect docker-no.a"), "{}", ran.stderr);
    assert_eq!(kept, ["docker-no.a"]);

    // Docker away: who needs it is told so, who does not goes on, and what is there is not taken for gone.
    let lab_project = lab.project("docker-no", &one(&format!("image: {IMAGE}, command: sleep 100000")));
    lab.ok(&lab_project.args(&["up"]));
    let folder = lab.folder.path().join("nowhere.sock");
    lab.kill();
    lab.set("DOCKER_HOST", &format!("unix://{}", folder.display()));
    lab.boot();
    for command in ["up", "down"] {
        let ran = lab.run(&lab_project.args(&[command]));
        assert!(ran.status == 1 && ran.stderr.contains("Docker does not answer at"), "{command}: {}", ran.stderr);
    }
    assert!(lab.run(&["doctor"]).stdout.contains("Docker does not answer"), "doctor tells");
    let machines = lab.project(
        "docker-none",
        &format!("machines: [{{name: m, micro: {{}}, network: [{{switch: lan}}]}}]\n{}", network.replace("84", "85")),
    );
    lab.ok(&machines.args(&["up"]));
    lab.ok(&machines.args(&["down"]));
    lab.kill();
    lab.set("DOCKER_HOST", "");
    lab.boot();
    lab.ok(&lab_project.args(&["down"]));
    assert_eq!(left(&lab, "docker-no"), Vec::<String>::new());
}
