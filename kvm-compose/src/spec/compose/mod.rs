//! One document out of several texts: variables, `extends`, `include` and `--set`, as in Compose.
//!
//! Pure: the texts and the variables' values come in [`Sources`]; what is missing there can be asked for with [`asked`].
//! Knows `include`, `extends`, `machines` and the maps of names in `network`; what the other keys mean is the decoder's.

pub mod dotenv;
mod merge;
mod paths;
pub mod schema;
mod set;
mod variables;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    node::{self, Budget, Mark, Node, Value},
    reader::{LONGEST_SOURCE, Reader},
};
use crate::{
    api::{Composition, Draft},
    error::Place,
    names::printable,
};

/// How many files may stand on each other.
const DEEPEST: usize = 16;
/// How many files a testbed may consist of.
const MOST: usize = 100;
/// What the options of `--set` are called in messages.
const SET: &str = "--set";

/// Everything that a testbed is read from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sources {
    /// The testbed file, as messages name it.
    pub file: String,
    /// Its text.
    pub text: String,
    /// The other files, the variables and what is laid over.
    pub composition: Composition,
    /// Files that were looked for and cannot be had, by their path from the project's folder, and why.
    pub missing: BTreeMap<String, Missing>,
    /// Faults of the project's `.env`, when it was read.
    pub dotenv: Vec<dotenv::Fault>,
}

/// Why a file cannot be had.
#[derive(Debug, Clone, PartialEq)]
pub struct Missing {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// True when it lies outside the project's folder.
    pub outside: bool,
}

impl Sources {
    /// A testbed file that stands alone.
    pub fn alone(file: &str, text: &str) -> Sources {
        Sources { file: file.to_string(), text: text.to_string(), ..Sources::default() }
    }

    /// What a request for this testbed carries.
    pub fn into_draft(self) -> Draft {
        Draft { text: self.text, file: Some(self.file), project_location: None, composition: self.composition }
    }

    /// The line of a place, as much of it as goes with a fault; nothing where it is in none of the files.
    pub fn line(&self, at: &Place) -> String {
        let other = || self.composition.files.iter().find(|(path, _)| self.shown(path) == at.file).map(|(_, text)| text);
        let text = if at.file == self.file { Some(&self.text) } else { other() };
        let line = text.and_then(|text| node::lines(text).nth((at.line as usize).saturating_sub(1)));
        line.map(|line| line.chars().take(LONGEST_SOURCE).collect()).unwrap_or_default()
    }

    /// The testbed file's path from the project's folder: its last part.
    fn main(&self) -> &str {
        self.file.rsplit('/').next().unwrap_or_default()
    }

    /// A file as messages name it: beside the testbed file.
    fn shown(&self, path: &str) -> String {
        match self.file.rsplit_once('/') {
            Some((folder, _)) if path != self.main() => format!("{folder}/{path}"),
            _ if path == self.main() => self.file.clone(),
            _ => path.to_string(),
        }
    }
}

/// What a testbed names and its sources do not have.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// Files, by their path from the project's folder.
    pub files: BTreeSet<String>,
    /// Variables.
    pub variables: BTreeSet<String>,
}

/// What is missing in the sources to read the testbed; with each answer there may be more.
pub fn asked(sources: &Sources) -> Asked {
    // Most testbed files stand alone, and are not parsed twice.
    if !["include", "extends", "${"].iter().any(|word| sources.text.contains(word)) {
        return Asked::default();
    }
    let mut reader = Reader::new(&sources.file, &sources.text);
    let mut composer = Composer::new(sources, &mut reader);
    composer.root();
    composer.asked
}

/// The whole document, without `include` and `extends`. Nothing when a part of it could not be had; faults are in the reader.
pub fn compose(sources: &Sources, reader: &mut Reader) -> Option<Node> {
    if !sources.dotenv.is_empty() {
        // Its lines are not shown: they hold values.
        let text = reader.add(&sources.shown(".env"), Vec::new());
        for fault in &sources.dotenv {
            let at = Mark { text, line: fault.line, column: 1, width: 1 };
            reader.error(at, "E057", fault.message.clone(), Some(fault.hint.clone()));
        }
    }
    let mut composer = Composer::new(sources, reader);
    let mut root = composer.root()?;
    if composer.broken {
        return None;
    }
    let budget = &mut composer.budget;
    set::lay_over(&mut root, &sources.composition.set, budget, reader);
    Some(root)
}

/// A resolved document as it is written down: reading it again, no `$` in it is taken for a variable's. `${PWD}` is never
/// replaced.
pub fn written(mut document: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match &mut document {
        Value::String(text) if text.contains("$$") || text.contains("${") => {
            let parts: Vec<String> = text.split("${PWD}").map(|part| part.replace('$', "$$")).collect();
            *text = parts.join("${PWD}");
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = written(item.take())),
        Value::Object(map) => map.values_mut().for_each(|value| *value = written(value.take())),
        _ => {}
    }
    document
}

/// Goes through the files, the testbed file first.
struct Composer<'a> {
    sources: &'a Sources,
    reader: &'a mut Reader,
    budget: Budget,
    /// Every file that was read, with its number in the reader.
    read: BTreeMap<String, Option<Node>>,
    /// The files being read, from the testbed file on.
    open: Vec<String>,
    included: BTreeSet<String>,
    /// Bytes that variables may still bring.
    room: usize,
    /// Variables that are known not to be set.
    unset: BTreeSet<String>,
    asked: Asked,
    /// A file could not be had: what is read of the others makes no whole.
    broken: bool,
}

impl<'a> Composer<'a> {
    fn new(sources: &'a Sources, reader: &'a mut Reader) -> Self {
        Composer {
            sources,
            reader,
            budget: Budget::default(),
            read: BTreeMap::new(),
            open: Vec::new(),
            included: BTreeSet::new(),
            room: node::MAX_BYTES,
            unset: BTreeSet::new(),
            asked: Asked::default(),
            broken: false,
        }
    }

    fn root(&mut self) -> Option<Node> {
        let main = self.sources.main().to_string();
        let parsed = node::parse(&self.sources.text, 0, &mut self.budget, self.reader);
        let parsed = parsed.map(|node| self.expanded(node, &self.sources.text));
        self.whole(&main, parsed?)
    }

    /// A file that another one names at `at`, which others may name too.
    fn file(&mut self, path: &str, at: Mark) -> Option<Node> {
        let node = self.read.get(path)?.as_ref()?;
        match self.budget.spend(node.size()) {
            Ok(()) => {
                let node = node.clone();
                self.whole(path, node)
            }
            Err(message) => {
                self.reader.error(at, "E054", message, None);
                self.broken = true;
                None
            }
        }
    }

    /// A file with all that it stands on and all that it includes.
    fn whole(&mut self, path: &str, node: Node) -> Option<Node> {
        let Value::Map(entries) = node.value else {
            self.reader.fields(&node, "a testbed file");
            self.broken = true;
            return None;
        };
        let (named, own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| matches!(key.text(), Some("include" | "extends")));
        let mut whole = Node { at: node.at, value: Value::Map(own) };
        self.open.push(path.to_string());
        for (key, value) in named.iter().filter(|(key, value)| key.text() == Some("extends") && !value.is_null()) {
            if self.reader.text(value, "`extends`").is_none() {
                self.broken = true;
            } else if let Some(base) = self.named(key, value).and_then(|path| self.file(&path, value.at)) {
                whole = merge::lay(base, whole);
            }
        }
        for (_, value) in named.iter().filter(|(key, value)| key.text() == Some("include") && !value.is_null()) {
            let files = match &value.value {
                Value::Scalar { .. } => std::slice::from_ref(value),
                _ => self.reader.list(value, "`include`").unwrap_or_else(|| {
                    self.broken = true;
                    &[]
                }),
            };
            for written in files {
                self.include(written, &mut whole);
            }
        }
        self.open.pop();
        Some(whole)
    }

    fn include(&mut self, written: &Node, whole: &mut Node) {
        if self.reader.text(written, "a file of `include`").is_none() {
            self.broken = true;
            return;
        }
        let Some(path) = self.named(written, written) else { return };
        // A file that several files include is there once.
        if !self.included.insert(path.clone()) {
            return;
        }
        if let Some(part) = self.file(&path, written.at) {
            merge::join(whole, part, self.reader);
        }
    }

    /// Reads the file that a value names; returns its path from the project's folder.
    fn named(&mut self, at: &Node, written: &Node) -> Option<String> {
        let path = self.found(at, written);
        self.broken |= path.is_none();
        path
    }

    fn found(&mut self, key: &Node, written: &Node) -> Option<String> {
        let (at, text) = (written.at, written.text()?);
        let shown = self.reader.shown(written);
        let from = self.open.last().map(String::as_str).unwrap_or_default();
        let path = match paths::resolve(from, text) {
            Ok(path) => path,
            Err(hint) => {
                self.reader.error(at, "E053", format!("`{shown}` is no file of the project's folder"), Some(hint.to_string()));
                return None;
            }
        };
        if let Some(start) = self.open.iter().position(|open| *open == path) {
            let round: Vec<&str> = self.open[start..].iter().chain([&path]).map(String::as_str).collect();
            let message = format!("`{}` stands on itself: {}", printable(&path), printable(&round.join(" → ")));
            let what = key.text().filter(|key| *key == "extends").unwrap_or("include");
            self.reader.error(at, "E054", message, Some(format!("take it out of `{what}` here")));
            return None;
        }
        if self.open.len() >= DEEPEST {
            self.reader.error(at, "E054", format!("files stand on each other deeper than {DEEPEST}"), None);
            return None;
        }
        if !self.read.contains_key(&path) {
            if self.read.len() >= MOST {
                self.reader.error(at, "E054", format!("the testbed consists of more than {MOST} files"), None);
                return None;
            }
            let parsed = self.parsed(&path, at, &shown);
            self.read.insert(path.clone(), parsed);
        }
        self.read.get(&path)?.is_some().then_some(path)
    }

    fn parsed(&mut self, path: &str, at: Mark, shown: &str) -> Option<Node> {
        let sources = self.sources;
        let Some(text) = sources.composition.files.get(path) else {
            let (message, hint) = match sources.missing.get(path) {
                Some(missing) => (missing.message.clone(), missing.hint.clone()),
                None => {
                    self.asked.files.insert(path.to_string());
                    (format!("there is no file `{shown}` in the project's folder"), None)
                }
            };
            let code = if sources.missing.get(path).is_some_and(|missing| missing.outside) { "E053" } else { "E052" };
            self.reader.error(at, code, message, hint);
            return None;
        };
        let size: usize = sources.text.len() + sources.composition.files.values().map(String::len).sum::<usize>();
        if size > node::MAX_BYTES {
            let message = format!("the files of the testbed are larger than {} MiB together", node::MAX_BYTES >> 20);
            self.reader.error(at, "E052", message, None);
            return None;
        }
        let lines = node::lines(text).map(str::to_string).collect();
        let number = self.reader.add(&sources.shown(path), lines);
        let parsed = node::parse(text, number, &mut self.budget, self.reader);
        parsed.map(|node| self.expanded(node, text))
    }

    /// The node of a text with the values of variables in their places.
    fn expanded(&mut self, mut node: Node, text: &str) -> Node {
        // A `$` may also be written as an escape.
        if text.contains(['$', '\\']) {
            self.expand(&mut node);
        }
        node
    }

    fn expand(&mut self, node: &mut Node) {
        match &mut node.value {
            Value::Scalar { text, plain } if text.contains('$') => {
                let written = std::mem::take(text);
                let found = variables::expand(&written, self.room, &mut |name| self.value_of(name));
                match found {
                    Ok(expanded) => {
                        self.warn_unset(node.at, &expanded.unset);
                        self.room = self.room.saturating_sub(expanded.text.len());
                        if expanded.substituted {
                            self.reader.substituted(node.at, &written);
                            // What a variable brings is a number or `true` also within quotes, but never `null`.
                            *plain = if expanded.text.is_empty() { *plain } else { !variables::is_null(&expanded.text) };
                        }
                        *text = expanded.text;
                    }
                    Err(fault) => {
                        let at = variables::place(node.at, *plain, &written, &fault, &self.reader.source(node.at));
                        self.reader.error(at, fault.code, fault.message, fault.hint);
                        self.reader.spoil(node.at);
                        *text = written;
                    }
                }
            }
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter_mut().for_each(|item| self.expand(item)),
            Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| self.expand(value)),
        }
    }

    fn value_of(&mut self, name: &str) -> Option<String> {
        match self.sources.composition.variables.get(name) {
            Some(value) => value.clone(),
            None => {
                self.asked.variables.insert(name.to_string());
                None
            }
        }
    }

    fn warn_unset(&mut self, at: Mark, names: &[String]) {
        for name in names {
            if self.unset.insert(name.clone()) {
                let hint = format!("set it, or write `${{{name}:-…}}` with what to use instead, or `$${{{name}}}` for the text itself");
                self.reader.warning(at, "W050", format!("the variable `{name}` is not set; it counts as empty"), Some(hint));
            }
        }
    }
}

/// Two places as one phrase.
fn both(one: &Place, other: &Place) -> String {
    format!("{one} and {other}")
}
