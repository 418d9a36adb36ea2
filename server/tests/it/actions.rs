//! Actions: outcomes on record, one owner per deployment, cancel, panic, removal.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::lab::{DOWN, Lab, PLAN, UP, exec};

#[test]
fn the_outcome_of_every_command_is_on_record() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 3");
    let (lines, entry) = lab.finish("lab", UP);
    assert!(lines[0].ends_with("up: started") && lines.last().expect("lines").contains("succeeded in"), "{lines:?}");
    assert_eq!((&entry["state"], &entry["error_code"]), (&"succeeded".into(), &0.into()));
    let shown = lab.show("lab");
    assert_eq!((&shown["state"], &shown["phase"], &shown["last_action"]["command"]), (&"up".into(), &"up".into(), &"up".into()));

    let (_, entry) = lab.finish("lab", PLAN);
    assert_eq!(entry["result"]["deployment"], "lab");
    let body = serde_json::json!({ "command": "exec", "guest": "web", "argv": ["cat"], "stdin_base64": STANDARD.encode(b"one\ntwo\xff") });
    let (lines, entry) = lab.finish("lab", &body.to_string());
    assert_eq!(entry["exit_status"], 0);
    assert_eq!(entry["result"]["stdout_base64"], STANDARD.encode(b"one\ntwo\xff"));
    assert!(
        // A line goes out when it is whole: one without an end at the command's end.
        lines[1].ends_with(" web: one") && lines[2].ends_with(" web: a warning") && lines[3].ends_with(" web: two\u{fffd}"),
        "{lines:?}"
    );
    let (_, entry) = lab.finish("lab", &exec(&["exit", "7"]));
    assert_eq!((&entry["state"], &entry["error_code"], &entry["exit_status"]), (&"failed".into(), &73.into(), &7.into()));
    let shown = lab.show("lab");
    assert_eq!((&shown["state"], &shown["last_action"]["command"]), (&"up".into(), &"plan".into()), "a failed exec hurts nobody");

    // The file on disk is what the API answers: uuid → entry.
    let on_disk: serde_json::Value =
        serde_json::from_slice(&std::fs::read(lab.settings.data.deployments().join("lab-logs.json")).expect("a file")).expect("JSON");
    assert_eq!(on_disk, lab.get("/api/deployments/lab/logs").expect(200).json());
    assert_eq!(on_disk.as_object().expect("an object").len(), 4);
    for entry in on_disk.as_object().expect("an object").values() {
        let path = entry["log_path"].as_str().expect("a path");
        let stem = path.rsplit('/').next().expect("a name");
        assert!(stem.len() == "20261121T064700.123Z-lab.log".len() && stem.ends_with("Z-lab.log") && stem.as_bytes()[8] == b'T', "{stem}");
        assert!(std::path::Path::new(entry["events_path"].as_str().expect("a path")).exists());
    }
    let (_, entry) = lab.finish("lab", DOWN);
    assert_eq!(entry["error_code"], 0);
    assert_eq!(lab.show("lab")["state"], "down");
}

#[test]
fn links_are_listed_and_set() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 1");
    let names = |query: &str| -> Vec<String> {
        let links = lab.get(&format!("/api/deployments/lab/links{query}")).expect(200).json();
        let name = |link: &serde_json::Value| format!("{}:{}", link["guest"], link["interface"]).replace('"', "");
        links.as_array().expect("a list").iter().map(name).collect()
    };
    assert_eq!(names(""), ["web:eth0", "web:eth1", "db:eth0"]);
    assert_eq!(names("?probe=true&only=web:eth1,db"), ["web:eth1", "db:eth0"]);
    lab.get("/api/deployments/nobody/links").expect(404);
    let (lines, entry) = lab.finish("lab", r#"{"command": "set_link", "guest": "web", "interface": "eth0", "carrier": "down"}"#);
    assert!(lines.iter().any(|line| line.contains("web: Some(Down)")), "{lines:?}");
    assert_eq!((&entry["command"], &entry["error_code"]), (&"set_link".into(), &0.into()));
    assert_eq!(lab.show("lab")["last_action"]["command"], "set_link");
    for body in [
        r#"{"command": "set_link", "guest": "web", "interface": "eth0"}"#,
        r#"{"command": "set_link", "guest": "web", "interface": "eth0", "to_guest": {"loss_percent": 101}}"#,
        r#"{"command": "set_link", "guest": "web", "interface": "eth0", "to_guest": {"delay": 1}}"#,
    ] {
        lab.client().post("/api/deployments/lab/action", body).expect(400);
    }
}

#[test]
fn guests_start_and_stop_as_actions_of_their_own() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 1");
    for (body, said) in [
        (r#"{"command": "stop", "guests": ["web"]}"#, "lab: Stop(None) web"),
        (r#"{"command": "stop", "guests": ["web", "db"], "time_s": 5}"#, "lab: Stop(Some(5)) web db"),
        (r#"{"command": "restart", "force": true}"#, "lab: Restart(Some(0)) "),
        (r#"{"command": "start"}"#, "lab: Start "),
        (r#"{"command": "pause"}"#, "lab: Pause "),
        (r#"{"command": "resume", "guests": ["web"]}"#, "lab: Resume web"),
    ] {
        let (lines, entry) = lab.finish("lab", body);
        assert!(lines.iter().any(|line| line.ends_with(said)), "{lines:?}");
        assert_eq!((&entry["state"], &entry["error_code"]), (&"succeeded".into(), &0.into()), "{body}");
        assert_eq!(lab.show("lab")["last_action"]["command"], entry["command"]);
    }
    for body in
        [r#"{"command": "stop", "guests": ["../x"]}"#, r#"{"command": "stop", "time_s": 3601}"#, r#"{"command": "start", "force": true}"#]
    {
        lab.client().post("/api/deployments/lab/action", body).expect(400);
    }
    // One owner at a time.
    let gate = lab.gate("held");
    lab.deployment("busy", &format!("wait {}", gate.display()));
    let uuid = lab.act("busy", r#"{"command": "stop"}"#);
    assert_eq!(lab.client().post("/api/deployments/busy/action", r#"{"command": "start"}"#).expect(409).code(), "busy");
    lab.client().delete(&format!("/api/deployments/busy/action/{uuid}")).expect(202);
    lab.client().follow(&format!("/api/deployments/busy/logs/{uuid}/stream")).until_end();
    assert_eq!(lab.entry("busy", &uuid)["state"], "cancelled");
}

#[test]
fn what_a_command_printed_before_it_was_stopped_is_kept() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 1");
    let uuid = lab.act("lab", &exec(&["wait", &lab.gate("never").display().to_string()]));
    let mut follower = lab.client().follow(&format!("/api/deployments/lab/logs/{uuid}/stream?format=events"));
    let first =
        std::iter::from_fn(|| follower.line().ok()).find(|line| line.contains(r#""kind":"output""#)).expect("it comes while it runs");
    assert!(first.contains(&STANDARD.encode("first\n")), "{first}");
    lab.client().delete(&format!("/api/deployments/lab/action/{uuid}")).expect(202);
    let (rest, _) = follower.until_end();
    assert!(rest.iter().any(|line| line.contains(&STANDARD.encode("half"))), "{rest:?}");
    let entry = lab.entry("lab", &uuid);
    assert_eq!((&entry["state"], &entry["result"]["stdout_base64"]), (&"cancelled".into(), &STANDARD.encode("first\nhalf").into()));
}

#[test]
fn a_draft_is_planned_and_not_kept() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 2");
    lab.finish("lab", UP);
    let draft = |rest: &str| format!(r#"{{"command":"plan","draft":{{"text":"steps 3"{rest}}}}}"#);
    let (_, entry) = lab.finish("lab", &draft(r#","file":"../other.yaml","project_location":"/p""#));
    assert_eq!(entry["result"]["network"][0], "../other.yaml in /p: steps 3", "{entry}");
    assert_eq!(lab.get("/api/deployments/lab/yaml").expect(200).text(), "steps 2");
    assert_eq!(lab.get("/api/deployments/lab/state").expect(200).json()["phase"], "up", "a plan makes nothing partial");

    // A deployment that does not exist: its plan can be followed and read, and leaves none behind.
    let (lines, entry) = lab.finish("new", &draft(""));
    assert!(lines.last().expect("lines").contains(" succeeded in"), "{lines:?}");
    assert!(entry["result"]["network"][0].as_str().expect("text").starts_with("kvm-compose.yaml in "), "{entry}");
    for path in ["/api/deployments/new", "/api/deployments/new/logs", "/api/deployments/new/yaml"] {
        assert_eq!(lab.get(path).expect(404).code(), "not_found");
    }
    let left = std::fs::read_dir(lab.settings.data.deployments()).expect("a folder").filter_map(Result::ok);
    let left: Vec<_> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name.starts_with("new")).collect();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(lab.client().post("/api/deployments/new/action", PLAN).expect(404).code(), "not_found");
    assert_eq!(lab.client().post("/api/deployments/new-logs/action", &draft("")).expect(400).code(), "invalid_name");
    for bad in [r#","project_location":"../p""#, r#","file":"a\nb""#, r#","more":1"#] {
        assert_eq!(lab.client().post("/api/deployments/new/action", &draft(bad)).expect(400).code(), "bad_request", "{bad}");
    }
    // Many of them do not pile up.
    let first = lab.act("new", &draft(""));
    lab.client().follow(&format!("/api/deployments/new/logs/{first}/stream")).until_end();
    for _ in 0..51 {
        lab.finish("new", &draft(""));
    }
    assert_eq!(lab.get(&format!("/api/deployments/new/logs/{first}")).status, 404);
}

#[test]
fn the_testbed_file_keeps_its_name() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 1");
    let planned = || lab.finish("lab", PLAN).1["result"]["network"][0].as_str().expect("text").to_string();
    assert!(planned().starts_with("kvm-compose.yaml in "));
    lab.client().put("/api/deployments/lab/yaml?file=sub%2Fother.yaml", "steps 1").expect(204);
    assert!(planned().starts_with("sub/other.yaml in "), "{}", planned());
    lab.client().put("/api/deployments/lab/yaml", "steps 1").expect(204);
    assert!(planned().starts_with("kvm-compose.yaml in "));
    lab.client().put("/api/deployments/lab/yaml?file=a%0Ab", "steps 1").expect(400);
}

#[test]
fn a_failure_names_its_command_and_a_panic_is_a_failure() {
    let lab = Lab::start();
    lab.deployment("fails", "steps 2\nfail");
    let (_, entry) = lab.finish("fails", UP);
    assert_eq!((&entry["error_code"], &entry["problem"]["code"]), (&70.into(), &"guest_not_ready".into()));
    let shown = lab.show("fails");
    assert_eq!((&shown["state"], &shown["failed_command"], &shown["phase"]), (&"failed".into(), &"up".into(), &"up".into()));
    let reset = lab.client().post("/api/deployments/fails/reset", "").expect(200).json();
    assert_eq!(reset["state"], "up", "{reset}");

    lab.deployment("panics", "panic");
    let (lines, entry) = lab.finish("panics", UP);
    assert_eq!((&entry["error_code"], &entry["state"]), (&99.into(), &"failed".into()));
    assert!(lines.last().expect("lines").contains("as it was told"), "{lines:?}");
    lab.client().put("/api/deployments/panics/yaml", "steps 1").expect(204);
    assert_eq!(lab.finish("panics", UP).1["error_code"], 0, "the deployment is not wedged");

    lab.client().post("/api/deployments", r#"{"name":"empty"}"#).expect(201);
    let (_, entry) = lab.finish("empty", UP);
    assert_eq!(entry["problem"]["code"], "not_found", "{entry}");
    assert_eq!(lab.finish("empty", DOWN).1["error_code"], 0, "down needs no testbed file");
}

#[test]
fn the_second_up_is_told_who_is_busy_and_exec_runs_beside() {
    let lab = Lab::start();
    let gate = lab.gate("go");
    lab.deployment("lab", &format!("wait {}\nsteps 1", gate.display()));
    let uuid = lab.act("lab", UP);
    assert_eq!(lab.show("lab")["state"], "running");
    for request in [UP, DOWN, PLAN] {
        let busy = lab.client().post("/api/deployments/lab/action", request).expect(409);
        assert_eq!(busy.code(), "busy");
        let body = busy.json();
        assert!(
            body["hint"].as_str().expect("a hint").contains(&uuid) && body["message"].as_str().expect("text").contains(&uuid),
            "{body}"
        );
    }
    assert_eq!(lab.client().delete("/api/deployments/lab").expect(409).code(), "busy");
    let beside: Vec<_> = (0..4).map(|_| lab.act("lab", &exec(&["true"]))).collect();
    for other in beside {
        let (_, why) = lab.client().follow(&format!("/api/deployments/lab/logs/{other}/stream")).until_end();
        assert_eq!(why, "state=succeeded error_code=0");
    }
    assert_eq!(lab.show("lab")["last_action"]["uuid"], uuid.as_str(), "the owner comes before those beside it");
    let follower = lab.client().follow(&format!("/api/deployments/lab/logs/{uuid}/stream"));
    std::fs::write(gate, b"").expect("opened");
    assert_eq!(follower.until_end().1, "state=succeeded error_code=0");
    assert_eq!(lab.finish("lab", DOWN).1["error_code"], 0, "who saw the end finds the deployment free");
}

#[test]
fn an_action_can_be_cancelled_once_and_only_while_it_runs() {
    let lab = Lab::start();
    lab.deployment("lab", &format!("steps 1\nwait {}", lab.gate("never").display()));
    let uuid = lab.act("lab", UP);
    let path = format!("/api/deployments/lab/action/{uuid}");
    lab.client().delete(&path).expect(202);
    let (_, why) = lab.client().follow(&format!("/api/deployments/lab/logs/{uuid}/stream")).until_end();
    assert_eq!(why, "state=cancelled error_code=80");
    assert_eq!(lab.client().delete(&path).expect(409).code(), "conflict");
    assert_eq!(lab.entry("lab", &uuid)["state"], "cancelled");
    assert_eq!(lab.show("lab")["state"], "failed");
    let unknown = "/api/deployments/lab/action/01890000-0000-7000-8000-000000000000";
    assert_eq!(lab.client().delete(unknown).expect(404).code(), "not_found");
}

#[test]
fn a_deployment_is_forgotten_only_when_nothing_of_it_is_left() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 2");
    lab.finish("lab", UP);
    assert_eq!(lab.client().delete("/api/deployments/lab").expect(409).code(), "conflict");
    lab.client().delete("/api/deployments/lab?force=true").expect(204);
    assert_eq!(lab.get("/api/deployments/lab").expect(404).code(), "not_found");
    assert_eq!(lab.get("/api/orphans").expect(200).json()[0]["name"], "lab", "the fake leaves its empty folder");
    let left = |folder: std::path::PathBuf| std::fs::read_dir(folder).expect("a folder").count();
    assert_eq!(left(lab.settings.data.deployments()), 0);
    assert_eq!(left(lab.settings.data.orchestration()), 0);
    assert_eq!(lab.client().delete("/api/deployments/lab").expect(404).code(), "not_found");
    lab.deployment("lab", "steps 1");
    lab.client().delete("/api/deployments/lab").expect(204);
}

#[test]
fn old_actions_are_dropped_but_never_the_last_change() {
    let lab = Lab::with(|settings| settings.limits.log_entries = 3);
    lab.deployment("lab", "steps 1");
    lab.finish("lab", UP);
    for _ in 0..6 {
        lab.finish("lab", &exec(&["true"]));
    }
    let index = lab.get("/api/deployments/lab/logs").expect(200).json();
    let commands: Vec<_> = index.as_object().expect("an object").values().map(|entry| entry["command"].clone()).collect();
    assert!(commands.len() <= 4 && commands.contains(&"up".into()), "{commands:?}");
    let files = std::fs::read_dir(lab.settings.data.orchestration()).expect("a folder").count();
    assert_eq!(files, 2 * commands.len());
}

#[test]
fn a_large_answer_is_kept_beside_the_log() {
    let lab = Lab::start();
    lab.deployment("lab", "");
    let (_, entry) = lab.finish("lab", &exec(&["big", "1000000"]));
    assert_eq!(STANDARD.decode(entry["result"]["stdout_base64"].as_str().expect("text")).expect("base64").len(), 1_000_000);
    let index = std::fs::metadata(lab.settings.data.deployments().join("lab-logs.json")).expect("a file").len();
    assert!(index < 4096, "{index}");
}

#[test]
fn images_are_built_as_actions_of_their_own() {
    let lab = Lab::start();
    let uuid = lab.client().post("/api/images", r#"{"build":"micro"}"#).expect(202).json()["uuid"].as_str().expect("text").to_string();
    let (lines, why) = lab.client().follow(&format!("/api/images/logs/{uuid}/stream")).until_end();
    assert_eq!(why, "state=succeeded error_code=0");
    assert!(lines.iter().any(|line| line.ends_with(" building")), "{lines:?}");
    assert_eq!(lab.get(&format!("/api/images/logs/{uuid}")).expect(200).json()["entry"]["result"]["name"], "micro");
    assert_eq!(lab.client().delete(&format!("/api/images/action/{uuid}")).expect(409).code(), "conflict");
    assert_eq!(lab.client().post("/api/images", r#"{"build":"debian"}"#).expect(422).code(), "unsupported");
    assert_eq!(lab.get("/api/images").expect(200).json(), serde_json::json!([]));
}

#[test]
fn a_stopping_server_takes_no_new_actions() {
    let lab = Lab::start();
    lab.deployment("lab", &format!("wait {}", lab.gate("never").display()));
    let uuid = lab.act("lab", UP);
    let follower = lab.client().follow(&format!("/api/deployments/lab/logs/{uuid}/stream"));
    lab.app.operations.stop();
    assert_eq!(lab.client().post("/api/deployments/lab/action", UP).expect(503).code(), "unavailable");
    assert_eq!(follower.until_end().1, "state=cancelled error_code=80");
}

#[test]
fn an_outcome_that_cannot_be_written_is_told_all_the_same_and_written_later() {
    let lab = Lab::start();
    let gate = lab.gate("go");
    lab.deployment("lab", &format!("wait {}\nfail", gate.display()));
    let uuid = lab.act("lab", UP);
    // Records are renamed into place, which a folder of that name prevents: the disk refuses, whoever we are.
    let folder = lab.settings.data.deployments();
    let files = ["lab.json", "lab-logs.json"].map(|file| folder.join(file));
    let kept = files.clone().map(|file| std::fs::read(file).expect("a record"));
    for file in &files {
        std::fs::remove_file(file).expect("removed");
        std::fs::create_dir(file).expect("made");
    }
    let follower = lab.client().follow(&format!("/api/deployments/lab/logs/{uuid}/stream"));
    std::fs::write(gate, b"").expect("opened");
    assert_eq!(follower.until_end().1, "state=failed error_code=70");
    assert_eq!(lab.entry("lab", &uuid)["state"], "failed");
    assert_eq!(lab.show("lab")["state"], "failed");
    assert_eq!(lab.client().post("/api/deployments/lab/action", UP).expect(500).code(), "storage", "nothing runs off the record");
    for (file, content) in files.iter().zip(&kept) {
        std::fs::remove_dir(file).expect("removed");
        std::fs::write(file, content).expect("written");
    }
    lab.app.operations.save_unsaved();
    let on_disk = std::fs::read_to_string(&files[1]).expect("an index");
    assert!(on_disk.contains("\"failed\"") && !on_disk.contains("\"running\""), "{on_disk}");
    assert!(std::fs::read_to_string(&files[0]).expect("a record").contains(&uuid));
    let orchestration = std::fs::read_dir(lab.settings.data.orchestration()).expect("a folder").count();
    assert_eq!(orchestration, 2, "the refused action left no files");
}
