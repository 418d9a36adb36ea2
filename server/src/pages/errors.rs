//! What went wrong, as a page: the login when nobody is logged in, else the problem itself. For browsers alone; programs
//! get the documented JSON.

use askama::Template;
use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use kvm_compose::error::{Code, Problem};
use serde::Serialize;

use super::{Chrome, Page, respond};
use crate::{api::auth::inside, error::Failure};

/// The login.
#[derive(Template, Serialize)]
#[template(path = "login.html")]
pub struct Login {
    chrome: Chrome,
    /// Why it stands here, when somebody tried already.
    message: String,
    /// Where it leads.
    next: String,
}

impl Page for Login {
    const FILE: &'static str = "login.html";
}

impl Login {
    /// The login, leading to `next`.
    pub fn new(message: &str, next: &str) -> Login {
        Login { chrome: Chrome::new("login", false), message: message.to_string(), next: inside(next).to_string() }
    }
}

/// A problem.
#[derive(Template, Serialize)]
#[template(path = "problem.html")]
pub struct Trouble {
    chrome: Chrome,
    code: &'static str,
    message: String,
    hint: String,
    causes: Vec<String>,
}

impl Page for Trouble {
    const FILE: &'static str = "problem.html";
}

impl Trouble {
    /// The page of a problem.
    pub fn new(problem: Problem) -> Trouble {
        Trouble {
            chrome: Chrome::new("", false),
            code: problem.code.name(),
            message: problem.message,
            hint: problem.hint.unwrap_or_default(),
            causes: problem.causes,
        }
    }
}

/// Turns failures on the way to a page into pages.
pub async fn layer(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_login = path == "/api/auth/login";
    let is_page = is_login || path == "/gui" || path.starts_with("/gui/");
    if !is_page || !accepts_html(request.headers()) {
        return next.run(request).await;
    }
    let wanted = request.uri().path_and_query().map_or("/gui", |found| found.as_str()).to_string();
    let mut response = next.run(request).await;
    let Some(failure) = response.extensions_mut().remove::<Failure>() else { return response };
    page(failure.0, if is_login { None } else { Some(&wanted) })
}

fn page(problem: Problem, wanted: Option<&str>) -> Response {
    let status = StatusCode::from_u16(problem.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let asks_for_login = matches!(problem.code, Code::Unauthorized) || wanted.is_none();
    let made = if asks_for_login {
        let message = if wanted.is_none() { problem.message.as_str() } else { "" };
        respond(status, &Login::new(message, wanted.unwrap_or_default()))
    } else {
        respond(status, &Trouble::new(problem))
    };
    made.unwrap_or_else(|problem| Failure(problem).into_response())
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|kind| kind.trim().starts_with("text/html"))
}
