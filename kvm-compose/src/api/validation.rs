//! What the server thinks of a testbed file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnostic::Diagnostic;

/// POST `/api/validate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Validation {
    /// True when `up` would take the file, as far as the file alone tells.
    pub valid: bool,
    /// Why not, in one sentence; empty when it is valid.
    pub message: String,
    /// What the diagnostics call the file itself; others stand in files that it names.
    #[serde(default)]
    pub file: String,
    /// Every fault and warning, by place.
    pub diagnostics: Vec<Diagnostic>,
}
