//! Guests of both kinds on the real parts: disks that boot, scripts that run.

mod lab;

use std::{io::Write as _, process::Stdio, time::Duration};

use lab::{Lab, lines};

const NETWORK: &str = "network: {ovn: {switches: {lan: {subnet: 10.67.0.0/24}}}}\n";
const SIGN: &[u8] = b"TESTBED-DISK\r\n\0";

/// A disk that boots in a real BIOS: 21 bytes of 16-bit code that write a sign of life to the first serial port
/// (`lodsb; test al,al; jz; mov dx,3f8h; out dx,al; jmp`), then halt.
fn bootable_disk() -> Vec<u8> {
    let mut disk = boot_sector(SIGN);
    disk.resize(1 << 20, 0);
    disk
}

fn boot_sector(sign: &[u8]) -> Vec<u8> {
    let mut disk =
        vec![0x31, 0xC0, 0x8E, 0xD8, 0xBE, 0x15, 0x7C, 0xAC, 0x84, 0xC0, 0x74, 0x06, 0xBA, 0xF8, 0x03, 0xEE, 0xEB, 0xF5, 0xF4, 0xEB, 0xFD];
    disk.extend_from_slice(sign);
    disk.resize(510, 0);
    disk.extend_from_slice(&[0x55, 0xAA]);
    disk
}

#[test]
fn disks_boot_as_clones_copies_and_read_only_and_stay_untouched() {
    let mut lab = Lab::start();
    let machine = |name: &str, disk: &str| {
        format!(
            "  - name: {name}\n    libvirt: {{cpus: 1, memory_mb: 64, libvirt_type: {{existing_disk: {{{disk}}}}}}}\n    network: [{{switch: lan}}]\n"
        )
    };
    let yaml = format!(
        "machines:\n{}{}{}{NETWORK}",
        machine("linked", "path: base.img"),
        machine("deep", "path: base.qcow2, driver_type: qcow2, create_deep_copy: true"),
        machine("fixed", "path: \"${PWD}/base.img\", readonly: true")
    );
    let project = lab.project("disk-real", &yaml);
    std::fs::write(project.folder.join("base.img"), bootable_disk()).expect("written");
    let (raw, qcow2) = (project.folder.join("base.img"), project.folder.join("base.qcow2"));
    lines("qemu-img", &["convert", "-O", "qcow2", raw.to_str().expect("UTF-8"), qcow2.to_str().expect("UTF-8")]);
    let before = std::fs::read(&qcow2).expect("readable");
    lab.ok(&project.args(&["up"]));
    let folder = lab.data().join("deployments/disk-real");
    for guest in ["linked", "deep", "fixed"] {
        let log = folder.join(format!("console/{guest}.log"));
        lab::wait(&format!("{guest} boots from its disk"), Duration::from_secs(30), || {
            std::fs::read(&log).is_ok_and(|text| text.windows(12).any(|part| part == &SIGN[..12]))
        });
    }
    // A linked clone names its base, a deep copy stands alone, a read-only guest has no disk of its own.
    let disks = lab::files_below(&folder.join("disks"));
    assert_eq!(disks.len(), 2, "{disks:?}");
    for disk in &disks {
        let info = lines("qemu-img", &["info", "-U", "--output=json", disk.to_str().expect("UTF-8")]).join("");
        assert_eq!(info.contains("backing-filename"), disk.to_string_lossy().contains("linked"), "{info}");
    }
    assert_eq!(lab.json(&project.args(&["plan"]))["steps"], serde_json::json!([]));
    // A disk that is lost behind our back: the guest is made again, alone.
    let lost = disks.iter().find(|disk| disk.to_string_lossy().contains("deep")).expect("the copy");
    std::fs::remove_file(lost).expect("removed");
    let plan = lab.json(&project.args(&["plan"]))["steps"].to_string();
    assert!(plan.contains("recreate") && plan.contains("deep") && !plan.contains("linked"), "{plan}");
    lab.ok(&project.args(&["up"]));
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.leftovers("disk-real"), Vec::<String>::new());
    assert_eq!(std::fs::read(&raw).expect("readable"), bootable_disk());
    assert_eq!(std::fs::read(&qcow2).expect("readable"), before);

    // A header that contradicts the file is refused with both named.
    let wrong = lab.project("disk-real", &format!("machines:\n{}{NETWORK}", machine("linked", "path: base.qcow2")));
    let ran = lab.run(&wrong.args(&["up"]));
    assert_ne!(ran.status, 0);
    assert!(ran.stderr.contains("E073") && ran.stderr.contains("raw") && ran.stderr.contains("qcow2"), "{}", ran.stderr);
}

#[test]
fn an_installer_boots_until_its_disk_does() {
    const INSTALLER: &[u8] = b"TESTBED-CDROM\r\n\0";
    let mut lab = Lab::start();
    let yaml = format!(
        "machines:\n  - name: box\n    network: [{{switch: lan}}]\n    ready: {{log: TESTBED-CDROM, timeout_s: 60}}\n    libvirt: {{cpus: 1, memory_mb: 64, libvirt_type: {{iso_guest: {{path: install.iso, expand_gigabytes: 3}}}}}}\n{NETWORK}"
    );
    let project = lab.project("iso-real", &yaml);
    let files = project.folder.join("iso");
    std::fs::create_dir(&files).expect("made");
    std::fs::write(files.join("boot.img"), boot_sector(INSTALLER)).expect("written");
    let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_string();
    let iso = text(&project.folder.join("install.iso"));
    lines("genisoimage", &["-quiet", "-b", "boot.img", "-no-emul-boot", "-boot-load-size", "1", "-o", &iso, &text(&files)]);
    lab.ok(&project.args(&["up"]));
    let devices = lines("virsh", &["domblklist", "--details", "iso-real.box"]).join("\n");
    assert!(devices.contains("cdrom") && devices.contains("install.iso"), "{devices}");
    let folder = lab.data().join("deployments/iso-real");
    let disk = lab::files_below(&folder.join("disks")).pop().expect("a disk");
    let info = lines("qemu-img", &["info", "-U", "--output=json", &text(&disk)]).join("");
    assert!(info.contains(&(3u64 << 30).to_string()) && !info.contains("backing"), "{info}");
    assert_eq!(lab.json(&project.args(&["plan"]))["steps"], serde_json::json!([]));
    // It installs, and powers off: from then on it is the disk that boots, which stays when the installer is another.
    lines("virsh", &["destroy", "iso-real.box"]);
    let sector = project.folder.join("sector");
    std::fs::write(&sector, boot_sector(SIGN)).expect("written");
    lines("qemu-io", &["-f", "qcow2", "-c", &format!("write -q -s {} 0 512", text(&sector)), &text(&disk)]);
    let yaml = yaml.replace("TESTBED-CDROM", "TESTBED-DISK").replace("memory_mb: 64", "memory_mb: 72");
    let project = lab.project("iso-real", &yaml);
    lab.ok(&project.args(&["up"]));
    assert_eq!(lab::files_below(&folder.join("disks")), [disk]);
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.leftovers("iso-real"), Vec::<String>::new());
}

fn exec_tells_what_became_of_the_command(lab: &Lab) {
    let exec = |argv: &[&str]| lab.run(&[&["-p", "script-real", "exec", "a"], argv].concat());
    // More output than an agent's message holds, and more than is kept: the status is the command's own.
    let ran = exec(&["--", "sh", "-c", "head -c 3400000 /dev/zero; exit 4"]);
    assert_eq!((ran.status, ran.stdout.len()), (4, 3_400_000), "{}", ran.stderr);
    let ran = exec(&["--", "sh", "-c", "head -c 17000000 /dev/zero; exit 5"]);
    assert_eq!((ran.status, ran.stdout.len(), ran.stderr.contains("longer than 16 MiB")), (5, 16 << 20, true), "{}", ran.stderr);
    // A signal is named, a program that is not there too.
    let ran = exec(&["--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(
        (ran.status, ran.stderr.ends_with("`sh` in guest `a` ended with status 137: signal 9 (SIGKILL)\n")),
        (137, true),
        "{}",
        ran.stderr
    );
    for program in ["no-such-program", "/no/such/program"] {
        let ran = exec(&["--", program]);
        assert_eq!((ran.status, ran.stderr), (127, format!("{program}: not found\n")));
    }
    assert_eq!(exec(&["--", "/etc/hostname"]).status, 126);
    assert_eq!(exec(&["--", &"x".repeat(110 << 10)]).status, 2, "a command line that would hang the agent");
    // At the limit all processes of the command go, and what was printed is printed.
    let tree = "echo begun; sleep 4711 & sleep 4711";
    let ran = exec(&["--timeout", "2", "--", "sh", "-c", tree]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "begun\n"), "{}", ran.stderr);
    let sleeping =
        |lab: &Lab| lab.ok(&["-p", "script-real", "exec", "a", "--", "sh", "-c", "ps -o args | grep -c '^sleep 471[1]' || true"]).stdout;
    assert_eq!(sleeping(lab), "0\n");
    // So they do at Ctrl-C; the output is there before the command ends.
    let mut child = lab
        .command(&["-p", "script-real", "exec", "a", "--", "sh", "-c", tree])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("testbed runs");
    assert_eq!(lab::first_line(&mut child, Duration::from_secs(30), |_| true).as_deref(), Some("begun"));
    assert_eq!(sleeping(lab), "2\n", "it still runs");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(sleeping(lab), "0\n");
    // What stays behind in the background holds nothing up, and nothing stays behind in the guest.
    let ran = exec(&["--", "sh", "-c", "sleep 60 & echo done"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "done\n"), "{}", ran.stderr);
    let own = exec(&["--", "sh", "-c", "ls -d /run/testbedos-exec-* | wc -l"]);
    assert!(own.stdout.trim().parse::<u32>().is_ok_and(|count| count <= 2), "its own, and perhaps the last one's: {}", own.stdout);
}

#[test]
fn scripts_run_when_they_should_and_a_failing_one_fails_the_up() {
    let mut lab = Lab::start();
    let yaml = format!(
        "machines:\n  - name: a\n    micro:\n      environment: {{PATH: /opt/none, WORD: \"two words\", QUOTE: \"it's $HOME \\\"x\\\"\"}}\n      setup_script: setup.sh\n      run_script: run.sh\n    network: [{{switch: lan}}]\n{NETWORK}"
    );
    let project = lab.project("script-real", &yaml);
    std::fs::write(project.folder.join("setup.sh"), "#!/bin/sh\necho \"setup says $WORD\"\necho s >> /root/setup\n").expect("written");
    std::fs::write(project.folder.join("run.sh"), "#!/bin/sh\nprintf %s \"$QUOTE\" > /root/quote\necho r >> /root/run\n").expect("written");
    let count = |lab: &Lab, file: &str| lab.ok(&["-p", "script-real", "exec", "a", "--", "cat", file]).stdout.lines().count();
    lab.ok(&project.args(&["up"]));
    assert!(lab.ok(&["-p", "script-real", "logs"]).stdout.contains("setup says two words"));
    assert_eq!(lab.ok(&["-p", "script-real", "exec", "a", "--", "cat", "/root/quote"]).stdout, "it's $HOME \"x\"");
    assert_eq!((count(&lab, "/root/setup"), count(&lab, "/root/run")), (1, 1));
    lab.ok(&project.args(&["up"]));
    assert_eq!((count(&lab, "/root/setup"), count(&lab, "/root/run")), (1, 2));
    lab.ok(&project.args(&["up", "--rerun-scripts"]));
    assert_eq!((count(&lab, "/root/setup"), count(&lab, "/root/run")), (2, 3));
    // A command has the guest's variables, and input of any size that fits a request.
    let ran = lab.ok(&["-p", "script-real", "exec", "a", "--", "sh", "-c", "echo $WORD"]);
    assert_eq!(ran.stdout, "two words\n");
    let input = vec![b'x'; 900_000];
    let mut child = lab
        .command(&["-p", "script-real", "exec", "-i", "a", "--", "wc", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("testbed runs");
    child.stdin.take().expect("stdin").write_all(&input).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "900000");
    exec_tells_what_became_of_the_command(&lab);
    // Logs without an id are those of the testbed's last change, not of the last command.
    assert!(lab.ok(&["-p", "script-real", "logs"]).stdout.contains("up: started"));
    assert_eq!(lab.run(&["-p", "script-real", "cancel"]).status, 3);
    // Variables given to one command do not take the rest away.
    let ran = lab.ok(&["-p", "script-real", "exec", "-e", "X=1 2", "a", "--", "sh", "-c", "echo \"$X $HOME $WORD\"; cat /etc/hostname"]);
    assert_eq!(ran.stdout, "1 2 /root two words\na\n");

    std::fs::write(project.folder.join("setup.sh"), "#!/bin/sh\necho before the end\nexit 7\n").expect("written");
    lab.ok(&project.args(&["down"]));
    let ran = lab.run(&project.args(&["up"]));
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    for word in ["`a`", "setup.sh", "7", "before the end"] {
        assert!(ran.stderr.contains(word), "no `{word}` in {}", ran.stderr);
    }
    assert_eq!(lab.leftovers("script-real"), Vec::<String>::new());
}
