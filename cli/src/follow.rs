//! Follows a log over a websocket: each line once and in order, across cuts of the connection.
//!
//! ```text
//! connect(from=offset) ──► lines… ──► close 1000 ──► End
//!        ▲                   │ cut, or closed with another code
//!        └──── back off ◄────┘
//! ```
//!
//! The offset counts the bytes of whole lines received. Of a line that was cut, nothing is kept: the server sends it again.

use std::{io, time::Duration};

use futures_util::StreamExt;
use kvm_compose::error::{Code, Problem};
use reqwest::StatusCode;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        http::{HeaderValue, Request, header::AUTHORIZATION},
        protocol::frame::coding::CloseCode,
    },
};

use crate::{
    client::refused,
    host::{CONNECT_LIMIT, Host, Stream},
};

/// The server pings; when nothing at all comes for this long, the connection is dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(90);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How long it may go without a connection, when nobody knows why there is none.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may go while nothing listens: a server that is restarted is back by then.
const GONE_PATIENCE: Duration = Duration::from_secs(10);

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A line, without its line break.
    Line(String),
    /// The connection was lost; the next call connects again, for a while.
    Cut,
    /// There is a connection again.
    Back,
    /// The log has ended; the reason of the close frame (`state=… error_code=…`).
    End(String),
}

/// A log being followed.
pub struct Follower {
    host: Host,
    token: Option<String>,
    path: String,
    /// With `{from}` where the offset belongs.
    query: String,
    offset: u64,
    socket: Option<WebSocketStream<Box<dyn Stream>>>,
    connected: Instant,
    lost_since: Option<Instant>,
    nobody_listens: bool,
    cut_told: bool,
    pause: Duration,
}

impl Follower {
    /// Follows the stream at `path` from its start. In `query`, `{from}` stands for the offset.
    pub fn new(client: &crate::client::Client, path: String, query: &str) -> Follower {
        Follower {
            host: client.host.clone(),
            token: client.token.clone(),
            path,
            query: query.to_string(),
            offset: 0,
            socket: None,
            connected: Instant::now(),
            lost_since: None,
            nobody_listens: false,
            cut_told: false,
            pause: FIRST_PAUSE,
        }
    }

    /// True when no server was there at the last attempt: not a connection that fails, but none to connect to.
    pub fn nobody_listens(&self) -> bool {
        self.nobody_listens
    }

    /// The next line, or the end. Fails when the server refuses, stays away for a minute, or is gone for ten seconds.
    ///
    /// Safe to drop at any time: nothing received is lost by it.
    pub async fn next(&mut self) -> Result<Next, Problem> {
        loop {
            let Some(socket) = &mut self.socket else {
                self.connect().await?;
                if self.socket.is_some() && std::mem::take(&mut self.cut_told) {
                    return Ok(Next::Back);
                }
                continue;
            };
            match timeout(SILENCE_LIMIT, socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => return Ok(Next::Line(self.take(text.as_str()))),
                Ok(Some(Ok(Message::Close(Some(frame))))) if frame.code == CloseCode::Normal => {
                    return Ok(Next::End(frame.reason.to_string()));
                }
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_)))) => {}
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) | Err(_) => {
                    self.cut();
                    self.cut_told = true;
                    return Ok(Next::Cut);
                }
            }
        }
    }

    fn take(&mut self, frame: &str) -> String {
        let line = frame.strip_suffix('\n').unwrap_or(frame);
        self.offset += line.len() as u64 + 1;
        self.pause = FIRST_PAUSE;
        self.lost_since = None;
        line.to_string()
    }

    /// A connection that held for long was a good one, however quiet; one that was let in and dropped was none.
    fn cut(&mut self) {
        self.socket = None;
        if self.connected.elapsed() > PATIENCE {
            self.lost_since = None;
            self.pause = FIRST_PAUSE;
        }
        self.lost_since.get_or_insert_with(Instant::now);
    }

    async fn connect(&mut self) -> Result<(), Problem> {
        if let Some(since) = self.lost_since {
            let patience = if self.nobody_listens { GONE_PATIENCE } else { PATIENCE };
            if since.elapsed() > patience {
                let why = format!("the connection was lost and did not come back within {} s", patience.as_secs());
                return Err(self.host.unreachable(why, None));
            }
            sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        match self.attempt().await {
            Ok(socket) => {
                self.socket = Some(socket);
                self.connected = Instant::now();
                Ok(())
            }
            // Only a connection that was there is waited for; a first one that fails is told at once.
            Err(problem) if self.lost_since.is_some() && matches!(problem.code, Code::Unavailable | Code::RateLimited) => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    async fn attempt(&mut self) -> Result<WebSocketStream<Box<dyn Stream>>, Problem> {
        let request = self.request()?;
        let stream = self.host.connect().await;
        let absent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
        self.nobody_listens = stream.as_ref().is_err_and(absent);
        let stream = stream.map_err(|error| self.host.unreachable(&error, Some(error.kind())))?;
        match timeout(CONNECT_LIMIT, client_async(request, stream)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(Error::Http(response))) => {
                let status = StatusCode::from_u16(response.status().as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Err(refused(status, response.body().as_deref().unwrap_or_default()))
            }
            Ok(Err(error)) => Err(self.host.unreachable(error, None)),
            Err(_) => Err(self.host.unreachable("it accepted the connection and did not answer", None)),
        }
    }

    fn request(&self) -> Result<Request<()>, Problem> {
        let internal = |error: &dyn std::fmt::Display| Problem::internal("the websocket's request cannot be made").cause(error);
        let url = format!("ws://{}{}?{}", self.host.authority(), self.path, self.query.replace("{from}", &self.offset.to_string()));
        let mut request = url.into_client_request().map_err(|error| internal(&error))?;
        if let Some(token) = &self.token {
            let value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| internal(&error))?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }
}
