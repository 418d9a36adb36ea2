//! `testbed list`

use kvm_compose::{
    api::{Command, OperationSummary, Phase, RunState},
    orchestrate::event::clean,
};

use crate::{
    exit::{Exit, Outcome},
    output::table,
    session::Session,
};

pub async fn run(session: &Session) -> Outcome {
    let deployments = session.client()?.deployments().await?;
    session.out.list(&deployments, |deployments| {
        if session.global.quiet {
            return deployments.iter().map(|deployment| format!("{}\n", deployment.name)).collect();
        }
        let rows = deployments.iter().map(|deployment| {
            vec![
                deployment.name.to_string(),
                state(deployment.state, deployment.failed_command),
                phase(deployment.phase).to_string(),
                last_action(deployment.last_action.as_ref()),
                clean(&deployment.project_location),
            ]
        });
        table::table(&["name", "state", "phase", "last action", "project"], rows.collect(), "no deployments; `testbed up` makes one")
    });
    Ok(Exit::SUCCESS)
}

/// The state in a word, and which command failed.
pub fn state(state: RunState, failed: Option<Command>) -> String {
    match (state, failed) {
        (RunState::Running, _) => "running".to_string(),
        (RunState::Up, _) => "up".to_string(),
        (RunState::Down, _) => "down".to_string(),
        (RunState::Failed, Some(command)) => format!("failed ({command})"),
        (RunState::Failed, None) => "failed".to_string(),
    }
}

pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Down => "down",
        Phase::Partial => "partial",
        Phase::Up => "up",
        Phase::Unknown => "unknown",
    }
}

/// The last action and how it ended.
pub fn last_action(action: Option<&OperationSummary>) -> String {
    action.map_or_else(|| "-".to_string(), |action| format!("{} {} {}", action.command, action.state, local(action.started)))
}

/// A time as people here read it.
pub fn local(time: chrono::DateTime<chrono::Utc>) -> String {
    time.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S").to_string()
}
