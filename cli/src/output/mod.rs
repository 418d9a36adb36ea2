//! What the command prints: text, JSON, or JSON lines. Results go to standard output, all else to standard error.

pub mod junit;
pub mod problem;
pub mod table;
pub mod yaml;

use std::{
    cell::Cell,
    io::{self, Write},
};

use kvm_compose::orchestrate::event::clean;
use serde::Serialize;

use crate::args::Format;

/// Standard output. Once its reader is gone it takes everything and prints nothing: an action is still followed to its
/// end, and its exit status still tells the truth.
pub struct Output {
    pub format: Format,
    /// `--quiet`: results and errors alone.
    pub quiet: bool,
    closed: Cell<bool>,
}

impl Output {
    pub fn new(format: Format) -> Output {
        Output { format, quiet: false, closed: Cell::new(false) }
    }

    /// The same, for people who want results and errors alone.
    pub fn quiet(self, quiet: bool) -> Output {
        Output { quiet, ..self }
    }

    /// True when nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Prints a line and hands it over at once.
    pub fn line(&self, text: &str) {
        self.bytes(format!("{text}\n").as_bytes());
    }

    /// Prints bytes as they are.
    pub fn bytes(&self, bytes: &[u8]) {
        if self.closed.get() {
            return;
        }
        let mut stdout = io::stdout().lock();
        if stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err() {
            self.closed.set(true);
        }
    }

    /// Prints one result: as text made by `text`, or as JSON.
    pub fn result<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) {
        match self.format {
            Format::Text => {
                let text = text(value);
                self.bytes(text.as_bytes());
                if !text.is_empty() && !text.ends_with('\n') {
                    self.bytes(b"\n");
                }
            }
            Format::Json => self.line(&json(value, serde_json::to_string_pretty)),
            Format::Ndjson => self.line(&json(value, serde_json::to_string)),
        }
    }

    /// Prints a list: as text made by `text`, as one JSON array, or one JSON document a line.
    pub fn list<T: Serialize>(&self, values: &[T], text: impl FnOnce(&[T]) -> String) {
        match self.format {
            Format::Ndjson => values.iter().for_each(|value| self.line(&json(value, serde_json::to_string))),
            Format::Text | Format::Json => self.result(&values, |values| text(values)),
        }
    }

    /// Something worth knowing, on standard error.
    pub fn warning(&self, text: &str) {
        match self.format {
            Format::Text => error_line(&format!("warning: {}", clean(text))),
            Format::Json | Format::Ndjson => error_line(&serde_json::json!({ "warning": text }).to_string()),
        }
    }
}

/// Prints a line on standard error. A reader that is gone is no reason to fail.
pub fn error_line(text: &str) {
    error_bytes(format!("{text}\n").as_bytes());
}

/// Prints bytes on standard error.
pub fn error_bytes(bytes: &[u8]) {
    io::stderr().write_all(bytes).unwrap_or_default();
}

/// True when the locale says that the terminal shows UTF-8.
pub fn unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    locale.is_some_and(|locale| locale.to_ascii_lowercase().replace('-', "").contains("utf8"))
}

fn json<T: Serialize>(value: &T, print: impl Fn(&T) -> serde_json::Result<String>) -> String {
    print(value).unwrap_or_else(|error| serde_json::json!({ "error": error.to_string() }).to_string())
}
