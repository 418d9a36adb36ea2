//! The keys of a map, as the decoder asks for them.
//!
//! Pure. Knows nodes and faults, not the keys of the language.

use super::{
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
    pub(super) said: Vec<String>,
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
            reader.error(at, "E004", format!("{} needs `{key}`", self.what), Some(format!("add `{key}:`")));
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
        self.misplaced_text(reader, key, hint);
    }

    /// The same for a key that is not known beforehand.
    pub fn misplaced_text(&mut self, reader: &mut Reader, key: &str, hint: &str) {
        if let Some(at) = self.key_at(key) {
            reader.error(at, "E003", format!("{} has no key `{}`", self.what, printable(key)), Some(hint.to_string()));
            self.said.push(key.to_string());
        }
    }

    /// True when there is a key that looks like one of these, or that was said to be misplaced.
    pub fn is_misspelt(&self, keys: &[&str]) -> bool {
        let unknown = self.entries.iter().filter_map(|(key, _)| key.text());
        !self.said.is_empty() || unknown.filter(|key| !keys.contains(key)).any(|key| suggestion(key, keys).is_some())
    }

    /// Entries that nobody asked for yet.
    pub fn unknown(&self) -> impl Iterator<Item = (String, &'a Node)> + '_ {
        let known = |key: &str| self.known.contains(&key) || self.said.iter().any(|said| said == key);
        self.entries.iter().filter_map(move |(key, value)| Some((key.text().filter(|key| !known(key))?.to_string(), value)))
    }

    /// Every entry, for maps whose keys are names.
    pub fn entries(&self) -> &'a [(Node, Node)] {
        self.entries
    }

    /// Reports keys that nobody asked for.
    pub fn finish(self, reader: &mut Reader) {
        for (key, _) in self.entries {
            match key.text() {
                Some(text) if self.known.contains(&text) || self.said.iter().any(|said| said == text) => {}
                Some(_) if reader.is_full() => reader.unlisted(),
                Some(text) => {
                    let hint = suggestion(text, &self.known).unwrap_or_else(|| format!("known keys here: {}", self.known.join(", ")));
                    reader.error(key.at, "E003", format!("{} has no key `{}`", self.what, printable(text)), Some(hint));
                }
                None => reader.error(key.at, "E005", "a key must be a text".to_string(), None),
            }
        }
    }
}

/// "did you mean": the closest known word, when it is close enough.
pub fn suggestion(text: &str, known: &[&str]) -> Option<String> {
    if text.chars().count() > 60 {
        return None;
    }
    let closest = known.iter().map(|word| (strsim::damerau_levenshtein(&text.to_lowercase(), &word.to_lowercase()), *word)).min()?;
    (closest.0 <= 1 + closest.1.chars().count() / 4).then(|| format!("did you mean `{}`?", closest.1))
}
