//! Snapshots as actions: reports, marks that a dead server left, and a deployment that keeps them.

use std::fs;

use crate::{
    child::Server,
    lab::{DOWN, Lab, UP},
};

fn snapshot(operation: &str, name: &str) -> String {
    serde_json::json!({ "command": "snapshot", "operation": operation, "name": name }).to_string()
}

#[test]
fn a_snapshot_is_made_listed_restored_and_deleted() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 1");
    lab.finish("lab", UP);
    let created = lab.client().post("/api/deployments/lab/snapshots", r#"{"name": "clean", "memory": true}"#).expect(202).json();
    let uuid = created["uuid"].as_str().expect("a uuid").to_string();
    lab.client().follow(&format!("/api/deployments/lab/logs/{uuid}/stream")).until_end();
    let entry = lab.get(&format!("/api/deployments/lab/logs/{uuid}")).expect(200).json()["entry"].clone();
    assert_eq!((&entry["command"], &entry["error_code"]), (&"snapshot".into(), &0.into()));
    assert_eq!((&entry["result"]["pause_ms"], &entry["result"]["guests"][0]["error_code"]), (&7.into(), &0.into()));
    let names = || lab.get("/api/deployments/lab/snapshots").expect(200).json();
    assert_eq!(names()[0]["name"], "clean");
    assert_eq!(lab.get("/api/deployments/lab/snapshots/clean").expect(200).json()["memory"], true);
    lab.get("/api/deployments/lab/snapshots/other").expect(404);
    lab.get("/api/deployments/lab/snapshots/a.b").expect(400);
    // The file that is restored is the snapshot's.
    lab.client().put("/api/deployments/lab/yaml", "steps 2").expect(204);
    let (_, entry) = lab.finish("lab", &snapshot("restore", "clean"));
    assert_eq!(entry["error_code"], 0);
    assert_eq!(lab.get("/api/deployments/lab/yaml").expect(200).text(), "steps 1");
    let (_, entry) = lab.finish("lab", &snapshot("restore", "other"));
    assert_eq!((&entry["error_code"], &entry["problem"]["code"]), (&30.into(), &"not_found".into()));
    assert_eq!(lab.show("lab")["state"], "up", "a failed snapshot hurts nobody");
    // Who has snapshots is not forgotten by mistake.
    lab.finish("lab", DOWN);
    lab.client().delete("/api/deployments/lab").expect(409);
    let (_, entry) = lab.finish("lab", &snapshot("delete", "clean"));
    assert_eq!(entry["error_code"], 0);
    assert_eq!(names(), serde_json::json!([]));
    lab.client().delete("/api/deployments/lab").expect(204);
}

#[test]
fn what_failed_is_told_guest_by_guest_and_by_force_all_goes() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 1");
    lab.finish("lab", &snapshot("create", "one"));
    lab.client().put("/api/deployments/lab/yaml", "fail").expect(204);
    let (_, entry) = lab.finish("lab", &snapshot("create", "two"));
    let guest = &entry["result"]["guests"][0];
    assert_eq!((&guest["guest"], &guest["error_code"], &guest["problem"]["code"]), (&"web".into(), &52.into(), &"disk_full".into()));
    for wrong in [
        r#"{"command": "snapshot", "operation": "restore", "name": "one", "memory": true}"#,
        r#"{"command": "snapshot", "operation": "delete", "name": "one", "guests": ["web"]}"#,
        r#"{"command": "snapshot", "operation": "burn", "name": "one"}"#,
        r#"{"command": "snapshot", "operation": "create", "name": "../one"}"#,
    ] {
        lab.client().post("/api/deployments/lab/action", wrong).expect(400);
    }
    lab.client().delete("/api/deployments/lab?force=true").expect(204);
    lab.get("/api/deployments/lab/snapshots").expect(404);
}

#[test]
fn a_restore_that_is_not_done_is_finished_first_or_given_up() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 1");
    lab.finish("lab", &snapshot("create", "stuck"));
    let (_, entry) = lab.finish("lab", &snapshot("restore", "stuck"));
    assert_eq!(entry["problem"]["code"], "libvirt");
    let (_, entry) = lab.finish("lab", &snapshot("delete", "stuck"));
    assert_eq!(entry["problem"]["code"], "conflict", "what is being restored is not deleted");
    let (lines, entry) = lab.finish("lab", UP);
    assert_eq!(entry["error_code"], 0);
    assert!(lines.iter().any(|line| line.contains("finished first")), "{lines:?}");
    lab.finish("lab", &snapshot("delete", "stuck"));
    // `down` gives it up.
    lab.finish("lab", &snapshot("create", "stuck"));
    lab.finish("lab", &snapshot("restore", "stuck"));
    lab.finish("lab", DOWN);
    let (lines, _) = lab.finish("lab", UP);
    assert!(!lines.iter().any(|line| line.contains("finished first")), "{lines:?}");
}

#[test]
fn a_server_that_starts_mends_what_a_dead_one_left() {
    let server = Server::start(std::sync::Arc::new(tempfile::tempdir().expect("a folder")));
    let client = server.client();
    client.post("/api/deployments", r#"{"name": "lab"}"#).expect(201);
    client.put("/api/deployments/lab/yaml", "steps 1").expect(204);
    let act = |server: &Server, request: &str| {
        let uuid = server.client().post("/api/deployments/lab/action", request).expect(202).json()["uuid"].clone();
        server.client().follow(&format!("/api/deployments/lab/logs/{}/stream", uuid.as_str().expect("a uuid"))).until_end();
    };
    act(&server, &snapshot("create", "stuck"));
    act(&server, &snapshot("restore", "stuck"));
    let world = server.folder.path().join("world");
    assert!(world.join("lab.restoring").exists());
    fs::write(world.join("lab.part"), b"").expect("half a snapshot");
    let server = Server::start(server.kill());
    // It is an action of its own, on record like any other.
    let done = || !world.join("lab.restoring").exists() && !world.join("lab.part").exists();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "nothing is mended");
        std::thread::yield_now();
    }
    let logs = server.client().get("/api/deployments/lab/logs").expect(200).json();
    assert_eq!(logs.as_object().expect("entries").values().filter(|entry| entry["command"] == "snapshot").count(), 3);
}
