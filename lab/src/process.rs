//! A program that runs on inside a host, started from outside. It must not know what the program is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    time::Duration,
};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::{LabError, until};

/// How long a shell may take to become the program.
const ENTER_LIMIT: Duration = Duration::from_secs(10);

/// A running program inside a host. It is killed with this value, with the host and with the lab.
#[derive(Debug)]
pub struct Process {
    /// `nsenter`, which waits for the program and ends as it ends.
    child: Child,
    pid: Pid,
    log: PathBuf,
}

impl Process {
    /// Waits until the child of `hosts.sh exec` is inside the host.
    pub(crate) fn entered(mut child: Child, log: &Path) -> Result<Process, LabError> {
        let outside = child.id();
        let pid = until("the program has entered the host", ENTER_LIMIT, || match child.try_wait() {
            Ok(None) => only_child(outside).map(Ok),
            Ok(Some(status)) => Some(Err(LabError::Failed {
                what: "a program that should run on".to_owned(),
                status: status.to_string(),
                output: fs::read_to_string(log).unwrap_or_default(),
            })),
            Err(error) => Some(Err(error.into())),
        })??;
        Ok(Process { child, pid, log: log.to_owned() })
    }

    /// The program's number as this machine counts; inside the host it has another.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// All that it wrote so far.
    pub fn output(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    ///
    /// Where the kernel does not say.
    pub fn running(&mut self) -> Result<bool, LabError> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends the program a signal; none when it has ended.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<(), LabError> {
        // As long as `nsenter` is there, the number is the program's: it collects it first.
        if self.running()? {
            kill_process(self.pid, signal)
                .or_else(|errno| if errno == rustix::io::Errno::SRCH { Ok(()) } else { Err(errno) })
                .map_err(std::io::Error::from)?;
        }
        Ok(())
    }

    /// `kill -9`; returns when it is dead.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses.
    pub fn kill(&mut self) -> Result<(), LabError> {
        self.signal(Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end: the status it ended with.
    ///
    /// # Errors
    ///
    /// [`LabError::Late`] when it still runs after the limit.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, LabError> {
        until("the program has ended", limit, || self.child.try_wait().transpose())?.map_err(LabError::from)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("process {} may still run: {error}", self.pid());
        }
    }
}

/// The program: `hosts.sh` becomes `nsenter`, whose only child it is.
fn only_child(outside: u32) -> Option<Pid> {
    let name = fs::read_to_string(format!("/proc/{outside}/comm")).ok()?;
    if name.trim() != "nsenter" {
        return None;
    }
    let children = fs::read_to_string(format!("/proc/{outside}/task/{outside}/children")).ok()?;
    Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}
