//! Actions: start one, cancel one.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use kvm_compose::api::{ActionAccepted, ActionRequest};

use super::extract::{ActionId, Json, Name};
use crate::{app::App, error::Answer};

/// POST `/api/deployments/{name}/action`.
pub async fn start(State(app): State<App>, Name(name): Name, Json(request): Json<ActionRequest>) -> Answer<Response> {
    let location = format!("/api/deployments/{name}/logs/");
    let operations = app.operations.clone();
    let uuid = crate::app::blocking(move || operations.start(&name, request)).await?;
    let accepted = axum::Json(ActionAccepted { uuid });
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, format!("{location}{uuid}"))], accepted).into_response())
}

/// DELETE `/api/deployments/{name}/action/{uuid}`.
pub async fn cancel(State(app): State<App>, Name(name): Name, ActionId(uuid): ActionId) -> Answer<Response> {
    app.operations.cancel(&name, uuid)?;
    Ok((StatusCode::ACCEPTED, axum::Json(ActionAccepted { uuid })).into_response())
}
