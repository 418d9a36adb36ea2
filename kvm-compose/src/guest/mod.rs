//! Work inside a guest through its agent: waiting until it is ready, commands, scripts.
//!
//! Must not know libvirt (it speaks through [`Hypervisor`](crate::backend::hypervisor::Hypervisor)), OVN, or what a
//! deployment wants. Everything a guest says is hostile: sizes are limited, JSON is checked, control characters are taken
//! out before people see it.

pub mod agent;
pub mod condition;
pub mod context;
pub mod exec;
pub mod network;
pub mod output;
pub mod ready;
pub mod script;
