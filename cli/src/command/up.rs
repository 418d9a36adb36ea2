//! `testbed up`

use kvm_compose::{
    api::{ActionRequest, ActionState, CreateDeployment, UpOptions},
    error::{Code, Problem},
    names::DeploymentName,
};

use super::{act, conclude, detached, plan};
use crate::{
    action::Ended,
    args::{Converge, Format, Up},
    client::Client,
    exit::{Exit, Outcome},
    output::{self, problem::print_warnings, table},
    session::{Session, guests},
};

pub async fn run(session: &Session, args: Up) -> Outcome {
    let options = options(&args.converge, args.keep_on_failure)?;
    let client = session.client()?;
    if args.dry_run {
        return plan::ask(session, &client, options).await;
    }
    let name = prepare(session, &client).await?;
    let keep = options.keep_on_failure;
    let request = ActionRequest::Up(options);
    if args.detach {
        return Ok(detached(session, &client.act(&name, &request).await?));
    }
    let Some(ended) = act(session, &client, &name, &request).await? else { return Ok(Exit::CANCELLED) };
    if session.global.output == Format::Text
        && !session.global.quiet
        && !keep
        && let Some(text) = taken_back(&ended)
    {
        output::error_line(&text);
    }
    let exit = conclude(session, &ended)?;
    if exit == Exit::SUCCESS && session.global.output == Format::Text && !session.global.quiet {
        let state = client.state(&name).await?;
        session.out.line(&table::guests(&state.guests));
        state.warnings.iter().for_each(|warning| session.out.warning(warning));
    }
    Ok(exit)
}

/// What is left of an `up` that did not come to its end.
fn taken_back(ended: &Ended) -> Option<String> {
    let entry = &ended.record.entry;
    if !matches!(entry.state, ActionState::Failed | ActionState::Cancelled) {
        return None;
    }
    let told = &ended.told;
    Some(match told.undone {
        _ if !told.stuck.is_empty() => format!("not removed: {}; `testbed down` removes the rest", told.stuck.join(", ")),
        Some(undone) => format!("everything that this `up` had made is removed again ({undone} undone)"),
        None if told.begun == 0 => return None,
        None => "nothing had been made that is to be removed".to_string(),
    })
}

/// The flags as the server takes them.
pub fn options(converge: &Converge, keep_on_failure: bool) -> Result<UpOptions, Problem> {
    Ok(UpOptions {
        guests: guests(&converge.guests)?,
        provision: converge.provision,
        rerun_scripts: converge.rerun_scripts,
        reapply_acl: converge.reapply_acl,
        keep_on_failure,
    })
}

/// Checks the testbed file and hands it to the server, which then knows the deployment. Without a file, the deployment is
/// what the server has of it.
async fn prepare(session: &Session, client: &Client) -> Result<DeploymentName, Problem> {
    let Some(project) = session.project()? else { return session.deployment_without_file() };
    let name = session.name_of(&project)?;
    let (sources, loaded) = project.load(&name)?;
    print_warnings(&session.out, &kvm_compose::topology::without_refused(loaded.warnings));
    ensure(session, client, &name, project.location()?).await?;
    client.put_draft(&name, &sources.into_draft()).await?;
    Ok(name)
}

async fn ensure(session: &Session, client: &Client, name: &DeploymentName, location: String) -> Result<(), Problem> {
    let wanted = CreateDeployment { name: name.clone(), project_location: Some(location.clone()) };
    match client.create(&wanted).await {
        Err(problem) if problem.code == Code::Conflict => {}
        other => return other.map(drop),
    }
    let before = client.deployment(name).await?.project_location;
    if before != location {
        session.out.warning(&format!("the project of `{name}` was in `{before}`, from now on it is in `{location}`"));
        client.relocate(&wanted).await?;
    }
    Ok(())
}
