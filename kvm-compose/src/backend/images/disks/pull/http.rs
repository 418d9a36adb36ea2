//! How a publisher is asked: a client with limits, mirrors and a proxy, and one attempt to get what is missing of a file.
//!
//! A failure is either final or worth another attempt; how many there are is decided by the caller. Knows neither the
//! catalogue nor the store.

use std::{os::fd::AsFd as _, time::Duration};

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE},
    redirect::Policy,
};

use super::{
    super::{Settings, ova::too_large},
    flights::Far,
    part::{Origin, Part},
    reach::{Downgrade, redirect, shown},
};
use crate::error::{Code, Problem};

/// A file of checksums has a line an image.
const LARGEST_TEXT: usize = 1 << 20;
/// Disk space that a download leaves free.
const SPARE: u64 = 256 << 20;

/// Why an attempt ended.
pub enum Fail {
    /// Another one may go on from here.
    Again(Problem),
    /// Another one would end the same.
    Final(Problem),
}

impl From<Problem> for Fail {
    fn from(problem: Problem) -> Self {
        Fail::Final(problem)
    }
}

/// A client that gives up on silence, on circles, and on publishers that point into the server's own network.
pub fn client(settings: &Settings, downgrade: Downgrade) -> Result<Client, Problem> {
    // There is one provider in the program; whoever comes second finds it there.
    rustls::crypto::ring::default_provider().install_default().ok();
    let wrong = |what: &str, error: &dyn std::fmt::Display| {
        Problem::new(Code::BadRequest, format!("`{what}` in the table `[images]` of config/server.toml is wrong")).cause(error)
    };
    let mut builder = Client::builder()
        .user_agent(concat!("testbedos/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.stall.min(Duration::from_secs(15)))
        .read_timeout(settings.stall)
        .redirect(Policy::custom(move |attempt| redirect(attempt, downgrade)));
    match settings.proxy.as_deref() {
        // What the environment says counts.
        None => {}
        Some("") => builder = builder.no_proxy(),
        Some(proxy) => {
            let proxy = reqwest::Proxy::all(proxy).map_err(|error| wrong("proxy", &error))?;
            builder = builder.proxy(proxy.no_proxy(settings.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string)));
        }
    }
    if let Some(path) = &settings.ca_file {
        let pem = std::fs::read(path).map_err(|error| wrong("ca_file", &error))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| wrong("ca_file", &error))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| Problem::internal("the HTTP client cannot be made").cause(innermost(&error)))
}

/// A short text.
pub async fn text(client: &Client, url: &Url) -> Result<String, Fail> {
    let response = client.get(url.clone()).header(ACCEPT_ENCODING, "identity").send().await.map_err(|error| broken(url, &error))?;
    let mut response = judged(response, url)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(url, &error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LARGEST_TEXT {
            return Err(failed(url, "it is no file of checksums: it is larger than 1 MiB").into());
        }
    }
    String::from_utf8(bytes).map_err(|_| failed(url, "it is no file of checksums: it is not text").into())
}

/// One attempt to get what is missing of a file. `say` hears what is worth a line.
pub async fn rest(
    client: &Client,
    url: &Url,
    part: &mut Part,
    largest: u64,
    watch: &dyn Fn(Far) -> Result<(), Problem>,
    say: &dyn Fn(String) -> Result<(), Problem>,
) -> Result<(), Fail> {
    let before = part.length();
    let mut request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
    if before > 0 {
        request = request.header(RANGE, format!("bytes={before}-"));
        if let Some(validator) = &part.origin.validator {
            request = request.header(IF_RANGE, validator);
        }
    }
    let response = request.send().await.map_err(|error| broken(url, &error))?;
    let origin = Origin { url: part.origin.url.clone(), validator: validator(response.headers()) };
    let range = content_range(response.headers());
    if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
        if before > 0 && range == Some((None, Some(before))) {
            return Ok(());
        }
        part.restart(origin)?;
        return Err(Fail::Again(failed(url, "it has less than it had before")));
    }
    let mut response = judged(response, url)?;
    let total = if response.status() == StatusCode::PARTIAL_CONTENT {
        match range {
            Some((Some(start), total)) if start == before => {
                if before > 0 {
                    say(format!("going on after {} MiB", before >> 20))?;
                }
                total
            }
            _ => {
                part.restart(origin)?;
                return Err(Fail::Again(failed(url, "it sends another part than it was asked for")));
            }
        }
    } else {
        if before > 0 {
            say("the publisher sends all of it again".to_string())?;
        }
        let length = response.content_length();
        part.restart(origin)?;
        length
    };
    check_room(part, total, largest)?;
    watch(Far { done: part.length(), total })?;
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(url, &error))? {
        if part.length() + chunk.len() as u64 > largest {
            part.restart(Origin::default())?;
            return Err(too_large(largest).into());
        }
        part.append(&chunk)?;
        watch(Far { done: part.length(), total })?;
    }
    match total {
        Some(total) if part.length() < total => {
            Err(Fail::Again(failed(url, format_args!("it ended after {} of {total} bytes", part.length()))))
        }
        _ => Ok(()),
    }
}

/// Refuses what does not fit, before it comes.
fn check_room(part: &Part, total: Option<u64>, largest: u64) -> Result<(), Problem> {
    let Some(total) = total else { return Ok(()) };
    if total > largest {
        return Err(too_large(largest));
    }
    let folder = part.path().parent().unwrap_or(part.path());
    let doing = |error: std::io::Error| Problem::io(format!("looking at the disk below {}", folder.display()), &error);
    let opened = std::fs::File::open(folder).map_err(doing)?;
    let disk = rustix::fs::fstatvfs(opened.as_fd()).map_err(|error| doing(error.into()))?;
    let (free, missing) = (disk.f_bavail.saturating_mul(disk.f_frsize), total.saturating_sub(part.length()));
    if missing.saturating_add(SPARE) > free {
        let message = format!("{} MiB are still to come, and the disk has {} MiB free", missing >> 20, free >> 20);
        let hint = "`testbed image prune` frees what nobody uses; what has come so far is kept, and the same command goes on from there";
        return Err(Problem::new(Code::DiskFull, message).hint(hint));
    }
    Ok(())
}

/// An answer that has the content, or why there is none.
fn judged(response: Response, url: &Url) -> Result<Response, Fail> {
    let status = response.status();
    if response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(failed(url, "it is sent in an encoding that was not asked for").into());
    }
    match status.as_u16() {
        200 | 206 => Ok(response),
        404 | 410 => {
            let hint = "the publisher may have moved it: name its new URL in `images.toml` (docs/images.md)";
            Err(failed(url, format_args!("the publisher does not have it ({status})")).hint(hint).into())
        }
        401 | 403 | 407 => Err(failed(url, format_args!("the publisher refuses it ({status})"))
            .hint("is a proxy needed? it is set in the table `[images]` of config/server.toml")
            .into()),
        408 | 425 | 429 | 500..=599 => Err(Fail::Again(failed(url, format_args!("the publisher cannot send it now ({status})")))),
        _ => Err(failed(url, format_args!("the publisher answers {status}")).into()),
    }
}

/// What it means that there is no answer, or not all of it.
fn broken(url: &Url, error: &reqwest::Error) -> Fail {
    if error.is_redirect() || error.is_builder() {
        return failed(url, innermost(error)).into();
    }
    let why = if error.is_timeout() { "nothing came for too long".to_string() } else { innermost(error) };
    let problem = failed(url, why);
    Fail::Again(if error.is_connect() {
        problem.hint("is the Internet reachable from the server? a proxy or a mirror is set in the table `[images]` of config/server.toml")
    } else {
        problem
    })
}

/// A download that did not come about.
pub fn failed(url: &Url, why: impl std::fmt::Display) -> Problem {
    Problem::new(Code::DownloadFailed, format!("{} cannot be downloaded", shown(url))).cause(why)
}

/// The innermost cause says it best: those around it repeat the URL.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// What tells whether it is still the same content: a strong ETag, or the time of the last change.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value: &reqwest::header::HeaderValue| value.to_str().ok()).map(String::from);
    text(ETAG).filter(|tag| !tag.starts_with("W/")).or_else(|| text(LAST_MODIFIED))
}

/// `bytes 5-9/10` and `bytes */10`: where it starts, and how much there is in all.
fn content_range(headers: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, total) = text.split_once('/')?;
    let start = range.split_once('-').and_then(|(start, _)| start.trim().parse().ok());
    Some((start, total.trim().parse().ok()))
}
