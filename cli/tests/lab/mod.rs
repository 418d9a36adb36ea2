//! A real server on a data folder of its own, the real command, and questions to the real libvirt, OVN and Open vSwitch.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// A server and its surroundings; everything goes away with it.
pub struct Lab {
    pub folder: tempfile::TempDir,
    child: Option<Child>,
    extra: Vec<String>,
    environment: Vec<(String, String)>,
    deployments: Vec<String>,
    mounted: bool,
}

pub fn testbed_binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_testbed"))
}

fn server_binary() -> PathBuf {
    let path = testbed_binary().with_file_name("testbedos-server");
    assert!(path.exists(), "{} is missing: run `cargo build --workspace` first", path.display());
    path
}

impl Lab {
    pub fn start() -> Lab {
        Lab::start_with(&[])
    }

    /// Starts a server with more arguments and waits until it answers.
    pub fn start_with(extra: &[&str]) -> Lab {
        Lab::start_in(extra, &[])
    }

    /// The same, with variables in its environment.
    pub fn start_in(extra: &[&str], environment: &[(&str, &str)]) -> Lab {
        let mut lab = Lab::absent(extra);
        lab.environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        lab.boot();
        lab
    }

    /// Starts a server whose data folder is a disk of its own, of so many MiB.
    pub fn start_on_disk(mib: u32) -> Lab {
        let mut lab = Lab::absent(&[]);
        std::fs::create_dir(lab.data()).expect("a folder");
        let options = format!("size={mib}m,mode=711");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(lab.data()).status().expect("mount");
        assert!(mounted.success());
        lab.mounted = true;
        lab.boot();
        lab
    }

    fn absent(extra: &[&str]) -> Lab {
        // QEMU runs as another user: it must be able to walk into the data folder.
        let folder =
            tempfile::Builder::new().prefix("tb-lab").permissions(std::fs::Permissions::from_mode(0o755)).tempdir().expect("a folder");
        let extra = extra.iter().map(ToString::to_string).collect();
        Lab { folder, child: None, extra, environment: Vec::new(), deployments: Vec::new(), mounted: false }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("testbedos.sock")
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running server").id()
    }

    /// Starts the server; returns when it answers.
    pub fn boot(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("stderr")).expect("a log");
        let child = Command::new(server_binary())
            .arg("master")
            .args(if self.extra.iter().any(|flag| flag == "--listen") { None } else { Some("--no-tcp") })
            .arg("--data-dir")
            .arg(self.data())
            .arg("--socket")
            .arg(self.socket())
            .args(&self.extra)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        self.child = Some(child);
        let socket = self.socket();
        wait("the server answers on its socket", Duration::from_secs(20), || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    }

    /// A variable for the server when it boots next; the empty text takes it away.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.environment.push((name.to_string(), value.to_string()));
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it is gone");
        }
    }

    /// A command of the CLI, not yet run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(testbed_binary());
        command.arg("--host").arg(format!("unix:{}", self.socket().display())).args(args).stdin(Stdio::null()).env_remove("TESTBED_HOST");
        command
    }

    /// Runs the CLI.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().expect("testbed runs"))
    }

    /// Runs the CLI and expects success.
    pub fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.status, 0, "testbed {args:?}\nstdout: {}\nstderr: {}\nserver: {}", ran.stdout, ran.stderr, self.server_log());
        ran
    }

    /// What the server logged last.
    pub fn server_log(&self) -> String {
        let text = std::fs::read_to_string(self.data().join("logs/testbedos-server.log")).unwrap_or_default();
        text.lines().rev().take(30).collect::<Vec<_>>().join("\n")
    }

    /// Writes a project; its deployment is taken down at the end, whatever happens.
    pub fn project(&mut self, name: &str, yaml: &str) -> Project {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("kvm-compose.yaml");
        std::fs::write(&file, yaml).expect("written");
        if !self.deployments.iter().any(|known| known == name) {
            // A run that was killed could not take its own away; no other test has a deployment of that name, but another lab of
            // this one may.
            if USED.lock().expect("no test panics with it").insert(name.to_string()) {
                sweep(name);
            }
            self.deployments.push(name.to_string());
        }
        Project { name: name.to_string(), file, folder }
    }

    /// The JSON that a command prints.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let mut all = vec!["-o", "json"];
        all.extend(args);
        let ran = self.ok(&all);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("testbed {args:?}: {error}: {}", ran.stdout))
    }

    /// Everything of a deployment that the real parts know, by their own words; empty when nothing is left.
    pub fn leftovers(&self, name: &str) -> Vec<String> {
        let mut left: Vec<String> = domains(name).into_iter().map(|domain| format!("domain {domain}")).collect();
        left.extend(rows(name).into_iter().map(|row| format!("row {row}")));
        left.extend(links(name));
        left.extend(
            bridge_ports()
                .into_iter()
                .filter(|(_, vm)| vm.is_empty() || !all_domain_uuids().contains(vm))
                .map(|(port, _)| format!("stale port {port}")),
        );
        let folder = self.data().join("deployments").join(name);
        if folder.exists() {
            left.extend(
                files_below(&folder)
                    .into_iter()
                    // Both stay as long as the deployment does.
                    .filter(|file| !file.starts_with(folder.join("project")) && !file.starts_with(folder.join("ssh")))
                    .map(|file| format!("file {}", file.display())),
            );
        }
        left
    }

    /// One action's end, waited for in the log index.
    pub fn wait_idle(&self, name: &str, limit: Duration) {
        wait(&format!("no action runs on {name}"), limit, || self.json(&["-p", name, "info"])["state"] != "running");
    }
}

/// Names of deployments that this process has used: what is there under them is not left over.
static USED: std::sync::Mutex<std::collections::BTreeSet<String>> = std::sync::Mutex::new(std::collections::BTreeSet::new());

impl Drop for Lab {
    fn drop(&mut self) {
        for name in self.deployments.clone() {
            let _ran = self.command(&["-p", &name, "down"]).output();
        }
        self.kill();
        if self.mounted {
            let _ran = Command::new("umount").arg("-l").arg(self.data()).status();
        }
        self.deployments.iter().for_each(|name| sweep(name));
    }
}

/// A project on disk.
pub struct Project {
    pub name: String,
    pub file: PathBuf,
    pub folder: PathBuf,
}

impl Project {
    /// Arguments that name the project.
    pub fn args<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec!["-f", self.file.to_str().expect("UTF-8"), "-p", &self.name];
        args.extend(rest);
        args
    }
}

/// What a command printed.
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Ran {
        Ran {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Waits for a fact, with a limit and a message that names both.
pub fn wait(what: &str, limit: Duration, mut fact: impl FnMut() -> bool) {
    let began = Instant::now();
    while !fact() {
        assert!(began.elapsed() < limit, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a program prints, by lines.
pub fn lines(program: &str, args: &[&str]) -> Vec<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect()
}

/// Names of a deployment's domains, running or not.
pub fn domains(name: &str) -> Vec<String> {
    let prefix = format!("{name}.");
    lines("virsh", &["-q", "list", "--all", "--name"]).into_iter().filter(|domain| domain.starts_with(&prefix)).collect()
}

/// (name, id) of a deployment's running domains.
pub fn running(name: &str) -> Vec<(String, String)> {
    let prefix = format!("{name}.");
    lines("virsh", &["-q", "list"])
        .into_iter()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (id, domain) = (words.next()?.to_string(), words.next()?.to_string());
            let runs = words.next() == Some("running");
            (domain.starts_with(&prefix) && runs).then_some((domain, id))
        })
        .collect()
}

fn all_domain_uuids() -> Vec<String> {
    lines("virsh", &["-q", "list", "--uuid"])
}

/// `table uuid` of a deployment's rows in the northbound database.
pub fn rows(name: &str) -> Vec<String> {
    let tables = [
        "Logical_Switch",
        "Logical_Switch_Port",
        "Logical_Router",
        "Logical_Router_Port",
        "Logical_Router_Static_Route",
        "DHCP_Options",
        "ACL",
        "NAT",
        "Load_Balancer",
        "DNS",
        "Gateway_Chassis",
    ];
    let mark = format!("external_ids:testbedos-deployment={name}");
    let mut rows: Vec<String> = tables
        .iter()
        .flat_map(|table| {
            lines("ovn-nbctl", &["--bare", "--columns=_uuid", "find", table, &mark]).into_iter().map(move |uuid| format!("{table} {uuid}"))
        })
        .collect();
    // The database answers in any order.
    rows.sort();
    rows
}

/// Takes away what a test that was killed left behind of a deployment.
pub fn sweep(name: &str) {
    for domain in domains(name) {
        let _ran = Command::new("virsh").args(["-q", "destroy", &domain]).output();
        let _ran = Command::new("virsh").args(["-q", "undefine", &domain]).output();
    }
    // Where there is no Docker there are no containers.
    let mark = format!("label=dev.testbedos.deployment={name}");
    let listed = Command::new("docker").args(["ps", "-aq", "--filter", &mark]).output();
    for id in listed.map(|ran| String::from_utf8_lossy(&ran.stdout).into_owned()).unwrap_or_default().lines() {
        let _ran = Command::new("docker").args(["rm", "-f", id]).output();
    }
    let mark = format!("external_ids:testbedos-deployment={name}");
    for port in lines("ovs-vsctl", &["--bare", "--columns=name", "find", "Interface", &mark]) {
        let _ran = Command::new("ovs-vsctl").args(["--if-exists", "del-port", &port]).output();
    }
    for left in links(name) {
        if let Some(pid) = left.strip_prefix("relay ") {
            let _ran = Command::new("kill").args(["-9", pid]).output();
        } else if let Some(device) = left.strip_prefix("device /sys/class/net/") {
            let _ran = Command::new("ip").args(["link", "delete", device]).output();
        }
    }
    // A start that was cut off may leave a port without its device.
    let uuids = all_domain_uuids();
    for (port, _) in bridge_ports().into_iter().filter(|(_, vm)| !vm.is_empty() && !uuids.contains(vm)) {
        let _ran = Command::new("ovs-vsctl").args(["--timeout=10", "--if-exists", "del-port", &port]).output();
    }
    // Ports, rules and the like go with what lists them.
    for row in rows(name) {
        if let Some((table, uuid)) = row.split_once(' ') {
            let _ran = Command::new("ovn-nbctl").args(["--if-exists", "destroy", table, uuid]).output();
        }
    }
}

/// (interface, domain's uuid) of the integration bridge's ports that were plugged for a domain.
pub fn bridge_ports() -> Vec<(String, String)> {
    lines("ovs-vsctl", &["--format=csv", "--data=bare", "--no-headings", "--columns=name,external_ids", "list", "Interface"])
        .into_iter()
        .filter(|line| line.contains("vm-id=") || line.contains("iface-id="))
        .map(|line| {
            let vm = line.split("vm-id=").nth(1).unwrap_or_default().split([' ', '"']).next().unwrap_or_default().to_string();
            (line.split(',').next().unwrap_or_default().to_string(), vm)
        })
        .collect()
}

/// What is there of a deployment's shaped links: devices in the bridge's place, and the relay (`relay PID`).
pub fn links(name: &str) -> Vec<String> {
    let devices = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten().map(|entry| entry.path());
    let alias = |device: &PathBuf| std::fs::read_to_string(device.join("ifalias")).unwrap_or_default();
    let ours = devices.filter(|device| alias(device).split_whitespace().nth(2) == Some(name));
    let mut left: Vec<String> = ours.map(|device| format!("device {}", device.display())).collect();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&str> = line.split('\0').collect();
        let is_relay = words.first().is_some_and(|program| program.ends_with("testbedos-relay")) && words.get(1) == Some(&"run");
        if is_relay && words.windows(2).any(|pair| pair == ["--deployment", name]) {
            left.push(format!("relay {}", entry.file_name().display()));
        }
    }
    left
}

pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// The first line of a child's output that satisfies a test.
pub fn first_line(child: &mut Child, limit: Duration, mut found: impl FnMut(&str) -> bool) -> Option<String> {
    let began = Instant::now();
    let reader = BufReader::new(child.stdout.as_mut()?);
    for line in reader.lines().map_while(Result::ok) {
        if found(&line) {
            return Some(line);
        }
        if began.elapsed() > limit {
            return None;
        }
    }
    None
}

/// The quickstart, as it stands in the repository.
pub const QUICKSTART: &str = include_str!("../../../examples/quickstart/kvm-compose.yaml");
