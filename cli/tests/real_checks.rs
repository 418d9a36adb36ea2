//! `testbed check` on the real parts: every kind of check, as expected and not, from inside guests through a router.

mod lab;

use std::time::{Duration, Instant};

use lab::Lab;
use serde_json::Value;

/// The example, as it stands in the repository.
const YAML: &str = include_str!("../../examples/checks/kvm-compose.yaml");

/// What does not come out as it says, and what cannot be asked; hostile output among it.
const WRONG: &str = r#"  - {name: wrong-port, tcp: {from: client, to: web, port: 81}}
  - {name: wrong-text, http: {from: client, url: "http://web/", contains: "no such words"}}
  - {name: reachable, ping: {from: client, to: web, count: 1}, expect: fail}
  - name: "<evil name=\"x\">&"
    exec: {guest: client, command: "printf '\\033[2J</failure>]]>&amp;\\001\\n' >&2; exit 1"}
  - {name: too-slow, exec: {guest: client, command: [sleep, "60"]}, timeout_s: 1}
"#;

fn outcomes(report: &Value) -> Vec<(&str, &str)> {
    let text = |value: &'_ Value| -> &'static str { String::leak(value.as_str().expect("a text").to_string()) };
    report["checks"].as_array().expect("checks").iter().map(|check| (text(&check["name"]), text(&check["outcome"]))).collect()
}

#[test]
fn expectations_are_put_to_the_test_from_inside_guests() {
    let mut lab = Lab::start();
    let project = lab.project("check-real", YAML);
    // Nothing is up: nothing can be asked, and nothing is taken for passed, expected to fail or not.
    assert_eq!(lab.run(&project.args(&["check"])).status, 3);
    lab.ok(&project.args(&["deployment", "create", "--project-location", project.folder.to_str().expect("UTF-8")]));
    let ran = lab.run(&project.args(&["check", "-o", "json"]));
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {} {}", ran.stdout, ran.stderr));
    assert_eq!((ran.status, &report["errors"], &report["passed"]), (7, &Value::from(12), &Value::from(0)), "{report:#}");

    lab.ok(&project.args(&["up"]));
    let began = Instant::now();
    let ran = lab.ok(&project.args(&["check"]));
    println!("{}\n12 checks: {} ms", ran.stdout, began.elapsed().as_millis());
    assert!(ran.stdout.contains("12 passed, 0 failed, in "), "{}", ran.stdout);
    assert!(ran.stdout.contains("tcp-client-web-81") && ran.stdout.contains("connection refused"), "{}", ran.stdout);
    let one = lab.json(&project.args(&["check", "web answers", "tcp-client-web-80"]));
    assert_eq!(outcomes(&one), [("web answers", "passed"), ("tcp-client-web-80", "passed")]);
    let ran = lab.run(&project.args(&["check", "web answer"]));
    assert!(ran.status == 3 && ran.stderr.contains("did you mean `web answers`?"), "{}", ran.stderr);

    // The file here is what counts, also before an `up`; what fails is told with what was seen, and ends with 7.
    let worse = lab.project("check-real", &format!("{YAML}{WRONG}"));
    let junit = project.folder.join("report.xml");
    let ran = lab.run(&worse.args(&["check", "--junit", junit.to_str().expect("UTF-8")]));
    println!("{}\n{}", ran.stdout, ran.stderr);
    assert_eq!(ran.status, 7);
    for words in ["12 passed, 5 failed", "connection refused", "without `no such words`", "1 answer to 1 request", "no answer within 1 s"] {
        assert!(ran.stdout.contains(words), "no `{words}` in {}", ran.stdout);
    }
    assert!(!ran.stdout.contains('\u{1b}') && ran.stderr.contains("5 of 17 checks failed"), "{}", ran.stderr);
    // Others can read the report, too.
    let path = junit.to_str().expect("UTF-8");
    lab::lines("xmllint", &["--noout", path]);
    let query = "concat(/testsuites/testsuite/@tests, ' ', /testsuites/@failures, ' ', count(//failure), ' ', //testcase[16]/@name)";
    assert_eq!(lab::lines("xmllint", &["--xpath", query, path]), ["17 5 5 <evil name=\"x\">&"]);

    // A guest that stands still cannot be asked: an error, not a failure, and not in vain for ever.
    lab::lines("virsh", &["-q", "suspend", "check-real.client"]);
    let began = Instant::now();
    let ran = lab.run(&project.args(&["check", "-o", "json", "exec-client-test", "ping-web-client:eth0"]));
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    lab::lines("virsh", &["-q", "resume", "check-real.client"]);
    assert_eq!((ran.status, outcomes(&report)), (7, vec![("ping-web-client:eth0", "failed"), ("exec-client-test", "error")]), "{report:#}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());

    // Ctrl-C ends the commands in the guests as well.
    let slow = lab
        .project("check-real", &format!("{YAML}  - {{name: slow, exec: {{guest: client, command: [sleep, \"4712\"]}}, timeout_s: 600}}\n"));
    let mut child = lab.command(&slow.args(&["check", "slow"])).stderr(std::process::Stdio::null()).spawn().expect("testbed runs");
    let sleeping = |lab: &Lab| {
        lab.ok(&["-p", "check-real", "exec", "client", "--", "sh", "-c", "ps -o args | grep -c '^sleep 471[2]' || true"]).stdout
    };
    lab::wait("the command runs", Duration::from_secs(20), || sleeping(&lab) == "1\n");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(sleeping(&lab), "0\n");
    // What was asked of guests says nothing about the deployment.
    assert_eq!(lab.json(&["-p", "check-real", "info"])["last_action"]["command"], "up");
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.leftovers("check-real"), Vec::<String>::new());
}
