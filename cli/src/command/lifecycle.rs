//! `testbed start`, `stop`, `restart`, `pause`, `resume`

use kvm_compose::api::{
    ActionRequest,
    lifecycle::{Guests, StopOptions},
};

use super::{act, conclude, detached};
use crate::{
    args::{
        Format,
        lifecycle::{self, Stop},
    },
    exit::{Exit, Outcome},
    output::table,
    session::{Session, guests},
};

/// What is asked.
pub enum Verb {
    Start(lifecycle::Guests),
    Stop(Stop),
    Restart(Stop),
    Pause(lifecycle::Guests),
    Resume(lifecycle::Guests),
}

pub async fn run(session: &Session, verb: Verb) -> Outcome {
    let plain = |asked: &lifecycle::Guests| guests(&asked.guests).map(|guests| Guests { guests });
    let ending = |asked: &Stop| guests(&asked.guests.guests).map(|guests| StopOptions { guests, force: asked.force, time_s: asked.time });
    let (request, detach) = match &verb {
        Verb::Start(asked) => (ActionRequest::Start(plain(asked)?), asked.detach),
        Verb::Stop(asked) => (ActionRequest::Stop(ending(asked)?), asked.guests.detach),
        Verb::Restart(asked) => (ActionRequest::Restart(ending(asked)?), asked.guests.detach),
        Verb::Pause(asked) => (ActionRequest::Pause(plain(asked)?), asked.detach),
        Verb::Resume(asked) => (ActionRequest::Resume(plain(asked)?), asked.detach),
    };
    let name = session.deployment()?;
    let client = session.client()?;
    if detach {
        return Ok(detached(session, &client.act(&name, &request).await?));
    }
    let Some(ended) = act(session, &client, &name, &request).await? else { return Ok(Exit::CANCELLED) };
    let exit = conclude(session, &ended)?;
    if exit == Exit::SUCCESS && session.global.output == Format::Text && !session.global.quiet {
        let state = client.state(&name).await?;
        session.out.line(&table::guests(&state.guests));
        state.warnings.iter().for_each(|warning| session.out.warning(warning));
    }
    Ok(exit)
}
