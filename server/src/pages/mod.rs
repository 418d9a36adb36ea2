//! The few pages that there are: a front page and the description of the API. They show no data of any deployment.

use askama::Template;
use axum::{
    http::{HeaderName, header},
    response::{Html, IntoResponse, Response},
};
use kvm_compose::error::{Code, Problem};

use crate::{error::Answer, openapi, router};

/// Nothing from elsewhere, no scripts, no frames.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[derive(Template)]
#[template(path = "front.html")]
struct Front {
    version: &'static str,
}

#[derive(Template)]
#[template(path = "docs.html")]
struct Docs {
    version: &'static str,
    endpoints: Vec<Row>,
    codes: Vec<CodeRow>,
}

struct Row {
    method: String,
    path: String,
    summary: &'static str,
    query: Vec<(&'static str, &'static str)>,
}

struct CodeRow {
    name: &'static str,
    number: u16,
    status: u16,
    exit_status: u8,
    meaning: &'static str,
}

/// GET `/` and `/gui`.
pub async fn front() -> Answer<Response> {
    page(&Front { version: env!("CARGO_PKG_VERSION") })
}

/// GET `/api/docs`.
pub async fn docs() -> Answer<Response> {
    let endpoints = router::endpoints().into_iter().map(|endpoint| Row {
        method: endpoint.method.to_uppercase(),
        query: endpoint.query_parameters().to_vec(),
        path: endpoint.path,
        summary: endpoint.summary,
    });
    let codes = Code::ALL.iter().map(|code| CodeRow {
        name: code.name(),
        number: code.number(),
        status: code.http_status(),
        exit_status: code.exit_status(),
        meaning: code.meaning().trim(),
    });
    page(&Docs { version: env!("CARGO_PKG_VERSION"), endpoints: endpoints.collect(), codes: codes.collect() })
}

/// GET `/api/openapi.json`.
pub async fn openapi() -> axum::Json<serde_json::Value> {
    axum::Json(openapi::document(&router::endpoints()))
}

/// GET `/assets/plain.css`.
pub async fn style() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, include_str!("../../../templates/plain.css")).into_response()
}

fn page(template: &impl Template) -> Answer<Response> {
    let text = template.render().map_err(|error| Problem::internal("a page cannot be made").cause(error))?;
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    Ok((headers, Html(text)).into_response())
}
