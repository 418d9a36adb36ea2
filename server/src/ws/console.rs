//! One who looks at a guest's serial console: binary frames both ways. The first frame is what it said last (empty when
//! it said nothing), so that a terminal can show it without answering the questions that stand in it.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{
        State,
        ws::{Message, WebSocket},
    },
    response::Response,
};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{Gone, PING, Upgrade, close, send, sized};
use crate::{
    api::extract::{Guest, Name},
    app::App,
    error::Answer,
    http::serve::Place,
    operations::consoles::Viewer,
};

/// Why the looking ends.
enum Ended {
    /// The guest stopped, or something else took its console.
    Closed,
    /// The viewer cannot keep up.
    Lagged(u64),
}

/// GET `/api/deployments/{name}/guests/{guest}/console`.
pub async fn console(
    State(app): State<App>,
    Name(name): Name,
    Guest(guest): Guest,
    place: Option<Extension<Place>>,
    upgrade: Upgrade,
) -> Answer<Response> {
    app.operations.record(&name)?;
    let upgrade = sized(upgrade)?;
    let viewer = app.store(move |operations| operations.console(&name, &guest)).await?;
    Ok(upgrade.on_upgrade(move |mut socket| async move {
        let _place = place;
        let _counted = app.tracker.token();
        let closing = app.closing.clone();
        let ended = tokio::select! {
            ended = look(&mut socket, viewer) => ended.map(Some),
            () = closing.cancelled() => Ok(None),
        };
        match ended {
            Ok(Some(Ended::Closed)) => close(&mut socket, 1000, "the console is closed".to_string()).await,
            Ok(Some(Ended::Lagged(count))) => close(&mut socket, 1013, format!("lagged={count}")).await,
            Ok(None) => close(&mut socket, 1001, "the server is stopping".to_string()).await,
            Err(Gone) => {}
        }
    }))
}

async fn look(socket: &mut WebSocket, mut viewer: Viewer) -> Result<Ended, Gone> {
    let mut ping = interval_at(Instant::now() + PING, PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let recent = Bytes::from(std::mem::take(&mut viewer.recent));
    send(socket, vec![Message::Binary(recent)]).await?;
    loop {
        tokio::select! {
            said = viewer.live.recv() => match said {
                Ok(said) => send(socket, vec![binary(&said)]).await?,
                Err(RecvError::Closed) => return Ok(Ended::Closed),
                Err(RecvError::Lagged(count)) => return Ok(Ended::Lagged(count)),
            },
            typed = socket.recv() => match typed {
                Some(Ok(Message::Binary(bytes))) => type_in(&viewer, bytes.into()),
                Some(Ok(Message::Text(text))) => type_in(&viewer, text.as_bytes().to_vec()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
            },
            _ = ping.tick() => send(socket, vec![Message::Ping(Default::default())]).await?,
        }
    }
}

fn binary(said: &Arc<[u8]>) -> Message {
    Message::Binary(Bytes::copy_from_slice(said))
}

fn type_in(viewer: &Viewer, bytes: Vec<u8>) {
    if !viewer.type_in(bytes) {
        tracing::debug!("a guest does not listen to its console; some input is lost");
    }
}
