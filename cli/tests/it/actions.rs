//! `up` and its kin against a fake server: argv in; requests, output and exit status out.

use std::{
    io::{BufRead, BufReader, Read},
    process::Child,
    time::{Duration, Instant},
};

use crate::fake::{ACTION, Ending, FILE, Fake, Ran, Script, in_time, lab, ran, run, testbed, wire};
use kvm_compose::{
    error::{Code, Problem},
    orchestrate::event::EventKind,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

#[test]
fn up_hands_the_file_over_follows_and_shows_the_guests() {
    let fake = Fake::start(Script::up());
    let ran = fake.run(&["up", "web", "--provision"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("start/web: done in 34 ms"), "{ran:?}");
    assert!(!ran.stderr.contains("hello from a script"), "scripts' output is for -v");
    assert_eq!(
        ran.out(),
        "NAME  KIND   STATE    READY  HOST  ADDRESSES  CPUS  MEMORY\nweb   micro  running  yes    main  10.0.0.10  1     128 MiB\n"
    );

    let requests = fake.requests();
    let asked: Vec<&str> = requests.iter().map(|asked| asked.what.as_str()).collect();
    let uuid = ACTION.to_string();
    assert_eq!(
        asked,
        [
            "POST /api/deployments",
            "PUT /api/deployments/lab/yaml?file=kvm-compose.yaml",
            "POST /api/deployments/lab/action",
            &format!("GET /api/deployments/lab/logs/{uuid}/stream?format=events&from=0"),
            &format!("GET /api/deployments/lab/logs/{uuid}"),
            "GET /api/deployments/lab/state",
        ]
    );
    let created: Value = serde_json::from_str(&requests[0].body).expect("JSON");
    assert_eq!(created, json!({"name": "lab", "project_location": fake.project()}));
    assert_eq!(requests[1].body, FILE, "byte for byte");
    let action: Value = serde_json::from_str(&requests[2].body).expect("JSON");
    let expected = json!({"command": "up", "guests": ["web"], "provision": true, "rerun_scripts": false, "reapply_acl": false,
        "keep_on_failure": false});
    assert_eq!(action, expected);
}

#[test]
fn verbose_shows_what_scripts_print_and_quiet_shows_nothing() {
    let fake = Fake::start(Script::up());
    assert!(fake.run(&["up", "-v"]).stderr.contains("web: hello from a script"));
    let quiet = fake.run(&["up", "-q"]);
    assert_eq!((quiet.status, quiet.out(), quiet.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn a_known_deployment_is_used_and_told_where_its_project_is_now() {
    let mut script = Script::up();
    script.project_location = Some("/elsewhere".into());
    let fake = Fake::start(script);
    let ran = fake.run(&["up"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("warning: the project of `lab` was in `/elsewhere`"), "{ran:?}");
    assert!(fake.requests().iter().any(|asked| asked.what == "PUT /api/deployments/lab"));
}

#[test]
fn the_exit_status_is_the_failures() {
    let capacity = Problem::new(Code::Capacity, "guest `web` cannot be placed").hint("lower `memory_mb`");
    for (problem, status) in [(capacity, 1), (Problem::new(Code::ChecksFailed, "a check failed"), 7)] {
        let ran = Fake::start(Script::failing(problem.clone())).run(&["up"]);
        assert_eq!(ran.status, Some(status), "{ran:?}");
        assert!(ran.stderr.contains(&format!("error: {}\n", problem.message)), "{ran:?}");
        assert_eq!(ran.out(), "");
    }
}

#[test]
fn refusals_have_their_exit_status() {
    let busy = Problem::new(Code::Busy, "`lab` is busy with `down`").hint("its action is 123");
    let ran = Fake::start(Script { refusal: Some(busy), ..Script::up() }).run(&["up"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(4), "error: `lab` is busy with `down`\nhint: its action is 123\n"));

    let fake = Fake::start(Script { token: Some("secret"), ..Script::up() });
    let ran = fake.run(&["down"]);
    assert_eq!((ran.status, ran.stderr.contains("hint: set TESTBED_TOKEN")), (Some(6), true), "{ran:?}");
    let tcp = fake.tcp();
    let mut command = fake.testbed(&["--host", &tcp, "up"]);
    command.env("TESTBED_TOKEN", "secret");
    assert_eq!(run(command).status, Some(0), "the token opens REST and websocket");
    std::fs::write(fake.project().join("token"), "secret\n").expect("a file");
    assert_eq!(fake.run(&["--host", &tcp, "up", "--token-file", "token"]).status, Some(0));

    let ran = fake.run(&["-p", "nowhere", "--token-file", "/does/not/exist", "down"]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    let ran = Fake::start(Script::up()).run(&["-p", "nowhere", "down"]);
    assert_eq!(ran.status, Some(3), "{ran:?}");
}

#[test]
fn a_server_that_is_not_there_is_told_quickly() {
    let fake = Fake::start(Script::up());
    let begun = Instant::now();
    let absent = run(testbed(&fake.project(), &fake.project().join("none"), &["up", "-o", "json"]));
    assert_eq!(absent.status, Some(5), "{absent:?}");
    let problem: Value = serde_json::from_str(&absent.stderr).expect("errors are JSON as well");
    assert_eq!(problem["code"], "unavailable");
    // One that accepts and never answers: the connection's limit does not help, `--timeout` does.
    let listener = std::os::unix::net::UnixListener::bind(fake.project().join("mute")).expect("a socket");
    let mute = run(testbed(&fake.project(), &fake.project().join("mute"), &["--timeout", "1", "list"]));
    assert_eq!(mute.status, Some(5), "{mute:?}");
    drop(listener);
    assert!(begun.elapsed() < Duration::from_secs(6));
}

#[test]
fn a_file_with_faults_never_reaches_the_server() {
    let fake = Fake::start(Script::up());
    std::fs::write(fake.project().join("kvm-compose.yaml"), FILE.replace("ip:", "pi:").replace("micro", "mikro")).expect("a file");
    let ran = fake.run(&["up"]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("kvm-compose.yaml:3:5") && ran.stderr.contains("kvm-compose.yaml:4:"), "all faults: {ran:?}");
    assert_eq!(fake.requests(), []);
}

#[test]
fn json_shapes() {
    let fake = Fake::start(Script::up());
    let record = fake.run(&["up", "-o", "json"]);
    assert_eq!((record.json()["uuid"].as_str(), &record.json()["entry"]["state"]), (Some(&*ACTION.to_string()), &json!("succeeded")));
    assert_eq!(record.stderr, "");
    let events = fake.run(&["up", "-o", "ndjson"]);
    assert_eq!(events.out(), Script::up().text(true), "as they came");
    assert_eq!(fake.run(&["up", "--detach"]).out(), format!("{ACTION}\n"));
    assert_eq!(fake.run(&["up", "--detach", "-o", "json"]).json(), json!({"uuid": ACTION}));

    let failed = Fake::start(Script::failing(Problem::new(Code::Capacity, "no room"))).run(&["up", "-o", "json"]);
    assert_eq!((failed.status, &failed.json()["entry"]["error_code"]), (Some(1), &json!(50)));
    let problem: Value = serde_json::from_str(&failed.stderr).expect("one JSON document");
    assert_eq!(problem["code"], "capacity");
}

#[test]
fn a_plan_is_printed() {
    let mut script = Script::up();
    script.entry.result = Some(json!({"deployment": "lab", "offline": false, "network": ["+ switch/lan"],
        "steps": [{"id": "start/web", "what": "start the guest", "reason": "new", "impact": "create", "host": "main", "guests": ["web"]}],
        "placement": [{"guest": "web", "host": "main", "why": "the only host"}]}));
    let fake = Fake::start(script);
    for args in [&["plan"][..], &["up", "--dry-run"]] {
        let ran = fake.run(args);
        assert!(ran.out().contains("start/web  start the guest  new     create"), "{ran:?}");
        assert!(ran.out().contains("+ switch/lan") && ran.out().contains("web on main: the only host"), "{ran:?}");
    }
    assert_eq!(fake.run(&["plan", "-o", "json"]).json()["steps"][0]["id"], "start/web");
    let asked: Vec<_> = fake.requests().into_iter().filter(|asked| asked.what.ends_with("/action")).collect();
    for asked in asked {
        let body: Value = serde_json::from_str(&asked.body).expect("JSON");
        let draft = json!({"text": FILE, "file": "kvm-compose.yaml", "project_location": fake.project()});
        assert_eq!((&body["command"], &body["draft"]), (&json!("plan"), &draft));
    }
    let kept = fake.requests().into_iter().filter(|asked| asked.what.starts_with("PUT") || asked.what == "POST /api/deployments");
    assert_eq!(kept.count(), 0, "a plan stores nothing");
}

#[test]
fn no_line_is_lost_or_doubled_by_cuts_within_lines() {
    let mut script = Script::up();
    for number in 0..30 {
        let text = format!("line {number} {}", "é".repeat(number * 3));
        script.events.insert(6, kvm_compose::orchestrate::event::EventKind::Line { guest: None, text });
    }
    for journal in [true, false] {
        let expected = script.text(journal);
        let longest = expected.lines().map(str::len).max().unwrap_or_default() as u64;
        let fake = Fake::start(script.clone());
        // The handshake's answer has about 130 bytes. Each connection gets at least a line through, and is cut within one.
        let budgets: Vec<u64> = (0..8).map(|round| 140 + longest + 37 * round).collect();
        let cuts = budgets.len();
        let socket = wire::cutting(&fake, budgets);
        let args: &[&str] = if journal { &["up", "-o", "ndjson"] } else { &["logs", "-f"] };
        let ran = run(testbed(&fake.project(), &socket, args));
        assert_eq!(ran.status, Some(0), "{ran:?}");
        assert_eq!(ran.out(), expected);
        let streams = fake.requests().into_iter().filter(|asked| asked.what.contains("/stream?")).count();
        assert_eq!(streams, cuts + 1, "every cut was one");
    }
}

#[test]
fn ctrl_c_cancels_and_follows_the_unwinding() {
    let fake = Fake::start(Script::endless(Ending::OnCancel));
    let mut child = fake.testbed(&["up"]).spawn().expect("the command starts");
    let stderr = wait_for_line(&mut child, "start/web: started");
    interrupt(&child);
    let ran = with_rest(child, stderr);
    assert_eq!(ran.status, Some(130), "{ran:?}");
    assert!(ran.stderr.contains("cancelled in 0.0 s"), "the unwinding is shown: {ran:?}");
    assert!(
        ran.stderr.ends_with("everything that this `up` had made is removed again (1 undone)\nerror: the action was cancelled\n"),
        "{ran:?}"
    );
    fake.wait_for(&format!("DELETE /api/deployments/lab/action/{ACTION}"));
}

#[test]
fn what_could_not_be_removed_is_named() {
    let problem = Problem::new(Code::GuestNotReady, "`web` is not ready");
    let mut script = Script::failing(problem.clone());
    let last = script.events.pop().expect("an event");
    script.events.extend([
        EventKind::Unwinding { steps: 2 },
        EventKind::UndoFailed { step: "start/web".into(), problem: Problem::new(Code::Libvirt, "libvirt is away") },
        EventKind::UndoDone { step: "network".into() },
        last,
    ]);
    let ran = Fake::start(script).run(&["up"]);
    assert!(ran.stderr.contains("not removed: start/web; `testbed down` removes the rest\nerror: "), "{ran:?}");
}

#[test]
fn ctrl_c_that_comes_too_late_still_counts() {
    let fake = Fake::start(Script { ending: Ending::OnCancel, ..Script::up() });
    let mut child = fake.testbed(&["up"]).spawn().expect("the command starts");
    let stderr = wait_for_line(&mut child, "start/web: done");
    interrupt(&child);
    let ran = with_rest(child, stderr);
    assert_eq!(ran.status, Some(130), "{ran:?}");
    assert!(ran.stderr.ends_with("error: `up` was done before it could be cancelled\n"), "{ran:?}");
}

#[test]
fn a_second_ctrl_c_stops_following_only() {
    let fake = Fake::start(Script::endless(Ending::Never));
    let mut child = fake.testbed(&["up"]).spawn().expect("the command starts");
    let stderr = wait_for_line(&mut child, "start/web: started");
    interrupt(&child);
    fake.wait_for(&format!("DELETE /api/deployments/lab/action/{ACTION}"));
    interrupt(&child);
    let ran = with_rest(child, stderr);
    assert_eq!(ran.status, Some(130), "{ran:?}");
    assert!(ran.stderr.contains(&format!("testbed logs -f {ACTION}")), "{ran:?}");
}

#[test]
fn a_server_that_is_gone_is_not_waited_for_long_and_told() {
    let fake = Fake::start(Script::endless(Ending::Never));
    // What `kill -9` leaves: a socket on which nobody listens.
    let socket = wire::dying(&fake);
    let mut child = testbed(&fake.project(), &socket, &["up"]).spawn().expect("the command starts");
    let begun = Instant::now();
    let stderr = wait_for_line(&mut child, "plan: 2 steps");
    let ran = with_rest(child, stderr);
    assert_eq!(ran.status, Some(5), "{ran:?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "it took {:?}", begun.elapsed());
    let told = [
        "the connection to the server was lost; trying again for a minute at most\n",
        " is gone, and the action with it\n",
        "the same command completes",
    ];
    for words in told {
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
    }
    assert!(!ran.stderr.contains("goes on"), "{ran:?}");
}

#[test]
fn an_action_out_of_time_is_cancelled() {
    let fake = Fake::start(Script::endless(Ending::OnCancel));
    let ran = fake.run(&["up", "--timeout", "1"]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("error: `up` took longer than 1 s and was cancelled"), "{ran:?}");
}

#[test]
fn an_action_is_followed_to_its_end_although_nobody_reads() {
    let fake = Fake::start(Script::failing(Problem::new(Code::Capacity, "no room")));
    let mut child = fake.testbed(&["up", "-o", "ndjson"]).spawn().expect("the command starts");
    drop(child.stdout.take());
    let ran = ran(child);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{ran:?}");
}

#[test]
fn down_needs_no_file() {
    let mut script = Script::up();
    script.events[0] = kvm_compose::orchestrate::event::EventKind::Started { command: "down".into() };
    let fake = Fake::start(script);
    std::fs::remove_file(fake.project().join("kvm-compose.yaml")).expect("it is there");
    let ran = fake.run(&["down", "--volumes", "-p", lab().as_str()]);
    assert_eq!((ran.status, ran.out()), (Some(0), "`lab` is down\n"), "{ran:?}");
    assert_eq!(fake.requests()[0].body, r#"{"command":"down"}"#);
    let ran = fake.run(&["down"]);
    assert_eq!((ran.status, ran.stderr.contains("--project-name")), (Some(3), true), "{ran:?}");
}

/// Reads the command's messages until one holds `text`; gives them back, and the reader with what is to come.
fn wait_for_line(child: &mut Child, text: &str) -> (String, BufReader<std::process::ChildStderr>) {
    let mut reader = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut read = String::new();
    while !read.contains(text) {
        assert_ne!(reader.read_line(&mut read).expect("UTF-8"), 0, "it ended early: {read}");
    }
    (read, reader)
}

fn with_rest(child: Child, (mut read, mut reader): (String, BufReader<std::process::ChildStderr>)) -> Ran {
    let stderr = in_time(move || reader.read_to_string(&mut read).map(|_| read));
    Ran { stderr: stderr.expect("UTF-8"), ..ran(child) }
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).expect("the command runs");
}
