//! Style sheets and scripts: compiled in, except in debug builds, which read them from disk at each request.

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::{header, request::Parts},
    response::{IntoResponse, Response},
};
use kvm_compose::{
    error::{Code, Problem},
    names::printable,
};
use rust_embed::RustEmbed;

use crate::error::{Answer, Failure, not_found};

/// Our own.
#[derive(RustEmbed)]
#[folder = "../templates/static"]
struct Own;

/// Others' (see `templates/vendor/README.md`).
#[derive(RustEmbed)]
#[folder = "../templates/vendor"]
struct Vendored;

/// The `{file}` of the path: no folder, nothing hidden.
pub struct FileName(String);

impl<S: Send + Sync> FromRequestParts<S> for FileName {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let refused = |name: &str| Problem::new(Code::InvalidName, format!("`{}` is not a file's name", printable(name)));
        let found = RawPathParams::from_request_parts(parts, state).await.map_err(|_| refused("?"))?;
        let name = found.iter().find(|(key, _)| *key == "file").map(|(_, value)| value.to_string()).unwrap_or_default();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        let valid = name.len() <= 64 && name.chars().all(plain) && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.contains('.');
        if valid && !name.contains("..") { Ok(FileName(name)) } else { Err(refused(&name).into()) }
    }
}

/// GET `/assets/{file}`.
pub async fn own(FileName(name): FileName) -> Answer<Response> {
    send(&name, Own::get(&name))
}

/// GET `/assets/vendor/{file}`.
pub async fn vendored(FileName(name): FileName) -> Answer<Response> {
    send(&name, Vendored::get(&name))
}

fn send(name: &str, file: Option<rust_embed::EmbeddedFile>) -> Answer<Response> {
    let absent = || Failure(not_found(format_args!("the file `{name}`")));
    let kind = match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => return Err(absent()),
    };
    let file = file.ok_or_else(absent)?;
    // Asked for again at each visit, so that a new server never meets old scripts; they are small and come from near.
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ];
    Ok((headers, file.data.into_owned()).into_response())
}
