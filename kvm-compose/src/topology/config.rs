//! The resolved file: what `testbed config` prints, in the language itself. Machines are in `config_guest`.
//!
//! Pure. What it gives can be read again and means the same.

use serde_json::{Map, Value, json};

use super::{config_guest, config_network, model::Topology};

/// The topology as a document of the language, with every default filled in.
pub fn document(topology: &Topology) -> Value {
    let mut document = Map::from_iter([
        ("version".to_string(), json!(1)),
        ("machines".to_string(), Value::Array(config_guest::machines(topology))),
        ("network".to_string(), config_network::network(topology)),
    ]);
    if !topology.checks.is_empty() {
        document.insert("checks".to_string(), topology.checks.iter().map(super::checks::document).collect());
    }
    if !topology.labels.is_empty() {
        document.insert("labels".to_string(), json!(topology.labels));
    }
    Value::Object(document)
}
