//! The decoder's toolkit: typed access to nodes that reports every fault and goes on.
//!
//! Pure. Knows nodes and faults, not the keys of the language.

use std::collections::{BTreeMap, BTreeSet};

use super::node::{self, Mark, Node, Value};
use crate::{
    diagnostic::{Diagnostic, Severity},
    error::{Place, Problem},
    names::printable,
};

pub use super::{
    fields::Fields,
    hints::{Guesses, listed, suggestion},
};

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub at: Mark,
}

impl<T: serde::Serialize> serde::Serialize for Spanned<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Spanned<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
    fn inline_schema() -> bool {
        T::inline_schema()
    }
}

/// Collects faults of one testbed, which may consist of several texts.
#[derive(Debug)]
pub struct Reader {
    texts: Vec<Text>,
    errors: Listed,
    warnings: Listed,
    not_yet: Listed,
    /// Values that hold variables, as they are written: what a variable holds may be secret and stands in no message.
    written: BTreeMap<Mark, String>,
    /// Values that were found wrong before they were decoded: one fault each is enough.
    spoilt: BTreeSet<Mark>,
    /// What was said and need not be said again, by code.
    said: BTreeSet<(&'static str, String)>,
    guesses: Guesses,
}

/// A text that faults may stand in.
#[derive(Debug)]
struct Text {
    name: String,
    lines: Vec<String>,
}

impl Text {
    fn place(texts: &[Text], at: Mark) -> Place {
        let file = texts.get(usize::from(at.text)).map(|text| text.name.clone()).unwrap_or_default();
        Place { file, line: at.line, column: at.column }
    }

    fn source(texts: &[Text], at: Mark) -> String {
        let line = texts.get(usize::from(at.text)).and_then(|text| text.lines.get((at.line as usize).saturating_sub(1)));
        line.map(|line| line.chars().take(LONGEST_SOURCE).collect()).unwrap_or_default()
    }
}

/// Faults of one severity: those that are listed, and how many came after.
#[derive(Debug, Default)]
struct Listed {
    diagnostics: Vec<(Mark, Diagnostic)>,
    more: usize,
}

/// What to do about a wrong value that variables brought; `written` is how the value stands in the file.
fn look_at_variable(written: &str, what: &str) -> String {
    let shown = printable(written);
    format!("{what}; look at what `{shown}` brings: `testbed` takes variables from its environment, then from the project's `.env`")
}

/// The most errors, and the most warnings, of one file that are reported; more help nobody.
const MAX_FAULTS: usize = 200;

/// How much of a line goes with a fault, in characters: a file may be one line of 2 MiB.
pub const LONGEST_SOURCE: usize = 2000;

/// How many lines of a text are looked at for the place of a fault in it.
const MOST_LINES: usize = 100;

/// The code of a warning of what `up` refuses.
pub const NOT_YET: &str = "W020";

impl Reader {
    /// A reader of `text`; `file` is its name for messages. Its marks have the number 0.
    pub fn new(file: &str, text: &str) -> Self {
        let mut reader = Reader {
            texts: Vec::new(),
            errors: Listed::default(),
            warnings: Listed::default(),
            not_yet: Listed::default(),
            written: BTreeMap::new(),
            spoilt: BTreeSet::new(),
            said: BTreeSet::new(),
            guesses: Guesses::default(),
        };
        reader.add(file, node::lines(text).map(str::to_string).collect());
        reader
    }

    /// One more text; returns its number for marks.
    pub fn add(&mut self, name: &str, lines: Vec<String>) -> u16 {
        self.texts.push(Text { name: name.to_string(), lines });
        u16::try_from(self.texts.len() - 1).unwrap_or(u16::MAX)
    }

    /// The text's name and a mark as a place.
    pub fn place(&self, at: Mark) -> Place {
        Text::place(&self.texts, at)
    }

    /// The line a mark stands on.
    pub fn source(&self, at: Mark) -> String {
        Text::source(&self.texts, at)
    }

    /// The lines on which a text goes on that begins at a mark: those below that are indented further, or as far when the text
    /// begins its line, as that of a block does.
    pub fn going_on(&self, at: Mark) -> Vec<String> {
        let lines = self.texts.get(usize::from(at.text)).map(|text| text.lines.as_slice()).unwrap_or_default();
        let indent = |line: &str| line.chars().take_while(|c| *c == ' ').count();
        let start = at.line as usize;
        let Some(own) = start.checked_sub(1).and_then(|index| lines.get(index)).map(|line| indent(line)) else { return Vec::new() };
        let least = if at.column as usize == own + 1 { own } else { own + 1 };
        let below = lines.iter().skip(start).take(MOST_LINES).take_while(|line| line.trim().is_empty() || indent(line) >= least);
        below.map(|line| line.chars().take(LONGEST_SOURCE).collect()).collect()
    }

    /// Takes note that the value here was made from variables, and how it is written.
    pub fn substituted(&mut self, at: Mark, written: &str) {
        self.written.insert(at, written.to_string());
    }

    /// Takes note that the value here is known to be wrong.
    pub fn spoil(&mut self, at: Mark) {
        self.spoilt.insert(at);
    }

    /// A value as messages show it: the variables in it by name only.
    pub fn shown(&self, node: &Node) -> String {
        match (self.written.get(&node.at), node.text()) {
            (Some(written), _) => printable(written),
            (None, text) => printable(text.unwrap_or_default()),
        }
    }

    /// Reports an error.
    pub fn error(&mut self, at: Mark, code: &str, message: String, hint: Option<String>) {
        self.report(Severity::Error, at, code, message, |_| hint);
    }

    /// Reports an error whose hint takes time to find: it is asked for when the error is listed.
    pub fn error_with(&mut self, at: Mark, code: &str, message: String, hint: impl FnOnce(&mut Guesses) -> Option<String>) {
        self.report(Severity::Error, at, code, message, hint);
    }

    /// Reports a warning.
    pub fn warning(&mut self, at: Mark, code: &str, message: String, hint: Option<String>) {
        self.report(Severity::Warning, at, code, message, |_| hint);
    }

    /// Reports a warning whose hint takes time to find.
    pub fn warning_with(&mut self, at: Mark, code: &str, message: String, hint: impl FnOnce(&mut Guesses) -> Option<String>) {
        self.report(Severity::Warning, at, code, message, hint);
    }

    /// Reports a key that the file may have and that this version cannot act on: `up` refuses what is warned of here. They
    /// are listed apart, so that other warnings never hide them.
    pub fn not_yet(&mut self, at: Mark, message: String) {
        let hint = Some("`up` refuses it; `validate`, `config`, `plan --offline` and `graph` take it".to_string());
        self.report(Severity::Warning, at, NOT_YET, message, |_| hint);
    }

    fn report(&mut self, severity: Severity, at: Mark, code: &str, message: String, hint: impl FnOnce(&mut Guesses) -> Option<String>) {
        if self.spoilt.contains(&at) {
            return;
        }
        let said_for = if severity == Severity::Error { &self.errors } else { &self.warnings };
        // What two things share is said once.
        if said_for.diagnostics.iter().any(|(mark, fault)| *mark == at && fault.message == message) {
            return;
        }
        let listed = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning if code == NOT_YET => &mut self.not_yet,
            Severity::Warning => &mut self.warnings,
        };
        if listed.diagnostics.len() >= MAX_FAULTS {
            listed.more += 1;
            return;
        }
        let hint = hint(&mut self.guesses);
        let (place, source) = (Text::place(&self.texts, at), Text::source(&self.texts, at));
        let fault = Diagnostic { severity, code: code.to_string(), message, at: place, width: at.width, source, hint };
        listed.diagnostics.push((at, fault));
    }

    /// Takes back an error that was reported and that another one explains.
    pub fn withdraw(&mut self, at: Mark, message: &str) {
        if self.spoilt.contains(&at) {
            return;
        }
        let listed = &mut self.errors.diagnostics;
        match listed.iter().rposition(|(mark, fault)| *mark == at && fault.message == message) {
            Some(index) => drop(listed.remove(index)),
            None => self.errors.more = self.errors.more.saturating_sub(1),
        }
    }

    /// True the first time that it is asked about something; for what is worth saying once.
    pub fn first(&mut self, code: &'static str, what: &str) -> bool {
        self.said.insert((code, what.to_string()))
    }

    /// True when no more errors are listed: finding out what is wrong in detail is not worth the time.
    pub fn is_full(&self) -> bool {
        self.errors.diagnostics.len() >= MAX_FAULTS
    }

    /// True when an error was reported.
    pub fn failed(&self) -> bool {
        !self.errors.diagnostics.is_empty()
    }

    /// All faults, by place: those of the testbed file first.
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        let mut all: Vec<(Mark, Diagnostic)> = [self.errors.diagnostics, self.warnings.diagnostics, self.not_yet.diagnostics].concat();
        all.sort_by(|(a, one), (b, other)| (a.text, a.line, a.column, &one.code).cmp(&(b.text, b.line, b.column, &other.code)));
        let mut all: Vec<Diagnostic> = all.into_iter().map(|(_, fault)| fault).collect();
        let Some(last) = all.last().cloned() else { return all };
        let cut = [
            (Severity::Error, self.errors.more, "E009", "faults", Some("mend these first".to_string())),
            (Severity::Warning, self.warnings.more + self.not_yet.more, "W009", "warnings", None),
        ];
        for (severity, more, code, word, hint) in cut.into_iter().filter(|(_, more, ..)| *more > 0) {
            let message = format!("{more} more {word} are not listed");
            all.push(Diagnostic { severity, code: code.to_string(), message, hint, ..last.clone() });
        }
        all
    }

    /// A map's fields, or a fault.
    pub fn fields<'a>(&mut self, node: &'a Node, what: &str) -> Option<Fields<'a>> {
        match &node.value {
            Value::Map(entries) => {
                Some(Fields { entries, at: node.at, what: what.to_string(), known: Vec::new(), said: BTreeSet::new(), missed: Vec::new() })
            }
            _ => {
                self.wrong_type(node, &format!("{what} must be a map of keys and values"));
                None
            }
        }
    }

    /// A list's items, or a fault.
    pub fn list<'a>(&mut self, node: &'a Node, what: &str) -> Option<&'a [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            _ => {
                self.wrong_type(node, &format!("{what} must be a list"));
                None
            }
        }
    }

    /// A single value's text, or a fault. `~` is not a text.
    pub fn text(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        match node.text() {
            Some(text) if text.contains('\0') => {
                let hint = Some("take the NUL out: neither programs nor files can be given one".to_string());
                self.error(node.at, "E010", format!("{what} holds the character NUL"), hint);
                None
            }
            Some(text) if !node.is_null() => Some(Spanned { value: text.to_string(), at: node.at }),
            _ => {
                self.wrong_type(node, &format!("{what} must be a text"));
                None
            }
        }
    }

    /// A whole number within bounds, or a fault.
    pub fn integer(&mut self, node: &Node, what: &str, from: u64, to: u64) -> Option<Spanned<u64>> {
        let plain = matches!(&node.value, Value::Scalar { plain: true, .. });
        match node.text().filter(|_| plain).and_then(|text| text.replace('_', "").parse::<i128>().ok()) {
            Some(number) if (i128::from(from)..=i128::from(to)).contains(&number) => Some(Spanned { value: number as u64, at: node.at }),
            Some(_) => {
                let hint = self.with_variable(node, format!("use a number from {from} to {to}"));
                self.error(node.at, "E006", format!("{what} is {}, which is out of range", self.shown(node)), Some(hint));
                None
            }
            None => {
                self.wrong_type(node, &format!("{what} must be a whole number"));
                None
            }
        }
    }

    /// A number within bounds, or a fault.
    pub fn number(&mut self, node: &Node, what: &str, from: f64, to: f64) -> Option<Spanned<f64>> {
        let plain = matches!(&node.value, Value::Scalar { plain: true, .. });
        match node.text().filter(|_| plain).and_then(|text| text.parse::<f64>().ok()).filter(|number| number.is_finite()) {
            Some(number) if (from..=to).contains(&number) => Some(Spanned { value: number, at: node.at }),
            Some(_) => {
                let hint = self.with_variable(node, format!("use a number from {from} to {to}"));
                self.error(node.at, "E006", format!("{what} is {}, which is out of range", self.shown(node)), Some(hint));
                None
            }
            None => {
                self.wrong_type(node, &format!("{what} must be a number"));
                None
            }
        }
    }

    /// `true` or `false`, or a fault.
    pub fn boolean(&mut self, node: &Node, what: &str) -> Option<Spanned<bool>> {
        match &node.value {
            Value::Scalar { text, plain: true } if matches!(text.as_str(), "true" | "True" | "TRUE") => {
                Some(Spanned { value: true, at: node.at })
            }
            Value::Scalar { text, plain: true } if matches!(text.as_str(), "false" | "False" | "FALSE") => {
                Some(Spanned { value: false, at: node.at })
            }
            _ => {
                self.wrong_type(node, &format!("{what} must be `true` or `false`"));
                None
            }
        }
    }

    /// One of a few words, or a fault with a suggestion.
    pub fn word<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&str, T)]) -> Option<Spanned<T>> {
        let text = self.text(node, what)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(Spanned { value: *value, at: node.at });
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let words = || format!("use one of: {}", names.join(", "));
        // What was meant may say what the variable holds.
        let hint = if self.written.contains_key(&node.at) { None } else { suggestion(&text.value, &names) };
        let hint = self.with_variable(node, hint.unwrap_or_else(words));
        self.error(node.at, "E006", format!("{what} cannot be `{}`", self.shown(node)), Some(hint));
        None
    }

    /// A text that a parser accepts, or the parser's own words as a fault.
    pub fn parsed<T>(&mut self, node: &Node, what: &str, code: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Spanned<T>> {
        let text = self.text(node, what)?;
        match parse(&text.value) {
            Ok(value) => Some(Spanned { value, at: node.at }),
            Err(hint) => {
                let shown = self.shown(node);
                // A hint may repeat the value.
                let hint = if self.written.contains_key(&node.at) {
                    self.with_variable(node, "it is not as it must be".to_string())
                } else {
                    hint
                };
                self.error(node.at, code, format!("{what} cannot be `{shown}`"), Some(hint));
                None
            }
        }
    }

    /// A name, or a fault with the rule.
    pub fn name<T: std::str::FromStr<Err = Problem>>(&mut self, node: &Node, what: &str) -> Option<Spanned<T>> {
        let text = self.text(node, what)?;
        match text.value.parse::<T>() {
            Ok(value) => Some(Spanned { value, at: node.at }),
            Err(problem) => {
                let message = match self.written.get(&node.at) {
                    Some(written) => format!("{what} cannot be `{}`", printable(written)),
                    None => problem.message,
                };
                self.error(node.at, "E010", message, problem.hint);
                None
            }
        }
    }

    /// A map of texts, or faults.
    pub fn text_map(&mut self, node: &Node, what: &str) -> BTreeMap<String, Spanned<String>> {
        let Some(fields) = self.fields(node, what) else { return BTreeMap::new() };
        let mut map = BTreeMap::new();
        for (key, value) in fields.entries {
            let Some(key) = self.text(key, &format!("a key of {what}")) else { continue };
            // An empty value is an empty text here: variables may be empty.
            let value = if value.is_null() {
                Some(Spanned { value: String::new(), at: value.at })
            } else {
                self.text(value, &format!("`{}` in {what}", printable(&key.value)))
            };
            if let Some(value) = value {
                map.insert(key.value, value);
            }
        }
        map
    }

    fn wrong_type(&mut self, node: &Node, message: &str) {
        let found = match node.text() {
            // What is wrong with "2" are its quotes.
            Some(_) if !node.is_null() && matches!(node.value, Value::Scalar { plain: false, .. }) => format!("`\"{}\"`", self.shown(node)),
            Some(_) if !node.is_null() => format!("`{}`", self.shown(node)),
            _ => node.kind().to_string(),
        };
        let hint = match message {
            _ if message.ends_with("a whole number") => "write digits, without quotes and without a unit, such as 2",
            _ if message.ends_with("a number") => "write digits, without quotes and without a unit, such as 2.5",
            _ if message.ends_with("`false`") => "write `true` or `false`, without quotes",
            _ if message.ends_with("a list") => "begin each item with `- ` on a line of its own",
            _ if message.ends_with("keys and values") => "write `key: value` lines below it, indented further",
            _ => "write a single value after the colon",
        };
        let hint = self.with_variable(node, hint.to_string());
        self.error(node.at, "E005", format!("{message}, but here is {found}"), Some(hint));
    }

    /// A hint, and where the value comes from when variables brought it.
    fn with_variable(&self, node: &Node, hint: String) -> String {
        match self.written.get(&node.at) {
            Some(written) => look_at_variable(written, &hint),
            None => hint,
        }
    }
}
