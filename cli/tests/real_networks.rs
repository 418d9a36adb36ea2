//! What the network section becomes, seen from inside real guests: routes, addresses, names, rules, wires.

mod lab;

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::Stdio,
    time::{Duration, Instant},
};

use lab::{Lab, Ran, lines};

/// What every probe begins with. A first packet may be lost while addresses are resolved: what is expected is tried thrice.
const WORDS: &str = r#"
fact() { key=$1; shift; echo "$key=$*"; }
try() { for _ in 1 2 3; do "$@" >/dev/null 2>&1 && return 0; done; return 1; }
yes() { key=$1; shift; if try "$@"; then fact "$key" yes; else fact "$key" no; fi; }
once() { key=$1; shift; if timeout 6 "$@" >/dev/null 2>&1; then fact "$key" yes; else fact "$key" no; fi; }
ping4() { ping -c 1 -W 2 "$1"; }
six() { ping6 -c 1 -W 2 "$1"; }
tcp() { nc -w 2 "$1" "$2" </dev/null; }
sum() { wget -q -O - "$1" 2>/dev/null | md5sum | cut -d' ' -f1; }
fragments() { awk '/^Ip: [0-9]/ {print $20}' /proc/net/snmp; }
echoes() { awk '/^Icmp: [0-9]/ {print $10}' /proc/net/snmp; }
address6() { ip -o -6 addr show dev "$1" scope global | awk '{print $4}' | cut -d/ -f1; }
took() { begun=$(cut -d. -f1 /proc/uptime); "$@" >/dev/null 2>&1; echo $(($(cut -d. -f1 /proc/uptime) - begun)); }
"#;

/// Runs a probe in a guest: its facts, one a line.
fn ask(lab: &Lab, testbed: &str, guest: &str, probe: &str) -> BTreeMap<String, String> {
    let mut child = lab
        .command(&["-p", testbed, "exec", "-i", guest, "--", "sh"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("testbed runs");
    child.stdin.take().expect("stdin").write_all(format!("{WORDS}{probe}").as_bytes()).expect("written");
    let ran = Ran::of(child.wait_with_output().expect("it ends"));
    let facts = ran.stdout.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.into(), value.trim().into()));
    let facts: BTreeMap<String, String> = facts.collect();
    assert!(!facts.is_empty(), "{guest}: {}{}", ran.stdout, ran.stderr);
    facts
}

/// All that differs from what is expected.
fn expect(guest: &str, facts: &BTreeMap<String, String>, wanted: &[(&str, &str)]) {
    let wrong: Vec<String> = wanted
        .iter()
        .filter(|(key, value)| facts.get(*key).map(String::as_str) != Some(*value))
        .map(|(key, value)| format!("{key} is {:?}, not {value:?}", facts.get(*key)))
        .collect();
    assert!(wrong.is_empty(), "guest `{guest}`: {wrong:#?}\nall: {facts:#?}");
}

/// The addresses that OVN knows of a guest's interface: MAC, then IPv4 and IPv6 as far as it has them.
fn known(testbed: &str, guest: &str) -> Vec<String> {
    let marks = [format!("external_ids:testbedos-deployment={testbed}"), format!("external_ids:testbedos-key=port/{guest}/0")];
    let found = lines("ovn-nbctl", &["--bare", "--columns=addresses", "find", "Logical_Switch_Port", &marks[0], &marks[1]]);
    found.join(" ").split_whitespace().map(str::to_string).collect()
}

fn six_of(testbed: &str, guest: &str) -> String {
    known(testbed, guest).into_iter().find(|word| word.starts_with("fd")).unwrap_or_else(|| panic!("{guest} has no IPv6 address"))
}

#[test]
fn addresses_routes_names_and_wires_work_inside_guests() {
    let mut lab = Lab::start();
    let name = "net-routes";
    let project = lab.project(name, include_str!("networks/routes.yaml"));
    lab.ok(&project.args(&["up"]));
    let six = |guest| six_of(name, guest);
    let blob = "dd if=/dev/urandom of=/srv/www/blob bs=1M count=4 2>/dev/null; fact sum $(md5sum </srv/www/blob | cut -d' ' -f1)\n";
    let sums: BTreeMap<&str, String> =
        ["fixed", "far", "six", "two"].into_iter().map(|guest| (guest, ask(&lab, name, guest, blob)["sum"].clone())).collect();

    // A lease: address behind the excluded ones, gateway, name server, MTU; IPv6 made of the router's advertisement.
    let probe = format!(
        r#"fact address $(ip -o -4 addr show dev eth0 | awk '{{print $4}}'); fact gateway $(ip route | awk '/^default/ {{print $3}}')
fact server $(grep nameserver /etc/resolv.conf); fact mtu $(cat /sys/class/net/eth0/mtu); fact six $(address6 eth0)
fact way6 $(ip -6 route | grep -c '^default via fe80')
yes next ping4 10.81.1.10; yes far ping4 10.81.2.2; yes far6 six {far6}; yes only6 six {only6}
fact fixed-sum $(sum http://10.81.1.10/blob); fact far-sum $(sum http://10.81.2.2/blob)
fact far6-sum $(sum 'http://[{far6}]/blob'); fact only6-sum $(sum 'http://[{only6}]/blob'); fact named-sum $(sum http://fixed/blob)
yes name ping4 fixed; yes name-far ping4 far; yes name-six six six; yes name-any ping -c 1 -W 2 six
once outside nslookup www.example.org; fact outside-s $(took ping -c 1 -W 1 www.example.org)
before=$(fragments); try ping -c 1 -W 2 -s 1414 10.81.2.2; fact whole $(($(fragments) - before)); yes full ping -c 1 -W 2 -s 1414 10.81.2.2
before=$(fragments); ping -c 1 -W 2 -s 1415 10.81.2.2 >/dev/null; [ "$(fragments)" -gt "$before" ] && fact larger cut
"#,
        far6 = six("far"),
        only6 = six("six"),
    );
    let lease = ask(&lab, name, "lease", &probe);
    let own6 = six("lease");
    expect(
        "lease",
        &lease,
        &[
            ("address", "10.81.1.100/24"),
            ("gateway", "10.81.1.1"),
            ("server", "nameserver 10.81.1.1"),
            ("mtu", "1442"),
            ("six", &own6),
            ("way6", "1"),
            ("next", "yes"),
            ("far", "yes"),
            ("far6", "yes"),
            ("only6", "yes"),
            ("fixed-sum", &sums["fixed"]),
            ("far-sum", &sums["far"]),
            ("far6-sum", &sums["far"]),
            ("only6-sum", &sums["six"]),
            ("named-sum", &sums["fixed"]),
            ("name", "yes"),
            ("name-far", "yes"),
            ("name-six", "yes"),
            ("name-any", "yes"),
            ("outside", "no"),
            ("whole", "0"),
            ("full", "yes"),
            ("larger", "cut"),
        ],
    );
    assert!(lease["outside-s"].parse::<u32>().is_ok_and(|seconds| seconds <= 6), "{lease:?}");

    // DHCPv6 behind two routers, and a switch that is IPv6 alone.
    let far = ask(
        &lab,
        name,
        "far",
        &format!(
            "fact six $(address6 eth0); fact server $(grep -c 'nameserver fd00:81:2::1' /etc/resolv.conf); yes back six {own6}; yes only6 six {}\n",
            six("six")
        ),
    );
    expect("far", &far, &[("six", &six("far")), ("server", "1"), ("back", "yes"), ("only6", "yes")]);
    let only6 = ask(
        &lab,
        name,
        "six",
        "fact six $(address6 eth0); fact four $(ip -o -4 addr show dev eth0 | wc -l); yes name six far; fact server $(grep nameserver /etc/resolv.conf)\n",
    );
    expect("six", &only6, &[("six", &six("six")), ("four", "0"), ("name", "yes"), ("server", "nameserver fd00:81:6::1")]);

    // No router: names all the same, and an end to questions that nobody can answer. Wires with addresses and without.
    let one = ask(
        &lab,
        name,
        "one",
        r#"fact server $(grep nameserver /etc/resolv.conf); yes name ping4 two; fact sum $(sum http://two/blob); fact wired-sum $(sum http://10.81.4.2/blob)
fact outside-s $(took ping -c 1 -W 1 www.example.org); yes wire ping4 10.81.4.2; ip addr add 192.168.7.1/24 dev eth2
once raw6 ping6 -c 2 -W 2 -I eth2 ff02::1%eth2
"#,
    );
    let wanted = [("server", "nameserver 169.254.0.53"), ("name", "yes"), ("wire", "yes"), ("raw6", "yes")];
    expect("one", &one, &[wanted.as_slice(), &[("sum", &sums["two"]), ("wired-sum", &sums["two"])]].concat());
    assert!(one["outside-s"].parse::<u32>().is_ok_and(|seconds| seconds <= 6), "{one:?}");
    let two = ask(&lab, name, "two", "ip addr add 192.168.7.2/24 dev eth2; yes raw ping4 192.168.7.1; once other ping4 10.81.1.10\n");
    expect("two", &two, &[("raw", "yes"), ("other", "no")]);

    assert_eq!(lab.json(&project.args(&["plan"]))["steps"], serde_json::json!([]));
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.leftovers(name), Vec::<String>::new());
}

#[test]
fn rules_let_pass_stop_and_refuse_and_nobody_poses_as_another() {
    let mut lab = Lab::start();
    let name = "net-rules";
    let project = lab.project(name, include_str!("networks/rules.yaml"));
    lab.ok(&project.args(&["up"]));
    let serve = "for port in 81 82 83; do httpd -p $port -h /srv/www; done; cp /bin/busybox /srv/www/blob\nfact sum $(md5sum </srv/www/blob | cut -d' ' -f1)\n";
    let sum = ask(&lab, name, "bob", serve)["sum"].clone();

    // ann: what is allowed, what deny-all stops, what is refused at once, what is stopped where it enters.
    let ann = ask(
        &lab,
        name,
        "ann",
        r#"httpd -p 90 -h /; yes allowed tcp 10.82.1.12 80; fact sum $(sum http://10.82.1.12/blob); yes echo ping4 10.82.1.12
once denied tcp 10.82.1.12 81; once refused tcp 10.82.1.12 82; fact refused-s $(took tcp 10.82.1.12 82); fact said $(nc -w 3 10.82.1.12 82 </dev/null 2>&1)
once entering tcp 10.82.1.12 83; yes name nslookup bob; yes neighbour six bob
"#,
    );
    expect(
        "ann",
        &ann,
        &[
            ("allowed", "yes"),
            ("sum", &sum),
            ("echo", "yes"),
            ("denied", "no"),
            ("refused", "no"),
            ("entering", "no"),
            ("said", "nc: can't connect to remote host (10.82.1.12): Connection refused"),
            ("name", "yes"),
            ("neighbour", "yes"),
        ],
    );
    // bob's answers passed (the sum came); a connection of his own does not.
    let bob = ask(&lab, name, "bob", "once back tcp 10.82.1.11 90; yes echo ping4 10.82.1.11; fact echoes $(echoes)\n");
    expect("bob", &bob, &[("back", "no"), ("echo", "yes")]);

    // eve has a lease, a name server and neighbours, and nothing else. As ann she is not heard, by address or by MAC.
    let eve = ask(
        &lab,
        name,
        "eve",
        &format!(
            r#"fact address $(ip -o -4 addr show dev eth0 | awk '{{print $4}}'); yes name nslookup ann; yes neighbour six ann
once web tcp 10.82.1.12 80; once echo ping4 10.82.1.12
ip addr add 10.82.1.11/24 dev eth0; once posing ping -c 3 -W 1 -I 10.82.1.11 10.82.1.12
ip link set dev eth0 down; ip link set dev eth0 address {}; ip link set dev eth0 up; ip neigh add 10.82.1.12 lladdr {} dev eth0 nud permanent
once masked ping -c 3 -W 1 -I 10.82.1.11 10.82.1.12
"#,
            known(name, "ann")[0],
            known(name, "bob")[0]
        ),
    );
    expect(
        "eve",
        &eve,
        &[
            ("address", "10.82.1.2/24"),
            ("name", "yes"),
            ("neighbour", "yes"),
            ("web", "no"),
            ("echo", "no"),
            ("posing", "no"),
            ("masked", "no"),
        ],
    );
    let after = ask(&lab, name, "bob", "fact echoes $(echoes)\n");
    assert_eq!(after["echoes"], bob["echoes"], "an echo request of eve's reached bob");

    // Without deny-all and rules everything passes; the guests are left alone.
    let open: String = project_without_rules(include_str!("networks/rules.yaml"));
    let ids = lab::running(name);
    let project = lab.project(name, &open);
    lab.ok(&project.args(&["up"]));
    expect(
        "ann",
        &ask(&lab, name, "ann", "yes open tcp 10.82.1.12 81; yes refused tcp 10.82.1.12 82\n"),
        &[("open", "yes"), ("refused", "yes")],
    );
    assert_eq!(lab::running(name), ids);

    wrong_rules_come_back_in_ovns_words(&mut lab, name, &open);
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.leftovers(name), Vec::<String>::new());
}

fn project_without_rules(yaml: &str) -> String {
    yaml.split_once("    acl:\n").expect("rules at the end").0.to_string()
}

/// Each wrong rule is told at its line, by `validate`, `plan` and `up`, and nothing has changed.
fn wrong_rules_come_back_in_ovns_words(lab: &mut Lab, name: &str, open: &str) {
    let rule = |matches: &str, action: &str| {
        format!("          - direction: to-lport\n            priority: 7\n            match: '{matches}'\n            action: {action}\n")
    };
    let rules =
        [rule("ip4.srcx == 1", "drop"), rule("tcp.dst == 80000", "drop"), rule("tcp && (", "drop"), rule("ip4 && tcp.dst == 80", "pass")];
    let yaml = format!("{open}    acl:\n      switches:\n        lan:\n{}", rules.concat());
    let place = |words: &str, part: &str, line_of: &str| {
        let (index, line) = yaml.lines().enumerate().find(|(_, line)| line.contains(line_of)).expect("the line");
        let column = line.find(part).expect("the word") + if words.contains("end of input") { part.len() } else { 0 };
        (format!(":{}:{}\n", index + 1, column + 1), words.to_string())
    };
    let expected = [
        place("Syntax error at `ip4.srcx' expecting field name", "ip4.srcx", "ip4.srcx"),
        place("17-bit constant is not compatible with 16-bit field tcp.dst", "tcp.dst", "80000"),
        place("end of input expecting constant", "tcp && (", "tcp && ("),
        place("has no action `pass`", "pass", "action: pass"),
    ];
    let rows = lab::rows(name);
    let project = lab.project(name, &yaml);
    for verb in ["validate", "plan", "up"] {
        let began = Instant::now();
        let ran = lab.run(&project.args(&[verb]));
        assert_eq!(ran.status, 2, "{verb}: {}", ran.stderr);
        for (at, words) in &expected {
            assert!(ran.stderr.contains(at) && ran.stderr.contains(words), "{verb}: no {words} at {at} in {}", ran.stderr);
        }
        assert!(began.elapsed() < Duration::from_secs(30));
    }
    assert_eq!(lab::rows(name), rows);
}
