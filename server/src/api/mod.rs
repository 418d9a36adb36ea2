//! The handlers below `/api`: each reads what was asked, asks `operations`, and answers.
//!
//! Must not know libvirt, OVN or files of records.

pub mod actions;
pub mod auth;
pub mod captures;
pub mod cluster;
pub mod config;
pub mod deployments;
pub mod export;
pub mod extract;
pub mod files;
pub mod images;
pub mod logs;
pub mod server;
pub mod snapshots;
pub mod upload;
pub mod validate;
