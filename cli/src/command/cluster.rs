//! `testbed cluster`

use kvm_compose::{
    api::cluster::{JoinToken, Member, Members, Role},
    names::HostName,
};

use crate::{
    args::{Cluster, Format},
    client::Force,
    exit::{Exit, Outcome},
    output::table::{or_dash, table},
    session::Session,
};

pub async fn run(session: &Session, command: Cluster) -> Outcome {
    match command {
        Cluster::Token => token(session).await,
        Cluster::List => list(session).await,
        Cluster::Remove { member, force } => remove(session, &member, if force { Force::Yes } else { Force::No }).await,
    }
}

async fn token(session: &Session) -> Outcome {
    let token = session.client()?.join_token().await?;
    let quiet = session.global.quiet;
    session.out.result(&token, |token| if quiet { token.command.clone() } else { invitation(token) });
    Ok(Exit::SUCCESS)
}

fn invitation(token: &JoinToken) -> String {
    format!(
        "Run this on the host that is to join, as root; the token is good for one host, until {}:\n\n  {}\n",
        token.expires.format("%F %H:%M UTC"),
        token.command
    )
}

async fn list(session: &Session) -> Outcome {
    let members = session.client()?.members().await?;
    session.out.result(&members, text);
    Ok(Exit::SUCCESS)
}

fn text(members: &Members) -> String {
    let heading = ["name", "role", "state", "address", "cpus", "memory", "free", "guests", "last seen"];
    table(&heading, members.members.iter().map(row).collect(), "no hosts")
}

fn row(member: &Member) -> Vec<String> {
    let role = match member.role {
        Role::Master => "master",
        Role::Client => "client",
    };
    vec![
        member.name.to_string(),
        role.to_string(),
        member.state.word().to_string(),
        or_dash(member.address.as_deref().unwrap_or_default()),
        member.cpus.to_string(),
        format!("{} MiB", member.memory_mb),
        or_dash(&member.free_memory_mb.map(|free| format!("{free} MiB")).unwrap_or_default()),
        member.guests.to_string(),
        or_dash(&member.last_seen.map(|at| at.format("%F %T").to_string()).unwrap_or_default()),
    ]
}

async fn remove(session: &Session, host: &str, force: Force) -> Outcome {
    let host = HostName::new(host)?;
    session.client()?.remove_member(&host, force).await?;
    if session.global.output == Format::Text && !session.global.quiet {
        session.out.line(&format!("`{host}` is no member of the cluster any more"));
    }
    Ok(Exit::SUCCESS)
}
