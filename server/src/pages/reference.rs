//! The description of the API, and the page at `/`. They show no data of any deployment.

use askama::Template;
use axum::{http::StatusCode, response::Response};
use kvm_compose::error::Code;
use serde::Serialize;

use super::{Chrome, Page, respond};
use crate::{error::Answer, openapi, router};

/// The page at `/`.
#[derive(Template, Serialize)]
#[template(path = "front.html")]
pub struct Front {
    chrome: Chrome,
}

impl Page for Front {
    const FILE: &'static str = "front.html";
}

impl Front {
    /// The page.
    pub fn new() -> Front {
        Front { chrome: Chrome::new("", false) }
    }
}

impl Default for Front {
    fn default() -> Self {
        Front::new()
    }
}

/// The API as a page.
#[derive(Template, Serialize)]
#[template(path = "docs.html")]
pub struct Docs {
    chrome: Chrome,
    endpoints: Vec<Row>,
    codes: Vec<CodeRow>,
}

impl Page for Docs {
    const FILE: &'static str = "docs.html";
}

#[derive(Serialize)]
struct Row {
    method: String,
    path: String,
    summary: &'static str,
    query: Vec<(&'static str, &'static str)>,
}

#[derive(Serialize)]
struct CodeRow {
    name: &'static str,
    number: u16,
    status: u16,
    exit_status: u8,
    meaning: &'static str,
}

/// GET `/`.
pub async fn front() -> Answer<Response> {
    Ok(respond(StatusCode::OK, &Front::new())?)
}

/// GET `/api/docs`.
pub async fn docs() -> Answer<Response> {
    Ok(respond(StatusCode::OK, &docs_page())?)
}

/// The API as a page.
pub fn docs_page() -> Docs {
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
    Docs { chrome: Chrome::new("api", false), endpoints: endpoints.collect(), codes: codes.collect() }
}

/// GET `/api/openapi.json`.
pub async fn openapi() -> axum::Json<serde_json::Value> {
    axum::Json(openapi::document(&router::endpoints()))
}
