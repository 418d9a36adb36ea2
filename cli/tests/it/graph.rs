//! `testbed graph`, which needs no server.

use std::fs;

use crate::fake::{run, testbed};

const YAML: &str = "machines: [{name: web, micro: {}, network: [{switch: lan, ip: 10.0.0.9}]}]\n\
    network: {ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}\n";

#[test]
fn a_picture_in_each_language() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("kvm-compose.yaml");
    fs::write(&file, YAML).expect("written");
    let graph = |args: &[&str]| {
        let args = [&["graph", "-p", "lab"], args].concat();
        run(testbed(folder.path(), &folder.path().join("no.sock"), &args))
    };
    for (language, beginning) in
        [("svg", "<svg "), ("mermaid", "---\ntitle: \"lab\"\n"), ("dot", "graph \"lab\" {\n"), ("d2", "# The testbed lab\n")]
    {
        let ran = graph(&["--format", language]);
        let text = String::from_utf8(ran.stdout).expect("text");
        assert!(ran.status == Some(0) && text.starts_with(beginning) && text.contains("10.0.0.9"), "{language}: {text}{}", ran.stderr);
    }
    for (name, beginning) in [("a.svg", "<svg "), ("a.mmd", "---"), ("a.gv", "graph"), ("a.d2", "#")] {
        let ran = graph(&[name]);
        assert_eq!((ran.status, ran.stdout.as_slice()), (Some(0), b"".as_slice()), "{}", ran.stderr);
        assert!(fs::read_to_string(folder.path().join(name)).expect("written").starts_with(beginning));
    }
    let ran = graph(&["a.png"]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("--format"), "{}", ran.stderr);
}
