//! A testbed on the real parts of this machine: libvirt, OVN, Open vSwitch.
//!
//! Each has an installation and a name of its own, so tests never meet each other's things, and takes everything down at
//! its end, also when a test fails. Sockets come from the environment where they are not in their usual place.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use kvm_compose::{
    api::UpOptions,
    backend::local::{AcceleratorChoice, ExecCall, ExecResult, LocalConfig, LocalHost, Purpose},
    error::Problem,
    names::{DeploymentName, GuestName, HostName, InstallationId},
    orchestrate::{
        self, Operation, Sink,
        event::EventKind,
        host::{Cancel, Context, Host},
    },
    plan::{blueprint::Blueprint, observed::Observed, step::Work},
};
use parking_lot::Mutex;
use uuid::Uuid;

/// Two guests on two switches joined by a router, one address from DHCP, a small web server.
pub const PAIR: &str = "
version: 1
machines:
  - name: web
    micro:
      environment:
        GREETING: hello
      services:
        http: 80
    network:
      - switch: servers
        ip: 10.0.2.10
        gateway: 10.0.2.1
  - name: client
    micro: {}
    network:
      - switch: clients
        ip: dynamic
network:
  ovn:
    switches:
      clients: {subnet: 10.0.1.0/24}
      servers: {subnet: 10.0.2.0/24}
    routers:
      r1:
        ports:
          - {name: r1-clients, gateway_ip: 10.0.1.1/24, switch: clients}
          - {name: r1-servers, gateway_ip: 10.0.2.1/24, switch: servers}
        dhcp:
          - switch: clients
            exclude_ips: {from: 10.0.1.1, to: 10.0.1.99}
";

/// One guest on one switch.
pub const SINGLE: &str = "
version: 1
machines:
  - name: box
    micro: {}
    network:
      - {switch: lan, ip: 10.0.0.10}
network:
  ovn:
    switches:
      lan: {subnet: 10.0.0.0/24}
";

/// A deployment under test.
pub struct Lab {
    pub host: LocalHost,
    pub config: LocalConfig,
    pub deployment: DeploymentName,
    pub data: tempfile::TempDir,
    /// What steps and scripts said.
    pub said: Events,
}

/// The events of all operations.
#[derive(Default)]
pub struct Events(pub Mutex<Vec<EventKind>>);

impl Sink for Events {
    fn emit(&self, event: EventKind) -> Result<(), Problem> {
        self.0.lock().push(event);
        Ok(())
    }
}

impl Lab {
    /// A deployment named after its test.
    pub fn new(name: &str) -> Lab {
        let data = tempfile::tempdir().expect("a folder");
        // QEMU's user must be able to pass through.
        std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o711)).expect("set");
        let socket = |variable: &str, usual: &str| std::env::var_os(variable).map_or_else(|| PathBuf::from(usual), PathBuf::from);
        let config = LocalConfig {
            installation: InstallationId(Uuid::new_v4()),
            host: HostName::new("here").expect("valid"),
            data_dir: data.path().to_path_buf(),
            images_dir: images(),
            allowed_image_dirs: Vec::new(),
            catalogues: Vec::new(),
            images: Default::default(),
            libvirt_uri: std::env::var("TESTBEDOS_LIBVIRT_URI").unwrap_or_else(|_| "qemu:///system".to_string()),
            ovn_nb: socket("TESTBEDOS_OVN_NB", "/var/run/ovn/ovnnb_db.sock"),
            ovs_db: socket("TESTBEDOS_OVS_DB", "/var/run/openvswitch/db.sock"),
            bridge: "br-int".to_string(),
            accelerator: AcceleratorChoice::Auto,
            mappings: Vec::new(),
            masquerade: false,
        };
        let unique = Uuid::new_v4().simple().to_string();
        let deployment = DeploymentName::new(&format!("t-{name}-{}", &unique[..6])).expect("valid");
        Lab { host: LocalHost::new(config.clone()), config, deployment, data, said: Events::default() }
    }

    pub fn blueprint(&self, yaml: &str) -> Blueprint {
        let project = self.data.path().join("project");
        std::fs::create_dir_all(&project).expect("a project");
        let hosts = || self.host.alone(&self.deployment);
        self.host
            .prepare(
                &self.deployment,
                &kvm_compose::spec::Sources::alone("kvm-compose.yaml", yaml),
                &project,
                Purpose::Doing(&Cancel::new()),
                hosts,
            )
            .expect("a good file")
            .blueprint
    }

    /// Puts a file into the project.
    pub fn project_file(&self, name: &str, content: &str) {
        let project = self.data.path().join("project");
        std::fs::create_dir_all(&project).expect("a project");
        std::fs::write(project.join(name), content).expect("written");
    }

    pub fn up(&self, blueprint: &Blueprint) -> Result<(), Problem> {
        let cancel = Cancel::new();
        orchestrate::up(
            &self.host,
            blueprint,
            &UpOptions::default(),
            &Operation { uuid: Uuid::new_v4(), cancel: &cancel, sink: &self.said },
        )
    }

    pub fn down(&self) -> Result<(), Problem> {
        let cancel = Cancel::new();
        let operation = Operation { uuid: Uuid::new_v4(), cancel: &cancel, sink: &self.said };
        let nothing = kvm_compose::plan::nothing(self.config.installation, &self.deployment, &self.config.host);
        orchestrate::down(&self.host, &nothing, &operation)
    }

    pub fn observe(&self, wanted: Option<&Blueprint>) -> Observed {
        self.host.observe(&self.deployment, wanted).expect("everything answers")
    }

    /// The steps that `up` would take now.
    pub fn plan(&self, blueprint: &Blueprint) -> Vec<String> {
        let plan = orchestrate::plan(&self.host, blueprint, &UpOptions::default()).expect("a plan");
        plan.steps.into_iter().map(|step| format!("{} ({})", step.id, step.reason)).collect()
    }

    pub fn apply(&self, work: &Work) -> Result<(), Problem> {
        self.apply_until(work, &Cancel::new())
    }

    pub fn apply_until(&self, work: &Work, cancel: &Cancel) -> Result<(), Problem> {
        let say = |line: &str| drop(self.said.emit(EventKind::Line { guest: None, text: line.to_string() }));
        self.host
            .apply(work, &Context { host: &self.config.host, deployment: &self.deployment, operation: Uuid::new_v4(), cancel, say: &say })
    }

    pub fn exec(&self, guest: &str, argv: &[&str]) -> ExecResult {
        self.try_exec(guest, argv, b"", 60, &Cancel::new()).expect("the agent answers")
    }

    pub fn try_exec(&self, guest: &str, argv: &[&str], stdin: &[u8], timeout_s: u64, cancel: &Cancel) -> Result<ExecResult, Problem> {
        let (guest, argv) = (GuestName::new(guest).expect("valid"), argv.iter().map(|word| word.to_string()).collect::<Vec<_>>());
        let environment = BTreeMap::new();
        self.host.exec(
            &self.deployment,
            &ExecCall { guest: &guest, argv: &argv, environment: &environment, stdin, timeout_s },
            cancel,
            &|_, _| {},
        )
    }

    /// Everything that anybody said.
    pub fn lines(&self) -> Vec<String> {
        self.said.0.lock().iter().map(EventKind::text).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(problem) = self.down() {
            eprintln!("{} is left behind: {problem:?}", self.deployment);
        }
        if std::thread::panicking() {
            eprintln!("{}", self.lines().join("\n"));
        }
    }
}

/// The folder with the micro image, which is made when it is not there yet.
fn images() -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock();
    let folder =
        std::env::var_os("TESTBEDOS_IMAGES_DIR").map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("images"), PathBuf::from);
    if kvm_compose::backend::images::find_micro(&folder).expect("a sound index").is_none() {
        let sources = kvm_compose::backend::images::MicroSources::find().expect("the parts of the micro image");
        kvm_compose::backend::images::build_micro(&folder, &sources, &Cancel::new(), &|_| {}).expect("a micro image");
    }
    folder
}
