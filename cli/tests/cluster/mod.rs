//! A master on host `m` and members on `h1`, …, each a real server in the namespaces of the lab, and the real command.
#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
pub use testbedos_lab::{Lab, Plane, Process, until};
use tokio_tungstenite::tungstenite::Message;

pub const SOON: Duration = Duration::from_secs(30);

/// Where every host keeps its server's things; each host has its own `/var/lib/testbedos`.
const DATA: &str = "/var/lib/testbedos/data";
/// Given with each command: the environment of the tests names this machine's folder.
const IMAGES: &str = "/var/lib/testbedos/data/images";
const SOCKET: &str = "/run/testbedos/testbedos.sock";
const PORT: u16 = 3356;

/// Hosts with servers on them.
pub struct Cluster {
    pub lab: Lab,
    servers: BTreeMap<String, Process>,
    projects: tempfile::TempDir,
}

/// What a command ended with.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn of(output: &Output) -> Ran {
        Ran {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

fn testbed_binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_testbed"))
}

fn server_binary() -> String {
    let path = testbed_binary().with_file_name("testbedos-server");
    assert!(path.exists(), "{} is missing: run `cargo build --workspace` first", path.display());
    path.display().to_string()
}

fn images_here() -> String {
    std::env::var("TESTBEDOS_IMAGES_DIR").unwrap_or_else(|_| "/var/lib/testbedos/images".to_string())
}

impl Cluster {
    /// A master and `members` members, all ready.
    pub fn up(members: usize) -> Cluster {
        let mut cluster = Cluster::alone(members);
        for index in 1..=members {
            cluster.join(&format!("h{index}"));
        }
        cluster
    }

    /// The hosts, and a master without members.
    pub fn alone(members: usize) -> Cluster {
        let lab = Lab::up(members + 1).expect("a lab");
        let projects = tempfile::tempdir().expect("a folder");
        let mut cluster = Cluster { lab, servers: BTreeMap::new(), projects };
        cluster.start_master();
        cluster
    }

    /// Starts the master's server; returns when it answers.
    pub fn start_master(&mut self) {
        let address = self.lab.host("m").expect("a host").management;
        let listen = format!("{address}:{PORT}");
        self.bring_images();
        let argv = ["master", "--no-tcp", "--data-dir", DATA, "--socket", SOCKET, "--images-dir", IMAGES, "--cluster-listen", &listen];
        self.start("m", &argv);
        let socket = self.socket();
        until("the master answers", SOON, || std::os::unix::net::UnixStream::connect(&socket).is_ok().then_some(())).expect("a master");
    }

    /// Copies this machine's micro image to the master: a host has folders of its own. Members get it from the master.
    fn bring_images(&self) {
        let images = self.data("m", "images");
        if images.exists() {
            return;
        }
        std::fs::create_dir_all(images.parent().expect("a folder")).expect("made");
        let copied = Command::new("cp").arg("-a").arg(images_here()).arg(&images).status().expect("cp runs");
        assert!(copied.success(), "the micro image is copied to {}", images.display());
    }

    fn start(&mut self, host: &str, argv: &[&str]) {
        let server = server_binary();
        let words: Vec<&str> = std::iter::once(server.as_str()).chain(argv.iter().copied()).collect();
        let log = self.log_file(host);
        let process = self.lab.spawn(host, &words, &log).expect("a server");
        self.servers.insert(host.to_string(), process);
    }

    fn log_file(&self, host: &str) -> PathBuf {
        self.lab.folder().join(format!("state/server-{host}.out"))
    }

    /// The token and the command's words that let a host join.
    pub fn invitation(&self) -> Vec<String> {
        let token = self.json(&["cluster", "token", "-o", "json"]);
        token["command"].as_str().expect("a command").split_whitespace().skip(1).map(String::from).collect()
    }

    /// Lets a host join and waits until it is ready.
    pub fn join(&mut self, host: &str) {
        let data = self.lab.host(host).expect("a host").data;
        let interface = self.interface_of(host, &data);
        let mut words = self.invitation();
        words.extend(["--interface".to_string(), interface]);
        self.start_client(host, &words.iter().map(String::as_str).collect::<Vec<_>>());
        self.until_state(host, "ready", SOON);
    }

    /// Starts a client that has joined before.
    pub fn start_client(&mut self, host: &str, words: &[&str]) {
        let mut argv = words.to_vec();
        argv.extend(["--data-dir", DATA, "--images-dir", IMAGES]);
        self.start(host, &argv);
    }

    fn interface_of(&self, host: &str, address: &str) -> String {
        let links: Value = serde_json::from_str(&self.lab.ok(host, &["ip", "-j", "address"]).expect("ip")).expect("JSON");
        let has = |link: &&Value| link["addr_info"].as_array().is_some_and(|infos| infos.iter().any(|info| info["local"] == address));
        let link = links.as_array().expect("links").iter().find(has).expect("the interface of the data network");
        link["ifname"].as_str().expect("a name").to_string()
    }

    /// Waits until a host's server has ended by itself; returns what it wrote.
    pub fn ended(&mut self, host: &str) -> String {
        let mut server = self.servers.remove(host).expect("a server");
        server.wait(SOON).expect("it ends");
        let said = server.output();
        std::fs::remove_file(self.log_file(host)).expect("a log");
        said
    }

    /// `kill -9` of a host's server.
    pub fn kill(&mut self, host: &str) {
        if let Some(mut server) = self.servers.remove(host) {
            server.kill().expect("it can be killed");
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.lab.path("m", SOCKET)
    }

    /// A file of a host's server, seen from outside.
    pub fn data(&self, host: &str, rest: &str) -> PathBuf {
        self.lab.path(host, Path::new(DATA).join(rest))
    }

    /// The command, not yet run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(testbed_binary());
        command.arg("--host").arg(format!("unix:{}", self.socket().display())).args(args).stdin(std::process::Stdio::null());
        command.env_remove("TESTBED_HOST").current_dir(self.projects.path());
        command
    }

    /// Runs the command.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&self.command(args).output().expect("testbed runs"))
    }

    /// Runs the command and expects success.
    pub fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.status, 0, "testbed {args:?}\n{}\n{}\n{}", ran.stdout, ran.stderr, self.logs());
        ran
    }

    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args).stdout).expect("JSON")
    }

    /// What the servers logged last.
    pub fn logs(&self) -> String {
        let hosts = self.servers.keys();
        let tail = |host: &String| {
            let text = std::fs::read_to_string(self.data(host, "logs/testbedos-server.log")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().filter(|line| !line.contains("request{")).take(25).collect();
            format!(
                "--- {host}\n{}\n{}",
                lines.into_iter().rev().collect::<Vec<_>>().join("\n"),
                std::fs::read_to_string(self.log_file(host)).unwrap_or_default()
            )
        };
        hosts.map(tail).collect::<Vec<_>>().join("\n")
    }

    /// Types a line into a guest's serial console and waits until what it says holds `expected`.
    pub fn console(&self, deployment: &str, guest: &str, line: &str, expected: &str) {
        let url = format!("ws://localhost/api/deployments/{deployment}/guests/{guest}/console");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let talked = runtime.block_on(async {
            let talking = async {
                let stream = tokio::net::UnixStream::connect(self.socket()).await.expect("the socket");
                let (mut console, _) = tokio_tungstenite::client_async(url, stream).await.expect("a console");
                console.send(Message::binary(format!("{line}\n").into_bytes())).await.expect("typed");
                let mut said = String::new();
                while let Some(Ok(message)) = console.next().await {
                    said.push_str(&String::from_utf8_lossy(&message.into_data()));
                    if said.contains(expected) {
                        return;
                    }
                }
                panic!("the console ended: {said}");
            };
            tokio::time::timeout(SOON, talking).await
        });
        assert!(talked.is_ok(), "the console of {guest} never says {expected}\n{}", self.logs());
    }

    /// A testbed file, by the words that name it.
    pub fn project(&self, name: &str, yaml: &str) -> [String; 4] {
        let folder = self.projects.path().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("kvm-compose.yaml");
        std::fs::write(&file, yaml).expect("written");
        ["-f".to_string(), file.display().to_string(), "-p".to_string(), name.to_string()]
    }

    /// A member's state, as the master tells it.
    pub fn state(&self, host: &str) -> String {
        let members = self.json(&["cluster", "list", "-o", "json"]);
        let member = members["members"].as_array().expect("members").iter().find(|member| member["name"] == host);
        member.map_or("gone", |member| member["state"].as_str().unwrap_or("?")).to_string()
    }

    /// Waits for a member's state; returns how long it took.
    pub fn until_state(&self, host: &str, state: &str, limit: Duration) -> Duration {
        let begun = Instant::now();
        let reached = until(&format!("{host} is {state}"), limit, || (self.state(host) == state).then_some(()));
        assert!(reached.is_ok(), "{host} is {} and not {state} after {limit:?}\n{}", self.state(host), self.logs());
        begun.elapsed()
    }

    /// Names of the hosts in kvm-compose-config.json.
    pub fn counted(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.data("m", "config/kvm-compose-config.json")).expect("kvm-compose-config.json");
        let config: Value = serde_json::from_str(&text).expect("JSON");
        config["hosts"].as_array().expect("hosts").iter().map(|host| host["hostname"].as_str().unwrap_or("?").to_string()).collect()
    }

    /// Domains that a host's libvirt knows.
    pub fn domains(&self, host: &str) -> Vec<String> {
        let listed = self.lab.ok(host, &["virsh", "-q", "list", "--all", "--name"]).expect("virsh");
        let mut names: Vec<String> = listed.split_whitespace().map(String::from).collect();
        names.sort();
        names
    }

    /// Everything of testbeds that is there: domains, rows, ports of br-int, files.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let hosts = self.lab.status().expect("status");
        for host in hosts.iter().map(|host| host.name.as_str()) {
            left.extend(self.domains(host).into_iter().map(|name| format!("{host}: domain {name}")));
            let ports = self
                .lab
                .ok(host, &["ovs-vsctl", "--bare", "--columns=name", "find", "Interface", "external_ids:vm-id!=\"\""])
                .expect("ovs-vsctl");
            left.extend(ports.split_whitespace().map(|port| format!("{host}: port {port}")));
            let folder = self.data(host, "deployments");
            for kind in ["disks", "seeds", "console"] {
                let files = glob(&folder, kind);
                left.extend(files.into_iter().map(|file| format!("{host}: {file}")));
            }
        }
        let rows = self.lab.ok("m", &["ovn-nbctl", "--bare", "--columns=name", "list", "Logical_Switch"]).expect("ovn-nbctl");
        left.extend(rows.split_whitespace().map(|row| format!("switch {row}")));
        left
    }
}

/// Files in `<folder>/*/<kind>/`.
fn glob(folder: &Path, kind: &str) -> Vec<String> {
    let deployments = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = deployments.flat_map(|entry| std::fs::read_dir(entry.path().join(kind)).into_iter().flatten().flatten());
    files.map(|file| file.path().display().to_string()).collect()
}

/// Six guests over master and h1: two switches, a router between them.
pub const SIX: &str = "
machines:
  - {name: a, micro: {services: {http: 80}}, network: [{switch: lan, ip: 10.7.1.11, gateway: 10.7.1.1}], placement: {host: master}}
  - {name: b, micro: {}, network: [{switch: lan, ip: 10.7.1.12, gateway: 10.7.1.1}], placement: {host: h1}}
  - {name: c, micro: {services: {http: 80}}, network: [{switch: far, ip: 10.7.2.13, gateway: 10.7.2.1}], placement: {host: h1}}
  - {name: d, micro: {}, network: [{switch: far, ip: 10.7.2.14, gateway: 10.7.2.1}], placement: {host: master}}
  - {name: e, micro: {}, network: [{switch: lan}], placement: {host: h1}}
  - {name: f, micro: {}, network: [{switch: far}], placement: {host: master}}
network:
  ovn:
    switches: {lan: {subnet: 10.7.1.0/24}, far: {subnet: 10.7.2.0/24}}
    routers:
      r:
        ports:
          - {name: r-lan, gateway_ip: 10.7.1.1/24, switch: lan}
          - {name: r-far, gateway_ip: 10.7.2.1/24, switch: far}
        dhcp:
          - {switch: lan, exclude_ips: {from: 10.7.1.1, to: 10.7.1.99}}
          - {switch: far, exclude_ips: {from: 10.7.2.1, to: 10.7.2.99}}
";
