//! An image for tests of containers, made from this machine's static busybox, and questions to the real Docker.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
    sync::{Once, OnceLock},
};

use crate::lab::{Lab, lines};

/// The image.
pub const IMAGE: &str = "testbedos-test:busybox";

/// Ports of others' that nobody took away.
static BEFORE: OnceLock<Vec<String>> = OnceLock::new();

/// Makes the image once: no registry is asked.
pub fn image() {
    static MADE: Once = Once::new();
    MADE.call_once(|| {
        BEFORE.get_or_init(|| crate::lab::bridge_ports().into_iter().map(|(port, _)| format!("stale port {port}")).collect());
        if is_there(IMAGE) {
            return;
        }
        let root = tempfile::tempdir().expect("a folder");
        let bin = root.path().join("bin");
        for folder in ["bin", "etc", "tmp", "root", "proc", "sys", "dev"] {
            std::fs::create_dir(root.path().join(folder)).expect("a folder");
        }
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists()).expect("busybox-static");
        std::fs::copy(busybox, bin.join("busybox")).expect("copied");
        for applet in lines("busybox", &["--list"]).iter().filter(|applet| *applet != "busybox") {
            symlink("busybox", bin.join(applet)).expect("linked");
        }
        std::fs::write(root.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
            .expect("written");
        std::fs::write(root.path().join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").expect("written");
        let packed = Command::new("tar").arg("-C").arg(root.path()).args(["--owner=0", "--group=0", "-c", "."]).output().expect("tar");
        assert!(packed.status.success());
        let mut import =
            Command::new("docker").args(["import", "-", IMAGE]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("docker");
        import.stdin.take().expect("a pipe").write_all(&packed.stdout).expect("written");
        assert!(import.wait().expect("it ends").success(), "Docker must run: `./setup.sh services start`");
    });
}

/// Docker's name of a guest's container.
pub fn container(deployment: &str, guest: &str) -> String {
    format!("{deployment}.{guest}")
}

fn is_there(image: &str) -> bool {
    let inspect = Command::new("docker").args(["image", "inspect", image]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    inspect.expect("docker").success()
}

/// The same image under another name, if the name leads to none.
pub fn image_named(name: &str) {
    image();
    if !is_there(name) {
        lines("docker", &["tag", IMAGE, name]);
    }
}

/// Does this host have every right that `privileged` gives? One that is a container itself may not.
pub fn can_be_privileged() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    image();
    *CAN.get_or_init(|| {
        let run = Command::new("docker").args(["run", "--rm", "--network", "none", "--privileged", IMAGE, "true"]).output();
        run.expect("docker").status.success()
    })
}

/// Containers of a deployment; none where there is no Docker.
pub fn all(name: &str) -> Vec<String> {
    let mark = format!("label=dev.testbedos.deployment={name}");
    let listed = Command::new("docker").args(["ps", "-a", "--filter", &mark, "--format", "container {{.Names}}"]).output();
    String::from_utf8_lossy(&listed.map(|ran| ran.stdout).unwrap_or_default()).lines().map(str::to_string).collect()
}

/// One fact of a container or an image.
pub fn inspected(what: &str, format: &str) -> String {
    lines("docker", &["inspect", "--format", format, what]).join("\n")
}

/// Everything that is left of a deployment, containers included. What others left before is theirs.
pub fn left(lab: &Lab, name: &str) -> Vec<String> {
    let before = BEFORE.get_or_init(Vec::new);
    let mut left: Vec<String> = lab.leftovers(name).into_iter().filter(|left| !before.contains(left)).collect();
    left.extend(all(name));
    left
}
