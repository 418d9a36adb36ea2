//! A Mermaid flowchart (<https://mermaid.js.org/syntax/flowchart.html>).

use super::{
    graph::Graph,
    plain::{Shape, Stroke, plain},
};

/// The graph as a flowchart.
pub fn write(graph: &Graph) -> String {
    let (nodes, lines) = plain(graph);
    // The front matter is YAML, of which a JSON string is a part.
    let mut text = format!("---\ntitle: {}\n---\nflowchart LR\n", serde_json::Value::from(graph.name.as_str()));
    for node in nodes {
        let (open, close, class) = match node.shape {
            Shape::Router => ("{{", "}}", "router"),
            Shape::Switch => ("([", "])", "switch"),
            Shape::Outside => ("[[", "]]", "outside"),
            Shape::Guest => ("[", "]", "guest"),
        };
        let label: Vec<String> = node.lines.iter().map(|line| escaped(line)).collect();
        text.push_str(&format!("  {}{open}\"{}\"{close}:::{class}\n", node.id, label.join("<br/>")));
    }
    for line in lines {
        let stroke = match line.stroke {
            Stroke::Trunk | Stroke::Wire => "===",
            Stroke::Plain => "---",
            Stroke::Further => "-.-",
        };
        let label = if line.label.is_empty() { String::new() } else { format!("|\"{}\"|", escaped(&line.label)) };
        text.push_str(&format!("  {} {stroke}{label} {}\n", line.from, line.to));
    }
    text.push_str("  classDef router fill:#efe9f8,stroke:#6b4fa0,color:#1b1f27\n");
    text.push_str("  classDef switch fill:#e4ecfa,stroke:#2359b8,color:#1b1f27\n");
    text.push_str("  classDef outside fill:#faefd9,stroke:#8f5a00,color:#1b1f27\n");
    text.push_str("  classDef guest fill:#ffffff,stroke:#5a6270,color:#1b1f27\n");
    text
}

/// Everything that could mean something to Mermaid, to Markdown or to HTML, by its number.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || " .:/,-".contains(c) || (!c.is_ascii() && !c.is_control()) => escaped.push(c),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push_str(&format!("#{};", u32::from(c))),
        }
    }
    escaped
}
