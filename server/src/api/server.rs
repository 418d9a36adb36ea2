//! The server itself: version, health, readiness, metrics.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use kvm_compose::{
    api::{CheckResult, Health, Ready, Version},
    error::{Code, Problem},
};

use crate::{app::App, error::Answer, metrics::Snapshot, operations::run_state};

/// The API's version.
const API: u32 = 1;

/// A part that does not answer within this is not ready.
const CHECK_LIMIT: Duration = Duration::from_secs(20);

/// Less free space than this is not ready.
const FREE_BYTES: u64 = 1024 * 1024 * 1024;

/// GET `/api/version`.
pub async fn version(State(app): State<App>) -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_string(),
        api: API,
        installation: app.installation.to_string(),
        mode: "master".to_string(),
    })
}

/// GET `/api/health`.
pub async fn health() -> Json<Health> {
    Json(Health { status: "ok".to_string() })
}

/// GET `/api/ready`.
pub async fn ready(State(app): State<App>) -> Response {
    let asked = tokio::time::timeout(CHECK_LIMIT, app.observe(|operations| Ok(operations.driver().checks()))).await;
    let failed = |detail: String| {
        let fix = Some("see the server's log".to_string());
        vec![CheckResult { part: "checks".to_string(), ok: false, required: true, detail, fix }]
    };
    let mut parts = match asked {
        Ok(Ok(parts)) => parts,
        Ok(Err(problem)) => failed(problem.to_string()),
        Err(_) => failed(format!("the real parts did not answer within {} s", CHECK_LIMIT.as_secs())),
    };
    parts.retain(|part| part.part != "store" && part.part != "disk");
    parts.extend([store(&app), disk(&app)]);
    let ready = parts.iter().all(|part| part.ok || !part.required);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready, parts })).into_response()
}

fn store(app: &App) -> CheckResult {
    let set_aside = app.operations.store.set_aside();
    let detail = if set_aside.is_empty() { "every record is readable".to_string() } else { format!("set aside: {}", set_aside.join("; ")) };
    CheckResult {
        part: "store".to_string(),
        ok: set_aside.is_empty(),
        required: false,
        detail,
        fix: (!set_aside.is_empty()).then(|| "restore the named files from a copy, or remove them; then restart the server".to_string()),
    }
}

fn disk(app: &App) -> CheckResult {
    let free = rustix::fs::statvfs(app.data.root()).map(|found| found.f_bavail.saturating_mul(found.f_frsize));
    let detail = match free {
        Ok(free) => format!("{} MiB free for {}", free / (1024 * 1024), app.data.root().display()),
        Err(error) => format!("cannot tell how much is free for {}: {error}", app.data.root().display()),
    };
    let ok = free.is_ok_and(|free| free >= FREE_BYTES);
    let fix = (!ok).then(|| format!("free at least {} MiB", FREE_BYTES / (1024 * 1024)));
    CheckResult { part: "disk".to_string(), ok, required: true, detail, fix }
}

/// GET `/metrics`.
pub async fn metrics(State(app): State<App>) -> Answer<Response> {
    let mut deployments = BTreeMap::new();
    for (_, record) in app.operations.store.deployments.list()? {
        let last = app.operations.last_action(&record.value);
        let (state, _) = run_state(&record.value, record.value.phase, last.as_ref());
        let word = serde_json::to_value(state).map_err(|error| Problem::new(Code::Internal, "a state has no word").cause(error))?;
        *deployments.entry(word.as_str().unwrap_or_default().to_string()).or_default() += 1;
    }
    let text = app.metrics.text(&Snapshot { deployments, running: app.operations.running().len() });
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
