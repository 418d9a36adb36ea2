//! Texts that are wrong in themselves: keys, values, anchors, variables, files.

use super::{
    LAN, MAX_BYTES, NOBODY, ONE, Row, SWITCHES, checks, cloned, clones, command, files, filled, full, guest, labels, lines, machines, part,
    plugged, some,
};

pub fn rows() -> impl Iterator<Item = Row> {
    let scaled = |keys: &str| cloned(&clones("m", 10_000, keys));
    let options = |option: &str| format!("{}%%% set\n{}", machines(guest), format!("{option}\n").repeat(200));
    let rows = [
        ("keys", full("", |n| format!("k{n}:\n"), ""), "E003"),
        ("keys that are alike", full("", |n| format!("machine{n}:\n"), ""), "E003"),
        ("keys of a machine", full("machines:\n- name: a\n", |n| format!("  k{n}:\n"), LAN), "E003"),
        ("keys of clones", scaled(&format!("      interfaces: {{}}\n{}", lines(part(100_000), |n| format!("      s{n}: {{}}\n")))), "E003"),
        ("a key again and again", full("", |_| String::from("a:\n"), ""), "E002"),
        ("machines without anything", machines(|_| String::from("- {}\n")), "E004"),
        ("machines of one name", machines(|_| guest(0)), "E011"),
        ("too many machines", filled(MAX_BYTES, 12_001, "machines:\n", |n| format!("- {{name: g{n}, micro: }}\n"), LAN), "E029"),
        (
            "too many interfaces",
            filled(MAX_BYTES, 2_001, "machines:\n", |n| guest(n).replace("{switch: lan}", &"{switch: lan},".repeat(20)), LAN),
            "E029",
        ),
        (
            "interfaces of a machine",
            full("machines:\n- name: a\n  micro:\n  network:\n", |_| String::from("  - {switch: lan}\n"), LAN),
            "E006",
        ),
        ("interfaces of many machines", plugged(|_| "{switch: lan},".repeat(1_000)), "E006"),
        ("clones of many machines", some(part(400), "machines:\n", |n| clones(&format!("m{n}"), 10_000, ""), LAN), "E029"),
        (
            "clones of a machine with much",
            cloned(&format!("{}  labels: {{{}}}\n", clones("m", 10_000, ""), lines(part(200_000), |n| { format!("l{n}: a,") }))),
            "E029",
        ),
        ("clones with many interfaces", scaled(&format!("      interfaces:\n{}", "      - {switch: lan}\n".repeat(part(80_000)))), "E029"),
        ("clones with many scripts", scaled(&format!("      clone_setup:\n{}", "      - {script: a}\n".repeat(part(80_000)))), "E029"),
        ("switches without a subnet", full(SWITCHES, |n| format!("      s{n}: {{}}\n"), ""), "E004"),
        ("switches of one name", full(SWITCHES, |_| String::from("      s: {subnet: 10.0.0.0/8}\n"), ""), "E002"),
        ("checks of one name", checks(|_| String::from("{name: a, ping: {from: a, to: a}}")), "E011"),
        ("labels that are none", labels(|n| format!("-l{n}: a")), "E010"),
        ("variables that are not set", full(&format!("{ONE}{LAN}labels:\n"), |n| format!("  l{n}: ${{V{n}}}\n"), "x: y\n"), "E003"),
        ("variables that must be set", labels(|n| format!("l{n}: ${{V{n}?}}")), "E051"),
        ("variables that are none", labels(|n| format!("l{n}: ${{}}")), "E050"),
        ("a variable that never ends", command(|_| String::from("${A:-"), "\"\n"), "E050"),
        ("a variable that nests", command(|_| String::from("${A:-"), &("}".repeat(part(400_000)) + "\"\n")), "E050"),
        ("a variable that brings much", labels(|n| format!("l{n}: ${{V}}")) + &format!("%%% env\nV={}\n", "x".repeat(4_000)), "E050"),
        ("lists", full("", |_| String::from("["), ""), "E001"),
        ("lists in lists", filled(MAX_BYTES, usize::MAX, "x: [", |_| format!("{}{},", "[".repeat(20), "]".repeat(20)), "]\n"), "E001"),
        ("lists of nothing", full("x: [", |_| String::from("[],"), "]\n"), "E003"),
        ("values", filled(MAX_BYTES, usize::MAX, "x: [", |_| String::from("a,"), "]\n"), "E001"),
        ("anchors", full("x:\n", |n| format!("- &a{n} a\n"), ""), "E003"),
        ("anchors in anchors", filled(MAX_BYTES, usize::MAX, "x: &a ", |n| format!("\n{}- &a{n} ", " ".repeat(n % 30)), "a\n"), "E001"),
        ("an alias again and again", full("x:\n- &a b\n", |_| String::from("- *a\n"), ""), "E003"),
        ("aliases that grow", full("x0: &x0 [a, a]\n", |n| format!("x{0}: &x{0} [*x{n}, *x{n}]\n", n + 1), ""), "E001"),
        ("aliases of a long text", full(&format!("x:\n- &a {}\n", "a".repeat(100_000)), |_| String::from("- *a\n"), ""), "E001"),
        ("quotes", full("x: \"", |_| String::from("a\\\"\n  "), ""), "E001"),
        ("an indentation", full("x:\n", |_| String::from(" "), "- a\n"), "E003"),
        ("tags", full("x:\n", |n| format!("- !t{n} a\n"), ""), "E003"),
        ("directives", full("", |n| format!("%TAG !t{n}! tag:{n}\n"), "---\na: b\n"), "E003"),
        ("documents", full("", |_| String::from("--- a\n"), ""), "E001"),
        ("options", machines(guest) + "%%% set\n" + &"machines.0.micro.cpus=2\n".repeat(50_000), "E056"),
        ("options that lead far", options(&format!("machines.g{}.micro.cpus=x", part(12_000) - 1)), "E005"),
        ("options that lead nowhere", options("machines.h9.micro.cpus=x"), "E056"),
        ("files on each other", format!("extends: f0.yaml\n{}", files(20, |f| format!("extends: f{}.yaml\n", f + 1))), "E054"),
        (
            "a file again and again",
            full("include:\n", |_| String::from("- a.yaml\n"), "machines: []\nx: y\n%%% a.yaml\nmachines: []\n"),
            "E003",
        ),
        (
            "a file that all extend",
            format!(
                "include: [{}]\n{}%%% a.yaml\n{NOBODY}{}",
                lines(90, |n| format!("f{n}.yaml, ")),
                files(90, |_| String::from("extends: a.yaml\n")),
                some(part(100_000), "labels:\n", |n| format!("  l{n}: a\n"), LAN)
            ),
            "E054",
        ),
    ];
    rows.into_iter().map(|(what, text, code)| (what, text, Some(code)))
}
