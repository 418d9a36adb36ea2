//! Base images: list them, have one made.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use kvm_compose::{
    api::{ActionAccepted, BuildImage, ImageInfo, LogIndex, action::LogRecord},
    error::{Code, Problem},
    names::printable,
};

use super::{
    extract::{ActionId, Json, Words},
    logs,
};
use crate::{app::App, error::Answer, operations::index::images_owner};

/// GET `/api/images`.
pub async fn list(State(app): State<App>) -> Answer<axum::Json<Vec<ImageInfo>>> {
    Ok(axum::Json(app.observe(|operations| operations.driver().images()).await?))
}

/// POST `/api/images`.
pub async fn build(State(app): State<App>, Json(request): Json<BuildImage>) -> Answer<Response> {
    if request.build != "micro" {
        let message = format!("`{}` is not an image that this version can make", printable(&request.build));
        return Err(Problem::new(Code::Unsupported, message).hint("use `micro`").into());
    }
    let operations = app.operations.clone();
    let uuid = crate::app::blocking(move || operations.start_build()).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(ActionAccepted { uuid })).into_response())
}

/// DELETE `/api/images/action/{uuid}`.
pub async fn cancel(State(app): State<App>, ActionId(uuid): ActionId) -> Answer<Response> {
    app.operations.cancel_image(uuid)?;
    Ok((StatusCode::ACCEPTED, axum::Json(ActionAccepted { uuid })).into_response())
}

/// GET `/api/images/logs`.
pub async fn index(State(app): State<App>) -> axum::Json<LogIndex> {
    axum::Json(app.operations.image_index())
}

/// GET `/api/images/logs/{uuid}`, as for deployments.
pub async fn entry(State(app): State<App>, ActionId(uuid): ActionId, words: Words, headers: HeaderMap) -> Answer<Response> {
    let entry = app.operations.image_entry(uuid)?;
    logs::answer(LogRecord { uuid, deployment: images_owner()?, entry }, &words, &headers).await
}
