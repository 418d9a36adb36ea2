//! Two documents as one: laid over each other (`extends`), or side by side (`include`).
//!
//! Pure. Knows that `machines` are told apart by name, and where the network has maps of names.

use std::collections::BTreeMap;

use super::both;
use crate::{
    names::printable,
    spec::{
        node::{Mark, Node, Value},
        reader::Reader,
    },
};

/// The base with another document laid over it: maps key by key, machines by name, everything else replaced. A key with
/// nothing after it takes away what the base says there.
pub fn lay(base: Node, over: Node) -> Node {
    laid(base, over, &mut Vec::new())
}

fn laid(base: Node, over: Node, trail: &mut Vec<String>) -> Node {
    let at = over.at;
    let value = match (base.value, over.value) {
        (Value::Map(base), Value::Map(over)) => Value::Map(laid_map(base, over, trail)),
        (Value::List(base), Value::List(over)) if trail.as_slice() == ["machines"] => Value::List(laid_machines(base, over, trail)),
        (_, over) => over,
    };
    Node { at, value }
}

fn laid_map(base: Vec<(Node, Node)>, over: Vec<(Node, Node)>, trail: &mut Vec<String>) -> Vec<(Node, Node)> {
    let index: BTreeMap<String, usize> = base.iter().enumerate().filter_map(|(at, (key, _))| Some((key.text()?.to_string(), at))).collect();
    let mut entries: Vec<Option<(Node, Node)>> = base.into_iter().map(Some).collect();
    for (key, value) in over {
        let known = key.text().and_then(|text| index.get(text)).copied();
        match known.and_then(|at| Some((at, entries[at].take()?))) {
            Some((at, (_, below))) => {
                if !value.is_null() {
                    trail.push(key.text().unwrap_or_default().to_string());
                    entries[at] = Some((key, laid(below, value, trail)));
                    trail.pop();
                }
            }
            None => entries.push(Some((key, value))),
        }
    }
    entries.into_iter().flatten().collect()
}

fn laid_machines(base: Vec<Node>, over: Vec<Node>, trail: &mut Vec<String>) -> Vec<Node> {
    let index: BTreeMap<String, usize> = base.iter().enumerate().filter_map(|(at, node)| Some((name(node)?.to_string(), at))).collect();
    let mut machines: Vec<Option<Node>> = base.into_iter().map(Some).collect();
    let count = machines.len();
    let mut used = vec![false; count];
    for node in over {
        let known = name(&node).and_then(|name| index.get(name)).copied().filter(|at| !used[*at]);
        match known.and_then(|at| Some((at, machines[at].take()?))) {
            Some((at, below)) => {
                trail.push(String::new());
                machines[at] = Some(laid(below, node, trail));
                trail.pop();
                used[at] = true;
            }
            // A name that comes twice in one file is the decoder's to refuse.
            None => machines.push(Some(node)),
        }
    }
    machines.into_iter().flatten().collect()
}

/// The name of a machine.
pub fn name(machine: &Node) -> Option<&str> {
    machine.entry("name").and_then(Node::text)
}

/// Maps of the network whose keys are names of things: each thing stands in one file.
const NAMED: &[&[&str]] = &[&["network", "ovn", "switches"], &["network", "ovn", "routers"]];

/// Adds a document to another: lists go on, maps are merged. What both give differently is a fault with both places.
pub fn join(whole: &mut Node, part: Node, reader: &mut Reader) {
    if whole.is_null() {
        *whole = part;
        return;
    }
    joined(whole, part, &mut Vec::new(), reader);
}

fn joined(whole: &mut Node, part: Node, trail: &mut Vec<String>, reader: &mut Reader) {
    // The same place: a file that several others extend.
    if whole.at == part.at {
        return;
    }
    match (&mut whole.value, part.value) {
        (Value::Map(entries), Value::Map(more)) => joined_map(entries, more, trail, reader),
        (Value::List(items), Value::List(more)) if trail.as_slice() == ["machines"] => {
            let index: BTreeMap<&str, Mark> = items.iter().filter_map(|node| Some((name(node)?, node.at))).collect();
            let known: Vec<Option<Mark>> = more.iter().map(|node| name(node).and_then(|name| index.get(name)).copied()).collect();
            for (node, known) in more.into_iter().zip(known) {
                match known {
                    None => items.push(node),
                    Some(first) => twice("machine", name(&node).unwrap_or_default(), first, node.at, reader),
                }
            }
        }
        (Value::List(items), Value::List(more)) => items.extend(more),
        (_, value) => {
            let node = Node { at: part.at, value };
            let same = matches!((&whole.value, &node.value), (Value::Scalar { text: a, .. }, Value::Scalar { text: b, .. }) if a == b);
            if !same {
                twice("", trail.last().map(String::as_str).unwrap_or_default(), whole.at, node.at, reader);
            }
        }
    }
}

fn joined_map(entries: &mut Vec<(Node, Node)>, more: Vec<(Node, Node)>, trail: &mut Vec<String>, reader: &mut Reader) {
    let index: BTreeMap<String, usize> =
        entries.iter().enumerate().filter_map(|(at, (key, _))| Some((key.text()?.to_string(), at))).collect();
    let named = NAMED.iter().find(|named| trail.len() == named.len() && trail.iter().zip(**named).all(|(one, other)| one == other));
    for (key, value) in more {
        match key.text().and_then(|text| index.get(text)).copied() {
            None => entries.push((key, value)),
            Some(at) if named.is_some() => {
                let what = if trail.last().is_some_and(|last| last == "routers") { "router" } else { "switch" };
                twice(what, key.text().unwrap_or_default(), entries[at].0.at, key.at, reader);
            }
            Some(_) if value.is_null() => {}
            Some(at) if entries[at].1.is_null() => entries[at].1 = value,
            Some(at) => {
                trail.push(key.text().unwrap_or_default().to_string());
                joined(&mut entries[at].1, value, trail, reader);
                trail.pop();
            }
        }
    }
}

fn twice(what: &str, name: &str, first: Mark, second: Mark, reader: &mut Reader) {
    if first == second {
        return;
    }
    let (one, other) = (reader.place(first), reader.place(second));
    let what = if what.is_empty() { String::new() } else { format!("{what} ") };
    let message = format!("{what}`{}` stands in two files: {}", printable(name), both(&one, &other));
    reader.error(second, "E055", message, Some("keep one of them, or let one file extend the other with `extends`".to_string()));
}
