//! GET `/gui/hosts`: the hosts of the cluster.

use askama::Template;
use axum::{Extension, extract::State, http::StatusCode, response::Response};
use serde::Serialize;

use super::{Chrome, Page, respond, words::Mark};
use crate::{
    api::config,
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
    guests: String,
    version: String,
}

impl Hosts {
    /// The page over what GET `/api/config/cluster` answers. The one place that knows where hosts come from.
    pub fn new(chrome: Chrome, cluster: ClusterConfig) -> Hosts {
        let hosts = cluster.hosts.into_iter().map(|host| Host {
            name: host.hostname.to_string(),
            role: if host.mode == Mode::Master { "master" } else { "client" },
            mark: Mark { class: "good", word: "ready".to_string() },
            address: String::new(),
            cpus: host.cpus,
            memory: format!("{} MiB", host.memory_mb),
            free: String::new(),
            guests: String::new(),
            version: env!("CARGO_PKG_VERSION").to_string(),
        });
        Hosts { hosts: hosts.collect(), chrome }
    }
}

/// GET `/gui/hosts`.
pub async fn hosts(State(app): State<App>, Extension(access): Extension<Access>) -> Answer<Response> {
    let axum::Json(cluster) = config::cluster(State(app)).await?;
    Ok(respond(StatusCode::OK, &Hosts::new(Chrome::new("hosts", matches!(access, Access::Session(_))), cluster))?)
}
