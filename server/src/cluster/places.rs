//! On which hosts a deployment may have something, and where its guests were last told to stand:
//! `config/places/<deployment>.json`.
//!
//! Written before a guest is made on another host, so that a host that is away is never forgotten. The world itself is
//! asked wherever it answers; this is for hosts that do not. Decides nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use kvm_compose::{
    error::{Code, Problem},
    names::{DeploymentName, GuestName, HostName},
};
use serde::{Deserialize, Serialize};

use crate::{
    data::{DataDir, make_folder, read_if_there},
    store::{atomic, records::to_json},
};

/// What is on record about one deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// Where each guest stands.
    pub guests: BTreeMap<GuestName, HostName>,
    /// Hosts that may have something of the deployment.
    pub hosts: BTreeSet<HostName>,
}

/// The folder of these files.
#[derive(Debug, Clone)]
pub struct PlacesFolder(PathBuf);

impl PlacesFolder {
    /// The folder in a data folder.
    pub fn of(data: &DataDir) -> Self {
        PlacesFolder(data.config().join("places"))
    }

    fn file(&self, deployment: &DeploymentName) -> PathBuf {
        self.0.join(format!("{deployment}.json"))
    }

    /// What is on record about a deployment; nothing when it never left the master.
    pub fn read(&self, deployment: &DeploymentName) -> Result<Placed, Problem> {
        let file = self.file(deployment);
        let Some(content) = read_if_there(&file)? else { return Ok(Placed::default()) };
        serde_json::from_slice(&content).map_err(|error| {
            Problem::new(Code::Storage, format!("{} cannot be read", file.display()))
                .cause(error)
                .hint("remove it once every host of the cluster answers: what stands where is then asked")
        })
    }

    /// Puts a deployment's places on record; without hosts there is nothing to keep.
    pub fn write(&self, deployment: &DeploymentName, placed: &Placed) -> Result<(), Problem> {
        let file = self.file(deployment);
        if placed.hosts.is_empty() {
            return match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(Problem::io(format_args!("cannot remove {}", file.display()), &error))
                }
                _ => Ok(()),
            };
        }
        if self.read(deployment).is_ok_and(|known| known == *placed) {
            return Ok(());
        }
        make_folder(&self.0, 0o700)?;
        atomic::write(&file, &to_json(placed)?)
    }

    /// Every deployment that is on record.
    pub fn all(&self) -> Result<Vec<(DeploymentName, Placed)>, Problem> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Problem::io(format_args!("cannot read {}", self.0.display()), &error)),
        };
        let mut all = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|name| DeploymentName::new(name).ok()) {
                let placed = self.read(&name)?;
                all.push((name, placed));
            }
        }
        Ok(all)
    }
}
