//! A testbed of several files with variables, on the real parts: what was handed over is what stands, for every later reader.

mod lab;

use lab::{Lab, running};

const MAIN: &str = "\
extends: base.yaml
include: [net/lan.yaml]
machines:
  - name: web
    micro: {environment: {TOKEN: \"${TOKEN:?give one}\", FROM: \"${FROM:-nowhere}\"}}
";

#[test]
fn a_composed_testbed_comes_up_and_stays_what_it_was() {
    let mut lab = Lab::start();
    let project = lab.project("co-real", MAIN);
    let write = |path: &str, text: &str| std::fs::write(project.folder.join(path), text).expect("written");
    std::fs::create_dir(project.folder.join("net")).expect("a folder");
    write("base.yaml", "machines: [{name: web, network: [{switch: lan, ip: 10.7.0.10}], micro: {memory_mb: 160}}]\n");
    write("net/lan.yaml", "network: {ovn: {switches: {lan: {subnet: \"${NET:-10.7.0.0/24}\"}}}}\n");
    write(".env", "FROM=file\n");
    let run = |args: &[&str], token: Option<&str>| {
        let mut command = lab.command(&project.args(args));
        command.env_remove("TOKEN").env_remove("FROM").env_remove("NET");
        command.envs(token.map(|token| ("TOKEN", token)));
        lab::Ran::of(command.output().expect("testbed runs"))
    };
    let refused = run(&["up"], None);
    assert!(refused.status == 2 && refused.stderr.contains("`TOKEN` is not set or empty: give one"), "{}", refused.stderr);
    let up = run(&["up", "--set", "machines.web.micro.environment.SET=\"a $b ${c}\""], Some("hunter2"));
    assert_eq!(up.status, 0, "{}{}", up.stderr, lab.server_log());
    assert_eq!(running("co-real").len(), 1);
    let said = lab.ok(&["-p", "co-real", "exec", "web", "--", "sh", "-c", "echo ${#TOKEN} $FROM \"$SET\""]).stdout;
    // What a command prints is its output and stands in its log: the secret is not printed.
    assert_eq!(said, "7 file a $b ${c}\n");

    // What lies in the folder may change: until the next `up` the testbed is what it was.
    write("net/lan.yaml", "network: [broken");
    write(".env", "FROM=elsewhere\n");
    let state = lab.json(&["-p", "co-real", "info"]);
    assert_eq!(state["phase"], "up", "{state}");
    let ps = lab.json(&["-p", "co-real", "ps"]);
    assert_eq!((&ps[0]["memory_mb"], &ps[0]["nics"][0]["address"]), (&160.into(), &"10.7.0.10".into()), "{ps}");
    assert_eq!(lab.json(&["-p", "co-real", "plan"])["steps"], serde_json::json!([]), "the stored testbed, with its values");
    let broken = run(&["plan"], Some("hunter2"));
    assert!(broken.status == 2 && broken.stderr.contains("net/lan.yaml:1:"), "{}", broken.stderr);

    // A fault in an included file comes back from the server as well, at its place; no log has the secret.
    write("net/lan.yaml", "network: {ovn: {switches: {lan: {subnet: 10.7.0.0/24}}}}\n");
    assert_eq!(run(&["up"], Some("other")).status, 0);
    let said = lab.ok(&["-p", "co-real", "exec", "web", "--", "sh", "-c", "echo $TOKEN $FROM $SET"]).stdout;
    assert_eq!(said, "other elsewhere\n");
    let logs = lab::files_below(&lab.data().join("logs")).into_iter().filter_map(|path| std::fs::read_to_string(path).ok());
    assert!(logs.into_iter().all(|log| !log.contains("hunter2")), "no log repeats a value");
    lab.ok(&["-p", "co-real", "down"]);
    assert_eq!(lab.leftovers("co-real"), Vec::<String>::new());
}
