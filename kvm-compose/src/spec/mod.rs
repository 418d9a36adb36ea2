//! What the user wrote.

/// The JSON Schema (draft 2020-12) of the testbed file.
pub fn schema() -> serde_json::Value {
    todo!()
}
