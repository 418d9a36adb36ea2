//! The life of a server, from the lock on its data folder to the last connection.

use std::{sync::Arc, time::Duration};

use axum::Router;
use kvm_compose::{backend::local::LocalConfig, error::Problem, names::InstallationId, orchestrate::host::Cancel};
use sd_notify::NotifyState;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::{App, Inner, OBSERVERS},
    args::Flags,
    auth::Guard,
    cluster::{Cluster, Setup, door},
    config::{
        Settings,
        host::{self, ClusterConfig, HostConfig, Mode},
    },
    data::{DataLock, make_folder},
    http::{
        listen::{self, Listener},
        serve,
    },
    logging::{self, Logging},
    metrics::Metrics,
    operations::{Operations, driver::Driver, local::LocalDriver},
    router::router,
    signals::{self, Signals},
    store::{Store, atomic},
};

/// How often what could not be written is tried again.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// Threads for blocking work of handlers; actions have threads of their own.
const BLOCKING_THREADS: usize = 32;

/// Serves until a signal asks to stop.
pub fn master(settings: &Settings, flags: &Flags) -> Result<(), Problem> {
    let lock = settings.data.open()?;
    let logging = logging::start(settings)?;
    raise_file_limit();
    let host = HostConfig::load(&settings.data)?;
    let installation = settings.data.installation()?;
    let driver = LocalDriver::new(local_config(settings, &host, installation));
    let setup = Setup { data: settings.data.clone(), installation, host: host.clone(), southbound: settings.ovn_sb.clone() };
    let cluster = Cluster::open(setup, driver.host().clone())?;
    let driver = Arc::new(driver.with_cluster(cluster.clone()));
    let tested = driver.clone();
    let spawned = std::thread::Builder::new().name("kvm-test".to_string()).spawn(move || tested.test_kvm());
    if let Err(error) = spawned {
        tracing::warn!(%error, "KVM is tested by the first up");
    }
    let served = serve_with(settings, flags, driver, Some(cluster), &host, Some(&logging));
    if let Err(problem) = &served {
        tracing::error!(%problem, causes = ?problem.causes, "the server ends");
    }
    drop::<DataLock>(lock);
    served
}

/// Makes the micro image without a server: nothing but the folder of images is touched.
pub fn build_micro(settings: &Settings) -> Result<(), Problem> {
    make_folder(&settings.images_dir, 0o755)?;
    let host = HostConfig::of_this_machine()?;
    let driver = LocalDriver::new(local_config(settings, &host, InstallationId(uuid::Uuid::nil())));
    let digest = driver.build_micro(&Cancel::new(), &|line| println!("{line}"))?;
    println!("micro {digest}");
    Ok(())
}

/// How the backends of this machine are set up.
pub fn local_config(settings: &Settings, host: &HostConfig, installation: InstallationId) -> LocalConfig {
    LocalConfig {
        installation,
        host: host.hostname.clone(),
        data_dir: settings.data.root().to_path_buf(),
        images_dir: settings.images_dir.clone(),
        allowed_image_dirs: settings.allowed_image_dirs.clone(),
        catalogues: settings.data.catalogues(),
        images: settings.images.clone(),
        libvirt_uri: settings.libvirt_uri.clone(),
        ovn_nb: settings.ovn_nb.clone(),
        ovs_db: settings.ovs_db.clone(),
        bridge: settings.bridge.clone(),
        accelerator: settings.accelerator,
        mappings: host.ovn.mappings(),
        masquerade: host.ovn.masquerade,
    }
}

/// Serves over any driver, on a data folder that is locked already.
pub fn serve_with(
    settings: &Settings,
    flags: &Flags,
    driver: Arc<dyn Driver>,
    cluster: Option<Arc<Cluster>>,
    host: &HostConfig,
    logging: Option<&Logging>,
) -> Result<(), Problem> {
    let app = open(settings, driver, cluster, host)?;
    if let Some(cluster) = &app.cluster {
        let operations = Arc::downgrade(&app.operations);
        cluster.on_change(Box::new(move |names| {
            if let Some(operations) = operations.upgrade() {
                operations.observe_in_background(names);
            }
        }));
    }
    let doubtful = app.operations.to_observe()?;
    app.operations.observe_in_background(doubtful);
    app.operations.mend_in_background();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|error| Problem::io("cannot start the runtime", &error))?;
    let served = runtime.block_on(serve(settings, flags, app, logging));
    // A thread that hangs in libvirt does not keep the server from ending.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

/// Everything that a server needs before its first request: records read, open actions ended.
pub fn open(settings: &Settings, driver: Arc<dyn Driver>, cluster: Option<Arc<Cluster>>, host: &HostConfig) -> Result<App, Problem> {
    let data = settings.data.clone();
    let installation = data.installation()?;
    make_folder(&settings.images_dir, 0o755)?;
    host::write_mode(&data, Mode::Master)?;
    if cluster.is_none() {
        ClusterConfig::write_alone(&data, host, installation)?;
    }
    let store = Store::open_files(&data.deployments())?;
    let metrics = Arc::new(Metrics::default());
    let operations = Operations::new(store, data.clone(), driver, settings.limits, metrics.clone())?;
    let interrupted = operations.recover()?;
    if !interrupted.is_empty() {
        tracing::warn!(count = interrupted.len(), "deployments had an action that the last server did not end");
    }
    Ok(App::new(Inner {
        guard: Guard::new(data.token()?),
        operations,
        cluster,
        installation,
        metrics,
        closing: CancellationToken::new(),
        tracker: TaskTracker::new(),
        observers: Semaphore::new(OBSERVERS),
        largest_image: settings.images.largest_bytes,
        data,
    }))
}

async fn serve(settings: &Settings, flags: &Flags, app: App, logging: Option<&Logging>) -> Result<(), Problem> {
    let mut signals = Signals::listen().map_err(|error| Problem::io("cannot listen to signals", &error))?;
    let listeners = listen::open(settings)?;
    if let (Some(cluster), Some(address)) = (&app.cluster, settings.cluster_listen) {
        let door = door::open(cluster, address, &app.closing, &app.tracker)?;
        tracing::info!("members of the cluster are let in at https://{door}");
    }
    announce(&app, &listeners)?;
    let service: Router = router(app.clone());
    serve::spawn(listeners, &service, &app.closing, &app.tracker).map_err(|error| Problem::io("cannot serve", &error))?;
    keep_house(&app);
    signals::feed_watchdog();
    signals::tell(&[NotifyState::Ready]);
    signals.until_stop(&app, flags, logging).await;

    tracing::info!("stopping: no new actions, those that run are cancelled");
    signals::tell(&[NotifyState::Stopping]);
    app.operations.stop();
    tokio::select! {
        () = wind_down(&app, Duration::from_secs(settings.stop_timeout_s)) => tracing::info!("stopped"),
        () = signals.until_impatient() => tracing::warn!("stopped at once, as asked"),
    }
    Ok(())
}

/// Says where the server listens, in the log and in run/listen.
fn announce(app: &App, listeners: &[Listener]) -> Result<(), Problem> {
    let mut lines = String::new();
    for listener in listeners {
        let place = match listener {
            Listener::Unix(_, Some(path)) => format!("unix:{}", path.display()),
            Listener::Unix(listener, None) => {
                let address = listener.local_addr().map_err(|error| Problem::io("a socket has no address", &error))?;
                format!("unix:{}", address.as_pathname().unwrap_or(std::path::Path::new("?")).display())
            }
            Listener::Tcp(_, address) => format!("http://{address}"),
        };
        tracing::info!("listening on {place}");
        lines.push_str(&place);
        lines.push('\n');
    }
    atomic::write(&app.data.run().join("listen"), lines.as_bytes())
}

/// Lets actions end, then connections.
async fn wind_down(app: &App, limit: Duration) {
    let mut count = app.operations.count();
    if tokio::time::timeout(limit, count.wait_for(|count| *count == 0)).await.is_err() {
        tracing::warn!("some actions did not end in time; the next start marks them as interrupted");
    }
    app.closing.cancel();
    app.tracker.close();
    if tokio::time::timeout(signals::CONNECTIONS_END, app.tracker.wait()).await.is_err() {
        tracing::debug!("some connections did not end in time");
    }
}

fn keep_house(app: &App) {
    let app = app.clone();
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(HOUSEKEEPING);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let saved = app.store(|operations| {
                operations.save_unsaved();
                operations.reserve.fill()
            });
            if let Err(problem) = saved.await {
                tracing::warn!(%problem, "housekeeping failed");
            }
        }
    });
}

/// Connections and followers hold a descriptor each; the usual soft limit of 1024 is for programs that use select(2).
fn raise_file_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}
