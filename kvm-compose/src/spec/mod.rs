//! What the user wrote: YAML text → [`model::Spec`], or every fault of the file with its place.
//!
//! Pure. Must not know what a reference means, nor hosts, nor OVN.

pub mod checks;
pub mod compose;
mod decode;
mod decode_acl;
mod decode_bridges;
pub mod decode_checks;
mod decode_docker;
mod decode_libvirt;
mod decode_link;
mod decode_machine;
mod decode_network;
mod decode_router;
mod decode_scaling;
mod fields;
mod hints;
pub mod model;
mod model_bridges;
mod model_docker;
mod model_libvirt;
mod model_link;
mod model_machine;
mod model_network;
mod model_scaling;
pub mod node;
pub mod reader;

pub use compose::Sources;
use model::Spec;
use reader::Reader;

/// Reads a testbed. Faults are in the reader; a spec may come back beside them, with what could be read.
pub fn parse(sources: &Sources) -> (Option<Spec>, Reader) {
    let mut reader = Reader::new(&sources.file, &sources.text);
    let spec = compose::compose(sources, &mut reader).and_then(|root| decode::spec(&root, &mut reader));
    (spec, reader)
}

/// The JSON Schema (draft 2020-12) of the testbed file, for editors.
pub fn schema() -> serde_json::Value {
    compose::schema::composed(schemars::schema_for!(Spec).to_value())
}
