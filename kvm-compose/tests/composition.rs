//! One testbed out of several texts: variables, `extends`, `include`, `--set`.

mod sound;

use std::collections::BTreeMap;

use kvm_compose::{
    diagnostic::{Diagnostic, Severity},
    error::Problem,
    gather::{From, gather},
    names::DeploymentName,
    spec::{Sources, compose::asked},
    topology::{self, Leases, Loaded},
};

const LAN: &str = "network: {ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}\n";

fn sources(files: &[(&str, &str)]) -> Sources {
    let mut sources = Sources::alone("sub/kvm-compose.yaml", files[0].1);
    sources.composition.files = files[1..].iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
    sources
}

fn load(sources: &Sources) -> Result<Loaded, Problem> {
    topology::load_all(sources, &DeploymentName::new("lab").expect("valid"), &Leases::new())
}

fn good(sources: &Sources) -> Loaded {
    load(sources).unwrap_or_else(|problem| panic!("{problem:#?}"))
}

/// Code, place and message of every error.
fn errors(sources: &Sources) -> Vec<(String, String, String)> {
    let all = load(sources).map_or_else(|problem| problem.diagnostics, |_| Vec::new());
    all.into_iter()
        .filter(|fault| fault.severity == Severity::Error)
        .map(|fault| (fault.code, fault.at.to_string(), fault.message))
        .collect()
}

#[track_caller]
fn refused(sources: &Sources, code: &str, place: &str, words: &str) -> Diagnostic {
    let problem = load(sources).expect_err("refused");
    let found: Vec<&Diagnostic> = problem.diagnostics.iter().filter(|fault| fault.severity == Severity::Error).collect();
    let [fault] = found.as_slice() else { panic!("{found:#?}") };
    assert_eq!((fault.code.as_str(), fault.at.to_string().as_str()), (code, place), "{fault:#?}");
    assert!(fault.message.contains(words), "{} / {words}", fault.message);
    (*fault).clone()
}

fn machine(text: &str) -> String {
    format!("machines:\n  - {{name: web, network: [{{switch: lan}}], micro: {text}}}\n{LAN}")
}

fn environment(text: &str, variables: &[(&str, Option<&str>)]) -> Sources {
    let mut sources = Sources::alone("f.yaml", text);
    sources.composition.variables = variables.iter().map(|(name, value)| (name.to_string(), value.map(String::from))).collect();
    sources
}

#[test]
fn each_form_of_a_variable() {
    let variables = [("SET", Some("x")), ("EMPTY", Some("")), ("UNSET", None), ("TILDE", Some("~"))];
    for (written, value) in [
        ("${SET}", "x"),
        ("a${SET}b${SET}", "axbx"),
        ("${SET:-d}", "x"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${UNSET:-d}", "d"),
        ("${UNSET-d}", "d"),
        ("${UNSET:-}", ""),
        ("${UNSET-${SET}y}", "xy"),
        ("${UNSET:-${EMPTY:-${SET}}}", "x"),
        ("${SET:+y}", "y"),
        ("${EMPTY:+y}", ""),
        ("${EMPTY+y}", "y"),
        ("${UNSET+y}", ""),
        ("${SET:?never}", "x"),
        ("${EMPTY?never}", ""),
        ("${UNSET:-a:b}", "a:b"),
        ("${TILDE}", "~"),
        ("$$", "$"),
        ("$${SET}", "${SET}"),
        ("$$$${SET}", "$${SET}"),
        ("$$${SET}", "$x"),
        ("${UNSET:-$${SET}}", "${SET}"),
        ("$SET $1 $(x) 5$", "$SET $1 $(x) 5$"),
        ("${PWD}/x", "${PWD}/x"),
        ("${PWD:-no}/x", "${PWD}/x"),
        ("${PWD:?no}", "${PWD}"),
    ] {
        let text = machine(&format!("{{environment: {{A: \"{written}\"}}}}"));
        let loaded = good(&environment(&text, &variables));
        assert_eq!(loaded.topology.guests[0].environment["A"], value, "{written}");
        assert_eq!(loaded.warnings.iter().filter(|fault| fault.code == "W050").count(), 0, "{written}");
        let again = good(&Sources::alone("again", &loaded.resolved().to_string()));
        assert_eq!(again.topology.guests[0].environment["A"], value, "{written}: the resolved file means the same");
    }
}

#[test]
fn a_variable_that_is_not_set_is_a_warning_and_counts_as_empty() {
    let loaded = good(&environment(&machine("{environment: {A: \"<${NO}>\", B: \"${NO}\"}}"), &[]));
    assert_eq!(loaded.topology.guests[0].environment["A"], "<>");
    let warnings: Vec<_> = loaded.warnings.iter().filter(|fault| fault.code == "W050").collect();
    assert_eq!(warnings.len(), 1, "once for each variable");
    assert_eq!((warnings[0].at.line, warnings[0].message.contains("`NO`")), (2, true));
}

#[test]
fn a_number_may_come_from_a_variable_also_within_quotes() {
    for (written, memory) in [("\"${M}\"", 256), ("\"${N:-512}\"", 512), ("'1${ZERO}0'", 100)] {
        let loaded = good(&environment(&machine(&format!("{{memory_mb: {written}}}")), &[("M", Some("256")), ("ZERO", Some("0"))]));
        assert_eq!(loaded.topology.guests[0].memory_mb, memory);
    }
    let block = format!(
        "machines:\n  - name: web\n    network:\n      - switch: ${{SW:-lan}}\n    micro:\n      memory_mb: ${{M}}\n      cpus: ${{NO:-}}\n{LAN}"
    );
    let loaded = good(&environment(&block, &[("M", Some("256"))]));
    assert_eq!((loaded.topology.guests[0].memory_mb, loaded.topology.guests[0].cpus), (256, 1), "empty without quotes is nothing");
}

#[test]
fn faults_of_variables_have_their_place_and_no_value() {
    let text =
        |value: &str| format!("machines:\n  - name: web\n    network: [{{switch: lan}}]\n    micro:\n      memory_mb: {value}\n{LAN}");
    let run = |value: &str| environment(&text(value), &[("SECRET", Some("hunter2"))]);
    for (value, code, column, words) in [
        ("${A!}", "E050", 18, "`${A!}` is no variable"),
        ("12${1}", "E050", 20, "`${1}`"),
        ("${}", "E050", 18, "no variable"),
        ("${A", "E050", 18, "its `}` is missing"),
        ("${A:=x}", "E050", 18, "after the name"),
        ("${A:?give it}", "E051", 18, "`A` is not set or empty: give it"),
        ("${A?}", "E051", 18, "`A` is not set"),
        ("\"9${A?}\"", "E051", 20, "`A` is not set"),
        ("${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:-1}}}}}}}}}", "E050", 18, "nest deeper"),
    ] {
        let fault = refused(&run(value), code, &format!("f.yaml:5:{column}"), words);
        assert!(fault.source.ends_with(value), "{fault:?}");
    }
    let fault = refused(&run("${SECRET}"), "E005", "f.yaml:5:18", "must be a whole number, but here is `${SECRET}`");
    assert!(!format!("{fault:?}").contains("hunter2"));
    for key in [
        "name: ${SECRET}@",
        "network: [{switch: lan, ip: \"${SECRET}/8\"}]",
        "network: [{switch: \"${SECRET}!\"}]",
        "ready: {agent: \"${SECRET}\"}",
    ] {
        let text = format!("machines:\n  - {{name: b, micro: {{}}}}\n  - micro: {{}}\n    {key}\n{LAN}");
        let problem = load(&environment(&text, &[("SECRET", Some("hunter2"))])).expect_err("refused");
        assert!(!format!("{problem:?}").contains("hunter2"), "{problem:#?}");
    }
}

#[test]
fn variables_cannot_bring_more_than_a_testbed_may_have() {
    let many = "\"${A}${A}${A}${A}\", ".repeat(2000);
    let text = format!("machines: [{many}]\n");
    let long = "x".repeat(100_000);
    let start = sound::busy();
    let problem = load(&environment(&text, &[("A", Some(&long))])).expect_err("refused");
    assert!(problem.diagnostics.iter().any(|fault| fault.code == "E050" && fault.message.contains("MiB")), "{problem:?}");
    assert!((sound::busy() - start).as_secs() < 5);
}

#[test]
fn a_base_is_laid_under() {
    let base = format!(
        "version: 1\nmachines:\n  - name: web\n    network: [{{switch: lan, ip: 10.0.0.5}}]\n    micro: {{memory_mb: 200, environment: {{A: a, B: b}}}}\n  - {{name: db, network: [{{switch: lan}}], micro: {{}}}}\n{LAN}"
    );
    let over = "extends: base.yaml\nmachines:\n  - {name: new, network: [{switch: wan}], micro: {}}\n  - name: web\n    network: [{switch: lan, ip: 10.0.0.9}]\n    micro: {environment: {B: over, C: c}, memory_mb: }\nnetwork: {ovn: {switches: {wan: {subnet: 10.9.0.0/24}}}}\n";
    let loaded = good(&sources(&[("", over), ("base.yaml", &base)]));
    let guests = &loaded.topology.guests;
    assert_eq!(guests.iter().map(|guest| guest.name.as_str()).collect::<Vec<_>>(), ["web", "db", "new"]);
    assert_eq!(guests[0].memory_mb, 128, "nothing takes away what the base says");
    assert_eq!(guests[0].nics.len(), 1, "lists other than of machines are replaced");
    let values: BTreeMap<&str, &str> = guests[0].environment.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(values, BTreeMap::from([("A", "a"), ("B", "over"), ("C", "c")]));
    assert_eq!(loaded.topology.switches.len(), 2);
    // Over three files, from folder to folder.
    let loaded = good(&sources(&[
        ("", "extends: a/one.yaml\n"),
        ("a/one.yaml", "extends: ../two.yaml\nmachines: [{name: web, micro: {cpus: 3}}]\n"),
        ("two.yaml", &base),
    ]));
    assert_eq!((loaded.topology.guests[0].cpus, loaded.topology.guests[0].memory_mb), (3, 200));
}

#[test]
fn included_files_stand_side_by_side() {
    let main = "include: [net.yaml, ./guests/db.yaml]\nmachines: [{name: web, network: [{switch: lan}], micro: {}}]\n";
    let net = "network: {ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}\n";
    let db = "include: ../net.yaml\nmachines: [{name: db, network: [{switch: lan}, {switch: back}], micro: {}}]\nnetwork: {ovn: {switches: {back: {subnet: 10.1.0.0/24}}, routers: {r: {ports: [{name: p, gateway_ip: 10.1.0.1/24, switch: back}]}}}}\n";
    let loaded = good(&sources(&[("", main), ("net.yaml", net), ("guests/db.yaml", db)]));
    assert_eq!(loaded.topology.guests.len(), 2);
    assert_eq!((loaded.topology.switches.len(), loaded.topology.routers.len()), (2, 1), "what two files include is there once");
    // A single file needs no list; the testbed file may hold nothing else.
    assert_eq!(good(&sources(&[("", "include: all.yaml\n"), ("all.yaml", &machine("{}"))])).topology.guests.len(), 1);
}

#[test]
fn a_fault_stands_in_its_own_file() {
    let main = "include: [parts/net.yaml]\nmachines: [{name: web, network: [{switch: lan}], micro: {}}]\n";
    let net = "network:\n  ovn:\n    switches:\n      lan: {subnet: 10.0.0.0}\n      wan: {subnt: 10.1.0.0/24}\n";
    let found = errors(&sources(&[("", main), ("parts/net.yaml", net)]));
    let places: Vec<(&str, &str)> = found.iter().map(|(code, place, _)| (code.as_str(), place.as_str())).collect();
    assert_eq!(places, [("E030", "sub/parts/net.yaml:4:21"), ("E003", "sub/parts/net.yaml:5:13"),], "{found:#?}");
    let fault = refused(&sources(&[("", main), ("parts/net.yaml", "network: [")]), "E001", "sub/parts/net.yaml:1:11", "not valid YAML");
    assert_eq!(fault.source, "network: [");
    let problem = load(&sources(&[("", "extends: a.yaml"), ("a.yaml", "machines: []\nnetwork: {ovn: {switches: {}}}\nfoo: 1\n")]))
        .expect_err("refused");
    assert_eq!(problem.at.expect("a place").to_string(), "sub/a.yaml:3:1");
    assert!(problem.message.starts_with("`sub/a.yaml`: "), "{}", problem.message);
}

#[test]
fn what_two_files_have_is_told_with_both_places() {
    let whole = machine("{}");
    let with = |part: &str| sources(&[("", &format!("include: part.yaml\n{whole}")), ("part.yaml", part)]);
    let both = |one: &str, other: &str| format!("sub/kvm-compose.yaml:{one} and sub/part.yaml:{other}");
    refused(
        &with("machines: [{name: web, micro: {}}]"),
        "E055",
        "sub/part.yaml:1:12",
        &format!("machine `web` stands in two files: {}", both("3:5", "1:12")),
    );
    refused(
        &with("network: {ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}"),
        "E055",
        "sub/part.yaml:1:28",
        &format!("switch `lan` stands in two files: {}", both("4:28", "1:28")),
    );
    // What is the same in both is no contradiction; what differs is.
    good(&sources(&[("", &format!("include: part.yaml\nversion: 1\n{whole}")), ("part.yaml", "version: 1\n")]));
    refused(
        &sources(&[("", &format!("include: part.yaml\nversion: 1\n{whole}")), ("part.yaml", "version: 2\n")]),
        "E055",
        "sub/part.yaml:1:10",
        "`version`",
    );
    // A key is found again among many, of every kind.
    let many: String = (0..30).map(|n| format!("k{n}: 1\n")).collect();
    let twice = load(&Sources::alone("f", &format!("{many}[a]: 1\nk29: 2\n[b]: 1\nk3: 3\n"))).expect_err("refused");
    let lines: Vec<u32> = twice.diagnostics.iter().filter(|fault| fault.code == "E002").map(|fault| fault.at.line).collect();
    assert_eq!(lines, [32, 34]);
    // Two included files that stand on one base.
    let base = "machines: [{name: web, micro: {}, network: [{switch: lan}]}]\nnetwork: {ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}\n";
    let over = "extends: base.yaml\n";
    assert_eq!(
        good(&sources(&[("", "include: [a.yaml, b.yaml]"), ("a.yaml", over), ("b.yaml", over), ("base.yaml", base)])).topology.guests.len(),
        1
    );
}

#[test]
fn files_that_cannot_be_had_are_told_at_their_place() {
    for (text, code, column, words) in [
        ("include: [no.yaml]", "E052", 11, "there is no file `no.yaml`"),
        ("extends: no.yaml", "E052", 10, "`no.yaml`"),
        ("extends: /etc/passwd", "E053", 10, "`/etc/passwd` is no file of the project's folder"),
        ("include: ['../x.yaml']", "E053", 11, "`../x.yaml`"),
        ("include: [kvm-compose.yaml]", "E054", 11, "stands on itself: kvm-compose.yaml → kvm-compose.yaml"),
        ("extends: loop.yaml", "E054", 10, "kvm-compose.yaml → loop.yaml → kvm-compose.yaml"),
        ("include: [{path: a}]", "E005", 11, "must be a text"),
        ("include: {a: b}", "E005", 10, "must be a list"),
        ("extends: [a]", "E005", 10, "must be a text"),
        ("include: \"${FILE}\"", "E052", 10, "there is no file `${FILE}`"),
        ("include: list.yaml", "E005", 1, "must be a map"),
    ] {
        let mut sources = sources(&[("", text), ("loop.yaml", "extends: kvm-compose.yaml"), ("list.yaml", "[a]")]);
        sources.composition.variables.insert("FILE".to_string(), Some("gone.yaml".to_string()));
        let place = match (words.contains("loop.yaml →"), words.ends_with("a map")) {
            (true, _) => "sub/loop.yaml:1:10".to_string(),
            (_, true) => "sub/list.yaml:1:1".to_string(),
            _ => format!("sub/kvm-compose.yaml:1:{column}"),
        };
        refused(&sources, code, &place, words);
    }
    let chain: Vec<(String, String)> = (0..40).map(|n| (format!("{n}.yaml"), format!("extends: {}.yaml", n + 1))).collect();
    let mut deep = sources(&[("", "extends: 0.yaml")]);
    deep.composition.files = chain.into_iter().collect();
    refused(&deep, "E054", "sub/14.yaml:1:10", "deeper than 16");
    let mut wide = sources(&[("", &format!("include: [{}]", (0..120).map(|n| format!("{n}.yaml, ")).collect::<String>()))]);
    wide.composition.files = (0..120).map(|n| (format!("{n}.yaml"), "version: 1".to_string())).collect();
    assert!(errors(&wide).iter().all(|(code, _, message)| code == "E054" && message.contains("more than 100 files")));
    let mut large = sources(&[("", "include: large.yaml")]);
    large.composition.files.insert("large.yaml".to_string(), "#".repeat(2 << 20));
    refused(&large, "E052", "sub/kvm-compose.yaml:1:10", "larger than 2 MiB together");
}

#[test]
fn bombs_are_refused_in_time() {
    let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (one, other) in ["a", "b", "c", "d", "e", "f", "g", "h"].iter().zip(["b", "c", "d", "e", "f", "g", "h", "i"]) {
        bomb.push_str(&format!("{other}: &{other} [{}]\n", vec![format!("*{one}"); 9].join(", ")));
    }
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(100_000));
    let mut nested = String::from("a0: &a0 [x]\n");
    for n in 1..100 {
        nested.push_str(&format!("a{n}: &a{n} [[[*a{}]]]\n", n - 1));
    }
    let keys: String = (0..200_000).map(|n| format!("k{n}:\n")).collect();
    // Each file is within its limits; each that stands on the base has all of it once more.
    let base: String = (0..40_000).map(|n| format!("k{n}: [1,2,3,4]\n")).collect();
    let mut spread = sources(&[("", &format!("include: [{}]", (0..90).map(|n| format!("{n}.yaml,")).collect::<String>()))]);
    spread.composition.files = (0..90).map(|n| (format!("{n}.yaml"), "extends: base.yaml".to_string())).collect();
    spread.composition.files.insert("base.yaml".to_string(), base);
    for (what, sources) in [
        ("aliases", sources(&[("", &bomb)])),
        ("long texts", sources(&[("", &long)])),
        ("depth", sources(&[("", &nested)])),
        ("keys", sources(&[("", &keys)])),
        ("bases", spread),
    ] {
        let start = sound::busy();
        let problem = load(&sources).expect_err(what);
        assert!(!problem.diagnostics.is_empty(), "{what}");
        // A build that is not optimised needs ten times as long as the real one.
        let took = sound::busy() - start;
        assert!(took.as_secs() < 10, "{what}: {took:?}");
    }
}

fn set(text: &str, options: &[&str]) -> Sources {
    let mut sources = Sources::alone("f.yaml", text);
    sources.composition.set = options.iter().map(|option| option.to_string()).collect();
    sources
}

#[test]
fn options_are_laid_over_the_whole() {
    let text = machine("{memory_mb: 100, environment: {A: a}}");
    let loaded = good(&set(
        &text,
        &[
            "machines.web.micro.memory_mb=256",
            "machines.0.micro.cpus=2",
            "machines.web.micro.environment.B=b=c",
            "machines.web.micro.environment.A=",
            "machines.web.micro.environment.C=\"1 # ${X}\"",
            "machines.web.network.0.ip=10.0.0.77",
            "network.ovn.switches.wan.subnet=10.7.0.0/16",
            "machines.web.ready.timeout_s=7",
        ],
    ));
    let guest = &loaded.topology.guests[0];
    assert_eq!((guest.memory_mb, guest.cpus, guest.ready.timeout_s), (256, 2, 7));
    assert_eq!(guest.environment.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["B=b=c", "C=1 # ${X}"]);
    assert_eq!(loaded.topology.switches.len(), 2);
    // Through an included file and over its values; the last one counts.
    let mut included = sources(&[("", "include: all.yaml"), ("all.yaml", &text)]);
    included.composition.set = vec!["machines.web.micro.cpus=3".to_string(), "machines.web.micro.cpus=4".to_string()];
    assert_eq!(good(&included).topology.guests[0].cpus, 4);
}

#[test]
fn a_fault_of_an_option_names_the_option() {
    let text = machine("{memory_mb: 100}");
    for (option, code, column, words) in [
        ("machines.web.micro.memory_mb=abc", "E005", 30, "`memory_mb` of a micro guest must be a whole number, but here is `abc`"),
        ("machines.web.micro.memory_mb=1", "E006", 30, "out of range"),
        ("machines.web.micro.memry=1", "E003", 20, "no key `memry`"),
        ("machines.wbe.micro.cpus=1", "E056", 10, "`machines` has no item `wbe`"),
        ("machines.1.micro.cpus=1", "E056", 10, "no item `1`"),
        ("machines.web.name.x=1", "E056", 19, "`name` is a single value and has no key `x`"),
        ("machines", "E056", 1, "`machines` is no `key=value`"),
        ("=x", "E056", 1, "no `key=value`"),
        ("a..b=1", "E056", 1, "`a..b` is no path of keys"),
        ("include=x", "E056", 1, "`include` cannot be set"),
        ("machines.web.micro.cpus=[1]", "E056", 25, "a list, not a single value"),
        ("machines.web.micro.cpus={", "E056", 25, "no YAML value"),
        ("machines.web.network.0.ip=10.1.0.1", "E031", 27, "10.1.0.1"),
        ("tooling.a\\.b.c\\=1", "E056", 1, ""),
    ] {
        if words.is_empty() {
            continue;
        }
        let fault = refused(&set(&text, &["version=1", option]), code, &format!("--set:2:{column}"), words);
        assert_eq!(fault.source, option);
        let render = fault.render();
        assert!(render.contains("--> --set:2:"), "{render}");
    }
    let dotted = good(&set(&text, &["tooling.a\\.b=1"]));
    assert!(dotted.warnings.iter().any(|fault| fault.code == "W003"));
}

#[test]
fn what_is_needed_is_asked_for_step_by_step() {
    let mut sources = Sources::alone("f.yaml", "extends: \"${BASE}.yaml\"\nx: \"${A:-${B}}\"\n");
    assert_eq!(asked(&sources).variables.into_iter().collect::<Vec<_>>(), ["A", "B", "BASE"]);
    sources.composition.variables.insert("A".to_string(), Some("a".to_string()));
    sources.composition.variables.insert("BASE".to_string(), Some("base".to_string()));
    let wanted = asked(&sources);
    assert_eq!(
        (wanted.variables.len(), wanted.files.into_iter().collect::<Vec<_>>()),
        (0, vec!["base.yaml".to_string()]),
        "secrets that are not used stay at home"
    );
    assert_eq!(asked(&Sources::alone("f", "machines: []")), Default::default());
}

#[test]
fn files_and_variables_are_gathered() {
    let outside = tempfile::tempdir().expect("a folder");
    let project = outside.path().join("project");
    std::fs::create_dir_all(project.join("net")).expect("made");
    let write = |path: &str, text: &str| std::fs::write(project.join(path), text).expect("written");
    write("net/lan.yaml", LAN);
    write(
        "web.yaml",
        "machines: [{name: web, network: [{switch: lan}], micro: {memory_mb: \"${MEM}\", environment: {A: \"${A}\", B: \"${B}\"}}}]\n",
    );
    write(".env", "MEM=200\nB=file\n# x\nA=${B}!\n");
    std::fs::write(outside.path().join("secret.yaml"), "password: hunter2\n").expect("written");
    std::os::unix::fs::symlink(outside.path().join("secret.yaml"), project.join("link.yaml")).expect("linked");
    std::os::unix::fs::symlink("net/lan.yaml", project.join("inner.yaml")).expect("linked");
    rustix::fs::mknodat(rustix::fs::CWD, project.join("fifo.yaml"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).expect("a fifo");
    std::fs::write(project.join("binary.yaml"), [0xff, 0xfe]).expect("written");
    std::fs::write(project.join("large.yaml"), vec![b'#'; (2 << 20) + 1]).expect("written");
    let environment = |name: &str| (name == "B").then(|| "environment".to_string());
    let gathered = |text: &str| gather(Sources::alone("f.yaml", text), &From { folder: &project, environment: &environment });

    let sources = gathered("include: [net/lan.yaml, web.yaml]\n");
    let guest = &good(&sources).topology.guests[0];
    assert_eq!((guest.memory_mb, guest.environment["A"].as_str(), guest.environment["B"].as_str()), (200, "environment!", "environment"));
    assert_eq!(sources.composition.files.len(), 2);
    assert_eq!(sources.composition.variables.keys().collect::<Vec<_>>(), ["A", "B", "MEM"]);
    assert!(!format!("{sources:?}").contains("environment!"), "values are not printed");
    // What travels is enough for whoever has neither the folder nor the environment.
    assert_eq!(
        good(&Sources { composition: sources.composition, ..Sources::alone("f.yaml", "include: [net/lan.yaml, web.yaml]\n") })
            .topology
            .guests
            .len(),
        1
    );

    assert_eq!(good(&gathered(&format!("include: inner.yaml\n{}", machine("{}").replace(LAN, "")))).topology.guests.len(), 1);
    for (file, code, words) in [
        ("gone.yaml", "E052", "no file `gone.yaml`"),
        ("link.yaml", "E053", "outside the project's folder"),
        ("fifo.yaml", "E052", "not a regular file"),
        ("net", "E052", "not a regular file"),
        ("binary.yaml", "E052", "not UTF-8"),
        ("large.yaml", "E052", "larger than 2 MiB"),
    ] {
        let fault = refused(&gathered(&format!("include: {file}")), code, "f.yaml:1:10", words);
        assert!(!format!("{fault:?}").contains("hunter2"));
    }
    write(".env", "A=1\nB-C=hunter2\n");
    let fault = refused(&gathered(&machine("{environment: {A: \"${A}\"}}")), "E057", ".env:2:1", "`B-C`");
    assert_eq!(fault.source, "", "its lines hold values");
    // Nobody reads it for a testbed without variables.
    good(&gathered(&machine("{}")));
}
