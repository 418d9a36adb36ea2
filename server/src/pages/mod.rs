//! The pages below `/gui`: what the API answers, as HTML. A page shows what it was told just now and remembers nothing;
//! what its buttons do goes through the API.
//!
//! Must not know libvirt or OVN, nor change anything.

pub mod assets;
pub mod deployment;
pub mod edit;
pub mod errors;
pub mod guest;
pub mod home;
pub mod hosts;
pub mod images;
#[cfg(all(test, debug_assertions))]
mod parity;
pub mod reference;
pub mod render;
pub mod words;

use axum::{
    http::{HeaderName, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use kvm_compose::error::Problem;
use serde::Serialize;

use crate::app::App;
pub use render::Page;

/// Nothing from elsewhere, nothing inline, no frames. Websockets of the same origin are within `'self'`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What stands around every page.
#[derive(Debug, Clone, Serialize)]
pub struct Chrome {
    /// The server's version.
    pub version: &'static str,
    /// Which entry of the navigation is lit: `deployments`, `hosts`, `images`, or none.
    pub active: &'static str,
    /// True when there is a session to log out of.
    pub session: bool,
    /// True in builds for development, whose pages reload themselves.
    pub dev: bool,
    /// What the page was made of; another one means that it is out of date.
    pub stamp: String,
}

impl Chrome {
    /// The frame of a page for whoever asks.
    pub fn new(active: &'static str, session: bool) -> Chrome {
        Chrome { version: env!("CARGO_PKG_VERSION"), active, session, dev: cfg!(debug_assertions), stamp: render::stamp() }
    }
}

/// A page as a response.
pub fn respond(status: StatusCode, page: &impl Page) -> Result<Response, Problem> {
    respond_under(status, page, POLICY)
}

/// A page under a policy of its own.
fn respond_under(status: StatusCode, page: &impl Page, policy: &str) -> Result<Response, Problem> {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    match render::text(page) {
        Ok(text) => Ok((status, headers, Html(text)).into_response()),
        Err(problem) => match render::broken(&problem) {
            Some(text) => Ok((StatusCode::INTERNAL_SERVER_ERROR, headers, Html(text)).into_response()),
            None => Err(problem),
        },
    }
}

/// The same as the API says it, for scripts that ask whether a page is out of date.
pub async fn stamp(_: axum::extract::State<App>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], render::stamp()).into_response()
}
