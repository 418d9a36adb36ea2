//! Clones of a golden image, seen from inside: what ran once, what each is alone, what each got, what each may use.

mod lab;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    process::Command,
};

use lab::{Lab, lines};

const TESTBED: &str = r#"
machines:
  - name: worker
    ready: {agent: true, timeout_s: 900}
    resources: {cpu_shares: 512, memory_max_mb: 1024, disk_iops: 3000}
    libvirt:
      cpus: 1
      memory_mb: 320
      username: me
      libvirt_type: {cloud_image: {name: debian-clones, context: files, environment: {WHO: "it's me"}}}
      scaling:
        count: 3
        interfaces:
          lan: {ip_type: {ip_range: {from: 10.76.0.20, to: 10.76.0.22}}}
          back: {clones: [1], ip_type: {ip_range: {from: 10.77.0.9, to: 10.77.0.9}}}
        shared_setup: shared.sh
        clone_setup: [{script: first.sh, clones: [0]}]
        clone_run: [{script: run.sh}]
network:
  ovn:
    switches:
      lan: {subnet: 10.76.0.0/24, ports: [{name: desk, internal: {ip: 10.76.0.1, mac: "02:00:00:76:00:01"}}]}
      back: {subnet: 10.77.0.0/24}
"#;

/// The image that `./setup.sh test` makes.
fn image() -> String {
    let path = std::env::var_os("TESTBEDOS_DEBIAN_IMAGE").map_or_else(|| "/var/cache/testbedos/debian-12.qcow2".into(), PathBuf::from);
    assert!(path.exists(), "{} has not been made: `./setup.sh test` makes it", path.display());
    path.to_string_lossy().into_owned()
}

#[test]
fn a_golden_image_is_made_once_and_each_clone_is_somebody_of_its_own() {
    let mut lab = Lab::start();
    let _gone = lab.run(&["image", "rm", "debian-clones"]);
    lab.ok(&["image", "import", &image(), "--name", "debian-clones"]);
    let project = lab.project("clones-real", TESTBED);
    let write = |name: &str, text: &str| fs::write(project.folder.join(name), text).expect("written");
    // The date makes another image than an earlier run's.
    write(
        "shared.sh",
        &format!("#!/bin/sh\n# {:?}\nhostname >>/root/ran\ncat /etc/nocloud/context/sub/word >>/root/ran\n", std::time::SystemTime::now()),
    );
    write("first.sh", "#!/bin/sh\n/etc/nocloud/env.sh WHO >>/root/ran\n");
    write("run.sh", "#!/bin/sh\necho again >>/root/runs\n");
    fs::create_dir_all(project.folder.join("files/sub")).expect("made");
    write("files/sub/word", "one\n");
    write("files/tool", "#!/bin/sh\necho works\n");
    fs::set_permissions(project.folder.join("files/tool"), fs::Permissions::from_mode(0o750)).expect("set");
    symlink("/etc/hostname", project.folder.join("files/link")).expect("linked");
    let holes = fs::File::create(project.folder.join("files/holes")).expect("made");
    holes.set_len(1 << 30).expect("long");
    lab.ok(&project.args(&["up"]));

    let sh = |clone: usize, command: &str| lab.ok(&project.args(&["exec", &format!("worker-{clone}"), "--", "sh", "-c", command])).stdout;
    assert_eq!([0, 1, 2].map(|clone| sh(clone, "cat /root/ran")), ["worker\none\nit's me", "worker\none\n", "worker\none\n"]);
    assert_eq!([0, 1, 2].map(|clone| sh(clone, "hostname")), ["worker-0\n", "worker-1\n", "worker-2\n"]);
    for what in ["cat /etc/machine-id", "cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub", "cat /sys/class/net/eth0/address"] {
        let all: BTreeSet<String> = (0..3).map(|clone| sh(clone, what)).collect();
        assert!(all.len() == 3 && all.iter().all(|one| one.len() > 10), "{what}: {all:?}");
    }
    let addresses = sh(1, "ip -o -4 addr");
    assert!(addresses.contains("10.76.0.21/24") && addresses.contains("10.77.0.9/24"), "{addresses}");

    // The context, as it is in the project: modes, links as links, holes as holes.
    let place = "cd /etc/nocloud/context && stat -c '%a %n %s' tool holes && readlink link && ./tool && du -m holes | cut -f1";
    assert_eq!(sh(2, place), "750 tool 21\n644 holes 1073741824\n/etc/hostname\nworks\n0\n");

    // The key of the deployment opens its guests, and is nobody else's.
    let key = lab.data().join("deployments/clones-real/ssh/id_ed25519");
    assert_eq!(fs::metadata(&key).expect("a key").permissions().mode() & 0o777, 0o600);
    let key = key.to_string_lossy().into_owned();
    let options = [
        "-i",
        &key,
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=20",
    ];
    let ssh = Command::new("ssh").args(options).args(["me@10.76.0.20", "hostname; id -un"]).output().expect("ssh");
    assert_eq!(String::from_utf8_lossy(&ssh.stdout), "worker-0\nme\n", "{}", String::from_utf8_lossy(&ssh.stderr));

    // What libvirt limits.
    let schedule = lines("virsh", &["schedinfo", "clones-real.worker-0"]).join("\n");
    assert!(schedule.lines().any(|line| line.starts_with("cpu_shares") && line.ends_with(": 512")), "{schedule}");
    let memory = lines("virsh", &["memtune", "clones-real.worker-0"]).join("\n");
    assert!(memory.lines().any(|line| line.starts_with("hard_limit") && line.ends_with(": 1048576")), "{memory}");
    let disk = lines("virsh", &["blkdeviotune", "clones-real.worker-0", "vda"]).join("\n");
    assert!(disk.lines().any(|line| line.starts_with("total_iops_sec") && line.ends_with(": 3000")), "{disk}");

    // Another word in the context reaches guests that run; the golden image is one that was made from another.
    let listed = lab.json(&["image", "list"]);
    let golden =
        listed.as_array().expect("images").iter().find(|image| image["source"]["kind"] == "golden").expect("a golden image").clone();
    assert_eq!(
        (golden["used_by"][0].as_str(), golden["source"]["made_from"].as_str()),
        (Some("clones-real"), Some("debian-clones, shared.sh"))
    );
    lab.ok(&["image", "prune"]);
    lab.ok(&project.args(&["up"]));
    assert_eq!(sh(1, "cat /root/runs"), "again\nagain\n", "nothing was made anew");
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.leftovers("clones-real"), Vec::<String>::new());

    // The image stays for the next time, until nobody wants it.
    let steps = lab.json(&project.args(&["plan"]))["steps"].to_string();
    assert!(steps.contains("disk/worker-2") && !steps.contains("golden/worker"), "{steps}");
    let pruned = lab.ok(&["image", "prune"]).stdout;
    assert!(pruned.contains("worker@"), "{pruned}");
    let steps = lab.json(&project.args(&["plan"]))["steps"].to_string();
    assert!(steps.contains("golden/worker"), "{steps}");
    lab.ok(&["image", "rm", "debian-clones"]);

    // The key goes with the deployment.
    assert!(fs::exists(&key).expect("readable"));
    lab.ok(&["deployment", "destroy", "clones-real"]);
    assert!(!fs::exists(&key).expect("readable"));
}
