//! Hosts of a cluster, as `/api/cluster` shows them.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::HostName;

/// GET `/api/cluster/members`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Members {
    /// The master first, then the members by name.
    pub members: Vec<Member>,
}

/// A host of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// Its name, by which testbed files place guests.
    pub name: HostName,
    /// What it is.
    pub role: Role,
    /// Whether it can be counted on.
    pub state: MemberState,
    /// Where its last connection came from; nothing for the master.
    pub address: Option<String>,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Memory free for guests in MiB, when it was last heard of.
    pub free_memory_mb: Option<u64>,
    /// The version of its server.
    pub version: String,
    /// Guests of all deployments that stand there, running or not.
    pub guests: u32,
    /// When it was last heard of; nothing for the master.
    pub last_seen: Option<DateTime<Utc>>,
}

/// What a host is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Keeps the records and decides.
    Master,
    /// Lends its machine.
    Client,
}

/// Whether a host can be counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It has a certificate and has not come with it yet.
    Joining,
    /// It answers.
    Ready,
    /// It has missed some heartbeats, or the master has just started.
    Suspect,
    /// It has missed so many that it is out of the configuration. Its guests are unknown.
    Lost,
    /// It was removed.
    Left,
}

impl MemberState {
    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            MemberState::Joining => "joining",
            MemberState::Ready => "ready",
            MemberState::Suspect => "suspect",
            MemberState::Lost => "lost",
            MemberState::Left => "left",
        }
    }
}

/// POST `/api/cluster/token`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JoinToken {
    /// The token; shown once, good for one host.
    pub token: String,
    /// The master's URL for members.
    pub url: String,
    /// The line to run on the new host.
    pub command: String,
    /// When it stops being good.
    pub expires: DateTime<Utc>,
}
