//! A testbed file, checked before anybody uses it.

use std::path::PathBuf;

use axum::extract::{Request, State};
use kvm_compose::{
    api::Validation,
    diagnostic::problem_of,
    error::{Code, Problem},
    names::DeploymentName,
    project,
    topology::{self, Leases},
};

use super::extract::body;
use crate::{
    app::{App, blocking},
    error::Answer,
    operations::projects::FILE,
};

/// POST `/api/validate`: the check that every `up` begins with. Of what lies outside
/// of the file the image catalogue is looked at; disks and scripts are not looked for.
pub async fn validate(State(app): State<App>, request: Request) -> Answer<axum::Json<Validation>> {
    let content = body(request).await?;
    let catalogues = app.data.catalogues();
    let checked = blocking(move || {
        let Ok(text) = String::from_utf8(content) else {
            return Err(Problem::new(Code::InvalidFile, format!("`{FILE}` is not UTF-8 text")));
        };
        check(&text, &DeploymentName::new("testbed")?, &catalogues)
    });
    Ok(axum::Json(checked.await?))
}

fn check(text: &str, deployment: &DeploymentName, catalogues: &[PathBuf]) -> Result<Validation, Problem> {
    let refused = |problem: Problem| Validation { valid: false, message: problem.message, diagnostics: problem.diagnostics };
    let loaded = match topology::load(FILE, text, deployment, &Leases::new()) {
        Ok(loaded) => loaded,
        Err(problem) => return Ok(refused(problem)),
    };
    let images = project::check_images(&loaded.topology, &project::catalogue(catalogues)?);
    Ok(match problem_of(FILE, [loaded.warnings.clone(), images].concat()) {
        Some(problem) => refused(problem),
        None => Validation { valid: true, message: String::new(), diagnostics: loaded.warnings },
    })
}
