//! The one connection to the master: dialled, kept alive, dialled again, until the master lets this host go.
//!
//! Must not know what calls mean.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use kvm_compose::{
    error::{Code, Problem},
    orchestrate::host::Cancel,
    plan::site::MicroImage,
};
use rustls::ClientConfig;
use tokio::{
    sync::mpsc,
    time::{interval, sleep, timeout},
};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use super::{Membership, calls::Calls, dial, join, tls};
use crate::{
    cluster::{
        member::{BEAT, SUSPECT},
        pki::{KeyFiles, MASTER_NAME},
        wire::{FromMaster, FromMember, LARGEST, MicroOffer, PROTOCOL, VERSION},
    },
    config::{Settings, host::HostConfig},
};

/// The pause before dialling again.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause when the master answers and refuses: it may be about to be upgraded.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// How long the welcome may take.
const WELCOME_LIMIT: Duration = Duration::from_secs(15);
/// How long a message may take to be taken by the network.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// How a connection ended.
enum End {
    /// It broke: dial again.
    Cut(Problem),
    /// The master refuses, for now.
    Refused(String),
    /// The master has let this host go.
    LetGo(String),
}

/// Serves the master until it lets this host go; returns why.
pub async fn run(membership: Membership, files: KeyFiles, settings: Settings, config: HostConfig, calls: Arc<Calls>) -> String {
    let mut said = String::new();
    loop {
        let end = match tls::member(&files) {
            Ok(tls) => once(&membership, tls, &config, &calls, || settle(&settings, &membership, &files)).await,
            Err(problem) => End::Cut(problem),
        };
        calls.link(None);
        let (text, pause) = match end {
            End::LetGo(reason) => return reason,
            End::Cut(problem) => (format!("{problem} {}", problem.causes.join(": ")), PAUSE),
            End::Refused(reason) => (format!("the master refuses this host: {reason}"), REFUSED_PAUSE),
        };
        // Once for each reason: a master that is away for a day is not worth ten thousand lines.
        if said != text {
            tracing::warn!(master = membership.master, "{text}; trying again until it answers; guests go on running");
            said = text;
        }
        sleep(pause).await;
    }
}

/// What a client that died half-way through joining did not do.
async fn settle(settings: &Settings, membership: &Membership, files: &KeyFiles) {
    let (settings, membership, files) = (settings.clone(), membership.clone(), files.clone());
    let settled = crate::app::blocking(move || join::become_chassis(&settings, &membership, &files)).await;
    if let Err(problem) = settled {
        tracing::warn!(%problem, causes = ?problem.causes, "this host's OVN set-up is not as it should be");
    }
}

async fn once<F: Future<Output = ()>>(
    membership: &Membership,
    tls: Arc<ClientConfig>,
    config: &HostConfig,
    calls: &Arc<Calls>,
    settle: impl FnOnce() -> F,
) -> End {
    let cut = |why: String| End::Cut(dial::unreachable(&membership.master, why));
    let stream = match dial::connect(&membership.master, tls).await {
        Ok((stream, _)) => stream,
        Err(problem) => return End::Cut(problem),
    };
    let limits = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
    let upgrade = client_async_with_config(format!("ws://{MASTER_NAME}/api/cluster/link"), stream, Some(limits));
    let socket = match timeout(WELCOME_LIMIT, upgrade).await {
        Ok(Ok((socket, _))) => socket,
        Ok(Err(error)) => return cut(error.to_string()),
        Err(_) => return cut("the link was not opened in time".to_string()),
    };
    let (mut writer, mut reader) = socket.split();
    let (out, mut queue) = mpsc::unbounded_channel();
    // The hello is the first in the queue.
    let hello = FromMember::Hello { version: VERSION.to_string(), protocol: PROTOCOL, host: config.clone() };
    if out.send(hello).is_err() {
        return cut("the queue is closed".to_string());
    }
    let beat_host = calls.clone();
    let writing = async {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        beat.tick().await;
        loop {
            let message = tokio::select! {
                biased;
                message = queue.recv() => match message { Some(message) => message, None => return },
                _ = beat.tick() => FromMember::Beat { free_memory_mb: beat_host.host().free_memory_mb().unwrap_or(0) },
            };
            let Ok(text) = serde_json::to_string(&message) else { return };
            if !matches!(timeout(SEND_LIMIT, writer.send(Message::Text(text.into()))).await, Ok(Ok(()))) {
                return;
            }
        }
    };
    let reading = async {
        let mut welcomed = false;
        let mut settle = Some(settle);
        loop {
            let limit = if welcomed { SUSPECT } else { WELCOME_LIMIT };
            let text = match timeout(limit, reader.next()).await {
                Err(_) => return cut(format!("nothing was heard for {} s", limit.as_secs())),
                Ok(None) => return cut("it closed the link".to_string()),
                Ok(Some(Err(error))) => return cut(error.to_string()),
                Ok(Some(Ok(Message::Text(text)))) => text,
                Ok(Some(Ok(_))) => continue,
            };
            match serde_json::from_str::<FromMaster>(&text) {
                Ok(FromMaster::Welcome { micro }) => {
                    welcomed = true;
                    calls.link(Some(out.clone()));
                    if let Some(settle) = settle.take() {
                        settle().await;
                    }
                    tracing::info!(master = membership.master, "the master answers");
                    test_kvm(calls.clone(), micro);
                }
                Ok(FromMaster::Call { id, call }) => calls.begin(id, *call),
                Ok(FromMaster::Input { id, bytes }) => calls.type_in(id, &bytes),
                Ok(FromMaster::Cancel { id }) => calls.cancel(id),
                Ok(FromMaster::Beat) => {}
                Ok(FromMaster::Leave { code: Code::Unauthorized, reason }) => return End::LetGo(reason),
                Ok(FromMaster::Leave { reason, .. }) => return End::Refused(reason),
                Err(error) => return cut(format!("it says what makes no sense: {error}")),
            }
        }
    };
    tokio::select! {
        () = writing => cut("nothing can be sent".to_string()),
        end = reading => end,
    }
}

/// Gets the master's micro image, if there is none here, and finds out with it whether KVM works.
fn test_kvm(calls: Arc<Calls>, micro: Option<MicroOffer>) {
    let Some(micro) = micro else { return };
    let spawned = std::thread::Builder::new().name("kvm-test".to_string()).spawn(move || {
        let host = calls.host();
        let cancel = Cancel::new();
        let fetch = |sum| host.fetch_base(sum, &cancel, &|line| tracing::debug!("{line}"));
        match (fetch(&micro.kernel), fetch(&micro.initramfs)) {
            (Ok(kernel), Ok(initramfs)) => {
                host.use_micro(MicroImage { digest: micro.digest, kernel, initramfs });
                host.test_kvm();
            }
            (Err(problem), _) | (_, Err(problem)) => tracing::warn!(%problem, "the micro image did not come, so KVM is not tested"),
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "KVM is not tested");
    }
}
