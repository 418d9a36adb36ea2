//! Adapters to the real parts, and the local host that calls them.

pub mod images;
pub mod local;
