//! What a testbed file means: defaults, MACs, addresses, references resolved.
//!
//! Pure. Must not know paths of a host, XML, or OVN rows.

pub mod model;

pub use model::*;

use crate::{error::Problem, names::DeploymentName};

/// Reads and resolves a testbed file. `file` is its name for messages.
///
/// Fails with `invalid_file` (or `unsupported`) and every fault of the file in `diagnostics`.
pub fn load(file: &str, text: &str, deployment: &DeploymentName, leases: &Leases) -> Result<Loaded, Problem> {
    todo!("{file} {text} {deployment} {leases:?}")
}
