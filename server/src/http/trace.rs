//! Around every request: an id, one line in the log, a count, and the one shape of errors.

use std::time::Instant;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use kvm_compose::{api::ErrorBody, error::Problem, names::printable};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{
    app::App,
    error::{Failure, problem_of_status},
};

/// The header that carries the request's id.
pub const REQUEST_ID: &str = "x-request-id";

/// A foreign layer's error text is taken as the message up to this length.
const LONGEST_DETAIL: usize = 1024;

/// Gives the request an id, logs and counts it, and turns every failure into the JSON that is documented.
pub async fn layer(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = Uuid::now_v7();
    let started = Instant::now();
    let (method, path) = (request.method().clone(), printable(request.uri().path()));
    let span = tracing::info_span!("request", %id);
    let response = next.run(request).instrument(span.clone()).await;
    let (mut response, problem) = shape(response, id).await;
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    app.metrics.request_ended(status);
    let ms = started.elapsed().as_millis() as u64;
    let code = problem.as_ref().map(|problem| problem.code.name());
    span.in_scope(|| match &problem {
        Some(problem) if status >= 500 => {
            tracing::warn!(%method, path, status, ms, code, message = problem.message, causes = ?problem.causes, "request failed");
        }
        _ => tracing::info!(%method, path, status, ms, code, "request"),
    });
    response
}

/// The same shape of errors at a door that has no log of requests.
pub async fn shaped(request: Request, next: Next) -> Response {
    shape(next.run(request).await, Uuid::now_v7()).await.0
}

/// A response that is no success gets the documented body, whoever made it.
async fn shape(mut response: Response, id: Uuid) -> (Response, Option<Problem>) {
    let status = response.status();
    // A body that is JSON already and carries an error status is an answer (`/api/ready`); so is a page that tells of one.
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_answer = kind.starts_with(b"application/json") || kind.starts_with(b"text/html");
    if !(status.is_client_error() || status.is_server_error()) || is_answer {
        return (response, None);
    }
    let problem = match response.extensions_mut().remove::<Failure>() {
        Some(Failure(problem)) => problem,
        None => {
            let body = std::mem::replace(response.body_mut(), Body::empty());
            let detail = axum::body::to_bytes(body, LONGEST_DETAIL).await.unwrap_or_default();
            problem_of_status(status, &String::from_utf8_lossy(&detail))
        }
    };
    let body = axum::Json(ErrorBody { problem: problem.clone(), request_id: id.to_string() });
    let mut shaped = (status, body).into_response();
    for kept in [header::ALLOW, header::WWW_AUTHENTICATE, header::CONTENT_RANGE, header::CONNECTION, header::RETRY_AFTER] {
        if let Some(value) = response.headers().get(&kept) {
            shaped.headers_mut().insert(kept, value.clone());
        }
    }
    (shaped, Some(problem))
}

/// A handler's panic as a response.
pub fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = said, "a handler panicked");
    Failure(Problem::internal("the server failed at this request").hint("please report it, with the server's log")).into_response()
}
