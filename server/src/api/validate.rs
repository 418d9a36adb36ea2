//! A testbed file, checked before anybody uses it.

use axum::extract::{Request, State};
use kvm_compose::{
    api::Validation,
    diagnostic::problem_of,
    error::{Code, Problem},
    names::DeploymentName,
    orchestrate::host::Cancel,
    rules,
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
            Some(name) => check(&app.operations.project_with(&name, &text)?.sources, &name),
            None => check(&Sources::alone(FILE, &text), &DeploymentName::new("testbed")?),
        }
    });
    Ok(axum::Json(checked.await?))
}

fn check(sources: &Sources, deployment: &DeploymentName) -> Result<Validation, Problem> {
    let file = sources.file.clone();
    let judged = topology::load_all(sources, deployment, &Leases::new()).and_then(|mut loaded| {
        let judged = rules::judge(&loaded.topology, &Cancel::new())?;
        loaded.warnings.extend(judged.clone());
        problem_of(&file, judged).map_or(Ok(loaded), Err)
    });
    match judged {
        Ok(loaded) => Ok(Validation { valid: true, message: String::new(), file, diagnostics: loaded.warnings }),
        Err(problem) if problem.diagnostics.is_empty() => Err(problem),
        Err(problem) => Ok(Validation { valid: false, message: problem.message, file, diagnostics: problem.diagnostics }),
    }
}
