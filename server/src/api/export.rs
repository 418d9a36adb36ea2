//! `/api/deployments/{name}/export`: a testbed as one archive.

use std::io;

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use kvm_compose::error::{Code, Problem};
use tokio::sync::{Semaphore, mpsc};

use super::extract::Name;
use crate::{
    app::{App, blocking},
    error::{Answer, Failure},
};

/// Exports at once: each reads files and has a thread.
static EXPORTS: Semaphore = Semaphore::const_new(4);

/// Bytes of a piece, and pieces that may wait for who reads.
const PIECE: usize = 128 << 10;
const WAITING: usize = 8;

/// GET; see the module.
pub async fn export(State(app): State<App>, Name(name): Name) -> Answer<Response> {
    let Ok(permit) = EXPORTS.try_acquire() else {
        return Err(Failure(Problem::new(Code::RateLimited, "4 exports run already").hint("try again when one has ended")));
    };
    let (operations, wanted) = (app.operations.clone(), name.clone());
    let export = blocking(move || operations.export(&wanted)).await?;
    let (send, pieces) = mpsc::channel::<io::Result<Option<Bytes>>>(WAITING);
    // It ends once nobody reads.
    app.tracker.spawn_blocking(move || {
        let _permit = permit;
        let out = io::BufWriter::with_capacity(PIECE, Pieces(&send));
        let ended = export.write(out).map(|()| None);
        if let Err(error) = &ended {
            tracing::warn!(%error, deployment = %export.manifest.name, "an export ended early");
        }
        let _unread = send.blocking_send(ended);
    });
    let closing = app.closing.clone();
    // Only what says that it is whole ends well: anything else must not look like a shorter archive.
    let body = stream::unfold(Some(pieces), move |pieces| {
        let closing = closing.clone();
        async move {
            let mut pieces = pieces?;
            let early = || io::Error::other("the export ended early");
            let piece = tokio::select! {
                piece = pieces.recv() => piece.unwrap_or_else(|| Err(early())),
                () = closing.cancelled() => Err(early()),
            };
            match piece {
                Ok(None) => None,
                Ok(Some(bytes)) => Some((Ok(bytes), Some(pieces))),
                Err(error) => Some((Err(error), None)),
            }
        }
    });
    let mut response = Body::from_stream(body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let file = format!("attachment; filename=\"{name}.testbed.tar\"");
    if let Ok(value) = HeaderValue::from_str(&file) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

struct Pieces<'s>(&'s mpsc::Sender<io::Result<Option<Bytes>>>);

impl io::Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads any more");
        self.0.blocking_send(Ok(Some(Bytes::copy_from_slice(bytes)))).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
