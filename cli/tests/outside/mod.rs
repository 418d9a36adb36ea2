//! A neighbour on a host's network: a network namespace with an address on the host's bridge, a page, and a memory of who
//! asked for it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Goes away with the namespace's first process, and that with this value.
pub struct Outside {
    first: Child,
    pages: Option<Child>,
    folder: tempfile::TempDir,
    /// Its end of the cable on the host.
    pub cable: String,
}

/// The port on which it answers.
pub const PORT: u16 = 9000;

fn run(what: &mut Command) -> String {
    let output = what.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{what:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{what:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

impl Outside {
    /// A neighbour whose cable ends in the network of the process `host`; plugging it into a bridge is the caller's.
    pub fn beside(host: i32, address: &str) -> Outside {
        let first =
            Command::new("unshare").args(["--net", "--kill-child", "sleep", "infinity"]).stdin(Stdio::null()).spawn().expect("unshare");
        let folder = tempfile::tempdir().expect("a folder");
        let mut outside = Outside { cable: format!("out{}", first.id()), first, pages: None, folder };
        let own = |outside: &Outside| std::fs::read_link(format!("/proc/{}/ns/net", outside.first.id())).ok();
        let ours = std::fs::read_link("/proc/self/ns/net").ok();
        let begun = Instant::now();
        while own(&outside) == ours {
            assert!(begun.elapsed() < Duration::from_secs(10), "no namespace");
            std::thread::sleep(Duration::from_millis(10));
        }
        let (pid, host) = (outside.first.id().to_string(), host.to_string());
        run(Command::new("ip").args([
            "link",
            "add",
            &outside.cable,
            "netns",
            &host,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &pid,
        ]));
        run(Command::new("nsenter").args(["-t", &host, "-n", "ip", "link", "set", &outside.cable, "up"]));
        outside.ok(&["ip", "addr", "add", address, "dev", "eth0"]);
        outside.ok(&["ip", "link", "set", "eth0", "up"]);
        // Nobody computes checksums on this cable later: the switch reads it as it is.
        outside.ok(&["ethtool", "-K", "eth0", "tx", "off"]);
        let log = std::fs::File::create(outside.log()).expect("a log");
        let serve = ["busybox", "httpd", "-f", "-vv", "-p", &PORT.to_string(), "-h"].map(String::from);
        let mut pages = outside.command(&[]);
        pages.args(serve).arg(outside.folder.path()).stdout(Stdio::null()).stderr(log);
        outside.pages = Some(pages.spawn().expect("a server of pages"));
        outside
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("asked")
    }

    pub fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.first.id().to_string(), "-n", "--"]).args(argv).stdin(Stdio::null());
        command
    }

    /// Runs a command there and expects success.
    pub fn ok(&self, argv: &[&str]) -> String {
        run(&mut self.command(argv))
    }

    /// What a URL holds; the first packets may get lost while neighbours are found.
    pub fn fetch(&self, url: &str) -> Vec<u8> {
        let begun = Instant::now();
        loop {
            let output = self.command(&["timeout", "20", "busybox", "wget", "-q", "-O", "-", url]).output().expect("wget runs");
            if output.status.success() {
                return output.stdout;
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(begun.elapsed() < Duration::from_secs(30), "{url}: {said}");
        }
    }

    /// Puts up a page of that name.
    pub fn page(&self, name: &str) {
        std::fs::write(self.folder.path().join(name), format!("{name} outside\n")).expect("a page");
    }

    /// Does it answer?
    pub fn pings(&self, address: &str) -> bool {
        self.command(&["busybox", "ping", "-c", "3", "-W", "3", address]).output().expect("ping runs").status.success()
    }

    /// Who asked for a page of that name, by address.
    pub fn who_asked(&self, page: &str) -> Option<String> {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let line = log.lines().find(|line| line.ends_with(&format!("url:/{page}")))?;
        match line.strip_prefix("[::ffff:") {
            Some(mapped) => Some(mapped.split([']', ':']).next()?.to_string()),
            None => Some(line.strip_prefix('[')?.split(']').next()?.to_string()),
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        for child in self.pages.iter_mut().chain([&mut self.first]) {
            let _ended = child.kill();
            let _ended = child.wait();
        }
    }
}
