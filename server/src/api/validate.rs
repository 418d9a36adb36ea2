//! A testbed file, checked before anybody uses it.

use axum::extract::Request;
use kvm_compose::{
    api::Validation,
    error::{Code, Problem},
    names::DeploymentName,
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
        Ok(check(&text, &DeploymentName::new("testbed")?))
    });
    Ok(axum::Json(checked.await?))
}

fn check(text: &str, deployment: &DeploymentName) -> Validation {
    match topology::load(FILE, text, deployment, &Leases::new()) {
        Ok(loaded) => Validation { valid: true, message: String::new(), diagnostics: loaded.warnings },
        Err(problem) => Validation { valid: false, message: problem.message, diagnostics: problem.diagnostics },
    }
}
