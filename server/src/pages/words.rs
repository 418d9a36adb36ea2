//! How times, spans and states are said on a page. A state is told by a word and a shape, never by colour alone.

use chrono::{DateTime, Utc};
use kvm_compose::{
    api::{ActionState, OperationSummary, Phase, RunState},
    error::Code,
};
use serde::Serialize;

/// A state as a mark: the class gives colour and shape, the word says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// `good`, `busy`, `bad`, `half`, `idle` or `unsure`.
    pub class: &'static str,
    /// In words.
    pub word: String,
}

fn mark(class: &'static str, word: impl Into<String>) -> Mark {
    Mark { class, word: word.into() }
}

/// A deployment's state.
pub fn deployment(state: RunState, phase: Phase, failed: Option<kvm_compose::api::Command>) -> Mark {
    match (state, phase) {
        (RunState::Running, _) => mark("busy", "working"),
        (RunState::Failed, _) => mark("bad", failed.map_or("failed".to_string(), |command| format!("{command} failed"))),
        (RunState::Up, Phase::Partial) => mark("half", "partly up"),
        (_, Phase::Unknown) => mark("unsure", "unknown"),
        (RunState::Up, _) => mark("good", "up"),
        (RunState::Down, _) => mark("idle", "down"),
    }
}

/// An action's state.
pub fn action(state: ActionState) -> Mark {
    let class = match state {
        ActionState::Running => "busy",
        ActionState::Succeeded => "good",
        ActionState::Failed => "bad",
        ActionState::Cancelled => "idle",
        ActionState::Interrupted => "half",
    };
    mark(class, state.to_string())
}

/// An action in a line: `up succeeded`.
pub fn last_action(last: Option<&OperationSummary>) -> String {
    last.map_or_else(String::new, |last| format!("{} {}", last.command, last.state))
}

/// The name of an error code's number; nothing for success.
pub fn error_code(number: Option<u16>) -> String {
    match number {
        None | Some(0) => String::new(),
        Some(number) => Code::from_number(number).map_or_else(|| number.to_string(), |code| format!("{number} {code}")),
    }
}

/// A time for programs (RFC 3339); the page's script shows it in the reader's own zone.
pub fn exact(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time for people, where no script runs.
pub fn shown(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// How long something took, or has taken so far.
pub fn span(from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    let millis = (to - from).num_milliseconds().max(0);
    match millis / 1000 {
        seconds if seconds < 60 => format!("{}.{} s", seconds, millis % 1000 / 100),
        seconds if seconds < 3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A number of bytes.
pub fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", count as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", count as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes() {
        let start = DateTime::<Utc>::UNIX_EPOCH;
        for (millis, expected) in [(0, "0.0 s"), (3_450, "3.4 s"), (61_000, "1 min 1 s"), (3_660_000, "1 h 1 min"), (-5, "0.0 s")] {
            assert_eq!(span(start, start + chrono::Duration::milliseconds(millis)), expected);
        }
        assert_eq!(
            (bytes(12), bytes(1536), bytes(5 << 20), bytes(3 << 30)),
            ("12 B".into(), "1.5 KiB".into(), "5.0 MiB".into(), "3.0 GiB".into())
        );
    }

    #[test]
    fn codes_have_their_names() {
        assert_eq!((error_code(None), error_code(Some(0))), (String::new(), String::new()));
        assert_eq!((error_code(Some(70)), error_code(Some(7))), ("70 guest_not_ready".to_string(), "7".to_string()));
    }
}
