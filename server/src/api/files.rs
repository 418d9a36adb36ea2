//! `/api/deployments/{name}/guests/{guest}/files`: archives (tar) into guests and out of them; `…/path`: what is at a path.

use std::{io::Write as _, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, stream};
use kvm_compose::{
    api::copy::{GuestPath, PathSeen},
    error::{Code, Problem},
    orchestrate::host::Cancel,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, mpsc},
    time::timeout,
};

use super::extract::{Guest, Name, Words};
use crate::{
    app::{App, blocking},
    error::{Answer, Failure, bad_request},
};

/// Copies at once; each has a thread, and may have a file of its own.
static COPIES: Semaphore = Semaphore::const_new(8);

/// How long a body may stand still.
const SILENCE: Duration = Duration::from_secs(60);

/// Pieces that may wait for who reads.
const WAITING: usize = 16;

fn permit() -> Result<SemaphorePermit<'static>, Failure> {
    let full = |_| Failure(Problem::new(Code::RateLimited, "8 copies run already").hint("wait for one to end, then try again"));
    COPIES.try_acquire().map_err(full)
}

fn path(words: &Words) -> Result<GuestPath, Failure> {
    let written = words.get("path").unwrap_or_default();
    GuestPath::new(written).ok_or_else(|| bad_request("`path` must be a path in the guest, from the root on and without `..`"))
}

/// Asks the work to stop when nobody waits for it any more.
struct Waited(Cancel);

impl Drop for Waited {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// GET `…/path`.
pub async fn look(State(app): State<App>, Name(name): Name, Guest(guest): Guest, words: Words) -> Answer<Json<PathSeen>> {
    let path = path(&words)?;
    Ok(Json(app.observe(move |operations| operations.look_at_path(&name, &guest, &path)).await?))
}

/// GET `…/files`.
pub async fn get(State(app): State<App>, Name(name): Name, Guest(guest): Guest, words: Words) -> Answer<Response> {
    let (permit, path) = (permit()?, path(&words)?);
    let (send, mut pieces) = mpsc::channel::<Result<Bytes, Problem>>(WAITING);
    let cancel = Cancel::new();
    let waited = Waited(cancel.clone());
    let operations = app.operations.clone();
    app.tracker.spawn_blocking(move || {
        let _permit = permit;
        let mut write = |piece: &[u8]| send.blocking_send(Ok(Bytes::copy_from_slice(piece))).is_ok();
        if let Err(problem) = operations.get_files(&name, &guest, &path, &cancel, &mut write) {
            let _unread = send.blocking_send(Err(problem));
        }
    });
    let first = match pieces.recv().await {
        Some(first) => first.map_err(Failure)?,
        None => return Err(Failure(Problem::internal("a copy ended before it began"))),
    };
    let rest = stream::unfold((pieces, waited), |(mut pieces, waited)| async move { Some((pieces.recv().await?, (pieces, waited))) });
    let body = stream::iter([Ok(first)]).chain(rest).map(|piece| piece.map_err(std::io::Error::other));
    let mut response = Body::from_stream(body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// PUT `…/files`.
pub async fn put(State(app): State<App>, Name(name): Name, Guest(guest): Guest, words: Words, request: Request) -> Answer<StatusCode> {
    let (_permit, path) = (permit()?, path(&words)?);
    let operations = app.operations.clone();
    let spool = blocking({
        let name = name.clone();
        move || operations.copy_spool(&name)
    });
    let mut spool = spool.await?;
    let room = spool.room;
    let mut body = request.into_body().into_data_stream();
    let mut length = 0u64;
    while let Some(chunk) = timeout(SILENCE, body.next()).await.map_err(|_| bad_request("the archive stopped coming"))? {
        let chunk = chunk.map_err(|error| Failure(Problem::new(Code::BadRequest, "the archive could not be read").cause(error)))?;
        length += chunk.len() as u64;
        if length > room {
            let problem = Problem::new(Code::DiskFull, "the server has no room for the archive on its way");
            return Err(Failure(problem.hint("free some space on the server's data folder, or copy less at once")));
        }
        spool = blocking(move || {
            let written = spool.file().write_all(&chunk);
            written.map(|()| spool).map_err(|error| Problem::io("cannot keep an archive on its way", &error))
        })
        .await?;
    }
    let cancel = Cancel::new();
    let _waited = Waited(cancel.clone());
    let operations = app.operations.clone();
    app.tracker
        .spawn_blocking(move || operations.put_files(&name, &guest, &path, &spool, &cancel))
        .await
        .map_err(|error| Failure(Problem::internal("a copy ended early").cause(error)))??;
    Ok(StatusCode::NO_CONTENT)
}
