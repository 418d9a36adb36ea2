//! A testbed file, checked before anybody uses it.

use axum::extract::{Request, State};
use kvm_compose::{
    api::Validation,
    error::{Code, Problem},
    names::DeploymentName,
    spec::Sources,
    topology::{self, Leases},
};

use super::extract::{Words, body};
use crate::{
    app::{App, blocking},
    error::Answer,
    operations::projects::FILE,
};

/// POST `/api/validate`: the check that every `up` begins with. Images and scripts are not looked for. With `?deployment=` the
/// text is read as that deployment's file, with all that it includes.
pub async fn validate(State(app): State<App>, words: Words, request: Request) -> Answer<axum::Json<Validation>> {
    let of = words.deployment("deployment")?;
    let content = body(request).await?;
    let checked = blocking(move || {
        let Ok(text) = String::from_utf8(content) else {
            return Err(Problem::new(Code::InvalidFile, format!("`{FILE}` is not UTF-8 text")));
        };
        match of {
            Some(name) => Ok(check(&app.operations.project_with(&name, &text)?.sources, &name)),
            None => Ok(check(&Sources::alone(FILE, &text), &DeploymentName::new("testbed")?)),
        }
    });
    Ok(axum::Json(checked.await?))
}

fn check(sources: &Sources, deployment: &DeploymentName) -> Validation {
    let (valid, message, diagnostics) = match topology::load_all(sources, deployment, &Leases::new()) {
        Ok(loaded) => (true, String::new(), loaded.warnings),
        Err(problem) => (false, problem.message, problem.diagnostics),
    };
    Validation { valid, message, file: sources.file.clone(), diagnostics }
}
