//! The keys of a map, as the decoder asks for them.
//!
//! Pure. Knows nodes and faults, not the keys of the language.

use std::collections::BTreeSet;

use super::{
    hints::{did_you_mean, suggestion},
    node::{Mark, Node},
    reader::Reader,
};
use crate::names::printable;

/// The keys of a map, each asked for once; what nobody asked for is unknown.
pub struct Fields<'a> {
    pub(super) entries: &'a [(Node, Node)],
    /// Where the map stands.
    pub at: Mark,
    pub(super) what: String,
    pub(super) known: Vec<&'static str>,
    pub(super) said: BTreeSet<String>,
    /// Keys that were missed, and where that was said.
    pub(super) missed: Vec<(&'static str, Mark)>,
}

impl<'a> Fields<'a> {
    /// A key's value; a value of nothing counts as absent.
    pub fn get(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        self.entries.iter().find(|(k, _)| k.text() == Some(key)).map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// Where a key stands.
    pub fn key_at(&self, key: &str) -> Option<Mark> {
        self.entries.iter().find(|(k, _)| k.text() == Some(key)).map(|(k, _)| k.at)
    }

    /// A key's value, or a fault that it is missing.
    pub fn require(&mut self, reader: &mut Reader, key: &'static str) -> Option<&'a Node> {
        let found = self.get(key);
        if found.is_none() {
            let at = self.key_at(key).unwrap_or(self.at);
            reader.error(at, "E004", needs(&self.what, key), Some(format!("add `{key}:`")));
            self.missed.push((key, at));
        }
        found
    }

    /// Keys of the language that this version cannot act on: refused by name, never ignored.
    pub fn refuse(&mut self, reader: &mut Reader, keys: &[&'static str]) {
        for key in keys {
            self.known.push(key);
            if let Some(at) = self.key_at(key) {
                let hint = Some("remove it, or use a version that lists it as supported in docs/yaml.md".to_string());
                reader.error(at, "E090", format!("`{key}` is part of the language, but this version cannot act on it yet"), hint);
            }
        }
    }

    /// The value of a key that may be absent, but not empty.
    pub fn require_if(&mut self, reader: &mut Reader, key: &'static str) -> Option<&'a Node> {
        let at = self.key_at(key);
        let found = self.get(key);
        if let (None, Some(at)) = (found, at) {
            let hint = Some("write its keys below it, indented further".to_string());
            reader.error(at, "E004", format!("`{key}` is empty"), hint);
        }
        found
    }

    /// A key that people write here and that does not stand here: refused with what to write instead.
    pub fn misplaced(&mut self, reader: &mut Reader, key: &'static str, hint: &str) {
        if let Some(at) = self.key_at(key) {
            self.misplaced_at(reader, at, key, hint.to_string());
        }
    }

    /// The same for a key that is not known beforehand and stands there.
    pub fn misplaced_at(&mut self, reader: &mut Reader, at: Mark, key: &str, hint: String) {
        reader.error(at, "E003", format!("{} has no key `{}`", self.what, printable(key)), Some(hint));
        self.said.insert(key.to_string());
    }

    /// True when there is a key that looks like one of these, or that was said to be misplaced.
    pub fn is_misspelt(&self, keys: &[&str]) -> bool {
        let unknown = self.entries.iter().filter_map(|(key, _)| key.text());
        !self.said.is_empty() || unknown.filter(|key| !keys.contains(key)).any(|key| suggestion(key, keys).is_some())
    }

    /// Entries that nobody asked for yet.
    pub fn unknown(&self) -> impl Iterator<Item = (&'a Node, &'a Node)> + '_ {
        let known = |key: &str| self.known.contains(&key) || self.said.contains(key);
        self.entries.iter().filter(move |(key, _)| key.text().is_some_and(|key| !known(key))).map(|(key, value)| (key, value))
    }

    /// Takes note of keys that are asked for elsewhere.
    pub fn also(&mut self, keys: &[&'static str]) {
        self.known.extend(keys);
    }

    /// Leaves out what people put in a place of their own, as in Compose files: keys that begin with `x-`.
    pub fn own_words(&mut self) {
        let own = self.entries.iter().filter_map(|(key, _)| key.text()).filter(|key| key.starts_with("x-"));
        self.said.extend(own.map(str::to_string));
    }

    /// Every entry, for maps whose keys are names.
    pub fn entries(&self) -> &'a [(Node, Node)] {
        self.entries
    }

    /// The keys that were asked for, each once.
    fn listed(&self) -> String {
        let mut seen = BTreeSet::new();
        self.known.iter().filter(|key| seen.insert(**key)).copied().collect::<Vec<_>>().join(", ")
    }

    /// Reports keys that nobody asked for.
    pub fn finish(self, reader: &mut Reader) {
        for (key, _) in self.entries {
            match key.text() {
                Some(text) if self.known.contains(&text) || self.said.contains(text) => {}
                Some(text) => {
                    let meant = suggestion(text, &self.known);
                    // One fault, not two: what was written as `swich` is no missing `switch`.
                    for (key, at) in self.missed.iter().filter(|(key, _)| meant.as_deref() == Some(&did_you_mean(key))) {
                        reader.withdraw(*at, &needs(&self.what, key));
                    }
                    let hint = || meant.unwrap_or_else(|| format!("known keys here: {}", self.listed()));
                    reader.error_with(key.at, "E003", format!("{} has no key `{}`", self.what, printable(text)), |_| Some(hint()));
                }
                None => reader.error(key.at, "E005", "a key must be a text".to_string(), None),
            }
        }
    }
}

fn needs(what: &str, key: &str) -> String {
    format!("{what} needs `{key}`")
}
