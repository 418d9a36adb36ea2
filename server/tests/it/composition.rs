//! Testbeds of several files: what comes with the testbed file is kept, and everything reads the same.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::lab::Lab;

const YAML: &str =
    "include: net.yaml\nmachines: [{name: web, network: [{switch: lan}], micro: {environment: {A: \"${A}\", B: \"${B:-b}\"}}}]\n";
const NET: &str = "network: {ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}\n";

fn draft(files: serde_json::Value) -> String {
    json!({
        "text": YAML, "file": "sub/lab.yaml",
        "composition": {"files": files, "variables": {"A": "hunter2", "B": null}, "set": ["machines.web.micro.cpus=2"]},
    })
    .to_string()
}

fn put(lab: &Lab, query: &str, kind: &str, body: &str) -> crate::client::Answer {
    lab.client().send("PUT", &format!("/api/deployments/lab/yaml{query}"), kind, &[], body.as_bytes())
}

fn validate(lab: &Lab, query: &str, text: &str) -> serde_json::Value {
    lab.client().send("POST", &format!("/api/validate{query}"), "application/yaml", &[], text.as_bytes()).expect(200).json()
}

fn guests(lab: &Lab) -> Option<u32> {
    let name = kvm_compose::names::DeploymentName::new("lab").expect("a name");
    let project = lab.app.operations.project(&name).expect("a project");
    let loaded = kvm_compose::topology::load_all(&project.sources, &name, &Default::default()).ok()?;
    Some(loaded.topology.guests[0].cpus)
}

#[test]
fn what_came_with_the_file_is_kept_until_another_file_comes() {
    let lab = Lab::start();
    lab.client().post("/api/deployments", "{\"name\":\"lab\"}").expect(201);
    put(&lab, "", "application/json", &draft(json!({"net.yaml": NET}))).expect(204);
    assert_eq!(lab.get("/api/deployments/lab/yaml").expect(200).text(), YAML, "the file itself, byte for byte");
    assert_eq!(guests(&lab), Some(2));
    let kept = lab.settings.data.root().join("deployments/lab/project/.composition.json");
    assert_eq!(std::fs::metadata(&kept).expect("kept").permissions().mode() & 0o777, 0o600, "variables may be secret");

    // The editor's check and its page read the same; values are not shown.
    let found = validate(&lab, "?deployment=lab", YAML);
    assert_eq!((&found["valid"], &found["file"]), (&json!(true), &json!("sub/lab.yaml")), "{found}");
    assert_eq!(validate(&lab, "", YAML)["diagnostics"][0]["code"], "E052");
    let found = validate(&lab, "?deployment=lab", &YAML.replace("web", "wob"));
    let error = found["diagnostics"].as_array().expect("a list").iter().find(|fault| fault["severity"] == "error").expect("an error");
    assert_eq!((&found["valid"], &error["at"]["file"]), (&json!(false), &json!("--set")), "{found}");
    lab.client().post("/api/validate?deployment=none", YAML).expect(404);
    let page = lab.get("/gui/deployments/lab/edit").expect(200).text();
    for word in ["net.yaml", "--set machines.web.micro.cpus", "${A}", "${B}"] {
        assert!(page.contains(word), "{word}: {page}");
    }
    let shown = lab.get("/gui/deployments/lab").expect(200).text();
    assert!(shown.contains("<svg") && shown.contains("web"), "{shown}");
    assert!(!page.contains("hunter2") && !shown.contains("hunter2"));

    // The editor keeps it; a plain file is a whole testbed.
    put(&lab, "?keep_composition", "application/yaml", &YAML.replace("web", "w-b")).expect(204);
    assert!(kept.exists());
    put(&lab, "", "application/yaml", YAML).expect(204);
    assert_eq!((kept.exists(), guests(&lab)), (false, None));
}

#[test]
fn what_did_not_come_is_read_in_the_projects_folder_and_never_in_the_servers_environment() {
    let lab = Lab::start();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("net.yaml"), NET).expect("written");
    std::fs::write(folder.path().join(".env"), "A=file\n").expect("written");
    std::fs::write(folder.path().join("kvm-compose.yaml"), YAML.replace("${B:-b}", "${PATH:-none}")).expect("written");
    lab.client().post("/api/deployments", &json!({"name": "lab", "project_location": folder.path()}).to_string()).expect(201);
    let name = kvm_compose::names::DeploymentName::new("lab").expect("a name");
    let project = lab.app.operations.project(&name).expect("a project");
    let loaded = kvm_compose::topology::load_all(&project.sources, &name, &Default::default()).expect("it loads");
    let environment = &loaded.topology.guests[0].environment;
    assert_eq!((environment["A"].as_str(), environment["B"].as_str()), ("file", "none"));
}

#[test]
fn a_testbed_that_is_too_large_or_half_is_refused_and_changes_nothing() {
    let lab = Lab::start();
    lab.client().post("/api/deployments", "{\"name\":\"lab\"}").expect(201);
    put(&lab, "", "application/json", &draft(json!({"net.yaml": NET}))).expect(204);
    let large = draft(json!({"net.yaml": "#".repeat(4 << 20)}));
    assert_eq!(put(&lab, "", "application/json", &large).expect(413).code(), "too_large");
    assert_eq!(put(&lab, "", "application/yaml", &"#".repeat((2 << 20) + 1)).expect(413).code(), "too_large");
    for body in [json!({"text": "", "project_location": "/"}), json!({"text": "", "composition": {"x": 1}}), json!({"composition": {}})] {
        assert_eq!(put(&lab, "", "application/json", &body.to_string()).expect(400).code(), "bad_request");
    }
    assert_eq!(put(&lab, "?keep_composition", "application/json", &draft(json!({}))).expect(400).code(), "bad_request");
    assert_eq!(guests(&lab), Some(2));
}
