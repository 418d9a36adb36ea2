//! `testbed gui`

use std::process::{Command, Stdio};

use kvm_compose::{
    api::LoginLink,
    error::{Code, Problem},
};

use crate::{
    exit::{Exit, Outcome},
    session::Session,
};

/// Whether a browser is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Print the link and open it.
    Browser,
    /// Print the link only.
    PrintOnly,
}

pub async fn run(session: &Session, open: Open) -> Outcome {
    let link = session.client()?.login_link().await?;
    let url = link.url.clone().ok_or_else(no_tcp)?;
    session.out.result(&link, |link: &LoginLink| format!("{}\n", link.url.as_deref().unwrap_or_default()));
    if open == Open::Browser && !browse(&url) {
        session.out.warning(&format!("no browser could be started here; open the link yourself within {} s", link.expires_s));
    }
    Ok(Exit::SUCCESS)
}

fn no_tcp() -> Problem {
    Problem::new(Code::Unavailable, "the server does not listen on TCP, so no browser can reach it")
        .hint("start it without `--no-tcp` (and `no_tcp` in config/server.toml), for example with `--listen 127.0.0.1:3355`")
}

/// Hands a link to the desktop's browser and does not wait for it, since it may live long; false where there is no desktop.
fn browse(url: &str) -> bool {
    let desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let mut opener = Command::new("xdg-open");
    opener.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    desktop && opener.spawn().is_ok()
}
