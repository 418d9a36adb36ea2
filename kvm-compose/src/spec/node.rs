//! YAML text as a tree in which every node knows its place.
//!
//! Pure. Knows YAML (1.2, through `saphyr-parser`), not the language of testbeds. Budgets keep hostile files cheap:
//! size, nodes after alias expansion, and depth are limited.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::reader::Reader;

/// The largest testbed file, in bytes.
pub const MAX_BYTES: usize = 2 << 20;
/// The most nodes a file may have once its aliases are expanded.
const MAX_NODES: usize = 1_000_000;
/// A text costs one value more for each of these bytes, so that aliases of long texts are dear too.
const LONG_TEXT: usize = 64;
/// How deep lists and maps may nest.
const MAX_DEPTH: usize = 32;

/// A place in a text: which text, 1-based line and column, and how many characters it covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Which of the reader's texts; 0 is the testbed file itself.
    pub text: u16,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Characters covered on that line, at least 1.
    pub width: u32,
}

/// A node of the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it stands.
    pub at: Mark,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A scalar: its text, and whether it was written without quotes.
    Scalar {
        /// The text, escapes resolved.
        text: String,
        /// True when written without quotes, so that `true`, `12` and `~` have their YAML meaning.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the file's order; duplicates were reported and dropped.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// How deep lists and maps nest in it; 0 for a single value.
    pub fn depth(&self) -> usize {
        match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => 1 + items.iter().map(Node::depth).max().unwrap_or(0),
            Value::Map(entries) => 1 + entries.iter().map(|(key, value)| key.depth().max(value.depth())).max().unwrap_or(0),
        }
    }

    /// The value of a key, when it is a map that has it.
    pub fn entry(&self, wanted: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.text() == Some(wanted)).map(|(_, value)| value),
            _ => None,
        }
    }

    /// True for `~`, `null` and nothing at all (YAML 1.2 core schema).
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The scalar's text.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// How much of a [`Budget`] it takes: one for each value, and more for long texts.
    pub fn size(&self) -> usize {
        match &self.value {
            Value::Scalar { text, .. } => 1 + text.len() / LONG_TEXT,
            Value::List(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|(key, value)| key.size() + value.size()).sum::<usize>(),
        }
    }
}

enum Open {
    List(Mark, usize, Vec<Node>),
    Map(Mark, usize, Vec<(Node, Node)>, Keys, Option<Node>),
}

/// The lines of a map's keys, once there are so many that going through them takes long.
#[derive(Default)]
struct Keys {
    lines: BTreeMap<String, u32>,
    /// How many entries are among them.
    noted: usize,
}

impl Keys {
    const MANY: usize = 16;

    /// The line where a key stands already among the entries. Keys that are no texts are the decoder's to refuse.
    fn line_of(&mut self, key: &Node, entries: &[(Node, Node)]) -> Option<u32> {
        let text = key.text()?;
        if entries.len() < Self::MANY {
            return entries.iter().find(|(known, _)| known.text() == Some(text)).map(|(known, _)| known.at.line);
        }
        let new = entries[self.noted..].iter();
        self.lines.extend(new.filter_map(|(known, _)| Some((known.text()?.to_string(), known.at.line))));
        self.noted = entries.len();
        self.lines.get(text).copied()
    }
}

/// How many values may still be made, over all texts of a testbed.
#[derive(Debug)]
pub struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Budget(MAX_NODES)
    }
}

impl Budget {
    /// Spends some, or says what is wrong.
    pub fn spend(&mut self, nodes: usize) -> Result<(), String> {
        self.0 = self
            .0
            .checked_sub(nodes)
            .ok_or_else(|| format!("the testbed has more than {MAX_NODES} values once its aliases are expanded"))?;
        Ok(())
    }
}

/// Parses the one document of a text. Reports what is not YAML (E001), duplicate keys (E002) and exceeded budgets (E001).
pub fn parse(text: &str, number: u16, budget: &mut Budget, reader: &mut Reader) -> Option<Node> {
    let start = Mark { text: number, line: 1, column: 1, width: 1 };
    // A byte order mark is allowed (YAML 1.2.2 section 5.2) and says nothing.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_BYTES {
        reader.error(start, "E001", format!("the file is larger than {} MiB", MAX_BYTES >> 20), None);
        return None;
    }
    if let Some((line, column)) = first_control(text) {
        let hint = Some("remove the character; YAML files are plain text".to_string());
        reader.error(Mark { line, column, ..start }, "E001", "the file holds a control character".to_string(), hint);
        return None;
    }
    let mut builder = Builder { stack: Vec::new(), anchors: BTreeMap::new(), root: None, budget, documents: 0 };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                let at = Mark { text: number, ..mark_of(&span) };
                if let Err(message) = builder.event(event, at, reader) {
                    reader.error(at, "E001", message, None);
                    return None;
                }
            }
            Err(error) => {
                let mut mark = Mark { line: error.marker().line() as u32, column: error.marker().col() as u32 + 1, ..start };
                // What is missing at the end is missing on the last line.
                if let Some((number, last)) = lines(text).enumerate().filter(|(_, line)| !line.trim().is_empty()).last()
                    && mark.line as usize > number + 1
                {
                    mark = Mark { line: number as u32 + 1, column: last.chars().count() as u32 + 1, ..start };
                }
                // Only a tab in front of a line is no indentation, and the parser may stop before it.
                if let Some((number, tab)) = tabbed(text, mark.line) {
                    let hint = Some("indent with spaces: YAML does not take tabs for indentation".to_string());
                    let at = Mark { line: number, column: tab, ..start };
                    reader.error(at, "E001", "this is not valid YAML: a tab stands where the indentation is".to_string(), hint);
                    return None;
                }
                // The parser may be a character past the one it does not like.
                let beyond = lines(text).nth(mark.line.saturating_sub(1) as usize).map_or(1, |line| line.chars().count() as u32 + 1);
                mark.column = mark.column.min(beyond);
                let hint = match reader.source(mark).contains("${") {
                    true => "within `{ }` and `[ ]` a variable stands in quotes: \"${NAME}\"",
                    false => "check indentation, quotes and colons up to here",
                };
                reader.error(mark, "E001", format!("this is not valid YAML: {}", error.info()), Some(hint.to_string()));
                return None;
            }
        }
    }
    if builder.root.is_none() {
        let hint = Some("a testbed file has at least `machines:` and `network:`".to_string());
        reader.error(start, "E008", "the file is empty".to_string(), hint);
    }
    builder.root
}

/// The lines of a text as YAML breaks it (YAML 1.2.2 section 5.4): at a carriage return too.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text.strip_prefix('\u{feff}').unwrap_or(text));
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else { return rest.take() };
        let after = if text[end..].starts_with("\r\n") { end + 2 } else { end + 1 };
        rest = Some(&text[after..]);
        Some(&text[..end])
    })
}

/// The line and column of a tab in the indentation of a line, or of one of the next two that have text.
fn tabbed(text: &str, line: u32) -> Option<(u32, u32)> {
    let here = lines(text).enumerate().skip(line.saturating_sub(1) as usize).filter(|(_, line)| !line.trim().is_empty());
    let mut near = here.take(3).filter_map(|(index, line)| {
        let blank = line.len() - line.trim_start_matches([' ', '\t']).len();
        line[..blank].find('\t').map(|tab| (index as u32 + 1, tab as u32 + 1))
    });
    near.next()
}

/// The first control character that YAML does not allow (YAML 1.2.2 section 5.1), line breaks and tab excepted.
fn first_control(text: &str) -> Option<(u32, u32)> {
    for (number, line) in lines(text).enumerate() {
        if let Some(column) = line.chars().position(|c| c.is_control() && !matches!(c, '\t' | '\u{85}')) {
            return Some((number as u32 + 1, column as u32 + 1));
        }
    }
    None
}

fn mark_of(span: &Span) -> Mark {
    let (start, end) = (&span.start, &span.end);
    let width = if start.line() == end.line() { end.col().saturating_sub(start.col()).max(1) } else { 1 };
    Mark { text: 0, line: start.line() as u32, column: start.col() as u32 + 1, width: width as u32 }
}

fn too_deep() -> String {
    format!("lists and maps nest deeper than {MAX_DEPTH}")
}

/// The key under which a map takes over the entries of others (YAML's merge key, as Compose reads it): its own go before theirs,
/// those of an earlier map before those of a later one.
const MERGE: &str = "<<";

fn merged(entries: Vec<(Node, Node)>, reader: &mut Reader) -> Vec<(Node, Node)> {
    let merges = |key: &Node| matches!(&key.value, Value::Scalar { text, plain: true } if text == MERGE);
    if !entries.iter().any(|(key, _)| merges(key)) {
        return entries;
    }
    let (others, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| merges(key));
    let mut known: BTreeSet<String> = own.iter().filter_map(|(key, _)| key.text().map(str::to_string)).collect();
    for (key, value) in others {
        let maps = match value.value {
            Value::List(items) => items,
            _ => vec![value],
        };
        for map in maps {
            let Value::Map(entries) = map.value else {
                let hint = Some("write `<<: *NAME`, or `<<: [*ONE, *OTHER]`, where `&NAME` stands at a map".to_string());
                reader.error(key.at, "E005", "`<<` must be a map, or a list of maps".to_string(), hint);
                continue;
            };
            own.extend(entries.into_iter().filter(|(key, _)| key.text().is_none_or(|text| known.insert(text.to_string()))));
        }
    }
    own
}

struct Builder<'a> {
    stack: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    root: Option<Node>,
    budget: &'a mut Budget,
    documents: usize,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, at: Mark, reader: &mut Reader) -> Result<(), String> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err("a testbed file is one document; this starts a second one".to_string());
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                let node = Node { at, value: Value::Scalar { text: text.into_owned(), plain: matches!(style, ScalarStyle::Plain) } };
                self.finished(node, anchor, reader)?;
            }
            Event::SequenceStart(anchor, _) => self.open(Open::List(at, anchor, Vec::new()))?,
            Event::MappingStart(anchor, _) => self.open(Open::Map(at, anchor, Vec::new(), Keys::default(), None))?,
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Open::List(at, anchor, items)) => self.finished(Node { at, value: Value::List(items) }, anchor, reader)?,
                Some(Open::Map(at, anchor, entries, ..)) => {
                    let entries = merged(entries, reader);
                    self.finished(Node { at, value: Value::Map(entries) }, anchor, reader)?;
                }
                None => {}
            },
            Event::Alias(id) => {
                let node = self.anchors.get(&id).ok_or("an alias may not stand inside what it names")?;
                if self.stack.len() + node.depth() > MAX_DEPTH {
                    return Err(too_deep());
                }
                self.budget.spend(node.size())?;
                let node = node.clone();
                self.finished(Node { at, ..node }, 0, reader)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn open(&mut self, open: Open) -> Result<(), String> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep());
        }
        self.stack.push(open);
        Ok(())
    }

    fn finished(&mut self, node: Node, anchor: usize, reader: &mut Reader) -> Result<(), String> {
        self.budget.spend(1)?;
        if anchor > 0 {
            self.budget.spend(node.size())?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, _, items)) => items.push(node),
            Some(Open::Map(_, _, entries, keys, pending)) => match pending.take() {
                None => *pending = Some(node),
                Some(key) => match keys.line_of(&key, entries) {
                    Some(line) => {
                        let shown = crate::names::printable(key.text().unwrap_or_default());
                        let hint = Some(format!("it stands on line {line} already; keep one of them"));
                        reader.error(key.at, "E002", format!("`{shown}` is given twice"), hint);
                    }
                    None => entries.push((key, node)),
                },
            },
        }
        Ok(())
    }
}
