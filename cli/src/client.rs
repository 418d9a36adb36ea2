//! The server's REST API: one method a request, and what its answers mean.
//!
//! Must not know commands or terminals.

use std::{io, time::Duration};

use kvm_compose::{
    api::{
        ActionAccepted, ActionRequest, CatalogueEntry, CreateDeployment, DeploymentInfo, DeploymentState, DeploymentSummary, Draft,
        ErrorBody, ImageInfo, ImageRequest, LogIndex, LoginLink, Orphan, Ready, RemovedImages, SnapshotInfo, Version,
        action::LogRecord,
        cluster::{JoinToken, Members},
        copy::PathSeen,
        link::LinkReport,
    },
    error::{Code, Problem},
    names::{DeploymentName, GuestName, HostName, SnapshotName},
};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE},
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::host::{CONNECT_LIMIT, Host};

/// How long the server may take to answer a request when `--timeout` says nothing.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How long the server may take to remove everything of a deployment.
const REMOVAL_LIMIT: Duration = Duration::from_secs(15 * 60);

/// How long a disk image may take to be handed over.
const UPLOAD_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    pub host: Host,
    pub token: Option<String>,
    http: reqwest::Client,
    limit: Duration,
}

/// Whose action it is: the first part of its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A deployment's.
    Deployment(DeploymentName),
    /// The image store's.
    Images,
}

impl Owner {
    /// The path of something below it.
    pub fn path(&self, rest: &[&str]) -> String {
        let head: &[&str] = match self {
            Owner::Deployment(name) => &["deployments", name.as_str()],
            Owner::Images => &["images"],
        };
        path(&[head, rest].concat())
    }
}

impl Client {
    /// A client; connects when it is used.
    pub fn new(host: &Host, token: Option<String>, limit: Option<Duration>) -> Result<Client, Problem> {
        let limit = limit.unwrap_or(ANSWER_LIMIT);
        // A proxy has no business between this command and its server.
        // Nor does it speak TLS yet: its library can, for the server's downloads, and is to read no certificates for that.
        rustls::crypto::ring::default_provider().install_default().ok();
        // A connection a request: one that waited for the next, while an action was followed, may be closed by the server just as it
        // is used again, and nobody could say whether the request was read (RFC 9112, section 9.3.1).
        let mut builder = reqwest::Client::builder().connect_timeout(CONNECT_LIMIT).no_proxy().tls_certs_only([]).pool_max_idle_per_host(0);
        if let Host::Unix(path) = host {
            builder = builder.unix_socket(path.as_path());
        }
        let http = builder.build().map_err(|error| Problem::internal("the HTTP client cannot be made").cause(error))?;
        Ok(Client { host: host.clone(), token, http, limit })
    }

    pub async fn version(&self) -> Result<Version, Problem> {
        self.get(&path(&["version"])).await
    }

    /// A link that logs a browser in.
    pub async fn login_link(&self) -> Result<LoginLink, Problem> {
        self.send(self.request(Method::POST, &path(&["auth", "link"]))).await
    }

    /// Each part's state; 503 has the same body as 200.
    pub async fn ready(&self) -> Result<Ready, Problem> {
        let response = self.exchange(self.request(Method::GET, &path(&["ready"]))).await?;
        match response.status() {
            StatusCode::SERVICE_UNAVAILABLE => {
                let body = response.bytes().await.map_err(|error| self.lost(&error))?;
                serde_json::from_slice(&body).map_err(|_| refused(StatusCode::SERVICE_UNAVAILABLE, &body))
            }
            _ => self.json(success(response).await?).await,
        }
    }

    pub async fn orphans(&self) -> Result<Vec<Orphan>, Problem> {
        self.get(&path(&["orphans"])).await
    }

    pub async fn deployments(&self) -> Result<Vec<DeploymentSummary>, Problem> {
        self.get(&path(&["deployments"])).await
    }

    pub async fn deployment(&self, name: &DeploymentName) -> Result<DeploymentInfo, Problem> {
        self.get(&path(&["deployments", name.as_str()])).await
    }

    pub async fn state(&self, name: &DeploymentName) -> Result<DeploymentState, Problem> {
        self.get(&path(&["deployments", name.as_str(), "state"])).await
    }

    /// Links of guests: `GUEST` or `GUEST:IFACE`, all when there are none; with what a probe of some seconds finds.
    pub async fn links(&self, name: &DeploymentName, only: &[String], probe: bool) -> Result<Vec<LinkReport>, Problem> {
        let mut query = vec![format!("probe={probe}")];
        query.extend((!only.is_empty()).then(|| format!("only={}", encoded(&only.join(",")))));
        self.get(&format!("{}?{}", path(&["deployments", name.as_str(), "links"]), query.join("&"))).await
    }

    pub async fn snapshots(&self, name: &DeploymentName) -> Result<Vec<SnapshotInfo>, Problem> {
        self.get(&path(&["deployments", name.as_str(), "snapshots"])).await
    }

    pub async fn snapshot(&self, name: &DeploymentName, snapshot: &SnapshotName) -> Result<SnapshotInfo, Problem> {
        self.get(&path(&["deployments", name.as_str(), "snapshots", snapshot.as_str()])).await
    }

    pub async fn create(&self, deployment: &CreateDeployment) -> Result<DeploymentInfo, Problem> {
        self.send(self.request(Method::POST, &path(&["deployments"])).json(deployment)).await
    }

    /// Changes where a deployment's project lies.
    pub async fn relocate(&self, deployment: &CreateDeployment) -> Result<DeploymentInfo, Problem> {
        self.send(self.request(Method::PUT, &path(&["deployments", deployment.name.as_str()])).json(deployment)).await
    }

    pub async fn destroy(&self, name: &DeploymentName, force: Force) -> Result<(), Problem> {
        let path = path(&["deployments", name.as_str()]);
        let request = match force {
            // The server removes all of it before it answers.
            Force::Yes => self.request(Method::DELETE, &(path + "?force=true")).timeout(self.limit.max(REMOVAL_LIMIT)),
            Force::No => self.request(Method::DELETE, &path),
        };
        success(self.exchange(request).await?).await.map(drop)
    }

    pub async fn members(&self) -> Result<Members, Problem> {
        self.send(self.request(Method::GET, &path(&["cluster", "members"]))).await
    }

    pub async fn join_token(&self) -> Result<JoinToken, Problem> {
        self.send(self.request(Method::POST, &path(&["cluster", "token"]))).await
    }

    pub async fn remove_member(&self, host: &HostName, force: Force) -> Result<(), Problem> {
        let path = path(&["cluster", "members", host.as_str()]);
        let path = if force == Force::Yes { path + "?force=true" } else { path };
        success(self.exchange(self.request(Method::DELETE, &path)).await?).await.map(drop)
    }

    pub async fn reset(&self, name: &DeploymentName) -> Result<DeploymentInfo, Problem> {
        self.send(self.request(Method::POST, &path(&["deployments", name.as_str(), "reset"]))).await
    }

    /// Hands the testbed over: its file byte for byte, the name that messages call it by, and what else it consists of.
    pub async fn put_draft(&self, name: &DeploymentName, draft: &Draft) -> Result<(), Problem> {
        let path = path(&["deployments", name.as_str(), "yaml"]);
        let request = if draft.composition.is_empty() {
            let query = draft.file.as_ref().map(|file| format!("?file={}", encoded(file))).unwrap_or_default();
            let request = self.request(Method::PUT, &(path + &query));
            request.header(CONTENT_TYPE, "application/yaml").body(draft.text.clone())
        } else {
            self.request(Method::PUT, &path).json(draft)
        };
        success(self.exchange(request).await?).await.map(drop)
    }

    pub async fn act(&self, name: &DeploymentName, action: &ActionRequest) -> Result<ActionAccepted, Problem> {
        self.send(self.request(Method::POST, &path(&["deployments", name.as_str(), "action"])).json(action)).await
    }

    pub async fn cancel(&self, owner: &Owner, uuid: Uuid) -> Result<(), Problem> {
        let request = self.request(Method::DELETE, &owner.path(&["action", &uuid.to_string()]));
        success(self.exchange(request).await?).await.map(drop)
    }

    pub async fn log_index(&self, name: &DeploymentName) -> Result<LogIndex, Problem> {
        self.get(&path(&["deployments", name.as_str(), "logs"])).await
    }

    /// One action's entry.
    pub async fn log_record(&self, owner: &Owner, uuid: Uuid) -> Result<LogRecord, Problem> {
        self.get(&owner.path(&["logs", &uuid.to_string()])).await
    }

    /// One action's log as far as it goes now; read it with `chunk`.
    pub async fn log_text(&self, owner: &Owner, uuid: Uuid) -> Result<Response, Problem> {
        let request = self.request(Method::GET, &owner.path(&["logs", &uuid.to_string()])).header(ACCEPT, "text/plain");
        success(self.exchange(request).await?).await
    }

    /// What a guest has said.
    pub async fn guest_log(&self, name: &DeploymentName, guest: &GuestName, last: Option<u32>) -> Result<Response, Problem> {
        let mut path = path(&["deployments", name.as_str(), "guests", guest.as_str(), "log"]);
        if let Some(last) = last {
            path.push_str(&format!("?tail={last}"));
        }
        success(self.exchange(self.request(Method::GET, &path)).await?).await
    }

    /// What passes interfaces of guests, as pcapng, for as long as it is read; read it with `chunk`.
    pub async fn capture(&self, name: &DeploymentName, asked: &CaptureAsked<'_>) -> Result<Response, Problem> {
        let numbers = [("count", asked.count), ("bytes", asked.bytes), ("seconds", asked.seconds), ("snaplen", asked.snaplen)];
        let numbers = numbers.iter().filter_map(|(key, number)| Some(format!("&{key}={}", (*number)?)));
        let ports = encoded(&asked.ports.join(","));
        let id = format!("&id={}", asked.id);
        let path = path(&["deployments", name.as_str(), "capture"]) + "?ports=" + &ports + &id + &numbers.collect::<String>();
        // It begins within the limit, and then goes on for as long as somebody wants it.
        let request = self.request(Method::GET, &path).timeout(FOR_LONG);
        let late = |_| {
            Problem::new(Code::Unavailable, format!("the server at `{}` did not answer within {} s", self.host, self.limit.as_secs()))
                .hint("try again, or allow it more time with `--timeout`")
        };
        success(tokio::time::timeout(self.limit, self.exchange(request)).await.map_err(late)??).await
    }

    /// Tells a capture to end.
    pub async fn end_capture(&self, name: &DeploymentName, id: Uuid) -> Result<(), Problem> {
        let request = self.request(Method::DELETE, &path(&["deployments", name.as_str(), "capture", &id.to_string()]));
        success(self.exchange(request).await?).await.map(drop)
    }

    /// What is at a path in a guest.
    pub async fn path_in_guest(&self, name: &DeploymentName, guest: &GuestName, at: &str) -> Result<PathSeen, Problem> {
        let path = path(&["deployments", name.as_str(), "guests", guest.as_str(), "path"]);
        self.get(&format!("{path}?path={}", encoded(at))).await
    }

    /// Unpacks an archive in a folder of a guest.
    pub async fn put_files(&self, name: &DeploymentName, guest: &GuestName, folder: &str, body: reqwest::Body) -> Result<(), Problem> {
        let path = path(&["deployments", name.as_str(), "guests", guest.as_str(), "files"]);
        let request = self.request(Method::PUT, &format!("{path}?path={}", encoded(folder))).timeout(self.limit.max(UPLOAD_LIMIT));
        success(self.exchange(request.header(CONTENT_TYPE, "application/x-tar").body(body)).await?).await.map(drop)
    }

    /// A file or folder of a guest as an archive; read it with `chunk`.
    pub async fn get_files(&self, name: &DeploymentName, guest: &GuestName, at: &str) -> Result<Response, Problem> {
        let path = path(&["deployments", name.as_str(), "guests", guest.as_str(), "files"]);
        let request = self.request(Method::GET, &format!("{path}?path={}", encoded(at))).timeout(self.limit.max(UPLOAD_LIMIT));
        success(self.exchange(request).await?).await
    }

    pub async fn images(&self) -> Result<Vec<ImageInfo>, Problem> {
        self.get(&path(&["images"])).await
    }

    /// The names that may be pulled.
    pub async fn catalogue(&self) -> Result<Vec<CatalogueEntry>, Problem> {
        self.get(&path(&["images", "catalogue"])).await
    }

    /// Has an image built or downloaded.
    pub async fn make_image(&self, image: &ImageRequest) -> Result<ActionAccepted, Problem> {
        self.send(self.request(Method::POST, &path(&["images"])).json(image)).await
    }

    /// Hands a disk image over.
    pub async fn import_image(&self, name: &str, file: &str, length: u64, body: reqwest::Body) -> Result<ActionAccepted, Problem> {
        let path = format!("{}?name={}&file={}", path(&["images", "import"]), encoded(name), encoded(file));
        let request = self.request(Method::POST, &path).timeout(self.limit.max(UPLOAD_LIMIT));
        let request = request.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, length);
        self.send(request.body(body)).await
    }

    /// A deployment as one archive.
    pub async fn export(&self, name: &DeploymentName) -> Result<Response, Problem> {
        // It may be long; that it goes on is seen by the pieces.
        let request = self.request(Method::GET, &path(&["deployments", name.as_str(), "export"])).timeout(FOR_LONG);
        success(self.exchange(request).await?).await
    }

    /// A new deployment from an archive.
    pub async fn import(&self, name: &DeploymentName, length: u64, body: reqwest::Body) -> Result<DeploymentSummary, Problem> {
        let path = format!("{}?name={}", path(&["deployments"]), encoded(name.as_str()));
        let request = self.request(Method::POST, &path).timeout(self.limit.max(UPLOAD_LIMIT));
        let request = request.header(CONTENT_TYPE, "application/x-tar").header(CONTENT_LENGTH, length);
        self.send(request.body(body)).await
    }

    pub async fn remove_image(&self, name: &str) -> Result<RemovedImages, Problem> {
        self.send(self.request(Method::DELETE, &path(&["images", name]))).await
    }

    pub async fn prune_images(&self) -> Result<RemovedImages, Problem> {
        self.send(self.request(Method::POST, &path(&["images", "prune"]))).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.host.authority());
        let request = self.http.request(method, url).timeout(self.limit);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.send(self.request(Method::GET, path)).await
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Problem> {
        let response = self.exchange(request.header(ACCEPT, "application/json")).await?;
        self.json(success(response).await?).await
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<Response, Problem> {
        request.send().await.map_err(|error| self.lost(&error))
    }

    async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T, Problem> {
        let body = response.bytes().await.map_err(|error| self.lost(&error))?;
        serde_json::from_slice(&body).map_err(|error| {
            Problem::internal("the server's answer is not what this command expects")
                .cause(error)
                .hint("compare `testbed version --server`: command and server may be of different versions")
        })
    }

    /// What it means that there is no whole answer.
    pub fn lost(&self, error: &reqwest::Error) -> Problem {
        if error.is_timeout() && !error.is_connect() {
            return Problem::new(
                Code::Unavailable,
                format!("the server at `{}` did not answer within {} s", self.host, self.limit.as_secs()),
            )
            .hint("try again, or allow it more time with `--timeout`");
        }
        // The innermost cause says it best: those around it repeat the URL.
        let mut innermost: &dyn std::error::Error = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        self.host.unreachable(innermost, innermost.downcast_ref::<io::Error>().map(io::Error::kind))
    }
}

/// What is captured, and when it ends.
pub struct CaptureAsked<'a> {
    /// By this it is told to end.
    pub id: Uuid,
    pub ports: &'a [String],
    pub count: Option<u64>,
    pub bytes: Option<u64>,
    pub seconds: Option<u64>,
    pub snaplen: Option<u64>,
}

/// Longer than anybody captures.
const FOR_LONG: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Whether a deployment is destroyed although something of it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    Yes,
    No,
}

/// A path below `/api`, each segment percent-encoded.
pub fn path(segments: &[&str]) -> String {
    segments.iter().fold(String::from("/api"), |path, segment| path + "/" + &encoded(segment))
}

/// Percent-encoded (RFC 3986: all but the unreserved characters).
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

async fn success(response: Response) -> Result<Response, Problem> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    Err(refused(status, &response.bytes().await.unwrap_or_default()))
}

/// The problem that a response with this status and body tells of.
pub fn refused(status: StatusCode, body: &[u8]) -> Problem {
    if let Ok(ErrorBody { mut problem, request_id }) = serde_json::from_slice::<ErrorBody>(body) {
        if matches!(problem.code, Code::Internal | Code::Storage) && !request_id.is_empty() {
            problem.causes.push(format!("request {request_id}; the server's log says more"));
        }
        return problem;
    }
    let code = match status.as_u16() {
        401 => Code::Unauthorized,
        403 => Code::Forbidden,
        404 => Code::NotFound,
        405 => Code::MethodNotAllowed,
        409 => Code::Conflict,
        413 => Code::TooLarge,
        429 => Code::RateLimited,
        502..=504 => Code::Unavailable,
        400..=499 => Code::BadRequest,
        _ => Code::Internal,
    };
    let problem = Problem::new(code, format!("the server answered `{status}` and said nothing more"));
    match code {
        Code::Unauthorized => problem.hint("give the server's token with TESTBED_TOKEN or `--token-file`"),
        Code::NotFound => problem.hint("is this address a testbedos-server of the same version? see `testbed version --server`"),
        _ => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cannot_leave_their_place() {
        assert_eq!(path(&["deployments", "a/../b?c#d é"]), "/api/deployments/a%2F..%2Fb%3Fc%23d%20%C3%A9");
    }

    /// A server that closes a connection which was idle for long may do so just as it is used again.
    #[tokio::test]
    async fn no_connection_is_used_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("s");
        let listener = tokio::net::UnixListener::bind(&socket).expect("bound");
        let body = r#"{"version":"1","api":1,"installation":"i","mode":"master"}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let server = tokio::spawn(async move {
            // Each connection is answered once and kept; who asked again on one of them would wait for ever.
            let mut kept = Vec::new();
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = [0; 4096];
                tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.expect("a request");
                tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.expect("answered");
                kept.push(stream);
            }
            kept.len()
        });
        let client = Client::new(&Host::Unix(socket), None, Some(Duration::from_secs(20))).expect("a client");
        for _ in 0..2 {
            client.version().await.expect("an answer");
        }
        assert_eq!(server.await.expect("it ends"), 2);
    }

    #[test]
    fn an_answer_that_is_not_ours_still_has_a_code() {
        assert_eq!(refused(StatusCode::BAD_GATEWAY, b"<html>").code, Code::Unavailable);
        assert_eq!(refused(StatusCode::UNAUTHORIZED, b"").code, Code::Unauthorized);
        let body = br#"{"code":"busy","message":"m","hint":"h","causes":[],"request_id":"r"}"#;
        assert_eq!(refused(StatusCode::CONFLICT, body), Problem::new(Code::Busy, "m").hint("h"));
    }
}
