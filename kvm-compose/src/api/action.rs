//! Actions: what is asked of a deployment, and what became of it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    check::CheckOptions,
    composition::Composition,
    lifecycle::{Guests, StopOptions},
    link::SetLink,
    snapshot::SnapshotRequest,
    why::WhyRequest,
};
use crate::{
    error::Problem,
    names::{DeploymentName, GuestName},
};

/// POST `/api/deployments/{name}/action`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum ActionRequest {
    /// Makes the world look like the testbed file.
    Up(UpOptions),
    /// Makes the world look like the empty testbed.
    Down {},
    /// Says what `up` would do, and does nothing. Its result is the entry's `result`: a `PlanDocument`.
    Plan(PlanOptions),
    /// Runs a command in a guest. Its output is the action's log; its status is the entry's `exit_status`.
    Exec(ExecRequest),
    /// Changes the link of a guest's interface while the guest runs; the next `up` takes it back.
    SetLink(Box<SetLink>),
    /// Puts the expectations of the testbed file to the test. Its result is the entry's `result`: a `CheckReport`.
    Check(CheckOptions),
    /// Says whether one guest can reach another, and what stands in the way. Its result is the entry's `result`: a `WhyAnswer`.
    Why(WhyRequest),
    /// Makes, restores or deletes a snapshot. Its result is the entry's `result`: a `SnapshotReport`.
    Snapshot(SnapshotRequest),
    /// Lets guests that are there run again, those that they depend on first, and waits until they are ready.
    Start(Guests),
    /// Shuts guests down and keeps them: their disks, their addresses, their places in the network.
    Stop(StopOptions),
    /// Shuts guests down and starts them again.
    Restart(StopOptions),
    /// Holds guests as they are; they keep their memory.
    Pause(Guests),
    /// Lets guests that are held go on.
    Resume(Guests),
}

impl ActionRequest {
    /// The command's name.
    pub fn command(&self) -> Command {
        match self {
            ActionRequest::Up(_) => Command::Up,
            ActionRequest::Down {} => Command::Down,
            ActionRequest::Plan(_) => Command::Plan,
            ActionRequest::Exec(_) => Command::Exec,
            ActionRequest::SetLink(_) => Command::SetLink,
            ActionRequest::Check(_) => Command::Check,
            ActionRequest::Why(_) => Command::Why,
            ActionRequest::Snapshot(_) => Command::Snapshot,
            ActionRequest::Start(_) => Command::Start,
            ActionRequest::Stop(_) => Command::Stop,
            ActionRequest::Restart(_) => Command::Restart,
            ActionRequest::Pause(_) => Command::Pause,
            ActionRequest::Resume(_) => Command::Resume,
        }
    }
}

/// The commands that run as actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// See [`ActionRequest::Up`].
    Up,
    /// See [`ActionRequest::Down`].
    Down,
    /// See [`ActionRequest::Plan`].
    Plan,
    /// See [`ActionRequest::Exec`].
    Exec,
    /// See [`ActionRequest::SetLink`].
    SetLink,
    /// See [`ActionRequest::Check`].
    Check,
    /// See [`ActionRequest::Why`].
    Why,
    /// See [`ActionRequest::Snapshot`].
    Snapshot,
    /// See [`ActionRequest::Start`].
    Start,
    /// See [`ActionRequest::Stop`].
    Stop,
    /// See [`ActionRequest::Restart`].
    Restart,
    /// See [`ActionRequest::Pause`].
    Pause,
    /// See [`ActionRequest::Resume`].
    Resume,
    /// Making a base image; belongs to no deployment.
    BuildImage,
    /// Downloading an image of the catalogue; belongs to no deployment.
    PullImage,
    /// Taking a user's disk image in; belongs to no deployment.
    ImportImage,
}

impl Command {
    /// True for what only asks guests: it runs beside other actions, and says nothing about what became of the deployment.
    pub fn is_beside(self) -> bool {
        matches!(self, Command::Exec | Command::Check | Command::Why)
    }

    /// True for what changes which guests run, so that the deployment's phase may be another afterwards.
    pub fn changes_phase(self) -> bool {
        use Command::{Down, Pause, Restart, Resume, Snapshot, Start, Stop, Up};
        matches!(self, Up | Down | Start | Stop | Restart | Pause | Resume | Snapshot)
    }

    /// True for actions on images, which belong to no deployment.
    pub fn is_on_images(self) -> bool {
        matches!(self, Command::BuildImage | Command::PullImage | Command::ImportImage)
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Command::Up => "up",
            Command::Down => "down",
            Command::Plan => "plan",
            Command::Exec => "exec",
            Command::SetLink => "set_link",
            Command::Check => "check",
            Command::Why => "why",
            Command::Snapshot => "snapshot",
            Command::Start => "start",
            Command::Stop => "stop",
            Command::Restart => "restart",
            Command::Pause => "pause",
            Command::Resume => "resume",
            Command::BuildImage => "build_image",
            Command::PullImage => "pull_image",
            Command::ImportImage => "import_image",
        })
    }
}

/// How `up` goes about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpOptions {
    /// Only these guests (and the network); all when empty.
    pub guests: Vec<GuestName>,
    /// Make every guest's disks and seed anew.
    pub provision: bool,
    /// Run setup scripts again.
    pub rerun_scripts: bool,
    /// Write ACLs again even where they look right.
    pub reapply_acl: bool,
    /// Leave everything as it is when a step fails; the next `up` goes on from there.
    pub keep_on_failure: bool,
}

/// What is planned: as `up`, or with a testbed file that is not kept.
// Not `flatten`ed: serde would no longer refuse unknown keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PlanOptions {
    /// As for `up`.
    pub guests: Vec<GuestName>,
    /// As for `up`.
    pub provision: bool,
    /// As for `up`.
    pub rerun_scripts: bool,
    /// As for `up`.
    pub reapply_acl: bool,
    /// As for `up`; without effect.
    pub keep_on_failure: bool,
    /// The testbed file to plan for, instead of the stored one, which stays as it is. With it the deployment need not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<Draft>,
}

impl PlanOptions {
    /// What `up` would be asked.
    pub fn up(&self) -> UpOptions {
        UpOptions {
            guests: self.guests.clone(),
            provision: self.provision,
            rerun_scripts: self.rerun_scripts,
            reapply_acl: self.reapply_acl,
            keep_on_failure: self.keep_on_failure,
        }
    }

    /// A plan of what `up` would do with these options and this file.
    pub fn of(up: UpOptions, draft: Option<Draft>) -> Self {
        let UpOptions { guests, provision, rerun_scripts, reapply_acl, keep_on_failure } = up;
        PlanOptions { guests, provision, rerun_scripts, reapply_acl, keep_on_failure, draft }
    }
}

/// A testbed file that is only looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// Its text.
    pub text: String,
    /// Its name, for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The folder that relative paths in it lead to, absolute; the deployment's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_location: Option<String>,
    /// What else it consists of.
    #[serde(default, skip_serializing_if = "Composition::is_empty")]
    pub composition: Composition,
}

/// A command for a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The guest.
    pub guest: GuestName,
    /// Program and arguments; at least the program.
    pub argv: Vec<String>,
    /// Variables added to the program's environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// What the program reads on its standard input, in base64 (RFC 4648 section 4).
    #[serde(default)]
    pub stdin_base64: Option<String>,
    /// The limit in seconds; none means 3600.
    #[serde(default)]
    pub timeout_s: Option<u64>,
}

/// 202: the action runs; follow `/api/deployments/{name}/logs/{uuid}/stream`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActionAccepted {
    /// The action's id.
    pub uuid: Uuid,
}

/// Where an action is in its life: running → one of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionState {
    /// At work.
    Running,
    /// Ended with error code 0.
    Succeeded,
    /// Ended with another error code.
    Failed,
    /// Ended because it was asked to.
    Cancelled,
    /// The server stopped while it ran.
    Interrupted,
}

impl std::fmt::Display for ActionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ActionState::Running => "running",
            ActionState::Succeeded => "succeeded",
            ActionState::Failed => "failed",
            ActionState::Cancelled => "cancelled",
            ActionState::Interrupted => "interrupted",
        })
    }
}

/// One action in `<name>-logs.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogEntry {
    /// The action's log file, absolute.
    pub log_path: String,
    /// The action's journal: one `Event` as JSON a line, absolute.
    pub events_path: String,
    /// 0 is success, another number is a code's (see the error table); absent while the action runs.
    pub error_code: Option<u16>,
    /// What was asked.
    pub command: Command,
    /// When it was accepted.
    pub started: DateTime<Utc>,
    /// When it ended.
    #[serde(default)]
    pub ended: Option<DateTime<Utc>>,
    /// Where it is in its life.
    pub state: ActionState,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// The status of the command that `exec` ran (0 to 255; 128 + n for a signal n).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// What the command answers beyond its log: a `PlanDocument` for `plan`, `ExecOutput` for `exec`, a
    /// `CheckReport` for `check`, a `WhyAnswer` for `why`, a `SnapshotReport` for `snapshot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<serde_json::Value>,
}

/// What a command run by `exec` printed (the entry's `result`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecOutput {
    /// Standard output in base64.
    pub stdout_base64: String,
    /// Standard error in base64.
    pub stderr_base64: String,
    /// True when the guest agent cut one of them at its limit.
    pub truncated: bool,
}

/// GET `/api/deployments/{name}/logs`: uuid → entry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct LogIndex(pub BTreeMap<Uuid, LogEntry>);

/// A log entry with the ids that a reader outside the index needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogRecord {
    /// The action.
    pub uuid: Uuid,
    /// The deployment.
    pub deployment: DeploymentName,
    /// The entry.
    pub entry: LogEntry,
}
