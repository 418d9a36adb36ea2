//! The kinds of records and how each looks in a file.

use chrono::{DateTime, Utc};
use kvm_compose::{
    api::{ActionState, Command, LogEntry, LogIndex, OperationSummary, Phase},
    error::Problem,
    names::DeploymentName,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A deployment as it is kept in `deployments/<name>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploymentRecord {
    /// Its name.
    pub name: DeploymentName,
    /// The folder that relative paths lead to; none means the server's own copy of the project.
    pub project_location: Option<String>,
    /// When it was created.
    pub created: DateTime<Utc>,
    /// From the last observation.
    pub phase: Phase,
    /// The last action that ended, `exec` aside.
    pub last_action: Option<OperationSummary>,
    /// The last `up` or `down` that ended.
    pub last_change: Option<OperationSummary>,
    /// The `up` or `down` whose failure a reset made good.
    #[serde(default)]
    pub forgiven: Option<Uuid>,
    /// What messages call the testbed file; none means `kvm-compose.yaml`.
    #[serde(default)]
    pub file: Option<String>,
}

impl DeploymentRecord {
    /// Takes note of an action that ended. What was asked of guests (`exec`, `check`) says nothing about the deployment.
    pub fn note(&mut self, summary: OperationSummary) {
        if summary.command.is_beside() {
            return;
        }
        if matches!(summary.command, Command::Up | Command::Down) {
            self.last_change = Some(summary.clone());
        }
        self.last_action = Some(summary);
    }

    /// Takes note of an action that ended, unless a younger one is on record.
    pub fn note_if_younger(&mut self, summary: &OperationSummary) {
        if self.last_action.as_ref().is_none_or(|last| last.started < summary.started) {
            self.note(summary.clone());
        }
    }
}

/// An action in short.
pub fn summary(uuid: Uuid, entry: &LogEntry) -> OperationSummary {
    OperationSummary {
        uuid,
        command: entry.command,
        state: entry.state,
        error_code: entry.error_code,
        started: entry.started,
        ended: entry.ended,
    }
}

/// True for the states in which nothing more happens.
pub fn has_ended(state: ActionState) -> bool {
    state != ActionState::Running
}

/// Why a file is no record.
#[derive(Debug)]
pub enum Unreadable {
    /// It does not parse: it is set aside.
    Corrupt(String),
    /// A newer server wrote it: this server must not touch the folder.
    Newer(u32),
}

/// A kind of record that can be kept in files.
pub trait FileRecord: Clone + Send + Sync + Sized + 'static {
    /// What stands between the deployment's name and `.json`.
    const SUFFIX: &'static str;

    /// The file's content.
    fn encode(&self, revision: u64) -> Result<Vec<u8>, Problem>;

    /// The value and its revision.
    fn decode(name: &DeploymentName, content: &[u8]) -> Result<(Self, u64), Unreadable>;
}

/// The version of `deployments/<name>.json`.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct DeploymentFile {
    format: u32,
    revision: u64,
    deployment: DeploymentRecord,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl FileRecord for DeploymentRecord {
    const SUFFIX: &'static str = "";

    fn encode(&self, revision: u64) -> Result<Vec<u8>, Problem> {
        to_json(&DeploymentFile { format: FORMAT, revision, deployment: self.clone() })
    }

    fn decode(name: &DeploymentName, content: &[u8]) -> Result<(Self, u64), Unreadable> {
        let corrupt = |error: serde_json::Error| Unreadable::Corrupt(error.to_string());
        let FormatOnly { format } = serde_json::from_slice(content).map_err(corrupt)?;
        if format > FORMAT {
            return Err(Unreadable::Newer(format));
        }
        let file: DeploymentFile = serde_json::from_slice(content).map_err(corrupt)?;
        if file.deployment.name != *name {
            return Err(Unreadable::Corrupt(format!("it is the record of `{}`", file.deployment.name)));
        }
        Ok((file.deployment, file.revision))
    }
}

impl FileRecord for LogIndex {
    const SUFFIX: &'static str = "-logs";

    // The file is the plain object that the API answers (uuid → entry), so it has no room for a format or a revision.
    fn encode(&self, _revision: u64) -> Result<Vec<u8>, Problem> {
        to_json(self)
    }

    fn decode(_name: &DeploymentName, content: &[u8]) -> Result<(Self, u64), Unreadable> {
        serde_json::from_slice(content).map(|index| (index, 1)).map_err(|error| Unreadable::Corrupt(error.to_string()))
    }
}

/// A value as JSON for people: indented, with a line break at the end.
pub fn to_json(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    let mut content =
        serde_json::to_vec_pretty(value).map_err(|error| Problem::internal("a record cannot be written as JSON").cause(error))?;
    content.push(b'\n');
    Ok(content)
}
