//! The server's own log: a file a day in logs/, and standard output on request or under systemd.

use kvm_compose::error::{Code, Problem};
use tracing_appender::{
    non_blocking::WorkerGuard,
    rolling::{RollingFileAppender, Rotation},
};
use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

use crate::config::Settings;

/// Days of logs that are kept.
const DAYS: usize = 14;

/// Writes what is left when it is dropped, and changes the level.
pub struct Logging {
    _writers: Vec<WorkerGuard>,
    filter: reload::Handle<EnvFilter, Registry>,
}

/// Starts logging. Call once.
pub fn start(settings: &Settings) -> Result<Logging, Problem> {
    let failed = |what: &str, cause: String| Problem::new(Code::Storage, what.to_string()).cause(cause);
    let file = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("testbedos-server")
        .filename_suffix("log")
        .max_log_files(DAYS)
        .build(settings.data.logs())
        .map_err(|error| failed("cannot open the server's log", error.to_string()))?;
    let (file, file_guard) = tracing_appender::non_blocking(file);
    let (filter, handle) = reload::Layer::new(filter(&settings.log_level)?);
    let to_stdout = settings.log_to_stdout || std::env::var_os("JOURNAL_STREAM").is_some();
    let (stdout, stdout_guard) = tracing_appender::non_blocking(std::io::stdout());
    let stdout = to_stdout.then(|| fmt::layer().with_ansi(false).with_target(false).with_writer(stdout));
    tracing_subscriber::registry()
        .with(filter)
        .with(fmt::layer().with_ansi(false).with_target(false).with_writer(file))
        .with(stdout)
        .try_init()
        .map_err(|error| failed("logging is started already", error.to_string()))?;
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a thread panicked")));
    Ok(Logging { _writers: vec![file_guard, stdout_guard], filter: handle })
}

impl Logging {
    /// Changes what is logged.
    pub fn set_level(&self, level: &str) -> Result<(), Problem> {
        let filter = filter(level)?;
        self.filter.reload(filter).map_err(|error| Problem::internal("the log level cannot be changed").cause(error))
    }
}

fn filter(level: &str) -> Result<EnvFilter, Problem> {
    EnvFilter::try_new(level).map_err(|error| {
        Problem::new(Code::BadRequest, format!("`{}` is not a log level", kvm_compose::names::printable(level)))
            .cause(error)
            .hint("use error, warn, info, debug or trace")
    })
}

/// Refuses a level that logging would not start with.
pub fn check_level(level: &str) -> Result<(), Problem> {
    filter(level).map(|_| ())
}
