//! `testbed info`

use kvm_compose::api::{DeploymentInfo, DeploymentState};
use serde::Serialize;

use super::list;
use crate::{
    exit::{Exit, Outcome},
    output::table,
    session::Session,
};

#[derive(Serialize)]
struct Info {
    deployment: DeploymentInfo,
    state: DeploymentState,
}

pub async fn run(session: &Session, name: Option<&str>) -> Outcome {
    let name = session.deployment_or(name)?;
    let client = session.client()?;
    let info = Info { deployment: client.deployment(&name).await?, state: client.state(&name).await? };
    session.out.result(&info, text);
    info.state.warnings.iter().for_each(|warning| session.out.warning(warning));
    Ok(Exit::SUCCESS)
}

fn text(Info { deployment, state }: &Info) -> String {
    let mut pairs = vec![
        ("name", deployment.name.to_string()),
        ("project", deployment.project_location.clone()),
        ("state", list::state(deployment)),
        ("phase", list::phase(state.phase).to_string()),
        ("network", format!("{} of {} rows", state.rows_observed, state.rows_wanted)),
        ("created", list::local(deployment.created)),
    ];
    if let Some(action) = &deployment.last_action {
        pairs.push(("last action", list::last_action(deployment)));
        pairs.push(("action id", action.uuid.to_string()));
    }
    format!("{}\n{}", table::pairs(&pairs), table::guests(&state.guests))
}
