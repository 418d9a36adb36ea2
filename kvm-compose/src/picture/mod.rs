//! A testbed as a picture: routers on top, switches as bars below them, guests hanging from their switch.
//!
//! Pure: topology and states in, SVG text out, the same bytes for the same input. Says what a thing *is* by its shape and
//! its class; colours come from the style sheet around it, so no style and no script stands in the text. Must not know
//! pages, servers or hosts.

mod draw;
mod layout;

use std::collections::BTreeMap;

use crate::{names::GuestName, topology::Topology};

/// How a guest stands, as far as a picture can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It runs, and its readiness condition holds.
    Ready,
    /// It runs, and is not ready yet.
    Starting,
    /// It is paused.
    Paused,
    /// It is there and does not run.
    Off,
    /// It crashed.
    Crashed,
    /// It is not there.
    Absent,
    /// Nobody could tell.
    Unknown,
}

impl Standing {
    /// From libvirt's word (or `absent`, `unknown`) and whether the guest is ready.
    pub fn of(state: &str, ready: bool) -> Standing {
        match state {
            "running" | "idle" if ready => Standing::Ready,
            "running" | "idle" => Standing::Starting,
            "paused" | "pmsuspended" => Standing::Paused,
            "shut off" | "in shutdown" => Standing::Off,
            "crashed" => Standing::Crashed,
            "absent" => Standing::Absent,
            _ => Standing::Unknown,
        }
    }

    /// The class that gives it its colour.
    pub fn class(self) -> &'static str {
        match self {
            Standing::Ready => "ready",
            Standing::Starting => "starting",
            Standing::Paused => "paused",
            Standing::Off => "off",
            Standing::Crashed => "crashed",
            Standing::Absent => "absent",
            Standing::Unknown => "unknown",
        }
    }

    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Ready => "ready",
            Standing::Starting => "running, not ready yet",
            Standing::Paused => "paused",
            Standing::Off => "off",
            Standing::Crashed => "crashed",
            Standing::Absent => "not there",
            Standing::Unknown => "unknown",
        }
    }
}

/// What is drawn beside the topology itself.
#[derive(Default)]
pub struct Scene<'a> {
    /// How each guest stands; one that is not named is absent.
    pub standing: BTreeMap<GuestName, Standing>,
    /// Where a click on a guest leads; nowhere without it.
    pub link: Option<&'a dyn Fn(&GuestName) -> String>,
}

/// The picture as an SVG element.
pub fn svg(topology: &Topology, scene: &Scene<'_>) -> String {
    draw::svg(topology, scene, &layout::lay_out(topology))
}
