//! The testbed side: the real server and the real command, timed from outside.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use virt::connect::Connect;

use crate::plain;

/// A server on a data folder of its own.
pub struct Server {
    child: Child,
    folder: tempfile::TempDir,
    binaries: PathBuf,
}

/// A project of N guests.
pub struct Project<'a> {
    server: &'a Server,
    name: String,
    folder: PathBuf,
    guests: usize,
}

/// How long `up` took, in seconds.
pub struct Up {
    /// Until every domain ran.
    pub running: f64,
    /// Until it returned.
    pub ready: f64,
}

impl Server {
    /// Starts the server and waits until it answers, at most 20 s.
    pub fn start() -> Result<Self> {
        let binaries = std::env::current_exe()?.parent().context("no folder")?.to_path_buf();
        let folder =
            tempfile::Builder::new().prefix("bench-up").permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir()?;
        let socket = folder.path().join("testbedos.sock");
        let child = Command::new(binaries.join("testbedos-server"))
            .arg("master")
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .arg("--socket")
            .arg(&socket)
            .arg("--no-tcp")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting testbedos-server; build it with `cargo build --release`")?;
        let server = Server { child, folder, binaries };
        let began = Instant::now();
        while !server.command(&["version"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() || !socket.exists() {
            ensure!(began.elapsed() < Duration::from_secs(20), "the server does not answer within 20 s");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.binaries.join("testbed"));
        command.arg("--host").arg(format!("unix:{}", self.folder.path().join("testbedos.sock").display())).args(args).stdin(Stdio::null());
        command
    }

    /// A project of N micro guests on one switch.
    pub fn project(&self, guests: usize) -> Result<Project<'_>> {
        let name = format!("bench-{guests}");
        let folder = self.folder.path().join(&name);
        std::fs::create_dir_all(&folder)?;
        let machines: String =
            (0..guests).map(|n| format!("  - {{name: g{n}, micro: {{}}, network: [{{switch: lan, ip: 10.77.0.{}}}]}}\n", n + 10)).collect();
        let text = format!("machines:\n{machines}network: {{ovn: {{switches: {{lan: {{subnet: 10.77.0.0/24}}}}}}}}\n");
        std::fs::write(folder.join("kvm-compose.yaml"), text)?;
        Ok(Project { server: self, name, folder, guests })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL: nothing of the server's is wanted any more, and guests are down.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Project<'_> {
    /// The deployment's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.server.command(args);
        command.current_dir(&self.folder).stdout(Stdio::null());
        command
    }

    /// Times `testbed up`.
    pub fn up(&self) -> Result<Up> {
        let connection = Connect::open(Some(plain::URI))?;
        let began = Instant::now();
        let mut child = self.command(&["up"]).spawn()?;
        let mut running = None;
        loop {
            if running.is_none() && plain::running(&connection, &self.name)? == self.guests {
                running = Some(began.elapsed().as_secs_f64());
            }
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "`testbed up` of {} guests ended with {status}", self.guests);
                let ready = began.elapsed().as_secs_f64();
                return Ok(Up { running: running.unwrap_or(ready), ready });
            }
            std::thread::sleep(Duration::from_millis(if running.is_some() { 5 } else { 20 }));
        }
    }

    /// Times another command, in seconds.
    pub fn timed(&self, args: &[&str]) -> Result<f64> {
        let began = Instant::now();
        let status = self.command(args).status()?;
        if !status.success() {
            bail!("`testbed {}` ended with {status}", args.join(" "));
        }
        Ok(began.elapsed().as_secs_f64())
    }
}
