//! The one event enum: it feeds the journal on disk, the log file, the socket and the screen.
//!
//! Pure data and its one rendering as a line of text.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    error::Problem,
    names::{DeploymentName, GuestName},
};

/// An event with its time: one line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// When.
    pub at: DateTime<Utc>,
    /// The action it belongs to.
    pub operation: Uuid,
    /// The deployment.
    pub deployment: DeploymentName,
    /// What happened.
    #[serde(rename = "event")]
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    /// The action began.
    Started {
        /// `up`, `down`, …
        command: String,
    },
    /// The plan is made.
    Planned {
        /// The steps, in an order in which needs come first.
        steps: Vec<PlannedStep>,
    },
    /// A step is about to start. On disk before the step touches anything.
    StepStarted {
        /// The step's id.
        step: String,
    },
    /// A step succeeded.
    StepDone {
        /// The step's id.
        step: String,
        /// How long it took, in milliseconds.
        millis: u64,
    },
    /// A step failed.
    StepFailed {
        /// The step's id.
        step: String,
        /// Why.
        problem: Problem,
    },
    /// What the action made is being removed.
    Unwinding {
        /// How many steps are undone.
        steps: usize,
    },
    /// A step's undo is about to start.
    UndoStarted {
        /// The step's id.
        step: String,
    },
    /// A step was undone.
    UndoDone {
        /// The step's id.
        step: String,
    },
    /// A step could not be undone.
    UndoFailed {
        /// The step's id.
        step: String,
        /// Why.
        problem: Problem,
    },
    /// A line of text: what a script printed, what is waited for.
    Line {
        /// The guest it comes from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guest: Option<GuestName>,
        /// The text, without line break.
        text: String,
    },
    /// How far a download has come.
    Progress {
        /// What is downloaded.
        what: String,
        /// Bytes that are there.
        done: u64,
        /// Bytes that it has in all, when that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
        /// Bytes a second, over the last seconds.
        rate: u64,
    },
    /// What a command run by `exec` printed, as it came: a line, or a piece of one.
    Output {
        /// The guest it ran in.
        guest: GuestName,
        /// Where it was printed.
        stream: OutputStream,
        /// The bytes in base64, line break included.
        data_base64: String,
        /// The same as text, without line break.
        text: String,
    },
    /// Something worth knowing.
    Warning {
        /// The text.
        text: String,
    },
    /// The action ended.
    Finished {
        /// `succeeded`, `failed`, `cancelled` or `interrupted`.
        state: String,
        /// 0, or the number of the problem's code.
        error_code: u16,
        /// Why it did not succeed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<Problem>,
        /// How long it took, in milliseconds.
        millis: u64,
    },
}

/// Where a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A step of a plan as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedStep {
    /// The step's id, such as `start/web`.
    pub id: String,
    /// What it does, in words.
    pub what: String,
    /// Why.
    pub reason: String,
    /// What it does to what is there.
    pub impact: Impact,
    /// The host.
    pub host: String,
    /// Every guest it touches.
    pub guests: Vec<GuestName>,
    /// Guests that it does not touch and whose traffic may change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<GuestName>,
}

/// What a step does to what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Impact {
    /// Adds something.
    Create,
    /// Changes something while every guest runs on.
    InPlace,
    /// A running guest gets or loses a device.
    HotPlug,
    /// A guest is stopped and started with its disks kept.
    Restart,
    /// A guest or its disk is made anew; what it held is lost.
    Recreate,
    /// Takes something away.
    Remove,
    /// Waits or runs, changes nothing that the plan owns.
    None,
}

impl Event {
    /// The event as a line of the action's log file. Control characters of guests are taken out.
    pub fn line(&self) -> String {
        format!("{} {}", self.at.format("%Y-%m-%dT%H:%M:%S%.3fZ"), self.kind.text())
    }
}

impl EventKind {
    /// The event in words, on one line.
    pub fn text(&self) -> String {
        match self {
            EventKind::Started { command } => format!("{command}: started"),
            EventKind::Planned { steps } if steps.is_empty() => "plan: nothing to do".to_string(),
            EventKind::Planned { steps } => format!("plan: {} step{}", steps.len(), if steps.len() == 1 { "" } else { "s" }),
            EventKind::StepStarted { step } => format!("{step}: started"),
            EventKind::StepDone { step, millis } => format!("{step}: done in {millis} ms"),
            EventKind::StepFailed { step, problem } => format!("{step}: failed: {}", problem_line(problem)),
            EventKind::Unwinding { steps } => format!("unwind: {steps} step{} to undo", if *steps == 1 { "" } else { "s" }),
            EventKind::UndoStarted { step } => format!("{step}: undoing"),
            EventKind::UndoDone { step } => format!("{step}: undone"),
            EventKind::UndoFailed { step, problem } => format!("{step}: could not be undone: {}", problem_line(problem)),
            EventKind::Line { guest: Some(guest), text } => format!("{guest}: {}", clean(text)),
            EventKind::Line { guest: None, text } => clean(text),
            EventKind::Progress { what, done, total, rate } => format!("{}: {}", clean(what), how_far(*done, *total, *rate)),
            EventKind::Output { guest, text, .. } => format!("{guest}: {}", clean(text)),
            EventKind::Warning { text } => format!("warning: {}", clean(text)),
            EventKind::Finished { state, error_code, problem, millis } => {
                let seconds = *millis as f64 / 1000.0;
                match problem {
                    None => format!("{state} in {seconds:.1} s"),
                    Some(problem) => format!("{state} in {seconds:.1} s (error {error_code}): {}", problem_line(problem)),
                }
            }
        }
    }
}

/// How far a download has come, in words.
pub fn how_far(done: u64, total: Option<u64>, rate: u64) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (done_mib, rate) = (mib(done), mib(rate));
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let percent = done.saturating_mul(100) / total;
            format!("{percent} % ({done_mib:.1} of {:.1} MiB, {rate:.1} MiB/s)", mib(total))
        }
        None => format!("{done_mib:.1} MiB, {rate:.1} MiB/s"),
    }
}

fn problem_line(problem: &Problem) -> String {
    let mut line = problem.message.clone();
    for cause in &problem.causes {
        line.push_str(": ");
        line.push_str(cause);
    }
    if let Some(hint) = &problem.hint {
        line.push_str(" (hint: ");
        line.push_str(hint);
        line.push(')');
    }
    clean(&line)
}

/// Takes control characters (C0, C1, line breaks) out, so that a guest cannot drive a terminal through a log.
pub fn clean(text: &str) -> String {
    text.chars().filter_map(|c| if c == '\n' || c == '\t' { Some(' ') } else { (!c.is_control()).then_some(c) }).collect()
}
