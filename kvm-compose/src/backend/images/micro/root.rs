//! What is in the micro guest: programs of this machine, kernel modules, and the scripts in `guest/`.
//!
//! Knows the guest's file tree. Knows nothing of where the image is kept.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    cpio::{Node, Tree},
    kernel::Kernel,
    libraries::Libraries,
    modules::Modules,
};
use crate::{
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

/// Modules that every guest loads at once; without them there is no network, seed or agent.
const NEEDED: &[&str] = &["virtio_pci", "virtio_net", "virtio_blk", "virtio_console", "isofs"];
/// Modules that every guest loads at once, if the kernel has them.
const WANTED: &[&str] = &["virtio_rng", "button", "evdev"];
/// Modules that are there for whoever asks, if the kernel has them.
const OFFERED: &[&str] =
    &["virtio_scsi", "sr_mod", "nls_utf8", "virtio_balloon", "bridge", "8021q", "tun", "sch_netem", "sch_tbf", "sch_htb"];

/// Programs beside busybox: where they are looked for.
const PROGRAMS: &[&[&str]] =
    &[&["usr/sbin/dropbear", "usr/bin/dropbear"], &["usr/bin/dropbearkey"], &["usr/sbin/qemu-ga", "usr/bin/qemu-ga"]];
/// Programs that are taken where they are found: the DHCPv6 client, which busybox lacks.
const WELCOME: &[&[&str]] = &[&["usr/sbin/dhcp6c"]];
/// Where busybox is looked for.
const BUSYBOX: &[&str] = &["bin/busybox", "usr/bin/busybox"];
/// Libraries that the C library opens by itself to resolve names.
const RESOLVER: &[&str] = &["libc.so.6", "libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];
/// What the scripts call.
const APPLETS: &[&str] = &[
    "acpid", "cat", "chmod", "cmp", "cp", "halt", "httpd", "init", "ip", "ln", "mkdir", "mkfifo", "modprobe", "mount", "mv", "nc",
    "poweroff", "reboot", "rm", "sh", "sleep", "sync", "udhcpc", "umount", "usleep",
];

/// The guest's own files: path, permission bits, content.
const FILES: &[(&str, u32, &str)] = &[
    ("etc/inittab", 0o644, include_str!("guest/inittab")),
    ("etc/profile", 0o644, include_str!("guest/profile")),
    ("etc/testbedos/lib.sh", 0o644, include_str!("guest/lib.sh")),
    ("etc/testbedos/seed.sh", 0o644, include_str!("guest/seed.sh")),
    ("etc/testbedos/network.sh", 0o644, include_str!("guest/network.sh")),
    ("etc/testbedos/services.sh", 0o644, include_str!("guest/services.sh")),
    ("etc/testbedos/boot", 0o755, include_str!("guest/boot")),
    ("etc/testbedos/dhcp", 0o755, include_str!("guest/dhcp")),
    ("etc/testbedos/dhcp6", 0o755, include_str!("guest/dhcp6")),
    ("etc/testbedos/agent", 0o755, include_str!("guest/agent")),
    ("etc/testbedos/ssh", 0o755, include_str!("guest/ssh")),
    ("etc/nocloud/env.sh", 0o755, include_str!("guest/env.sh")),
    ("etc/acpi/PWRF/00000080", 0o755, include_str!("guest/power")),
    ("bin/shutdown", 0o755, include_str!("guest/shutdown")),
    ("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/shadow", 0o600, "root:*:19000:0:99999:7:::\n"),
    ("etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/shells", 0o644, "/bin/sh\n"),
    ("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/resolv.conf", 0o644, ""),
    ("etc/os-release", 0o644, "NAME=\"TestbedOS micro guest\"\nID=testbedos-micro\nPRETTY_NAME=\"TestbedOS micro guest\"\n"),
];

/// Fails when a program of the guest is missing below both roots.
pub fn check_programs(roots: &[&Path]) -> Result<(), Problem> {
    std::iter::once(&BUSYBOX).chain(PROGRAMS).try_for_each(|places| program(roots, places).map(|_| ()))
}

/// Where a program is, below the first root that has it.
fn program(roots: &[&Path], places: &[&str]) -> Result<PathBuf, Problem> {
    let paths: Vec<PathBuf> = roots.iter().flat_map(|root| places.iter().map(|place| root.join(place))).collect();
    paths.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        Problem::new(Code::ImageMissing, format!("a program for the micro guest is missing: {}", names.join(" or ")))
            .hint("run `./setup.sh`, which installs busybox-static, dropbear-bin and qemu-guest-agent")
    })
}

/// The guest's file tree, of programs below the first of `roots` that has them. Libraries are searched from the last root
/// on, this machine's own. `extra` names more programs.
pub fn tree(kernel: &Kernel, roots: &[&Path], extra: &[PathBuf], cancel: &Cancel) -> Result<Tree, Problem> {
    let mut tree = Tree::new();
    for (path, mode) in
        [("root", 0o700), ("tmp", 0o1777), ("proc", 0o555), ("sys", 0o555), ("root/.ssh", 0o700), ("srv", 0o755), ("etc/dropbear", 0o700)]
    {
        tree.put(path, Node::Folder(mode));
    }
    for path in ["run/testbedos/scripts", "run/testbedos/seed", "var/log", "var/lib/dhcpv6", "mnt", "usr/local/bin", "usr/share/udhcpc"] {
        tree.put(path, Node::Folder(0o755));
    }
    tree.put("dev/console", Node::Device(0o600, 5, 1));
    tree.put("dev/null", Node::Device(0o666, 1, 3));
    for (path, to) in [("sbin", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin"), ("var/run", "../run"), ("init", "bin/busybox")] {
        tree.put(path, Node::Link(to.into()));
    }
    for (path, mode, content) in FILES {
        tree.put(path, Node::File(*mode, content.as_bytes().to_vec()));
    }
    put_programs(&mut tree, roots, extra)?;
    cancel.check()?;
    put_modules(&mut tree, kernel, &program(roots, BUSYBOX)?)?;
    cancel.check()?;
    Ok(tree)
}

fn put_programs(tree: &mut Tree, roots: &[&Path], extra: &[PathBuf]) -> Result<(), Problem> {
    let mut libraries = Libraries::new(roots.iter().rev().copied());
    let welcome = WELCOME.iter().filter_map(|places| program(roots, places).ok());
    let needed: Result<Vec<PathBuf>, Problem> = std::iter::once(&BUSYBOX).chain(PROGRAMS).map(|places| program(roots, places)).collect();
    for path in needed?.into_iter().chain(welcome).chain(extra.iter().cloned()) {
        let content = std::fs::read(&path).map_err(|error| Problem::io(format!("reading {}", path.display()), &error))?;
        libraries.add_needs_of(&path.display().to_string(), &content)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        tree.put(&format!("bin/{name}"), Node::File(0o755, content));
    }
    for name in RESOLVER {
        libraries.add(name)?;
    }
    for (path, content) in libraries.found() {
        tree.put(&path, Node::File(0o755, content));
    }
    let applets = applets(&program(roots, BUSYBOX)?)?;
    for applet in &applets {
        let path = format!("bin/{applet}");
        if !tree.has(&path) {
            tree.put(&path, Node::Link("busybox".into()));
        }
    }
    match APPLETS.iter().find(|applet| !tree.has(&format!("bin/{applet}"))) {
        Some(applet) => Err(Problem::new(Code::ImageMissing, format!("this machine's busybox has no {applet}"))
            .hint("install busybox-static in place of a reduced busybox: run `./setup.sh`")),
        None => Ok(()),
    }
}

/// The names busybox answers to.
fn applets(busybox: &Path) -> Result<Vec<String>, Problem> {
    let doing = |error: &std::io::Error| Problem::io(format!("running {} --list", busybox.display()), error);
    let output = Command::new(busybox).arg("--list").stdin(Stdio::null()).output().map_err(|error| doing(&error))?;
    if !output.status.success() {
        return Err(doing(&std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned).collect())
}

fn put_modules(tree: &mut Tree, kernel: &Kernel, busybox: &Path) -> Result<(), Problem> {
    let mut modules = Modules::list(&kernel.modules, busybox)?;
    for name in NEEDED {
        if !modules.take(name)? {
            return Err(Problem::new(Code::ImageMissing, format!("the kernel {} has no module {name}", kernel.version))
                .hint("use a kernel made for virtual machines: `./setup.sh` fetches one"));
        }
    }
    for name in WANTED.iter().chain(OFFERED) {
        modules.take(name)?;
    }
    let at_once: Vec<&str> = NEEDED.iter().chain(WANTED).copied().filter(|name| modules.is_file(name)).collect();
    let folder = format!("lib/modules/{}", kernel.version);
    tree.put(&format!("{folder}/modules.dep"), Node::File(0o644, modules.dependencies().into_bytes()));
    for module in modules.taken() {
        tree.put(&format!("{folder}/{}", module.path), Node::File(0o644, module.content.clone()));
    }
    tree.put("etc/testbedos/modules", Node::File(0o644, format!("{}\n", at_once.join(" ")).into_bytes()));
    Ok(())
}
