//! What the server knows of this host and of the cluster.

use axum::extract::State;
use kvm_compose::error::Problem;

use super::extract::Json;
use crate::{
    app::{App, blocking},
    config::host::{ClusterConfig, HostConfig},
    error::{Answer, not_found},
};

/// GET `/api/config/host`.
pub async fn host(State(app): State<App>) -> Answer<axum::Json<HostConfig>> {
    let data = app.data.clone();
    Ok(axum::Json(blocking(move || HostConfig::load(&data)).await?))
}

/// POST `/api/config/host`. Plans use it after the next start.
pub async fn put_host(State(app): State<App>, Json(host): Json<HostConfig>) -> Answer<axum::Json<HostConfig>> {
    let data = app.data.clone();
    let written = blocking(move || host.write(&data).map(|()| host)).await?;
    Ok(axum::Json(written))
}

/// GET `/api/config/cluster`.
pub async fn cluster(State(app): State<App>) -> Answer<axum::Json<ClusterConfig>> {
    let data = app.data.clone();
    let found = blocking(move || ClusterConfig::read(&data)?.ok_or_else(|| -> Problem { not_found("config/kvm-compose-config.json") }));
    Ok(axum::Json(found.await?))
}
