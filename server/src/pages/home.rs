//! GET `/gui`: the login, or the list of all testbeds with the form that makes one.

use std::time::Instant;

use askama::Template;
use axum::{
    Extension,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use kvm_compose::{
    api::DeploymentSummary,
    error::{Code, Problem},
};
use serde::Serialize;

use super::{Chrome, Page, errors::Login, respond, words};
use crate::{
    api::{deployments, extract::Words},
    app::App,
    auth::Access,
    error::Answer,
};

/// The testbed that a new one begins with.
const QUICKSTART: &str = include_str!("../../../examples/quickstart/kvm-compose.yaml");

/// All testbeds.
#[derive(Template, Serialize)]
#[template(path = "deployments.html")]
pub struct Deployments {
    chrome: Chrome,
    rows: Vec<Row>,
    count: usize,
    /// What the editor begins with.
    yaml: &'static str,
}

impl Page for Deployments {
    const FILE: &'static str = "deployments.html";
}

#[derive(Serialize)]
struct Row {
    name: String,
    mark: words::Mark,
    last: String,
    last_at: String,
    last_at_shown: String,
    project: String,
}

impl Deployments {
    /// The page over what GET `/api/deployments` answers.
    pub fn new(chrome: Chrome, all: Vec<DeploymentSummary>) -> Deployments {
        let rows: Vec<Row> = all.into_iter().map(row).collect();
        Deployments { chrome, count: rows.len(), rows, yaml: QUICKSTART }
    }
}

fn row(summary: DeploymentSummary) -> Row {
    let last_at = summary.last_action.as_ref().map(|last| last.ended.unwrap_or(last.started));
    Row {
        name: summary.name.to_string(),
        mark: words::deployment(summary.state, summary.phase, summary.failed_command),
        last: words::last_action(summary.last_action.as_ref()),
        last_at: last_at.map(words::exact).unwrap_or_default(),
        last_at_shown: last_at.map(words::shown).unwrap_or_default(),
        project: summary.project_location,
    }
}

/// A page that does nothing but go to another one, as a visit from within this site.
#[derive(Template, Serialize)]
#[template(path = "welcome.html")]
pub struct Welcome {
    chrome: Chrome,
}

impl Page for Welcome {
    const FILE: &'static str = "welcome.html";
}

impl Welcome {
    /// The page.
    pub fn new() -> Welcome {
        Welcome { chrome: Chrome::new("login", false) }
    }
}

impl Default for Welcome {
    fn default() -> Self {
        Welcome::new()
    }
}

/// GET `/gui`.
pub async fn home(State(app): State<App>, words: Words, Extension(access): Extension<Access>) -> Answer<Response> {
    if let Some(link) = words.get("link") {
        return welcome(&app, link);
    }
    if access == Access::Nothing {
        return Ok(respond(StatusCode::OK, &Login::new("", "/gui"))?);
    }
    let axum::Json(all) = deployments::list(State(app)).await?;
    let chrome = Chrome::new("deployments", matches!(access, Access::Session(_)));
    Ok(respond(StatusCode::OK, &Deployments::new(chrome, all))?)
}

/// Turns a link into a session. The page that follows is asked for by this one: after a click in another site's page (a
/// terminal in a browser, say) the browser would not send a `SameSite=Strict` cookie with a redirect.
fn welcome(app: &App, link: &str) -> Answer<Response> {
    let Some(secret) = app.guard.sessions.redeem(link, Instant::now())? else {
        return Ok(respond(
            StatusCode::UNAUTHORIZED,
            &Login::new("this link was used already, or is too old; `testbed gui` makes another", "/gui"),
        )?);
    };
    let mut response = respond(StatusCode::OK, &Welcome::new())?;
    let cookie = HeaderValue::from_str(&app.guard.cookie(Some(&secret)))
        .map_err(|error| Problem::new(Code::Internal, "a cookie is no header").cause(error))?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    tracing::info!("a browser logged in by a link");
    Ok(response)
}
