//! The logical network: OVN's northbound database, and what guests leave behind on the integration bridge.
//!
//! Must not know libvirt, files or what a deployment wants.

pub mod change;
pub mod chassis;
mod foreign;
mod framing;
mod host_commit;
pub mod host_link;
mod host_masquerade;
pub mod internal;
pub mod mapping;
pub mod ovn;
pub mod ovs;
pub mod ovsdb;
pub mod path;
pub mod seen;
pub mod settle;
pub mod southbound;
pub mod value;

pub use ovn::Northbound;
pub use ovs::Switch;
