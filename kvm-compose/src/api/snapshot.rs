//! Snapshots: what is asked, what there is, and what became of each guest.
//!
//! Pure.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Code, Problem},
    names::{GuestName, SnapshotName},
};

/// The action `snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRequest {
    /// What is done.
    pub operation: SnapshotOperation,
    /// The snapshot.
    pub name: SnapshotName,
    /// Only these guests; the whole testbed (its file, its network and all guests) when empty. Not for `delete`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guests: Vec<GuestName>,
    /// Only for `create`: also what guests that run have in memory. What a snapshot has is restored.
    #[serde(default)]
    pub memory: bool,
}

/// What is done with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotOperation {
    /// Makes it; what runs stands still for a moment and goes on.
    Create,
    /// Makes the world look as it did; what is there now is given up.
    Restore,
    /// Gives it up.
    Delete,
}

/// POST `/api/deployments/{name}/snapshots`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSnapshot {
    /// The snapshot's name.
    pub name: SnapshotName,
    /// As for the action.
    #[serde(default)]
    pub guests: Vec<GuestName>,
    /// As for the action.
    #[serde(default)]
    pub memory: bool,
}

/// GET `/api/deployments/{name}/snapshots/{snapshot}`, and one of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: SnapshotName,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// It holds the whole testbed: its file, its network and all guests.
    pub whole: bool,
    /// It holds the memory of guests that ran.
    pub memory: bool,
    /// How long guests stood still for it, in milliseconds.
    pub pause_ms: u64,
    /// What it takes on the server's disk, in bytes; images of containers, which Docker keeps, not included.
    pub bytes: u64,
    /// Its guests.
    pub guests: Vec<SnapshotGuest>,
    /// Why it cannot be restored, when it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A guest of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotGuest {
    /// Its name.
    pub name: GuestName,
    /// What it did when the snapshot was made.
    pub state: SavedState,
    /// What is kept of it.
    pub files: Vec<SnapshotFile>,
    /// Of a container: the image that its files were put into, which Docker keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// What a guest did when a snapshot was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SavedState {
    /// It ran.
    Running,
    /// Somebody had paused it.
    Paused,
    /// It was shut off.
    Off,
}

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotFile {
    /// What it holds.
    pub holds: Holds,
    /// Its name in the snapshot's folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What a file of a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// A machine's memory and the state of its devices.
    Memory,
    /// A disk.
    Disk,
}

/// What became of it, guest by guest (the `result` of the action).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotReport {
    /// The snapshot.
    pub name: SnapshotName,
    /// What was done.
    pub operation: SnapshotOperation,
    /// How long guests stood still, in milliseconds; only of `create`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<u64>,
    /// Its guests, with what became of each.
    pub guests: Vec<GuestReport>,
}

/// What became of one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GuestReport {
    /// The guest.
    pub guest: GuestName,
    /// 0 is success, another number is a code's (see the error table).
    pub error_code: u16,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

impl GuestReport {
    /// What became of a guest.
    pub fn of(guest: GuestName, problem: Option<Problem>) -> Self {
        GuestReport { guest, error_code: problem.as_ref().map_or(0, |problem| problem.code.number()), problem }
    }
}

impl SnapshotRequest {
    /// Refuses what makes no sense, before anything is claimed.
    pub fn check(&self) -> Result<(), Problem> {
        if self.memory && self.operation != SnapshotOperation::Create {
            return Err(Problem::new(Code::BadRequest, "`memory` is chosen when a snapshot is made"));
        }
        if !self.guests.is_empty() && self.operation == SnapshotOperation::Delete {
            return Err(Problem::new(Code::BadRequest, "a snapshot is deleted as a whole"));
        }
        Ok(())
    }
}

impl std::fmt::Display for SavedState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SavedState::Running => "running",
            SavedState::Paused => "paused",
            SavedState::Off => "off",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ActionRequest;

    #[test]
    fn the_request_travels_with_the_others_and_nonsense_is_refused() {
        let text = r#"{"command":"snapshot","operation":"restore","name":"clean","guests":["web"]}"#;
        let ActionRequest::Snapshot(request) = serde_json::from_str(text).expect("read") else { panic!("another action") };
        assert!(request.check().is_ok());
        assert!(SnapshotRequest { memory: true, ..request.clone() }.check().is_err());
        assert!(SnapshotRequest { operation: SnapshotOperation::Delete, ..request }.check().is_err());
        for wrong in [r#"{"command":"snapshot","operation":"restore","name":"a.b"}"#, r#"{"command":"snapshot","name":"a"}"#] {
            assert!(serde_json::from_str::<ActionRequest>(wrong).is_err(), "{wrong}");
        }
    }
}
