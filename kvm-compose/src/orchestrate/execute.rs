//! Carries out a plan's steps: what is ready runs, bounded per host; the rest waits for what it needs.
//!
//! Knows steps and hosts' trait, not what a step means. Every step ends as done, failed or never started.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    time::{Duration, Instant},
};

use super::{
    Operation,
    event::EventKind,
    host::{Context, Host},
};
use crate::{
    error::{Code, Problem},
    names::{DeploymentName, GuestName, HostName},
    plan::step::{Plan, Step, StepId, Work},
};

/// The pause between two tries to take a step back.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What happens after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// No new step starts.
    Stop,
    /// Steps that do not need the failed one go on.
    CarryOn,
}

/// The words of a step's events: doing, or undoing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// `StepStarted`, `StepDone`, `StepFailed`.
    Forward,
    /// `UndoStarted`, `UndoDone`, `UndoFailed`; events that cannot be written do not stop it, and a part that is away
    /// (libvirt restarting) is waited for until `until`.
    Back {
        /// When waiting ends; one moment for all steps, so that the whole is bounded.
        until: Instant,
    },
}

/// How a run of steps ended.
#[derive(Debug, Default)]
pub struct Ran {
    /// Steps that succeeded.
    pub done: BTreeSet<StepId>,
    /// Steps that began: done, failed or cancelled midway. Any of them may have left something.
    pub begun: BTreeSet<StepId>,
    /// Failures, the first first.
    pub failures: Vec<(StepId, Problem)>,
}

/// Kinds of work that are bounded together on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Network,
    Link,
    Start,
    Resume,
    Remove,
    Nic,
    Files,
    Wait,
    Script,
}

impl Class {
    fn of(work: &Work) -> Class {
        match work {
            Work::Network { .. }
            | Work::RemoveBridgePort { .. }
            | Work::SetUpUplink { .. }
            | Work::PlugInternal { .. }
            | Work::UnplugInternal { .. } => Class::Network,
            Work::ShapeLink { .. } | Work::UnshapeLink { .. } | Work::SetCarrier { .. } => Class::Link,
            Work::StartDomain { .. } | Work::LoadDomain { .. } => Class::Start,
            Work::ResumeDomain { .. } => Class::Resume,
            Work::RemoveDomain { .. } | Work::StopDomain { .. } => Class::Remove,
            Work::FetchBase { .. }
            | Work::PullImage { .. }
            | Work::CreateVolume { .. }
            | Work::WriteSeed { .. }
            | Work::RemoveFile { .. } => Class::Files,
            Work::AwaitReady { .. } | Work::KeepGolden { .. } => Class::Wait,
            Work::AttachNic { .. } | Work::DetachNic { .. } => Class::Nic,
            Work::ConfigureNetwork { .. } | Work::SendContext { .. } | Work::RunScript { .. } => Class::Script,
        }
    }

    /// How many of a class run on one host at once. Starts wait for each other in the host, which makes only a few at a
    /// time; more than eight removals gain nothing; a wait costs next to nothing.
    const fn limit(self) -> usize {
        match self {
            Class::Network => 1,
            // Each waits for OVN most of its time.
            Class::Link => 8,
            // All at once is what they are for.
            Class::Start | Class::Resume => 128,
            Class::Remove | Class::Nic => 8,
            Class::Files => 4,
            Class::Wait => 512,
            Class::Script => 16,
        }
    }
}

/// Runs the plan's steps to the end, or to where a failure or a request to stop lets it come.
pub fn execute(
    host: &dyn Host,
    plan: &Plan,
    deployment: &DeploymentName,
    operation: &Operation<'_>,
    on_failure: OnFailure,
    direction: Direction,
) -> Ran {
    let mut run = Run { ran: Ran::default(), waiting: plan.steps.iter().map(|step| (&step.id, step)).collect(), running: BTreeMap::new() };
    let known: BTreeSet<&StepId> = plan.steps.iter().map(|step| &step.id).collect();
    let (results, inbox) = mpsc::channel::<(StepId, Result<(), Problem>)>();
    std::thread::scope(|scope| {
        loop {
            let stop = (on_failure == OnFailure::Stop && !run.ran.failures.is_empty()) || operation.cancel.is_cancelled();
            if !stop {
                for step in run.ready(&known) {
                    run.begin(step);
                    let results = results.clone();
                    scope.spawn(move || {
                        let result = one(host, step, deployment, operation, direction);
                        // The receiver outlives every sender: it is read until nothing runs.
                        let _sent = results.send((step.id.clone(), result));
                    });
                }
            }
            if run.running.values().sum::<usize>() == 0 {
                break;
            }
            match inbox.recv() {
                Ok((id, result)) => run.end(plan, id, result),
                Err(_) => break,
            }
        }
    });
    if operation.cancel.is_cancelled()
        && !run.ran.failures.iter().any(|(_, problem)| problem.code == Code::Cancelled)
        && run.ran.done.len() < plan.steps.len()
    {
        let id = StepId::new("cancel");
        run.ran.failures.push((id, Problem::new(Code::Cancelled, "the action was cancelled")));
    }
    run.ran
}

struct Run<'p> {
    ran: Ran,
    waiting: BTreeMap<&'p StepId, &'p Step>,
    running: BTreeMap<(HostName, Class), usize>,
}

impl<'p> Run<'p> {
    /// Steps whose needs are met and whose host has room, in the plan's order of ids.
    fn ready(&mut self, known: &BTreeSet<&StepId>) -> Vec<&'p Step> {
        let mut room = self.running.clone();
        let mut ready = Vec::new();
        for step in self.waiting.values() {
            // A need that is not in the plan is met already.
            let met = step.needs.iter().all(|need| self.ran.done.contains(need) || !known.contains(need));
            let class = Class::of(&step.work);
            let busy = room.entry((step.host.clone(), class)).or_default();
            if met && *busy < class.limit() {
                *busy += 1;
                ready.push(*step);
            }
        }
        ready
    }

    fn begin(&mut self, step: &'p Step) {
        self.waiting.remove(&step.id);
        self.ran.begun.insert(step.id.clone());
        *self.running.entry((step.host.clone(), Class::of(&step.work))).or_default() += 1;
    }

    fn end(&mut self, plan: &'p Plan, id: StepId, result: Result<(), Problem>) {
        if let Some(step) = plan.steps.iter().find(|step| step.id == id)
            && let Some(busy) = self.running.get_mut(&(step.host.clone(), Class::of(&step.work)))
        {
            *busy = busy.saturating_sub(1);
        }
        match result {
            Ok(()) => {
                self.ran.done.insert(id);
            }
            Err(problem) => {
                self.ran.failures.push((id, problem));
            }
        }
    }
}

/// One step, journalled before it starts.
fn one(host: &dyn Host, step: &Step, deployment: &DeploymentName, operation: &Operation<'_>, direction: Direction) -> Result<(), Problem> {
    let began = Instant::now();
    let name = step.id.to_string();
    let announced = operation.sink.emit(match direction {
        Direction::Forward => EventKind::StepStarted { step: name.clone() },
        Direction::Back { .. } => EventKind::UndoStarted { step: name.clone() },
    });
    if direction == Direction::Forward {
        announced?;
    }
    let guest: Option<GuestName> = match step.guests.as_slice() {
        [guest] => Some(guest.clone()),
        _ => None,
    };
    let say = |text: &str| {
        // A line that cannot be written is lost; the step's own events are not.
        let _lost = operation.sink.emit(EventKind::Line { guest: guest.clone(), text: text.to_string() });
    };
    let context = Context { host: &step.host, deployment, operation: operation.uuid, cancel: operation.cancel, say: &say };
    let mut result = attempt(host, step, &context);
    if let Direction::Back { until } = direction {
        let away = |problem: &Problem| matches!(problem.code, Code::Libvirt | Code::Ovn | Code::HostAway);
        if let Err(problem) = &result
            && away(problem)
        {
            say(&format!("{}: {problem}; trying again, {} s at most", step.id, until.saturating_duration_since(Instant::now()).as_secs()));
        }
        while result.as_ref().is_err_and(away) && Instant::now() < until {
            operation.cancel.wait(RETRY_PAUSE);
            result = attempt(host, step, &context);
        }
    }
    let millis = began.elapsed().as_millis() as u64;
    let told = operation.sink.emit(match (&result, direction) {
        (Ok(()), Direction::Forward) => EventKind::StepDone { step: name, millis },
        (Ok(()), Direction::Back { .. }) => EventKind::UndoDone { step: name },
        (Err(problem), Direction::Forward) => EventKind::StepFailed { step: name, problem: problem.clone() },
        (Err(problem), Direction::Back { .. }) => EventKind::UndoFailed { step: name, problem: problem.clone() },
    });
    match direction {
        Direction::Forward => result.and(told),
        Direction::Back { .. } => result,
    }
}

/// One try. A panic in it is a failure of it, not of the server.
fn attempt(host: &dyn Host, step: &Step, context: &Context<'_>) -> Result<(), Problem> {
    catch_unwind(AssertUnwindSafe(|| host.apply(&step.work, context))).unwrap_or_else(|panic| {
        let text =
            panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Problem::internal(format!("step `{}` panicked", step.id)).cause(text))
    })
}
