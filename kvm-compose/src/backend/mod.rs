//! Adapters to the real parts of a machine, and the local host that calls them.
//!
//! Effects decide nothing: what is wanted comes from a blueprint or a step. Must not know the testbed file, the server or
//! the terminal. Everything blocks; callers give each operation a thread of its own.

pub mod accelerator;
pub mod capture;
pub mod checks;
pub mod containers;
pub mod files;
pub mod hypervisor;
pub mod images;
pub mod link;
pub mod local;
pub mod network;
pub mod snapshots;

use crate::names::{DeploymentName, InstallationId};

/// Whose a thing is: the marks that everything we make carries, and that everything we touch must carry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The server's installation.
    pub installation: InstallationId,
    /// The deployment.
    pub deployment: DeploymentName,
}
