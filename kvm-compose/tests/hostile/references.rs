//! Texts in which many things name what is not there, or what others have.

use super::{
    GUESTS, LAN, NOBODY, PORTS, ROUTERS, Row, SWITCHES, bridges, checks, cloned, clones, full, guest, guest_with, lines, links, machines,
    nets, on, part, plugged, router, routers, rules, some, ten,
};

pub fn rows() -> impl Iterator<Item = Row> {
    let waits = |names: &str| full(&format!("machines:\n- name: a\n  micro:\n  {names}:\n"), |n| format!("  - h{n}\n"), LAN);
    let rows = [
        ("one address for all", plugged(|_| String::from("{switch: lan, ip: 10.0.0.9}")), "E033"),
        ("one MAC for all", plugged(|_| String::from("{switch: lan, mac: \"02:00:00:00:00:01\"}")), "E035"),
        ("a full IPv4 subnet", some(GUESTS, "machines:\n", guest, &LAN.replace("/8", "/24")), "E040"),
        ("a full IPv6 subnet", some(GUESTS, "machines:\n", guest, &LAN.replace("10.0.0.0/8", "\"fd00::/120\"")), "E040"),
        ("no switch", plugged(|n| format!("{{switch: s{n}}}")), "E020"),
        (
            "none of many switches",
            {
                let switches = lines(part(20_000), |n| format!("lan{n}: {{subnet: {}/30}}, ", on(n, 30, 0)));
                some(GUESTS, "machines:\n", guest, &format!("network: {{ovn: {{switches: {{{switches}}}}}}}\n"))
            },
            "E020",
        ),
        ("gateways outside", plugged(|_| String::from("{switch: lan, gateway: 11.0.0.1}")), "E036"),
        (
            "gateways that nobody has",
            {
                let routers =
                    lines(part(8_000), |n| format!("r{n}: {{ports: [{{name: p{n}, gateway_ip: {}/8, switch: lan}}]}},", ten(n + 99)));
                let network = format!("network: {{ovn: {{switches: {{lan: {{subnet: 10.0.0.0/8}}}}, routers: {{{routers}}}}}}}\nx: y\n");
                some(GUESTS, "machines:\n", |n| guest(n).replace("switch: lan", "switch: lan, gateway: 10.0.0.1"), &network)
            },
            "E003",
        ),
        ("machines that wait for nobody", machines(|n| guest_with(n, &format!("depends_on: [h{n}]"))), "E022"),
        ("a machine that waits for many", waits("depends_on"), "E022"),
        (
            "a machine that waits for itself",
            full("machines:\n- name: a\n  micro:\n  depends_on:\n", |_| String::from("  - a\n"), LAN),
            "E011",
        ),
        ("machines in a circle", machines(|n| guest_with(n, &format!("depends_on: g{}", (n + 1) % part(9_000)))), "E023"),
        ("machines in many circles", machines(|n| guest_with(n, &format!("depends_on: [g{}, g0]", n + 1))), "E022"),
        ("clones that wait for clones", cloned(&(clones("a", 5_000, "") + "  depends_on: b\n" + &clones("b", 5_000, ""))), "E029"),
        ("too many hosts", machines(|n| guest_with(n, &format!("placement: {{host: h{n}}}"))), "E029"),
        ("too many networks outside", full(PORTS, |n| format!("        - {{name: p{n}, localnet: {{network_name: o{n}}}}}\n"), ""), "E029"),
        (
            "too many routers that forward",
            {
                let head = format!("{SWITCHES}      lan: {{subnet: 11.0.0.0/8}}\n{}    routers:\n", nets(part(4_000), 30));
                full(
                    &head,
                    |n| {
                        let own = ten(n + 9).replacen("10", "11", 1);
                        let port = format!("{{name: p{n}, gateway_ip: {own}/8, switch: lan, set_gateway_chassis: main}}");
                        format!(
                            "      r{n}: {{ports: [{port}], nat: [{{nat_type: dnat, external_ip: {own}, logical_ip: 10.0.0.1, external_port: 1}}]}}\n"
                        )
                    },
                    "",
                )
            },
            "E029",
        ),
        ("ports of one name", full(PORTS, |_| String::from("        - {name: p, localnet: {network_name: o}}\n"), ""), "E011"),
        ("routers of one address", routers(|_| String::from("10.0.0.1")), "E033"),
        (
            "ports that overlap",
            full(
                &format!("{ROUTERS}      r:\n        ports:\n"),
                |n| format!("        - {{name: p{n}, gateway_ip: {}/8, switch: lan}}\n", ten(n + 9)),
                "",
            ),
            "E038",
        ),
        ("DHCP rules without a switch", router("dhcp", |_| String::from("{switch: wan}")), "E020"),
        ("DHCP rules of a switch", router("dhcp", |_| String::from("{switch: lan}")), "E011"),
        (
            "DHCP ranges that end before",
            router("dhcp", |_| String::from("{switch: lan, exclude_ips: {from: 10.0.0.9, to: 10.0.0.8}}")),
            "E039",
        ),
        ("routes to nowhere", router("static_routes", |n| format!("{{prefix: {}/32, nexthop: 11.0.0.9}}", ten(n))), "E037"),
        (
            "translations of one address",
            router("nat", |n| format!("{{nat_type: dnat_and_snat, external_ip: 10.0.0.9, logical_ip: {}}}", ten(n))),
            "E033",
        ),
        (
            "translations of one port",
            router("nat", |n| format!("{{nat_type: dnat, external_ip: 10.0.0.9, logical_ip: {}, external_port: 80}}", ten(n))),
            "E033",
        ),
        ("translations outside", router("nat", |n| format!("{{nat_type: snat, external_ip: 11.0.0.9, logical_ip: {}}}", ten(n))), "E041"),
        (
            "rules that contradict",
            rules(|n| format!("{{direction: to-lport, priority: 1, match: ip, action: {}}}", ["allow", "drop"][n % 2])),
            "E011",
        ),
        (
            "rules for ports that nobody has",
            rules(|n| format!("{{direction: to-lport, priority: {}, match: 'outport == \"a:eth{n}\"', action: drop}}", n + 32_000)),
            "E006",
        ),
        ("links to nobody", links(usize::MAX, |n| format!("[h{n}:eth0, g0:eth0]")), "E022"),
        ("links in one place", links(usize::MAX, |_| String::from("[g0:eth0, g1:eth0]")), "E011"),
        ("links with a gap", links(usize::MAX, |n| format!("[g{}:eth7, g{}:eth9]", n % GUESTS, (n + 1) % GUESTS)), "E011"),
        ("links of one machine", links(999, |n| format!("[g0:eth{n}, g{}:eth0]", n + 1)), "E006"),
        ("links to itself", links(usize::MAX, |n| format!("[g{0}:eth0, g{0}:eth0]", n % GUESTS)), "E007"),
        ("bridges of one name", format!("{NOBODY}network: {{bridges: [{}]}}\n", "b0, ".repeat(part(500_000))), "E011"),
        ("bridges connected to one", bridges(part(100_000), part(100_000), |n| format!("    b{n}: b0\n")), "E025"),
        ("bridges connected to nobody", bridges(part(40_000), usize::MAX, |n| format!("    b{n}: c{n}\n")), "E024"),
        (
            "a bridge connected to nobody",
            full(&format!("{NOBODY}network:\n  bridges: [b0]\n  bridge_connections:\n    b0: ["), |n| format!("c{n}, "), "]\n"),
            "E024",
        ),
        ("checks of nobody", checks(|n| format!("ping: {{from: h{n}, to: g{n}}}")), "E060"),
        (
            "checks of none of many",
            {
                let many = lines(GUESTS, guest);
                full(&format!("machines:\n{many}{LAN}checks:\n"), |n| format!("- ping: {{from: h{n}, to: h{n}}}\n"), "")
            },
            "E060",
        ),
    ];
    rows.into_iter().map(|(what, text, code)| (what, text, Some(code)))
}
