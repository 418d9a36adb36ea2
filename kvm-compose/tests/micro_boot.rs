//! Builds the micro image from this machine's packages and really boots it, under emulation (TCG), with and without seeds.
//!
//! Needs what `./setup.sh` installs: a kernel package, busybox, dropbear, the guest agent, QEMU, genisoimage. Needs no
//! libvirt, no KVM and no rights.

#[path = "micro_boot/guest.rs"]
mod guest;

use std::time::{Duration, Instant};

use guest::{Guest, Seed, Setup, image};
use kvm_compose::{
    backend::images::{MicroSources, build_micro, find_micro, list_micro},
    orchestrate::host::Cancel,
};

const READY: Duration = Duration::from_secs(60);

#[test]
fn micro_image_is_built_once() {
    let images = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(find_micro(images.path()), Ok(None));
    let sources = MicroSources::find().expect("the packages are there");
    let first = build_micro(images.path(), &sources, &Cancel::new(), &|_| {}).expect("it is built");
    let lines = std::cell::RefCell::new(Vec::new());
    let second =
        build_micro(images.path(), &sources, &Cancel::new(), &|line| lines.borrow_mut().push(line.to_owned())).expect("it is there");
    assert_eq!(first, second);
    assert!(lines.borrow().iter().any(|line| line.contains("up to date")), "{lines:?}");
    assert_eq!(find_micro(images.path()), Ok(Some(first.clone())));
    let listed = list_micro(images.path()).expect("a list");
    assert_eq!(listed.iter().map(|image| (image.name.as_str(), &image.digest)).collect::<Vec<_>>(), [("micro", &first.digest)]);
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(build_micro(images.path(), &sources, &cancel, &|_| {}).is_err());
}

#[test]
fn micro_guest_does_what_its_seed_says() {
    let value = "a  b\n$HOME `id` \"q\" it's \\n #\n";
    let quoted = format!("'{}'", value.replace('\'', r"'\''"));
    let seed = Seed::new("web")
        .file("environment", &format!("PLAIN='x'\nTRICKY={quoted}\nEMPTY=''\n"))
        .file("services", "http 80\necho 7\ngopher 70\n$(reboot) 1\n")
        .file(
            "user-data",
            "#cloud-config\nssh_authorized_keys:\n  - \"ssh-ed25519 AAAA someone\"\nruncmd:\n  - \"echo \\\"it ran\\\" > /root/ran\"\n",
        )
        .file(
            "network-config",
            // The names are swapped, as seen from the guest's buses.
            r#"version: 2
ethernets:
  eth0:
    match:
      macaddress: "02:00:00:00:00:02"
    set-name: eth0
    mtu: 1442
    addresses:
      - "10.0.2.10/24"
      - "fd00:2::10/64"
    routes:
      - to: "default"
        via: "10.0.2.1"
      - to: "fd00:9::/64"
        via: "fd00:2::1"
    nameservers:
      addresses:
        - "10.0.2.1"
        - "1.2.3.4;reboot"
  eth1:
    match:
      macaddress: "02:00:00:00:00:01"
    set-name: eth1
    mtu: 1400
    dhcp4: true
"#,
        );
    let mut guest = Guest::boot(Setup { seed: Some(seed), forward: Some(80), ..Setup::default() });
    // Whoever hears the agent must find everything done.
    guest.agent("guest-ping", serde_json::json!({}), READY);
    guest.console_has("testbed guest web ready t=", Duration::from_secs(1));
    guest.console_has("service gopher: unknown", Duration::from_secs(1));
    assert_eq!(guest.run("cat", &["/etc/hostname"]), "web\n");
    assert_eq!(guest.run("hostname", &[]), "web\n");
    assert_eq!(guest.run("/etc/nocloud/env.sh", &["TRICKY"]), value);
    assert_eq!(guest.run("/etc/nocloud/env.sh", &["EMPTY"]), "");
    assert_eq!(guest.run("sh", &["-lc", "printf %s \"$TRICKY$HOME\""]), format!("{value}/root"));
    assert_eq!(guest.run("sh", &["-c", "/etc/nocloud/env.sh NONE; /etc/nocloud/env.sh 'x;reboot' 2>/dev/null; echo $?"]), "2\n");
    assert_eq!(guest.run("cat", &["/root/.ssh/authorized_keys"]), "ssh-ed25519 AAAA someone\n");
    assert_eq!(
        guest.run("sh", &["-c", "echo $HOME; umask; ls -d /run/testbedos/scripts; stat -c %a /etc/testbedos/environment"]),
        "/root\n0022\n/run/testbedos/scripts\n600\n"
    );

    let eth0 = guest.run("ip", &["addr", "show", "dev", "eth0"]);
    for part in ["02:00:00:00:00:02", "mtu 1442", "inet 10.0.2.10/24", "inet6 fd00:2::10/64"] {
        assert!(eth0.contains(part), "{part} is missing in {eth0}");
    }
    let eth1 = guest.run("ip", &["addr", "show", "dev", "eth1"]);
    for part in ["02:00:00:00:00:01", "mtu 1400", "inet 10.0.1.15/24"] {
        assert!(eth1.contains(part), "{part} is missing in {eth1}");
    }
    assert!(guest.run("ip", &["route"]).contains("default via 10.0.2.1 dev eth0"));
    assert!(guest.run("ip", &["-6", "route"]).contains("fd00:9::/64 via fd00:2::1 dev eth0"));
    let resolvers = guest.run("cat", &["/etc/resolv.conf"]);
    assert!(resolvers.contains("nameserver 10.0.2.1\n") && !resolvers.contains("reboot"), "{resolvers}");

    // What a DHCP server says is checked as well; classless routes replace the router (RFC 3442).
    guest.run(
        "sh",
        &[
            "-c",
            "interface=eth1 ip=10.0.1.77 mask=24 mtu=1300 router=10.0.1.9 staticroutes='10.9.0.0/16 10.0.1.2 10.8.0.0/16 0.0.0.0' \
            dns='10.0.1.3 $(reboot)' domain='x;reboot' hostname=stolen /etc/testbedos/dhcp bound",
        ],
    );
    let routes = guest.run("ip", &["route"]);
    for part in ["10.9.0.0/16 via 10.0.1.2 dev eth1", "10.8.0.0/16 dev eth1", "src 10.0.1.77"] {
        assert!(routes.contains(part) && !routes.contains("10.0.1.9"), "{part} is missing in {routes}");
    }
    // A server that does not answer costs two seconds, not fifteen.
    let resolves = "nameserver 10.0.2.1\nnameserver 10.0.1.3\noptions timeout:1 attempts:2\nweb\n";
    assert_eq!(guest.run("cat", &["/etc/resolv.conf", "/etc/hostname"]), resolves);

    let page = guest.http_get("/", Duration::from_secs(10));
    assert!(page.contains("<h1>web</h1>") && page.contains("eth0 10.0.2.10/24") && page.contains("eth1 10.0.1.77/24"), "{page}");
    guest.run("sh", &["-c", "echo mine >/srv/www/index.html; . /etc/testbedos/lib.sh; page"]);
    assert!(guest.http_get("/", Duration::from_secs(10)).ends_with("mine\n"), "the page of someone else was overwritten");
    assert_eq!(guest.run("sh", &["-c", "echo hello | nc -w 2 127.0.0.1 7"]), "hello\n");
    guest.run("sh", &["-c", "for i in 1 2 3 4 5 6 7 8 9; do [ -e /run/testbedos/user-data.status ] && exit; sleep 1; done; exit 1"]);
    assert_eq!(guest.run("cat", &["/root/ran", "/run/testbedos/user-data.status"]), "it ran\n0\n");
    guest.run("sh", &["-c", "for i in 1 2 3 4 5 6 7 8 9 10; do pidof dropbear && exit; sleep 1; done; exit 1"]);

    // An agent that dies comes back; orphans are reaped.
    guest.run("sh", &["-c", "(sleep 0.2; kill -9 $(pidof qemu-ga)) >/dev/null 2>&1 &"]);
    std::thread::sleep(Duration::from_millis(500));
    guest.agent("guest-ping", serde_json::json!({}), Duration::from_secs(10));
    assert_eq!(guest.run("sh", &["-c", "ps -o stat,comm | grep -c '^Z'; true"]), "0\n");

    guest.monitor("system_powerdown");
    guest.ends("the power button", Duration::from_secs(10));
}

#[test]
fn micro_guest_without_a_seed_or_an_answer_to_dhcp_is_ready_after_five_seconds() {
    let start = Instant::now();
    let mut guest = Guest::boot(Setup { silent_network: true, ..Setup::default() });
    guest.agent("guest-ping", serde_json::json!({}), READY);
    assert!(start.elapsed() >= Duration::from_secs(5));
    guest.console_has("no seed was found", Duration::from_secs(1));
    guest.console_has("interfaces have no lease yet", Duration::from_secs(1));
    guest.console_has("testbed guest micro ready", Duration::from_secs(1));
    assert!(guest.run("ps", &[]).contains("udhcpc"), "it goes on asking");
    guest.agent_no_answer("guest-shutdown", serde_json::json!({"mode": "powerdown"}));
    guest.ends("the agent's shutdown", Duration::from_secs(10));
}

#[test]
fn micro_guest_reads_a_seed_on_a_scsi_drive_and_takes_no_name_from_a_hostile_one() {
    let seed = Seed::new("$(touch /root/hacked)").file("user-data", "#!/bin/sh\necho \"$0\" >/root/ran\n").file("services", "http 99999\n");
    let mut guest = Guest::boot(Setup { seed: Some(seed), scsi: true, ..Setup::default() });
    guest.agent("guest-ping", serde_json::json!({}), READY);
    guest.console_has("the seed has no usable local-hostname", Duration::from_secs(1));
    guest.console_has("service http: not a port", Duration::from_secs(1));
    assert_eq!(guest.run("cat", &["/etc/hostname"]), "micro\n");
    guest.run("sh", &["-c", "for i in 1 2 3 4 5 6 7 8 9; do [ -s /root/ran ] && exit; sleep 1; done; exit 1"]);
    assert_eq!(guest.run("sh", &["-c", "ls /root"]), "ran\n");
    guest.agent_no_answer("guest-shutdown", serde_json::json!({"mode": "reboot"}));
    guest.ends("the agent's reboot (QEMU runs with -no-reboot)", Duration::from_secs(10));
}

#[test]
fn micro_guest_answers_the_probe() {
    let mut guest = Guest::boot(Setup { cmdline: "testbedos.probe", ..Setup::default() });
    guest.console_has("TESTBEDOS-PROBE-OK", READY);
    guest.ends("the probe", Duration::from_secs(10));
}

/// Every form boots; with `MICRO_ROUNDS=5 … --nocapture` on a quiet machine it prints the table of docs/micro-image.md.
#[test]
fn micro_boots_in_every_form_that_the_documentation_names() {
    let rounds: usize = std::env::var("MICRO_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let built = image();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bzimage = MicroSources::find()
        .and_then(|sources| kvm_compose::backend::images::micro::kernel::find(&sources.kernel_root))
        .expect("a kernel")
        .image;
    let plain = folder.path().join("initramfs.cpio");
    let mut archive = Vec::new();
    let packed = std::fs::File::open(&built.initramfs).expect("an initramfs");
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut archive).expect("gzip");
    std::fs::write(&plain, &archive).expect("written");
    println!("| kernel | initramfs | extra | MiB | ready after (median) |\n| --- | --- | --- | --- | --- |");
    let (elf, gzip) = (&built.kernel, &built.initramfs);
    for (kernel, initramfs, cmdline, memory) in [
        (elf, gzip, "", 128),
        (elf, &plain, "", 128),
        (&bzimage, gzip, "", 128),
        (&bzimage, &plain, "", 128),
        (elf, gzip, "cryptomgr.notests", 128),
        (elf, gzip, "", 96),
    ] {
        let mut times: Vec<Duration> = (0..rounds)
            .map(|_| {
                let start = Instant::now();
                let files = Some((kernel.clone(), initramfs.clone()));
                let network = "version: 2\nethernets:\n";
                let seed = Seed::new("a").file("network-config", network);
                let mut guest = Guest::boot(Setup { seed: Some(seed), files, memory, cmdline, ..Setup::default() });
                guest.console_has("testbed guest a ready", READY);
                start.elapsed()
            })
            .collect();
        times.sort();
        let form = |path: &std::path::PathBuf, one: &std::path::PathBuf, is: &str, other: &str| {
            if path == one { is.to_owned() } else { other.to_owned() }
        };
        let (kernel, initramfs) = (form(kernel, elf, "ELF", "bzImage"), form(initramfs, gzip, "gzip", "plain"));
        println!("| {kernel} | {initramfs} | {cmdline} | {memory} | {:.2} s |", times[rounds / 2].as_secs_f64());
    }
}
