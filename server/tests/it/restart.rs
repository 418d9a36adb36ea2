//! `kill -9` at any moment, torn journals, two servers on one folder, signals.

use std::{
    fs,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    child::Server,
    lab::{DOWN, Lab, UP},
};

const KILLS: u32 = 50;
const STEPS: usize = 30;

fn act(server: &Server, request: &str) -> String {
    let answer = server.client().post("/api/deployments/lab/action", request).expect(202);
    answer.json()["uuid"].as_str().expect("a uuid").to_string()
}

fn complete(server: &Server, request: &str) {
    let uuid = act(server, request);
    let (_, why) = server.client().follow(&format!("/api/deployments/lab/logs/{uuid}/stream")).until_end();
    assert_eq!(why, "state=succeeded error_code=0");
}

fn things(folder: &tempfile::TempDir) -> usize {
    fs::read_dir(folder.path().join("world/lab")).map_or(0, Iterator::count)
}

/// Starts an action, kills the server when the world has come to `moment`, looks at what the next one says.
fn interrupted(server: Server, request: &str, at: impl Fn(usize) -> bool) -> (Server, bool) {
    let uuid = act(&server, request);
    let folder = server.folder.clone();
    while !at(things(&folder)) {
        std::hint::spin_loop();
    }
    let server = Server::start(server.kill());
    let entry = server.client().get(&format!("/api/deployments/lab/logs/{uuid}")).expect(200).json()["entry"].clone();
    let open = entry["state"] == "interrupted";
    if open {
        assert_eq!((&entry["error_code"], &entry["problem"]["code"]), (&81.into(), &"interrupted".into()));
        let shown = server.client().get("/api/deployments/lab").expect(200).json();
        assert_eq!((&shown["state"], &shown["last_action"]["state"]), (&"failed".into(), &"interrupted".into()), "{shown}");
        let state = server.client().get("/api/deployments/lab/state").expect(200).json();
        let truth = match things(&folder) {
            0 => "down",
            STEPS => "up",
            _ => "partial",
        };
        assert_eq!(state["phase"], truth, "{state}");
        // The journal is whole, and its last word is the interruption; the stream ends with it.
        let (lines, why) = server.client().follow(&format!("/api/deployments/lab/logs/{uuid}/stream?format=events")).until_end();
        assert_eq!(why, "state=interrupted error_code=81");
        let events: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).expect("a whole event")).collect();
        let last = &events.last().expect("events")["event"];
        assert_eq!((&last["kind"], &last["state"]), (&"finished".into(), &"interrupted".into()));
        // Every thing that is there (or gone) was announced before it was touched.
        let started = events.iter().filter(|event| event["event"]["kind"] == "step_started").count();
        let touched = if request == UP { things(&folder) } else { STEPS - things(&folder) };
        assert!(started >= touched, "{started} steps on record, {touched} in the world");
    } else {
        assert_eq!(entry["state"], "succeeded", "{entry}");
    }
    (server, open)
}

#[test]
fn killed_at_fifty_moments_of_up_and_of_down_the_same_command_completes() {
    let mut server = Server::start(Arc::new(tempfile::tempdir().expect("a folder")));
    server.client().post("/api/deployments", r#"{"name":"lab"}"#).expect(201);
    server.client().put("/api/deployments/lab/yaml", &format!("steps {STEPS}")).expect(204);
    let (mut ups, mut downs) = (0, 0);
    for round in 0..KILLS {
        let moment = (round as usize * STEPS).div_euclid(KILLS as usize);
        let (next, open) = interrupted(server, UP, |there| there >= moment);
        ups += u32::from(open);
        complete(&next, UP);
        assert_eq!(things(&next.folder), STEPS);
        let (next, open) = interrupted(next, DOWN, |there| there <= STEPS - moment);
        downs += u32::from(open);
        complete(&next, DOWN);
        assert_eq!(things(&next.folder), 0);
        server = next;
    }
    println!("{KILLS} kills of up, {ups} in mid-action; {KILLS} of down, {downs} in mid-action");
    assert!(ups > KILLS / 2 && downs > KILLS / 2, "{ups} {downs}");
    let orchestration = fs::read_dir(server.folder.path().join("data/logs/orchestration")).expect("a folder").count();
    assert!(orchestration <= 2 * 101, "{orchestration} files");
}

#[test]
fn a_torn_journal_and_log_are_mended() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let server = Server::start(folder.clone());
    server.client().post("/api/deployments", r#"{"name":"lab"}"#).expect(201);
    let never = folder.path().join("never");
    server.client().put("/api/deployments/lab/yaml", &format!("steps 2\nwait {}", never.display())).expect(204);
    let uuid = act(&server, UP);
    let mut follower = server.client().follow(&format!("/api/deployments/lab/logs/{uuid}/stream"));
    while !follower.line().expect("a line").contains("make-1: done") {}
    server.kill();
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("data/deployments/lab-logs.json")).expect("a file")).expect("JSON");
    let path = |key: &str| index[&uuid][key].as_str().expect("a path").to_string();
    let append = |path: &str, bytes: &[u8]| fs::write(path, [fs::read(path).expect("a file"), bytes.to_vec()].concat()).expect("written");
    append(&path("events_path"), b"{\"at\":\"2026-");
    append(&path("log_path"), b"2026-11-2");

    let lab = Lab::on(folder, |_| {});
    let events = fs::read_to_string(path("events_path")).expect("text");
    assert!(events.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{events}");
    let log = fs::read_to_string(path("log_path")).expect("text");
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines[lines.len() - 2], "2026-11-2");
    assert!(lines[lines.len() - 1].contains("interrupted in") && log.ends_with('\n'), "{log}");
    assert_eq!(lab.entry("lab", &uuid)["state"], "interrupted");
    // A lost log does not keep the server from starting, nor the entry from being ended.
    lab.client().delete("/api/deployments/lab?force").expect(204);
}

#[test]
fn a_second_server_on_one_folder_refuses_and_names_the_first() {
    let lab = Lab::start();
    let refused = lab.settings.data.open().expect_err("refused");
    assert_eq!(refused.code.name(), "conflict");
    assert!(refused.message.contains(&std::process::id().to_string()), "{refused}");

    let output = Command::new(env!("CARGO_BIN_EXE_testbedos-server"))
        .args(["master", "--no-tcp", "--data-dir"])
        .arg(lab.settings.data.root())
        .arg("--socket")
        .arg(lab.gate("other.sock"))
        .output()
        .expect("the server runs");
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&std::process::id().to_string()) && said.contains("hint: "), "{said}");
    assert_eq!(lab.get("/api/health").expect(200).json()["status"], "ok");
}

#[test]
fn secrets_are_ours_alone_and_the_id_stays() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::start();
    lab.deployment("lab", "steps 1");
    let mode = |path: &str| fs::metadata(lab.settings.data.root().join(path)).expect(path).permissions().mode() & 0o777;
    for (path, expected) in [
        ("", 0o711),
        ("deployments", 0o711),
        ("deployments/lab", 0o711),
        ("config", 0o700),
        ("keys", 0o700),
        ("logs", 0o700),
        ("logs/orchestration", 0o700),
        ("keys/api-token", 0o600),
        ("deployments/lab.json", 0o600),
        ("config/host.json", 0o600),
        ("config/installation.json", 0o600),
        ("deployments/lab/project/kvm-compose.yaml", 0o600),
    ] {
        if path != "config/host.json" {
            assert_eq!(mode(path), expected, "{path}");
        }
    }
    let token = lab.token();
    assert!(token.starts_with("tbed_") && token.len() == 5 + 64);
    let (id, folder) = (lab.installation(), lab.folder.clone());
    drop(lab);
    let again = Lab::on(folder, |_| {});
    assert_eq!((again.installation(), again.token()), (id, token));
    assert_eq!(again.get("/api/config/cluster").expect(200).json()["hosts"].as_array().map(Vec::len), Some(1));
}

#[test]
fn sigterm_cancels_what_runs_and_ends_cleanly() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let mut server = Server::start(folder.clone());
    server.client().post("/api/deployments", r#"{"name":"lab"}"#).expect(201);
    let never = folder.path().join("never");
    server.client().put("/api/deployments/lab/yaml", &format!("wait {}", never.display())).expect(204);
    let uuid = act(&server, UP);
    let follower = server.client().follow(&format!("/api/deployments/lab/logs/{uuid}/stream"));
    server.signal("USR2");
    let logs = folder.path().join("data/logs");
    let dumped = || {
        fs::read_dir(&logs)
            .expect("a folder")
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().contains("diagnostic-"))
    };
    let began = Instant::now();
    let dump = loop {
        if let Some(path) = dumped() {
            break path;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "no dump");
        std::thread::yield_now();
    };
    let dump: serde_json::Value = serde_json::from_slice(&fs::read(dump).expect("a dump")).expect("JSON");
    assert_eq!(dump["actions"][0]["uuid"], uuid.as_str(), "{dump}");
    server.signal("HUP");
    server.signal("TERM");
    assert_eq!(follower.until_end().1, "state=cancelled error_code=80");
    assert!(server.wait().success());
    assert!(!server.socket().exists(), "the socket is gone");
    let lab = Lab::on(folder, |_| {});
    assert_eq!(lab.entry("lab", &uuid)["state"], "cancelled");
}

#[test]
fn the_program_checks_its_configuration_and_refuses_what_is_not_there_yet() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_testbedos-server")).args(arguments).arg("--data-dir").arg(folder.path().join("data")).output();
        let output = output.expect("the server runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    };
    let (status, said) = run(&["create-config"]);
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = run(&["check-config"]);
    assert!(status == Some(0) && said.contains("the configuration is valid"), "{said}");
    let (status, said) = run(&["client", "--master", "http://127.0.0.1:1", "--token", "x"]);
    assert!(status == Some(2) && said.contains("is not a master's URL"), "{said}");
    let (status, said) = run(&["client"]);
    assert!(status == Some(2) && said.contains("no member of a cluster yet"), "{said}");
    let socket = folder.path().join("a.sock");
    let (status, said) = run(&["master", "--listen", "0.0.0.0:0", "--socket", &socket.to_string_lossy()]);
    assert!(status == Some(2) && said.contains("TLS"), "{said}");
    fs::write(folder.path().join("data/config/server.toml"), "lissten = '127.0.0.1:1'").expect("written");
    let (status, said) = run(&["check-config"]);
    assert!(status == Some(2) && said.contains("lissten"), "{said}");
}

#[test]
fn an_exec_that_was_killed_with_the_server_says_nothing_about_its_deployment() {
    let folder = std::sync::Arc::new(tempfile::tempdir().expect("a folder"));
    let index = {
        let lab = Lab::on(folder.clone(), |_| {});
        lab.deployment("lab", "steps 1");
        lab.finish("lab", UP);
        let (_, entry) = lab.finish("lab", &crate::lab::exec(&["exit", "3"]));
        let waiting = lab.act("lab", &crate::lab::exec(&["wait", &lab.gate("never").display().to_string()]));
        let shown = lab.show("lab");
        assert_eq!((&entry["state"], &shown["state"], &shown["last_action"]["command"]), (&"failed".into(), &"up".into(), &"up".into()));
        let path = lab.settings.data.deployments().join("lab-logs.json");
        let index = std::fs::read_to_string(&path).expect("an index");
        lab.client().delete(&format!("/api/deployments/lab/action/{waiting}")).expect(202);
        lab.client().follow(&format!("/api/deployments/lab/logs/{waiting}/stream")).until_end();
        (path, index)
    };
    // As a server leaves it that is killed now.
    std::fs::write(index.0, index.1).expect("an index");
    let lab = Lab::on(folder, |_| {});
    let shown = lab.show("lab");
    assert_eq!((&shown["state"], &shown["last_action"]["command"]), (&"up".into(), &"up".into()), "{shown}");
    assert!(lab.get("/api/deployments/lab/logs").expect(200).text().contains("interrupted"));
}
