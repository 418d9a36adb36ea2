//! The one shape of errors, the description of the API, pages, metrics.

use testbedos_server::router::endpoints;

use crate::lab::{Lab, UP};

#[test]
fn every_failure_has_the_documented_shape() {
    let lab = Lab::start();
    lab.deployment("lab", "");
    let client = lab.client();
    let large = "x".repeat(3 * 1024 * 1024);
    for (answer, status, code) in [
        (client.get("/nowhere"), 404, "not_found"),
        (client.get("/api/nowhere"), 404, "not_found"),
        (client.get("/api/deployments/none"), 404, "not_found"),
        (client.get("/api/deployments/none/state"), 404, "not_found"),
        (client.get("/api/deployments/none/logs"), 404, "not_found"),
        (client.get("/api/deployments/lab/nowhere"), 404, "not_found"),
        (client.post("/api/deployments/none/action", UP), 404, "not_found"),
        (client.put("/api/deployments/none/yaml", "x"), 404, "not_found"),
        (client.delete("/api/version"), 405, "method_not_allowed"),
        (client.post("/api/deployments", "{"), 400, "bad_request"),
        (client.post("/api/deployments", r#"{"name":"x","extra":1}"#), 400, "bad_request"),
        (client.post("/api/deployments", r#"{"name":7}"#), 400, "bad_request"),
        (client.post("/api/deployments", r#"{"name":"x","project_location":"relative"}"#), 400, "bad_request"),
        (client.post("/api/deployments", r#"{"name":"x","project_location":"/a/../b"}"#), 400, "bad_request"),
        (client.post("/api/deployments", r#"{"name":"lab"}"#), 409, "conflict"),
        (client.post("/api/deployments", &large), 413, "too_large"),
        (client.put("/api/deployments/lab/yaml", &large), 413, "too_large"),
        (client.send("POST", "/api/deployments", "text/plain", &[], b"{}"), 400, "bad_request"),
        (client.post("/api/deployments/lab/action", r#"{"command":"dance"}"#), 400, "bad_request"),
        (client.post("/api/deployments/lab/action", r#"{"command":"exec","guest":"web","argv":[]}"#), 400, "bad_request"),
        (
            client.post("/api/deployments/lab/action", r#"{"command":"exec","guest":"web","argv":["a"],"stdin_base64":"?"}"#),
            400,
            "bad_request",
        ),
        (client.post("/api/deployments/lab/action", r#"{"command":"exec","guest":"web","argv":["a"],"timeout_s":0}"#), 400, "bad_request"),
        (client.get("/api/events"), 400, "bad_request"),
        (client.delete("/api/deployments/lab?force=maybe"), 400, "bad_request"),
    ] {
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
    }
    assert_eq!(client.delete("/api/version").header("allow"), Some("GET,HEAD"));
    let created = client.post("/api/deployments", r#"{"name":"kept","project_location":"/srv/lab"}"#).expect(201);
    assert_eq!(created.json()["project_location"], "/srv/lab");
    let stale = client.send("PUT", "/api/deployments/kept", "application/json", &[("If-Match", "\"9\"")], br#"{"name":"kept"}"#);
    assert_eq!(stale.expect(409).code(), "conflict");
    let yaml = "# a comment\nsteps 1\r\n\u{feff}";
    client.put("/api/deployments/kept/yaml", yaml).expect(204);
    assert_eq!(client.get("/api/deployments/kept/yaml").expect(200).text(), yaml, "byte for byte");
    assert!(client.get("/api/version").header("x-request-id").is_some());
}

#[test]
fn a_testbed_file_in_the_project_folder_is_used_until_one_is_put() {
    let lab = Lab::start();
    let project = lab.gate("project");
    std::fs::create_dir(&project).expect("made");
    let body = serde_json::json!({ "name": "lab", "project_location": project });
    lab.client().post("/api/deployments", &body.to_string()).expect(201);
    assert_eq!(lab.get("/api/deployments/lab/yaml").expect(404).code(), "not_found");
    std::fs::write(project.join("kvm-compose.yaml"), "steps 2").expect("written");
    assert_eq!(lab.get("/api/deployments/lab/yaml").expect(200).text(), "steps 2");
    assert_eq!(lab.finish("lab", UP).1["error_code"], 0);
    lab.client().put("/api/deployments/lab/yaml", "steps 3").expect(204);
    assert_eq!(lab.get("/api/deployments/lab/yaml").expect(200).text(), "steps 3");
    assert_eq!(lab.get("/api/deployments/lab/state").expect(200).json()["rows_wanted"], 3);
    assert_eq!(std::fs::read_to_string(project.join("kvm-compose.yaml")).expect("text"), "steps 2", "the user's own is not touched");
}

#[test]
fn the_openapi_document_describes_every_endpoint_and_every_reference_leads_somewhere() {
    let lab = Lab::start();
    let document = lab.get("/api/openapi.json").expect(200).json();
    for endpoint in endpoints() {
        assert!(document["paths"][&endpoint.path][endpoint.method].is_object(), "{} {}", endpoint.method, endpoint.path);
    }
    let page = include_str!("../../../docs/api.md");
    for endpoint in endpoints() {
        let named = format!("{} `{}`", endpoint.method.to_uppercase(), endpoint.path);
        assert!(page.contains(&named), "docs/api.md lacks {named}");
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().expect("a reference")) {
        assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
    }
    assert!(document["components"]["schemas"]["ActionRequest"].is_object());
    let page = lab.get("/api/docs").expect(200);
    let policy = page.header("content-security-policy").expect("a policy").to_string();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let text = page.text();
    assert!(text.contains("/api/deployments/{name}/action") && text.contains("invalid_name"));
    for page in ["/", "/gui"] {
        let answer = lab.get(page).expect(200);
        assert!(answer.text().contains("testbed up") && answer.header("content-security-policy").is_some());
        let text = answer.text();
        for from in ["src=\"", "href=\"", "action=\"", "url("] {
            assert!(text.split(from).skip(1).all(|rest| rest.starts_with('/') || rest.starts_with('#')), "nothing from elsewhere: {from}");
        }
    }
}

#[test]
fn readiness_names_set_aside_records_and_metrics_count() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 1");
    lab.finish("lab", UP);
    let ready = lab.get("/api/ready").expect(200).json();
    let store = |ready: &serde_json::Value| {
        ready["parts"].as_array().expect("parts").iter().find(|part| part["part"] == "store").expect("store").clone()
    };
    assert!(ready["ready"] == true && store(&ready)["ok"] == true, "{ready}");
    let metrics = lab.get("/metrics").expect(200).text();
    for line in [
        "# TYPE testbedos_actions_total counter",
        "testbedos_actions_total{command=\"up\",state=\"succeeded\"} 1",
        "testbedos_deployments{state=\"up\"} 1",
        "testbedos_actions_running 0",
        "# HELP process_resident_memory_bytes Resident memory.",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    let folder = lab.folder.clone();
    std::fs::write(lab.settings.data.deployments().join("torn.json"), b"{").expect("written");
    drop(lab);
    let lab = Lab::on(folder, |_| {});
    let ready = lab.get("/api/ready").expect(200).json();
    assert!(store(&ready)["detail"].as_str().expect("text").contains("torn.json.corrupt-"), "{ready}");
    assert_eq!(lab.show("lab")["state"], "up", "the rest serves");
}
