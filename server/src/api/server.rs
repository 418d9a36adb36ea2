//! The server itself: version, health, readiness, metrics.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use kvm_compose::{
    api::{CheckResult, Health, Orphan, Ready, Version},
    error::{Code, Problem},
};

use crate::{app::App, error::Answer, metrics::Snapshot, operations::run_state, store::reserve};

/// The API's version.
const API: u32 = 1;

/// A part that does not answer within this is not ready.
const CHECK_LIMIT: Duration = Duration::from_secs(20);

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
    parts.push(store(&app));
    parts.push(reserve(&app));
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

fn reserve(app: &App) -> CheckResult {
    let (ok, size) = (app.operations.reserve.is_there(), reserve::SIZE >> 20);
    let detail = if ok {
        format!("{size} MiB are set aside, so that `down` works on a full disk")
    } else {
        "the room set aside for `down` is given up".to_string()
    };
    CheckResult {
        part: "reserve".to_string(),
        ok,
        required: false,
        detail,
        fix: (!ok).then(|| "free some space on the data folder's disk; it is set aside again within seconds".to_string()),
    }
}

/// GET `/api/orphans`.
pub async fn orphans(State(app): State<App>) -> Answer<Json<Vec<Orphan>>> {
    let found = app.observe(|operations| {
        let mut orphans = Vec::new();
        for (what, deployment) in operations.driver().marked()? {
            if operations.store.deployments.get(&deployment)?.is_none() {
                let (kind, name) = what.split_once(' ').unwrap_or(("thing", &what));
                orphans.push(Orphan {
                    kind: kind.to_string(),
                    name: name.to_string(),
                    detail: format!("made for the deployment `{deployment}`, which is not on record"),
                    fix: Some(format!("testbed -p {deployment} deployment create && testbed -p {deployment} down")),
                });
            }
        }
        Ok(orphans)
    });
    Ok(Json(found.await?))
}

/// GET `/metrics`.
pub async fn metrics(State(app): State<App>) -> Answer<Response> {
    let mut deployments = BTreeMap::new();
    for record in app.operations.records()? {
        let last = app.operations.last_action(&record.value);
        let (state, _) = run_state(&record.value, record.value.phase, last.as_ref());
        let word = serde_json::to_value(state).map_err(|error| Problem::new(Code::Internal, "a state has no word").cause(error))?;
        *deployments.entry(word.as_str().unwrap_or_default().to_string()).or_default() += 1;
    }
    let text = app.metrics.text(&Snapshot { deployments, running: app.operations.running().len() });
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
