//! The layout as SVG text. Every word is escaped; there are classes and shapes, and no style but one that is handed in.

use std::fmt::{Result, Write as _};

use quick_xml::escape::escape;

use super::{
    Scene, Standing,
    graph::Graph,
    shapes::{Anchor, Box, Kind, Layout, Net, Node, Text},
};
use crate::topology::Topology;

/// Colours that lines of different nets have in turn.
const HUES: usize = 6;

/// What is known of guests beside their place; both lists in the graph's order.
#[derive(Default)]
pub struct Dress {
    standing: Option<Vec<Standing>>,
    links: Vec<Option<String>>,
}

impl Dress {
    pub fn new(topology: &Topology, scene: &Scene<'_>) -> Self {
        let standing = scene
            .standing
            .as_ref()
            .map(|standing| topology.guests.iter().map(|guest| standing.get(&guest.name).copied().unwrap_or(Standing::Absent)).collect());
        Dress { standing, links: topology.guests.iter().map(|guest| scene.link.map(|link| link(&guest.name))).collect() }
    }

    fn standing(&self, guest: usize) -> Option<Standing> {
        self.standing.as_ref().and_then(|all| all.get(guest)).copied()
    }
}

/// The picture; with a style it is a document of its own.
pub fn svg(graph: &Graph, dress: &Dress, layout: &Layout, style: Option<&str>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _written = write(&mut text, graph, dress, layout, style);
    text
}

fn write(out: &mut String, graph: &Graph, dress: &Dress, layout: &Layout, style: Option<&str>) -> Result {
    let (width, height) = (layout.width, layout.height);
    let namespace = if style.is_some() { " xmlns=\"http://www.w3.org/2000/svg\"" } else { "" };
    let (guests, switches, routers) = (graph.guests.len(), graph.switches.len(), graph.routers.len());
    writeln!(
        out,
        "<svg class=\"picture\"{namespace} viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"group\" \
         aria-label=\"Topology: guests {guests}, switches {switches}, routers {routers}\">"
    )?;
    if let Some(style) = style {
        writeln!(out, "<title>{}</title>\n<style>{}</style>", escape(graph.name.as_str()), escape(style))?;
        writeln!(out, "<rect class=\"ground\" width=\"{width}\" height=\"{height}\"/>")?;
    }
    for found in &layout.nets {
        net(out, graph, found)?;
    }
    for label in &layout.labels {
        words(out, label)?;
    }
    for (switch, node) in graph.switches.iter().zip(&layout.switches) {
        let all = [vec![format!("switch {}", switch.name)], switch.subnets.clone()].concat();
        open(out, "switch", &all, &switch.note)?;
        rectangle(out, &node.place, node.place.height / 2)?;
        close(out, node)?;
    }
    for (router, node) in graph.routers.iter().zip(&layout.routers) {
        open(out, "router", &[vec![format!("router {}", router.name)], router.facts.clone()].concat(), "")?;
        hexagon(out, &node.place)?;
        close(out, node)?;
    }
    for (outside, node) in graph.outsides.iter().zip(&layout.outsides) {
        open(out, "outside", &[format!("outside network {}", outside.name)], "")?;
        rectangle(out, &node.place, 4)?;
        close(out, node)?;
    }
    for (guest, node) in layout.guests.iter().enumerate() {
        tile(out, graph, guest, node, dress)?;
    }
    write!(out, "</svg>")
}

fn open(out: &mut String, class: &str, title: &[String], note: &str) -> Result {
    let note = if note.is_empty() { String::new() } else { format!(", {note}") };
    writeln!(out, "<g class=\"{class}\"><title>{}</title>", escape(format!("{}{note}", title.join(", "))))
}

fn close(out: &mut String, node: &Node) -> Result {
    node.texts.iter().try_for_each(|text| words(out, text))?;
    writeln!(out, "</g>")
}

fn rectangle(out: &mut String, Box { x, y, width, height }: &Box, radius: i32) -> Result {
    writeln!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{radius}\"/>")
}

fn hexagon(out: &mut String, place: &Box) -> Result {
    let (left, right, top, bottom, half, tip) = (place.x, place.right(), place.y, place.bottom(), place.y + place.height / 2, 16);
    let (from, to) = (left + tip, right - tip);
    writeln!(out, "<polygon points=\"{left},{half} {from},{top} {to},{top} {right},{half} {to},{bottom} {from},{bottom}\"/>")
}

fn words(out: &mut String, text: &Text) -> Result {
    let (x, y) = text.at;
    let anchor = match text.anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    writeln!(out, "<text class=\"{}\" x=\"{x}\" y=\"{y}\"{anchor}>{}</text>", text.class, escape(text.words.as_str()))
}

/// A net is one path: pointing at a part of it names the whole.
fn net(out: &mut String, graph: &Graph, net: &Net) -> Result {
    let (class, title, hue) = match net.kind {
        Kind::Feeder(switch) => ("wire", format!("switch {}", graph.switches[switch].name), None),
        Kind::Trunk(router) => ("trunk", format!("router {}", graph.routers[router].name), Some(router)),
        Kind::Exit(outside) => ("exit", format!("outside network {}", graph.outsides[outside].name), None),
        Kind::Further(switch) => ("further", format!("switch {}", graph.switches[switch].name), Some(switch)),
        Kind::Wire(wire) => ("link", title_of(graph, wire), Some(wire)),
    };
    let hue = hue.map_or_else(String::new, |hue| format!(" hue-{}", hue % HUES));
    write!(out, "<g class=\"net {class}{hue}\"><title>{}</title><path d=\"", escape(title))?;
    for line in &net.lines {
        for (index, (x, y)) in line.iter().enumerate() {
            write!(out, "{}{x} {y}", if index == 0 { "M" } else { "L" })?;
        }
    }
    write!(out, "\"/>")?;
    for (x, y) in &net.joints {
        write!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\"/>")?;
    }
    writeln!(out, "</g>")
}

fn title_of(graph: &Graph, wire: usize) -> String {
    let end = |(guest, nic): (usize, usize)| format!("{}:{}", graph.guests[guest].name, graph.guests[guest].nics[nic].name);
    let wire = &graph.wires[wire];
    let note = if wire.note.is_empty() { String::new() } else { format!(", {}", wire.note) };
    format!("wire {} – {}{note}", end(wire.ends[0]), end(wire.ends[1]))
}

fn tile(out: &mut String, graph: &Graph, index: usize, node: &Node, dress: &Dress) -> Result {
    let (guest, standing) = (&graph.guests[index], dress.standing(index));
    let link = dress.links.get(index).and_then(Option::as_ref);
    if let Some(link) = link {
        writeln!(out, "<a href=\"{}\">", escape(link.as_str()))?;
    }
    let mut title = vec![match standing {
        Some(standing) => format!("{}: {}", guest.name, standing.word()),
        None => format!("{} ({})", guest.name, guest.kind),
    }];
    title.extend(guest.nics.iter().enumerate().map(|(nic, interface)| {
        let addresses = interface.addresses.iter().map(|address| format!(" {address}")).collect::<String>();
        let note = if interface.note.is_empty() { String::new() } else { format!(" ({})", interface.note) };
        format!("{}{addresses} on {}{note}", interface.name, end(graph, index, nic))
    }));
    open(out, &format!("guest {}", standing.map_or("plain", Standing::class)), &title, "")?;
    rectangle(out, &node.place, 6)?;
    marker(out, standing, (node.place.x + 16, node.place.y + 17))?;
    close(out, node)?;
    if link.is_some() { writeln!(out, "</a>") } else { Ok(()) }
}

fn end(graph: &Graph, guest: usize, nic: usize) -> String {
    use super::graph::End;
    match graph.guests[guest].nics[nic].end {
        Some(End::Switch(switch)) => graph.switches[switch].name.clone(),
        Some(End::Wire(wire)) => title_of(graph, wire),
        None => "nothing".to_string(),
    }
}

/// A guest's state as a shape, so that it can be told without colours; a screen when there is none to tell.
fn marker(out: &mut String, standing: Option<Standing>, (x, y): (i32, i32)) -> Result {
    let shape = match standing {
        None => format!(
            "<rect class=\"hollow\" x=\"{}\" y=\"{}\" width=\"13\" height=\"9\" rx=\"1\"/><path class=\"full\" d=\"M{} {} h7 v2 h-7 z\"/>",
            x - 7,
            y - 6,
            x - 4,
            y + 5
        ),
        Some(Standing::Ready) => {
            format!("<circle class=\"full\" cx=\"{x}\" cy=\"{y}\" r=\"7\"/><path class=\"inner\" d=\"M{} {y} l3 3 l5 -6\"/>", x - 4)
        }
        Some(Standing::Starting) => {
            format!("<circle class=\"hollow\" cx=\"{x}\" cy=\"{y}\" r=\"6\"/><path class=\"full\" d=\"M{x} {} a6 6 0 0 1 0 12 z\"/>", y - 6)
        }
        Some(Standing::Paused) => format!(
            "<rect class=\"full\" x=\"{}\" y=\"{}\" width=\"4\" height=\"12\"/><rect class=\"full\" x=\"{}\" y=\"{}\" width=\"4\" height=\"12\"/>",
            x - 5,
            y - 6,
            x + 1,
            y - 6
        ),
        Some(Standing::Off) => format!("<rect class=\"hollow\" x=\"{}\" y=\"{}\" width=\"11\" height=\"11\"/>", x - 5, y - 5),
        Some(Standing::Crashed) => format!("<path class=\"full\" d=\"M{x} {} l8 13 h-16 z\"/>", y - 7),
        Some(Standing::Absent) => format!("<circle class=\"dashed\" cx=\"{x}\" cy=\"{y}\" r=\"6\"/>"),
        Some(Standing::Unknown) => format!("<path class=\"dashed\" d=\"M{x} {} l8 8 l-8 8 l-8 -8 z\"/>", y - 8),
    };
    writeln!(out, "<g class=\"marker\">{shape}</g>")
}
