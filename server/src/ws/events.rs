//! Every event of every action as it happens, for screens and other programs. Whoever cannot keep up is told so.

use axum::{
    Extension,
    extract::{
        State,
        ws::{Message, WebSocket},
    },
    response::Response,
};
use kvm_compose::names::DeploymentName;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{Gone, PING, Upgrade, close, heard, send, sized};
use crate::{api::extract::Words, app::App, error::Answer, http::serve::Place, operations::journal::Live};

/// Why the watching ends.
enum Ended {
    Lagged(u64),
    Closed,
}

/// GET `/api/events?deployment=NAME`.
pub async fn events(State(app): State<App>, words: Words, place: Option<Extension<Place>>, upgrade: Upgrade) -> Answer<Response> {
    let only = words.deployment("deployment")?;
    let live = app.operations.events();
    Ok(sized(upgrade)?.on_upgrade(move |mut socket| async move {
        let _place = place;
        let _counted = (app.metrics.follow(), app.tracker.token());
        let closing = app.closing.clone();
        let ended = tokio::select! {
            ended = watch(&mut socket, live, only) => ended,
            () = closing.cancelled() => Ok(Ended::Closed),
        };
        match ended {
            Ok(Ended::Lagged(count)) => close(&mut socket, 1013, format!("lagged={count}")).await,
            Ok(Ended::Closed) => close(&mut socket, 1001, "the server is stopping".to_string()).await,
            Err(Gone) => {}
        }
    }))
}

async fn watch(socket: &mut WebSocket, mut live: Receiver<std::sync::Arc<Live>>, only: Option<DeploymentName>) -> Result<Ended, Gone> {
    let mut ping = interval_at(Instant::now() + PING, PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = live.recv() => match event {
                Ok(event) if only.as_ref().is_none_or(|only| *only == event.deployment) => {
                    send(socket, vec![Message::Text(event.json.as_str().into())]).await?;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => return Ok(Ended::Lagged(count)),
                Err(RecvError::Closed) => return Ok(Ended::Closed),
            },
            said = heard(socket) => said?,
            _ = ping.tick() => send(socket, vec![Message::Ping(Default::default())]).await?,
        }
    }
}
