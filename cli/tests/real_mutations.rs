//! Edits of a running testbed: what `plan` says of each is what happens, and guests that it does not name notice nothing.

mod lab;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lab::{Lab, Project, lines};
use serde_json::Value;

/// Two quiet guests on two switches joined by a router, and three that are changed all the time.
const TESTBED: &str = r#"
machines:
  - {name: u1, micro: {}, network: [{switch: s1, ip: 10.71.1.11, gateway: 10.71.1.1}]}
  - {name: u2, micro: {}, network: [{switch: s2, ip: 10.71.2.12, gateway: 10.71.2.1}]}
  - {name: m1, micro: {}, network: [{switch: s1, ip: 10.71.1.21, gateway: 10.71.1.1}]}
  - {name: m2, micro: {}, network: [{switch: s2}]}
  - {name: m3, micro: {}, network: [{switch: s3, ip: 10.71.3.23}]}
network:
  ovn:
    switches:
      s1: {subnet: 10.71.1.0/24}
      s2: {subnet: 10.71.2.0/24}
      s3: {subnet: 10.71.3.0/24}
    routers:
      r1:
        ports:
          - {name: r1-s1, gateway_ip: 10.71.1.1/24, switch: s1}
          - {name: r1-s2, gateway_ip: 10.71.2.1/24, switch: s2}
        static_routes: []
        dhcp: [{switch: s2, exclude_ips: {from: 10.71.2.1, to: 10.71.2.99}}]
      r2:
        ports:
          - {name: r2-s3, gateway_ip: 10.71.3.1/24, switch: s3}
"#;
const NAME: &str = "mutations-real";
/// What is looked at in each guest.
const INSIDE: &str = "ip -o addr show scope global | sed 's/valid_lft.*//'; cat /etc/resolv.conf; ip route; ps -o args | grep '^udhcpc'";

/// One edit: its name, what is replaced by what (several parts stand between `¦`), what becomes of whom (all others: nothing), and a look at the real parts: a
/// command for a shell, and what it must print (`!` before it: must not).
struct Mutation {
    name: &'static str,
    from: &'static str,
    to: &'static str,
    guests: &'static [(&'static str, &'static str)],
    look: (&'static str, &'static str),
}

const fn m(
    name: &'static str,
    from: &'static str,
    to: &'static str,
    guests: &'static [(&'static str, &'static str)],
    look: (&'static str, &'static str),
) -> Mutation {
    Mutation { name, from, to, guests, look }
}

const NOBODY: &[(&str, &str)] = &[];
const PLUG: &str = "hot_plug";
const PLACE: &str = "in_place";
const ANEW: &str = "recreate";
const ROUTES: (&str, &str) = ("ovn-nbctl lr-route-list mutations-real.r1", "");

#[rustfmt::skip]
const TABLE: &[Mutation] = &[
    // Routes: nobody is touched.
    m("a route", "static_routes: []", "static_routes: [{prefix: 10.72.0.0/16, nexthop: 10.71.1.9}]", NOBODY, (ROUTES.0, "10.72.0.0/16")),
    m("a second route", "nexthop: 10.71.1.9}]", "nexthop: 10.71.1.9}, {prefix: 10.73.0.0/16, nexthop: 10.71.2.9}]", NOBODY, (ROUTES.0, "10.73.0.0/16")),
    m("another next hop", "nexthop: 10.71.2.9", "nexthop: 10.71.2.8", NOBODY, (ROUTES.0, "10.71.2.8")),
    m("equal-cost routes", "nexthop: 10.71.2.8}", "nexthop: 10.71.2.8}, {prefix: 10.73.0.0/16, nexthop: 10.71.2.7}", NOBODY, (ROUTES.0, "10.71.2.7")),
    // Who forwards for others may send what others sent: its port's row says so.
    m("a route through a guest", "nexthop: 10.71.1.9", "nexthop: 10.71.1.21", &[("m1", PLACE)], (ROUTES.0, "10.71.1.21")),
    m("a route less", "{prefix: 10.72.0.0/16, nexthop: 10.71.1.21}, ", "", &[("m1", PLACE)], (ROUTES.0, "!10.72.0.0/16")),
    // Addresses: the guest takes them up as it runs.
    m("another address", "ip: 10.71.1.21", "ip: 10.71.1.22", &[("m1", PLACE)], ("in m1 ip addr", "10.71.1.22/24")),
    m("no gateway", "ip: 10.71.1.22, gateway: 10.71.1.1", "ip: 10.71.1.22", &[("m1", PLACE)], ("in m1 ip route", "!default")),
    m("a gateway", "ip: 10.71.1.22", "ip: 10.71.1.22, gateway: 10.71.1.1", &[("m1", PLACE)], ("in m1 ip route", "default via 10.71.1.1")),
    m("another network's address", "ip: 10.71.3.23", "ip: 10.71.3.200", &[("m3", PLACE)], ("in m3 ip addr", "10.71.3.200/24")),
    m("a DHCP lease becomes fixed", "{name: m2, micro: {}, network: [{switch: s2}]}", "{name: m2, micro: {}, network: [{switch: s2, ip: 10.71.2.50}]}", &[("m2", PLACE)], ("in m2 ip addr", "10.71.2.50/24")),
    m("and DHCP again", "{switch: s2, ip: 10.71.2.50}", "{switch: s2}", &[("m2", PLACE)], ("in m2 ps", "udhcpc")),
    m("DHCP ends", "dhcp: [{switch: s2, exclude_ips: {from: 10.71.2.1, to: 10.71.2.99}}]", "dhcp: []", &[("m2", PLACE), ("u2", PLACE)], ("in m2 ps", "!udhcpc")),
    m("DHCP comes back", "dhcp: []", "dhcp: [{switch: s2, exclude_ips: {from: 10.71.2.1, to: 10.71.2.199}}]", &[("m2", PLACE), ("u2", PLACE)], ("in m2 ps", "udhcpc")),
    // NICs: plugged and unplugged as the guest runs.
    m("a second NIC", "10.71.3.200}]", "10.71.3.200}, {switch: s2}]", &[("m3", PLUG)], ("in m3 ip addr show eth1", "10.71.2.")),
    m("a third NIC", "10.71.3.200}, {switch: s2}]", "10.71.3.200}, {switch: s2}, {switch: s1, ip: 10.71.1.99}]", &[("m3", PLUG)], ("in m3 ip addr show eth2", "10.71.1.99/24")),
    m("the third goes", ", {switch: s1, ip: 10.71.1.99}]", "]", &[("m3", PLUG)], ("in m3 ip link", "!eth2")),
    m("the second moves", "10.71.3.200}, {switch: s2}]", "10.71.3.200}, {switch: s1}]", &[("m3", PLACE)], ("in m3 ip addr show eth1", "10.71.1.")),
    m("the first goes, the second takes its place", "{switch: s3, ip: 10.71.3.200}, {switch: s1}]", "{switch: s1}]", &[("m3", PLUG)], ("in m3 ip link", "!eth1")),
    m("no NIC at all", "{name: m3, micro: {}, network: [{switch: s1}]}", "{name: m3, micro: {}, network: []}", &[("m3", PLUG)], ("in m3 ip link", "!eth0")),
    m("two at once", "{name: m3, micro: {}, network: []}", "{name: m3, micro: {}, network: [{switch: s3}, {switch: s2}]}", &[("m3", PLUG)], ("in m3 ip addr show eth1", "10.71.2.")),
    m("they change places", "[{switch: s3}, {switch: s2}]", "[{switch: s2}, {switch: s3}]", &[("m3", PLACE)], ("in m3 ip addr show eth1", "10.71.3.")),
    m("another MAC address", "[{switch: s2}, {switch: s3}]", "[{switch: s2, mac: \"02:00:00:71:00:01\"}, {switch: s3}]", &[("m3", PLUG)], ("in m3 cat /sys/class/net/eth0/address", "02:00:00:71:00:01")),
    m("its own MAC address again", "{switch: s2, mac: \"02:00:00:71:00:01\"}", "{switch: s2}", &[("m3", PLUG)], ("in m3 cat /sys/class/net/eth0/address", "!02:00:00:71")),
    m("one NIC again", "[{switch: s2}, {switch: s3}]", "[{switch: s3, ip: 10.71.3.23}]", &[("m3", PLUG)], ("in m3 ip addr", "10.71.3.23/24")),
    m("to another switch with another address", "{switch: s3, ip: 10.71.3.23}", "{switch: s1, ip: 10.71.1.33}", &[("m3", PLACE)], ("in m3 ip addr", "10.71.1.33/24")),
    m("and back", "{switch: s1, ip: 10.71.1.33}", "{switch: s3, ip: 10.71.3.23}", &[("m3", PLACE)], ("in m3 ip addr", "10.71.3.23/24")),
    m("two guests change addresses", "ip: 10.71.1.22, gateway: 10.71.1.1}]}\n  - {name: m2, micro: {}, network: [{switch: s2}]}", "ip: 10.71.1.44, gateway: 10.71.1.1}]}\n  - {name: m2, micro: {}, network: [{switch: s1, ip: 10.71.1.22}]}", &[("m1", PLACE), ("m2", PLACE)], ("in m2 ip addr", "10.71.1.22/24")),
    m("and change them back", "ip: 10.71.1.44, gateway: 10.71.1.1}]}\n  - {name: m2, micro: {}, network: [{switch: s1, ip: 10.71.1.22}]}", "ip: 10.71.1.22, gateway: 10.71.1.1}]}\n  - {name: m2, micro: {}, network: [{switch: s2}]}", &[("m1", PLACE), ("m2", PLACE)], ("in m1 ip addr", "10.71.1.22/24")),
    // Switches and routers.
    m("a switch more", "s3: {subnet: 10.71.3.0/24}", "s3: {subnet: 10.71.3.0/24}\n      s4: {subnet: 10.71.4.0/24}", NOBODY, ("ovn-nbctl ls-list", "mutations-real.s4")),
    m("a router port more", "switch: s3}\n", "switch: s3}\n          - {name: r2-s4, gateway_ip: 10.71.4.1/24, switch: s4}\n", NOBODY, ("ovn-nbctl lrp-list mutations-real.r2", "r2-s4")),
    m("the router port's address", "10.71.4.1/24", "10.71.4.254/24", NOBODY, ("ovn-nbctl list Logical_Router_Port", "10.71.4.254/24")),
    m("the router port's MAC address", "gateway_ip: 10.71.4.254/24", "gateway_ip: 10.71.4.254/24, mac: \"02:00:00:71:04:fe\"", NOBODY, ("ovn-nbctl list Logical_Router_Port", "02:00:00:71:04:fe")),
    m("a guest's NIC on the new switch", "[{switch: s3, ip: 10.71.3.23}]", "[{switch: s3, ip: 10.71.3.23}, {switch: s4, ip: 10.71.4.23}]", &[("m3", PLUG)], ("in m3 ip addr", "10.71.4.23/24")),
    m("the switch is renamed", "switch: s4¦s4:¦r2-s4", "switch: s5¦s5:¦r2-s5", &[("m3", PLACE)], ("ovn-nbctl ls-list", "!mutations-real.s4")),
    m("it goes with the NIC", ", {switch: s5, ip: 10.71.4.23}]", "]", &[("m3", PLUG)], ("in m3 ip link", "!eth1")),
    m("the router port goes", "\n          - {name: r2-s5, gateway_ip: 10.71.4.254/24, mac: \"02:00:00:71:04:fe\", switch: s5}", "", NOBODY, ("ovn-nbctl lrp-list mutations-real.r2", "!r2-s5")),
    m("the switch goes", "\n      s5: {subnet: 10.71.4.0/24}", "", NOBODY, ("ovn-nbctl ls-list", "!mutations-real.s5")),
    m("a switch's subnet", "s3: {subnet: 10.71.3.0/24}¦10.71.3.1/24", "s3: {subnet: 10.71.3.0/25}¦10.71.3.1/25", &[("m3", PLACE)], ("in m3 ip addr", "10.71.3.23/25")),
    m("and back to the wide one", "s3: {subnet: 10.71.3.0/25}¦10.71.3.1/25", "s3: {subnet: 10.71.3.0/24}¦10.71.3.1/24", &[("m3", PLACE)], ("in m3 ip addr", "10.71.3.23/24")),
    // The quiet ones' own router: neither where a port stands nor what stands before it makes anybody look for the gateway again.
    m("a router's ports in another order", "          - {name: r1-s1, gateway_ip: 10.71.1.1/24, switch: s1}\n          - {name: r1-s2, gateway_ip: 10.71.2.1/24, switch: s2}\n", "          - {name: r1-s2, gateway_ip: 10.71.2.1/24, switch: s2}\n          - {name: r1-s1, gateway_ip: 10.71.1.1/24, switch: s1}\n", NOBODY, ("true", "")),
    m("a port before the others", "          - {name: r1-s2, gateway_ip¦    routers:\n", "          - {name: r1-s6, gateway_ip: 10.71.6.1/24, switch: s6}\n          - {name: r1-s2, gateway_ip¦      s6: {subnet: 10.71.6.0/24}\n    routers:\n", NOBODY, ("ovn-nbctl lrp-list mutations-real.r1", "r1-s6")),
    m("and it goes, with its switch", "          - {name: r1-s6, gateway_ip: 10.71.6.1/24, switch: s6}\n¦      s6: {subnet: 10.71.6.0/24}\n", "¦", NOBODY, ("ovn-nbctl lrp-list mutations-real.r1", "!r1-s6")),
    m("a router is renamed", "      r2:\n", "      r9:\n", NOBODY, ("ovn-nbctl lr-list", "mutations-real.r9")),
    m("a router more", "      r9:\n", "      r3: {ports: [{name: r3-s1, gateway_ip: 10.71.1.3/24, switch: s1}]}\n      r9:\n", NOBODY, ("ovn-nbctl lr-list", "mutations-real.r3")),
    m("and it goes", "      r3: {ports: [{name: r3-s1, gateway_ip: 10.71.1.3/24, switch: s1}]}\n", "", NOBODY, ("ovn-nbctl lr-list", "!mutations-real.r3")),
    m("a DHCP rule for another switch", "dhcp: [{switch: s2,", "dhcp: [{switch: s1}, {switch: s2,", &[("m1", PLACE), ("u1", PLACE)], ("ovn-nbctl list DHCP_Options", "10.71.1.0/24")),
    m("and it goes again", "dhcp: [{switch: s1}, {switch: s2,", "dhcp: [{switch: s2,", &[("m1", PLACE), ("u1", PLACE)], ("ovn-nbctl list DHCP_Options", "!10.71.1.0/24")),
    // Access control lists.
    m("an ACL", "    routers:\n", "    acl: {switches: {s3: [{direction: to-lport, priority: 100, match: \"ip4.src == 10.71.9.0/24\", action: drop}]}}\n    routers:\n", NOBODY, ("ovn-nbctl acl-list mutations-real.s3", "10.71.9.0/24")),
    m("its action", "action: drop}", "action: reject}", NOBODY, ("ovn-nbctl acl-list mutations-real.s3", "reject")),
    m("its priority", "priority: 100,", "priority: 200,", NOBODY, ("ovn-nbctl acl-list mutations-real.s3", "200")),
    m("what it matches", "ip4.src == 10.71.9.0/24", "ip4.src == 10.71.8.0/24", NOBODY, ("ovn-nbctl acl-list mutations-real.s3", "10.71.8.0/24")),
    m("another ACL", "action: reject}", "action: reject}, {direction: from-lport, priority: 50, match: \"udp.dst == 9\", action: drop}", NOBODY, ("ovn-nbctl acl-list mutations-real.s3", "udp.dst == 9")),
    m("ACLs of the quiet ones' switch", "acl: {switches: {", "acl: {switches: {s1: [{direction: from-lport, priority: 7, match: ip6, action: drop}], ", NOBODY, ("ovn-nbctl acl-list mutations-real.s1", "ip6")),
    m("no ACLs", "    acl: {switches: {s1: [{direction: from-lport, priority: 7, match: ip6, action: drop}], s3: [{direction: to-lport, priority: 200, match: \"ip4.src == 10.71.8.0/24\", action: reject}, {direction: from-lport, priority: 50, match: \"udp.dst == 9\", action: drop}]}}\n", "", NOBODY, ("ovn-nbctl acl-list mutations-real.s3", "!acl")),
    // The way out, and address translation.
    m("a switch with a way out", "s3: {subnet: 10.71.3.0/24}\n", "s3: {subnet: 10.71.3.0/24}\n      out: {subnet: 192.0.2.0/24, ports: [{name: out-net, localnet: {network_name: public}}]}\n", NOBODY, ("ovn-nbctl show mutations-real.out", "localnet")),
    m("a router's port on it", "switch: s3}\n", "switch: s3}\n          - {name: r9-out, gateway_ip: 192.0.2.1/24, switch: out, set_gateway_chassis: main}\n", NOBODY, ("ovn-nbctl lrp-list mutations-real.r9", "r9-out")),
    m("NAT for all", "set_gateway_chassis: main}\n", "set_gateway_chassis: main}\n        nat: [{nat_type: snat, external_ip: 192.0.2.1, logical_ip: 10.71.3.0/24}]\n", NOBODY, ("ovn-nbctl lr-nat-list mutations-real.r9", "snat")),
    m("NAT for one", "logical_ip: 10.71.3.0/24}]", "logical_ip: 10.71.3.0/24}, {nat_type: dnat_and_snat, external_ip: 192.0.2.9, logical_ip: 10.71.3.23}]", NOBODY, ("ovn-nbctl lr-nat-list mutations-real.r9", "192.0.2.9")),
    m("its address outside", "external_ip: 192.0.2.9", "external_ip: 192.0.2.10", NOBODY, ("ovn-nbctl lr-nat-list mutations-real.r9", "192.0.2.10")),
    m("no NAT", "        nat: [{nat_type: snat, external_ip: 192.0.2.1, logical_ip: 10.71.3.0/24}, {nat_type: dnat_and_snat, external_ip: 192.0.2.10, logical_ip: 10.71.3.23}]\n", "", NOBODY, ("ovn-nbctl lr-nat-list mutations-real.r9", "!192.0.2")),
    m("no gateway host", ", set_gateway_chassis: main", "", NOBODY, ("ovn-nbctl list Gateway_Chassis", "!mutations-real")),
    m("no way out", "\n          - {name: r9-out, gateway_ip: 192.0.2.1/24, switch: out}", "", NOBODY, ("ovn-nbctl lrp-list mutations-real.r9", "!r9-out")),
    m("nor its switch", "\n      out: {subnet: 192.0.2.0/24, ports: [{name: out-net, localnet: {network_name: public}}]}", "", NOBODY, ("ovn-nbctl ls-list", "!mutations-real.out")),
    // IPv6, names, labels.
    m("IPv6 by router advertisement", "s3: {subnet: 10.71.3.0/24}", "s3: {subnet: 10.71.3.0/24, ipv6: {subnet: \"fd00:71:3::/64\", mode: slaac}}", &[("m3", PLACE)], ("in m3 ip addr", "fd00:71:3:")),
    m("IPv4 alone again", ", ipv6: {subnet: \"fd00:71:3::/64\", mode: slaac}}", "}", &[("m3", PLACE)], ("in m3 ip addr", "!fd00:71:3:")),
    m("no names", "    routers:\n", "    dns: false\n    routers:\n", &[("u1", PLACE), ("u2", PLACE), ("m1", PLACE), ("m2", PLACE), ("m3", PLACE)], ("in m1 cat /etc/resolv.conf", "!nameserver")),
    m("names", "    dns: false\n", "", &[("u1", PLACE), ("u2", PLACE), ("m1", PLACE), ("m2", PLACE), ("m3", PLACE)], ("in m1 cat /etc/resolv.conf", "nameserver 10.71.1.1")),
    m("a switch's labels", "s3: {subnet: 10.71.3.0/24", "s3: {labels: {use: test}, subnet: 10.71.3.0/24", NOBODY, ("true", "")),
    // Guests.
    m("a guest more", "network:\n  ovn", "  - {name: m4, micro: {}, network: [{switch: s2}]}\nnetwork:\n  ovn", &[("m4", "create")], ("in m4 ip addr", "10.71.2.")),
    m("what runs in it is other: it is made anew", "{name: m4, micro: {}", "{name: m4, micro: {environment: {A: b}}", &[("m4", ANEW)], ("in m4 cat /etc/testbedos/environment", "A='b'")),
    m("more memory: it is made anew", "{name: m4, micro: {environment", "{name: m4, micro: {memory_mb: 144, environment", &[("m4", ANEW)], ("virsh dominfo mutations-real.m4", "147456")),
    m("a guest less", "  - {name: m4, micro: {memory_mb: 144, environment: {A: b}}, network: [{switch: s2}]}\n", "", &[("m4", "remove")], ("virsh list --all --name", "!mutations-real.m4")),
    // What is nobody's business but ours.
    m("another order of guests", "  - {name: m1, micro: {}, network: [{switch: s1, ip: 10.71.1.22, gateway: 10.71.1.1}]}\n  - {name: m2, micro: {}, network: [{switch: s2}]}\n", "  - {name: m2, micro: {}, network: [{switch: s2}]}\n  - {name: m1, micro: {}, network: [{switch: s1, ip: 10.71.1.22, gateway: 10.71.1.1}]}\n", NOBODY, ("true", "")),
    m("a longer wait", "{name: m1, micro: {}", "{name: m1, micro: {}, ready: {agent: true, timeout_s: 77}", NOBODY, ("true", "")),
    m("a version", "\nmachines:", "\nversion: 1\nmachines:", NOBODY, ("true", "")),
    m("the host it stands on anyway", "{name: m1, micro: {}", "{name: m1, placement: {host: master}, micro: {}", NOBODY, ("true", "")),
];

/// What the real parts say of a deployment.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// Guest → libvirt's id of its process.
    ids: BTreeMap<String, String>,
    /// Guest → the MAC addresses of its devices, as it runs and as it is defined.
    devices: BTreeMap<String, BTreeSet<String>>,
    /// Guest → its logical ports.
    ports: BTreeMap<String, String>,
    /// All rows of the deployment.
    rows: BTreeSet<String>,
    /// Guest → addresses, routes and DHCP clients, by its own words.
    inside: BTreeMap<String, String>,
}

impl Seen {
    fn now(lab: &Lab) -> Seen {
        let mut seen = Seen::default();
        let running: Vec<(String, String)> =
            lab::running(NAME).into_iter().map(|(domain, id)| (domain.split('.').nth(1).expect("a guest").to_string(), id)).collect();
        // One process for all questions, and all guests at once: this is done some eighty times.
        let ask: Vec<String> = running
            .iter()
            .map(|(guest, _)| {
                format!("echo '| {guest} runs |'; domiflist {NAME}.{guest}; echo '| {guest} has |'; domiflist {NAME}.{guest} --inactive")
            })
            .collect();
        // virsh puts no line break behind an echo, nor a blank, so its words stand between bars and are read one by one.
        let said = lines("virsh", &["-q", &ask.join("; ")]).join(" ");
        let (mut last, mut of) = ("", ("", ""));
        for word in said.split_whitespace() {
            match word {
                "runs" | "has" => of = (last, word),
                mac if mac.matches(':').count() == 5 => {
                    seen.devices.entry(of.0.to_string()).or_default().insert(format!("{} {mac}", of.1));
                }
                _ => {}
            }
            last = word;
        }
        std::thread::scope(|scope| {
            let asked: Vec<_> = running.iter().map(|(guest, _)| (guest, scope.spawn(|| inside(lab, guest, INSIDE)))).collect();
            for (guest, answer) in asked {
                seen.inside.insert(guest.clone(), answer.join().expect("the guest answers"));
            }
        });
        seen.ids.extend(running);
        let mut switches: BTreeMap<String, String> = BTreeMap::new();
        for (table, rows) in all_rows() {
            for row in rows {
                let uuids = row.split("[\"uuid\",\"").skip(1).filter_map(|rest| rest.split('"').next());
                if table == "Logical_Switch" {
                    let name = row.split('"').nth(1).unwrap_or_default();
                    switches.extend(uuids.map(|uuid| (uuid.to_string(), name.to_string())));
                } else if let Some(guest) =
                    row.split("port/").nth(1).filter(|_| table == "Logical_Switch_Port").and_then(|rest| rest.split('/').next())
                {
                    let switch = uuids.filter_map(|uuid| switches.get(uuid)).next().expect("a port is on a switch");
                    seen.ports.entry(guest.to_string()).or_default().push_str(&format!("{row} on {switch}; "));
                }
                seen.rows.insert(format!("{table} {row}"));
            }
        }
        seen
    }

    /// What became of each guest between two looks; who is as before is not in it.
    fn differences(&self, after: &Seen) -> BTreeMap<String, String> {
        let guests: BTreeSet<&String> = self.ids.keys().chain(after.ids.keys()).collect();
        let fate = |guest: &&String| {
            let guest = *guest;
            Some(match (self.ids.get(guest), after.ids.get(guest)) {
                (None, _) => "create",
                (_, None) => "remove",
                (Some(before), Some(after)) if before != after => "recreate",
                _ if self.devices.get(guest) != after.devices.get(guest) => "hot_plug",
                _ if self.ports.get(guest) != after.ports.get(guest) || self.inside.get(guest) != after.inside.get(guest) => "in_place",
                _ => return None,
            })
        };
        guests.iter().filter_map(|guest| fate(guest).map(|fate| (guest.to_string(), fate.to_string()))).collect()
    }
}

/// Tables with rows of ours, and what of them is looked at.
const TABLES: &[(&str, &str)] = &[
    ("Logical_Switch", "name,ports,acls,dns_records,other_config,external_ids"),
    ("Logical_Switch_Port", "_uuid,name,type,addresses,port_security,dhcpv4_options,dhcpv6_options,options,external_ids"),
    ("Logical_Router", "name,ports,options,static_routes,nat,external_ids"),
    ("Logical_Router_Port", "name,mac,networks,ipv6_ra_configs,gateway_chassis,external_ids"),
    ("Logical_Router_Static_Route", "ip_prefix,nexthop,external_ids"),
    ("DHCP_Options", "cidr,options,external_ids"),
    ("DNS", "records,external_ids"),
    ("ACL", "direction,priority,match,action,external_ids"),
    ("NAT", "type,external_ip,logical_ip,external_ids"),
    ("Gateway_Chassis", "name,chassis_name,priority,external_ids"),
];

/// Rows with the deployment's mark, without the operation that wrote them, table by table.
fn all_rows() -> Vec<(&'static str, Vec<String>)> {
    let mark = format!("external_ids:testbedos-deployment={NAME}");
    let columns: Vec<String> = TABLES.iter().map(|(_, columns)| format!("--columns={columns}")).collect();
    let mut args = vec!["--format=json"];
    for ((table, _), columns) in TABLES.iter().zip(&columns) {
        args.extend(["--", columns, "find", table, &mark]);
    }
    let plain = |row: &Value| -> String {
        let text = row.to_string();
        match text.split_once("[\"testbedos-operation\",") {
            Some((before, after)) => format!("{before}{}", after.split_once(']').map_or("", |(_, rest)| rest)),
            None => text,
        }
    };
    let text = lines("ovn-nbctl", &args).join("");
    let answers: Vec<Value> = serde_json::Deserializer::from_str(&text).into_iter().map(|answer| answer.expect("JSON")).collect();
    assert_eq!(answers.len(), TABLES.len(), "{text}");
    let rows = |answer: &Value| answer["data"].as_array().into_iter().flatten().map(plain).collect();
    TABLES.iter().zip(&answers).map(|((table, _), answer)| (*table, rows(answer))).collect()
}

fn inside(lab: &Lab, guest: &str, command: &str) -> String {
    lab.ok(&["-p", NAME, "exec", guest, "--", "sh", "-c", &format!("{command}; true")]).stdout
}

/// What `plan` says of each guest; that things of the network touch no guest is told by their empty list.
fn predicted(plan: &Value) -> BTreeMap<String, String> {
    let changes = plan["changes"].as_array().into_iter().flatten();
    let of_guest = |change: &Value| {
        let guest = change["thing"].as_str()?.strip_prefix("guest ")?.to_string();
        Some((guest, change["impact"].as_str()?.to_string()))
    };
    changes.filter_map(of_guest).collect()
}

/// What a guest has been told takes it a moment: a process ends, an address is offered and taken.
const SETTLES: Duration = Duration::from_secs(10);

/// Looks until it is as wanted; true when it was so at once.
fn look(lab: &Lab, mutation: &Mutation) -> bool {
    let (command, wanted) = mutation.look;
    let (asked, mut looks) = (Instant::now(), 0);
    loop {
        let printed = prints(lab, command);
        looks += 1;
        if is_as_wanted(&printed, wanted) {
            return looks == 1;
        }
        assert!(asked.elapsed() < SETTLES, "{}: `{command}` ({wanted}) still prints after {SETTLES:?}: {printed}", mutation.name);
    }
}

/// The text is there, or with `!` before it, is not.
fn is_as_wanted(printed: &str, wanted: &str) -> bool {
    match wanted.strip_prefix('!') {
        Some(unwanted) => !printed.contains(unwanted),
        None => printed.contains(wanted),
    }
}

fn prints(lab: &Lab, command: &str) -> String {
    match command.strip_prefix("in ").and_then(|rest| rest.split_once(' ')) {
        Some((guest, command)) => inside(lab, guest, command),
        None => {
            let output = Command::new("sh").args(["-c", command]).output().expect("sh runs");
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
    }
}

fn mutate(lab: &mut Lab, text: &str, mutation: &Mutation, before: &Seen) -> (Project, Seen) {
    let project = lab.project(NAME, text);
    let plan = lab.json(&project.args(&["plan"]));
    let expected: BTreeMap<String, String> = mutation.guests.iter().map(|(guest, fate)| (guest.to_string(), fate.to_string())).collect();
    assert_eq!(predicted(&plan), expected, "{}: the plan: {plan}", mutation.name);
    for change in plan["changes"].as_array().into_iter().flatten() {
        let quiet =
            change["guests"].as_array().into_iter().flatten().all(|guest| expected.contains_key(guest.as_str().unwrap_or_default()));
        assert!(quiet, "{}: the plan touches somebody else: {change:#}", mutation.name);
    }
    lab.ok(&project.args(&["up"]));
    let after = Seen::now(lab);
    assert_eq!(before.differences(&after), expected, "{}: what became of guests\n{before:?}\n{after:?}", mutation.name);
    let changes_rows = plan["network"].as_array().is_some_and(|rows| !rows.is_empty());
    assert_eq!(before.rows != after.rows, changes_rows, "{}: rows of OVN; the plan: {plan}", mutation.name);
    let again = lab.json(&project.args(&["plan"]));
    assert_eq!(again["steps"], serde_json::json!([]), "{}: a second plan", mutation.name);
    let at_once = look(lab, mutation);
    (project, if at_once { after } else { Seen::now(lab) })
}

#[test]
fn what_plan_says_is_what_happens_and_a_ping_between_others_loses_nothing() {
    assert!(TABLE.len() >= 70, "the table has shrunk to {}", TABLE.len());
    let mut lab = Lab::start();
    let mut text = TESTBED.to_string();
    let project = lab.project(NAME, &text);
    lab.ok(&project.args(&["up"]));
    let boot = |lab: &Lab, guest: &str| inside(lab, guest, "cat /proc/sys/kernel/random/boot_id");
    let boots: BTreeMap<&str, String> = ["u1", "u2", "m1", "m2", "m3"].into_iter().map(|guest| (guest, boot(&lab, guest))).collect();
    inside(&lab, "u1", "ping -c 3 10.71.2.12 >/dev/null; ping -i 0.2 10.71.2.12 >/tmp/ping 2>&1 </dev/null & echo $! >/tmp/pid");
    let mut seen = Seen::now(&lab);
    let began = Instant::now();
    let (mut last, mut failed) = (None, Vec::new());
    for mutation in TABLE {
        for (from, to) in mutation.from.split('¦').zip(mutation.to.split('¦')) {
            assert!(text.contains(from), "{}: the file has no {from}:\n{text}", mutation.name);
            text = text.replace(from, to);
        }
        let at = Instant::now();
        // One that fails says why; the others are tried all the same.
        let result = catch_unwind(AssertUnwindSafe(|| mutate(&mut lab, &text, mutation, &seen)));
        println!("{:>5.1} s  {:>4} ms  {}", began.elapsed().as_secs_f32(), at.elapsed().as_millis(), mutation.name);
        match result {
            Ok((project, after)) => (seen, last) = (after, Some(project)),
            Err(_) => {
                failed.push(mutation.name);
                seen = Seen::now(&lab);
            }
        }
    }
    assert_eq!(failed, Vec::<&str>::new(), "mutations that went otherwise than they should");
    let ping = inside(&lab, "u1", "kill -INT $(cat /tmp/pid); sleep 1; cat /tmp/ping");
    let numbers: Vec<u64> = ping.lines().filter_map(|line| line.split("seq=").nth(1)?.split_whitespace().next()?.parse().ok()).collect();
    let gaps: Vec<(u64, u64)> = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).map(|pair| (pair[0], pair[1])).collect();
    assert!(numbers.len() > 100, "{ping}");
    assert_eq!(gaps, [], "answers that are missing: {}", ping.lines().rev().take(3).collect::<Vec<_>>().join("\n"));
    println!("{} answers of {} pings", numbers.len(), numbers.last().map_or(0, |last| last + 1));
    for (guest, boot_id) in boots {
        assert_eq!(boot(&lab, guest), boot_id, "{guest} never restarted");
    }
    lab.ok(&last.expect("a project").args(&["down"]));
    assert_eq!(lab.leftovers(NAME), Vec::<String>::new());
}

/// Two shapes of one guest: the second has another address, another network behind its second NIC and a third NIC.
fn shape(second: bool) -> String {
    let nics = if second {
        "{switch: a, ip: 10.75.1.50}, {switch: c}, {switch: b, mac: \"02:00:00:75:00:02\"}"
    } else {
        "{switch: a, ip: 10.75.1.5}, {switch: b}"
    };
    format!(
        "machines:\n  - {{name: g, micro: {{}}, network: [{nics}]}}\nnetwork:\n  ovn:\n    switches: {{a: {{subnet: 10.75.1.0/24}}, \
         b: {{subnet: 10.75.2.0/24}}, c: {{subnet: 10.75.3.0/24}}}}\n"
    )
}

#[test]
fn killed_while_it_plugs_or_unplugs_the_same_up_finishes_the_job() {
    const KILLS: u64 = 12;
    const PROJECT: &str = "plug-kill-real";
    let mut lab = Lab::start();
    let project = lab.project(PROJECT, &shape(false));
    lab.ok(&project.args(&["up"]));
    let ids = lab::running(PROJECT);
    let began = Instant::now();
    let project = lab.project(PROJECT, &shape(true));
    lab.ok(&project.args(&["up"]));
    let whole = began.elapsed();
    let (mut second, mut open) = (true, 0);
    for round in 0..KILLS {
        second = !second;
        let project = lab.project(PROJECT, &shape(second));
        let mut child = lab.command(&project.args(&["up"])).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("testbed runs");
        // Moments spread over the time that it takes undisturbed.
        std::thread::sleep(whole * u32::try_from(round + 1).unwrap_or(1) / u32::try_from(KILLS + 1).unwrap_or(1));
        lab.kill();
        let _killed = child.kill();
        child.wait().expect("it is gone");
        lab.boot();
        open += u32::from(lab.json(&["-p", PROJECT, "info"])["last_action"]["state"] == "interrupted");
        lab.ok(&project.args(&["up"]));
        assert_eq!(lab.json(&project.args(&["plan"]))["steps"], serde_json::json!([]), "round {round}");
        assert_eq!(lab::running(PROJECT), ids, "round {round}: the guest runs on");
        let inside = lab.ok(&["-p", PROJECT, "exec", "g", "--", "ip", "-4", "-o", "addr", "show", "scope", "global"]).stdout;
        let wanted: &[&str] = if second { &["10.75.1.50/24", "10.75.3.", "10.75.2."] } else { &["10.75.1.5/24", "10.75.2."] };
        assert!(wanted.iter().all(|address| inside.contains(address)) && inside.lines().count() == wanted.len(), "round {round}: {inside}");
        let macs = |extra: &[&str]| lines("virsh", &[&["-q", "domiflist", "plug-kill-real.g"], extra].concat()).len();
        assert_eq!((macs(&[]), macs(&["--inactive"])), (wanted.len(), wanted.len()), "round {round}");
    }
    println!("{KILLS} kills of an up of {whole:?}, {open} of them in mid-action");
    assert!(open > 2, "only {open} kills hit a running up");
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.leftovers(PROJECT), Vec::<String>::new());
}

const UNPLUGGED: &str = "
machines:
  - {name: plain, micro: {}, network: [{switch: lan, ip: 10.76.1.5}]}
  - {name: shaped, micro: {}, network: [{switch: lan, ip: 10.76.1.6, impairment: {delay_ms: 5, loss_percent: 1}}]}
  - {name: quiet, micro: {}, network: [{switch: lan, ip: 10.76.1.7}]}
network:
  ovn:
    switches: {lan: {subnet: 10.76.1.0/24}}
";

#[test]
fn a_port_that_its_bridge_has_lost_is_seen_by_plan_and_plugged_again_by_up() {
    const PROJECT: &str = "unplugged-real";
    let mut lab = Lab::start();
    let project = lab.project(PROJECT, UNPLUGGED);
    lab.ok(&project.args(&["up"]));
    let ids = lab::running(PROJECT);
    let guests = lab.json(&["-p", PROJECT, "ps"]);
    let port = |guest: &str| {
        let guest = guests.as_array().into_iter().flatten().find(|one| one["name"] == guest).expect("a guest");
        guest["nics"][0]["port"].as_str().expect("a port").to_string()
    };
    // The interface that stands for a guest in the bridge: its own, or the relay's.
    let interface = |guest: &str| {
        let id = format!("external_ids:iface-id=\\\"{}\\\"", port(guest));
        lines("ovs-vsctl", &["--bare", "--columns=name", "find", "Interface", &id]).remove(0)
    };
    let pings = |from: &str, to: &str| lab.run(&["-p", PROJECT, "exec", from, "--", "ping", "-c", "3", "-W", "2", to]).status == 0;
    for (guest, address, impact, words) in [
        ("plain", "10.76.1.5", "hot_plug", "eth0 unplugged, as no bridge of its host holds its port; eth0 plugged"),
        ("shaped", "10.76.1.6", "in_place", "link"),
    ] {
        assert!(pings("quiet", address), "{guest} answers before");
        lab::lines("ovs-vsctl", &["remove", "Interface", &interface(guest), "external_ids", "iface-id"]);
        let plan = lab.json(&project.args(&["plan"]));
        let told: Vec<_> = plan["changes"].as_array().into_iter().flatten().collect();
        assert_eq!(
            (told.len(), &told[0]["thing"], &told[0]["impact"]),
            (1, &Value::from(format!("guest {guest}")), &Value::from(impact)),
            "{plan:#}"
        );
        assert!(told[0]["what"].as_str().is_some_and(|what| what.contains(words)), "{plan:#}");
        lab.ok(&project.args(&["up"]));
        assert!(pings("quiet", address), "{guest} answers after");
        assert_eq!(lab.json(&project.args(&["plan"]))["steps"], serde_json::json!([]), "{guest}");
        assert_eq!(lab::running(PROJECT), ids, "{guest}: nobody restarts");
    }
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.leftovers(PROJECT), Vec::<String>::new());
}
