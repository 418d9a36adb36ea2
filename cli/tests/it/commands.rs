//! Commands that ask and print, against a fake server; and those that need none.

use std::{io::Write, path::Path, process::Stdio};

use crate::fake::{ACTION, Fake, Ran, Script, entry, ran, run, testbed};
use base64::{Engine, engine::general_purpose::STANDARD};
use kvm_compose::{
    api::action::{ActionState, Command},
    error::{Code, Problem},
};
use serde_json::{Value, json};

#[test]
fn exec_passes_bytes_and_status_through() {
    let (stdout, stderr) = (b"a\xff\0b\r\n\x1b[2J".as_slice(), "oh\n");
    let problem = Problem::new(Code::CommandFailed, "`false` ended with status 42");
    let mut script = Script::up();
    script.entry = entry(Command::Exec, ActionState::Failed, Some(problem));
    script.entry.exit_status = Some(42);
    script.entry.result =
        Some(json!({"stdout_base64": STANDARD.encode(stdout), "stderr_base64": STANDARD.encode(stderr), "truncated": false}));
    let fake = Fake::start(script);
    let mut command = fake.testbed(&["exec", "web", "-e", "A=b=c", "-i", "--timeout", "9", "--", "sh", "-c", "exit 42"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the command starts");
    child.stdin.take().expect("a pipe").write_all(b"in\0put").expect("it reads");
    let ran = ran(child);
    assert_eq!((ran.status, ran.stdout.as_slice(), ran.stderr.as_str()), (Some(42), stdout, stderr));

    let request: Value = serde_json::from_str(&fake.requests()[0].body).expect("JSON");
    let expected = json!({"command": "exec", "guest": "web", "argv": ["sh", "-c", "exit 42"], "environment": {"A": "b=c"},
        "stdin_base64": STANDARD.encode(b"in\0put"), "timeout_s": 9});
    assert_eq!(request, expected);
    assert_eq!(fake.run(&["exec", "web", "ls", "-o", "x"]).status, Some(42), "what follows the command is the command's");
}

#[test]
fn exec_that_cannot_run_fails_as_an_action() {
    let mut script = Script::up();
    let problem = Problem::new(Code::AgentUnavailable, "the agent of `web` does not answer");
    script.entry = entry(Command::Exec, ActionState::Failed, Some(problem));
    let ran = Fake::start(script).run(&["exec", "web", "true"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(1), "error: the agent of `web` does not answer\n"));
}

#[test]
fn names_are_checked_at_the_door() {
    let fake = Fake::start(Script::up());
    for args in [
        &["ps", "-p", "../x"][..],
        &["info", "A;b"],
        &["deployment", "destroy", ""],
        &["deployment", "create", "x\n"],
        &["validate", "-p", "a-logs"],
        &["exec", "../x", "ls"],
        &["up", "a/b"],
        &["exec", "web", "-e", "novalue", "ls"],
        &["logs", "not an id"],
        &["--host", "ftp://x", "list"],
    ] {
        let ran = fake.run(args);
        assert_eq!(ran.status, Some(2), "{args:?} {ran:?}");
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains("\nhint: "), "{args:?} {ran:?}");
    }
    let ran = fake.run(&["-o", "json", "ps", "-p", "../x"]);
    let problem: Value = serde_json::from_str(&ran.stderr).expect("JSON");
    assert_eq!(problem["code"], "invalid_name");
    assert_eq!(fake.requests(), []);
}

#[test]
fn what_is_there_is_listed() {
    let fake = Fake::start(Script { project_location: Some("/p".into()), ..Script::up() });
    assert_eq!(fake.run(&["list"]).out(), "NAME  STATE  PHASE  LAST ACTION  PROJECT\nlab   up     up     -            /p\n");
    assert_eq!(fake.run(&["list", "-q"]).out(), "lab\n");
    assert_eq!(fake.run(&["ps", "-q"]).out(), "web\n");
    assert!(fake.run(&["ps", "--all"]).out().starts_with("DEPLOYMENT  NAME  KIND"));
    assert_eq!(fake.run(&["ps", "-o", "json"]).json()[0]["name"], "web");
    assert_eq!(fake.run(&["list", "-o", "ndjson"]).json()["name"], "lab");
    assert!(fake.run(&["info"]).out().contains(" 2 of 2 rows\n"));
    let info = fake.run(&["info", "-o", "json"]).json();
    assert_eq!((&info["name"], &info["state"], &info["project_location"]), (&json!("lab"), &json!("up"), &json!("/p")));
    assert_eq!(fake.run(&["info", "other"]).status, Some(3));
    assert_eq!(
        fake.run(&["image", "list"]).out(),
        "no images; `testbed image build micro` makes the built-in one, `testbed image pull NAME` downloads one of the catalogue\n"
    );
    assert_eq!(fake.run(&["deployment", "reset"]).out(), "`lab` is up\n");
    assert_eq!(fake.run(&["deployment", "destroy", "--force"]).status, Some(0));
    assert!(fake.requests().iter().any(|asked| asked.what == "DELETE /api/deployments/lab?force=true"));
}

#[test]
fn logs_are_printed_listed_and_followed() {
    let fake = Fake::start(Script::failing(Problem::new(Code::ChecksFailed, "no")));
    let text = Script::failing(Problem::new(Code::ChecksFailed, "no")).text(false);
    let printed = fake.run(&["logs"]);
    assert_eq!((printed.status, printed.out()), (Some(0), text.as_str()));
    let followed = fake.run(&["logs", "-f", &ACTION.to_string()]);
    assert_eq!((followed.status, followed.out()), (Some(7), text.as_str()));
    let guest = fake.run(&["logs", "web", "--tail", "1"]);
    assert_eq!((guest.status, guest.out()), (Some(0), "said last\n"), "{guest:?}");
    assert_eq!(fake.run(&["logs", "web", "-f"]).status, Some(2), "an action is followed");
    assert!(fake.run(&["logs", "--list"]).out().contains("up       failed  75"));
    assert_eq!(fake.run(&["logs", "-o", "json"]).json()["entry"]["error_code"], 75);
    let events = fake.run(&["events"]);
    assert_eq!((events.status, events.out().lines().count()), (Some(0), text.lines().count()));
    assert!(events.out().starts_with("1970-01-01T00:00:00.000Z lab: up: started\n"), "{events:?}");
}

#[test]
fn an_image_is_built() {
    let fake = Fake::start(Script::up());
    let ran = fake.run(&["image", "build", "micro"]);
    assert_eq!((ran.status, ran.out()), (Some(0), "the image `micro` is ready\n"), "{ran:?}");
    assert_eq!(fake.requests()[0].body, r#"{"build":"micro"}"#);
}

#[test]
fn the_pages_are_opened_by_a_link_if_there_is_tcp() {
    let mut script = Script::up();
    script.link = Some("http://127.0.0.1:3355/gui?link=secret");
    let fake = Fake::start(script);
    let printed = fake.run(&["gui", "--print"]);
    assert_eq!((printed.status, printed.out(), printed.stderr.as_str()), (Some(0), "http://127.0.0.1:3355/gui?link=secret\n", ""));
    // The test's environment has no desktop.
    let opened = fake.run(&["gui"]);
    assert_eq!((opened.status, opened.out()), (Some(0), printed.out()));
    assert!(opened.stderr.contains("open the link yourself within 60 s"), "{opened:?}");
    assert_eq!(fake.run(&["gui", "--print", "-o", "json"]).json()["expires_s"], 60);
    let without = Fake::start(Script::up()).run(&["gui", "--print"]);
    assert_eq!(without.status, Some(5), "{without:?}");
    assert!(without.stderr.contains("does not listen on TCP") && without.stderr.contains("--listen"), "{without:?}");
}

#[test]
fn the_doctor_says_what_to_fix() {
    let fake = Fake::start(Script::up());
    let ran = fake.run(&["doctor"]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert_eq!(
        ran.out(),
        "✓ libvirt  11.0\n! kvm      no /dev/kvm\n           fix: enable it in the firmware\n\
         ✗ ovn      no answer\n           fix: systemctl start ovn-central\n"
    );
    let mut plain = fake.testbed(&["doctor"]);
    plain.env("LANG", "C");
    assert!(run(plain).out().is_ascii());
    assert_eq!(fake.run(&["doctor", "-o", "json"]).json()["parts"][2]["ok"], false);
    assert!(fake.run(&["doctor", "--orphans"]).out().contains("old.web"));
    assert_eq!(alone(&["doctor"]).status, Some(5));
}

#[test]
fn help_names_every_command() {
    let help = alone(&["--help"]);
    assert_eq!(help.status, Some(0));
    for command in [
        "up",
        "down",
        "plan",
        "validate",
        "config",
        "schema",
        "ps",
        "list",
        "info",
        "logs",
        "events",
        "exec",
        "deployment",
        "image",
        "gui",
        "doctor",
        "version",
        "completion",
        "man",
    ] {
        assert!(help.out().contains(&format!("\n  {command} ")), "{command}");
        let own = alone(&[command, "--help"]);
        assert_eq!((own.status, own.out().contains("Global options:")), (Some(0), true), "{command}");
    }
    for argv in [&["fly"][..], &["up", "--fly"], &["up", "--timeout", "0"], &["completion", "tcsh"], &[]] {
        assert_eq!(alone(argv).status, Some(2), "{argv:?}");
    }
}

#[test]
fn these_need_no_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let inner = folder.path().join("lab/inner");
    std::fs::create_dir_all(&inner).expect("a folder");
    std::fs::write(folder.path().join("lab/kvm-compose.yml"), crate::fake::FILE).expect("a file");
    let here = |args: &[&str]| run(testbed(&inner, Path::new("/does/not/exist"), args));

    assert!(here(&["validate"]).out().contains("is valid: 1 guest (1 micro), 1 switch, 0 routers\n"));
    assert_eq!(here(&["validate", "-o", "json"]).json()["deployment"], "lab");
    assert!(here(&["plan", "--offline"]).out().contains("start/web"));
    assert_eq!(here(&["plan", "--offline", "-o", "json"]).json()["offline"], true);
    assert_eq!(here(&["schema"]).json()["type"], "object");
    assert_eq!(here(&["version"]).out(), concat!("testbed ", env!("CARGO_PKG_VERSION"), "\n"));
    assert!(here(&["man"]).out().contains(".TH testbed 1"));
    assert!(here(&["completion", "bash"]).out().contains("complete -F"));

    let config = here(&["config"]);
    std::fs::write(inner.join("again.yaml"), &config.stdout).expect("a file");
    let again = here(&["config", "-p", "lab", "--file", "again.yaml"]);
    assert_eq!(again.out(), config.out(), "a resolved file resolves to itself");
    assert_eq!(here(&["config", "-o", "json"]).json()["machines"][0]["name"], "web");
    assert_eq!(here(&["validate", "-f", "none.yaml"]).status, Some(3));
}

#[test]
fn validate_looks_at_the_files_that_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("other.yaml");
    let script = |path: &str| crate::fake::FILE.replace("micro: {}", &format!("micro: {{setup_script: {path}}}"));
    let validate = || run(testbed(folder.path(), Path::new("/does/not/exist"), &["validate", "-f", "other.yaml", "-p", "lab"]));
    std::fs::write(&file, script("setup.sh")).expect("a file");
    let missing = validate();
    assert_eq!(missing.status, Some(2), "{missing:?}");
    assert!(missing.stderr.contains("other.yaml:3:27") && missing.stderr.contains("there is no file `setup.sh`"), "{missing:?}");
    std::fs::write(folder.path().join("setup.sh"), "echo").expect("a file");
    assert_eq!(validate().status, Some(0));
    std::fs::write(&file, script("/etc/hostname")).expect("a file");
    let outside = validate();
    assert_eq!((outside.status, outside.stderr.contains("warning[W006]")), (Some(0), true), "{outside:?}");
    // Together with the faults of the testbed file itself.
    let both = "machines:\n  - {name: a, micro: {run_script: none.sh, cpu: 3}, network: [{switch: lann}]}\n\
                network: {ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}\n";
    std::fs::write(folder.path().join("other.yaml"), both).expect("written");
    let all = validate();
    assert_eq!(all.status, Some(2));
    for code in ["error[E003]", "error[E020]", "error[E070]", "has 3 faults"] {
        assert!(all.stderr.contains(code), "no {code} in {}", all.stderr);
    }
}

/// The command without a server or a project.
fn alone(args: &[&str]) -> Ran {
    run(testbed(Path::new("/"), Path::new("/does/not/exist"), args))
}
