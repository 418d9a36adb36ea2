//! Expectations of a testbed: what a guest is asked, and what its answer means.
//!
//! Pure: [`ask`] makes the command, [`judge`] reads what it printed. Who runs it, where and how many at once is not known here.

pub mod ask;
pub mod judge;

pub use ask::command;
pub use judge::{Answer, verdict};

use crate::topology::checks::{Check, Probe};

/// What a check asks, in words.
pub fn words(check: &Check) -> String {
    let guest = &check.guest;
    match &check.probe {
        Probe::Ping { to, .. } => format!("{guest} pings {to}"),
        Probe::Tcp { to, port } => format!("{guest} connects to {to} port {port}"),
        Probe::Http { url, .. } => format!("{guest} gets {}", url.wrote),
        Probe::Dns { name, .. } => format!("{guest} looks up {name}"),
        Probe::Exec { command, .. } => {
            let line: String = command.join(" ").chars().take(120).collect();
            format!("{guest} runs `{}`", crate::names::printable(&line))
        }
    }
}
