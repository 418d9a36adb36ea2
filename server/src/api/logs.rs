//! Logs of actions: the index, one entry, one text.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use kvm_compose::{
    api::{LogIndex, action::LogRecord},
    error::{Code, Problem},
};

use super::extract::{ActionId, Guest as GuestOf, Name, Words};
use crate::{
    app::{App, blocking},
    error::{Answer, Failure},
    operations::index::with_result,
    ws::follow::Format,
};

/// GET `/api/deployments/{name}/logs`.
pub async fn index(State(app): State<App>, Name(name): Name) -> Answer<axum::Json<LogIndex>> {
    app.operations.record(&name)?;
    Ok(axum::Json(app.operations.index(&name)?))
}

/// GET `/api/deployments/{name}/logs/{uuid}`: the entry, or with `?text` (or `Accept: text/plain`) the log itself.
pub async fn entry(
    State(app): State<App>,
    Name(name): Name,
    ActionId(uuid): ActionId,
    words: Words,
    headers: HeaderMap,
) -> Answer<Response> {
    let entry = app.operations.entry(&name, uuid)?;
    answer(LogRecord { uuid, deployment: name, entry }, &words, &headers).await
}

/// GET `/api/deployments/{name}/guests/{guest}/log`.
pub async fn of_guest(State(app): State<App>, Name(name): Name, GuestOf(guest): GuestOf, words: Words) -> Answer<Response> {
    let last = words.get("tail").map(|_| words.number("tail")).transpose()?;
    let last = last.map(|last| u32::try_from(last).unwrap_or(u32::MAX));
    let said = app.store(move |operations| operations.said(&name, &guest, last)).await?;
    let mut response = (StatusCode::OK, Body::from(said)).into_response();
    insert(&mut response, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    insert(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    Ok(response)
}

/// The entry or the text of an action, by what the client accepts.
pub async fn answer(record: LogRecord, words: &Words, headers: &HeaderMap) -> Answer<Response> {
    let accepts_text = headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/plain"));
    let format = words.get("format").map(Format::parse).transpose()?;
    if words.flag("text")? || accepts_text || format.is_some() {
        let format = format.unwrap_or(Format::Text);
        let path = match format {
            Format::Text => &record.entry.log_path,
            Format::Events => &record.entry.events_path,
        };
        return file(path.into(), format, headers.get(header::RANGE)).await;
    }
    let record = blocking(move || Ok(LogRecord { entry: with_result(record.entry), ..record })).await?;
    Ok(axum::Json(record).into_response())
}

/// A part of a file: from, and how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    from: u64,
    count: u64,
}

/// How much of a file is read and held at once.
const CHUNK: u64 = 16 * 1024;

async fn file(path: PathBuf, format: Format, range: Option<&HeaderValue>) -> Answer<Response> {
    let range = range.and_then(|value| value.to_str().ok()).map(String::from);
    let (file, length) = blocking(move || {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => crate::error::not_found(format_args!("the log {}", path.display())),
            _ => Problem::io(format_args!("cannot read the log {}", path.display()), &error),
        };
        let file = File::open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok((file, length))
    })
    .await?;
    let asked = range.as_deref().map(|range| part(range, length));
    let (status, part) = match asked {
        None | Some(Asked::Everything) => (StatusCode::OK, Part { from: 0, count: length }),
        Some(Asked::Part(part)) => (StatusCode::PARTIAL_CONTENT, part),
        Some(Asked::Nothing) => {
            let problem = Problem::new(Code::BadRequest, format!("the log has only {length} bytes"));
            let mut response = Failure(problem).into_response();
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            insert(&mut response, header::CONTENT_RANGE, &format!("bytes */{length}"));
            return Ok(response);
        }
    };
    let mut response = (status, Body::from_stream(chunks(file, part))).into_response();
    let kind = match format {
        Format::Text => "text/plain; charset=utf-8",
        Format::Events => "application/x-ndjson",
    };
    insert(&mut response, header::CONTENT_TYPE, kind);
    insert(&mut response, header::ACCEPT_RANGES, "bytes");
    insert(&mut response, header::CONTENT_LENGTH, &part.count.to_string());
    insert(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if status == StatusCode::PARTIAL_CONTENT {
        insert(&mut response, header::CONTENT_RANGE, &format!("bytes {}-{}/{length}", part.from, part.from + part.count - 1));
    }
    Ok(response)
}

fn insert(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn chunks(file: File, part: Part) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    stream::try_unfold((file, part), |(mut file, part)| async move {
        if part.count == 0 {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            file.seek(SeekFrom::Start(part.from))?;
            let mut chunk = Vec::with_capacity(CHUNK as usize);
            (&mut file).take(part.count.min(CHUNK)).read_to_end(&mut chunk)?;
            std::io::Result::Ok((file, chunk))
        });
        let (file, chunk) = read.await.map_err(std::io::Error::other)??;
        if chunk.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let done = chunk.len() as u64;
        Ok(Some((Bytes::from(chunk), (file, Part { from: part.from + done, count: part.count - done }))))
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// What is not a single range of bytes is as if nothing had been asked (RFC 9110 section 14.2).
    Everything,
    Part(Part),
    /// A range beyond the end.
    Nothing,
}

fn part(range: &str, length: u64) -> Asked {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else { return Asked::Everything };
    let asked = match (first.trim().parse::<u64>(), last.trim()) {
        (Ok(first), "") => (first, length),
        (Ok(first), last) => match last.parse::<u64>() {
            Ok(last) if last >= first => (first, last.saturating_add(1).min(length)),
            _ => return Asked::Everything,
        },
        (Err(_), last) if first.trim().is_empty() => match last.parse::<u64>() {
            Ok(count) if count > 0 => (length.saturating_sub(count), length),
            Ok(_) => return Asked::Nothing,
            Err(_) => return Asked::Everything,
        },
        _ => return Asked::Everything,
    };
    let (from, to) = asked;
    if from >= length { Asked::Nothing } else { Asked::Part(Part { from, count: to - from }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        for (range, expected) in [
            ("bytes=0-", Asked::Part(Part { from: 0, count: 100 })),
            ("bytes=10-19", Asked::Part(Part { from: 10, count: 10 })),
            ("bytes=90-1000", Asked::Part(Part { from: 90, count: 10 })),
            ("bytes=-5", Asked::Part(Part { from: 95, count: 5 })),
            ("bytes=-500", Asked::Part(Part { from: 0, count: 100 })),
            ("bytes=100-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=5-2", Asked::Everything),
            ("bytes=0-1,5-6", Asked::Everything),
            ("lines=1-2", Asked::Everything),
            ("bytes=0-18446744073709551615", Asked::Part(Part { from: 0, count: 100 })),
        ] {
            assert_eq!(part(range, 100), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Asked::Nothing);
    }
}
