//! A testbed file, checked before anybody uses it.

use axum::extract::Request;
use kvm_compose::{
    api::Validation,
    diagnostic::problem_of,
    error::{Code, Problem},
    names::DeploymentName,
    orchestrate::host::Cancel,
    rules,
    topology::{self, Leases},
};

use super::extract::body;
use crate::{app::blocking, error::Answer, operations::projects::FILE};

/// POST `/api/validate`: the check that every `up` begins with. What lies outside of the file (images, scripts) is not looked for.
pub async fn validate(request: Request) -> Answer<axum::Json<Validation>> {
    let content = body(request).await?;
    let checked = blocking(move || {
        let Ok(text) = String::from_utf8(content) else {
            return Err(Problem::new(Code::InvalidFile, format!("`{FILE}` is not UTF-8 text")));
        };
        check(&text, &DeploymentName::new("testbed")?)
    });
    Ok(axum::Json(checked.await?))
}

fn check(text: &str, deployment: &DeploymentName) -> Result<Validation, Problem> {
    let judged = topology::load(FILE, text, deployment, &Leases::new()).and_then(|mut loaded| {
        let judged = rules::judge(&loaded.topology, &Cancel::new())?;
        loaded.warnings.extend(judged.clone());
        problem_of(FILE, judged).map_or(Ok(loaded), Err)
    });
    match judged {
        Ok(loaded) => Ok(Validation { valid: true, message: String::new(), diagnostics: loaded.warnings }),
        Err(problem) if problem.diagnostics.is_empty() => Err(problem),
        Err(problem) => Ok(Validation { valid: false, message: problem.message, diagnostics: problem.diagnostics }),
    }
}
