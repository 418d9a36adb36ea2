//! Every folder in `examples/` on the real parts: valid without surprises, up, as its checks say, down, and nothing left.
//!
//! `TESTBED_EXAMPLES=acl,ipv6` runs some of them alone.

mod containers;
mod lab;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lab::{Lab, Project};

/// How long one example may take from `up` to the end of `down`. Without KVM, on a busy machine, most of it is booting.
const LIMIT: Duration = Duration::from_secs(120);
/// The same, for one whose guests are of a distribution.
const LONG: &[(&str, Duration)] = &[("cloud-image", Duration::from_secs(300)), ("clones", Duration::from_secs(420))];

/// Warnings that an example means to have: its name, the code.
const WARNINGS: &[(&str, &str)] = &[("bridges", "W")];

/// What is asked of examples that have no `checks`: the guest and a command that succeeds in it.
const PROBES: &[(&str, &str, &[&str])] = &[
    ("quickstart", "client", &["wget", "-q", "-O", "/dev/null", "http://10.0.2.10/"]),
    ("nat", "client", &["ping", "-c", "1", "-W", "5", "10.72.2.11"]),
    ("localnet", "db", &["ping", "-c", "1", "-W", "5", "10.73.0.2"]),
];

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let chosen = std::env::var("TESTBED_EXAMPLES").ok();
    let wanted = |name: &str| chosen.as_ref().is_none_or(|chosen| chosen.split(',').any(|one| one == name));
    let entries = std::fs::read_dir(folder).expect("examples/").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.join("kvm-compose.yaml").is_file() && wanted(&name_of(path))).collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

fn name_of(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

/// A copy of the example's folder as a project of the lab.
fn copy(lab: &mut Lab, from: &Path) -> Project {
    let text = std::fs::read_to_string(from.join("kvm-compose.yaml")).expect("readable");
    let project = lab.project(&format!("ex-{}", name_of(from)), &text);
    for file in lab::files_below(from) {
        let to = project.folder.join(file.strip_prefix(from).expect("below it"));
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        std::fs::copy(&file, to).expect("copied");
    }
    project
}

/// The image that `./setup.sh test` makes, under the name of the catalogue's.
fn debian(lab: &Lab) {
    let path = std::env::var_os("TESTBEDOS_DEBIAN_IMAGE").map_or_else(|| "/var/cache/testbedos/debian-12.qcow2".into(), PathBuf::from);
    assert!(path.exists(), "{} has not been made: `./setup.sh test` makes it", path.display());
    let there = lab.json(&["image", "list"]);
    if !there.as_array().expect("images").iter().any(|image| image["name"] == "debian_12") {
        lab.ok(&["image", "import", &path.to_string_lossy(), "--name", "debian_12"]);
    }
}

/// The arguments of a command about one of a project's files.
fn of(project: &Project, file: &str, command: &[&str]) -> Vec<String> {
    let path = project.folder.join(file).to_string_lossy().into_owned();
    ["-f", &path, "-p", &project.name].iter().chain(command).map(ToString::to_string).collect()
}

/// An edit of the running testbed: nobody restarts, and what the edited file expects holds.
fn change(lab: &Lab, project: &Project, name: &str) {
    let of = |command: &[&str]| of(project, "changed.yaml", command);
    let args = |all: &[String]| lab.json(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let planned = args(&of(&["plan"]));
    let restarts = |change: &&serde_json::Value| matches!(change["impact"].as_str(), Some("restart" | "recreate"));
    let changes = planned["changes"].as_array().expect("changes");
    assert!(!changes.is_empty() && !changes.iter().any(|change| restarts(&change)), "{name}: {changes:#?}");
    for command in ["up", "check"] {
        let arguments = of(&[command]);
        lab.ok(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn every_example_comes_up_works_and_leaves_nothing() {
    let mut lab = Lab::start();
    for path in examples() {
        let name = name_of(&path);
        let project = copy(&mut lab, &path);
        let valid = lab.json(&project.args(&["validate"]));
        let warnings = valid["warnings"].as_array().expect("warnings");
        let meant = |code: &str| WARNINGS.iter().any(|(example, prefix)| *example == name && code.starts_with(prefix));
        let strange: Vec<_> = warnings.iter().filter(|warning| !meant(warning["code"].as_str().unwrap_or_default())).collect();
        assert!(strange.is_empty(), "{name}: {strange:#?}");

        if LONG.iter().any(|(long, _)| *long == name) {
            // The publisher's own is as good; none is asked here.
            debian(&lab);
        }
        if name == "containers" {
            // The registry's own is as good; none is asked here.
            containers::image_named("busybox:stable");
        }
        let began = Instant::now();
        lab.ok(&project.args(&["up"]));
        let up = began.elapsed();
        if lab.ok(&project.args(&["config"])).stdout.contains("\nchecks:") {
            let ran = lab.run(&project.args(&["check"]));
            assert_eq!(ran.status, 0, "{name}: {}{}", ran.stdout, ran.stderr);
        } else if let Some((_, guest, command)) = PROBES.iter().find(|(example, ..)| *example == name) {
            let mut args = vec!["-p", &project.name, "exec", guest, "--"];
            args.extend(*command);
            lab.ok(&args);
        }
        if path.join("changed.yaml").is_file() {
            change(&lab, &project, &name);
        }
        let used = began.elapsed();
        let file = if path.join("changed.yaml").is_file() { "changed.yaml" } else { "kvm-compose.yaml" };
        let planned = lab.json(&of(&project, file, &["plan"]).iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(planned["steps"], serde_json::json!([]), "{name}: a second `up` finds nothing to do");
        lab.ok(&project.args(&["down"]));
        assert_eq!(lab.leftovers(&project.name), Vec::<String>::new(), "{name}");
        assert_eq!(containers::all(&project.name), Vec::<String>::new(), "{name}");
        println!("{name}: up {:.1} s, checked {:.1} s, down {:.1} s", up.as_secs_f32(), used.as_secs_f32(), began.elapsed().as_secs_f32());
        let limit = LONG.iter().find(|(long, _)| *long == name).map_or(LIMIT, |(_, limit)| *limit);
        if LONG.iter().any(|(long, _)| *long == name) {
            lab.ok(&["image", "prune"]);
            lab.ok(&["image", "rm", "debian_12"]);
        }
        assert!(began.elapsed() < limit, "{name} took {:?}", began.elapsed());
    }
}
