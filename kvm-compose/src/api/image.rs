//! Base images as the API shows them.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::DeploymentName;

/// One line of GET `/api/images`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageInfo {
    /// Its name, such as `micro`; content that lost its name to a newer one is `name@digest`.
    pub name: String,
    /// SHA-256 of its content, in hexadecimal; of a built image, of what it was made of.
    pub digest: String,
    /// Its files, absolute.
    pub files: Vec<String>,
    /// Size of its files in bytes.
    pub size_bytes: u64,
    /// When it was made, pulled or imported.
    pub created: DateTime<Utc>,
    /// Where it comes from.
    pub source: ImageSource,
    /// Size of the disk that a guest sees, in bytes; a built image has no disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_bytes: Option<u64>,
    /// The user that cloud-init makes where the testbed file names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Deployments whose guests' disks rest on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used_by: Vec<DeploymentName>,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ImageSource {
    /// It was made on this machine.
    Built,
    /// It was downloaded.
    Published {
        /// From there.
        url: String,
        /// The publisher's sum, which its content had: `sha256:…` or `sha512:…`.
        sum: String,
    },
    /// It was made for the clones of a machine, by `shared_setup`.
    Golden {
        /// From this image, by that script.
        made_from: String,
    },
    /// A user handed it over.
    Imported {
        /// The file's name on the user's machine.
        file: String,
        /// SHA-256 of what was handed over, in hexadecimal.
        sha256: String,
    },
}

/// One line of GET `/api/images/catalogue`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CatalogueEntry {
    /// Its name.
    pub name: String,
    /// Where its publisher has it; a built image has no publisher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The user that cloud-init makes where the testbed file names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// An image of this name is on the server.
    pub present: bool,
}

/// POST `/api/images`: `202 {"uuid"}`; followed at `/api/images/logs/{uuid}/stream`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageRequest {
    /// Builds an image on the server: `micro`.
    Build(String),
    /// Downloads an image of the catalogue.
    Pull(String),
}

/// What DELETE `/api/images/{name}` and POST `/api/images/prune` removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovedImages {
    /// Images, as `name` or `name@digest`, and half-finished downloads, as their URL.
    pub removed: Vec<String>,
    /// Bytes of disk that are free again.
    pub freed_bytes: u64,
}
