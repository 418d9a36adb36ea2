//! Faults of a testbed file, with their places, and how they are drawn.
//!
//! Pure: knows text and places, not files or terminals.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Place, Problem};

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
            let shown: String = self.source.chars().take(160).map(|c| if c.is_control() { ' ' } else { c }).collect();
            let column = (self.at.column.max(1) - 1) as usize;
            let carets = "^".repeat((self.width.max(1) as usize).min(shown.chars().count().saturating_sub(column)).max(1));
            if column < 160 {
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
