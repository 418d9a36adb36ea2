//! Signals: a clean stop, a re-read of the configuration, a diagnostic dump; and what systemd is told.

use std::{fs, sync::Arc, time::Duration};

use chrono::Utc;
use kvm_compose::error::Problem;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    app::App,
    args::Flags,
    config::Settings,
    logging::Logging,
    metrics::resident_bytes,
    store::{atomic, records::to_json},
};

/// The signals that the server listens to.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
    dump: Signal,
}

impl Signals {
    /// Listens from now on.
    pub fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
            dump: signal(SignalKind::user_defined2())?,
        })
    }

    /// Does what signals ask for until one asks to stop.
    pub async fn until_stop(&mut self, app: &App, flags: &Flags, logging: Option<&Logging>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.reload.recv() => reload(app, flags, logging),
                _ = self.dump.recv() => dump(app).await,
            }
        }
    }

    /// The same for a client, which has nothing to re-read but its log's level.
    pub async fn until_told(&mut self, flags: &Flags, logging: &Logging) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.reload.recv() => match Settings::load(flags).and_then(|settings| logging.set_level(&settings.log_level)) {
                    Ok(()) => tracing::info!("configuration re-read; the log level holds from now on, the rest after a restart"),
                    Err(problem) => tracing::error!(%problem, causes = ?problem.causes, "the new configuration is wrong, the old one is kept"),
                },
                _ = self.dump.recv() => tracing::info!("a client has nothing to dump"),
            }
        }
    }

    /// Waits for three more requests to stop: then nobody wants an orderly end any more.
    pub async fn until_impatient(&mut self) {
        for _ in 0..3 {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        }
    }
}

/// Tells systemd, if it asked to be told.
pub fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}

/// Tells systemd's watchdog, if there is one, that async code still moves.
pub fn feed_watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(limit / 2);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            tell(&[NotifyState::Watchdog]);
        }
    });
}

fn reload(app: &App, flags: &Flags, logging: Option<&Logging>) {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the clock cannot be read for systemd"),
    }
    let renewed = Settings::load(flags).and_then(|settings| {
        logging.map_or(Ok(()), |logging| logging.set_level(&settings.log_level))?;
        app.operations.set_limits(settings.limits);
        Ok(settings)
    });
    match renewed {
        Ok(settings) => {
            tracing::info!(log_level = settings.log_level, limits = ?settings.limits, "configuration re-read; log level and limits hold from now on, the rest after a restart");
        }
        Err(problem) => tracing::error!(%problem, causes = ?problem.causes, "the new configuration is wrong, the old one is kept"),
    }
    tell(&[NotifyState::Ready]);
}

async fn dump(app: &App) {
    let app = app.clone();
    let written = crate::app::blocking(move || write_dump(&app)).await;
    match written {
        Ok(path) => tracing::info!(file = %path.display(), "diagnostic dump written"),
        Err(problem) => tracing::error!(%problem, causes = ?problem.causes, "no diagnostic dump"),
    }
}

fn write_dump(app: &App) -> Result<std::path::PathBuf, Problem> {
    let running = app.operations.running();
    let running: Vec<_> = running
        .iter()
        .map(|running| {
            let progress = *running.journal.watch().borrow();
            serde_json::json!({
                "uuid": running.uuid, "deployment": running.deployment, "command": running.command, "started": running.started,
                "cancelled": running.cancel.is_cancelled(), "log_bytes": progress.log, "journal_bytes": progress.events,
                "references": Arc::strong_count(running),
            })
        })
        .collect();
    let count = |path: &str| fs::read_dir(path).map_or(0, Iterator::count);
    let runtime = tokio::runtime::Handle::current().metrics();
    let document = serde_json::json!({
        "at": Utc::now(),
        "version": env!("CARGO_PKG_VERSION"),
        "process": std::process::id(),
        "installation": app.installation,
        "actions": running,
        "deployments": app.operations.store.deployments.list()?.len(),
        "set_aside": app.operations.store.set_aside(),
        "followers": app.metrics.followers(),
        "resident_bytes": resident_bytes(),
        "open_files": count("/proc/self/fd"),
        "threads": count("/proc/self/task"),
        "tasks": runtime.num_alive_tasks(),
        "workers": runtime.num_workers(),
    });
    let path = app.data.logs().join(format!("diagnostic-{}.json", Utc::now().format("%Y%m%dT%H%M%S%.3fZ")));
    atomic::write(&path, &to_json(&document)?)?;
    Ok(path)
}

/// How long connections may take to end after the actions did.
pub const CONNECTIONS_END: Duration = Duration::from_secs(5);
