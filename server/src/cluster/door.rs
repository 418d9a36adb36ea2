//! The members' door: TLS on an address that other hosts reach, and nothing behind it but joining, the link and base
//! files.
//!
//! Must not know what is said over the link.

use std::{
    net::{IpAddr, SocketAddr, TcpListener as StdTcp},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Extension, Path, State, WebSocketUpgrade},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use chrono::Utc;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use kvm_compose::error::{Code, Problem};
use tokio::{
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    net::TcpListener,
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{io::ReaderStream, sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    Cluster, link, pki, tls,
    wire::{Join, LARGEST},
};
use crate::error::{Answer, Failure};

/// How long a client may take for its handshake, and for its request.
const LIMIT: Duration = Duration::from_secs(10);
/// Connections at once.
const CONNECTIONS: usize = 512;
/// The largest request to join.
const LARGEST_JOIN: usize = 64 << 10;

/// Who is at the other end.
#[derive(Debug, Clone)]
struct Peer {
    /// SHA-256 of its certificate, when it showed one.
    certificate: Option<String>,
    address: IpAddr,
}

/// Opens the door; members are let in until `closing` is cancelled.
pub fn open(
    cluster: &Arc<Cluster>,
    address: SocketAddr,
    closing: &CancellationToken,
    tracker: &TaskTracker,
) -> Result<SocketAddr, Problem> {
    let failed = |error: std::io::Error| {
        Problem::io(format_args!("cannot listen for members on {address}"), &error)
            .hint("`--cluster-listen` names an address of this machine and a free port")
    };
    let listener = StdTcp::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let files = &cluster.authority.files;
    let acceptor = TlsAcceptor::from(tls::server_config(files)?);
    *cluster.door.lock() = Some(bound);
    cluster.open_southbound();
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    let (router, closing, inner) = (router(cluster.clone()), closing.clone(), tracker.clone());
    tracker.spawn(async move {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = room.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = closing.cancelled() => return,
            };
            match accepted {
                Ok((stream, from)) => {
                    let (acceptor, router, closing) = (acceptor.clone(), router.clone(), closing.clone());
                    inner.spawn(async move {
                        let _place = place;
                        let nodelay = stream.set_nodelay(true);
                        if let (Ok(()), Ok(Ok(stream))) = (nodelay, timeout(LIMIT, acceptor.accept(stream)).await) {
                            let shown = stream.get_ref().1.peer_certificates().and_then(|shown| shown.first().map(pki::digest_of));
                            serve(TokioIo::new(stream), Peer { certificate: shown, address: from.ip() }, router, closing).await;
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a member's connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(bound)
}

async fn serve<S>(stream: TokioIo<S>, peer: Peer, router: Router, closing: CancellationToken)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(LIMIT).serve_connection(stream, service).with_upgrades();
    tokio::select! {
        ended = connection => if let Err(error) = ended { tracing::debug!(%error, "a member's connection ended early") },
        () = closing.cancelled() => {}
    }
}

fn router(cluster: Arc<Cluster>) -> Router {
    Router::new()
        .route("/api/cluster/join", post(join).layer(DefaultBodyLimit::max(LARGEST_JOIN)))
        .route("/api/cluster/link", get(connect))
        .route("/api/cluster/bases/{sha256}", get(base))
        .fallback(async || Failure(Problem::new(Code::NotFound, "only members of the cluster are served here")).into_response())
        .layer(axum::middleware::from_fn(crate::http::trace::shaped))
        .with_state(cluster)
}

async fn join(
    State(cluster): State<Arc<Cluster>>,
    Extension(peer): Extension<Peer>,
    body: Result<Json<Join>, axum::extract::rejection::JsonRejection>,
) -> Answer<Response> {
    let Json(join) = body.map_err(|error| Problem::new(Code::BadRequest, "the request to join makes no sense").cause(error.body_text()))?;
    let joined = crate::app::blocking(move || cluster.join(&join, Utc::now())).await.inspect_err(|problem| {
        tracing::warn!(address = %peer.address, %problem, "a host is refused");
    })?;
    Ok(Json(joined).into_response())
}

fn certificate(peer: &Peer) -> Result<String, Problem> {
    peer.certificate.clone().ok_or_else(|| {
        Problem::new(Code::Unauthorized, "no certificate of the cluster was shown")
            .hint("a host joins with `testbedos-server client --master URL --token T`")
    })
}

async fn connect(State(cluster): State<Arc<Cluster>>, Extension(peer): Extension<Peer>, upgrade: WebSocketUpgrade) -> Answer<Response> {
    let certificate = certificate(&peer)?;
    let upgrade = upgrade.max_message_size(LARGEST).max_frame_size(LARGEST);
    Ok(upgrade.on_upgrade(move |socket| link::serve(cluster, socket, certificate, Some(peer.address))))
}

/// A base file by its digest, from `Range: bytes=N-` on.
async fn base(
    State(cluster): State<Arc<Cluster>>,
    Extension(peer): Extension<Peer>,
    Path(sha256): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    let certificate = certificate(&peer)?;
    let (file, bytes) = crate::app::blocking(move || cluster.base(&certificate, &sha256)).await?;
    let from =
        headers.get(header::RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<u64>().ok());
    let from = from.unwrap_or(0).min(bytes);
    let mut file = tokio::fs::File::from_std(file);
    file.seek(std::io::SeekFrom::Start(from)).await.map_err(|error| Problem::io("cannot read a base file", &error))?;
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(bytes - from), 256 << 10));
    Ok((StatusCode::OK, [(header::CONTENT_LENGTH, (bytes - from).to_string())], body).into_response())
}

impl Cluster {
    /// A base file that was offered to members, for one of them.
    fn base(&self, certificate: &str, sha256: &str) -> Result<(std::fs::File, u64), Problem> {
        if !self.state.lock().members.values().any(|live| live.record.certificate == certificate) {
            return Err(Problem::new(Code::Unauthorized, "this host is not a member of the cluster any more"));
        }
        let missing = || Problem::new(Code::NotFound, "no base file with this digest is offered");
        let (path, sum) = self.local.base_with(sha256).ok_or_else(missing)?;
        let file = std::fs::File::open(&path).map_err(|error| Problem::io(format_args!("cannot read {}", path.display()), &error))?;
        Ok((file, sum.bytes))
    }
}
