//! What is to be done: `lower` a topology to a blueprint, `diff` it against the world, get steps.
//!
//! Pure: same input, same bytes out. Must not know how a step is carried out.

pub mod blueprint;
pub mod observed;
pub mod site;
pub mod step;

use crate::{error::Problem, topology::Topology};

/// Decides every path, name, XML text and row of a deployment.
///
/// Fails when the site cannot carry it: no micro image, a disk whose header contradicts the file, no room.
pub fn lower(topology: &Topology, site: &site::Site, files: &site::ProjectFiles) -> Result<blueprint::Blueprint, Problem> {
    todo!("{topology:?} {site:?} {files:?}")
}
