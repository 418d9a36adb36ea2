//! A publisher's cloud image: pulled and verified over loopback, booted, set up by cloud-init, seen from inside.

mod lab;
#[path = "../../kvm-compose/tests/disk_images/publisher.rs"]
mod publisher;

use std::{fs, path::PathBuf, process::Command};

use lab::Lab;
use publisher::Publisher;

const TESTBED: &str = r#"
machines:
  - name: server
    network: [{switch: lan, ip: 10.74.0.10, gateway: 10.74.0.1}, {switch: back, ip: 10.75.0.10}]
    ready: {agent: true, timeout_s: 900}
    libvirt:
      cpus: 1
      memory_mb: 512
      username: me
      password: "it's #1"
      libvirt_type:
        cloud_image:
          name: debian
          expand_gigabytes: 2
          setup_script: setup.sh
          run_script: run.sh
          context: files
          environment: {PLAIN: "1", NASTY: "a'b \"c\" $HOME\nand: a second line"}
  - {name: client, micro: {}, network: [{switch: lan, ip: 10.74.0.11}]}
network:
  ovn:
    switches: {lan: {subnet: 10.74.0.0/24}, back: {subnet: 10.75.0.0/24}}
    routers: {r: {ports: [{name: r-lan, gateway_ip: 10.74.0.1/24, switch: lan}]}}
"#;

/// The image that `./setup.sh test` makes.
fn image() -> PathBuf {
    let path = std::env::var_os("TESTBEDOS_DEBIAN_IMAGE").map_or_else(|| "/var/cache/testbedos/debian-12.qcow2".into(), PathBuf::from);
    assert!(path.exists(), "{} has not been made: `./setup.sh test` makes it", path.display());
    path
}

#[test]
fn a_publishers_image_is_pulled_booted_and_set_up() {
    let mut lab = Lab::start();
    let publisher = Publisher::start();
    let content = fs::read(image()).expect("the image");
    let sums = Command::new("sha512sum").arg(image()).output().expect("sha512sum").stdout;
    let sums = String::from_utf8_lossy(&sums).split_whitespace().next().expect("a sum").to_string() + "  debian.qcow2\n";
    publisher.put("/debian.qcow2", &content);
    publisher.put("/SUMS", sums.as_bytes());
    let entry =
        format!("[debian]\nurl = \"{}\"\nchecksums = \"{}\"\nuser = \"debian\"\n", publisher.url("/debian.qcow2"), publisher.url("/SUMS"));
    fs::write(lab.data().join("config/images.toml"), entry).expect("a catalogue");

    // A run that failed may have left its image behind.
    let _gone = lab.run(&["image", "rm", "debian"]);
    let project = lab.project("cloud-real", TESTBED);
    fs::write(project.folder.join("setup.sh"), "#!/bin/sh\n/etc/nocloud/env.sh PLAIN >>/root/setup-ran\nhostname >>/root/setup-ran\n")
        .expect("written");
    fs::write(project.folder.join("run.sh"), "#!/bin/sh\necho again >>/root/run-ran\n").expect("written");
    fs::create_dir(project.folder.join("files")).expect("made");
    fs::write(project.folder.join("files/word"), "one").expect("written");
    // The image comes with `up`.
    let up = lab.ok(&project.args(&["up"]));
    assert!(up.stderr.contains("debian"), "{}", up.stderr);
    let sh = |command: &str| lab.ok(&project.args(&["exec", "server", "--", "sh", "-c", command])).stdout;

    assert_eq!(sh("hostname"), "server\n");
    let addresses = sh("ip -o -4 addr");
    assert!(addresses.contains("10.74.0.10/24") && addresses.contains("10.75.0.10/24"), "{addresses}");
    let routes = sh("ip route");
    assert!(routes.contains("default via 10.74.0.1") && routes.contains("dev eth1"), "{routes}");
    assert_eq!(sh("cat /root/setup-ran"), "1server\n", "the variables were there when the script ran, and it ran once");
    assert_eq!(sh("/etc/nocloud/env.sh NASTY"), "a'b \"c\" $HOME\nand: a second line");
    assert_eq!(sh("id -un me; getent passwd me | cut -d: -f7"), "me\n/bin/bash\n");
    // The password is the one that was asked for: its hash says so.
    let hash = "h=$(getent shadow me | cut -d: -f2); perl -e 'print crypt($ARGV[0], $ARGV[1]) eq $ARGV[1] ? \"same\" : \"other\"' \"it's #1\" \"$h\"";
    assert_eq!(sh(hash), "same");
    let kib: u64 = sh("df -k --output=size / | tail -n 1").trim().parse().expect("a number");
    assert!(kib > 3_000_000, "the disk has grown: {kib} KiB");
    assert!(sh("ls /etc/ssh/ssh_host_ed25519_key.pub; cat /etc/machine-id").lines().last().is_some_and(|id| id.len() == 32));
    let ping = lab.ok(&project.args(&["exec", "client", "--", "ping", "-c", "3", "-W", "5", "10.74.0.10"])).stdout;
    assert!(ping.contains("bytes from"), "{ping}");

    // Its context follows the project while it runs; what left the project leaves the guest.
    assert_eq!(sh("cat /etc/nocloud/context/word"), "one");
    fs::remove_file(project.folder.join("files/word")).expect("removed");
    fs::write(project.folder.join("files/other"), "two").expect("written");
    let steps = lab.json(&project.args(&["plan"]))["steps"].to_string();
    assert!(steps.contains("context/server") && !steps.contains("start/"), "{steps}");

    // Nothing to do but that and the script of every `up`; the disk is a layer over the one content in the store.
    lab.ok(&project.args(&["up"]));
    assert_eq!(sh("cat /root/run-ran; cat /root/setup-ran"), "again\nagain\n1server\n");
    assert_eq!(sh("ls /etc/nocloud/context; cat /etc/nocloud/context/other"), "other\ntwo");
    assert_eq!(publisher.asked("/debian.qcow2").len(), 1);
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.leftovers("cloud-real"), Vec::<String>::new());
    lab.ok(&["image", "rm", "debian"]);
    lab.ok(&["image", "prune"]);
}
