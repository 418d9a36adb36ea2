//! Several hypervisor hosts on one machine, for tests of what needs more than one: [`Lab::up`] gives hosts `m`, `h1`, `h2`
//! and so on, each with its own network, libvirt and Open vSwitch; `m` has OVN's databases as well. Needs root.
//!
//! `hosts.sh` beside this crate does the work (see `docs/lab.md`). It must not know the product: what runs inside the
//! hosts is the test's business.

mod owner;
mod process;
mod wait;

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use owner::Owner;
pub use process::{Process, Signal};
pub use wait::{LabError, until};

/// How long [`Lab::exec`] lets a command run.
pub const EXEC_LIMIT: Duration = Duration::from_secs(60);
/// How long the lab may take for `up`, `poweron` and the like; the script's own limits are shorter.
const CHANGE_LIMIT: Duration = Duration::from_secs(180);

/// One of a host's two networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// Carries what the master and its hosts say to each other.
    Management,
    /// Carries the guests' traffic.
    Data,
    /// Both.
    All,
}

/// A host as `status` tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `m`, `h1`, `h2` and so on.
    pub name: String,
    /// Its address on the management network.
    pub management: String,
    /// Its address on the data network, for Geneve.
    pub data: String,
    /// Its first process, as this machine numbers it; none when the host is off.
    pub pid: Option<i32>,
    /// Where libvirt's socket can be reached from outside.
    pub libvirt: PathBuf,
}

/// A running lab. It ends with this value, or with this process, however that ends; where the test panicked, the hosts'
/// files and logs stay.
#[derive(Debug)]
pub struct Lab {
    owner: Owner,
}

impl Lab {
    /// Starts that many hosts and returns when their parts answer.
    ///
    /// # Errors
    ///
    /// Where a part does not start, with what the script said of it.
    pub fn up(hosts: usize) -> Result<Lab, LabError> {
        // /tmp: the paths of Unix sockets are short.
        let folder = tempfile::Builder::new().prefix("lab-").tempdir_in("/tmp")?;
        let lab = Lab { owner: Owner::of(folder.keep())? };
        lab.change(&["up", &hosts.to_string()])?;
        Ok(lab)
    }

    /// The lab's folder.
    pub fn folder(&self) -> &Path {
        self.owner.folder()
    }

    /// Where a file of the host is seen from outside, e.g. `/run/testbedos/testbedos.sock`. Only the folders that the host
    /// has of its own are there; all else is this machine's, at its own path.
    pub fn path(&self, host: &str, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        self.folder().join(host).join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// Every host, `m` first.
    ///
    /// # Errors
    ///
    /// Where the script fails.
    pub fn status(&self) -> Result<Vec<Host>, LabError> {
        let output = self.script("status", &[], CHANGE_LIMIT).output()?;
        let text = String::from_utf8_lossy(&wait::succeeded("status", output)?.stdout).into_owned();
        text.lines().map(|line| host_of(line).ok_or_else(|| LabError::Answer(line.to_owned()))).collect()
    }

    /// One host.
    ///
    /// # Errors
    ///
    /// Where there is none of that name.
    pub fn host(&self, name: &str) -> Result<Host, LabError> {
        self.status()?.into_iter().find(|host| host.name == name).ok_or_else(|| LabError::NoHost(name.to_owned()))
    }

    /// Runs a command inside a host, for [`EXEC_LIMIT`] at most; its exit status is the command's, 124 when it took too long.
    ///
    /// # Errors
    ///
    /// Where it could not be run at all.
    pub fn exec(&self, host: &str, argv: &[&str]) -> Result<Output, LabError> {
        Ok(self.script("exec", &[&[host], argv].concat(), EXEC_LIMIT).stdin(Stdio::null()).output()?)
    }

    /// The same for a command that is expected to succeed: what it wrote.
    ///
    /// # Errors
    ///
    /// Where it fails, with all that it wrote.
    pub fn ok(&self, host: &str, argv: &[&str]) -> Result<String, LabError> {
        let output = wait::succeeded(&format!("on {host}: {}", argv.join(" ")), self.exec(host, argv)?)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A command to be run inside a host, without a limit, for what needs an environment or a pipe. It dies with the process
    /// that this starts.
    pub fn command(&self, host: &str, argv: &[&str]) -> Command {
        let mut command = Command::new(script());
        command.env("LAB_DIR", self.folder()).args(["exec", host]).args(argv);
        command
    }

    /// Starts a program that runs on inside a host, with everything it writes at the end of the file `log`.
    ///
    /// # Errors
    ///
    /// Where the host is off, or the file cannot be written.
    pub fn spawn(&self, host: &str, argv: &[&str], log: &Path) -> Result<Process, LabError> {
        self.spawn_command(self.command(host, argv), log)
    }

    /// The same for a [`Lab::command`], e.g. one that was given an environment.
    ///
    /// # Errors
    ///
    /// As [`Lab::spawn`].
    pub fn spawn_command(&self, mut command: Command, log: &Path) -> Result<Process, LabError> {
        let output = File::options().create(true).append(true).open(log)?;
        let child = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
        Process::entered(child, log)
    }

    /// Cuts a host's cables.
    ///
    /// # Errors
    ///
    /// Where the host is off or there is none.
    pub fn cut(&self, host: &str, plane: Plane) -> Result<(), LabError> {
        self.change(&["cut", host, plane.word()])
    }

    /// Mends a host's cables.
    ///
    /// # Errors
    ///
    /// As [`Lab::cut`].
    pub fn heal(&self, host: &str, plane: Plane) -> Result<(), LabError> {
        self.change(&["heal", host, plane.word()])
    }

    /// Kills every process of a host at once.
    ///
    /// # Errors
    ///
    /// Where there is no such host.
    pub fn poweroff(&self, host: &str) -> Result<(), LabError> {
        self.change(&["poweroff", host])
    }

    /// Starts a host again, with its disk as it was; returns when its parts answer.
    ///
    /// # Errors
    ///
    /// Where a part does not start.
    pub fn poweron(&self, host: &str) -> Result<(), LabError> {
        self.change(&["poweron", host])
    }

    fn change(&self, words: &[&str]) -> Result<(), LabError> {
        let (verb, rest) = words.split_first().unwrap_or((&"", &[]));
        wait::succeeded(&words.join(" "), self.script(verb, rest, CHANGE_LIMIT).stdin(Stdio::null()).output()?)?;
        Ok(())
    }

    fn script(&self, verb: &str, rest: &[&str], limit: Duration) -> Command {
        let mut command = Command::new("timeout");
        command.arg("--kill-after=5").arg(limit.as_secs().to_string()).arg(script());
        command.arg(verb).args(rest).env("LAB_DIR", self.folder());
        command
    }
}

impl Plane {
    fn word(self) -> &'static str {
        match self {
            Plane::Management => "mgmt",
            Plane::Data => "data",
            Plane::All => "all",
        }
    }
}

fn host_of(line: &str) -> Option<Host> {
    let [name, management, data, pid, libvirt] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
    let pid = if pid == "-" { None } else { Some(pid.parse().ok()?) };
    Some(Host { name: name.into(), management: management.into(), data: data.into(), pid, libvirt: libvirt.into() })
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("hosts.sh")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_status_is_a_host() {
        let on = host_of("h1\t10.98.0.11\t10.99.0.11\t4711\t/tmp/lab/h1/run/libvirt/libvirt-sock").expect("a host");
        assert_eq!((on.name.as_str(), on.pid, on.data.as_str()), ("h1", Some(4711), "10.99.0.11"));
        assert_eq!(host_of("h1\ta\tb\t-\t/s").expect("a host").pid, None);
        for line in ["", "h1", "h1\ta\tb\tmany\t/s", "h1\ta\tb\t1\t/s\tmore"] {
            assert_eq!(host_of(line), None, "{line:?}");
        }
    }
}
