//! What comes in: faulty files, hostile names; and what the command is without a server.

mod lab;

use std::process::{Command, Stdio};

use lab::{Lab, Ran};

const EIGHT_FAULTS: &str = "\
machines:
  - name: bad/name
    micro: {}
    network: [{switch: lan, ip: 10.0.0.300}]
  - name: one
    micro: {memory: 128}
    network: [{switch: lna}]
  - name: two
    micro: {cpus: 0}
    network: [{switch: lan, ip: 10.9.0.7}]
  - name: two
    micro: {}
    network: [{switch: lan, mac: '01:00:00:00:00:01'}]
network:
  ovn:
    switches:
      lan: {subnet: 10.0.0.0/24}
";

fn offline(args: &[&str], folder: &std::path::Path) -> Ran {
    let output = Command::new(lab::testbed_binary())
        .args(args)
        .current_dir(folder)
        .env("TESTBED_HOST", "unix:/nonexistent/testbedos.sock")
        .stdin(Stdio::null())
        .output()
        .expect("testbed runs");
    Ran::of(output)
}

#[test]
fn eight_faults_are_all_reported_with_and_without_a_server() {
    let mut lab = Lab::start();
    let project = lab.project("faults-real", EIGHT_FAULTS);
    for args in [["validate"], ["up"], ["plan"]] {
        let ran = lab.run(&project.args(&args));
        assert_eq!(ran.status, 2, "{args:?} {}", ran.stderr);
        for (place, code) in [
            (":2:11", "E010"),
            (":4:33", "E030"),
            (":6:13", "E003"),
            (":7:24", "E020"),
            (":9:19", "E006"),
            (":10:33", "E031"),
            (":11:11", "E011"),
            (":13:34", "E034"),
        ] {
            assert!(ran.stderr.contains(place) && ran.stderr.contains(code), "{args:?}: no {code} at {place} in:\n{}", ran.stderr);
        }
        assert!(ran.stderr.matches("hint:").count() >= 8, "{}", ran.stderr);
    }
}

#[test]
fn without_a_server_it_validates_plans_and_prints_the_schema() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("kvm-compose.yaml"), lab::QUICKSTART).expect("written");
    assert_eq!(offline(&["validate"], folder.path()).status, 0);
    let plan = offline(&["-o", "json", "plan", "--offline"], folder.path());
    assert_eq!(plan.status, 0, "{}", plan.stderr);
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).expect("JSON");
    assert!(plan["steps"].as_array().expect("steps").iter().any(|step| step["id"] == "start/web"), "{plan}");
    let schema: serde_json::Value = serde_json::from_str(&offline(&["schema"], folder.path()).stdout).expect("JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let config = offline(&["config"], folder.path());
    assert_eq!(config.status, 0, "{}", config.stderr);
    std::fs::write(folder.path().join("resolved.yaml"), &config.stdout).expect("written");
    assert_eq!(offline(&["-f", "resolved.yaml", "validate"], folder.path()).status, 0, "{}", config.stdout);
    let unreachable = offline(&["up"], folder.path());
    assert_eq!(unreachable.status, 5, "{}", unreachable.stderr);
    let linked = lab::lines("ldd", &[lab::testbed_binary().to_str().expect("UTF-8")]).join("\n");
    assert!(!linked.contains("libvirt"), "{linked}");
}

#[test]
fn hostile_names_are_refused_at_every_door() {
    let mut lab = Lab::start();
    let long = "a".repeat(10_000);
    // A NUL cannot stand in an argument at all; it is tried through the API below.
    for name in ["../x", "a;b", "<x/>", long.as_str(), "😀", "", "a b", "-", "%2e%2e"] {
        let flag = format!("--project-name={name}");
        for command in [&["info"][..], &["ps"], &["down"], &["logs"], &["exec", "a", "--", "true"]] {
            let ran = lab.run(&[&[flag.as_str()], command].concat());
            assert_eq!(ran.status, 2, "{command:?} with {name:.20}: {}", ran.stderr);
        }
        let ran = lab.run(&["-p", "x", "exec", "--", name, "true"]);
        assert_eq!(ran.status, 2, "exec {name:.20}: {}", ran.stderr);
        let yaml = format!(
            "machines: [{{name: {}, micro: {{}}}}]\nnetwork: {{ovn: {{switches: {{}}}}}}\n",
            serde_json::to_string(name).expect("text")
        );
        let project = lab.project("hostile-real", &yaml);
        assert_eq!(lab.run(&project.args(&["validate"])).status, 2, "{name:.20}");
    }
    let socket = lab.socket();
    let request = |method: &str, path: &str, body: &str| {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("connected");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        // A refusal may come before the body is read.
        let _refused_early = stream.write_all(format!("{head}{body}").as_bytes());
        let mut text = Vec::new();
        let _reset = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    let doors = [("GET", ""), ("DELETE", ""), ("GET", "/yaml"), ("PUT", "/yaml"), ("GET", "/state"), ("POST", "/action"), ("GET", "/logs")];
    for name in ["..%2Fx", "a%3Bb", "%3Cx%2F%3E", "a%00b", "%F0%9F%98%80", "..%2f..%2fconfig%2fmode", "%252e%252e", &"a".repeat(2000)] {
        for (method, rest) in doors {
            let answer = request(method, &format!("/api/deployments/{name}{rest}"), "{\"command\":\"down\"}");
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("invalid_name"), "{method} {name:.30}{rest}: {answer:.300}");
        }
    }
    for name in ["../x", "a;b", "<x/>", "a\\u0000b", "😀", &"a".repeat(10_000)] {
        let answer = request("POST", "/api/deployments", &format!("{{\"name\":\"{name}\"}}"));
        assert!(answer.starts_with("HTTP/1.1 4") && !answer.starts_with("HTTP/1.1 404"), "{name:.30}: {answer:.300}");
    }
    assert_eq!(lab.json(&["list"]).as_array().map(Vec::len), Some(0));
}
