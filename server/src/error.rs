//! A `Problem` as an HTTP response. The body's shape is made in one place, [`crate::http::trace`], which knows the
//! request's id; here only the status is decided.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use kvm_compose::error::{Code, Problem};

/// What a handler returns when it does not succeed.
#[derive(Debug, Clone)]
pub struct Failure(pub Problem);

/// What handlers return.
pub type Answer<T> = Result<T, Failure>;

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Failure(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The problem behind a response that some layer made without one (405, 413, a refused upgrade, …).
pub fn problem_of_status(status: StatusCode, detail: &str) -> Problem {
    let code = match status.as_u16() {
        401 => Code::Unauthorized,
        403 | 421 => Code::Forbidden,
        404 => Code::NotFound,
        405 => Code::MethodNotAllowed,
        409 => Code::Conflict,
        413 => Code::TooLarge,
        422 => Code::InvalidFile,
        429 => Code::RateLimited,
        503 => Code::Unavailable,
        400..=499 => Code::BadRequest,
        _ => Code::Internal,
    };
    let message = match status.as_u16() {
        405 => "this path does not take that method".to_string(),
        413 => "the body is larger than the limit".to_string(),
        _ if detail.is_empty() => status.canonical_reason().unwrap_or("the request failed").to_lowercase(),
        _ => detail.to_string(),
    };
    Problem::new(code, message)
}

/// A problem with the request.
pub fn bad_request(message: impl Into<String>) -> Failure {
    Failure(Problem::new(Code::BadRequest, message))
}

/// There is no such thing.
pub fn not_found(what: impl std::fmt::Display) -> Problem {
    Problem::new(Code::NotFound, format!("{what} does not exist"))
}

/// There is no such deployment.
pub fn no_deployment(name: &kvm_compose::names::DeploymentName) -> Problem {
    not_found(format_args!("deployment `{name}`")).hint("`testbed list` shows those that do; `testbed up` makes one")
}
