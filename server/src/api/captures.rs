//! `/api/deployments/{name}/capture`: what passes guests' interfaces, as pcapng, for as long as somebody reads.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use kvm_compose::{
    error::{Code, Problem},
    names::GuestName,
    orchestrate::host::Cancel,
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use uuid::Uuid;

use super::extract::{ActionId, Name, Words};
use crate::{
    app::App,
    error::{Answer, Failure, bad_request, not_found},
    operations::driver::CaptureLimits,
};

/// Captures at once; each has a thread for each host.
static CAPTURES: Semaphore = Semaphore::const_new(16);

/// Frames are sent on together, this many bytes at once, or after this long.
const PIECE: usize = 32 << 10;
const LINGER: Duration = Duration::from_millis(50);

/// Pieces that may wait for who reads.
const WAITING: usize = 64;

/// Bytes of a frame that are kept when the request does not say.
const SNAP: usize = 262_144;

/// Captures that can be told to end, by the ids that requests gave them.
static NAMED: Mutex<BTreeMap<Uuid, Cancel>> = Mutex::new(BTreeMap::new());

/// GET; see the module.
pub async fn capture(State(app): State<App>, Name(name): Name, words: Words) -> Answer<Response> {
    let wanted = ports(words.get("ports").unwrap_or_default())?;
    let number = |key: &str| words.number(key).map(|number| (number > 0).then_some(number));
    let id = words.get("id").map(Uuid::parse_str).transpose().map_err(|_| bad_request("`id` is no UUID"))?;
    let end = Cancel::new();
    let limits = CaptureLimits {
        frames: number("count")?,
        bytes: number("bytes")?,
        duration: number("seconds")?.map(Duration::from_secs),
        snap: number("snaplen")?.map_or(SNAP, |snap| usize::try_from(snap).unwrap_or(SNAP).min(SNAP)),
        end: end.clone(),
    };
    let Ok(permit) = CAPTURES.try_acquire() else {
        return Err(Failure(Problem::new(Code::RateLimited, "16 captures run already").hint("end some, then try again")));
    };
    if let Some(id) = id
        && NAMED.lock().insert(id, end).is_some()
    {
        return Err(bad_request("there is a capture with this id"));
    }
    let (send, mut pieces) = mpsc::channel::<Result<Bytes, Problem>>(WAITING);
    let operations = app.operations.clone();
    // It ends once nobody reads.
    app.tracker.spawn_blocking(move || {
        let _permit = permit;
        let mut gathered = Gathered { send: &send, piece: Vec::new(), sent: Instant::now() };
        let ended = operations.capture(&name, &wanted, &limits, &mut |block| gathered.add(&block));
        gathered.flush();
        id.map(|id| NAMED.lock().remove(&id));
        if let Err(problem) = ended {
            let _unread = send.blocking_send(Err(problem));
        }
    });
    let first = match pieces.recv().await {
        Some(first) => first.map_err(Failure)?,
        None => return Err(Failure(Problem::internal("a capture ended before it began"))),
    };
    let rest = stream::unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) });
    let body = stream::iter([Ok(first)]).chain(rest).map(|piece| piece.map_err(std::io::Error::other));
    let body = Body::from_stream(body.take_until(app.closing.clone().cancelled_owned()));
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-pcapng"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// DELETE `/api/deployments/{name}/capture/{uuid}`: the capture ends, with all that passed until now.
pub async fn end(Name(_): Name, ActionId(id): ActionId) -> Answer<StatusCode> {
    let end = NAMED.lock().get(&id).cloned().ok_or_else(|| Failure(not_found("this capture")))?;
    end.cancel();
    Ok(StatusCode::NO_CONTENT)
}

/// `GUEST` or `GUEST:IFACE`, separated by commas.
fn ports(text: &str) -> Result<Vec<(GuestName, Option<String>)>, Failure> {
    let port = |word: &str| match word.split_once(':') {
        Some((guest, interface)) => Ok((GuestName::new(guest)?, Some(interface.to_string()))),
        None => Ok((GuestName::new(word)?, None)),
    };
    let ports: Result<Vec<_>, Problem> = text.split(',').filter(|word| !word.is_empty()).map(port).collect();
    match ports {
        Ok(ports) if ports.is_empty() => Err(bad_request("`ports` names no interface: `?ports=GUEST:IFACE,…`")),
        ports => Ok(ports?),
    }
}

/// Blocks on their way to who reads.
struct Gathered<'s> {
    send: &'s mpsc::Sender<Result<Bytes, Problem>>,
    piece: Vec<u8>,
    sent: Instant,
}

impl Gathered<'_> {
    /// False when nobody reads any more.
    fn add(&mut self, block: &[u8]) -> bool {
        self.piece.extend_from_slice(block);
        let is_due = block.is_empty() || self.piece.len() >= PIECE || self.sent.elapsed() >= LINGER;
        if is_due { self.flush() } else { true }
    }

    fn flush(&mut self) -> bool {
        self.sent = Instant::now();
        if self.piece.is_empty() {
            return !self.send.is_closed();
        }
        self.send.blocking_send(Ok(std::mem::take(&mut self.piece).into())).is_ok()
    }
}
