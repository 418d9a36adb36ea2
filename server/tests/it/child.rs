//! A server in a process of its own, so that it can be killed and its memory measured: this test program, run again.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use testbedos_server::{args::Flags, config::host::HostConfig, run};

use crate::{
    client::{Client, Door},
    fake::Fake,
    lab,
};

const FOLDER: &str = "TESTBEDOS_TEST_CHILD";

/// Not a test: the child's whole life. Without its variable it returns at once.
#[test]
fn child_server() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let settings = lab::settings(folder);
    let _lock = settings.data.open().expect("the lock");
    let host = HostConfig::of_this_machine().expect("a host");
    run::serve_with(&settings, &Flags::default(), Fake::over(folder.join("world")), None, &host, None).expect("served");
}

pub struct Server {
    pub folder: Arc<tempfile::TempDir>,
    child: Child,
}

impl Server {
    pub fn start(folder: Arc<tempfile::TempDir>) -> Server {
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["child::child_server", "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("a child");
        let server = Server { folder, child };
        let socket = server.socket();
        while UnixStream::connect(&socket).is_err() {
            std::thread::yield_now();
        }
        server
    }

    pub fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("testbedos.sock")
    }

    pub fn client(&self) -> Client {
        Client { door: Door::Unix(self.socket()), headers: Vec::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().expect("kill");
        assert!(done.success());
    }

    /// `kill -9`.
    pub fn kill(mut self) -> Arc<tempfile::TempDir> {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
        self.folder.clone()
    }

    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("gone")
    }

    /// Resident memory now, in KiB.
    pub fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most resident memory that it ever had, in KiB.
    pub fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a process");
        let line = status.lines().find(|line| line.starts_with(key)).expect("a line");
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
