//! `testbed ps`

use kvm_compose::api::{DeploymentState, GuestState};

use crate::{
    exit::{Exit, Outcome},
    output::table,
    session::Session,
};

pub async fn run(session: &Session, labels: &[String]) -> Outcome {
    let name = session.deployment()?;
    let mut state = session.client()?.state(&name).await?;
    keep(&mut state, labels);
    session.out.list(&state.guests, |guests| if session.global.quiet { names(&state) } else { table::guests(guests) });
    state.warnings.iter().for_each(|warning| session.out.warning(warning));
    Ok(Exit::SUCCESS)
}

/// The guests of every deployment; one deployment that cannot be observed does not hide the others.
pub async fn run_all(session: &Session, labels: &[String]) -> Outcome {
    let client = session.client()?;
    let mut states = Vec::new();
    for deployment in client.deployments().await? {
        match client.state(&deployment.name).await {
            Ok(mut state) => {
                keep(&mut state, labels);
                states.push(state);
            }
            Err(problem) => session.out.warning(&format!("the guests of `{}` are unknown: {problem}", deployment.name)),
        }
    }
    session.out.list(&states, |states| {
        if session.global.quiet {
            return states.iter().map(names).collect();
        }
        let rows = states
            .iter()
            .flat_map(|state| state.guests.iter().map(|guest| [vec![state.name.to_string()], table::guest_row(guest)].concat()));
        table::table(&[&["deployment"], &table::GUEST_HEADING[..]].concat(), rows.collect(), "no guests")
    });
    Ok(Exit::SUCCESS)
}

/// Keeps the guests that have every label asked for: `key`, or `key=value`.
fn keep(state: &mut DeploymentState, labels: &[String]) {
    let has = |guest: &GuestState, asked: &String| match asked.split_once('=') {
        Some((key, value)) => guest.labels.get(key).is_some_and(|has| has == value),
        None => guest.labels.contains_key(asked),
    };
    state.guests.retain(|guest| labels.iter().all(|asked| has(guest, asked)));
}

fn names(state: &DeploymentState) -> String {
    state.guests.iter().map(|guest| format!("{}\n", guest.name)).collect()
}
