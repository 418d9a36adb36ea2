//! `testbed info`

use chrono::{DateTime, Utc};
use kvm_compose::api::{DeploymentInfo, DeploymentState};
use serde::Serialize;

use super::list;
use crate::{
    exit::{Exit, Outcome},
    output::table,
    session::Session,
};

/// What is observed now, and what the record says beyond it.
#[derive(Serialize)]
struct Info {
    #[serde(flatten)]
    state: DeploymentState,
    project_location: String,
    created: DateTime<Utc>,
    revision: u64,
}

pub async fn run(session: &Session, name: Option<&str>) -> Outcome {
    let name = session.deployment_or(name)?;
    let client = session.client()?;
    let DeploymentInfo { project_location, created, revision, .. } = client.deployment(&name).await?;
    let info = Info { state: client.state(&name).await?, project_location, created, revision };
    session.out.result(&info, text);
    info.state.warnings.iter().for_each(|warning| session.out.warning(warning));
    Ok(Exit::SUCCESS)
}

fn text(info: &Info) -> String {
    let state = &info.state;
    let mut pairs = vec![
        ("name", state.name.to_string()),
        ("project", info.project_location.clone()),
        ("state", list::state(state.state, state.failed_command)),
        ("phase", list::phase(state.phase).to_string()),
        ("network", format!("{} of {} rows", state.rows_observed, state.rows_wanted)),
        ("created", list::local(info.created)),
        ("last action", list::last_action(state.last_action.as_ref())),
    ];
    if let Some(action) = &state.last_action {
        pairs.push(("action id", action.uuid.to_string()));
    }
    format!("{}\n{}", table::pairs(&pairs), table::guests(&state.guests))
}
