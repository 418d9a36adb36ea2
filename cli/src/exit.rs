//! How the command ends: one table from outcome to exit status.

use std::process::ExitCode;

use kvm_compose::{
    api::{LogEntry, action::ActionState},
    error::{Code, Problem},
};

use crate::{args::Global, output};

/// An exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    pub const SUCCESS: Exit = Exit(0);
    /// A part that is needed does not work.
    pub const FAILED: Exit = Exit(1);
    pub const CANCELLED: Exit = Exit(130);
}

/// What a command comes to.
pub type Outcome = Result<Exit, Problem>;

/// Prints what went wrong, if anything did.
pub fn end(global: &Global, outcome: Outcome) -> ExitCode {
    let exit = outcome.unwrap_or_else(|problem| {
        output::problem::print(global, &problem);
        Exit(problem.code.exit_status())
    });
    ExitCode::from(exit.0)
}

/// How an action that has ended counts.
pub fn of_entry(entry: &LogEntry) -> Outcome {
    match (entry.state, entry.error_code, &entry.problem) {
        (ActionState::Succeeded, _, _) | (ActionState::Running, Some(0), _) => Ok(Exit::SUCCESS),
        (_, _, Some(problem)) => Err(problem.clone()),
        (ActionState::Cancelled, _, _) => Err(Problem::new(Code::Cancelled, format!("`{}` was cancelled", entry.command))),
        (ActionState::Interrupted, _, _) => {
            Err(Problem::new(Code::Interrupted, format!("the server stopped while `{}` ran", entry.command))
                .hint("run it again to complete it"))
        }
        (ActionState::Running, _, _) => Err(Problem::new(Code::Interrupted, format!("`{}` has not ended, but its log has", entry.command))
            .hint("see `testbed logs --list`")),
        (ActionState::Failed, number, None) => {
            let code = number.and_then(Code::from_number).unwrap_or(Code::Internal);
            Err(Problem::new(code, format!("`{}` failed with `{code}`", entry.command)).hint("see `testbed logs`"))
        }
    }
}
