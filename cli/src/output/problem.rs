//! How a problem is printed: what, where, why, and what to do.

use std::io::IsTerminal;

use kvm_compose::{diagnostic::Diagnostic, error::Problem, orchestrate::event::clean};

use super::{Output, error_line};
use crate::{
    args::{Format, Global},
    session::no_color,
};

/// Prints a problem on standard error.
pub fn print(global: &Global, problem: &Problem) {
    match global.output {
        Format::Text => {
            let coloured = std::io::stderr().is_terminal() && !global.no_color && !no_color();
            error_line(render(problem, if coloured { Paint::Ansi } else { Paint::None }).trim_end_matches('\n'));
        }
        Format::Json | Format::Ndjson => match serde_json::to_string(problem) {
            Ok(json) => error_line(&json),
            Err(_) => error_line(&problem.message),
        },
    }
}

/// Prints warnings of a testbed file on standard error; not to people who asked for quiet.
pub fn print_warnings(out: &Output, warnings: &[Diagnostic]) {
    if out.quiet && out.format == Format::Text {
        return;
    }
    for warning in warnings {
        match out.format {
            Format::Text => error_line(cleaned(&warning.render()).trim_end_matches('\n')),
            Format::Json | Format::Ndjson => {
                error_line(&serde_json::json!({ "warning": warning.message, "diagnostic": warning }).to_string())
            }
        }
    }
}

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    Ansi,
    None,
}

impl Paint {
    fn word(self, code: &str, word: &str) -> String {
        match self {
            Paint::Ansi => format!("\x1b[{code}m{word}\x1b[0m"),
            Paint::None => word.to_string(),
        }
    }
}

fn render(problem: &Problem, paint: Paint) -> String {
    let faults: Vec<String> = problem.diagnostics.iter().map(|diagnostic| cleaned(&diagnostic.render())).collect();
    let mut text = faults.join("\n");
    // The drawing of a single fault has said everything already.
    if faults.len() == 1 {
        return text;
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&format!("{} {}\n", paint.word("1;31", "error:"), cleaned(&problem.message)));
    if !faults.is_empty() {
        return text;
    }
    if let Some(at) = &problem.at {
        text.push_str(&format!("  at {}\n", clean(&at.to_string())));
    }
    for cause in &problem.causes {
        text.push_str(&format!("  because: {}\n", cleaned(cause)));
    }
    if let Some(hint) = &problem.hint {
        text.push_str(&format!("{} {}\n", paint.word("1;36", "hint:"), cleaned(hint)));
    }
    text
}

/// Takes control characters out, line by line: a guest or a file must not drive the terminal.
fn cleaned(text: &str) -> String {
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use kvm_compose::error::{Code, Place};

    use super::*;

    #[test]
    fn a_problem_says_what_where_why_and_what_to_do() {
        let mut problem =
            Problem::new(Code::Capacity, "guest `web` cannot be placed").cause("needs 8 GiB\x1b[2J").hint("lower `memory_mb`");
        problem.at = Some(Place { file: "kvm-compose.yaml".into(), line: 14, column: 5 });
        assert_eq!(
            render(&problem, Paint::None),
            "error: guest `web` cannot be placed\n  at kvm-compose.yaml:14:5\n  because: needs 8 GiB[2J\nhint: lower `memory_mb`\n"
        );
        assert!(render(&problem, Paint::Ansi).starts_with("\x1b[1;31merror:\x1b[0m guest"));
    }
}
