//! `testbed deployment`

use std::{fs, path::Path};

use kvm_compose::{
    api::CreateDeployment,
    error::{Code, Problem},
};

use super::{info, list};
use crate::{
    args::{Deployment, Format},
    client::Force,
    exit::{Exit, Outcome},
    session::Session,
};

pub async fn run(session: &Session, command: Deployment) -> Outcome {
    match command {
        Deployment::Create { name, project_location } => create(session, name.as_deref(), project_location.as_deref()).await,
        Deployment::List => list::run(session).await,
        Deployment::Info { name } => info::run(session, name.as_deref()).await,
        Deployment::Destroy { name, force } => destroy(session, name.as_deref(), if force { Force::Yes } else { Force::No }).await,
        Deployment::Reset { name } => reset(session, name.as_deref()).await,
    }
}

async fn create(session: &Session, name: Option<&str>, location: Option<&Path>) -> Outcome {
    let name = session.deployment_or(name)?;
    let project_location = match location {
        Some(folder) => Some(absolute(folder)?),
        None => session.project()?.map(|project| project.location()).transpose()?,
    };
    let created = session.client()?.create(&CreateDeployment { name, project_location }).await?;
    session.out.result(&created, |created| format!("`{}` is created for the project in `{}`", created.name, created.project_location));
    Ok(Exit::SUCCESS)
}

async fn destroy(session: &Session, name: Option<&str>, force: Force) -> Outcome {
    let name = session.deployment_or(name)?;
    session.client()?.destroy(&name, force).await?;
    if session.global.output == Format::Text && !session.global.quiet {
        session.out.line(&format!("`{name}` is forgotten; its project folder is as it was"));
    }
    Ok(Exit::SUCCESS)
}

async fn reset(session: &Session, name: Option<&str>) -> Outcome {
    let name = session.deployment_or(name)?;
    let deployment = session.client()?.reset(&name).await?;
    session
        .out
        .result(&deployment, |deployment| format!("`{}` is {}", deployment.name, list::state(deployment.state, deployment.failed_command)));
    Ok(Exit::SUCCESS)
}

fn absolute(folder: &Path) -> Result<String, Problem> {
    let unusable = |why: &dyn std::fmt::Display| {
        Problem::new(Code::BadRequest, format!("the project folder `{}` cannot be used", folder.display())).cause(why)
    };
    let absolute = fs::canonicalize(folder).map_err(|error| unusable(&error))?;
    absolute.to_str().map(String::from).ok_or_else(|| unusable(&"its name is not UTF-8"))
}
