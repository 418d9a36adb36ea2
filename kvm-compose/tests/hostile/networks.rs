//! Testbeds of large networks.

use super::{
    GUESTS, LAN, NOBODY, PORTS, ROUTERS, Row, SWITCHES, bridges, full, guest, lines, links, nets, on, part, ports, router, routers, rules,
    some, ten,
};

pub fn rows() -> impl Iterator<Item = Row> {
    let end = |n: usize| format!("g{n}:eth0");
    let rows = [
        ("switches", full(SWITCHES, |n| format!("      s{n}: {{subnet: {}/30}}\n", on(n, 30, 0)), "")),
        ("switches with labels", {
            let labels = lines(part(50_000), |n| format!("l{n}: a,"));
            some(part(12_000), "machines:\n", guest, &LAN.replace("10.0.0.0/8", &format!("10.0.0.0/8, labels: {{{labels}}}")))
        }),
        (
            "switches that lead outside",
            full(
                SWITCHES,
                |n| {
                    format!(
                        "      s{n}: {{subnet: {}/30, ports: [{{name: p{n}, localnet: {{network_name: o{}}}}}]}}\n",
                        on(n, 30, 0),
                        n % 200
                    )
                },
                "",
            ),
        ),
        ("ports of the host", full(PORTS, |n| format!("        - {{name: p{n}, internal: {{ip: {}}}}}\n", ten(n + 9)), "")),
        ("routers on a switch", routers(|n| ten(n + 9))),
        (
            "routers on two subnets",
            full(
                &ROUTERS.replace("10.0.0.0/8", "10.0.0.0/8, ipv6: \"fd00::/64\""),
                |n| format!("      r{n}: {{ports: [{{name: p{n}, gateway_ip: {}/8, switch: lan}}]}}\n", ten(n + 9)),
                "",
            ),
        ),
        ("routers and guests", {
            let routers = lines(part(8_000), |n| format!("r{n}: {{ports: [{{name: p{n}, gateway_ip: {}/8, switch: lan}}]}},", ten(n + 99)));
            let network = format!("network: {{ovn: {{switches: {{lan: {{subnet: 10.0.0.0/8}}}}, routers: {{{routers}}}}}}}\n");
            some(GUESTS, "machines:\n", guest, &network)
        }),
        (
            "routers with DHCP rules",
            some(
                part(10_000),
                &format!("{SWITCHES}{}    routers:\n", nets(part(10_000), 29)),
                |n| {
                    let [own, from, to] = [1, 2, 3].map(|host| on(n, 29, host));
                    let rule = format!("{{switch: s{n}, exclude_ips: {{from: {from}, to: {to}}}}}");
                    format!("      r{n}: {{ports: [{{name: p{n}, gateway_ip: {own}/29, switch: s{n}}}], dhcp: [{rule}]}}\n")
                },
                "",
            ),
        ),
        ("ports of a router", {
            let count = part(18_000);
            format!("{SWITCHES}{}    routers:\n      r:\n        ports:\n{}", nets(count, 30), ports(count, 30))
        }),
        ("ports and DHCP rules of a router", {
            let count = part(9_000);
            let head = format!("{SWITCHES}{}    routers:\n      r:\n        ports:\n{}        dhcp:\n", nets(count, 28), ports(count, 28));
            some(
                count,
                &head,
                |n| format!("        - {{switch: s{n}, exclude_ips: {{from: {}, to: {}}}}}\n", on(n, 28, 2), on(n, 28, 3)),
                "",
            )
        }),
        ("ports and routes of a router", {
            let count = part(8_000);
            let head = format!(
                "{SWITCHES}{}    routers:\n      r:\n        ports:\n{}        static_routes:\n",
                nets(count, 30),
                ports(count, 30)
            );
            full(&head, |n| format!("        - {{prefix: {}/32, nexthop: {}}}\n", ten(n), on(n % count, 30, 2)), "")
        }),
        ("static routes", router("static_routes", |n| format!("{{prefix: {}/32, nexthop: 10.0.0.9}}", ten(n)))),
        (
            "translations of an address",
            router("nat", |n| format!("{{nat_type: dnat_and_snat, external_ip: {}, logical_ip: {}}}", ten(n + 9), ten(n))),
        ),
        (
            "translations of a port",
            router("nat", |n| {
                format!("{{nat_type: dnat, external_ip: {}, logical_ip: 10.0.0.7, external_port: {}}}", ten(n / 60_000 + 9), n % 60_000 + 1)
            }),
        ),
        (
            "translations of a network",
            router("nat", |n| format!("{{nat_type: snat, external_ip: {}, logical_ip: {}/32}}", ten(n + 9), ten(n))),
        ),
        ("rules", rules(|n| format!("{{direction: to-lport, priority: {}, match: ip4.src == {}, action: allow}}", n % 9, ten(n)))),
        (
            "rules of many ports",
            rules(|n| {
                format!("{{direction: to-lport, priority: {n}, match: 'outport == {{{}}}', action: allow}}", "\"a:eth0\", ".repeat(6_000))
            }),
        ),
        ("rules of many switches", {
            let count = part(20_000);
            let head = format!("{SWITCHES}{}    acl:\n      apply_deny_all: true\n      switches:\n", nets(count, 30));
            some(count, &head, |n| format!("        s{n}: [{{direction: to-lport, priority: 1, match: ip, action: drop}}]\n"), "")
        }),
        ("links", links(GUESTS / 2, |n| format!("[{}, {}]", end(2 * n), end(2 * n + 1)))),
        ("links of a machine", links(20, |n| format!("[g0:eth{n}, {}]", end(n + 1)))),
        (
            "links with addresses",
            links(GUESTS / 2, |n| {
                format!("{{ends: [{}, {}], subnet: {}/30, impairment: {{delay_ms: 5}}}}", end(2 * n), end(2 * n + 1), on(n, 30, 0))
            }),
        ),
        (
            "bridges",
            full(
                &format!("{NOBODY}network:\n  bridges:\n"),
                |n| if n < 250 { format!("  - name: b{n}\n") } else { String::from("#\n") },
                "",
            ),
        ),
        ("bridges in a row", bridges(part(70_000), part(70_000) - 1, |n| format!("    b{}: b{n}\n", n + 1))),
        (
            "bridges in a row, from the other end",
            bridges(part(70_000), part(70_000) - 1, |n| {
                let last = part(70_000) - 1;
                format!("    b{}: b{}\n", last - n - 1, last - n)
            }),
        ),
        (
            "a bridge in the middle",
            bridges(part(70_000), part(70_000) + 1, |n| match n {
                0 => String::from("    b0: ["),
                n if n < part(70_000) => format!("b{n}, "),
                _ => String::from("]\n"),
            }),
        ),
        ("comments in a network", full(ROUTERS, |_| String::from("      # nothing\n"), "      r: {}\n")),
    ];
    rows.into_iter().map(|(what, text)| (what, text, None))
}
