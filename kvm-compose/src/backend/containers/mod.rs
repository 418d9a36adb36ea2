//! Containers of Docker, through its API: made, found again by their labels, plugged into OVN from outside, removed.
//!
//! ```text
//! container (network `none`) ── eth0 │ tbvX ── br-int          a veth pair; addresses and routes are set up in the
//!                    its namespace ──┘                          container's namespace by us, with nothing of its image
//! ```
//!
//! A container is on the host whether this server runs or not: its labels and the marks of its ports say whose it is. Docker's
//! library is asynchronous, callers are not: each call has a small loop of its own. Must not know the testbed file.

mod archive;
pub mod commit;
pub mod exec;
mod image;
pub mod logs;
mod machine;
mod namespace;
pub mod port;
pub mod ready;
mod spec;

use std::{path::PathBuf, time::Duration};

use bollard::{ClientVersion, errors::Error};

pub use machine::{Listed, Seen, State};

use crate::{
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

/// Where Docker listens, unless `DOCKER_HOST` names another socket.
const SOCKET: &str = "/var/run/docker.sock";
/// How long Docker may take for an answer. Removing a container whose processes hang takes it ten seconds and more.
const LIMIT: Duration = Duration::from_secs(60);
/// The version of the API that the first question is put in; then the two agree on the newest that both know.
const FIRST: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };
/// How often it is looked whether the action is to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// Docker on this machine.
#[derive(Debug, Clone)]
pub struct Engine {
    socket: PathBuf,
}

impl Engine {
    /// Docker behind its usual socket, or the one that `DOCKER_HOST` names. Connects on use.
    pub fn usual() -> Self {
        let named = std::env::var("DOCKER_HOST").ok().and_then(|host| host.strip_prefix("unix://").map(PathBuf::from));
        Engine { socket: named.unwrap_or_else(|| PathBuf::from(SOCKET)) }
    }

    /// Whether it answers, and its version.
    pub fn check(&self) -> Result<String, Problem> {
        let version = self.ask("Docker does not say its version", Duration::from_secs(3), async |docker| docker.version().await)?;
        Ok(version.version.unwrap_or_else(|| "of an unknown version".to_string()))
    }

    /// One conversation. `doing` is the message when Docker refuses.
    fn ask<T>(&self, doing: &str, limit: Duration, work: impl AsyncFnOnce(&bollard::Docker) -> Result<T, Error>) -> Result<T, Problem> {
        self.converse(limit, async |docker| work(docker).await.map_err(|error| self.problem(doing, error)))
    }

    /// One conversation whose failures are the caller's to word.
    fn converse<T>(&self, limit: Duration, work: impl AsyncFnOnce(&bollard::Docker) -> Result<T, Problem>) -> Result<T, Problem> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Problem::io("no loop for a conversation with Docker can be made", &error))?;
        runtime.block_on(async {
            let path = self.socket.to_string_lossy();
            let docker = bollard::Docker::connect_with_unix(&path, limit.as_secs().max(1), &FIRST).map_err(|error| self.away(error))?;
            let docker = docker.negotiate_version().await.map_err(|error| self.away(error))?;
            work(&docker).await
        })
    }

    fn away(&self, error: Error) -> Problem {
        Problem::new(Code::Docker, format!("Docker does not answer at `{}`", self.socket.display()))
            .cause(error)
            .hint("containers need it: install Docker, start it (`./setup.sh services start`), and look at `testbed doctor`")
    }

    fn problem(&self, doing: &str, error: Error) -> Problem {
        match error {
            Error::DockerResponseServerError { message, .. } => Problem::new(Code::Docker, doing).cause(message),
            Error::DockerStreamError { error } => Problem::new(Code::Docker, doing).cause(error),
            Error::RequestTimeoutError => Problem::new(Code::Docker, doing).cause("Docker took too long for an answer"),
            other => self.away(other),
        }
    }
}

/// What is not there, as nothing.
fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ends when the action is to stop.
async fn cancelled(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(GLANCE).await;
    }
}
