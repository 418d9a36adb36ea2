//! Logging a browser in and out, and the one-time links that do it.

use std::time::Instant;

use axum::{
    Extension, Form,
    body::Body,
    extract::{FromRequest as _, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use kvm_compose::{
    api::server::LoginLink,
    error::{Code, Problem},
};
use serde::Deserialize;

use super::extract::body;
use crate::{
    app::{App, blocking},
    auth::{Access, sessions::LINK_LIFE},
    data::read_if_there,
    error::{Answer, bad_request},
};

/// POST `/api/auth/link`: for whoever is in already, through the socket or with the token.
pub async fn link(State(app): State<App>) -> Answer<axum::Json<LoginLink>> {
    let path = format!("/gui?link={}", app.guard.sessions.link(Instant::now())?);
    let listen = app.data.run().join("listen");
    let places = blocking(move || read_if_there(&listen)).await?.unwrap_or_default();
    let places = String::from_utf8_lossy(&places).into_owned();
    let url = places.lines().find(|place| place.starts_with("http")).map(|place| format!("{place}{path}"));
    Ok(axum::Json(LoginLink { url, path, expires_s: LINK_LIFE.as_secs() }))
}

/// The login form.
#[derive(Deserialize)]
struct Login {
    token: String,
    #[serde(default)]
    next: String,
}

/// POST `/api/auth/login`: the form of the login page.
pub async fn login(State(app): State<App>, request: Request) -> Answer<Response> {
    let (parts, content) = request.into_parts();
    let content = body(Request::new(content)).await?;
    let form = Form::<Login>::from_request(Request::from_parts(parts, Body::from(content)), &()).await;
    let Form(Login { token, next }) = form.map_err(|error| bad_request(error.body_text()))?;
    let now = Instant::now();
    app.guard.sessions.check_rate(now)?;
    if !app.guard.is_token(token.trim().as_bytes()) {
        app.guard.sessions.failed(now);
        return Err(Problem::new(Code::Unauthorized, "the token is wrong")
            .hint("it is in keys/api-token below the server's data folder; `testbed gui` logs in without it")
            .into());
    }
    let cookie = app.guard.cookie(Some(&app.guard.sessions.open(now)?));
    Ok((StatusCode::SEE_OTHER, [(header::SET_COOKIE, cookie), (header::LOCATION, inside(&next).to_string())]).into_response())
}

/// POST `/api/auth/logout`.
pub async fn logout(State(app): State<App>, Extension(access): Extension<Access>) -> Response {
    if let Access::Session(secret) = access {
        app.guard.sessions.close(&secret);
    }
    let headers = [(header::SET_COOKIE, app.guard.cookie(None)), (header::LOCATION, "/gui".to_string())];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// Where a login leads: to a page of ours, never elsewhere.
pub fn inside(next: &str) -> &str {
    let plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let ours = next == "/gui" || next.starts_with("/gui/") || next.starts_with("/gui?");
    if plain && ours { next } else { "/gui" }
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn a_login_never_leads_elsewhere() {
        for next in ["/gui", "/gui/hosts", "/gui/deployments/a/edit", "/gui?x=1"] {
            assert_eq!(inside(next), next);
        }
        for next in
            ["", "//evil.example", "/\\evil.example", "https://evil.example", "/guix", "/api/docs", "/gui/\r\nSet-Cookie: a=b", "/gui/\\x"]
        {
            assert_eq!(inside(next), "/gui", "{next:?}");
        }
    }
}
