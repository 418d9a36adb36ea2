//! A graph as a list of nodes and a list of lines, for programs that lay out by themselves. Every node has an id of ours, so
//! that no name can be mistaken for a word of their languages.

use super::graph::{End, Graph};

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Router,
    Switch,
    Outside,
    Guest,
}

/// A node.
pub struct Node {
    pub id: String,
    pub shape: Shape,
    /// Its name, then its addresses.
    pub lines: Vec<String>,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// From a router or an outside network to a switch.
    Trunk,
    /// From a switch to a guest.
    Plain,
    /// From a switch to a guest that hangs from another.
    Further,
    /// Between two guests.
    Wire,
}

/// A line between two nodes.
pub struct Line {
    pub from: String,
    pub to: String,
    pub stroke: Stroke,
    /// Mostly empty.
    pub label: String,
}

/// Nodes and lines, in an order that does not change.
pub fn plain(graph: &Graph) -> (Vec<Node>, Vec<Line>) {
    let (mut nodes, mut lines) = (Vec::new(), Vec::new());
    let mut node = |kind: char, index: usize, shape, name: &str, more: Vec<String>| {
        let lines = [vec![name.to_string()], more].concat();
        nodes.push(Node { id: format!("{kind}{index}"), shape, lines: lines.into_iter().filter(|line| !line.is_empty()).collect() });
    };
    for (index, outside) in graph.outsides.iter().enumerate() {
        node('o', index, Shape::Outside, &outside.name, vec!["outside".to_string()]);
        lines.extend(outside.switches.iter().map(|(switch, port)| line(('o', index), ('s', *switch), Stroke::Trunk, vec![port.clone()])));
    }
    for (index, router) in graph.routers.iter().enumerate() {
        node('r', index, Shape::Router, &router.name, Vec::new());
        lines.extend(router.ports.iter().map(|port| line(('r', index), ('s', port.switch), Stroke::Trunk, port.addresses.clone())));
    }
    for (index, switch) in graph.switches.iter().enumerate() {
        node('s', index, Shape::Switch, &switch.name, [switch.subnets.clone(), vec![switch.note.clone()]].concat());
    }
    for (index, guest) in graph.guests.iter().enumerate() {
        let home = graph.home(index);
        let mut own = Vec::new();
        for (nic, interface) in guest.nics.iter().enumerate() {
            match interface.end {
                Some(End::Switch(switch)) if Some(switch) == home => {
                    own.extend(interface.addresses.clone());
                    lines.push(line(('s', switch), ('g', index), Stroke::Plain, vec![interface.note.clone()]));
                }
                Some(End::Switch(switch)) => {
                    let label = [interface.addresses.clone(), vec![interface.note.clone()]].concat();
                    lines.push(line(('s', switch), ('g', index), Stroke::Further, label));
                }
                // Once, from the end that comes first.
                Some(End::Wire(wire)) => {
                    own.extend(interface.addresses.iter().map(|address| format!("{} {address}", interface.name)));
                    if graph.wires[wire].ends[0] == (index, nic) {
                        let (far, far_nic) = graph.far(wire, index, nic);
                        let notes = [interface, &graph.guests[far].nics[far_nic]].map(|end| end.note.clone());
                        let wire = &graph.wires[wire].note;
                        let label = if wire.is_empty() { notes.to_vec() } else { vec![wire.clone()] };
                        lines.push(line(('g', index), ('g', far), Stroke::Wire, label));
                    }
                }
                None => own.extend(interface.addresses.clone()),
            }
        }
        node('g', index, Shape::Guest, &guest.name, own);
    }
    (nodes, lines)
}

fn line(from: (char, usize), to: (char, usize), stroke: Stroke, mut label: Vec<String>) -> Line {
    label.retain(|words| !words.is_empty());
    Line { from: format!("{}{}", from.0, from.1), to: format!("{}{}", to.0, to.1), stroke, label: label.join(", ") }
}
