//! What the user wrote: YAML text → [`model::Spec`], or every fault of the file with its place.
//!
//! Pure. Must not know what a reference means, nor hosts, nor OVN.

pub mod checks;
mod decode;
mod decode_acl;
pub mod decode_checks;
mod decode_link;
mod decode_network;
mod decode_router;
pub mod model;
mod model_link;
mod model_network;
pub mod node;
pub mod reader;

use model::Spec;
use reader::Reader;

/// Reads a testbed file. Faults are in the reader; a spec may come back beside them, with what could be read.
pub fn parse(file: &str, text: &str) -> (Option<Spec>, Reader) {
    // A byte order mark is allowed (YAML 1.2.2 section 5.2) and says nothing.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::new(file, text);
    let spec = node::parse(text, &mut reader).and_then(|root| decode::spec(&root, &mut reader));
    (spec, reader)
}

/// The JSON Schema (draft 2020-12) of the testbed file, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Spec).to_value()
}
