//! Testbeds of many guests, and of many things that are said of guests.

use super::{
    GUESTS, LAN, NOBODY, ONE, Row, checks, cloned, clones, command, files, full, guest, guest_with, labels, lines, machines, part, plugged,
    some, ten,
};

pub fn rows() -> impl Iterator<Item = Row> {
    let lan = |with: &str| LAN.replace("10.0.0.0/8", with);
    let clones_of = |count: usize, keys: &str| cloned(&clones("m", count, keys));
    let ids: Vec<String> = (0..part(10_000)).map(|id| id.to_string()).collect();
    let rows = [
        ("machines", machines(guest)),
        (
            "machines with 20 NICs",
            some(part(2_000), "machines:\n", |n| guest(n).replace("{switch: lan}", &"{switch: lan},".repeat(20)), LAN),
        ),
        ("machines with an address", plugged(|n| format!("{{switch: lan, ip: {}}}", ten(n + 9)))),
        ("machines on two subnets", some(GUESTS, "machines:\n", guest, &lan("10.0.0.0/8, ipv6: \"fd00::/64\""))),
        ("machines on a small IPv6 subnet", some(part(4_000), "machines:\n", guest, &lan("\"fd00::/115\""))),
        ("machines on hosts of their choice", machines(|n| guest_with(n, &format!("placement: {{host: h{}}}", n % 200)))),
        (
            "machines that wait in a row",
            machines(|n| match n {
                0 => guest(n),
                _ => guest_with(n, &format!("depends_on: g{}", n - 1)),
            }),
        ),
        ("machines near many, among many hosts", {
            let count = part(600);
            let hosts = lines(199, |n| guest_with(n, &format!("placement: {{host: h{n}}}")));
            let near = |own: usize| lines(count, |n| if n == own { String::new() } else { format!("a{n},") });
            let machines = lines(count, |n| format!("- {{name: a{n}, micro: , placement: {{near: [{}]}}}}\n", near(n)));
            some(0, &format!("machines:\n{hosts}{machines}"), guest, LAN)
        }),
        (
            "containers",
            machines(|n| {
                let docker = "docker: {image: nginx, environment: {A: b}, volumes: [{source: a, target: /a}], command: [a, b]}";
                guest(n).replace("micro: ", docker)
            }),
        ),
        (
            "a container with much",
            full(
                "machines:\n- name: a\n  docker:\n    image: nginx\n    volumes:\n",
                |n| format!("    - {{source: a{n}, target: /a{n}}}\n"),
                LAN,
            ),
        ),
        ("machines near one", machines(|n| if n == 0 { guest(n) } else { guest_with(n, "placement: {near: g0}") })),
        (
            "machines on one line",
            some(
                GUESTS,
                "{machines: [",
                |n| format!("{{name: g{n}, micro: , network: [{{switch: lan}}]}},"),
                &format!("], {}}}", LAN.trim_end()),
            ),
        ),
        ("machines of many labels", machines(|n| guest(n).replace("{course", &format!("{{{}course", lines(99, |n| format!("l{n}: a, ")))))),
        (
            "machines by aliases",
            some(
                part(3_000),
                "machines:\n- &m {name: a, micro: &k {environment: &e {A: b, C: d, E: f}}}\n",
                |n| format!("- {{name: g{n}, micro: *k}}\n"),
                LAN,
            ),
        ),
        (
            "machines of many files",
            format!(
                "include: [{}]\n{NOBODY}{LAN}{}",
                lines(99, |n| format!("f{n}.yaml, ")),
                files(99, |f| { some(part(120), "machines:\n", |n| guest(n).replace(&format!("g{n},"), &format!("g{f}-{n},")), "") })
            ),
        ),
        ("clones", clones_of(part(10_000), "      interfaces: {lan: {ip_type: dynamic}}\n")),
        (
            "clones on a list",
            clones_of(part(10_000), &format!("      interfaces: {{lan: {{ip_type: dynamic, clones: [{}]}}}}\n", ids.join(", "))),
        ),
        ("clones with scripts", clones_of(part(2_000), &format!("      clone_setup:\n{}", "      - {script: a}\n".repeat(90)))),
        ("clones that wait for clones", cloned(&(clones("a", part(700), "") + "  depends_on: b\n" + &clones("b", part(700), "")))),
        ("checks", checks(|n| format!("ping: {{from: a, to: 9.{}.{}.{}}}", n >> 16, n >> 8 & 255, n & 255))),
        ("checks of one name", checks(|_| String::from("ping: {from: a, to: a}"))),
        ("checks of many guests", {
            let count = part(8_000);
            let many = lines(count, guest);
            full(
                &format!("machines:\n{many}{LAN}checks:\n"),
                |n| format!("- tcp: {{from: g{}, to: g{}, port: 80}}\n", n % count, count - 1 - n % count),
                "",
            )
        }),
        ("labels", labels(|n| format!("l{n}: a"))),
        (
            "labels of many files",
            format!(
                "extends: f0.yaml\n{ONE}{LAN}{}",
                files(14, |f| {
                    let below = if f < 13 { format!("extends: f{}.yaml\n", f + 1) } else { String::new() };
                    some(part(12_000), &format!("{below}labels:\n"), |n| format!("  l{n}: a{f}\n"), "")
                })
            ),
        ),
        ("an environment", full("machines:\n- name: a\n  micro:\n    environment:\n", |n| format!("      V{n}: a\n"), LAN)),
        ("variables", labels(|n| format!("l{n}: ${{V{n}:-x}}"))),
        ("variables in one text", command(|n| format!("${{V{n}:-x}}"), "\"\n")),
        ("variables in variables", command(|_| format!("{}x{}", "${A:-".repeat(8), "}".repeat(8)), "\"\n")),
        ("a long text", command(|_| String::from("aaaaaaaaa "), "\"\n")),
        ("comments", full(&format!("{ONE}{LAN}"), |_| String::from("#\n"), "")),
    ];
    rows.into_iter().map(|(what, text)| (what, text, None))
}
