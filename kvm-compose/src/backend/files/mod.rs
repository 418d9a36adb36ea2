//! Files of a deployment: its folder, disks, seeds; and the processes that make them.
//!
//! Must not know libvirt or OVN.

pub mod bases;
pub mod folder;
pub mod iso9660;
pub mod pack;
pub use crate::process;
pub mod reach;
pub mod seed;
pub mod sums;
pub mod volume;

pub use folder::Folder;
