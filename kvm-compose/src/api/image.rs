//! Base images as the API shows them.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One line of GET `/api/images`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageInfo {
    /// Its name, such as `micro`.
    pub name: String,
    /// SHA-256 of what it was made of, in hexadecimal.
    pub digest: String,
    /// Its files, absolute.
    pub files: Vec<String>,
    /// Size of its files in bytes.
    pub size_bytes: u64,
    /// When it was made.
    pub created: DateTime<Utc>,
}

/// POST `/api/images`: `202 {"uuid"}`; followed at `/api/images/logs/{uuid}/stream`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildImage {
    /// What to build: `micro`.
    pub build: String,
}
