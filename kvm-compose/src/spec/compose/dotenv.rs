//! The project's `.env`: variables, one a line, in the form that Compose reads.
//!
//! Pure. `KEY=value`, `export KEY=value`, `#` comments; in `'…'` everything stands for itself, in `"…"` and without quotes
//! `${NAME}` is replaced. Values are secrets: no fault repeats one.

use std::collections::BTreeMap;

use super::variables;
use crate::{
    names::{VARIABLE_RULE, is_variable, printable},
    spec::node::MAX_BYTES,
};

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// The variables of an `.env`, the last of a name counting, and the faults of its lines. What is in the environment goes
/// before what is above in the file.
pub fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> (BTreeMap<String, String>, Vec<Fault>) {
    let (mut values, mut faults) = (BTreeMap::new(), Vec::new());
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut rest, mut line, mut room) = (text, 1, MAX_BYTES);
    while !rest.is_empty() {
        let end = rest.find('\n').unwrap_or(rest.len());
        let entry = entry(rest, end, room, &|name| environment(name).or_else(|| values.get(name).cloned()));
        let taken = match entry {
            Ok(Entry { named, taken }) => {
                if let Some((name, value)) = named {
                    room = room.saturating_sub(value.len());
                    values.insert(name.to_string(), value);
                }
                taken
            }
            Err((message, hint)) => {
                faults.push(Fault { line, message, hint: hint.to_string() });
                end
            }
        };
        let taken = (taken + 1).min(rest.len());
        line += rest[..taken].matches('\n').count() as u32;
        rest = &rest[taken..];
    }
    (values, faults)
}

/// A line, or several when a quoted value goes over them.
struct Entry<'a> {
    named: Option<(&'a str, String)>,
    /// How many bytes, without the line break at its end.
    taken: usize,
}

type Wrong = (String, &'static str);

fn entry<'a>(text: &'a str, end: usize, room: usize, value_of: &dyn Fn(&str) -> Option<String>) -> Result<Entry<'a>, Wrong> {
    let line = &text[..end];
    let plain = line.trim();
    if plain.is_empty() || plain.starts_with('#') {
        return Ok(Entry { named: None, taken: end });
    }
    let (name, after) = match line.split_once('=') {
        Some((name, _)) => (name, name.len() + 1),
        // A name alone: the environment has it or nobody does.
        None => (line, end),
    };
    let name = name.trim();
    let name = name.strip_prefix("export ").unwrap_or(name).trim();
    if !is_variable(name) {
        let shown: String = name.chars().take(40).collect();
        return Err((format!("`{}` is not a variable's name", printable(&shown)), VARIABLE_RULE));
    }
    let start = after + text[after..end].len() - text[after..end].trim_start().len();
    let value = &text[start..];
    let (written, taken, expands) = match value.chars().next().filter(|_| start < end) {
        Some(quote @ ('"' | '\'')) => {
            let close = closing(&value[1..], quote).ok_or((format!("the value of `{name}` has no closing {quote}"), "close the quote"))?;
            let after = start + close + 2;
            let end = after + text[after..].find('\n').unwrap_or(text.len() - after);
            let trailing = text[after..end].trim();
            if !trailing.is_empty() && !trailing.starts_with('#') {
                return Err((format!("something follows the closing quote of `{name}`"), "put all of the value within the quotes"));
            }
            let inner = &value[1..=close];
            (if quote == '"' { unescaped(inner) } else { inner.to_string() }, end, quote == '"')
        }
        _ => {
            let value = &text[start..end];
            let cut = value.find(" #").or_else(|| value.starts_with('#').then_some(0)).unwrap_or(value.len());
            (value[..cut].trim_end().to_string(), end, true)
        }
    };
    let value = match expands {
        false => written,
        true => {
            let expanded = variables::expand(&written, room, &mut |name| value_of(name));
            let wrong = |fault: variables::Fault| (format!("the value of `{name}`: {}", why(fault)), "write `$${` for the text itself");
            expanded.map_err(wrong)?.text
        }
    };
    Ok(Entry { named: (after <= end && line.contains('=')).then_some((name, value)), taken })
}

/// A malformed variable's message repeats a part of the value.
fn why(fault: variables::Fault) -> String {
    if fault.code == "E050" { "a `${` in it is no variable".to_string() } else { fault.message }
}

/// Where a quote is closed; a `\` hides a double one.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut hidden = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if hidden => hidden = false,
            '\\' if quote == '"' => hidden = true,
            c if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

/// The text within double quotes; `\$` becomes what the replacing of variables takes for a `$`.
fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => plain.push('\n'),
            ('\\', Some('r')) => plain.push('\r'),
            ('\\', Some('t')) => plain.push('\t'),
            ('\\', Some('$')) => plain.push_str("$$"),
            ('\\', Some(c @ ('\\' | '"'))) => plain.push(c),
            ('\\', Some(other)) => plain.extend(['\\', other]),
            (c, _) => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<(String, String)>, Vec<u32>) {
        let (values, faults) = parse(text, &|name| (name == "HOME").then(|| "/home/me".to_string()));
        (values.into_iter().collect(), faults.into_iter().map(|fault| fault.line).collect())
    }

    #[test]
    fn each_form_of_a_line() {
        for (text, value) in [
            ("A=b", "b"),
            ("  export A = b  \r\n", "b"),
            ("A=", ""),
            ("A=b # c", "b"),
            ("A=# c", ""),
            ("A=b#c", "b#c"),
            ("A='b # $x ${y}' # c", "b # $x ${y}"),
            (r#"A="b\n\"\$x\\ ${HOME}""#, "b\n\"$x\\ /home/me"),
            ("A=${HOME}/x", "/home/me/x"),
            ("A=${B:-c}", "c"),
            ("A='b\nc'", "b\nc"),
            ("A=1\nA=2", "2"),
            ("\u{feff}# c\n\nA=b=c", "b=c"),
            ("A=é ü", "é ü"),
        ] {
            assert_eq!(read(text), (vec![("A".to_string(), value.to_string())], vec![]), "{text}");
        }
        assert_eq!(read("A=1\nB=${A}2").0[1].1, "12");
        assert_eq!(read("A\n# x\n"), (vec![], vec![]));
    }

    #[test]
    fn a_fault_has_its_line_and_no_value() {
        let text = "A=1\n1B=secret\nC='secret\n";
        let (values, faults) = parse(text, &|_| None);
        assert_eq!(values.len(), 1);
        assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(read("A=${").1, [1]);
        assert_eq!(read("A='x' y").1, [1]);
        for fault in parse("A=1\n1B=secret\nC='secret\nD=${secret\nE=\"x\" secret", &|_| None).1 {
            assert!(!fault.message.contains("secret"), "{fault:?}");
        }
    }
}
