//! `/api/deployments/{name}/snapshots`: what there is; making and deleting are actions.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use kvm_compose::{
    api::{ActionAccepted, ActionRequest, CreateSnapshot, SnapshotInfo, SnapshotOperation, SnapshotRequest},
    names::DeploymentName,
};

use super::extract::{Json, Name, Snapshot};
use crate::{
    app::{App, blocking},
    error::Answer,
};

/// GET `/api/deployments/{name}/snapshots`.
pub async fn list(State(app): State<App>, Name(name): Name) -> Answer<axum::Json<Vec<SnapshotInfo>>> {
    let operations = app.operations.clone();
    Ok(axum::Json(blocking(move || operations.snapshots(&name)).await?))
}

/// GET `/api/deployments/{name}/snapshots/{snapshot}`.
pub async fn show(State(app): State<App>, Name(name): Name, Snapshot(snapshot): Snapshot) -> Answer<axum::Json<SnapshotInfo>> {
    let operations = app.operations.clone();
    Ok(axum::Json(blocking(move || operations.snapshot_info(&name, &snapshot)).await?))
}

/// POST `/api/deployments/{name}/snapshots`.
pub async fn create(State(app): State<App>, Name(name): Name, Json(body): Json<CreateSnapshot>) -> Answer<Response> {
    let CreateSnapshot { name: snapshot, guests, memory } = body;
    start(app, name, SnapshotRequest { operation: SnapshotOperation::Create, name: snapshot, guests, memory }).await
}

/// DELETE `/api/deployments/{name}/snapshots/{snapshot}`.
pub async fn delete(State(app): State<App>, Name(name): Name, Snapshot(snapshot): Snapshot) -> Answer<Response> {
    start(app, name, SnapshotRequest { operation: SnapshotOperation::Delete, name: snapshot, guests: Vec::new(), memory: false }).await
}

async fn start(app: App, name: DeploymentName, request: SnapshotRequest) -> Answer<Response> {
    let location = format!("/api/deployments/{name}/logs/");
    let operations = app.operations.clone();
    let uuid = blocking(move || operations.start(&name, ActionRequest::Snapshot(request))).await?;
    let accepted = axum::Json(ActionAccepted { uuid });
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, format!("{location}{uuid}"))], accepted).into_response())
}
