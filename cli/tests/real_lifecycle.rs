//! Guests stopped, started, restarted and paused on the real parts: what stays, in which order, and after a `kill -9`.

mod containers;
mod lab;

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

use containers::{IMAGE, image, left};
use lab::Lab;

fn yaml() -> String {
    format!(
        r#"
machines:
  - name: web
    micro: {{setup_script: setup.sh}}
    network: [{{switch: lan, ip: 10.68.0.2}}]
  - name: client
    micro: {{}}
    depends_on: [web]
    network: [{{switch: lan, ip: 10.68.0.3, impairment: {{delay_ms: 5}}}}]
  - name: box
    docker: {{image: {IMAGE}, entrypoint: [/bin/sh, -c], command: ["trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"]}}
    network: [{{switch: lan, ip: 10.68.0.4}}]
network: {{ovn: {{switches: {{lan: {{subnet: 10.68.0.0/24}}}}}}}}
"#
    )
}

fn states(lab: &Lab, project: &lab::Project) -> Vec<(String, String)> {
    let guests = lab.json(&project.args(&["ps"]));
    let word = |guest: &serde_json::Value, key: &str| guest[key].as_str().expect("text").to_string();
    guests.as_array().expect("a list").iter().map(|guest| (word(guest, "name"), word(guest, "state"))).collect()
}

fn all(machines: &str, container: &str) -> Vec<(String, String)> {
    [("box", container), ("client", machines), ("web", machines)].map(|(name, state)| (name.to_string(), state.to_string())).to_vec()
}

fn reaches(lab: &Lab, project: &lab::Project) {
    lab.ok(&project.args(&["exec", "client", "--", "ping", "-c", "1", "-W", "5", "10.68.0.2"]));
    lab.ok(&project.args(&["exec", "client", "--", "ping", "-c", "1", "-W", "5", "10.68.0.4"]));
}

#[test]
fn guests_stop_and_start_with_their_wires_and_any_server_may_die_meanwhile() {
    image();
    let mut lab = Lab::start();
    let project = lab.project("life-real", &yaml());
    std::fs::write(project.folder.join("setup.sh"), "#!/bin/sh\necho set >> /root/setup\n").expect("written");
    lab.ok(&project.args(&["up"]));
    lab.ok(&project.args(&["link", "set", "client:eth0", "delay_ms=9"]));

    // A clean end: the guest's own system shuts down, and nothing but its process is gone.
    let rows = lab.json(&project.args(&["info"]));
    let ran = lab.ok(&project.args(&["stop"]));
    assert!(!ran.stderr.contains("by force"), "{}", ran.stderr);
    let order = |text: &str, first: &str, second: &str| text.find(first).expect("first") < text.find(second).expect("second");
    assert!(order(&ran.stderr, "stop/client: done", "stop/web: started"), "{}", ran.stderr);
    assert_eq!(states(&lab, &project), all("shut off", "exited (7)"));
    let stopped = lab.json(&project.args(&["info"]));
    assert_eq!((&stopped["rows_wanted"], &stopped["phase"]), (&rows["rows_wanted"], &"partial".into()));
    let why = lab.run(&project.args(&["why", "client", "web"]));
    assert!(why.status == 1 && why.stdout.contains("guest `client` is stopped"), "{}", why.stdout);
    let exec = lab.run(&project.args(&["exec", "web", "--", "true"]));
    assert!(exec.status != 0 && exec.stderr.contains("testbed start web"), "{}", exec.stderr);

    let ran = lab.ok(&project.args(&["start"]));
    assert!(order(&ran.stderr, "ready/web: done", "start/client: started"), "{}", ran.stderr);
    assert_eq!(states(&lab, &project), all("running", "running"));
    reaches(&lab, &project);
    assert_eq!(lab.ok(&project.args(&["exec", "web", "--", "cat", "/root/setup"])).stdout, "set\n", "set up anew");
    let links = lab.json(&project.args(&["link", "show", "--no-probe", "client"])).to_string();
    assert!(links.contains("\"delay_ms\":9"), "what was asked of the link stays: {links}");

    // Held: it does nothing, and goes on where it was.
    lab.ok(&project.args(&["pause", "web", "box"]));
    assert_eq!(states(&lab, &project).into_iter().filter(|(_, state)| state == "paused").count(), 2);
    let why = lab.run(&project.args(&["why", "client", "web"]));
    assert!(why.status == 1 && why.stdout.contains("guest `web` is paused"), "{}", why.stdout);
    lab.ok(&project.args(&["resume"]));
    reaches(&lab, &project);

    // `up` lets both go on, and is then done.
    lab.ok(&project.args(&["pause", "client"]));
    lab.ok(&project.args(&["stop", "web", "--force"]));
    lab.ok(&project.args(&["up"]));
    assert_eq!(states(&lab, &project), all("running", "running"));
    assert_eq!(lab.json(&project.args(&["plan"]))["steps"], serde_json::json!([]));

    // A guest that will not: forced at the limit, which is told.
    lab.ok(&project.args(&["exec", "web", "--", "sh", "-c", "killall acpid; mv /bin/shutdown /bin/none"]));
    let began = Instant::now();
    let ran = lab.ok(&project.args(&["-v", "stop", "web", "-t", "3"]));
    assert!(ran.stderr.contains("did not shut down within 3 s") && began.elapsed() < Duration::from_secs(20), "{}", ran.stderr);

    // The server dies while it restarts; another one is told the same.
    let mut child = lab.command(&project.args(&["restart"])).stderr(Stdio::piped()).spawn().expect("testbed runs");
    let told = BufReader::new(child.stderr.take().expect("stderr"));
    assert!(told.lines().map_while(Result::ok).any(|line| line.contains("stop/client: done")), "it stops the first");
    lab.kill();
    // It would wait a minute for the server.
    child.kill().expect("it waits");
    child.wait().expect("it ends");
    lab.boot();
    lab.ok(&project.args(&["restart"]));
    assert_eq!(states(&lab, &project), all("running", "running"));
    reaches(&lab, &project);
    assert_eq!(lab.run(&project.args(&["start", "nobody"])).status, 3);
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.run(&project.args(&["start", "web"])).status, 3, "what is not there is for `up`");
    assert_eq!(left(&lab, "life-real"), Vec::<String>::new());
}
