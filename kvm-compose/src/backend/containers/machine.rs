//! The life of a container: created with our labels, started, stopped, removed, listed.
//!
//! Each is safe to repeat, and looks at labels before it touches anything. Must not know networks.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::{Duration, Instant},
};

use bollard::{
    errors::Error,
    models::{ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary},
    query_parameters::{
        CreateContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
    },
};
use uuid::Uuid;

use super::{Engine, LIMIT, found, spec};
use crate::{
    backend::Owner,
    error::{Code, Problem},
    orchestrate::host::Cancel,
    plan::{blueprint::Domain, container::Container},
};

/// How long a container has to end by itself when it is stopped, in seconds.
const STOP_S: i32 = 5;

/// A container of any owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Docker's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// The id of its image.
    pub image: String,
    /// It has a process.
    pub active: bool,
    /// Docker's word for its state; of an ended one with its exit status.
    pub state: String,
}

impl Listed {
    /// A label of ours.
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// True when its labels are this owner's.
    pub fn is_of(&self, owner: &Owner) -> bool {
        self.installation() == Some(&owner.installation.to_string()) && self.deployment() == Some(owner.deployment.as_str())
    }

    /// The installation that made it.
    pub fn installation(&self) -> Option<&str> {
        self.label(spec::INSTALLATION)
    }

    /// The deployment it belongs to.
    pub fn deployment(&self) -> Option<&str> {
        self.label(spec::DEPLOYMENT)
    }

    /// The guest it is.
    pub fn guest(&self) -> Option<&str> {
        self.label(spec::GUEST)
    }

    /// The guest's id.
    pub fn uuid(&self) -> Option<Uuid> {
        Uuid::parse_str(self.label(spec::UUID)?).ok()
    }

    /// The digest of what it was made from.
    pub fn digest(&self) -> &str {
        self.label(spec::DIGEST).unwrap_or_default()
    }
}

/// A container looked at closely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Docker's id.
    pub id: String,
    labels: HashMap<String, String>,
    /// The file on this host that is its `/etc/resolv.conf`.
    pub resolver: Option<PathBuf>,
    /// Its state.
    pub state: State,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Docker's word.
    pub word: String,
    /// The process, as this host counts it, while there is one.
    pub pid: Option<i32>,
    /// It is held.
    pub paused: bool,
    /// The status that it ended with.
    pub exit: i64,
    /// Why it could not start.
    pub fault: String,
}

impl State {
    /// As people read it.
    pub fn words(&self) -> String {
        match self.word.as_str() {
            "exited" => format!("exited ({})", self.exit),
            other => other.to_string(),
        }
    }
}

impl Engine {
    /// All containers.
    pub fn list(&self) -> Result<Vec<Listed>, Problem> {
        let all = ListContainersOptionsBuilder::default().all(true).build();
        let listed = self.ask("Docker does not list its containers", LIMIT, async |docker| docker.list_containers(Some(all)).await)?;
        Ok(listed.into_iter().filter_map(from_summary).collect())
    }

    /// One container; nothing when there is none of this name.
    pub fn look(&self, name: &str) -> Result<Option<Seen>, Problem> {
        let doing = format!("Docker does not say what the container `{name}` does");
        let answer = self.ask(&doing, LIMIT, async |docker| found(docker.inspect_container(name, None).await))?;
        Ok(answer.and_then(from_inspection))
    }

    /// The processes of containers, by id, as far as they have one.
    pub fn processes(&self, ids: &[&str]) -> Result<BTreeMap<String, i32>, Problem> {
        self.ask("Docker does not say what its containers do", LIMIT, async |docker| {
            let mut processes = BTreeMap::new();
            for id in ids {
                let seen = found(docker.inspect_container(id, None).await)?.and_then(from_inspection);
                processes.extend(seen.and_then(|seen| Some((seen.id, seen.state.pid?))));
            }
            Ok(processes)
        })
    }

    /// The same, of this owner alone.
    pub fn look_at_ours(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<Option<Seen>, Problem> {
        let Some(seen) = self.look(name)? else { return Ok(None) };
        let label = |name: &str| seen.labels.get(name).map(String::as_str);
        let ours = label(spec::INSTALLATION) == Some(&owner.installation.to_string())
            && label(spec::DEPLOYMENT) == Some(owner.deployment.as_str())
            && label(spec::UUID) == Some(&uuid.to_string());
        if ours {
            return Ok(Some(seen));
        }
        Err(Problem::new(Code::Conflict, format!("there is a container `{name}` already, and it is not ours"))
            .hint(format!("look at it with `docker inspect {name}`; it carries no mark of this deployment")))
    }

    /// Creates a container and starts it. One with the owner's labels and the same digest is only started.
    pub fn start(&self, domain: &Domain, container: &Container, owner: &Owner, operation: Uuid) -> Result<Seen, Problem> {
        let name = domain.name.as_str();
        let there = self.look_at_ours(name, domain.uuid, owner)?;
        if let Some(other) = there.as_ref().filter(|there| there.labels.get(spec::DIGEST) != Some(&domain.digest)) {
            return Err(Problem::new(Code::Conflict, format!("there is a container `{name}` already, made from something else"))
                .cause(format!("its id is {}", other.id))
                .hint("run `testbed up` again: it sees what is there"));
        }
        if there.is_none() {
            let options = CreateContainerOptionsBuilder::default().name(name).build();
            let body = spec::body(domain, container, owner, operation);
            let doing = format!("Docker does not create the container `{name}`");
            self.ask(&doing, LIMIT, async |docker| docker.create_container(Some(options), body).await)?;
        }
        let doing = format!("Docker does not start the container `{name}`");
        let (paused, running) = there.map_or((false, false), |there| (there.state.paused, there.state.pid.is_some()));
        match (paused, running) {
            (true, _) => self.ask(&doing, LIMIT, async |docker| docker.unpause_container(name).await)?,
            (false, true) => {}
            (false, false) => self
                .ask(&doing, LIMIT, async |docker| docker.start_container(name, None).await)
                .map_err(|problem| teach(problem, container))?,
        }
        self.look_at_ours(name, domain.uuid, owner)?
            .ok_or_else(|| Problem::new(Code::Docker, format!("the container `{name}` vanished while it was started")))
    }

    /// Stops a container and keeps it. Stopped or absent already is success.
    pub fn stop(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<(), Problem> {
        let Some(there) = self.look_at_ours(name, uuid, owner)? else { return Ok(()) };
        let options = StopContainerOptionsBuilder::default().t(STOP_S).build();
        let doing = format!("Docker does not stop the container `{name}`");
        self.ask(&doing, LIMIT, async |docker| found(docker.stop_container(&there.id, Some(options)).await)).map(drop)
    }

    /// Asks a container to end, and ends it after so many seconds; keeps it. Stopped or absent already is success.
    pub fn shut_down(&self, name: &str, uuid: Uuid, limit_s: u64, owner: &Owner) -> Result<(), Problem> {
        let Some(there) = self.look_at_ours(name, uuid, owner)?.filter(|there| there.state.pid.is_some()) else { return Ok(()) };
        let doing = format!("Docker does not stop the container `{name}`");
        if there.state.paused && limit_s > 0 {
            // One that is held hears nothing.
            self.go_on(name, uuid, owner)?;
        }
        let options = StopContainerOptionsBuilder::default().t(i32::try_from(limit_s).unwrap_or(i32::MAX)).build();
        let limit = LIMIT + Duration::from_secs(limit_s);
        self.ask(&doing, limit, async |docker| found(docker.stop_container(&there.id, Some(options)).await)).map(drop)
    }

    /// Holds a container's processes. Held already is success.
    pub fn hold(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<(), Problem> {
        let there = self.running(name, uuid, owner)?;
        if there.state.paused {
            return Ok(());
        }
        let doing = format!("Docker does not pause the container `{name}`");
        self.ask(&doing, LIMIT, async |docker| docker.pause_container(&there.id).await)
    }

    /// Lets a container's processes go on. Running already is success.
    pub fn go_on(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<(), Problem> {
        let there = self.running(name, uuid, owner)?;
        if !there.state.paused {
            return Ok(());
        }
        let doing = format!("Docker does not resume the container `{name}`");
        self.ask(&doing, LIMIT, async |docker| docker.unpause_container(&there.id).await)
    }

    fn running(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<Seen, Problem> {
        let there = self.look_at_ours(name, uuid, owner)?;
        let state = there.as_ref().map_or_else(|| "gone".to_string(), |there| there.state.words());
        there
            .filter(|there| there.state.pid.is_some())
            .ok_or_else(|| Problem::new(Code::Conflict, format!("the container `{name}` does not run: it is {state}")))
    }

    /// Ends and removes a container with the volumes that its image asked for. Absent already is success.
    pub fn remove(&self, name: &str, uuid: Uuid, owner: &Owner, cancel: &Cancel) -> Result<(), Problem> {
        let Some(there) = self.look_at_ours(name, uuid, owner)? else { return Ok(()) };
        let doing = format!("Docker does not remove the container `{name}`");
        let deadline = Instant::now() + LIMIT;
        loop {
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            let removed = self.ask(&doing, LIMIT, async |docker| {
                match docker.remove_container(&there.id, Some(options)).await {
                    // Somebody else is at it, such as the call of a server that died.
                    Err(Error::DockerResponseServerError { status_code: 409, .. }) => Ok(false),
                    other => found(other).map(|_| true),
                }
            })?;
            if removed {
                return Ok(());
            }
            if self.look(&there.id)?.is_none() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Problem::new(Code::Docker, doing).cause("its removal has been in progress for a minute"));
            }
            if cancel.wait(Duration::from_millis(100)) {
                cancel.check()?;
            }
        }
    }
}

/// What a container cannot start for is most often its command.
fn teach(problem: Problem, container: &Container) -> Problem {
    let says = |words: &[&str]| problem.causes.iter().any(|cause| words.iter().any(|word| cause.contains(word)));
    let (command, rights) = (says(&["executable file not found", "no such file"]), says(&["operation not permitted"]));
    match (command, rights && container.privileged) {
        (true, _) => problem.hint("look at `command`, `entrypoint` and `volumes` of the machine"),
        (_, true) => problem.hint("`privileged: true` is every right there is, and this host does not have all of them itself"),
        _ => problem,
    }
}

fn from_summary(summary: ContainerSummary) -> Option<Listed> {
    let word = summary.state.map(|state| state.to_string()).unwrap_or_default();
    let status = summary.status.unwrap_or_default();
    // `Exited (1) 2 minutes ago`
    let exit = status.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(exit, _)| exit.to_string());
    let state = match (word.as_str(), exit) {
        ("exited", Some(exit)) => format!("exited ({exit})"),
        _ => word.clone(),
    };
    let labels = summary.labels.unwrap_or_default();
    Some(Listed {
        id: summary.id?,
        name: summary.names?.first()?.trim_start_matches('/').to_string(),
        // One that a snapshot's image stands in for is taken for one of the image that its name led to.
        image: labels.get(spec::IMAGE).cloned().or(summary.image_id).unwrap_or_default(),
        labels,
        active: matches!(word.as_str(), "running" | "paused" | "restarting"),
        state,
    })
}

fn from_inspection(seen: ContainerInspectResponse) -> Option<Seen> {
    let state = seen.state?;
    let word = state.status.unwrap_or(ContainerStateStatusEnum::EMPTY).to_string();
    let runs = state.running.unwrap_or_default();
    Some(Seen {
        id: seen.id?,
        resolver: seen.resolv_conf_path.filter(|path| !path.is_empty()).map(PathBuf::from),
        labels: seen.config.and_then(|config| config.labels).unwrap_or_default(),
        state: State {
            word,
            pid: state.pid.filter(|pid| runs && *pid > 0).and_then(|pid| i32::try_from(pid).ok()),
            paused: state.paused.unwrap_or_default(),
            exit: state.exit_code.unwrap_or_default(),
            fault: state.error.unwrap_or_default(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_is_read_from_a_listing() {
        let summary = |state: &str, status: &str| {
            let text = format!(r#"{{"Id":"a","Names":["/lab.web"],"State":"{state}","Status":"{status}"}}"#);
            from_summary(serde_json::from_str(&text).expect("a summary")).expect("listed")
        };
        let ended = summary("exited", "Exited (137) 3 seconds ago");
        assert_eq!((ended.state.as_str(), ended.active, ended.name.as_str()), ("exited (137)", false, "lab.web"));
        let runs = summary("running", "Up 3 minutes (healthy)");
        assert_eq!((runs.state.as_str(), runs.active), ("running", true));
    }
}
