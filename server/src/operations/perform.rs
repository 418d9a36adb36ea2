//! What an action's thread does: ask the driver, write down what came of it, let the next one in.
//!
//! Whatever happens in the driver, panics included, the action ends and its outcome is on record.

use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::Utc;
use kvm_compose::{
    api::{ActionRequest, ActionState, ExecRequest, LogEntry, lifecycle::StopOptions},
    backend::images::disks::Import,
    error::{Code, Problem},
    names::{GuestName, VARIABLE_RULE, is_variable, printable},
    orchestrate::{Operation, Sink as _, event::EventKind},
    plan::{lifecycle::Wish, link_report},
};

use super::{
    Operations, check,
    journal::{End, millis},
    output::Heard,
    projects,
    table::Running,
};
use crate::store::{self, records};

/// A command in a guest may take a week at most.
const LONGEST_EXEC_S: u64 = 7 * 24 * 3600;

/// A guest may take an hour at most to shut down.
const LONGEST_STOP_S: u64 = 3600;

/// How long guests have to shut down by themselves.
fn limit(asked: &StopOptions) -> Option<u64> {
    if asked.force { Some(0) } else { asked.time_s }
}

/// What a thread is to do.
pub enum Job {
    /// An action on a deployment.
    Action(ActionRequest),
    /// Making the micro image.
    BuildMicro,
    /// Downloading an image of the catalogue.
    PullImage(String),
    /// Taking in an image that was handed over.
    ImportImage(Import),
}

/// What came of it.
pub struct Outcome {
    /// Why it did not succeed.
    pub problem: Option<Problem>,
    /// The status of a command in a guest.
    pub exit_status: Option<i32>,
    /// What is answered beyond the log.
    pub result: Option<serde_json::Value>,
}

impl Outcome {
    /// It did not succeed.
    pub fn failed(problem: Problem) -> Self {
        Outcome { problem: Some(problem), exit_status: None, result: None }
    }

    fn succeeded() -> Self {
        Outcome { problem: None, exit_status: None, result: None }
    }
}

/// Refuses requests that cannot be carried out, before anything is claimed.
pub fn check(request: &ActionRequest) -> Result<(), Problem> {
    let exec = match request {
        ActionRequest::Exec(exec) => exec,
        ActionRequest::Plan(options) => return options.draft.as_ref().map_or(Ok(()), projects::check_draft),
        ActionRequest::SetLink(request) => return link_report::check(request),
        ActionRequest::Check(options) => return options.draft.as_ref().map_or(Ok(()), projects::check_draft),
        ActionRequest::Why(request) if request.to.is_empty() || request.to.len() > 253 => {
            return Err(Problem::new(Code::BadRequest, "`to` must be a guest, an address or a name of at most 253 characters"));
        }
        ActionRequest::Snapshot(request) => return request.check(),
        ActionRequest::Stop(asked) | ActionRequest::Restart(asked) if asked.time_s.is_some_and(|limit| limit > LONGEST_STOP_S) => {
            return Err(Problem::new(Code::BadRequest, "`time_s` must be at most 3600"));
        }
        ActionRequest::Stop(_) | ActionRequest::Restart(_) => return Ok(()),
        ActionRequest::Start(_) | ActionRequest::Pause(_) | ActionRequest::Resume(_) => return Ok(()),
        ActionRequest::Up(_) | ActionRequest::Down {} | ActionRequest::Why(_) => return Ok(()),
    };
    let refused = |message: &str| Err(Problem::new(Code::BadRequest, message));
    if exec.argv.first().is_none_or(String::is_empty) {
        return refused("`argv` must hold at least the program's name");
    }
    if exec.argv.iter().chain(exec.environment.values()).any(|word| word.contains('\0')) {
        return refused("`argv` and `environment` may not contain NUL");
    }
    if let Some(name) = exec.environment.keys().find(|name| !is_variable(name)) {
        let message = format!("`{}` is not a variable's name", printable(name));
        return Err(Problem::new(Code::InvalidName, message).hint(VARIABLE_RULE));
    }
    if exec.timeout_s.is_some_and(|limit| limit == 0 || limit > LONGEST_EXEC_S) {
        return refused("`timeout_s` must be between 1 and 604800");
    }
    stdin(exec).map(|_| ())
}

/// True for a plan that needs no deployment.
pub fn brings_a_draft(request: &ActionRequest) -> bool {
    matches!(request, ActionRequest::Plan(options) if options.draft.is_some())
}

fn stdin(exec: &ExecRequest) -> Result<Vec<u8>, Problem> {
    match &exec.stdin_base64 {
        None => Ok(Vec::new()),
        Some(text) => STANDARD.decode(text).map_err(|error| Problem::new(Code::BadRequest, "`stdin_base64` is not base64").cause(error)),
    }
}

/// What is answered of an image that is there now.
fn image(name: &str, digest: String) -> Result<Outcome, Problem> {
    Ok(Outcome { result: Some(serde_json::json!({ "name": name, "digest": digest })), ..Outcome::succeeded() })
}

impl Operations {
    pub(super) fn perform(&self, running: &Running, job: &Job) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.ask_driver(running, job))).unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Err(Problem::internal("the action panicked")
                .cause(said.unwrap_or("no message"))
                .hint("please report it, with the server's log"))
        });
        self.finish(running, outcome.unwrap_or_else(Outcome::failed));
    }

    fn ask_driver(&self, running: &Running, job: &Job) -> Result<Outcome, Problem> {
        let sink = &running.journal;
        sink.emit(EventKind::Started { command: running.command.to_string() })?;
        let operation = Operation { uuid: running.uuid, cancel: &running.cancel, sink };
        let (driver, name) = (self.driver(), &running.deployment);
        if let Job::Action(request) = job {
            self.mend_snapshots(name, request, &operation)?;
        }
        match job {
            Job::Action(ActionRequest::Up(options)) => {
                driver.up(&self.project(name)?, options, &operation)?;
                Ok(Outcome::succeeded())
            }
            Job::Action(ActionRequest::Down {}) => {
                driver.down(name, &operation)?;
                self.forget_restore(name)?;
                Ok(Outcome::succeeded())
            }
            Job::Action(ActionRequest::Start(asked)) => self.lifecycle(running, Wish::Start, &asked.guests),
            Job::Action(ActionRequest::Stop(asked)) => self.lifecycle(running, Wish::Stop(limit(asked)), &asked.guests),
            Job::Action(ActionRequest::Restart(asked)) => self.lifecycle(running, Wish::Restart(limit(asked)), &asked.guests),
            Job::Action(ActionRequest::Pause(asked)) => self.lifecycle(running, Wish::Pause, &asked.guests),
            Job::Action(ActionRequest::Resume(asked)) => self.lifecycle(running, Wish::Resume, &asked.guests),
            Job::Action(ActionRequest::Plan(options)) => {
                let project = match &options.draft {
                    Some(draft) => self.draft_project(name, draft)?,
                    None => self.project(name)?,
                };
                let document = driver.plan(&project, &options.up(), &operation)?;
                sink.emit(EventKind::Planned { steps: document.steps.clone() })?;
                let result = serde_json::to_value(document).map_err(|error| Problem::internal("a plan is not JSON").cause(error))?;
                Ok(Outcome { result: Some(result), ..Outcome::succeeded() })
            }
            Job::Action(ActionRequest::SetLink(request)) => {
                driver.set_link(&self.project(name)?, request, &operation)?;
                Ok(Outcome::succeeded())
            }
            Job::Action(ActionRequest::Exec(exec)) => {
                let heard = Heard::new(sink, exec);
                let answer = driver.exec(name, exec, &stdin(exec)?, &running.cancel, &|stream, bytes| heard.take(stream, bytes));
                heard.outcome(answer)
            }
            Job::Action(ActionRequest::Check(options)) => {
                let project = match &options.draft {
                    Some(draft) => self.draft_project(name, draft)?,
                    None => self.project(name)?,
                };
                let topology = driver.topology(&project)?;
                let report = check::run(&**driver, name, &check::chosen(&topology, options, &project.sources.file)?, &operation)?;
                let problem = check::problem(&report);
                let result = serde_json::to_value(report).map_err(|error| Problem::internal("a report is not JSON").cause(error))?;
                Ok(Outcome { problem, exit_status: None, result: Some(result) })
            }
            Job::Action(ActionRequest::Why(request)) => {
                let answer = driver.why(&self.project(name)?, request, &operation)?;
                sink.emit(EventKind::Line { guest: None, text: answer.sentence.clone() })?;
                let result = serde_json::to_value(answer).map_err(|error| Problem::internal("an answer is not JSON").cause(error))?;
                Ok(Outcome { result: Some(result), ..Outcome::succeeded() })
            }
            Job::Action(ActionRequest::Snapshot(request)) => self.snapshot(name, request, &operation),
            Job::PullImage(name) => image(name, driver.pull_image(name, &operation)?),
            Job::ImportImage(import) => image(&import.name, driver.import_image(import, &operation)?),
            Job::BuildMicro => {
                let say = |text: &str| {
                    if let Err(problem) = sink.emit(EventKind::Line { guest: None, text: text.to_string() }) {
                        tracing::warn!(%problem, "a line of the image build was not logged");
                    }
                };
                let digest = driver.build_micro(&running.cancel, &say)?;
                image("micro", digest)
            }
        }
    }

    fn lifecycle(&self, running: &Running, wish: Wish, guests: &[GuestName]) -> Result<Outcome, Problem> {
        let operation = Operation { uuid: running.uuid, cancel: &running.cancel, sink: &running.journal };
        let name = &running.deployment;
        self.driver().lifecycle(name, self.project(name), wish, guests, &operation)?;
        Ok(Outcome::succeeded())
    }

    /// Puts the outcome on record, lets the next action in, and tells followers, in this order: whoever saw the end of
    /// the log finds the record up to date and the deployment free.
    pub(super) fn finish(&self, running: &Running, outcome: Outcome) {
        let (name, uuid) = (&running.deployment, running.uuid);
        let ended = Utc::now();
        let state = match &outcome.problem {
            None => ActionState::Succeeded,
            Some(problem) if problem.code == Code::Cancelled => ActionState::Cancelled,
            Some(_) => ActionState::Failed,
        };
        let error_code = outcome.problem.as_ref().map_or(0, |problem| problem.code.number());
        let phase = running.command.changes_phase().then(|| self.phase_now(running)).flatten();
        let paths = running.journal.paths();
        let entry = LogEntry {
            log_path: paths.log.display().to_string(),
            events_path: paths.events.display().to_string(),
            error_code: Some(error_code),
            command: running.command,
            started: running.started,
            ended: Some(ended),
            state,
            problem: outcome.problem.clone(),
            exit_status: outcome.exit_status,
            result: outcome.result,
        };
        let millis = millis(running.started, ended);
        let last = EventKind::Finished { state: state.to_string(), error_code, problem: outcome.problem.clone(), millis };
        if let Err(problem) = running.journal.emit(last) {
            tracing::error!(deployment = %name, action = %uuid, %problem, "the end of an action is missing in its log");
        }
        let summary = records::summary(uuid, &entry);
        let keep = self.limits.read().log_entries;
        let mut written = self.put_entry(running.command, name, uuid, entry.clone(), keep);
        if !running.command.is_on_images() && !running.command.is_beside() {
            let noted = store::update(&*self.store.deployments, name, |record| {
                record.note(summary.clone());
                record.phase = phase.unwrap_or(record.phase);
            });
            written = written.and(noted.map(|_| ()));
        }
        if let Err(problem) = written {
            tracing::error!(deployment = %name, action = %uuid, %problem, causes = ?problem.causes, "an outcome cannot be written; it is kept in memory until it can");
            self.keep_unsaved(running.command, name, uuid, entry);
        }
        self.metrics.action_ended(running.command, state);
        let why = outcome.problem.map(|problem| problem.message);
        tracing::info!(deployment = %name, action = %uuid, command = %running.command, %state, error_code, millis, why, "action ended");
        // Given back first: whoever sees the end may start the next action.
        self.table.release(running);
        running.journal.end(End { state, error_code });
        self.table.recount();
    }

    fn phase_now(&self, running: &Running) -> Option<kvm_compose::api::Phase> {
        let name = &running.deployment;
        let seen = catch_unwind(AssertUnwindSafe(|| self.driver().observe(name, self.project(name)).phase));
        seen.inspect_err(|_| tracing::error!(deployment = %name, "the observation after an action panicked")).ok()
    }
}
