//! The layout as SVG text. Every word is escaped; there are classes and shapes, and no style.

use std::fmt::Write as _;

use quick_xml::escape::escape;

use super::{
    Scene, Standing,
    layout::{ADDRESSES, Box, LINE, Layout, Path},
};
use crate::topology::{Guest, Topology};

/// Characters of a name that fit into a shape; the whole name is in its title.
const FITS: usize = 17;

pub fn svg(topology: &Topology, scene: &Scene<'_>, layout: &Layout) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _written = write(&mut text, topology, scene, layout);
    text
}

fn write(out: &mut String, topology: &Topology, scene: &Scene<'_>, layout: &Layout) -> std::fmt::Result {
    let (width, height) = (layout.width, layout.height);
    let (guests, switches, routers) = (topology.guests.len(), topology.switches.len(), topology.routers.len());
    writeln!(
        out,
        "<svg class=\"picture\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"group\" \
         aria-label=\"Topology: guests {guests}, switches {switches}, routers {routers}\">"
    )?;
    for (from, to) in &layout.further {
        let bend = (from.1 + to.1) / 2;
        writeln!(
            out,
            "<path class=\"wire further\" d=\"M{} {} C{} {bend} {} {bend} {} {}\"/>",
            from.0,
            from.1,
            from.0 + 40,
            to.0,
            to.0,
            to.1
        )?;
    }
    for path in &layout.wires {
        line(out, "wire", path)?;
    }
    for (path, _) in &layout.trunks {
        line(out, "trunk", path)?;
    }
    for (path, (router, port)) in &layout.trunks {
        if let (Some((x, y)), Some(port)) = (path.last(), topology.routers.get(*router).and_then(|router| router.ports.get(*port))) {
            label(out, "port", (x + 5, y - 6), &port.address.to_string())?;
        }
    }
    for (switch, place) in topology.switches.iter().zip(&layout.switches) {
        let Box { x, y, width, height } = *place;
        writeln!(out, "<g class=\"switch\"><title>switch {}, {}</title>", escape(switch.name.as_str()), switch.subnets())?;
        writeln!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{}\"/>", height / 2)?;
        label(out, "name", (x + 16, y + 21), &shortened(switch.name.as_str()))?;
        label(out, "subnet", (x + width - 16, y + 21), &switch.subnet.map(|subnet| subnet.to_string()).unwrap_or_default())?;
        writeln!(out, "</g>")?;
    }
    for (router, place) in topology.routers.iter().zip(&layout.routers) {
        hexagon(out, place, router.name.as_str())?;
    }
    for (guest, place) in topology.guests.iter().zip(&layout.guests) {
        if let Some(place) = place {
            tile(out, guest, place, scene)?;
        }
    }
    write!(out, "</svg>")
}

fn line(out: &mut String, class: &str, path: &Path) -> std::fmt::Result {
    let points: Vec<String> = path.iter().map(|(x, y)| format!("{x},{y}")).collect();
    writeln!(out, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "))
}

fn label(out: &mut String, class: &str, (x, y): (i32, i32), text: &str) -> std::fmt::Result {
    writeln!(out, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", escape(text))
}

/// A name as far as it fits.
fn shortened(name: &str) -> String {
    if name.chars().count() <= FITS {
        return name.to_string();
    }
    name.chars().take(FITS - 1).chain(['…']).collect()
}

fn hexagon(out: &mut String, place: &Box, name: &str) -> std::fmt::Result {
    let Box { x, y, width, height } = *place;
    let (right, bottom, half, tip) = (x + width, y + height, y + height / 2, 16);
    writeln!(out, "<g class=\"router\"><title>router {}</title>", escape(name))?;
    writeln!(
        out,
        "<polygon points=\"{x},{half} {},{y} {},{y} {right},{half} {},{bottom} {},{bottom}\"/>",
        x + tip,
        right - tip,
        right - tip,
        x + tip
    )?;
    label(out, "name", (place.middle(), half + 5), &shortened(name))?;
    writeln!(out, "</g>")
}

fn tile(out: &mut String, guest: &Guest, place: &Box, scene: &Scene<'_>) -> std::fmt::Result {
    let standing = scene.standing.get(&guest.name).copied().unwrap_or(Standing::Absent);
    let Box { x, y, width, height } = *place;
    let link = scene.link.map(|link| link(&guest.name));
    if let Some(link) = &link {
        writeln!(out, "<a href=\"{}\">", escape(link.as_str()))?;
    }
    let addresses: Vec<String> = guest
        .nics
        .iter()
        .map(|nic| match nic.address() {
            Some(address) => format!("{address} on {}", nic.switch),
            None => format!("{} on {}", nic.name, nic.switch),
        })
        .collect();
    let all = [&[format!("{}: {}", guest.name, standing.word())], addresses.as_slice()].concat().join(", ");
    writeln!(out, "<g class=\"guest {}\"><title>{}</title>", standing.class(), escape(all.as_str()))?;
    writeln!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>")?;
    marker(out, standing, (x + 16, y + 17))?;
    label(out, "name", (x + 30, y + 21), &shortened(guest.name.as_str()))?;
    let hidden = guest.nics.len().saturating_sub(ADDRESSES);
    let shown = if hidden > 0 { ADDRESSES - 1 } else { ADDRESSES };
    let mut at = (x + 30, y + 38);
    for nic in guest.nics.iter().take(shown) {
        label(out, "address", at, &nic.address().map(|address| address.to_string()).unwrap_or_default())?;
        at.1 += LINE;
    }
    if hidden > 0 {
        label(out, "address", at, &format!("and {} more", hidden + 1))?;
    }
    if guest.nics.is_empty() {
        label(out, "address", at, "no network")?;
    }
    writeln!(out, "</g>")?;
    if link.is_some() { writeln!(out, "</a>") } else { Ok(()) }
}

/// A guest's state as a shape, so that it can be told without colours.
fn marker(out: &mut String, standing: Standing, (x, y): (i32, i32)) -> std::fmt::Result {
    let shape = match standing {
        Standing::Ready => {
            format!("<circle class=\"full\" cx=\"{x}\" cy=\"{y}\" r=\"7\"/><path class=\"inner\" d=\"M{} {y} l3 3 l5 -6\"/>", x - 4)
        }
        Standing::Starting => {
            format!("<circle class=\"hollow\" cx=\"{x}\" cy=\"{y}\" r=\"6\"/><path class=\"full\" d=\"M{x} {} a6 6 0 0 1 0 12 z\"/>", y - 6)
        }
        Standing::Paused => format!(
            "<rect class=\"full\" x=\"{}\" y=\"{}\" width=\"4\" height=\"12\"/><rect class=\"full\" x=\"{}\" y=\"{}\" width=\"4\" height=\"12\"/>",
            x - 5,
            y - 6,
            x + 1,
            y - 6
        ),
        Standing::Off => format!("<rect class=\"hollow\" x=\"{}\" y=\"{}\" width=\"11\" height=\"11\"/>", x - 5, y - 5),
        Standing::Crashed => format!("<path class=\"full\" d=\"M{x} {} l8 13 h-16 z\"/>", y - 7),
        Standing::Absent => format!("<circle class=\"dashed\" cx=\"{x}\" cy=\"{y}\" r=\"6\"/>"),
        Standing::Unknown => format!("<path class=\"dashed\" d=\"M{x} {} l8 8 l-8 8 l-8 -8 z\"/>", y - 8),
    };
    writeln!(out, "<g class=\"marker\">{shape}</g>")
}
