//! What the user wrote, key by key. The JSON Schema is generated from these types.
//!
//! Pure data. Names are checked, references are not: that is the topology's work.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::reader::Spanned;
pub use super::{model_bridges::*, model_docker::*, model_libvirt::*, model_machine::*, model_network::*, model_scaling::*};

/// A testbed file: `kvm-compose.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, title = "kvm-compose.yaml")]
pub struct Spec {
    /// The language's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1))]
    pub version: Option<Spanned<u64>>,
    /// The guests.
    pub machines: Vec<Machine>,
    /// The network they stand on.
    pub network: Network,
    /// The network in the oldest form: bridges.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<Vec<Bridge>>")]
    pub bridges: (),
    /// In the oldest form: bridge → the bridge or bridges that it is connected to.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<ConnectionsForm>")]
    pub bridge_connections: (),
    /// In the oldest form: the bridge whose segment has a way out.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<String>")]
    pub external_bridge: (),
    /// Free words, to find the testbed by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Text>")]
    pub labels: Labels,
    /// Expectations that `testbed check` puts to the test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<super::checks::Check>,
    /// Reserved; has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tooling: Option<serde_json::Map<String, serde_json::Value>>,
    /// Reserved; has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testbed_options: Option<serde_json::Map<String, serde_json::Value>>,
}
