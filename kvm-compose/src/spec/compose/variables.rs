//! `${NAME}` and its forms in a text (Compose's interpolation).
//!
//! Pure. Only the form with braces is a variable: `$NAME` is an address set in an OVN match and a shell's variable in a
//! command, and stays as it is. `${PWD}` stays too: it is the project's folder, which is known where the path is used.

use crate::{
    names::{is_variable, printable},
    spec::node::Mark,
};

/// How deep `${A:-${B:-…}}` may nest.
const DEEPEST: usize = 8;

/// A text with its variables replaced.
#[derive(Debug, PartialEq)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// True when a variable was looked at.
    pub substituted: bool,
    /// Variables that count as empty because they are not set.
    pub unset: Vec<String>,
}

/// What is wrong with a variable.
#[derive(Debug, PartialEq)]
pub struct Fault {
    /// E050: malformed; E051: it must be set and is not.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Where in the text it starts, in characters, and how many it covers.
    pub span: (usize, usize),
}

/// True for texts that YAML reads as nothing.
pub fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Replaces the variables of a text. `room` is how many bytes it may have then.
pub fn expand(text: &str, room: usize, value_of: &mut dyn FnMut(&str) -> Option<String>) -> Result<Expanded, Fault> {
    let mut expander = Expander { value_of, room, substituted: false, unset: Vec::new() };
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('$') {
        expanded.push_str(&rest[..start]);
        let found = &rest[start..];
        let taken = expander.dollar(found, 0, &mut expanded).map_err(|fault| {
            let before = text.len() - found.len();
            fault.at(text[..before].chars().count())
        })?;
        rest = &found[taken..];
    }
    expanded.push_str(rest);
    expander.check_room(&expanded).map_err(|fault| fault.at(0))?;
    Ok(Expanded { text: expanded, substituted: expander.substituted, unset: expander.unset })
}

/// The place of a fault in a value: within it when it stands on one line as it is written, or else the value itself.
pub fn place(at: Mark, plain: bool, written: &str, fault: &Fault, source: &str) -> Mark {
    let start = at.column as usize - 1 + usize::from(!plain) + fault.span.0;
    let there: String = source.chars().skip(start).take(2).collect();
    let same: String = written.chars().skip(fault.span.0).take(2).collect();
    if there == same && there == "${" {
        return Mark { column: start as u32 + 1, width: fault.span.1.max(1) as u32, ..at };
    }
    at
}

/// A fault whose place within the text is not known yet.
struct Wrong {
    code: &'static str,
    message: String,
    hint: Option<String>,
    width: usize,
}

impl Wrong {
    fn at(self, start: usize) -> Fault {
        Fault { code: self.code, message: self.message, hint: self.hint, span: (start, self.width) }
    }
}

fn malformed(text: &str, why: &str) -> Wrong {
    let shown: String = text.chars().take(40).collect();
    let hint = format!("write `${{NAME}}` or `${{NAME:-default}}`, or `$${}` for the text itself", "{");
    Wrong {
        code: "E050",
        message: format!("`{}` is no variable: {why}", printable(&shown)),
        hint: Some(hint),
        width: shown.chars().count(),
    }
}

struct Expander<'a> {
    value_of: &'a mut dyn FnMut(&str) -> Option<String>,
    room: usize,
    substituted: bool,
    unset: Vec<String>,
}

impl Expander<'_> {
    /// What stands at a `$`: appends what it means, returns how many bytes it takes.
    fn dollar(&mut self, text: &str, depth: usize, expanded: &mut String) -> Result<usize, Wrong> {
        if text.starts_with("$$") {
            expanded.push('$');
            return Ok(2);
        }
        if !text.starts_with("${") {
            expanded.push('$');
            return Ok(1);
        }
        let end = closing(text).ok_or_else(|| malformed(text, "its `}` is missing"))?;
        let whole = &text[..=end];
        if depth >= DEEPEST {
            return Err(malformed(whole, &format!("variables nest deeper than {DEEPEST}")));
        }
        let inner = &text[2..end];
        let length = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
        let (name, rest) = inner.split_at(length);
        if !is_variable(name) {
            return Err(malformed(whole, "a name has letters, digits and `_`, and does not start with a digit"));
        }
        let alone = rest.is_empty() || (rest.starts_with(['-', ':', '?']) && !rest.starts_with(":+"));
        if name == "PWD" && alone {
            expanded.push_str("${PWD}");
            return Ok(end + 1);
        }
        self.substituted = true;
        let value = if name == "PWD" { Some(String::from("${PWD}")) } else { (self.value_of)(name) };
        let (empty_counts, operator, word) =
            operator(rest).ok_or_else(|| malformed(whole, "after the name come `-`, `:-`, `+`, `:+`, `?`, `:?` or `}`"))?;
        let value = value.filter(|value| !(empty_counts && value.is_empty()));
        match (operator, value) {
            (None, None) => self.unset.push(name.to_string()),
            (Some('+'), Some(_)) | (Some('-'), None) => self.word(word, depth, expanded)?,
            (Some('+'), None) => {}
            (Some('?'), None) => {
                let mut why = String::new();
                self.word(word, depth, &mut why)?;
                let state = if empty_counts { "is not set or empty" } else { "is not set" };
                let message = if why.is_empty() { format!("`{name}` {state}") } else { format!("`{name}` {state}: {}", printable(&why)) };
                let hint = Some(format!("set it in the environment of `testbed` or in the project's `.env`: `{name}=…`"));
                return Err(Wrong { code: "E051", message, hint, width: whole.chars().count() });
            }
            (_, Some(value)) => expanded.push_str(&value),
            (Some(_), None) => {}
        }
        self.check_room(expanded)?;
        Ok(end + 1)
    }

    /// The text after an operator, which may hold variables itself.
    fn word(&mut self, text: &str, depth: usize, expanded: &mut String) -> Result<(), Wrong> {
        let mut rest = text;
        while let Some(start) = rest.find('$') {
            expanded.push_str(&rest[..start]);
            let taken = self.dollar(&rest[start..], depth + 1, expanded)?;
            rest = &rest[start + taken..];
        }
        expanded.push_str(rest);
        Ok(())
    }

    fn check_room(&self, expanded: &str) -> Result<(), Wrong> {
        if expanded.len() <= self.room {
            return Ok(());
        }
        let message = format!("variables bring more than {} MiB", crate::spec::node::MAX_BYTES >> 20);
        Err(Wrong { code: "E050", message, hint: None, width: 1 })
    }
}

/// Whether an empty variable counts as not set, the operator, and what follows it.
fn operator(rest: &str) -> Option<(bool, Option<char>, &str)> {
    if rest.is_empty() {
        return Some((false, None, ""));
    }
    let (empty_counts, rest) = rest.strip_prefix(':').map_or((false, rest), |rest| (true, rest));
    let operator = rest.chars().next().filter(|operator| "-+?".contains(*operator))?;
    Some((empty_counts, Some(operator), &rest[1..]))
}

/// Where the `}` of a `${` at the start of the text stands.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'$', Some(b'$')) => at += 1,
            (b'$', Some(b'{')) => {
                depth += 1;
                at += 1;
            }
            (b'}', _) if depth <= 1 => return Some(at),
            (b'}', _) => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}
