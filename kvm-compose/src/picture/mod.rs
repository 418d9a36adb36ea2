//! A testbed as a picture: routers on top, switches as bars below them, guests hanging from their switch; and as text that
//! other programs draw (Mermaid, Graphviz, D2).
//!
//! Pure: topology and states in, text out, the same bytes for the same input. The SVG says what a thing *is* by its shape and
//! its class; colours come from the style sheet around it, so no style and no script stands in it. Must not know pages,
//! servers or hosts.

mod d2;
mod dot;
mod draw;
mod graph;
mod lanes;
mod layout;
mod measure;
mod mermaid;
mod plain;
mod route;
mod shapes;
mod shelves;
mod standalone;
mod wiring;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use graph::Graph;

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
            "shut off" | "in shutdown" | "created" => Standing::Off,
            // As Docker says it, with the status.
            other if other.starts_with("exited") => Standing::Off,
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

/// The width of a page, so that a picture in it is not scaled.
const PAGE: i32 = 1240;

/// What is drawn beside the topology itself.
#[derive(Default)]
pub struct Scene<'a> {
    /// How each guest stands; one that is not named is absent. Without it guests are shown as the file describes them.
    pub standing: Option<BTreeMap<GuestName, Standing>>,
    /// Where a click on a guest leads; nowhere without it.
    pub link: Option<&'a dyn Fn(&GuestName) -> String>,
}

/// The picture as an SVG element, to stand in a page that has the style sheet.
pub fn svg(topology: &Topology, scene: &Scene<'_>) -> String {
    let graph = Graph::of(topology);
    let dress = draw::Dress::new(topology, scene);
    draw::svg(&graph, &dress, &layout::lay_out(&graph, Some(PAGE)), None)
}

/// How a picture is written to a file of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Scalable Vector Graphics, with its own style.
    Svg,
    /// A Mermaid flowchart.
    Mermaid,
    /// Graphviz.
    Dot,
    /// D2.
    D2,
}

/// The picture of what a testbed file describes, as a file of its own.
pub fn document(topology: &Topology, format: Format) -> String {
    let graph = Graph::of(topology);
    match format {
        Format::Svg => {
            let style = standalone::style();
            draw::svg(&graph, &draw::Dress::new(topology, &Scene::default()), &layout::lay_out(&graph, None), Some(&style))
        }
        Format::Mermaid => mermaid::write(&graph),
        Format::Dot => dot::write(&graph),
        Format::D2 => d2::write(&graph),
    }
}
