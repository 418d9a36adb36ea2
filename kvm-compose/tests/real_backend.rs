//! The local host on the real parts: what it makes works, what it removes is gone, what is not its own stays.
//!
//! Needs libvirt, OVN and Open vSwitch (`./setup.sh services start`). No test needs KVM.
#![cfg(feature = "libvirt")]

mod real;

use std::time::{Duration, Instant};

use kvm_compose::{
    backend::local::Purpose,
    backend::network::ovsdb::Database,
    error::{Code, Problem},
    orchestrate::host::Cancel,
    plan::{
        blueprint::{Column, Domain, ReadyCondition, RowKey, Table},
        observed::{Observed, OnHost},
        step::{NetworkChange, RowDelete, RowUpdate, Work},
    },
};
use real::{Lab, PAIR, SINGLE};
use serde_json::json;

#[test]
fn a_testbed_comes_up_works_and_leaves_nothing() {
    let lab = Lab::new("pair");
    let blueprint = lab.blueprint(PAIR);
    assert_eq!(lab.observe(Some(&blueprint)), Observed::default());

    lab.up(&blueprint).expect("up");
    assert_eq!(lab.plan(&blueprint), [""; 0], "nothing is left to do");
    let observed = lab.observe(Some(&blueprint));
    assert_eq!(observed.rows.len(), blueprint.rows.len());
    assert!(observed.domains.iter().all(|domain| domain.active && domain.agent && domain.state == "running"), "{observed:?}");
    assert_eq!(observed.bridge_ports.len(), 2);

    let address = lab.exec("client", &["ip", "-4", "-o", "addr", "show", "dev", "eth0"]);
    assert!(String::from_utf8_lossy(&address.stdout).contains("10.0.1.100/24"), "DHCP gives what was planned: {address:?}");
    let ping = lab.exec("client", &["ping", "-c", "3", "-W", "5", "10.0.2.10"]);
    assert_eq!(ping.status, 0, "through the router: {ping:?}");
    let page = lab.exec("client", &["wget", "-q", "-O", "-", "http://10.0.2.10/"]);
    assert_eq!(page.status, 0, "TCP through the router: {page:?}");
    assert!(!page.stdout.is_empty());

    let deployment = lab.deployment.clone();
    assert!(lab.host.marked().expect("answers").iter().all(|(_, of)| *of == deployment));
    lab.down().expect("down");
    assert_eq!(lab.observe(Some(&blueprint)), Observed::default());
    assert_eq!(lab.host.marked().expect("answers"), []);
    assert!(!blueprint.folder.exists());
}

#[test]
fn every_step_may_be_repeated_and_so_may_every_removal() {
    let lab = Lab::new("twice");
    let blueprint = lab.blueprint(SINGLE);
    let (guest, box_) = (&blueprint.guests[0], "box");
    let insert = NetworkChange { insert: blueprint.rows.clone(), ..Default::default() };
    let network = Work::Network { change: insert };
    let start = Work::StartDomain { domain: guest.domain.clone() };
    let ready = Work::AwaitReady {
        guest: guest.name.clone(),
        domain: guest.domain.name.clone(),
        uuid: guest.domain.uuid,
        ready: guest.ready.clone(),
        console_log: guest.domain.console_log.clone(),
        runtime: Default::default(),
    };
    let seed = Work::WriteSeed { seed: guest.seed.clone().expect("a seed") };
    for work in [&network, &network, &seed, &seed, &start, &start, &ready, &ready] {
        lab.apply(work).expect("done");
    }
    let observed = lab.observe(Some(&blueprint));
    assert_eq!((observed.rows.len(), observed.domains.len(), observed.bridge_ports.len()), (blueprint.rows.len(), 1, 1));
    assert_eq!(lab.exec(box_, &["hostname"]).stdout, b"box\n");

    let stop = Work::StopDomain { name: guest.domain.name.clone(), uuid: guest.domain.uuid, runtime: Default::default() };
    lab.apply(&stop).expect("stopped");
    lab.apply(&stop).expect("stopped already");
    assert_eq!(lab.observe(None).domains[0].state, "shut off");
    lab.apply(&start).expect("started again");
    let remove = Work::RemoveDomain { name: guest.domain.name.clone(), uuid: guest.domain.uuid, runtime: Default::default() };
    let undo = network.undo().expect("an undo");
    let file = Work::RemoveFile { path: guest.seed.clone().expect("a seed").path };
    let log = Work::RemoveFile { path: guest.domain.console_log.clone() };
    for work in [&remove, &remove, &undo, &undo, &file, &file, &log] {
        lab.apply(work).expect("done");
    }
    assert_eq!(lab.observe(Some(&blueprint)), Observed::default());
}

#[test]
fn a_killed_guest_is_seen_and_brought_back() {
    let lab = Lab::new("killed");
    let blueprint = lab.blueprint(SINGLE);
    lab.up(&blueprint).expect("up");
    kill_emulator(&blueprint.guests[0].domain.uuid.to_string());
    let begun = Instant::now();
    let observed = loop {
        let observed = lab.observe(Some(&blueprint));
        if !observed.domains[0].active {
            break observed;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "libvirt does not see it: {:?}", observed.domains);
    };
    assert!(!observed.domains[0].agent);
    let problem = lab.try_exec("box", &["true"], b"", 5, &Cancel::new()).expect_err("it does not run");
    assert_eq!(problem.code, Code::AgentUnavailable, "{problem:?}");
    let begun = Instant::now();
    let problem = lab.apply(&await_ready(&blueprint, 60)).expect_err("it does not run");
    assert_eq!(problem.code, Code::GuestNotReady);
    assert!(begun.elapsed() < Duration::from_secs(5), "a guest that ended is not waited for");
    for OnHost { what: port, .. } in observed.bridge_ports {
        lab.apply(&Work::RemoveBridgePort { port: port.clone() }).expect("unplugged");
        lab.apply(&Work::RemoveBridgePort { port }).expect("gone already");
    }
    lab.up(&blueprint).expect("up again");
    assert_eq!(lab.exec("box", &["true"]).status, 0);
    let port = lab.observe(Some(&blueprint)).bridge_ports.remove(0).what;
    assert_eq!(lab.apply(&Work::RemoveBridgePort { port }).expect_err("in use").code, Code::Conflict);
}

#[test]
fn strangers_are_seen_and_never_touched() {
    let lab = Lab::new("stranger");
    let blueprint = lab.blueprint(SINGLE);
    let domain = &blueprint.guests[0].domain;
    let stranger = Stranger::define(&domain.name);
    let port = blueprint.guests[0].domain.nics[0].port.to_string();
    let row = strange_row(&lab, &port);

    let strangers = lab.observe(Some(&blueprint)).strangers;
    let kinds: Vec<&str> = strangers.iter().map(|stranger| stranger.kind.as_str()).collect();
    assert_eq!(kinds, ["port", "domain"], "{strangers:?}");
    let start = Work::StartDomain { domain: domain.clone() };
    let problem = lab.apply(&start).expect_err("a stranger");
    assert_eq!(problem.code, Code::Conflict);
    assert!(problem.hint.is_some_and(|hint| hint.contains("virsh dumpxml")));
    let change = NetworkChange { insert: blueprint.rows.clone(), ..Default::default() };
    let problem = lab.apply(&Work::Network { change }).expect_err("its name is taken");
    assert_eq!(problem.code, Code::Ovn);
    assert!(problem.causes.concat().contains("constraint violation"), "{problem:?}");
    assert!(lab.observe(None).rows.is_empty(), "one transaction: all or nothing");
    for work in [
        Work::RemoveDomain { name: domain.name.clone(), uuid: stranger.uuid, runtime: Default::default() },
        Work::StopDomain { name: domain.name.clone(), uuid: stranger.uuid, runtime: Default::default() },
    ] {
        assert_eq!(lab.apply(&work).expect_err("not ours").code, Code::Conflict);
    }
    lab.apply(&Work::RemoveDomain { name: domain.name.clone(), uuid: domain.uuid, runtime: Default::default() })
        .expect("ours is not there");
    assert!(stranger.is_there());
    drop(row);
}

#[test]
fn another_definition_of_our_own_domain_is_a_conflict() {
    let lab = Lab::new("digest");
    let blueprint = lab.blueprint(SINGLE);
    let mut domain = Domain::clone(&blueprint.guests[0].domain);
    lab.up(&blueprint).expect("up");
    domain.digest = "0".repeat(64);
    let problem = lab.apply(&Work::StartDomain { domain: domain.into() }).expect_err("another digest");
    assert_eq!(problem.code, Code::Conflict);
}

#[test]
fn a_change_of_the_network_reads_back_as_written_and_can_be_undone() {
    let lab = Lab::new("rows");
    let blueprint = lab.blueprint(PAIR);
    let change = NetworkChange { insert: blueprint.rows.clone(), ..Default::default() };
    lab.apply(&Work::Network { change }).expect("made");
    let observed = lab.observe(Some(&blueprint));
    for row in &blueprint.rows {
        let seen = observed.rows.iter().find(|seen| seen.key == row.key).expect("there");
        assert_eq!((seen.table, seen.parent.as_ref()), (row.table, row.parent.as_ref().map(|(parent, _)| parent)), "{}", row.key);
        for (column, value) in &row.columns {
            assert_eq!(seen.columns.get(column), Some(value), "{} {column}", row.key);
        }
    }
    let leases = lab
        .host
        .prepare(&lab.deployment, &kvm_compose::spec::Sources::alone("f", PAIR), lab.data.path(), Purpose::Looking, || {
            lab.host.alone(&lab.deployment)
        })
        .map(|prepared| prepared.blueprint);
    assert_eq!(leases.as_ref(), Ok(&blueprint), "addresses stay where they are");

    let key = RowKey("port/web/0".to_string());
    let set = |address: &str| [("addresses".to_string(), Column::Set(vec![address.to_string()]))].into();
    let old = observed.rows.iter().find(|row| row.key == key).expect("there").columns["addresses"].clone();
    let from = [("addresses".to_string(), old.clone())].into();
    let update = RowUpdate { key: key.clone(), table: Table::LogicalSwitchPort, to: set("02:00:00:00:00:01 10.0.2.99"), from, moved: None };
    let work = Work::Network { change: NetworkChange { update: vec![update], ..Default::default() } };
    lab.apply(&work).expect("updated");
    let addresses = || lab.observe(None).rows.into_iter().find(|row| row.key == key).expect("there").columns["addresses"].clone();
    assert_eq!(addresses(), Column::Set(vec!["02:00:00:00:00:01 10.0.2.99".to_string()]));
    lab.apply(&work.undo().expect("an undo")).expect("undone");
    assert_eq!(addresses(), old);

    // A port that moves to another switch is deleted and inserted in one change, also twice.
    let mut moved = blueprint.rows.iter().find(|row| row.key == key).expect("wanted").clone();
    moved.parent = Some((RowKey("switch/clients".to_string()), "ports".to_string()));
    let delete = vec![RowDelete { key: key.clone(), table: moved.table, parent: None, was: None }];
    let work = Work::Network { change: NetworkChange { insert: vec![moved.clone()], delete, ..Default::default() } };
    for _ in 0..2 {
        lab.apply(&work).expect("moved");
        let rows = lab.observe(None).rows;
        let there: Vec<_> = rows.iter().filter(|row| row.key == key).map(|row| row.parent.clone()).collect();
        assert_eq!(there, [moved.parent.clone().map(|(parent, _)| parent)]);
    }

    let orphan = NetworkChange {
        delete: vec![RowDelete { key: RowKey("switch/servers".into()), table: Table::LogicalSwitch, parent: None, was: None }],
        ..Default::default()
    };
    lab.apply(&Work::Network { change: orphan.clone() }).expect("a switch takes its ports along");
    lab.apply(&Work::Network { change: orphan }).expect("gone already");
    let update = RowUpdate { key: RowKey("switch/servers".into()), table: Table::LogicalSwitch, to: set("x"), from: set("x"), moved: None };
    let gone = lab.apply(&Work::Network { change: NetworkChange { update: vec![update], ..Default::default() } });
    assert_eq!(gone.expect_err("gone").code, Code::Ovn);
}

#[test]
fn commands_in_a_guest_end_as_they_should() {
    let lab = Lab::new("exec");
    lab.up(&lab.blueprint(SINGLE)).expect("up");
    let sh = |script: &str| lab.exec("box", &["sh", "-c", script]);
    let ended = sh("echo out; echo err >&2; exit 3");
    assert_eq!((ended.status, &ended.stdout[..], &ended.stderr[..]), (3, &b"out\n"[..], &b"err\n"[..]));
    assert_eq!(sh("kill -TERM $$").status, 128 + 15);
    let missing = lab.exec("box", &["no-such-program"]);
    assert_eq!(missing.status, 127);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-program"));
    let echoed = lab.try_exec("box", &["cat"], b"\0\xffbytes", 30, &Cancel::new()).expect("answers");
    assert_eq!(echoed.stdout, b"\0\xffbytes");
    assert_eq!(sh("head -c 1000000 /dev/zero").stdout.len(), 1_000_000);

    let begun = Instant::now();
    let problem = lab.try_exec("box", &["sleep", "4000"], b"", 1, &Cancel::new()).expect_err("late");
    assert_eq!(problem.code, Code::Timeout);
    assert!(begun.elapsed() < Duration::from_secs(20));
    let cancel = Cancel::new();
    let problem = std::thread::scope(|scope| {
        let running = scope.spawn(|| lab.try_exec("box", &["sleep", "5000"], b"", 600, &cancel));
        cancel.cancel();
        running.join().expect("no panic").expect_err("cancelled")
    });
    assert_eq!(problem.code, Code::Cancelled);
    let left = sh("ps | grep -E 'sleep (4000|5000)' | grep -v grep");
    assert_eq!(left.stdout, b"", "what was given up was killed");

    // More than libvirt passes on is a problem in words, and the agent still answers afterwards.
    match lab.try_exec("box", &["head", "-c", "6000000", "/dev/zero"], b"", 120, &Cancel::new()) {
        Err(problem) => assert_eq!(problem.code, Code::CommandFailed, "{problem:?}"),
        Ok(ended) => assert!(ended.truncated || ended.stdout.len() == 6_000_000),
    }
    assert_eq!(sh("true").status, 0);
    let none = lab.try_exec("nobody", &["true"], b"", 5, &Cancel::new()).expect_err("no such guest");
    assert_eq!(none.code, Code::NotFound);
}

#[test]
fn scripts_run_once_with_the_testbeds_variables_and_say_what_they_print() {
    let lab = Lab::new("script");
    lab.project_file("setup.sh", "#!/bin/sh\nset -eu\necho \"setup says $GREETING\"\necho again >> /tmp/count\n");
    lab.project_file("bad.sh", "echo before\necho because >&2\nexit 7\n");
    let yaml = |script: &str| {
        SINGLE.replace(
            "    micro: {}\n",
            &format!("    micro:\n      environment: {{GREETING: \"it's \\\"me\\\"\"}}\n      setup_script: {script}\n"),
        )
    };
    let blueprint = lab.blueprint(&yaml("setup.sh"));
    lab.up(&blueprint).expect("up");
    assert!(lab.lines().iter().any(|line| line.contains("setup says it's \"me\"")), "{:?}", lab.lines());
    assert_eq!(lab.plan(&blueprint), [""; 0], "it has run");
    let guest = &blueprint.guests[0];
    let again = |rerun| Work::RunScript { guest: guest.name.clone(), uuid: guest.domain.uuid, script: guest.scripts[0].clone(), rerun };
    lab.apply(&again(false)).expect("skipped");
    assert_eq!(lab.exec("box", &["cat", "/tmp/count"]).stdout, b"again\n");
    lab.apply(&again(true)).expect("run again");
    assert_eq!(lab.exec("box", &["cat", "/tmp/count"]).stdout, b"again\nagain\n");

    let bad = lab.blueprint(&yaml("bad.sh"));
    let script = bad.guests[0].scripts[0].clone();
    let work = Work::RunScript { guest: guest.name.clone(), uuid: guest.domain.uuid, script, rerun: false };
    let problem = lab.apply(&work).expect_err("status 7");
    assert_eq!((problem.code, &problem.causes[..]), (Code::ScriptFailed, &["because".to_string()][..]));
    assert!(problem.message.contains("bad.sh") && problem.message.contains("status 7"), "{problem:?}");
    assert!(lab.lines().iter().any(|line| line == "before"));
    assert!(!lab.plan(&bad).is_empty(), "a failed script has not run");
}

#[test]
fn a_guest_that_is_late_is_a_problem_that_says_what_was_seen() {
    let lab = Lab::new("late");
    let mut blueprint = lab.blueprint(SINGLE);
    blueprint.guests[0].ready.condition = ReadyCondition::Agent;
    let change = NetworkChange { insert: blueprint.rows.clone(), ..Default::default() };
    lab.apply(&Work::Network { change }).expect("made");
    lab.apply(&Work::WriteSeed { seed: blueprint.guests[0].seed.clone().expect("a seed") }).expect("written");
    lab.apply(&Work::StartDomain { domain: blueprint.guests[0].domain.clone() }).expect("started");
    let problem = lab.apply(&await_ready(&blueprint, 0)).expect_err("it has only just started");
    assert_eq!(problem.code, Code::GuestNotReady);
    assert!(problem.message.contains("waited 0 s until the guest agent answers; last seen: "), "{problem:?}");

    let (cancel, begun) = (Cancel::new(), Instant::now());
    cancel.cancel();
    assert_eq!(lab.apply_until(&await_ready(&blueprint, 600), &cancel).expect_err("cancelled").code, Code::Cancelled);
    assert!(begun.elapsed() < Duration::from_secs(5));
    lab.apply(&await_ready(&blueprint, 120)).expect("ready in the end");
    let log = std::fs::metadata(&blueprint.guests[0].domain.console_log).expect("a console log");
    assert!(log.is_file());
}

#[test]
fn a_part_that_is_down_is_a_problem_with_a_hint_and_never_an_empty_world() {
    let lab = Lab::new("parts");
    let with = |change: &dyn Fn(&mut kvm_compose::backend::local::LocalConfig)| {
        let mut config = lab.config.clone();
        change(&mut config);
        kvm_compose::backend::local::LocalHost::new(config)
    };
    let nowhere = || lab.data.path().join("nowhere.sock");
    let uri = format!("qemu+unix:///system?socket={}", nowhere().display());
    let hosts = [
        (Code::Libvirt, with(&|config| config.libvirt_uri = uri.clone())),
        (Code::Ovn, with(&|config| config.ovn_nb = nowhere())),
        (Code::Ovn, with(&|config| config.ovs_db = nowhere())),
    ];
    for (code, host) in hosts {
        use kvm_compose::orchestrate::host::Host;
        let problem: Problem = host.observe(&lab.deployment, None).expect_err("a part is down");
        assert_eq!(problem.code, code);
        assert!(problem.hint.is_some_and(|hint| hint.contains("doctor")));
        let failed: Vec<String> = host.checks().into_iter().filter(|check| check.required && !check.ok).map(|check| check.part).collect();
        assert_eq!(failed.len(), 1, "{failed:?}");
    }
    let checks = lab.host.checks();
    assert!(checks.iter().all(|check| check.ok || (!check.required && check.fix.is_some())), "{checks:#?}");
}

fn await_ready(blueprint: &kvm_compose::plan::blueprint::Blueprint, timeout_s: u64) -> Work {
    let guest = &blueprint.guests[0];
    let mut ready = guest.ready.clone();
    ready.timeout_s = timeout_s;
    Work::AwaitReady {
        guest: guest.name.clone(),
        domain: guest.domain.name.clone(),
        uuid: guest.domain.uuid,
        ready,
        console_log: guest.domain.console_log.clone(),
        runtime: Default::default(),
    }
}

/// `kill -9` of the QEMU whose arguments hold `uuid`.
fn kill_emulator(uuid: &str) {
    let processes = std::fs::read_dir("/proc").expect("procfs").filter_map(Result::ok);
    let is_it = |path: &std::path::Path| {
        let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        command.contains("qemu-system") && command.contains(uuid)
    };
    let found: Vec<i32> =
        processes.filter(|entry| is_it(&entry.path())).filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    assert_eq!(found.len(), 1, "one QEMU has this uuid");
    let pid = rustix::process::Pid::from_raw(found[0]).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
}

/// A domain of somebody else, as virsh(1) makes one.
struct Stranger {
    uuid: uuid::Uuid,
}

impl Stranger {
    fn define(name: &str) -> Self {
        let uuid = uuid::Uuid::new_v4();
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>16</memory><os><type arch='x86_64'>hvm</type></os></domain>"
        );
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), xml).expect("written");
        assert!(virsh(&["define", file.path().to_str().expect("UTF-8")]));
        Stranger { uuid }
    }

    fn is_there(&self) -> bool {
        virsh(&["domstate", &self.uuid.to_string()])
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        virsh(&["undefine", &self.uuid.to_string()]);
    }
}

fn virsh(arguments: &[&str]) -> bool {
    let uri = std::env::var("TESTBEDOS_LIBVIRT_URI").unwrap_or_else(|_| "qemu:///system".to_string());
    std::process::Command::new("virsh").args(["-q", "-c", &uri]).args(arguments).output().expect("virsh").status.success()
}

/// A switch of somebody else with a port of the given name; taken away when dropped.
fn strange_row(lab: &Lab, port: &str) -> impl Drop + use<> {
    struct Row(Database, String);
    impl Drop for Row {
        fn drop(&mut self) {
            let gone = vec![json!({"op": "delete", "table": "Logical_Switch", "where": [["name", "==", self.1]]})];
            self.0.open().expect("answers").transact(gone).expect("answers").expect("deleted");
        }
    }
    let database = Database::northbound(&lab.config.ovn_nb);
    let name = format!("stranger-{}", lab.deployment);
    let made = vec![
        json!({"op": "insert", "table": "Logical_Switch_Port", "row": {"name": port}, "uuid-name": "p"}),
        json!({"op": "insert", "table": "Logical_Switch", "row": {"name": name, "ports": ["set", [["named-uuid", "p"]]]}}),
    ];
    database.open().expect("answers").transact(made).expect("answers").expect("made");
    Row(database, name)
}
