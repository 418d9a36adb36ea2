//! Who has joined: `config/members.json`, and the cluster as others read it: `config/kvm-compose-config.json`.
//!
//! Knows files and what is in them; decides nothing about members.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use kvm_compose::{
    error::{Code, Problem},
    names::HostName,
};
use serde::{Deserialize, Serialize};

use crate::{
    config::host::HostConfig,
    data::{DataDir, read_if_there},
    store::{atomic, records::to_json},
};

/// A member, as it is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberRecord {
    /// What it is; its name is `hostname`.
    pub host: HostConfig,
    /// SHA-256 of its certificate, by which it is known.
    pub certificate: String,
    /// Its name in OVN.
    pub chassis: String,
    /// When it joined.
    pub joined: DateTime<Utc>,
}

impl MemberRecord {
    /// Its name.
    pub fn name(&self) -> &HostName {
        &self.host.hostname
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Roster {
    /// The format's version.
    format: u32,
    members: Vec<MemberRecord>,
}

/// The file of members.
#[derive(Debug, Clone)]
pub struct RosterFile(PathBuf);

impl RosterFile {
    /// The file in a data folder.
    pub fn of(data: &DataDir) -> Self {
        RosterFile(data.config().join("members.json"))
    }

    /// The members on record.
    pub fn read(&self) -> Result<Vec<MemberRecord>, Problem> {
        let Some(content) = read_if_there(&self.0)? else { return Ok(Vec::new()) };
        let roster: Roster = serde_json::from_slice(&content).map_err(|error| {
            Problem::new(Code::Storage, format!("{} cannot be read", self.0.display()))
                .cause(error)
                .hint("restore it from a copy, or remove it and let every member join anew")
        })?;
        Ok(roster.members)
    }

    /// Replaces the members on record.
    pub fn write(&self, members: Vec<MemberRecord>) -> Result<(), Problem> {
        atomic::write(&self.0, &to_json(&Roster { format: 1, members })?)
    }
}
