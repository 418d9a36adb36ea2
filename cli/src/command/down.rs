//! `testbed down`

use kvm_compose::api::ActionRequest;

use super::{act, conclude, detached};
use crate::{
    args::{Down, Format},
    exit::{Exit, Outcome},
    session::Session,
};

pub async fn run(session: &Session, args: Down) -> Outcome {
    let name = session.deployment()?;
    let client = session.client()?;
    let request = ActionRequest::Down {};
    if args.detach {
        return Ok(detached(session, &client.act(&name, &request).await?));
    }
    let Some(ended) = act(session, &client, &name, &request).await? else { return Ok(Exit::CANCELLED) };
    let exit = conclude(session, &ended)?;
    if exit == Exit::SUCCESS && session.global.output == Format::Text && !session.global.quiet {
        session.out.line(&format!("`{name}` is down"));
    }
    Ok(exit)
}
