//! Faults of a testbed file, with their places, and how they are drawn.
//!
//! Pure: knows text and places, not files or terminals.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Place, Problem};

/// How many characters of a line are shown.
const SHOWN: usize = 160;

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but something is worth knowing.
    Warning,
}

/// One fault of a testbed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// `E0xx` or `W0xx`, listed in the documentation.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub at: Place,
    /// How many characters the fault covers, for the underline.
    pub width: u32,
    /// The source line, without its line break.
    pub source: String,
    /// What to write instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Diagnostic {
    /// The part of the line that is shown, and the fault's place in it, from 0.
    fn shown(&self) -> (String, usize) {
        let column = (self.at.column.max(1) - 1) as usize;
        let end = column + (self.width as usize).clamp(1, SHOWN / 2);
        // The fault stands near the end of what is shown of a long line, with what comes before it.
        let first = if end < SHOWN { 0 } else { end.saturating_sub(SHOWN * 3 / 4).min(column) };
        let part = self.source.chars().skip(first).take(SHOWN).map(|c| if c.is_control() { ' ' } else { c });
        let mut shown: String = if first > 0 { std::iter::once('…').chain(part.skip(1)).collect() } else { part.collect() };
        if self.source.chars().nth(first + SHOWN).is_some() {
            shown.push('…');
        }
        (shown, column - first)
    }

    /// The fault as a compiler would print it: message, place, source line, underline, hint.
    pub fn render(&self) -> String {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let number = self.at.line.to_string();
        let gutter = " ".repeat(number.len());
        let mut text = format!("{word}[{}]: {}\n{gutter}--> {}\n", self.code, self.message, self.at);
        if !self.source.is_empty() {
            let (shown, column) = self.shown();
            let carets = "^".repeat((self.width.max(1) as usize).min(shown.chars().count().saturating_sub(column)).max(1));
            if column <= shown.chars().count() {
                text.push_str(&format!("{gutter} |\n{number} | {shown}\n{gutter} | {}{carets}\n", " ".repeat(column)));
            }
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("{gutter} = hint: {hint}\n"));
        }
        text
    }
}

/// All faults of a file as one problem, or nothing when there is no error among them.
pub fn problem_of(file: &str, diagnostics: Vec<Diagnostic>) -> Option<Problem> {
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    let first = diagnostics.iter().find(|d| d.severity == Severity::Error)?;
    let (at, hint) = (first.at.clone(), first.hint.clone());
    let message = if diagnostics.iter().any(|d| d.code == "E009") {
        format!("`{file}` has more than {} faults", errors - 1)
    } else if errors == 1 {
        format!("`{}`: {}", first.at.file, first.message)
    } else {
        format!("`{file}` has {errors} faults")
    };
    let all = |fits: fn(&Diagnostic) -> bool| diagnostics.iter().filter(|d| d.severity == Severity::Error).all(fits);
    let code = if all(|d| d.code == "E090") {
        Code::Unsupported
    } else if all(|d| d.code.starts_with("E07")) {
        // The file itself is right; what it names is not there.
        Code::ImageMissing
    } else {
        Code::InvalidFile
    };
    Some(Problem { code, message, hint, causes: Vec::new(), at: Some(at), diagnostics })
}
