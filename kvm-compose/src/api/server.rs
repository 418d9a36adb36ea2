//! The server itself as the API shows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// GET `/api/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Version {
    /// The server's version (semantic versioning 2.0).
    pub version: String,
    /// The API's version.
    pub api: u32,
    /// The installation's id, which everything made by this server carries.
    pub installation: String,
    /// `master` or `client`.
    pub mode: String,
}

/// GET `/api/health`: the process answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
}

/// GET `/api/ready`: 200 when every part is ready, 503 when one is not; the same body either way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    /// True when every required part is ready.
    pub ready: bool,
    /// Each part: libvirt, kvm, ovn, ovs, docker, store, reserve, disk, micro.
    pub parts: Vec<CheckResult>,
}

/// One part's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckResult {
    /// The part.
    pub part: String,
    /// True when it does what it is for.
    pub ok: bool,
    /// False when testbeds run without it, only less well (KVM, Docker).
    pub required: bool,
    /// What was found.
    pub detail: String,
    /// What to do when it is not ok.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// POST `/api/auth/link`: a link that logs a browser in once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginLink {
    /// The whole link, when the server listens on TCP.
    pub url: Option<String>,
    /// Its path, for whoever reaches the server another way.
    pub path: String,
    /// How long it is good, in seconds.
    pub expires_s: u64,
}

/// One line of GET `/api/orphans`: something that this server made and no deployment owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Orphan {
    /// `domain`, `switch`, `folder`, …
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What is known of it.
    #[serde(default)]
    pub detail: String,
    /// How to remove it.
    #[serde(default)]
    pub fix: Option<String>,
}
