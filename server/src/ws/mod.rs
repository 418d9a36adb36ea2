//! Websockets: one log followed to its end, all events live, and a guest's console.
//!
//! Nothing is queued per follower: what a slow one has not read yet is in the file.

pub mod console;
pub mod events;
pub mod follow;

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::timeout;

use crate::error::{Failure, bad_request};

/// So often a silent connection is spoken to, so that proxies keep it open.
const PING: Duration = Duration::from_secs(20);

/// A follower that takes nothing for this long is let go; it may come back with its offset.
const STALLED: Duration = Duration::from_secs(60);

/// A websocket that the request asks for, or what is wrong with it; names are checked before that is told.
type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// Buffers of a follower, small since there may be many.
fn sized(upgrade: Upgrade) -> Result<WebSocketUpgrade, Failure> {
    let upgrade = upgrade.map_err(|error| bad_request(format!("this path is a websocket: {}", error.body_text())))?;
    Ok(upgrade.read_buffer_size(1024).write_buffer_size(8 * 1024).max_message_size(16 * 1024).max_frame_size(16 * 1024))
}

/// The other end is gone, or takes nothing any more.
struct Gone;

/// Puts messages on their way; done when the kernel has taken them.
async fn send(socket: &mut WebSocket, messages: Vec<Message>) -> Result<(), Gone> {
    let sending = async {
        for message in messages {
            socket.feed(message).await?;
        }
        socket.flush().await
    };
    match timeout(STALLED, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Gone),
    }
}

/// Says goodbye, and waits a moment for the answer, so that the last lines are not lost to a reset.
async fn close(socket: &mut WebSocket, code: u16, reason: String) {
    let frame = CloseFrame { code, reason: reason.into() };
    if send(socket, vec![Message::Close(Some(frame))]).await.is_ok() {
        let farewell = async { while let Some(Ok(_)) = socket.next().await {} };
        if timeout(Duration::from_secs(5), farewell).await.is_err() {
            tracing::debug!("a follower did not answer the close frame");
        }
    }
}

/// What the client says is not asked for; it is read so that its close and its pongs are seen.
async fn heard(socket: &mut WebSocket) -> Result<(), Gone> {
    match socket.recv().await {
        Some(Ok(Message::Close(_)) | Err(_)) | None => Err(Gone),
        Some(Ok(_)) => Ok(()),
    }
}
