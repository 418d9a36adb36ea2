//! A server in this process, over the fake driver, on a folder of its own, with a Unix socket and a free TCP port.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use kvm_compose::names::InstallationId;
use testbedos_server::{
    app::App,
    args::Flags,
    config::{Settings, host::HostConfig},
    data::DataLock,
    http::{
        listen::{self, Listener},
        serve,
    },
    operations::driver::Driver,
    router::router,
    run,
};

use crate::{
    client::{Answer, Client, Door},
    fake::Fake,
};

pub struct Lab {
    pub folder: Arc<tempfile::TempDir>,
    pub app: App,
    pub settings: Settings,
    pub tcp: SocketAddr,
    _runtime: tokio::runtime::Runtime,
    _lock: DataLock,
}

pub fn settings(folder: &std::path::Path) -> Settings {
    let flags = Flags {
        data_dir: Some(folder.join("data")),
        socket: Some(folder.join("testbedos.sock")),
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        ..Flags::default()
    };
    Settings::load(&flags).expect("settings")
}

impl Lab {
    pub fn start() -> Lab {
        Lab::on(Arc::new(tempfile::tempdir().expect("a folder")), |_| {})
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> Lab {
        Lab::on(Arc::new(tempfile::tempdir().expect("a folder")), change)
    }

    /// Starts a server on a folder that may have been used before.
    pub fn on(folder: Arc<tempfile::TempDir>, change: impl FnOnce(&mut Settings)) -> Lab {
        let mut settings = settings(folder.path());
        change(&mut settings);
        let lock = settings.data.open().expect("the lock");
        let host = HostConfig::of_this_machine().expect("a host");
        let driver: Arc<dyn Driver> = Fake::over(folder.path().join("world"));
        let app = run::open(&settings, driver, None, &host).expect("a server");
        app.operations.observe_in_background(app.operations.to_observe().expect("records"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let listeners = listen::open(&settings).expect("listeners");
        let tcp = listeners.iter().find_map(|listener| match listener {
            Listener::Tcp(_, address) => Some(*address),
            Listener::Unix(..) => None,
        });
        let _inside = runtime.enter();
        serve::spawn(listeners, &router(app.clone()), &app.closing, &app.tracker).expect("serving");
        drop(_inside);
        Lab { folder, app, settings, tcp: tcp.expect("TCP"), _runtime: runtime, _lock: lock }
    }

    pub fn client(&self) -> Client {
        Client { door: Door::Unix(self.settings.socket.clone()), headers: Vec::new() }
    }

    pub fn tcp_client(&self, headers: &[(&str, &str)]) -> Client {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Client { door: Door::Tcp(self.tcp), headers }
    }

    pub fn token(&self) -> String {
        self.settings.data.token().expect("a token")
    }

    pub fn installation(&self) -> InstallationId {
        self.settings.data.installation().expect("an id")
    }

    /// A file that is not there yet, for `wait`.
    pub fn gate(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A deployment whose testbed file is this script.
    pub fn deployment(&self, name: &str, script: &str) {
        let client = self.client();
        client.post("/api/deployments", &format!("{{\"name\":\"{name}\"}}")).expect(201);
        client.put(&format!("/api/deployments/{name}/yaml"), script).expect(204);
    }

    /// Starts an action.
    pub fn act(&self, name: &str, request: &str) -> String {
        let answer = self.client().post(&format!("/api/deployments/{name}/action"), request);
        answer.expect(202).json()["uuid"].as_str().expect("a uuid").to_string()
    }

    /// Starts an action, follows it to its end, returns its lines and its entry.
    pub fn finish(&self, name: &str, request: &str) -> (Vec<String>, serde_json::Value) {
        let uuid = self.act(name, request);
        let (lines, _) = self.client().follow(&format!("/api/deployments/{name}/logs/{uuid}/stream")).until_end();
        (lines, self.entry(name, &uuid))
    }

    pub fn entry(&self, name: &str, uuid: &str) -> serde_json::Value {
        self.client().get(&format!("/api/deployments/{name}/logs/{uuid}")).expect(200).json()["entry"].clone()
    }

    pub fn show(&self, name: &str) -> serde_json::Value {
        self.client().get(&format!("/api/deployments/{name}")).expect(200).json()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.client().get(path)
    }
}

pub const UP: &str = "{\"command\":\"up\"}";
pub const DOWN: &str = "{\"command\":\"down\"}";
pub const PLAN: &str = "{\"command\":\"plan\"}";

pub fn exec(argv: &[&str]) -> String {
    serde_json::json!({ "command": "exec", "guest": "web", "argv": argv }).to_string()
}
