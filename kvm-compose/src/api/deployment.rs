//! Deployments as the API shows them.

use std::{collections::BTreeMap, net::IpAddr};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    action::{ActionState, Command},
    event::Impact,
    event::PlannedStep,
};
use crate::names::{DeploymentName, GuestName};

/// POST `/api/deployments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDeployment {
    /// Its name.
    pub name: DeploymentName,
    /// The folder on the server's machine that holds `kvm-compose.yaml` and what it names, absolute. Without one the
    /// project lives in the server's own copy.
    #[serde(default)]
    pub project_location: Option<String>,
}

/// What was last observed of a deployment's guests and network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing of it is there.
    Down,
    /// Some of it is there.
    Partial,
    /// All of it is there.
    Up,
    /// A part that would tell (libvirt, OVN) does not answer.
    Unknown,
}

/// The one word that a list shows, derived from phase and operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// An `up`, `down` or `plan` runs.
    Running,
    /// Up.
    Up,
    /// Down.
    Down,
    /// The last `up` or `down` did not succeed; `failed_command` says which.
    Failed,
}

/// One line of GET `/api/deployments`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentSummary {
    /// Its name.
    pub name: DeploymentName,
    /// The project folder.
    pub project_location: String,
    /// `running`, `up`, `down` or `failed`.
    pub state: RunState,
    /// From the last observation.
    pub phase: Phase,
    /// The command that failed, when the state is `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_command: Option<Command>,
    /// The running or else the last action; `exec` is none of the deployment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_action: Option<OperationSummary>,
    /// When it was created.
    pub created: DateTime<Utc>,
    /// Counts changes of the record, for compare-and-set.
    pub revision: u64,
}

/// GET `/api/deployments/{name}`: the same.
pub type DeploymentInfo = DeploymentSummary;

/// An action in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OperationSummary {
    /// The action.
    pub uuid: Uuid,
    /// What was asked.
    pub command: Command,
    /// Where it is in its life.
    pub state: ActionState,
    /// 0 is success; absent while it runs.
    pub error_code: Option<u16>,
    /// When it was accepted.
    pub started: DateTime<Utc>,
    /// When it ended.
    pub ended: Option<DateTime<Utc>>,
}

/// GET `/api/deployments/{name}/state`: desired and observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentState {
    /// The deployment.
    pub name: DeploymentName,
    /// As in the list.
    pub state: RunState,
    /// Observed just now.
    pub phase: Phase,
    /// As in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_command: Option<Command>,
    /// The running or else the last action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_action: Option<OperationSummary>,
    /// Guests of the file and guests that are there, by name.
    pub guests: Vec<GuestState>,
    /// How many rows of the northbound database are wanted.
    pub rows_wanted: usize,
    /// How many are there.
    pub rows_observed: usize,
    /// Why something could not be observed, or why the file could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A guest, desired and observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GuestState {
    /// Its name.
    pub name: GuestName,
    /// `micro` or `libvirt`.
    pub kind: String,
    /// False when it is there but no longer in the file.
    pub wanted: bool,
    /// libvirt's word (running, paused, shut off, …) or `absent`.
    pub state: String,
    /// True when its readiness condition holds.
    pub ready: bool,
    /// The host it stands on.
    pub host: String,
    /// libvirt's name of it.
    pub domain: String,
    /// libvirt's UUID of it.
    pub uuid: Uuid,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its interfaces.
    pub nics: Vec<NicState>,
    /// Where its serial console's output is kept on the server's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_log: Option<String>,
}

/// An interface of a guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NicState {
    /// Its name in the guest, such as `eth0`.
    pub name: String,
    /// The switch.
    pub switch: String,
    /// The address the testbed gives it.
    pub address: Option<IpAddr>,
    /// `static`, `dhcp`, `slaac`, `assigned` (by the testbed, for `dynamic` without a DHCP rule), or `none`.
    pub assignment: String,
    /// Its MAC address.
    pub mac: String,
    /// The OVN port's name.
    pub port: Uuid,
}

/// What `plan` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanDocument {
    /// The deployment.
    pub deployment: DeploymentName,
    /// True when the steps come from the file alone, as if nothing were there yet (`plan --offline`).
    pub offline: bool,
    /// The steps, in an order in which needs come first; empty when there is nothing to do.
    pub steps: Vec<PlannedStep>,
    /// What happens to each guest, switch and router.
    #[serde(default)]
    pub changes: Vec<PlannedChange>,
    /// How many things are changed in which way: `2 in place, 1 hot-plug, nothing restarts`; empty when there is nothing to do.
    #[serde(default)]
    pub summary: String,
    /// Why each guest stands where it does.
    pub placement: Vec<Placement>,
    /// What changes in the northbound database: `+ key` (with the addresses of a guest's port), `~ key column: old → new`,
    /// `- key`.
    pub network: Vec<String>,
}

/// What happens to one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedChange {
    /// The thing, such as `guest web` or `router r1`.
    pub thing: String,
    /// What it means for what is there. Of several, the one that costs most.
    pub impact: Impact,
    /// What changes, in words.
    pub what: String,
    /// Guests that are touched: their process, devices, ports or network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guests: Vec<GuestName>,
    /// Guests that are not touched and whose traffic may change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<GuestName>,
}

/// Where a guest stands, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Placement {
    /// The guest.
    pub guest: GuestName,
    /// The host.
    pub host: String,
    /// Why.
    pub why: String,
}
