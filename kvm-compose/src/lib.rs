//! What a testbed is: **YAML text → [`spec`] → [`topology`] → [`plan`] → running guests**.
//!
//! Four pure functions decide everything; one engine ([`orchestrate`]) carries it out; effects (`project`, `backend`, `guest`)
//! decide nothing. This crate knows testbeds; it knows nothing of HTTP servers or terminals.
//!
//! ```text
//! error · names · addr · api ◄─ spec ◄─ topology ◄─ plan ◄─ orchestrate ─► project, backend, guest
//! └────────────────────── pure ──────────────────────┘    └────────── effects ──────────┘
//! ```

pub mod addr;
pub mod api;
pub mod capture;
pub mod catalogue;
pub mod check;
pub mod diagnostic;
pub mod error;
pub mod gather;
pub mod names;
mod nets;
pub mod orchestrate;
pub mod picture;
pub mod plan;
pub mod process;
pub mod project;
pub mod rules;
pub mod spec;
pub mod topology;
pub mod why;

#[cfg(feature = "libvirt")]
pub mod backend;
#[cfg(feature = "libvirt")]
pub mod guest;
