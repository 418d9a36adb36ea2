//! Testbeds of several files, with variables and `--set`: every command that reads one agrees, and the server gets all of it.

use std::fs;

use serde_json::{Value, json};

use crate::fake::{Fake, Ran, Script, run};

const MAIN: &str = "\
include: [net/lan.yaml]
machines:
  - name: web
    network: [{switch: lan, ip: 10.0.0.10}]
    micro:
      memory_mb: ${MEM:-128}
      environment: {TOKEN: \"${TOKEN}\"}
";

fn project() -> Fake {
    let fake = Fake::start(Script::up());
    let folder = fake.project();
    fs::create_dir(folder.join("net")).expect("a folder");
    fs::write(folder.join("kvm-compose.yaml"), MAIN).expect("written");
    fs::write(folder.join("net/lan.yaml"), "network: {ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}\n").expect("written");
    fs::write(folder.join(".env"), "TOKEN=from-file\nMEM=200\n").expect("written");
    fake
}

fn with(fake: &Fake, args: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = fake.testbed(args);
    command.envs(variables.iter().copied());
    run(command)
}

#[test]
fn every_command_reads_the_same_testbed() {
    let fake = project();
    let set = ["--set", "machines.web.micro.cpus=3", "--set", "network.ovn.switches.wan.subnet=10.9.0.0/24"];
    let args = |rest: &[&'static str]| [rest, &set[..]].concat();
    let environment = [("TOKEN", "hunter2"), ("UNUSED", "stays at home")];

    let valid = with(&fake, &args(&["validate", "-o", "json"]), &environment).json();
    assert_eq!((&valid["guests"], &valid["switches"]), (&json!(1), &json!(2)));
    let config = with(&fake, &args(&["config", "-o", "json"]), &environment).json();
    let micro = &config["machines"][0]["micro"];
    assert_eq!((&micro["memory_mb"], &micro["cpus"], &micro["environment"]["TOKEN"]), (&json!(200), &json!(3), &json!("hunter2")));
    let offline = with(&fake, &args(&["plan", "--offline", "-o", "json"]), &environment).json();
    assert!(offline["network"].to_string().contains("wan"), "{offline}");

    let up = with(&fake, &args(&["up", "-q"]), &environment);
    assert_eq!(up.status, Some(0), "{up:?}");
    let sent = fake.requests().into_iter().find(|asked| asked.what.starts_with("PUT ")).expect("a testbed");
    let draft: Value = serde_json::from_str(&sent.body).expect("JSON");
    let whole = json!({
        "text": MAIN, "file": "kvm-compose.yaml",
        "composition": {
            "files": {"net/lan.yaml": "network: {ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}\n"},
            "variables": {"MEM": "200", "TOKEN": "hunter2"},
            "set": ["machines.web.micro.cpus=3", "network.ovn.switches.wan.subnet=10.9.0.0/24"],
        },
    });
    assert_eq!(draft, whole);
    with(&fake, &args(&["plan"]), &environment);
    let asked = fake.requests().into_iter().rev().find(|asked| asked.what.ends_with("/action")).expect("a plan");
    let plan: Value = serde_json::from_str(&asked.body).expect("JSON");
    assert_eq!(plan["draft"]["composition"], whole["composition"]);

    // The resolved file is one file, and means the same.
    let yaml = with(&fake, &args(&["config"]), &environment);
    fs::write(fake.project().join("whole.yaml"), &yaml.stdout).expect("written");
    let again = with(&fake, &["-f", "whole.yaml", "config", "-o", "json"], &[]).json();
    assert_eq!(again, config);
}

#[test]
fn faults_name_the_file_the_option_or_the_variable() {
    let fake = project();
    let ran = with(&fake, &["validate"], &[("MEM", "much"), ("TOKEN", "hunter2")]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("--> kvm-compose.yaml:6:18") && ran.stderr.contains("here is `${MEM:-128}`"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("much") && !ran.stderr.contains("hunter2"), "{}", ran.stderr);

    let ran = with(&fake, &["validate", "--set", "machines.wbe.micro.cpus=3"], &[]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("--> --set:1:10") && ran.stderr.contains("did you mean `web`?"), "{}", ran.stderr);

    fs::write(fake.project().join("net/lan.yaml"), "network: {ovn: {switches: {lan: {subnet: 10.0.0.0}}}}\n").expect("written");
    let ran = with(&fake, &["-f", "../lab/kvm-compose.yaml", "validate"], &[]);
    assert!(ran.stderr.contains("--> ../lab/net/lan.yaml:1:42"), "{}", ran.stderr);
    assert_eq!(with(&fake, &["up"], &[]).status, Some(2));
    assert_eq!(fake.requests(), [], "a faulty testbed never leaves");

    let nowhere = tempfile::tempdir().expect("a folder");
    let ran = run({
        let mut command = fake.testbed(&["up", "-p", "lab", "--set", "a=b"]);
        command.current_dir(nowhere.path());
        command
    });
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("`--set a=b` needs a testbed file"), "{}", ran.stderr);
}
