//! What the fake server does, and what became of its action.

use kvm_compose::{
    api::{
        LogEntry,
        action::{ActionState, Command as Verb},
    },
    error::{Code, Problem},
    names::DeploymentName,
    orchestrate::event::{Event, EventKind, PlannedStep},
    plan::step::Impact,
};

use super::ACTION;

/// What the server does.
#[derive(Clone)]
pub struct Script {
    /// Where the project of the deployment `lab` lies, when there is one.
    pub project_location: Option<String>,
    /// The token it asks for.
    pub token: Option<&'static str>,
    /// The link that logs a browser in; none when it has no TCP.
    pub link: Option<&'static str>,
    /// Why it refuses an action.
    pub refusal: Option<Problem>,
    pub events: Vec<EventKind>,
    pub ending: Ending,
    /// What became of the action.
    pub entry: LogEntry,
}

/// When the stream goes on to its last event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    AtOnce,
    OnCancel,
    Never,
}

impl Script {
    /// An `up` of two steps that succeeds.
    pub fn up() -> Script {
        let steps = vec![step("network", "write the network"), step("start/web", "start the guest")];
        let events = vec![
            EventKind::Started { command: "up".into() },
            EventKind::Planned { steps },
            EventKind::StepStarted { step: "network".into() },
            EventKind::StepDone { step: "network".into(), millis: 12 },
            EventKind::StepStarted { step: "start/web".into() },
            EventKind::Line { guest: Some("web".parse().expect("a name")), text: "hello from a script".into() },
            EventKind::StepDone { step: "start/web".into(), millis: 34 },
            EventKind::Finished { state: "succeeded".into(), error_code: 0, problem: None, millis: 46 },
        ];
        let entry = entry(Verb::Up, ActionState::Succeeded, None);
        Script { project_location: None, token: None, link: None, refusal: None, events, ending: Ending::AtOnce, entry }
    }

    /// An `up` whose last step fails.
    pub fn failing(problem: Problem) -> Script {
        let mut script = Script::up();
        script.events.truncate(5);
        script.events.push(EventKind::StepFailed { step: "start/web".into(), problem: problem.clone() });
        script.events.push(finished("failed", problem.clone()));
        script.entry = entry(Verb::Up, ActionState::Failed, Some(problem));
        script
    }

    /// An `up` that runs until it is cancelled, or beyond.
    pub fn endless(ending: Ending) -> Script {
        let problem = Problem::new(Code::Cancelled, "the action was cancelled");
        let mut script = Script::up();
        script.events.truncate(5);
        // The stream stands still before its last event.
        script.events.extend([EventKind::Unwinding { steps: 1 }, EventKind::UndoDone { step: "network".into() }]);
        script.events.push(finished("cancelled", problem.clone()));
        script.entry = entry(Verb::Up, ActionState::Cancelled, Some(problem));
        script.ending = ending;
        script
    }

    /// The journal, or the log.
    pub fn text(&self, journal: bool) -> String {
        let lines = self.events.iter().map(|kind| {
            let event = Event { at: chrono::DateTime::UNIX_EPOCH, operation: ACTION, deployment: lab(), kind: kind.clone() };
            if journal { serde_json::to_string(&event).expect("an event is JSON") } else { event.line() }
        });
        lines.map(|line| line + "\n").collect()
    }
}

pub fn lab() -> DeploymentName {
    DeploymentName::new("lab").expect("a name")
}

pub fn entry(command: Verb, state: ActionState, problem: Option<Problem>) -> LogEntry {
    LogEntry {
        log_path: "/logs/a.log".into(),
        events_path: "/logs/a.events".into(),
        error_code: Some(problem.as_ref().map_or(0, |problem| problem.code.number())),
        command,
        started: chrono::DateTime::UNIX_EPOCH,
        ended: Some(chrono::DateTime::UNIX_EPOCH),
        state,
        problem,
        exit_status: None,
        result: None,
    }
}

fn finished(state: &str, problem: Problem) -> EventKind {
    EventKind::Finished { state: state.into(), error_code: problem.code.number(), problem: Some(problem), millis: 5 }
}

fn step(id: &str, what: &str) -> PlannedStep {
    PlannedStep {
        id: id.into(),
        what: what.into(),
        reason: "new".into(),
        impact: Impact::Create,
        host: "main".into(),
        guests: Vec::new(),
        traffic: Vec::new(),
    }
}
