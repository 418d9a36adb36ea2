//! Every path of the server, on one screen. The OpenAPI document is made from the same table, so it leaves nothing out.

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    middleware,
    response::{IntoResponse as _, Response},
    routing::MethodRouter,
};
use kvm_compose::{
    api::{
        self as wire,
        action::LogRecord,
        cluster::{JoinToken, Members},
    },
    backend::images::disks,
    error::{Code, Problem},
    names::{DeploymentName, GuestName, HostName, SnapshotName, printable},
};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    api::{actions, auth as login, captures, cluster, config, deployments, export, images, logs, server, snapshots, validate},
    app::App,
    auth,
    config::host::{ClusterConfig, HostConfig},
    error::Failure,
    http::trace,
    openapi::{Endpoint, delete, get, post, put},
    pages::{self, assets, deployment, edit, guest, home, hosts, reference},
    ws::{console, events, follow},
};

/// All endpoints.
pub fn endpoints() -> Vec<Endpoint> {
    const ONE: &str = "/api/deployments/{name}";
    let below = |rest: &str| format!("{ONE}/{rest}");
    vec![
        get("/api/version", "Version of the server and of the API", server::version).answers::<wire::Version>(200),
        get("/api/health", "The process answers", server::health).answers::<wire::Health>(200),
        get("/api/ready", "Each real part: 200 when all that is required is ready, else 503 with the same body", server::ready)
            .answers::<wire::Ready>(200),
        get("/api/orphans", "What this server made and no deployment owns", server::orphans).answers::<Vec<wire::Orphan>>(200),
        get("/api/config/host", "config/host.json", config::host).answers::<HostConfig>(200),
        post("/api/config/host", "Replaces config/host.json; used from the next start on", config::put_host)
            .takes::<HostConfig>()
            .answers::<HostConfig>(200),
        get("/api/config/cluster", "config/kvm-compose-config.json", config::cluster).answers::<ClusterConfig>(200),
        get("/api/cluster/members", "The hosts of the cluster, and which of them answer", cluster::members).answers::<Members>(200),
        post("/api/cluster/token", "A token with which one host may join", cluster::token).answers::<JoinToken>(201),
        delete("/api/cluster/members/{host}", "Lets a member go", cluster::remove)
            .query("force", "also while guests stand there: they are given up and go on running")
            .answers_nothing(204),
        get("/api/deployments", "All deployments", deployments::list).answers::<Vec<wire::DeploymentSummary>>(200),
        post(
            "/api/deployments",
            "Creates a deployment; with `Content-Type: application/x-tar` and ?name=, from a project",
            deployments::create,
        )
        .query("name", "the deployment's name, for an archive")
        .takes::<wire::CreateDeployment>()
        .takes_bytes("application/x-tar")
        .answers::<wire::DeploymentSummary>(201),
        get(ONE, "One deployment", deployments::show).answers::<wire::DeploymentInfo>(200),
        put(ONE, "Changes where the project is, or replaces the project (application/x-tar)", deployments::change)
            .takes::<wire::CreateDeployment>()
            .takes_bytes("application/x-tar")
            .answers::<wire::DeploymentSummary>(200),
        delete(ONE, "Forgets a deployment of which nothing is left", deployments::remove)
            .query("force", "run `down` first, and wait for it")
            .answers_nothing(204),
        get(&below("yaml"), "The testbed file, byte for byte", deployments::yaml).answers_bytes(200, "application/yaml"),
        put(&below("yaml"), "Replaces the testbed file, byte for byte", deployments::put_yaml)
            .query("file", "what messages call it; `kvm-compose.yaml` when absent")
            .query("keep_composition", "keep the included files, variables and `--set` that came with the file before")
            .takes::<wire::Draft>()
            .takes_bytes("application/yaml")
            .answers_nothing(204),
        get(&below("export"), "The testbed file and all that it names, as one archive for another server", export::export)
            .answers_bytes(200, "application/x-tar"),
        get(&below("state"), "Desired and observed, asked just now", deployments::state).answers::<wire::DeploymentState>(200),
        get(&below("links"), "Links of guests: what is asked of each direction, and what was measured", deployments::links)
            .query("only", "`GUEST` or `GUEST:IFACE`, separated by commas; all when absent")
            .query("probe", "also what frames of the relay's own meet; takes some seconds")
            .answers::<Vec<wire::link::LinkReport>>(200),
        get(&below("capture"), "What passes interfaces of guests, as pcapng, until a limit or until nobody reads", captures::capture)
            .query("ports", "`GUEST` or `GUEST:IFACE`, separated by commas")
            .query("count", "end after so many frames")
            .query("bytes", "end before the file is longer")
            .query("seconds", "end after so long")
            .query("snaplen", "bytes kept of each frame; 262144 when absent")
            .query("id", "a UUID by which it can be told to end")
            .answers_bytes(200, "application/x-pcapng"),
        delete(&below("capture/{uuid}"), "Ends a capture, with all that passed until now", captures::end).answers_nothing(204),
        post(&below("action"), "Starts an action", actions::start).takes::<wire::ActionRequest>().answers::<wire::ActionAccepted>(202),
        delete(&below("action/{uuid}"), "Asks an action to stop", actions::cancel).answers::<wire::ActionAccepted>(202),
        get(&below("snapshots"), "Its snapshots", snapshots::list).answers::<Vec<wire::SnapshotInfo>>(200),
        post(&below("snapshots"), "Makes a snapshot, as the action `snapshot` does", snapshots::create)
            .takes::<wire::CreateSnapshot>()
            .answers::<wire::ActionAccepted>(202),
        get(&below("snapshots/{snapshot}"), "One snapshot: its guests and their files", snapshots::show).answers::<wire::SnapshotInfo>(200),
        delete(&below("snapshots/{snapshot}"), "Deletes a snapshot, as the action does", snapshots::delete)
            .answers::<wire::ActionAccepted>(202),
        post(&below("reset"), "Observes a deployment and forgets that its last `up` or `down` failed", deployments::reset)
            .answers::<wire::DeploymentInfo>(200),
        get(&below("logs"), "All actions: uuid → entry", logs::index).answers::<wire::LogIndex>(200),
        get(&below("logs/{uuid}"), "One action; with ?text or `Accept: text/plain` its log, ranges supported", logs::entry)
            .query("text", "the log instead of the entry")
            .query("format", "`text` or `events`: which file, instead of the entry")
            .answers::<LogRecord>(200)
            .answers_bytes(200, "text/plain"),
        get(&below("logs/{uuid}/stream"), "Websocket: a text frame a line, until the action's end", follow::stream)
            .query("from", "bytes of the file to skip")
            .query("format", "`text` (the log) or `events` (the journal)")
            .answers_nothing(101),
        get(
            &below("guests/{guest}/console"),
            "Websocket: the guest's serial console, binary both ways; first what it said last",
            console::console,
        )
        .answers_nothing(101),
        get(&below("guests/{guest}/log"), "What a guest has said: a machine on its console, a container on its output", logs::of_guest)
            .query("tail", "so many of its last lines alone")
            .answers_bytes(200, "text/plain"),
        get("/api/events", "Websocket: every event as it happens", events::events)
            .query("deployment", "only this deployment's")
            .answers_nothing(101),
        get("/api/images", "Base images", images::list).answers::<Vec<wire::ImageInfo>>(200),
        post("/api/images", "Has a base image built, or downloaded from its publisher", images::make)
            .takes::<wire::ImageRequest>()
            .answers::<wire::ActionAccepted>(202),
        get("/api/images/catalogue", "The names that may be pulled, and whether they are there", images::catalogue)
            .answers::<Vec<wire::CatalogueEntry>>(200),
        post("/api/images/import", "Takes a disk image in: qcow2, raw, VMDK or OVA; the body is the file", images::import)
            .query("name", "the image's name")
            .query("file", "the file's name, for messages")
            .takes_bytes("application/octet-stream")
            .answers::<wire::ActionAccepted>(202),
        post(
            "/api/images/prune",
            "Removes images that no name stands for and nobody uses, golden images among them, and half-finished downloads",
            images::prune,
        )
        .answers::<wire::RemovedImages>(200),
        delete("/api/images/{image}", "Removes an image; refused while a deployment uses it", images::remove)
            .answers::<wire::RemovedImages>(200),
        delete("/api/images/action/{uuid}", "Asks an action on images to stop", images::cancel).answers::<wire::ActionAccepted>(202),
        get("/api/images/logs", "All actions on images: uuid → entry", images::index).answers::<wire::LogIndex>(200),
        get("/api/images/logs/{uuid}", "One action on images, as for deployments", images::entry)
            .query("text", "the log instead of the entry")
            .query("format", "`text` or `events`: which file, instead of the entry")
            .answers::<LogRecord>(200)
            .answers_bytes(200, "text/plain"),
        get("/api/images/logs/{uuid}/stream", "Websocket: as for deployments", follow::stream_image)
            .query("from", "bytes of the file to skip")
            .query("format", "`text` (the log) or `events` (the journal)")
            .answers_nothing(101),
        post("/api/validate", "Every fault of a testbed file, with its place", validate::validate)
            .query("deployment", "read it as this deployment's file, with the included files and variables that are kept with it")
            .takes_bytes("application/yaml")
            .answers::<wire::Validation>(200),
        post("/api/auth/link", "A link that logs a browser in, once, within a minute", login::link).answers::<wire::LoginLink>(200),
        post("/api/auth/login", "Logs a browser in: a form with the token", login::login)
            .takes_bytes("application/x-www-form-urlencoded")
            .answers_nothing(303),
        post("/api/auth/logout", "Logs a browser out", login::logout).answers_nothing(303),
        get("/api/openapi.json", "This document", reference::openapi).answers_bytes(200, "application/json"),
        get("/api/docs", "This document as a page", reference::docs).answers_bytes(200, "text/html"),
        get("/metrics", "Counts as Prometheus text", server::metrics).answers_bytes(200, "text/plain"),
        get("/", "Page: what this is", reference::front).answers_bytes(200, "text/html"),
        get("/gui", "Page: the login, or all testbeds", home::home)
            .query("link", "what `/api/auth/link` gave")
            .answers_bytes(200, "text/html"),
        get("/gui/deployments/{name}", "Page: one testbed", deployment::show)
            .query("action", "the action whose log is shown, else the one that runs or ran last")
            .answers_bytes(200, "text/html"),
        get("/gui/deployments/{name}/edit", "Page: its testbed file", edit::edit).answers_bytes(200, "text/html"),
        get("/gui/deployments/{name}/guests/{guest}", "Page: a guest and its console", guest::guest).answers_bytes(200, "text/html"),
        get("/gui/hosts", "Page: the hosts", hosts::hosts).answers_bytes(200, "text/html"),
        get("/gui/images", "Page: the base images", pages::images::images).answers_bytes(200, "text/html"),
        get("/assets/{file}", "A style sheet or a script of the pages", assets::own).answers_bytes(200, "text/css"),
        get("/assets/vendor/{file}", "The same, made by others", assets::vendored).answers_bytes(200, "text/javascript"),
    ]
}

/// The whole service.
pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for endpoint in endpoints() {
        let handler: MethodRouter<App> = endpoint.handler;
        router = router.route(&endpoint.path, handler);
    }
    if cfg!(debug_assertions) {
        router = router.route("/gui/stamp", axum::routing::get(pages::stamp));
    }
    // The last layer is the outermost: a request meets the trace, then what makes pages of failures, then the guard. Bodies
    // have their limit where they are read.
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(trace::panicked))
        .layer(middleware::from_fn_with_state(app.clone(), auth::guard::layer))
        .layer(middleware::from_fn(pages::errors::layer))
        .layer(middleware::from_fn_with_state(app.clone(), trace::layer))
        .with_state(app)
}

/// A path that is none. A hostile name with a `/` in it lands here and is told what is wrong with it.
async fn unknown(request: Request) -> Response {
    Failure(refuse_name(&request).err().unwrap_or_else(|| {
        Problem::new(Code::NotFound, format!("there is no {} here", printable(request.uri().path()))).hint("GET /api/docs lists every path")
    }))
    .into_response()
}

async fn wrong_method(request: Request) -> Response {
    if let Err(problem) = refuse_name(&request) {
        return Failure(problem).into_response();
    }
    let message = format!("{} does not take {}", printable(request.uri().path()), request.method());
    Failure(Problem::new(Code::MethodNotAllowed, message)).into_response()
}

/// Checks the name in a path below a folder of names that no endpoint took.
fn refuse_name(request: &Request) -> Result<(), Problem> {
    if let Some(rest) = request.uri().path().strip_prefix("/api/cluster/members/") {
        return HostName::new(&percent_decoded(rest)).map(|_| ());
    }
    if let Some(rest) = request.uri().path().strip_prefix("/api/images/") {
        return disks::check_name(&percent_decoded(rest));
    }
    let folders = ["/api/deployments/", "/gui/deployments/", "/assets/vendor/", "/assets/"];
    let Some(rest) = folders.iter().find_map(|folder| request.uri().path().strip_prefix(folder)) else { return Ok(()) };
    let mut segments = rest.split('/');
    DeploymentName::new(&percent_decoded(segments.next().unwrap_or_default()))?;
    match (segments.next(), segments.next()) {
        (Some("snapshots"), Some(snapshot)) => SnapshotName::new(&percent_decoded(snapshot)).map(|_| ()),
        (Some("guests"), Some(guest)) => GuestName::new(&percent_decoded(guest)).map(|_| ()),
        _ => Ok(()),
    }
}

/// A path's segment, decoded for a message; what does not decode stays as it is.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
