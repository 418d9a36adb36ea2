//! `testbed events`

use kvm_compose::{
    error::Problem,
    orchestrate::event::{Event, clean},
};

use crate::{
    args::Format,
    client::path,
    exit::{Exit, Outcome},
    follow::{Follower, Next},
    session::Session,
};

/// Whose events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The project's deployment; every deployment's when there is no project.
    Project,
    All,
}

pub async fn run(session: &Session, scope: Scope) -> Outcome {
    let client = session.client()?;
    let mut follower = Follower::new(&client, path(&["events"]), &query(session, scope)?);
    while !session.out.is_closed() {
        match follower.next().await? {
            Next::Line(line) => session.out.line(&shown(session, &line)),
            Next::Cut => session.out.warning("the connection was lost; events may be missing here"),
            Next::Back => {}
            Next::End(_) => break,
        }
    }
    Ok(Exit::SUCCESS)
}

fn query(session: &Session, scope: Scope) -> Result<String, Problem> {
    let named = session.global.project_name.is_some() || session.project()?.is_some();
    Ok(if scope == Scope::Project && named { format!("deployment={}", session.deployment()?) } else { String::new() })
}

fn shown(session: &Session, line: &str) -> String {
    match (session.global.output, serde_json::from_str::<Event>(line)) {
        (Format::Text, Ok(event)) => {
            let (stamp, text) = (event.at.format("%Y-%m-%dT%H:%M:%S%.3fZ"), event.kind.text());
            format!("{stamp} {}: {text}", event.deployment)
        }
        // An event of a newer server that this command does not know.
        (Format::Text, Err(_)) => clean(line),
        _ => line.to_string(),
    }
}
