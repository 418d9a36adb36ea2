//! GET `/gui/hosts`: the hosts of the cluster.

use askama::Template;
use axum::{Extension, extract::State, http::StatusCode, response::Response};
use kvm_compose::{
    api::cluster::{Member, MemberState, Members, Role},
    error::Code,
};
use serde::Serialize;

use super::{
    Chrome, Page, respond,
    words::{self, Mark},
};
use crate::{
    api::{cluster, config},
    app::App,
    auth::Access,
    config::host::{ClusterConfig, Mode},
    error::Answer,
};

/// The hosts.
#[derive(Template, Serialize)]
#[template(path = "hosts.html")]
pub struct Hosts {
    chrome: Chrome,
    hosts: Vec<Host>,
}

impl Page for Hosts {
    const FILE: &'static str = "hosts.html";
}

/// A host as the page shows it; what is not known is empty.
#[derive(Serialize)]
struct Host {
    name: String,
    role: &'static str,
    mark: Mark,
    address: String,
    cpus: u32,
    memory: String,
    free: String,
    guests: u32,
    version: String,
    seen: String,
    seen_shown: String,
}

impl Hosts {
    /// The page over what GET `/api/cluster/members` answers.
    pub fn new(chrome: Chrome, members: Members) -> Hosts {
        Hosts { chrome, hosts: members.members.into_iter().map(host).collect() }
    }
}

fn host(member: Member) -> Host {
    let class = match member.state {
        MemberState::Ready => "good",
        MemberState::Joining => "busy",
        MemberState::Suspect => "half",
        MemberState::Lost => "bad",
        MemberState::Left => "idle",
    };
    Host {
        name: member.name.to_string(),
        role: if member.role == Role::Master { "master" } else { "client" },
        mark: Mark { class, word: member.state.word().to_string() },
        address: member.address.unwrap_or_default(),
        cpus: member.cpus,
        memory: format!("{} MiB", member.memory_mb),
        free: member.free_memory_mb.map(|free| format!("{free} MiB")).unwrap_or_default(),
        guests: member.guests,
        version: member.version,
        seen: member.last_seen.map(words::exact).unwrap_or_default(),
        seen_shown: member.last_seen.map(words::shown).unwrap_or_default(),
    }
}

/// GET `/gui/hosts`.
pub async fn hosts(State(app): State<App>, Extension(access): Extension<Access>) -> Answer<Response> {
    let members = match cluster::members(State(app.clone())).await {
        Ok(axum::Json(members)) => members,
        // A server without a cluster is its own only host.
        Err(failure) if failure.0.code == Code::Unsupported => alone(config::cluster(State(app)).await?.0),
        Err(failure) => return Err(failure),
    };
    Ok(respond(StatusCode::OK, &Hosts::new(Chrome::new("hosts", matches!(access, Access::Session(_))), members))?)
}

/// The hosts of the configuration file, which hold nobody's state but the server's own.
fn alone(config: ClusterConfig) -> Members {
    let members = config.hosts.into_iter().map(|host| Member {
        name: host.hostname,
        role: if host.mode == Mode::Master { Role::Master } else { Role::Client },
        state: MemberState::Ready,
        address: None,
        cpus: host.cpus,
        memory_mb: host.memory_mb,
        free_memory_mb: None,
        version: env!("CARGO_PKG_VERSION").to_string(),
        guests: 0,
        last_seen: None,
    });
    Members { members: members.collect() }
}
