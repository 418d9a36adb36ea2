//! GET `/gui/deployments/{name}/guests/{guest}`: a guest's facts and its serial console.

use askama::Template;
use axum::{Extension, extract::State, http::StatusCode, response::Response};
use kvm_compose::{api::GuestState, picture::Standing};
use serde::Serialize;

use super::{Chrome, POLICY, Page, deployment::guest_mark, respond_under, words};
use crate::{
    api::{
        deployments,
        extract::{Guest as GuestOf, Name},
    },
    app::App,
    auth::{Access, secret},
    error::{Answer, not_found},
};

/// A guest.
#[derive(Template, Serialize)]
#[template(path = "guest.html")]
pub struct Guest {
    chrome: Chrome,
    deployment: String,
    name: String,
    mark: words::Mark,
    buttons: Vec<Button>,
    /// libvirt's own word.
    state: String,
    kind: String,
    host: String,
    domain: String,
    cpus: u32,
    memory_mb: u64,
    nics: Vec<Nic>,
    console_log: String,
    /// What the terminal's own style elements must carry to be taken.
    nonce: String,
}

impl Page for Guest {
    const FILE: &'static str = "guest.html";
}

/// What can be asked of a guest now.
#[derive(Serialize)]
struct Button {
    /// The action's command.
    verb: &'static str,
    word: &'static str,
}

fn buttons(standing: Standing) -> Vec<Button> {
    let [start, stop, restart, pause, resume] =
        [("start", "Start"), ("stop", "Stop"), ("restart", "Restart"), ("pause", "Pause"), ("resume", "Resume")];
    let meant = match standing {
        Standing::Ready | Standing::Starting => vec![stop, restart, pause],
        Standing::Paused => vec![resume, stop, restart],
        Standing::Off | Standing::Crashed => vec![start],
        Standing::Absent | Standing::Unknown => Vec::new(),
    };
    meant.into_iter().map(|(verb, word)| Button { verb, word }).collect()
}

#[derive(Serialize)]
struct Nic {
    name: String,
    switch: String,
    address: String,
    assignment: String,
    mac: String,
}

impl Guest {
    /// The page over a guest's state.
    pub fn new(chrome: Chrome, deployment: &str, guest: GuestState, nonce: String) -> Guest {
        let mark = guest_mark(&guest);
        let nics = guest.nics.into_iter().map(|nic| Nic {
            name: nic.name,
            switch: nic.switch,
            address: nic.address.map(|address| address.to_string()).unwrap_or_default(),
            assignment: nic.assignment,
            mac: nic.mac,
        });
        Guest {
            chrome,
            deployment: deployment.to_string(),
            name: guest.name.to_string(),
            mark,
            buttons: buttons(Standing::of(&guest.state, guest.ready)),
            state: guest.state,
            kind: guest.kind,
            host: guest.host,
            domain: guest.domain,
            cpus: guest.cpus,
            memory_mb: guest.memory_mb,
            nics: nics.collect(),
            console_log: guest.console_log.unwrap_or_default(),
            nonce,
        }
    }
}

/// GET `/gui/deployments/{name}/guests/{guest}`.
pub async fn guest(
    State(app): State<App>,
    Name(name): Name,
    GuestOf(guest): GuestOf,
    Extension(access): Extension<Access>,
) -> Answer<Response> {
    let axum::Json(state) = deployments::state(State(app), Name(name.clone())).await?;
    let found = state.guests.into_iter().find(|found| found.name == guest);
    let found = found.ok_or_else(|| not_found(format_args!("guest `{guest}` of deployment `{name}`")))?;
    let nonce = secret::random()?;
    let chrome = Chrome::new("deployments", matches!(access, Access::Session(_)));
    // The terminal makes style elements of its own; no other page needs this.
    let policy = POLICY.replace("style-src 'self'", &format!("style-src 'self' 'nonce-{nonce}'"));
    Ok(respond_under(StatusCode::OK, &Guest::new(chrome, name.as_str(), found, nonce), &policy)?)
}
