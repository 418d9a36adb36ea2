//! Two at once, Ctrl-C, a killed client, followers that come late: the work belongs to the server.

mod lab;

use std::{
    io::Read,
    process::{Command, Stdio},
    time::Duration,
};

use lab::{Lab, QUICKSTART, Ran, running};

fn wait_running(lab: &Lab, name: &str) {
    lab::wait("an action runs", Duration::from_secs(20), || {
        let ran = lab.run(&["-o", "json", "-p", name, "info"]);
        ran.status == 0 && ran.stdout.contains("\"running\"")
    });
}

#[test]
fn the_second_up_is_told_who_is_busy_and_a_killed_client_disturbs_nothing() {
    let mut lab = Lab::start();
    let project = lab.project("two-real", QUICKSTART);
    let mut first = lab.command(&project.args(&["up"])).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("testbed runs");
    wait_running(&lab, "two-real");
    let uuid = lab.json(&["-p", "two-real", "info"])["last_action"]["uuid"].as_str().expect("a uuid").to_string();
    let second = lab.run(&project.args(&["up"]));
    assert_eq!(second.status, 4, "{}", second.stderr);
    assert!(second.stderr.contains(&uuid), "{} does not name {uuid}", second.stderr);

    // The client dies; the work goes on; a late follower sees every line once, in order.
    first.kill().expect("killed");
    first.wait().expect("gone");
    let followers: Vec<_> = (0..5)
        .map(|_| {
            lab.command(&["-p", "two-real", "logs", "-f", &uuid])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("testbed runs")
        })
        .collect();
    let texts: Vec<String> = followers
        .into_iter()
        .map(|mut child| {
            let mut text = String::new();
            child.stdout.take().expect("stdout").read_to_string(&mut text).expect("text");
            assert!(child.wait().expect("ended").success());
            text
        })
        .collect();
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(lab.data().join("deployments/two-real-logs.json")).expect("the index")).expect("JSON");
    let log = std::fs::read_to_string(index[&uuid]["log_path"].as_str().expect("a path")).expect("the log");
    for text in &texts {
        assert_eq!(text, &log);
    }
    assert_eq!(lab.ok(&["-p", "two-real", "logs", &uuid]).stdout, log);
    assert_eq!(running("two-real").len(), 2);
    assert_eq!(lab.json(&["-p", "two-real", "info"])["state"], "up");
    lab.ok(&project.args(&["down"]));
}

#[test]
fn ctrl_c_unwinds_and_exits_130() {
    let mut lab = Lab::start();
    let project = lab.project("ctrlc-real", QUICKSTART);
    let child = lab.command(&project.args(&["up"])).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("testbed runs");
    lab::wait("a domain runs", Duration::from_secs(60), || !running("ctrlc-real").is_empty());
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
    let ran = Ran::of(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.status, 130, "{}\n{}", ran.stdout, ran.stderr);
    assert_eq!(lab.leftovers("ctrlc-real"), Vec::<String>::new());
    let info = lab.json(&["-p", "ctrlc-real", "info"]);
    assert_eq!(info["last_action"]["state"], "cancelled", "{info}");
}
