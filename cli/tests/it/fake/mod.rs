//! A server that answers as testbedos-server does, from a script; and a wire to it that can be cut.

mod script;
pub mod wire;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        Path as UrlPath, Query, Request, State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    },
    http::{HeaderMap, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, delete, get, post, put},
};
use kvm_compose::{
    api::{LogIndex, action::LogRecord},
    error::{Code, Problem},
};
use serde_json::{Value, json};
use uuid::Uuid;

pub use script::{Ending, Script, entry, lab};

pub const ACTION: Uuid = Uuid::from_u128(7);
/// A test waits this long for what must come, and then fails.
const LIMIT: Duration = Duration::from_secs(20);

pub const FILE: &str = "\
machines:
  - name: web
    micro: {}
    network: [{switch: lan, ip: 10.0.0.10}]
network:
  ovn:
    switches: {lan: {subnet: 10.0.0.0/24}}
";

pub struct Fake {
    folder: tempfile::TempDir,
    pub world: Arc<World>,
    pub runtime: tokio::runtime::Runtime,
}

pub struct World {
    script: Script,
    requests: Mutex<Vec<Asked>>,
    arrived: Condvar,
    cancelled: tokio::sync::watch::Sender<bool>,
}

impl World {
    pub fn script(&self) -> &Script {
        &self.script
    }
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub what: String,
    pub body: String,
}

impl Fake {
    pub fn start(script: Script) -> Fake {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("lab")).expect("a folder");
        fs::write(folder.path().join("lab/kvm-compose.yaml"), FILE).expect("a file");
        let world = Arc::new(World {
            script,
            requests: Mutex::default(),
            arrived: Condvar::new(),
            cancelled: tokio::sync::watch::Sender::new(false),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::bind(folder.path().join("s")).expect("a socket")
        };
        let router = router(world.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Fake { folder, world, runtime }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// The same server on a free port of this machine.
    pub fn tcp(&self) -> String {
        let listener = self.runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = router(self.world.clone());
        self.runtime.spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    /// The project folder.
    pub fn project(&self) -> PathBuf {
        fs::canonicalize(self.folder.path().join("lab")).expect("a folder")
    }

    /// The command, in the project folder, speaking to this server.
    pub fn testbed(&self, args: &[&str]) -> Command {
        testbed(&self.project(), &self.socket(), args)
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        run(self.testbed(args))
    }

    /// Every request so far, as `METHOD PATH`, with its body.
    pub fn requests(&self) -> Vec<Asked> {
        self.world.requests.lock().expect("a lock").clone()
    }

    /// Waits until a request of this kind has come.
    pub fn wait_for(&self, what: &str) {
        let requests = self.world.requests.lock().expect("a lock");
        let absent = |requests: &mut Vec<Asked>| !requests.iter().any(|asked| asked.what == what);
        let (requests, waited) = self.world.arrived.wait_timeout_while(requests, LIMIT, absent).expect("a lock");
        assert!(!waited.timed_out(), "no `{what}` came, but {requests:?}");
    }
}

pub fn testbed(folder: &Path, socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testbed"));
    command.args(args).current_dir(folder).env_clear().env("LANG", "C.UTF-8").env("TZ", "UTC");
    command.env("TESTBED_HOST", format!("unix:{}", socket.display()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What became of a command.
#[derive(Debug)]
pub struct Ran {
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn out(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub fn run(mut command: Command) -> Ran {
    ran(command.spawn().expect("the command starts"))
}

pub fn ran(child: Child) -> Ran {
    let output = in_time(move || child.wait_with_output()).expect("the command ends");
    Ran { status: output.status.code(), stdout: output.stdout, stderr: String::from_utf8(output.stderr).expect("UTF-8") }
}

/// What `work` gives, or a failed test when it takes too long.
pub fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(LIMIT).expect("it ends in time")
}

fn router(world: Arc<World>) -> Router {
    let one = "/api/deployments/{name}";
    Router::new()
        .route("/api/ready", get(ready))
        .route("/api/version", get(|| async { Json(json!({"version": "9.9.9", "api": 1, "installation": "i", "mode": "master"})) }))
        .route("/api/orphans", get(|| async { Json(json!([{"kind": "domain", "name": "old.web", "fix": "virsh undefine old.web"}])) }))
        .route("/api/auth/link", post(link))
        .route("/api/deployments", get(list).post(create))
        .route(one, get(info).put(info).delete(|| async { StatusCode::NO_CONTENT }))
        .route(&format!("{one}/reset"), post(info))
        .route(&format!("{one}/yaml"), put(|| async { StatusCode::NO_CONTENT }))
        .route(&format!("{one}/state"), get(state))
        .route(&format!("{one}/action"), post(act))
        .route(&format!("{one}/action/{{uuid}}"), delete(cancel))
        .route(&format!("{one}/guests/web/log"), get(async || "said last\n"))
        .route(&format!("{one}/logs"), get(index))
        .route(&format!("{one}/logs/{{uuid}}"), get(log))
        .route(&format!("{one}/logs/{{uuid}}/stream"), any(stream))
        .route("/api/events", any(stream))
        .route("/api/images", get(|| async { Json(json!([])) }).post(act))
        .route("/api/images/logs/{uuid}", get(log))
        .route("/api/images/logs/{uuid}/stream", any(stream))
        .layer(middleware::from_fn_with_state(world.clone(), record))
        .with_state(world)
}

type Fakes = State<Arc<World>>;

/// Notes each request, and turns away who has not the token.
async fn record(State(world): Fakes, request: Request, next: Next) -> Response {
    let what = format!("{} {}", request.method(), request.uri());
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let token = parts.headers.get("authorization").and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
    let stranger = world.script.token.is_some_and(|wanted| token != Some(wanted));
    let asked = Asked { what, body: String::from_utf8_lossy(&body).into_owned() };
    world.requests.lock().expect("a lock").push(asked);
    world.arrived.notify_all();
    if stranger {
        return refuse(&Problem::new(Code::Unauthorized, "no token, or a wrong one").hint("set TESTBED_TOKEN"));
    }
    next.run(Request::from_parts(parts, body.into())).await
}

fn refuse(problem: &Problem) -> Response {
    let mut body = json!(problem);
    body["request_id"] = json!("r-1");
    (StatusCode::from_u16(problem.code.http_status()).expect("a status"), Json(body)).into_response()
}

fn known(world: &World, name: &str) -> Result<(), Response> {
    if name == "lab" {
        Ok(())
    } else {
        Err(refuse(&Problem::new(Code::NotFound, format!("there is no deployment `{name}` {}", world.script.events.len()))))
    }
}

fn summary(world: &World) -> Value {
    json!({"name": "lab", "project_location": world.script.project_location.clone().unwrap_or_default(), "state": "up", "phase": "up",
        "created": "2026-11-21T06:47:00Z", "revision": 1})
}

async fn link(State(world): State<Arc<World>>) -> Json<Value> {
    Json(json!({"url": world.script.link, "path": "/gui?link=secret", "expires_s": 60}))
}

async fn ready() -> Response {
    let parts = json!([
        {"part": "libvirt", "ok": true, "required": true, "detail": "11.0"},
        {"part": "kvm", "ok": false, "required": false, "detail": "no /dev/kvm", "fix": "enable it in the firmware"},
        {"part": "ovn", "ok": false, "required": true, "detail": "no answer", "fix": "systemctl start ovn-central"},
    ]);
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "parts": parts}))).into_response()
}

async fn list(State(world): Fakes) -> Json<Value> {
    Json(json!([summary(&world)]))
}

async fn create(State(world): Fakes) -> Response {
    match world.script.project_location {
        Some(_) => refuse(&Problem::new(Code::Conflict, "`lab` exists already")),
        None => (StatusCode::CREATED, Json(summary(&world))).into_response(),
    }
}

async fn info(State(world): Fakes, UrlPath(name): UrlPath<String>) -> Result<Json<Value>, Response> {
    known(&world, &name).map(|()| Json(summary(&world)))
}

async fn state(State(world): Fakes, UrlPath(name): UrlPath<String>) -> Result<Json<Value>, Response> {
    known(&world, &name)?;
    let nic = json!({"name": "eth0", "switch": "lan", "address": "10.0.0.10", "assignment": "static", "mac": "02:00:00:00:00:0a",
        "port": Uuid::nil()});
    let guest = json!({"name": "web", "kind": "micro", "wanted": true, "state": "running", "ready": true, "host": "main",
        "domain": "lab.web", "uuid": Uuid::nil(), "cpus": 1, "memory_mb": 128, "nics": [nic]});
    Ok(Json(json!({"name": "lab", "state": "up", "phase": "up", "guests": [guest], "rows_wanted": 2, "rows_observed": 2})))
}

async fn act(State(world): Fakes, names: Option<UrlPath<String>>, body: Bytes) -> Response {
    if let Some(UrlPath(name)) = names
        && let Err(response) = known(&world, &name)
    {
        return response;
    }
    assert!(serde_json::from_slice::<Value>(&body).is_ok(), "the request is JSON");
    match &world.script.refusal {
        Some(problem) => refuse(problem),
        None => (StatusCode::ACCEPTED, Json(json!({"uuid": ACTION}))).into_response(),
    }
}

async fn cancel(State(world): Fakes) -> StatusCode {
    world.cancelled.send_replace(true);
    StatusCode::ACCEPTED
}

async fn index(State(world): Fakes, UrlPath(name): UrlPath<String>) -> Result<Json<LogIndex>, Response> {
    known(&world, &name)?;
    Ok(Json(LogIndex(BTreeMap::from([(ACTION, world.script.entry.clone())]))))
}

async fn log(State(world): Fakes, headers: HeaderMap) -> Response {
    match headers.get("accept").and_then(|value| value.to_str().ok()) {
        Some("text/plain") => world.script.text(false).into_response(),
        _ => Json(LogRecord { uuid: ACTION, deployment: lab(), entry: world.script.entry.clone() }).into_response(),
    }
}

async fn stream(State(world): Fakes, Query(query): Query<BTreeMap<String, String>>, upgrade: WebSocketUpgrade) -> Response {
    let journal = query.get("format").is_some_and(|format| format == "events") || query.contains_key("deployment");
    let from = query.get("from").map_or(0, |from| from.parse::<usize>().expect("an offset"));
    upgrade.on_upgrade(move |socket| send(world, socket, journal, from))
}

/// One frame a line from the offset on, then the close frame.
async fn send(world: Arc<World>, mut socket: WebSocket, journal: bool, from: usize) {
    let text = world.script.text(journal);
    let rest = text.get(from..).expect("the offset lies in the log");
    assert!(from == 0 || text[..from].ends_with('\n'), "the offset lies within a line");
    let lines: Vec<&str> = rest.lines().collect();
    let last = lines.len().saturating_sub(1);
    for (number, line) in lines.iter().enumerate() {
        if number == last {
            match world.script.ending {
                Ending::AtOnce => {}
                Ending::OnCancel => world.cancelled.subscribe().wait_for(|cancelled| *cancelled).await.map(drop).expect("a sender"),
                Ending::Never => std::future::pending().await,
            }
        }
        if socket.send(Message::text(line.to_string())).await.is_err() {
            return;
        }
    }
    let entry = &world.script.entry;
    let reason = format!("state={} error_code={}", entry.state, entry.error_code.unwrap_or_default());
    let close = CloseFrame { code: 1000, reason: reason.into() };
    if socket.send(Message::Close(Some(close))).await.is_ok() {
        // The other side's own close frame, or its end.
        while let Some(Ok(_)) = socket.recv().await {}
    }
}
