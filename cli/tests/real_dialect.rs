//! Files of the existing dialect on the real parts: what acts runs, and what cannot act is refused before anything is made.

mod lab;

use std::time::Duration;

use lab::Lab;

const NETWORK: &str = "network: {ovn: {switches: {lan: {subnet: 10.68.0.0/24}}}}\n";

#[test]
fn what_cannot_act_is_refused_by_name_and_place_before_anything_is_made() {
    let mut lab = Lab::start();
    let machines = "  - {name: fine, micro: {}, network: [{switch: lan, ip: 10.68.0.9}]}
  - {name: container, resources: {disk_iops: 9},
     docker: {image: nginx:stable, volumes: [{source: none, target: /srv}]}}
  - name: phone
    android: {avd: {android_api_version: 28}}
";
    let project = lab.project("dialect-refused", &format!("machines:\n{machines}{NETWORK}"));
    let ran = lab.run(&project.args(&["up"]));
    assert_eq!(ran.status, 2, "{}", ran.stderr);
    for (key, place) in [("`disk_iops`", "3:46"), ("`android`", "6:5")] {
        assert!(ran.stderr.contains(&format!("error[E090]: {key}")), "{key}: {}", ran.stderr);
        assert!(ran.stderr.contains(&format!("kvm-compose.yaml:{place}\n")), "{key} {place}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("`fine`"), "{}", ran.stderr);
    assert_eq!(lab.leftovers("dialect-refused"), Vec::<String>::new());
    let ran = lab.run(&project.args(&["-o", "json", "up"]));
    let problem: serde_json::Value = ran.stderr.lines().rev().find_map(|line| serde_json::from_str(line).ok()).expect("a problem");
    assert_eq!((problem["code"].as_str(), problem["diagnostics"].as_array().map(Vec::len)), (Some("unsupported"), Some(2)), "{problem}");
    // What only looks takes the file.
    lab.ok(&project.args(&["config"]));
    lab.ok(&project.args(&["plan", "--offline"]));
    assert_eq!(lab.run(&project.args(&["plan"])).status, 2);
}

#[test]
fn bridges_clones_conditions_and_order_act() {
    let mut lab = Lab::start();
    let yaml = "machines:
  - name: disk
    libvirt:
      cpus: 1
      memory_mb: 64
      libvirt_type: {existing_disk: {path: blank.img}}
      scaling: {count: 2, interfaces: [{bridge: br0, clones: [0]}, {bridge: br1, clones: [1]}]}
  - name: web
    interfaces: [{bridge: br1}]
    micro: {services: {http: 8080}}
    depends_on: [db]
    ready: {http: 8080}
    labels: {tier: front}
  - name: db
    interfaces: [{bridge: br0}]
    micro: {services: {http: 80}}
    ready: {tcp: 80}
    labels: {tier: back}
bridges: [{name: br0, protocol: OpenFlow13}, {name: br1}]
bridge_connections: {br0: br1}
";
    let project = lab.project("dialect-real", yaml);
    std::fs::write(project.folder.join("blank.img"), vec![0; 1 << 20]).expect("written");
    let plan = lab.json(&project.args(&["plan"]));
    let steps: Vec<&str> = plan["steps"].as_array().expect("steps").iter().filter_map(|step| step["id"].as_str()).collect();
    let place = |id: &str| steps.iter().position(|step| *step == id).unwrap_or_else(|| panic!("no {id} in {steps:?}"));
    assert!(place("ready/db") < place("start/web"), "{steps:?}");
    lab.ok(&project.args(&["up"]));
    // It was waited for: the order is in the log.
    let log = lab.ok(&["-p", "dialect-real", "logs"]).stdout;
    let line = |words: &str| log.lines().position(|line| line.contains(words)).unwrap_or_else(|| panic!("no `{words}` in {log}"));
    assert!(line("ready/db") < line("start/web"), "{log}");
    let guests = lab.json(&["-p", "dialect-real", "ps"]);
    let names: Vec<&str> = guests.as_array().expect("guests").iter().filter_map(|guest| guest["name"].as_str()).collect();
    assert_eq!(names, ["db", "disk-0", "disk-1", "web"]);
    assert!(guests.as_array().expect("guests").iter().all(|guest| guest["ready"] == true), "{guests}");
    let front = lab.json(&["-p", "dialect-real", "ps", "--label", "tier=front"]);
    assert_eq!(front.as_array().map(|list| list.iter().map(|guest| guest["name"].clone()).collect::<Vec<_>>()), Some(vec!["web".into()]));
    // Connected bridges are one segment.
    let address = guests[0]["nics"][0]["address"].as_str().expect("an address").to_string();
    lab::wait("web reaches db", Duration::from_secs(30), || {
        lab.run(&["-p", "dialect-real", "exec", "web", "--", "ping", "-c", "1", "-W", "1", &address]).status == 0
    });
    assert_eq!(lab.json(&project.args(&["plan"]))["steps"], serde_json::json!([]));
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.leftovers("dialect-real"), Vec::<String>::new());
}
