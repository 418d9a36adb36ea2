//! Large texts that somebody might send to keep a server busy: each is answered in time.

mod sound;

/// What a build that is not optimised may take on the processor.
const LIMIT_S: u64 = 10;

fn machines(count: usize, machine: impl Fn(usize) -> String) -> String {
    format!("machines:\n{}", (0..count).map(|number| format!("  - {}\n", machine(number))).collect::<String>())
}

#[test]
fn large_texts_take_no_more_time_than_they_are_worth() {
    let lan = "network: {ovn: {switches: {lan: {subnet: 10.0.0.0/8}}}}\n";
    let full = "network: {ovn: {switches: {lan: {subnet: \"fd00::/120\"}}}}\n";
    let one = |number: usize| format!("{{name: g{number}, micro: {{}}, network: [{{switch: lan}}]}}");
    for (what, text, code) in [
        ("keys", (0..100_000).map(|n| format!("k{n}:\n")).collect(), "E003"),
        ("machines without anything", machines(50_000, |_| "{}".to_string()) + lan, "E004"),
        ("machines of one name", machines(8_000, |_| one(0)) + lan, "E011"),
        ("one address for all", machines(8_000, |n| one(n).replace("lan}", "lan, ip: 10.0.0.9}")) + lan, "E033"),
        ("a full IPv6 subnet", machines(5_000, one) + full, "E040"),
        ("a full IPv4 subnet", machines(8_000, one) + &lan.replace("/8", "/24"), "E040"),
        ("options", machines(1, one) + lan + "%%% set\n" + &"machines.0.micro.cpus=2\n".repeat(50_000), "E056"),
    ] {
        let began = sound::busy();
        let problem = sound::load(&sound::sources(&text)).expect_err(what);
        sound::check_refusal(&problem);
        assert!(problem.diagnostics.iter().any(|fault| fault.code == code), "{what}: {:?}", problem.diagnostics.first());
        let took = sound::busy() - began;
        assert!(took.as_secs() < LIMIT_S, "{what} took {took:?}");
    }
}
