//! What an export holds: a testbed as one file, for another server.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::DeploymentName;

/// The folder of an export that is not the project's.
pub const FOLDER: &str = ".testbedos";
/// Where an export says what it holds: the first file of the archive.
pub const MANIFEST: &str = ".testbedos/export.json";
/// Where an export keeps variables and `--set`, when the testbed has any.
pub const COMPOSITION: &str = ".testbedos/composition.json";
/// The version of exports that is written, and the newest that is read.
pub const VERSION: u32 = 1;

/// The first file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportManifest {
    /// Which version of this description it is.
    pub version: u32,
    /// The deployment it was made of.
    pub name: DeploymentName,
    /// When.
    pub exported: DateTime<Utc>,
    /// Every other file of the archive, by path.
    pub files: BTreeMap<String, ExportedFile>,
    /// Images of the catalogue that guests need, by name: they are not in the archive.
    pub images: Vec<String>,
    /// Files that the testbed names and that lie outside its project's folder, as it writes them: they are not in the archive.
    pub elsewhere: Vec<String>,
}

/// A file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportedFile {
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
    /// How long it is, in bytes.
    pub bytes: u64,
}
