//! `testbed why` on the real parts: faults made behind our back, one at a time, and the culprit that it names.
//!
//! A guest behind one router, a second one behind the next, a third outside with an address that the first router translates.

mod lab;

use std::time::{Duration, Instant};

use lab::{Lab, Project};
use serde_json::Value;

const NAME: &str = "why-real";

const YAML: &str = r#"
machines:
  - {name: a, micro: {}, network: [{switch: left}]}
  - {name: b, micro: {services: {http: 80}}, network: [{switch: right, ip: 10.73.2.10, gateway: 10.73.2.1}]}
  - {name: c, micro: {}, network: [{switch: outside, ip: 10.73.8.50, gateway: 10.73.8.1}]}
network:
  ovn:
    switches:
      left: {subnet: 10.73.1.0/24}
      between: {subnet: 10.73.9.0/24}
      right: {subnet: 10.73.2.0/24}
      outside: {subnet: 10.73.8.0/24}
      public: {subnet: 172.16.1.0/24, ports: [{name: why-public, localnet: {network_name: public}}]}
    routers:
      r1:
        ports:
          - {name: r1-left, gateway_ip: 10.73.1.1/24, switch: left}
          - {name: r1-between, gateway_ip: 10.73.9.1/24, switch: between}
          - {name: r1-outside, gateway_ip: 10.73.8.1/24, switch: outside, set_gateway_chassis: main}
          - {name: r1-public, gateway_ip: 172.16.1.173/24, switch: public, set_gateway_chassis: main}
        static_routes: [{prefix: 10.73.2.0/24, nexthop: 10.73.9.2}, {prefix: 198.51.100.0/24, nexthop: 172.16.1.1}]
        dhcp: [{switch: left}]
        nat:
          - {nat_type: dnat_and_snat, external_ip: 10.73.8.100, logical_ip: 10.73.2.10}
          - {nat_type: snat, external_ip: 172.16.1.173, logical_ip: 10.73.1.0/24}
          - {nat_type: dnat, external_ip: 172.16.1.173, external_port: 8080, logical_ip: 10.73.2.10, logical_port: 80}
      r2:
        ports:
          - {name: r2-right, gateway_ip: 10.73.2.1/24, switch: right}
          - {name: r2-between, gateway_ip: 10.73.9.2/24, switch: between}
        static_routes: [{prefix: 10.73.1.0/24, nexthop: 10.73.9.1}, {prefix: 10.73.8.0/24, nexthop: 10.73.9.1}]
    acl:
      apply_deny_all: false
      switches:
        right:
          - {direction: to-lport, priority: 800, match: "ip4 && udp.dst == 99", action: drop}
          - {direction: to-lport, priority: 900, match: "ip4 && tcp.dst == 81", action: drop}
"#;

/// What is done, and where: `virsh`, `ovn-nbctl`, `ovs-vsctl` on this machine, a shell's line in a guest, or `testbed` itself.
enum Do {
    Nothing,
    Testbed(&'static [&'static str]),
    Here(&'static str),
    In(&'static str, &'static str),
    Up,
}

use Do::{Here, In, Nothing, Testbed, Up};

/// A fault: how it is made and taken back, the question, and what the answer must be.
struct Fault {
    make: Do,
    undo: Do,
    ask: &'static [&'static str],
    culprit: &'static str,
    words: &'static str,
}

const fn fault(make: Do, undo: Do, ask: &'static [&'static str], culprit: &'static str, words: &'static str) -> Fault {
    Fault { make, undo, ask, culprit, words }
}

/// `{a}`, `{b}`: interface ids; `{ta}`, `{tb}`: taps; `{mb}`: b's MAC address.
const FAULTS: &[Fault] = &[
    // Guests.
    fault(Here("virsh -q suspend why-real.a"), Here("virsh -q resume why-real.a"), &["a", "b"], "guest_down", "guest `a` is paused"),
    fault(Here("virsh -q suspend why-real.b"), Here("virsh -q resume why-real.b"), &["a", "b"], "guest_down", "guest `b` is paused"),
    // Interfaces.
    fault(
        In("a", "ip link set eth0 down"),
        In("a", "ip link set eth0 up; ip route add default via 10.73.1.1"),
        &["a", "b"],
        "link_down",
        "eth0 is switched off in guest `a`",
    ),
    fault(
        Here("virsh -q domif-setlink why-real.b {mb} down"),
        Here("virsh -q domif-setlink why-real.b {mb} up"),
        &["a", "b"],
        "link_down",
        "eth0 of guest `b` is down at its port",
    ),
    fault(
        In("a", "ip addr flush dev eth0"),
        // As its hint says.
        In(
            "a",
            "killall udhcpc; for n in 1 2 3 4 5 6 7 8 9; do ip route | grep default && ip addr show eth0 | grep 'inet ' && break; sleep 1; done",
        ),
        &["a", "b"],
        "no_address",
        "should have 10.73.1.2",
    ),
    fault(
        In("b", "ip addr flush dev eth0; ip addr add 10.73.2.66/24 dev eth0; ip route add default via 10.73.2.1"),
        In("b", "ip addr flush dev eth0; ip addr add 10.73.2.10/24 dev eth0; ip route add default via 10.73.2.1"),
        &["a", "b"],
        "wrong_address",
        "has the address 10.73.2.66, and the network knows it as 10.73.2.10",
    ),
    fault(
        In(
            "a",
            "ip link set eth0 down; ip link set eth0 address 02:99:00:00:00:01; ip link set eth0 up; ip route add default via 10.73.1.1",
        ),
        In("a", "ip link set eth0 down; ip link set eth0 address {ma}; ip link set eth0 up; ip route add default via 10.73.1.1"),
        &["a", "b"],
        "port_security",
        "sends as 02:99:00:00:00:01",
    ),
    // Routes in guests.
    fault(
        In("a", "ip route del default"),
        In("a", "ip route add default via 10.73.1.1"),
        &["a", "b", "tcp:80"],
        "guest_route",
        "guest `a` has no route to `b` (10.73.2.10): its default route through 10.73.1.1 is missing",
    ),
    fault(
        In("a", "ip route replace default via 10.73.1.77"),
        In("a", "ip route replace default via 10.73.1.1"),
        &["a", "b"],
        "wrong_gateway",
        "through 10.73.1.77, and its gateway is 10.73.1.1",
    ),
    fault(
        In("b", "ip route del default"),
        In("b", "ip route add default via 10.73.2.1"),
        &["a", "b", "tcp:80"],
        "guest_route",
        "guest `b` has no route to `a`",
    ),
    fault(
        In("a", "ip route add blackhole 10.73.2.10"),
        In("a", "ip route del blackhole 10.73.2.10"),
        &["a", "b"],
        "guest_route",
        "forbids `b` (10.73.2.10): blackhole 10.73.2.10",
    ),
    // Rules.
    fault(
        Nothing,
        Nothing,
        &["a", "b", "tcp:81"],
        "acl",
        "kvm-compose.yaml:37:57 drops packets: to-lport, priority 900, `ip4 && tcp.dst == 81`",
    ),
    fault(
        Here("ovn-nbctl acl-add why-real.left from-lport 1500 'ip4 && icmp' drop"),
        Here("ovn-nbctl acl-del why-real.left"),
        &["a", "b"],
        "acl",
        "an ACL of switch `left` that the file does not have drops packets",
    ),
    // Routers.
    fault(
        Here("ovn-nbctl lr-route-del why-real.r1 10.73.2.0/24"),
        Up,
        &["a", "b"],
        "router_route",
        "the route of router `r1` to 10.73.2.0/24 through 10.73.9.2 is missing",
    ),
    fault(
        Here("ovn-nbctl lr-route-del why-real.r2 10.73.1.0/24"),
        Up,
        &["a", "b", "tcp:80"],
        "router_route",
        "the route of router `r2` to 10.73.1.0/24 through 10.73.9.1 is missing",
    ),
    fault(Here("ovn-nbctl lrp-del why-real.r2-right"), Up, &["a", "b"], "network", "router port `r2-right` is missing in OVN"),
    fault(
        Here("ovn-nbctl lr-nat-del why-real.r1 dnat_and_snat 10.73.8.100"),
        Up,
        &["c", "10.73.8.100", "tcp:80"],
        "nat",
        "the dnat_and_snat of router `r1` at 10.73.8.100 is missing",
    ),
    fault(
        Here(r#"ovn-nbctl set NAT $(ovn-nbctl --bare --columns=_uuid find NAT external_ip=\"10.73.8.100\") logical_ip=\"10.73.2.99\""#),
        Up,
        &["c", "10.73.8.100", "tcp:80"],
        "nat",
        "at 10.73.8.100 is not as the file wants it",
    ),
    fault(Nothing, Nothing, &["a", "10.199.0.1"], "router_route", "router `r1` has no route to 10.199.0.1"),
    fault(
        Here("ovn-nbctl lr-policy-add why-real.r1 1000 'ip4.dst == 10.73.2.10' drop"),
        Here("ovn-nbctl lr-policy-del why-real.r1"),
        &["a", "b"],
        "network",
        "a routing policy of router `r1` that the file does not have drops packets: priority 1000, `ip4.dst == 10.73.2.10`",
    ),
    fault(
        Here("ovn-nbctl lr-route-add why-real.r1 10.73.2.10/32 10.73.9.77"),
        Here("ovn-nbctl lr-route-del why-real.r1 10.73.2.10/32"),
        &["a", "b"],
        "router_route",
        "router `r1` has a route to 10.73.2.10 through 10.73.9.77 that the file does not have",
    ),
    // The edge of the testbed.
    fault(
        Nothing,
        Nothing,
        &["c", "172.16.1.173", "tcp:8082"],
        "nat",
        "no `nat` rule of router `r1` leads tcp:8082 of 172.16.1.173 to a guest: it has tcp:8080",
    ),
    fault(Nothing, Nothing, &["a", "198.51.100.7"], "nat", "packets to 198.51.100.7 get as far as this host (172.16.1.1 on `br-ex`)"),
    // Links.
    fault(
        Testbed(&["link", "set", "b:eth0", "loss_percent=100"]),
        Up,
        &["a", "b"],
        "loss",
        "the link of eth0 of guest `b` loses every packet, as `testbed link set` asked",
    ),
    fault(In("b", "ip link set eth0 mtu 600"), In("b", "ip link set eth0 mtu {mtu}"), &["a", "b"], "mtu", "eth0 of `b` has an MTU of 600"),
    fault(Nothing, Nothing, &["a", "10.73.2.77"], "gateway_silent", "router `r2` gets no answer when it asks who has 10.73.2.77"),
    // Ports.
    fault(
        Here("ovs-vsctl set Interface {tb} external_ids:iface-id=elsewhere"),
        Here("ovs-vsctl set Interface {tb} external_ids:iface-id=\\\"{b}\\\""),
        &["a", "b"],
        "port",
        "the port of eth0 of guest `b` is on no host",
    ),
    fault(
        Here("ovn-nbctl lsp-set-enabled {b} disabled"),
        Here("ovn-nbctl lsp-set-enabled {b} enabled"),
        &["a", "b"],
        "port",
        "the port of eth0 of guest `b` is switched off in OVN",
    ),
    // Its undo is what the hint says; from then on its tap is another.
    fault(
        Here("ovs-vsctl remove Interface {tb} external_ids iface-id"),
        Up,
        &["a", "b"],
        "port",
        "the port of eth0 of guest `b` is on no host: no integration bridge holds an interface with its id",
    ),
    // What is at the end.
    fault(Nothing, Nothing, &["a", "b", "tcp:9"], "not_listening", "nothing listens on tcp:9 in guest `b`"),
    fault(
        In("b", "echo 1 >/proc/sys/net/ipv4/icmp_echo_ignore_all"),
        In("b", "echo 0 >/proc/sys/net/ipv4/icmp_echo_ignore_all"),
        &["a", "b"],
        "guest_firewall",
        "guest `b` ignores echo requests",
    ),
    fault(Nothing, Nothing, &["a", "no-such-name"], "name", "no address for the name `no-such-name`"),
    // The agent holds still, and comes back by itself.
    fault(
        In("a", "(sleep 1; kill -STOP $(pidof qemu-ga); sleep 20; kill -CONT $(pidof qemu-ga)) >/dev/null 2>&1 &"),
        Nothing,
        &["a", "b"],
        "no_agent",
        "the agent of guest `a` does not answer",
    ),
    // The last: it is not taken back.
    fault(Here("virsh -q destroy why-real.b"), Nothing, &["c", "b"], "guest_down", "guest `b` is stopped: it is shut off"),
];

struct World {
    lab: Lab,
    project: Project,
    words: Vec<(&'static str, String)>,
}

impl World {
    fn filled(&self, line: &str) -> String {
        self.words.iter().fold(line.to_string(), |line, (word, value)| line.replace(&format!("{{{word}}}"), value))
    }

    fn carry_out(&self, what: &Do) {
        match what {
            Nothing => {}
            Testbed(args) => drop(self.lab.ok(&[&["-p", NAME], *args].concat())),
            Here(line) => drop(lab::lines("sh", &["-c", &self.filled(line)])),
            In(guest, line) => {
                self.lab.ok(&["-p", NAME, "exec", guest, "--", "sh", "-c", &self.filled(line)]);
            }
            Up => {
                self.lab.ok(&self.project.args(&["up"]));
            }
        }
    }

    fn why(&self, ask: &[&str]) -> (i32, Value) {
        let ran = self.lab.run(&[&["-p", NAME, "-o", "json", "why"], ask].concat());
        let answer = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{ask:?}: {error}: {} {}", ran.stdout, ran.stderr));
        (ran.status, answer)
    }
}

#[test]
fn the_culprit_of_each_fault_is_named() {
    let mut lab = Lab::start();
    let project = lab.project(NAME, YAML);
    lab.ok(&project.args(&["up"]));
    let guests = lab.json(&["-p", NAME, "ps"]);
    let nic = |index: usize, key: &str| guests[index]["nics"][0][key].as_str().expect("a text").to_string();
    let tap = |guest: &str| {
        let line = lab::lines("virsh", &["-q", "domiflist", &format!("{NAME}.{guest}")]).remove(0);
        line.split_whitespace().next().expect("a name").to_string()
    };
    let words = vec![("b", nic(1, "port")), ("ma", nic(0, "mac")), ("mb", nic(1, "mac")), ("tb", tap("b"))];
    let mut world = World { lab, project, words };
    let mtu = world.lab.ok(&["-p", NAME, "exec", "b", "--", "cat", "/sys/class/net/eth0/mtu"]).stdout;
    world.words.push(("mtu", mtu.trim().to_string()));
    // Nothing is wrong, and that is what it says, with what it rests on.
    for ask in [["a", "b", "icmp"], ["a", "b", "tcp:80"], ["c", "10.73.8.100", "tcp:80"]] {
        let (status, answer) = world.why(&ask);
        assert_eq!((status, &answer["reachable"], answer["culprit"].as_str()), (0, &Value::from(true), Some("none")), "{answer:#}");
    }
    assert_eq!(world.lab.run(&["-p", NAME, "why", "a", "b", "tcp:81", "-v"]).stdout.lines().count().min(6), 6, "evidence");
    assert_eq!(world.lab.run(&["-p", NAME, "why", "aa", "b"]).status, 3);
    assert_eq!(world.lab.run(&["-p", NAME, "why", "a", "b", "sctp:1"]).status, 2);

    let (began, mut right, mut slowest) = (Instant::now(), 0, 0);
    for fault in FAULTS {
        world.carry_out(&fault.make);
        if matches!(fault.culprit, "no_agent") {
            // It is given a second to answer the command that stops it.
            lab::wait("the agent holds still", Duration::from_secs(15), || {
                lab::lines(
                    "sh",
                    &[
                        "-c",
                        "virsh qemu-agent-command --timeout 1 why-real.a '{\"execute\":\"guest-ping\"}' >/dev/null 2>&1 && echo yes || echo no",
                    ],
                ) == ["no"]
            });
        }
        let (status, answer) = world.why(fault.ask);
        world.carry_out(&fault.undo);
        let (culprit, sentence) = (answer["culprit"].as_str().expect("a word"), answer["sentence"].as_str().expect("a sentence"));
        let good = culprit == fault.culprit && sentence.contains(fault.words) && status == i32::from(culprit != "mtu");
        slowest = slowest.max(answer["millis"].as_u64().expect("a number"));
        right += usize::from(good);
        println!("{} {:>5} ms  {culprit}: {sentence}", if good { "right" } else { "WRONG" }, answer["millis"]);
        if !good {
            println!("      expected {}: {}\n{:#}", fault.culprit, fault.words, answer["evidence"]);
        }
    }
    println!("{right} of {} right in {:.0} s, slowest answer {slowest} ms", FAULTS.len(), began.elapsed().as_secs_f64());
    assert!(right + 1 >= FAULTS.len(), "{right} of {}", FAULTS.len());
    world.lab.ok(&world.project.args(&["down"]));
    assert_eq!(world.lab.leftovers(NAME), Vec::<String>::new());
}
