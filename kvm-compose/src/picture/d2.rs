//! D2 (<https://d2lang.com/tour/strings>).

use super::{
    graph::Graph,
    plain::{Shape, Stroke, plain},
};

/// The graph in the D2 language.
pub fn write(graph: &Graph) -> String {
    let (nodes, lines) = plain(graph);
    let mut text = format!("# The testbed {}\ndirection: right\n", commented(&graph.name));
    for node in nodes {
        let look = match node.shape {
            Shape::Router => "shape: hexagon; style.fill: \"#efe9f8\"; style.stroke: \"#6b4fa0\"",
            Shape::Switch => "shape: oval; style.fill: \"#e4ecfa\"; style.stroke: \"#2359b8\"",
            Shape::Outside => "shape: cloud; style.fill: \"#faefd9\"; style.stroke: \"#8f5a00\"",
            Shape::Guest => "shape: rectangle; style.fill: \"#ffffff\"; style.stroke: \"#5a6270\"",
        };
        text.push_str(&format!("{}: {} {{{look}}}\n", node.id, quoted(&node.lines)));
    }
    for line in lines {
        let look = match line.stroke {
            Stroke::Trunk | Stroke::Wire => "style.stroke-width: 3",
            Stroke::Plain => "style.stroke-width: 1",
            Stroke::Further => "style.stroke-dash: 4",
        };
        text.push_str(&format!("{} -- {}: {} {{{look}}}\n", line.from, line.to, quoted(&[line.label])));
    }
    text
}

/// A quoted string of several lines; `$` begins a variable there too.
fn quoted(lines: &[String]) -> String {
    let mut text = String::from("\"");
    for (index, line) in lines.iter().enumerate() {
        text.push_str(if index == 0 { "" } else { "\\n" });
        for c in line.chars() {
            match c {
                '"' | '\\' | '$' => text.extend(['\\', c]),
                c if c.is_control() => text.push(' '),
                c => text.push(c),
            }
        }
    }
    text.push('"');
    text
}

fn commented(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
