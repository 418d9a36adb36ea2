//! GET `/gui/deployments/{name}`: one testbed, as observed just now.

use std::collections::BTreeMap;

use askama::Template;
use axum::{Extension, extract::State, http::StatusCode, response::Response};
use chrono::Utc;
use kvm_compose::{
    api::{DeploymentState, DeploymentSummary, GuestState, LogEntry, LogIndex, SnapshotInfo},
    error::{Code, Problem},
    names::{DeploymentName, GuestName},
    picture::{self, Scene, Standing},
    spec::Sources,
    topology::{self, Leases},
};
use serde::Serialize;
use uuid::Uuid;

use super::{Chrome, Page, respond, words};
use crate::{
    api::{
        deployments,
        extract::{Name, Words},
    },
    app::App,
    auth::Access,
    error::Answer,
    operations::driver::Project,
};

/// The end of a long log that a page begins with, in bytes.
const LOG_TAIL: u64 = 256 * 1024;

/// One testbed.
#[derive(Template, Serialize)]
#[template(path = "deployment.html")]
pub struct Deployment {
    chrome: Chrome,
    name: String,
    mark: words::Mark,
    project: String,
    created: String,
    created_shown: String,
    rows: String,
    warnings: Vec<String>,
    /// The uuid of the action that owns it; empty when none does.
    running: String,
    failed: bool,
    /// SVG made by `picture`, where every word is escaped.
    picture: String,
    guests: Vec<GuestRow>,
    snapshots: Vec<SnapshotRow>,
    action: ActionView,
    history: Vec<ActionRow>,
}

impl Page for Deployment {
    const FILE: &'static str = "deployment.html";
}

#[derive(Serialize)]
struct GuestRow {
    name: String,
    mark: words::Mark,
    kind: String,
    host: String,
    addresses: Vec<Address>,
    cpus: u32,
    memory: String,
    leftover: bool,
}

#[derive(Serialize)]
struct SnapshotRow {
    name: String,
    created: String,
    created_shown: String,
    holds: String,
    guests: usize,
    size: String,
}

#[derive(Serialize)]
struct Address {
    address: String,
    switch: String,
}

/// The action whose log is shown.
#[derive(Default, Serialize)]
struct ActionView {
    /// Empty when there is none.
    uuid: String,
    command: String,
    mark: words::Mark,
    started: String,
    started_shown: String,
    took: String,
    code: String,
    message: String,
    hint: String,
    causes: Vec<String>,
    faults: Vec<Fault>,
    /// The byte of the log that the page begins with.
    from: u64,
}

/// A fault of the testbed file, when that is why the action failed.
#[derive(Serialize)]
struct Fault {
    place: String,
    message: String,
    code: String,
    hint: String,
}

#[derive(Serialize)]
struct ActionRow {
    uuid: String,
    command: String,
    mark: words::Mark,
    started: String,
    started_shown: String,
    took: String,
    code: String,
    chosen: bool,
}

/// What the API says of a deployment, each asked just now.
pub struct Told {
    /// GET `/api/deployments/{name}`.
    pub summary: DeploymentSummary,
    /// GET `…/state`.
    pub state: DeploymentState,
    /// All that GET `…/yaml` is read with, as far as there is one.
    pub sources: Option<Sources>,
    /// GET `…/snapshots`.
    pub snapshots: Vec<SnapshotInfo>,
    /// GET `…/logs`.
    pub index: LogIndex,
    /// The action that somebody wants to see.
    pub wanted: Option<Uuid>,
}

/// GET `/gui/deployments/{name}`.
pub async fn show(State(app): State<App>, Name(name): Name, words: Words, Extension(access): Extension<Access>) -> Answer<Response> {
    let axum::Json(summary) = deployments::show(State(app.clone()), Name(name.clone())).await?;
    let axum::Json(state) = deployments::state(State(app.clone()), Name(name.clone())).await?;
    let of = name.clone();
    let sources = app.store(move |operations| readable(operations.project(&of))).await?;
    let of = name.clone();
    let snapshots = app.store(move |operations| operations.snapshots(&of)).await?;
    let index = app.operations.index(&name)?;
    let wanted = words.get("action").and_then(|text| Uuid::try_parse(text).ok());
    let chrome = Chrome::new("deployments", matches!(access, Access::Session(_)));
    Ok(respond(StatusCode::OK, &Deployment::new(chrome, Told { summary, state, sources, snapshots, index, wanted }))?)
}

/// What a testbed is read from; nothing when there is no file, or none that is text.
fn readable(project: Result<Project, Problem>) -> Result<Option<Sources>, Problem> {
    match project {
        Ok(project) => Ok(Some(project.sources)),
        Err(problem) if matches!(problem.code, Code::NotFound | Code::InvalidFile) => Ok(None),
        Err(problem) => Err(problem),
    }
}

impl Deployment {
    /// The page over what the API says.
    pub fn new(chrome: Chrome, told: Told) -> Deployment {
        let Told { summary, state, sources, snapshots, index, wanted } = told;
        let running = state.last_action.as_ref().filter(|action| action.ended.is_none()).map(|action| action.uuid);
        let shown = wanted.filter(|uuid| index.0.contains_key(uuid)).or(running).or_else(|| latest(&index));
        let mut history: Vec<(&Uuid, &LogEntry)> = index.0.iter().collect();
        history.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.started));
        Deployment {
            chrome,
            name: summary.name.to_string(),
            mark: words::deployment(state.state, state.phase, state.failed_command),
            project: summary.project_location,
            created: words::exact(summary.created),
            created_shown: words::shown(summary.created),
            rows: format!("{} of {} rows", state.rows_observed, state.rows_wanted),
            warnings: state.warnings,
            running: running.map(|uuid| uuid.to_string()).unwrap_or_default(),
            failed: state.failed_command.is_some(),
            picture: sources.and_then(|sources| draw(&summary.name, &sources, &state.guests)).unwrap_or_default(),
            guests: state.guests.iter().map(guest).collect(),
            snapshots: snapshots.iter().map(snapshot).collect(),
            action: shown.and_then(|uuid| index.0.get(&uuid).map(|entry| view(uuid, entry))).unwrap_or_default(),
            history: history.into_iter().map(|(uuid, entry)| row(*uuid, entry, shown)).collect(),
        }
    }
}

fn latest(index: &LogIndex) -> Option<Uuid> {
    // What was run in a guest is not what became of the testbed, unless nothing else was done yet.
    index.0.iter().max_by_key(|(_, entry)| (!entry.command.is_beside(), entry.started)).map(|(uuid, _)| *uuid)
}

/// The topology of the file with the states and addresses that were observed.
fn draw(name: &DeploymentName, sources: &Sources, guests: &[GuestState]) -> Option<String> {
    let mut leases = Leases::new();
    for guest in guests {
        for (index, nic) in guest.nics.iter().enumerate() {
            if let Some(address) = nic.address {
                leases.insert((guest.name.clone(), index), address);
            }
        }
    }
    let topology = topology::load_all(sources, name, &leases).ok()?.topology;
    let standing: BTreeMap<_, _> = guests.iter().map(|guest| (guest.name.clone(), Standing::of(&guest.state, guest.ready))).collect();
    let link = |guest: &GuestName| format!("/gui/deployments/{name}/guests/{guest}");
    Some(picture::svg(&topology, &Scene { standing: Some(standing), link: Some(&link) }))
}

/// A guest's state as a mark, in the shapes of the picture.
pub fn guest_mark(guest: &GuestState) -> words::Mark {
    let standing = Standing::of(&guest.state, guest.ready);
    let class = match standing {
        Standing::Ready => "good",
        Standing::Starting => "busy",
        Standing::Paused => "half",
        Standing::Off | Standing::Absent => "idle",
        Standing::Crashed => "bad",
        Standing::Unknown => "unsure",
    };
    words::Mark { class, word: standing.word().to_string() }
}

fn guest(guest: &GuestState) -> GuestRow {
    let addresses = guest
        .nics
        .iter()
        .map(|nic| Address { address: nic.address.map(|address| address.to_string()).unwrap_or_default(), switch: nic.switch.clone() });
    GuestRow {
        name: guest.name.to_string(),
        mark: guest_mark(guest),
        kind: guest.kind.clone(),
        host: guest.host.clone(),
        addresses: addresses.collect(),
        cpus: guest.cpus,
        memory: if guest.memory_mb == 0 { String::new() } else { format!("{} MiB", guest.memory_mb) },
        leftover: !guest.wanted,
    }
}

fn snapshot(found: &SnapshotInfo) -> SnapshotRow {
    let what = if found.whole { "the whole testbed" } else { "guests" };
    SnapshotRow {
        name: found.name.to_string(),
        created: words::exact(found.created),
        created_shown: words::shown(found.created),
        holds: match &found.fault {
            Some(fault) => format!("damaged: {fault}"),
            None if found.memory => format!("{what}, with memory"),
            None => format!("{what}, disks"),
        },
        guests: found.guests.len(),
        size: format!("{} MiB", found.bytes.div_ceil(1 << 20)),
    }
}

fn view(uuid: Uuid, entry: &LogEntry) -> ActionView {
    let length = std::fs::metadata(&entry.log_path).map_or(0, |found| found.len());
    let problem = entry.problem.as_ref();
    ActionView {
        uuid: uuid.to_string(),
        command: entry.command.to_string(),
        mark: words::action(entry.state),
        started: words::exact(entry.started),
        started_shown: words::shown(entry.started),
        took: words::span(entry.started, entry.ended.unwrap_or_else(Utc::now)),
        code: words::error_code(entry.error_code),
        message: problem.map(|problem| problem.message.clone()).unwrap_or_default(),
        hint: problem.and_then(|problem| problem.hint.clone()).unwrap_or_default(),
        causes: problem.map(|problem| problem.causes.clone()).unwrap_or_default(),
        faults: problem.map(faults).unwrap_or_default(),
        from: length.saturating_sub(LOG_TAIL),
    }
}

/// Every fault of the file, with its place.
fn faults(problem: &Problem) -> Vec<Fault> {
    let all = problem.diagnostics.iter().map(|fault| Fault {
        place: fault.at.to_string(),
        message: fault.message.clone(),
        code: fault.code.clone(),
        hint: fault.hint.clone().unwrap_or_default(),
    });
    all.collect()
}

fn row(uuid: Uuid, entry: &LogEntry, shown: Option<Uuid>) -> ActionRow {
    ActionRow {
        uuid: uuid.to_string(),
        command: entry.command.to_string(),
        mark: words::action(entry.state),
        started: words::exact(entry.started),
        started_shown: words::shown(entry.started),
        took: words::span(entry.started, entry.ended.unwrap_or_else(Utc::now)),
        code: words::error_code(entry.error_code),
        chosen: shown == Some(uuid),
    }
}
