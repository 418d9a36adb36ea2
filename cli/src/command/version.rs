//! `testbed version`

use kvm_compose::api::Version;
use serde::Serialize;

use crate::{
    exit::{Exit, Outcome},
    output::Output,
    session::Session,
};

#[derive(Serialize)]
struct Versions {
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Version>,
}

pub fn run(out: &Output) -> Outcome {
    print(out, None)
}

pub async fn run_with_server(session: &Session) -> Outcome {
    print(&session.out, Some(session.client()?.version().await?))
}

fn print(out: &Output, server: Option<Version>) -> Outcome {
    let versions = Versions { version: env!("CARGO_PKG_VERSION"), server };
    out.result(&versions, |versions| {
        let server = versions.server.as_ref();
        let server =
            server.map(|server| format!("server {} (API {}, {}, {})\n", server.version, server.api, server.mode, server.installation));
        format!("testbed {}\n{}", versions.version, server.unwrap_or_default())
    });
    Ok(Exit::SUCCESS)
}
