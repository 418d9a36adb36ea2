//! `--set key=value`: values laid over the whole document.
//!
//! Pure. A key is a dotted path: names of keys, and in lists the `name` of an item or its index from 0. `\.` is a dot that
//! belongs to a name. A value is a YAML scalar; nothing after the `=` takes the key away.

use super::{SET, merge::name};
use crate::{
    names::printable,
    spec::{
        node::{self, Budget, Mark, Node, Value},
        reader::Reader,
    },
};

/// How many options there may be: each looks through the document.
const MOST: usize = 200;
/// How many parts a path may have.
const LONGEST: usize = 30;

/// Lays each option over the document, in their order; faults name the option.
pub fn lay_over(root: &mut Node, options: &[String], budget: &mut Budget, reader: &mut Reader) {
    if options.is_empty() {
        return;
    }
    let text = reader.add(SET, options.to_vec());
    if options.len() > MOST {
        let at = Mark { text, line: MOST as u32 + 1, column: 1, width: 1 };
        reader.error(
            at,
            "E056",
            format!("there are more than {MOST} of `--set`"),
            Some("write a file that `extends` this one".to_string()),
        );
        return;
    }
    for (index, option) in options.iter().enumerate() {
        let at = Mark { text, line: index as u32 + 1, column: 1, width: option.chars().count().max(1) as u32 };
        let Some((path, value)) = split(option) else {
            let hint = Some("write `--set machines.web.micro.memory_mb=256`".to_string());
            reader.error(at, "E056", format!("`{}` is no `key=value`", printable(option)), hint);
            continue;
        };
        let parts = parts(path, at);
        if parts.iter().any(|part| part.text().is_none_or(str::is_empty)) || parts.len() > LONGEST {
            let hint = Some("put one dot between the keys, and `\\.` where a dot belongs to a name".to_string());
            reader.error(at, "E056", format!("`{}` is no path of keys", printable(path)), hint);
            continue;
        }
        if let Some(first @ ("include" | "extends")) = parts.first().and_then(Node::text) {
            reader.error(at, "E056", format!("`{first}` cannot be set: it says what the file consists of"), None);
            continue;
        }
        let column = at.column + path.chars().count() as u32 + 1;
        if let Some(value) = scalar(value, Mark { column, width: value.chars().count().max(1) as u32, ..at }, budget, reader) {
            set(root, &parts, value, "the file", reader);
        }
    }
}

/// The path and the value, parted at the first `=`.
fn split(option: &str) -> Option<(&str, &str)> {
    option.split_once('=').filter(|(path, _)| !path.is_empty())
}

/// The parts of a path, each at its place in the option.
fn parts(path: &str, option: Mark) -> Vec<Node> {
    let mut parts = Vec::new();
    let (mut part, mut start, mut column) = (String::new(), 1, 1);
    let mut chars = path.chars().peekable();
    let node = |text: String, start: u32, end: u32| Node {
        at: Mark { column: start, width: (end - start).max(1), ..option },
        value: Value::Scalar { text, plain: true },
    };
    while let Some(c) = chars.next() {
        match c {
            '\\' if matches!(chars.peek(), Some('.' | '\\')) => {
                part.extend(chars.next());
                column += 1;
            }
            '.' => {
                parts.push(node(std::mem::take(&mut part), start, column));
                start = column + 1;
            }
            c => part.push(c),
        }
        column += 1;
    }
    parts.push(node(part, start, column));
    parts
}

/// The value, at its place in the option.
fn scalar(text: &str, at: Mark, budget: &mut Budget, reader: &mut Reader) -> Option<Node> {
    let nothing = Node { at, value: Value::Scalar { text: String::new(), plain: true } };
    if text.trim().is_empty() {
        return Some(nothing);
    }
    let mut apart = Reader::new(SET, text);
    let parsed = node::parse(text, 0, budget, &mut apart);
    match (parsed, apart.failed()) {
        (Some(Node { value: value @ Value::Scalar { .. }, .. }), false) => Some(Node { at, value }),
        (found, _) => {
            let what = found.map_or("no YAML value", |node| node.kind());
            let hint = Some("set single values one by one; put a text with `: `, ` #` or brackets within quotes".to_string());
            reader.error(at, "E056", format!("`{}` is {what}, not a single value", printable(text)), hint);
            None
        }
    }
}

/// Puts a value at the end of a path; maps on the way are made.
fn set(node: &mut Node, path: &[Node], value: Node, what: &str, reader: &mut Reader) {
    let Some((part, rest)) = path.split_first() else {
        *node = value;
        return;
    };
    let text = part.text().unwrap_or_default();
    if node.is_null() {
        *node = Node { at: part.at, value: Value::Map(Vec::new()) };
    }
    let inner = format!("`{}`", printable(text));
    match &mut node.value {
        Value::Map(entries) => {
            let found = entries.iter().position(|(key, _)| key.text() == Some(text));
            match found {
                Some(at) if rest.is_empty() && value.is_null() => drop(entries.remove(at)),
                Some(at) => set(&mut entries[at].1, rest, value, &inner, reader),
                None if rest.is_empty() && value.is_null() => {}
                None => {
                    let mut made = Node { at: part.at, value: Value::Scalar { text: String::new(), plain: true } };
                    set(&mut made, rest, value, &inner, reader);
                    entries.push((part.clone(), made));
                }
            }
        }
        Value::List(items) => {
            let named = items.iter().position(|item| name(item) == Some(text));
            match named.or_else(|| text.parse().ok().filter(|index| *index < items.len())) {
                Some(at) if rest.is_empty() && value.is_null() => drop(items.remove(at)),
                Some(at) => set(&mut items[at], rest, value, &inner, reader),
                None => {
                    reader.error_with(part.at, "E056", format!("{what} has no item `{}`", printable(text)), |guesses| {
                        guesses.near(text, items.iter().filter_map(name)).or_else(|| match items.len() {
                            0 => None,
                            count => Some(format!("name an item by its `name`, or by its index from 0 to {}", count - 1)),
                        })
                    });
                }
            }
        }
        Value::Scalar { .. } => {
            let message = format!("{what} is a single value and has no key `{}`", printable(text));
            reader.error(part.at, "E056", message, Some(format!("end the path there: `{what}=…`").replace('`', "")));
        }
    }
}
