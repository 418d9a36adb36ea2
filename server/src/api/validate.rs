//! A testbed file, checked before anybody uses it.

use axum::extract::{Request, State};
use kvm_compose::{
    api::Validation,
    catalogue::Catalogue,
    diagnostic::problem_of,
    error::{Code, Problem},
    names::DeploymentName,
    orchestrate::host::Cancel,
    project, rules,
    spec::Sources,
    topology::{self, Leases},
};

use super::extract::{Words, body};
use crate::{
    app::{App, blocking},
    error::Answer,
    operations::projects::FILE,
};

/// POST `/api/validate`: the check that every `up` begins with. Images are looked for in the catalogue,
/// disks and scripts not at all. With `?deployment=` the
/// text is read as that deployment's file, with all that it includes.
pub async fn validate(State(app): State<App>, words: Words, request: Request) -> Answer<axum::Json<Validation>> {
    let of = words.deployment("deployment")?;
    let content = body(request).await?;
    let catalogues = app.data.catalogues();
    let checked = blocking(move || {
        let Ok(text) = String::from_utf8(content) else {
            return Err(Problem::new(Code::InvalidFile, format!("`{FILE}` is not UTF-8 text")));
        };
        let imported = app.operations.driver().images()?.into_iter().map(|image| image.name);
        let catalogue = project::catalogue(&catalogues)?.with_imported(imported);
        match of {
            Some(name) => check(&app.operations.project_with(&name, &text)?.sources, &name, &catalogue),
            None => check(&Sources::alone(FILE, &text), &DeploymentName::new("testbed")?, &catalogue),
        }
    });
    Ok(axum::Json(checked.await?))
}

fn check(sources: &Sources, deployment: &DeploymentName, catalogue: &Catalogue) -> Result<Validation, Problem> {
    let said = |valid, message, diagnostics| Validation { valid, message, file: sources.file.clone(), diagnostics };
    let loaded = match topology::load_all(sources, deployment, &Leases::new()) {
        Ok(loaded) => loaded,
        Err(problem) if problem.diagnostics.is_empty() => return Err(problem),
        Err(problem) => {
            let problem = rules::with_judged(problem, sources, deployment, &Cancel::new());
            return Ok(said(false, problem.message, problem.diagnostics));
        }
    };
    let images = project::check_images(&loaded.topology, catalogue);
    let judged = rules::judge(&loaded.topology, &Cancel::new())?;
    let all = [loaded.warnings, images, judged].concat();
    Ok(match problem_of(&sources.file, all.clone()) {
        Some(problem) => said(false, problem.message, problem.diagnostics),
        None => said(true, String::new(), all),
    })
}
