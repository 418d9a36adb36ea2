//! Graphviz (<https://graphviz.org/doc/info/lang.html>).

use super::{
    graph::Graph,
    plain::{Shape, Stroke, plain},
};

/// The graph in the DOT language.
pub fn write(graph: &Graph) -> String {
    let (nodes, lines) = plain(graph);
    let mut text = format!(
        "graph {} {{\n  graph [rankdir=LR, nodesep=0.15, ranksep=1.2, fontname=\"sans-serif\"]\n  \
         node [fontname=\"sans-serif\", fontsize=11, style=filled, fillcolor=\"#ffffff\", color=\"#5a6270\", shape=box]\n  \
         edge [fontname=\"sans-serif\", fontsize=10, color=\"#5a6270\"]\n",
        quoted(std::slice::from_ref(&graph.name))
    );
    for node in nodes {
        let look = match node.shape {
            Shape::Router => ", shape=hexagon, fillcolor=\"#efe9f8\", color=\"#6b4fa0\"",
            Shape::Switch => ", style=\"rounded,filled\", fillcolor=\"#e4ecfa\", color=\"#2359b8\"",
            Shape::Outside => ", shape=folder, fillcolor=\"#faefd9\", color=\"#8f5a00\"",
            Shape::Guest => "",
        };
        text.push_str(&format!("  {} [label={}{look}]\n", node.id, quoted(&node.lines)));
    }
    for line in lines {
        let look = match line.stroke {
            Stroke::Trunk | Stroke::Wire => ", penwidth=2",
            Stroke::Plain => "",
            Stroke::Further => ", style=dashed",
        };
        text.push_str(&format!("  {} -- {} [label={}{look}]\n", line.from, line.to, quoted(&[line.label])));
    }
    text.push_str("}\n");
    text
}

/// A quoted string of several lines. Graphviz resolves HTML's entities in labels too.
fn quoted(lines: &[String]) -> String {
    let mut text = String::from("\"");
    for (index, line) in lines.iter().enumerate() {
        text.push_str(if index == 0 { "" } else { "\\n" });
        for c in line.chars() {
            match c {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '&' => text.push_str("&amp;"),
                c if c.is_control() => text.push(' '),
                c => text.push(c),
            }
        }
    }
    text.push('"');
    text
}
