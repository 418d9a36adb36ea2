//! One member's connection, from its hello to its end.
//!
//! Reads what the member says and wakes whoever waits for it; writes what calls put on its queue. Must not know what a
//! call means.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::Utc;
use futures_util::{SinkExt as _, StreamExt as _, stream::SplitStream};
use kvm_compose::{error::Problem, names::HostName};
use tokio::{sync::mpsc, time::timeout};

use super::{
    Cluster, Link,
    calls::Reply,
    member::{BEAT, Input, SUSPECT},
    wire::{FromMaster, FromMember, MicroOffer, check_version},
};
use crate::config::host::HostConfig;

/// How long the first message may take.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// How long a message may take to be taken by the network.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Talks with a member until either side is gone.
pub async fn serve(cluster: Arc<Cluster>, socket: WebSocket, certificate: String, address: Option<IpAddr>) {
    let (mut writer, mut reader) = socket.split();
    let refused = match hello(&cluster, &mut reader, &certificate).await {
        Ok(name) => {
            let micro = offer(&cluster).await;
            let (out, mut queue) = mpsc::unbounded_channel();
            // The welcome is the first in the queue, so it goes before any call.
            let welcome = FromMaster::Welcome { micro };
            let number = cluster.linked(&name, Link { number: 0, out }, welcome, address);
            let writing = async {
                let mut beat = tokio::time::interval(BEAT);
                beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    let message = tokio::select! {
                        message = queue.recv() => match message { Some(message) => message, None => return },
                        _ = beat.tick() => FromMaster::Beat,
                    };
                    let last = matches!(message, FromMaster::Leave { .. });
                    let Ok(text) = serde_json::to_string(&message) else { return };
                    match timeout(SEND_LIMIT, writer.send(Message::Text(text.into()))).await {
                        Ok(Ok(())) if !last => {}
                        _ => return,
                    }
                }
            };
            let reading = async {
                while let Ok(Some(Ok(message))) = timeout(SUSPECT, reader.next()).await {
                    match message {
                        Message::Text(text) => match serde_json::from_str::<FromMember>(&text) {
                            Ok(message) => cluster.hear(&name, number, message),
                            Err(error) => {
                                tracing::warn!(member = %name, %error, "a member says what makes no sense");
                                return;
                            }
                        },
                        Message::Close(_) => return,
                        Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
                    }
                }
            };
            tokio::select! {
                () = writing => {}
                () = reading => {}
            }
            cluster.cut(&name, number);
            return;
        }
        Err(problem) => problem,
    };
    tracing::warn!(certificate, problem = %refused, "a member is refused");
    let leave = FromMaster::Leave { code: refused.code, reason: refused.message.clone() };
    if let Ok(text) = serde_json::to_string(&leave) {
        let frame = CloseFrame { code: 1008, reason: refused.code.name().into() };
        // It is refused either way.
        let _unheard = timeout(SEND_LIMIT, async {
            writer.send(Message::Text(text.into())).await?;
            writer.send(Message::Close(Some(frame))).await
        })
        .await;
    }
}

/// Hears who comes, by certificate; the name in the message must be that certificate's.
async fn hello(cluster: &Arc<Cluster>, reader: &mut SplitStream<WebSocket>, certificate: &str) -> Result<HostName, Problem> {
    use kvm_compose::error::Code;
    let bad = |text: &str| Problem::new(Code::BadRequest, text);
    let first = timeout(HELLO_LIMIT, reader.next()).await.map_err(|_| bad("no hello in time"))?;
    let Some(Ok(Message::Text(text))) = first else { return Err(bad("no hello")) };
    let Ok(FromMember::Hello { version, protocol, host }) = serde_json::from_str(&text) else {
        return Err(bad("the first message is no hello"));
    };
    check_version(&version, protocol, "the member")?;
    let cluster = cluster.clone();
    let certificate = certificate.to_string();
    crate::app::blocking(move || cluster.recognise(&certificate, host)).await
}

async fn offer(cluster: &Arc<Cluster>) -> Option<MicroOffer> {
    let local = cluster.local.clone();
    let made = crate::app::blocking(move || {
        let Some(image) = local.find_micro()? else { return Ok(None) };
        let cancel = kvm_compose::orchestrate::host::Cancel::new();
        let (kernel, initramfs) = (local.sum_of(&image.kernel, &cancel)?, local.sum_of(&image.initramfs, &cancel)?);
        Ok(Some(MicroOffer { digest: image.digest, kernel, initramfs }))
    });
    made.await.unwrap_or_else(|problem| {
        tracing::warn!(%problem, "members are not offered the micro image");
        None
    })
}

impl Cluster {
    /// Whose certificate it is. What the member says of itself is put on record; its name cannot change.
    fn recognise(&self, certificate: &str, host: HostConfig) -> Result<HostName, Problem> {
        use kvm_compose::error::Code;
        let mut state = self.state.lock();
        let live = state.members.values_mut().find(|live| live.record.certificate == certificate);
        let Some(live) = live else {
            return Err(Problem::new(Code::Unauthorized, "this host is not a member of the cluster any more"));
        };
        let name = live.record.name().clone();
        if name != host.hostname {
            return Err(Problem::new(Code::Conflict, format!("this host joined as `{name}` and calls itself `{}` now", host.hostname)));
        }
        if live.record.host != host {
            live.record.host = host;
            let records = state.members.values().map(|live| live.record.clone()).collect();
            self.roster.write(records)?;
        }
        Ok(name)
    }

    /// Takes a connection for a member; an older one ends.
    fn linked(&self, name: &HostName, link: Link, welcome: FromMaster, address: Option<IpAddr>) -> u64 {
        let number = {
            let mut state = self.state.lock();
            state.links += 1;
            let number = state.links;
            if let Some(live) = state.members.get_mut(name) {
                let _closed = link.out.send(welcome);
                for id in live.abandoned.drain(..) {
                    let _closed = link.out.send(FromMaster::Cancel { id });
                }
                live.link = Some(Link { number, ..link });
                live.address = address;
                live.last_seen = Some(Utc::now());
                for waiting in live.calls.values() {
                    // One that has just ended needs no more words.
                    let _ended = waiting.send(Reply::Linked);
                }
            }
            number
        };
        self.step(name, Input::Hello);
        self.changed.notify_all();
        number
    }

    /// What a member says over its connection; over one that was replaced it is not heard.
    fn hear(&self, name: &HostName, number: u64, message: FromMember) {
        {
            let mut state = self.state.lock();
            let live = state.members.get_mut(name).filter(|live| live.link.as_ref().is_some_and(|link| link.number == number));
            let Some(live) = live else { return };
            live.last_seen = Some(Utc::now());
            let (id, reply) = match message {
                FromMember::Line { id, text } => (id, Reply::Line(text)),
                FromMember::Output { id, stream, bytes } => match STANDARD.decode(&bytes) {
                    Ok(bytes) => (id, Reply::Output(stream, bytes)),
                    Err(_) => return,
                },
                FromMember::Done { id, outcome } => (id, Reply::Done(outcome)),
                FromMember::Beat { free_memory_mb } => {
                    live.free_memory_mb = Some(free_memory_mb);
                    drop(state);
                    return self.step(name, Input::Beat);
                }
                FromMember::Hello { .. } => return,
            };
            if let Some(waiting) = live.calls.get(&id) {
                let _ended = waiting.send(reply);
            }
        }
        self.step(name, Input::Beat);
    }

    /// The connection has ended.
    fn cut(&self, name: &HostName, number: u64) {
        {
            let mut state = self.state.lock();
            let Some(live) = state.members.get_mut(name) else { return };
            if live.link.as_ref().is_none_or(|link| link.number != number) {
                return;
            }
            live.link = None;
        }
        self.step(name, Input::Cut);
    }
}
