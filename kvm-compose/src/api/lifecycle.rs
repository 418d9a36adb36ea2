//! Guests started, stopped, restarted, held and let go on, while the rest of the deployment stays as it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::GuestName;

/// Which guests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Guests {
    /// These; all that are there when empty.
    pub guests: Vec<GuestName>,
}

/// Which guests end, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StopOptions {
    /// These; all that are there when empty.
    pub guests: Vec<GuestName>,
    /// They are not asked first: as when the power goes.
    pub force: bool,
    /// How long a guest has to shut down by itself, in seconds, before it is forced; 60 for machines and 10 for containers
    /// when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_s: Option<u64>,
}
