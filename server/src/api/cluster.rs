//! The hosts of the cluster, for its operator. What members themselves say comes through their own door.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use kvm_compose::{
    api::cluster::{JoinToken, Members},
    error::{Code, Problem},
};

use super::extract::{Host, Words};
use crate::{
    app::{App, blocking},
    cluster::Cluster,
    error::Answer,
};

fn cluster(app: &App) -> Result<Arc<Cluster>, Problem> {
    app.cluster.clone().ok_or_else(|| Problem::new(Code::Unsupported, "this server keeps no cluster"))
}

/// POST `/api/cluster/token`.
pub async fn token(State(app): State<App>) -> Answer<(StatusCode, axum::Json<JoinToken>)> {
    let cluster = cluster(&app)?;
    let token = blocking(move || cluster.make_token()).await?;
    Ok((StatusCode::CREATED, axum::Json(token)))
}

/// GET `/api/cluster/members`.
pub async fn members(State(app): State<App>) -> Answer<axum::Json<Members>> {
    let cluster = cluster(&app)?;
    Ok(axum::Json(blocking(move || cluster.members()).await?))
}

/// DELETE `/api/cluster/members/{name}`.
pub async fn remove(State(app): State<App>, Host(name): Host, words: Words) -> Answer<StatusCode> {
    let cluster = cluster(&app)?;
    let force = words.flag("force")?;
    blocking(move || cluster.remove(&name, force)).await?;
    Ok(StatusCode::NO_CONTENT)
}
