//! Deployments: list, create, show, change, remove; their testbed file and their state.

use axum::{
    body::Bytes,
    extract::{FromRequest as _, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::Utc;
use kvm_compose::{
    api::{Composition, CreateDeployment, DeploymentState, DeploymentSummary, Draft, Phase, link::LinkReport},
    error::{Code, Problem},
    names::{DeploymentName, GuestName},
};

use super::{
    extract::{Json, Name, Words, body},
    upload,
};
use crate::{
    app::App,
    error::{Answer, bad_request},
    operations::{
        Operations,
        projects::{check_draft, check_file_name, check_location},
        run_state,
    },
    store::{DeploymentRecord, Expected, Versioned, check_new_name},
};

/// GET `/api/deployments`.
pub async fn list(State(app): State<App>) -> Answer<axum::Json<Vec<DeploymentSummary>>> {
    let all = app.operations.records()?;
    Ok(axum::Json(all.into_iter().map(|record| summary(&app.operations, &record)).collect()))
}

fn summary(operations: &Operations, record: &Versioned<DeploymentRecord>) -> DeploymentSummary {
    let value = &record.value;
    let last_action = operations.last_action(value);
    let (state, failed_command) = run_state(value, value.phase, last_action.as_ref());
    let own = || operations.data.project(&value.name).display().to_string();
    DeploymentSummary {
        name: value.name.clone(),
        project_location: value.project_location.clone().unwrap_or_else(own),
        state,
        phase: value.phase,
        failed_command,
        last_action,
        created: value.created,
        revision: record.revision,
    }
}

/// POST `/api/deployments`: JSON, or a project as a tar archive with `?name=`.
pub async fn create(State(app): State<App>, words: Words, request: Request) -> Answer<Response> {
    let made = if upload::is_archive(&request) {
        let name = words.deployment("name")?.ok_or_else(|| bad_request("an upload needs `?name=`"))?;
        check_new_name(&name)?;
        if app.operations.store.deployments.get(&name)?.is_some() {
            return Err(exists(&name).into());
        }
        let composition = upload::receive(&app, &name, request).await?;
        let uploaded = name.clone();
        app.store(move |operations| operations.keep_composition(&uploaded, &composition)).await?;
        CreateDeployment { name, project_location: None }
    } else {
        Json::<CreateDeployment>::from_request(request, &app).await?.0
    };
    let record = app.store(move |operations| put_new(operations, made)).await?;
    let location = format!("/api/deployments/{}", record.value.name);
    let shown = axum::Json(summary(&app.operations, &record));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], shown).into_response())
}

fn exists(name: &DeploymentName) -> Problem {
    Problem::new(Code::Conflict, format!("deployment `{name}` exists already"))
}

fn put_new(operations: &Operations, made: CreateDeployment) -> Result<Versioned<DeploymentRecord>, Problem> {
    check_new_name(&made.name)?;
    check_location(made.project_location.as_deref())?;
    let record = DeploymentRecord {
        name: made.name.clone(),
        project_location: made.project_location,
        created: Utc::now(),
        phase: Phase::Down,
        last_action: None,
        last_change: None,
        forgiven: None,
        file: None,
    };
    operations.store.deployments.put(&made.name, record, Expected::Absent).map_err(|problem| match problem.code {
        Code::Conflict => exists(&made.name),
        _ => problem,
    })
}

/// GET `/api/deployments/{name}`.
pub async fn show(State(app): State<App>, Name(name): Name) -> Answer<axum::Json<DeploymentSummary>> {
    let record = app.operations.record(&name)?;
    Ok(axum::Json(summary(&app.operations, &record)))
}

/// PUT `/api/deployments/{name}`: another `project_location`, or another project as a tar archive.
pub async fn change(State(app): State<App>, Name(name): Name, headers: HeaderMap, request: Request) -> Answer<Response> {
    let record = app.operations.record(&name)?;
    if upload::is_archive(&request) {
        let composition = upload::receive(&app, &name, request).await?;
        let archived = name.clone();
        let kept = move |operations: &Operations| {
            operations.keep_composition(&archived, &composition)?;
            operations.name_file(&archived, None)
        };
        app.store(kept).await?;
        return Ok(axum::Json(summary(&app.operations, &app.operations.record(&name)?)).into_response());
    }
    let Json(wanted) = Json::<CreateDeployment>::from_request(request, &app).await?;
    if wanted.name != name {
        return Err(bad_request(format!("a deployment keeps its name: this is `{name}`, not `{}`", wanted.name)));
    }
    check_location(wanted.project_location.as_deref())?;
    let expected = expected_revision(&headers)?.unwrap_or(record.revision);
    let changed = app.store(move |operations| {
        let value = DeploymentRecord { project_location: wanted.project_location, ..DeploymentRecord::clone(&record.value) };
        operations.store.deployments.put(&name, value, Expected::Revision(expected))
    });
    let changed = changed.await?;
    Ok(axum::Json(summary(&app.operations, &changed)).into_response())
}

/// `If-Match: "REVISION"`, for clients that read before they write.
fn expected_revision(headers: &HeaderMap) -> Answer<Option<u64>> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| text.trim_matches('"').parse().ok());
    parsed.map(Some).ok_or_else(|| bad_request("`If-Match` must hold the revision that was read"))
}

/// DELETE `/api/deployments/{name}`; with `?force`, `down` first.
pub async fn remove(State(app): State<App>, Name(name): Name, words: Words) -> Answer<StatusCode> {
    if words.flag("force")? {
        app.operations.record(&name)?;
        // In a task of its own: what began goes on when the client does not wait.
        let work = tokio::spawn(app.operations.clone().remove_by_force(name));
        work.await.map_err(|error| Problem::internal("the removal ended early").cause(error))??;
    } else {
        app.observe(move |operations| operations.remove(&name)).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// POST `/api/deployments/{name}/reset`.
pub async fn reset(State(app): State<App>, Name(name): Name) -> Answer<axum::Json<DeploymentSummary>> {
    let record = app.observe(move |operations| operations.reset(&name)).await?;
    Ok(axum::Json(summary(&app.operations, &record)))
}

/// GET `/api/deployments/{name}/yaml`.
pub async fn yaml(State(app): State<App>, Name(name): Name) -> Answer<Response> {
    let content = app.store(move |operations| operations.yaml(&name)).await?;
    Ok(([(header::CONTENT_TYPE, "application/yaml")], Bytes::from(content)).into_response())
}

/// PUT `/api/deployments/{name}/yaml`: the testbed file, or a whole testbed as JSON.
pub async fn put_yaml(State(app): State<App>, Name(name): Name, words: Words, request: Request) -> Answer<StatusCode> {
    let file = words.get("file").map(String::from);
    check_file_name(file.as_deref())?;
    let keep = words.flag("keep_composition")?;
    let is_draft = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let (content, file, composition) = if is_draft {
        let Json(draft) = Json::<Draft>::from_request(request, &app).await?;
        if keep || draft.project_location.is_some() {
            return Err(bad_request("a whole testbed brings its own composition, and moves no project: PUT the deployment for that"));
        }
        check_draft(&draft)?;
        (draft.text.into_bytes(), draft.file.or(file), Some(draft.composition))
    } else {
        (body(request).await?, file, (!keep).then(Composition::default))
    };
    app.store(move |operations| {
        // A file that is refused must not leave another one's composition.
        operations.check_yaml(&name, &content)?;
        if let Some(composition) = composition {
            operations.keep_composition(&name, &composition)?;
        }
        operations.put_yaml(&name, &content, file)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// GET `/api/deployments/{name}/links`: asks the real parts, and with `?probe` measures.
pub async fn links(State(app): State<App>, Name(name): Name, words: Words) -> Answer<axum::Json<Vec<LinkReport>>> {
    let probe = words.flag("probe")?;
    let only: Vec<String> = words.get("only").unwrap_or_default().split(',').filter(|word| !word.is_empty()).map(String::from).collect();
    let links = app.observe(move |operations| {
        let is_meant = |guest: &GuestName, interface: &str| {
            let is = |word: &String| match word.split_once(':') {
                Some((named, part)) => named == guest.as_str() && part == interface,
                None => word == guest.as_str(),
            };
            only.is_empty() || only.iter().any(is)
        };
        operations.links(&name, &is_meant, probe)
    });
    Ok(axum::Json(links.await?))
}

/// GET `/api/deployments/{name}/state`: asks the real parts.
pub async fn state(State(app): State<App>, Name(name): Name) -> Answer<axum::Json<DeploymentState>> {
    let state = app.observe(move |operations| {
        let view = operations.observe(&name)?;
        let record = operations.record(&name)?.value;
        let last_action = operations.last_action(&record);
        let (state, failed_command) = run_state(&record, view.phase, last_action.as_ref());
        Ok(DeploymentState {
            name,
            state,
            phase: view.phase,
            failed_command,
            last_action,
            guests: view.guests,
            rows_wanted: view.rows_wanted,
            rows_observed: view.rows_observed,
            warnings: view.warnings,
        })
    });
    Ok(axum::Json(state.await?))
}
