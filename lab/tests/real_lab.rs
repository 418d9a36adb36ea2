//! The fixture on a real lab: what a test does with hosts, and that nothing is left whatever ends the test.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use testbedos_lab::{Lab, LabError, Plane, Signal, until};

const SOON: Duration = Duration::from_secs(20);
/// Set in the process that is killed while it owns a lab.
const OWNER: &str = "TESTBEDOS_LAB_TEST_OWNER";

fn gone(folder: &Path) -> Option<()> {
    (!folder.join("state").exists()).then_some(())
}

#[test]
fn hosts_are_used_cut_and_powered_off() -> Result<(), LabError> {
    let lab = Lab::up(2)?;
    assert_eq!(lab.status()?.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(), ["m", "h1"]);
    assert_eq!(lab.ok("h1", &["hostname"])?, "h1\n");
    assert_eq!(lab.exec("h1", &["sh", "-c", "exit 42"])?.status.code(), Some(42));
    assert!(matches!(lab.ok("m", &["sh", "-c", "echo why; exit 1"]), Err(LabError::Failed { output, .. }) if output == "why\n"));
    assert!(matches!(lab.host("h7"), Err(LabError::NoHost(_))));

    // A file of the host, from outside.
    lab.ok("h1", &["sh", "-c", "echo inside >/run/testbedos/file"])?;
    assert_eq!(fs::read_to_string(lab.path("h1", "/run/testbedos/file"))?, "inside\n");

    // A program that runs on: its output, a signal, kill -9.
    let log = lab.folder().join("state/program.out");
    let mut program = lab.spawn("h1", &["sh", "-c", "trap 'echo term; exit 5' TERM; echo started; while :; do sleep 0.05; done"], &log)?;
    until("it has started", SOON, || program.output().contains("started").then_some(()))?;
    program.signal(Signal::TERM)?;
    assert_eq!(program.wait(SOON)?.code(), Some(5));
    assert_eq!(program.output(), "started\nterm\n");
    let mut program = lab.spawn("h1", &["sleep", "4712"], &log)?;
    lab.ok("h1", &["pgrep", "-fx", "sleep 4712"])?;
    program.kill()?;
    assert!(lab.ok("h1", &["pgrep", "-fx", "sleep 4712"]).is_err());

    // Cables.
    let m = lab.host("m")?;
    let reaches =
        |address: &str| lab.exec("h1", &["busybox", "ping", "-c", "1", "-W", "1", address]).is_ok_and(|output| output.status.success());
    until("both networks carry", SOON, || (reaches(&m.management) && reaches(&m.data)).then_some(()))?;
    lab.cut("h1", Plane::Management)?;
    assert!(!reaches(&m.management) && reaches(&m.data));
    lab.heal("h1", Plane::Management)?;
    lab.cut("h1", Plane::Data)?;
    assert!(!reaches(&m.data));
    until("the management network carries again", SOON, || reaches(&m.management).then_some(()))?;
    lab.heal("h1", Plane::Data)?;

    // Power.
    let mut program = lab.spawn("h1", &["sleep", "4713"], &log)?;
    lab.poweroff("h1")?;
    assert!(!program.wait(SOON)?.success());
    assert_eq!(lab.host("h1")?.pid, None);
    assert!(lab.ok("h1", &["true"]).is_err());
    assert!(lab.spawn("h1", &["true"], &log).is_err());
    lab.poweron("h1")?;
    until("both networks carry again", SOON, || (reaches(&m.management) && reaches(&m.data)).then_some(()))?;

    let folder = lab.folder().to_owned();
    drop(lab);
    assert!(!folder.exists(), "{} is left", folder.display());
    Ok(())
}

#[test]
fn a_lab_ends_with_a_process_that_is_killed() -> Result<(), LabError> {
    if std::env::var_os(OWNER).is_some() {
        let lab = Lab::up(1)?;
        println!("\nfolder {}", lab.folder().display());
        let nothing = std::io::stdin().lines().next();
        panic!("not killed, but told {nothing:?}");
    }
    let mut owner = Command::new(std::env::current_exe()?)
        .args(["--exact", "a_lab_ends_with_a_process_that_is_killed", "--nocapture"])
        .env(OWNER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(owner.stdout.take().expect("a pipe"));
    let folder = output.lines().map_while(Result::ok).find_map(|line| line.strip_prefix("folder ").map(PathBuf::from));
    let folder = folder.expect("the owner's lab");
    assert!(folder.join("m/run/libvirt/libvirt-sock").exists());
    owner.kill()?;
    owner.wait()?;
    until("the lab has ended", SOON, || gone(&folder))?;
    Ok(())
}
