//! The accept loops: bounded connections, a limit for silence, and an orderly end.
//!
//! Must not know routes: it hands requests to the router, with the door they came through.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    first_line::{self, Stream},
    listen::Listener,
};
use crate::auth::Door;

/// Connections at once, per listener: whoever fills TCP does not lock out the Unix socket.
const CONNECTIONS: usize = 1024;

/// How long a client may take to say what it wants, and how long it may be idle between two requests.
const HEADER_LIMIT: Duration = Duration::from_secs(10);

/// Serves until `closing` is cancelled; then takes no more connections and lets those that are open finish.
pub fn spawn(listeners: Vec<Listener>, router: &Router, closing: &CancellationToken, tracker: &TaskTracker) -> io::Result<()> {
    for listener in listeners {
        let accept = Acceptor {
            router: router.clone(),
            closing: closing.clone(),
            tracker: tracker.clone(),
            room: Arc::new(Semaphore::new(CONNECTIONS)),
        };
        match listener {
            Listener::Unix(listener, file) => {
                listener.set_nonblocking(true)?;
                let listener = UnixListener::from_std(listener)?;
                tracker.spawn(async move {
                    accept.run(Door::Unix, || async { listener.accept().await.map(|(stream, _)| stream) }).await;
                    if let Some(file) = file
                        && let Err(error) = std::fs::remove_file(&file)
                    {
                        tracing::debug!(socket = %file.display(), %error, "the socket's file was gone already");
                    }
                });
            }
            Listener::Tcp(listener, _) => {
                listener.set_nonblocking(true)?;
                let listener = TcpListener::from_std(listener)?;
                tracker.spawn(async move {
                    let next = || async {
                        let (stream, _) = listener.accept().await?;
                        stream.set_nodelay(true)?;
                        Ok(stream)
                    };
                    accept.run(Door::Tcp, next).await;
                });
            }
        }
    }
    Ok(())
}

struct Acceptor {
    router: Router,
    closing: CancellationToken,
    tracker: TaskTracker,
    room: Arc<Semaphore>,
}

impl Acceptor {
    async fn run<S, F>(&self, door: Door, mut next: impl FnMut() -> F)
    where
        S: Stream,
        F: Future<Output = io::Result<S>>,
    {
        loop {
            // Without room the kernel's queue holds the rest back.
            let Ok(place) = self.room.clone().acquire_owned().await else { return };
            let stream = tokio::select! {
                stream = next() => stream,
                () = self.closing.cancelled() => return,
            };
            match stream {
                Ok(stream) => {
                    let (router, closing) = (self.router.clone(), self.closing.clone());
                    self.tracker.spawn(async move {
                        connection(stream, door, router, closing, Place(Arc::new(place))).await;
                    });
                }
                Err(error) => {
                    // Out of descriptors, mostly: turning at full speed would help nobody.
                    tracing::warn!(%error, ?door, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// A connection's share of the room; a websocket holds on to it beyond the request that it began as.
#[derive(Clone)]
pub struct Place(#[expect(dead_code, reason = "held for its drop")] Arc<OwnedSemaphorePermit>);

async fn connection<S>(stream: S, door: Door, router: Router, closing: CancellationToken, place: Place)
where
    S: Stream,
{
    let Ok(Ok(stream)) = tokio::time::timeout(HEADER_LIMIT, first_line::read(stream, place.clone())).await else { return };
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(door);
        request.extensions_mut().insert(place.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(128 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, ?door, "a connection ended early");
    }
}
