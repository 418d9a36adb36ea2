//! The server's own log: a file in logs/, rotated by size and day, and standard output on request or under systemd.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use chrono::{NaiveDate, Utc};
use kvm_compose::error::{Code, Problem};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

use crate::config::Settings;

/// Rotated files that are kept.
const KEPT: usize = 14;

/// A file that has grown to this is rotated.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Lines that may wait for the disk; each is some hundred bytes.
const WAITING_LINES: usize = 8 * 1024;

/// The file's name; rotated ones have the time of their rotation in front of `.log`.
const STEM: &str = "testbedos-server";

/// Writes what is left when it is dropped, and changes the level.
pub struct Logging {
    _writers: Vec<WorkerGuard>,
    filter: reload::Handle<EnvFilter, Registry>,
}

/// Starts logging. Call once.
pub fn start(settings: &Settings) -> Result<Logging, Problem> {
    let file = Roller::open(&settings.data.logs(), LARGEST)
        .map_err(|error| Problem::io(format_args!("cannot open the log in {}", settings.data.logs().display()), &error))?;
    let (file, file_guard) = NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).finish(file);
    let (filter, handle) = reload::Layer::new(filter(&settings.log_level)?);
    let to_stdout = settings.log_to_stdout || std::env::var_os("JOURNAL_STREAM").is_some();
    let (stdout, stdout_guard) = NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).finish(io::stdout());
    let stdout = to_stdout.then(|| fmt::layer().with_ansi(false).with_target(false).with_writer(stdout));
    tracing_subscriber::registry()
        .with(filter)
        .with(fmt::layer().with_ansi(false).with_target(false).with_writer(file))
        .with(stdout)
        .try_init()
        .map_err(|error| Problem::internal("logging is started already").cause(error))?;
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

/// Refuses a level that logging would not start with.
pub fn check_level(level: &str) -> Result<(), Problem> {
    filter(level).map(|_| ())
}

fn filter(level: &str) -> Result<EnvFilter, Problem> {
    EnvFilter::try_new(level).map_err(|error| {
        Problem::new(Code::BadRequest, format!("`{}` is not a log level", kvm_compose::names::printable(level)))
            .cause(error)
            .hint("use error, warn, info, debug or trace")
    })
}

/// A log file that is set aside when it is full or a day old.
struct Roller {
    folder: PathBuf,
    file: File,
    size: u64,
    largest: u64,
    day: NaiveDate,
}

impl Roller {
    fn open(folder: &Path, largest: u64) -> io::Result<Roller> {
        let file = File::options().append(true).create(true).mode(0o600).open(current(folder))?;
        let found = file.metadata()?;
        let day = found.modified().map_or_else(|_| Utc::now(), chrono::DateTime::from).date_naive();
        Ok(Roller { folder: folder.to_path_buf(), size: found.len(), file, largest, day })
    }

    fn roll(&mut self) -> io::Result<()> {
        let aside = self.folder.join(format!("{STEM}.{}.log", Utc::now().format("%Y%m%dT%H%M%S%.6fZ")));
        fs::rename(current(&self.folder), aside)?;
        *self = Roller { day: Utc::now().date_naive(), ..Roller::open(&self.folder, self.largest)? };
        let mut old: Vec<_> =
            fs::read_dir(&self.folder)?.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_old(path)).collect();
        // The names sort as their times.
        old.sort();
        let surplus = old.len().saturating_sub(KEPT);
        old.into_iter().take(surplus).try_for_each(fs::remove_file)
    }
}

fn current(folder: &Path) -> PathBuf {
    folder.join(format!("{STEM}.log"))
}

fn is_old(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let middle = name.and_then(|name| name.strip_prefix(STEM)?.strip_prefix('.')?.strip_suffix(".log"));
    middle.is_some_and(|middle| middle.ends_with('Z'))
}

impl Write for Roller {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let due = self.size + line.len() as u64 > self.largest || self.day != Utc::now().date_naive();
        if due && self.size > 0 {
            // A rotation that fails (a full disk) must not stop the logging.
            self.roll().ok();
        }
        let count = self.file.write(line)?;
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_are_set_aside_and_only_the_youngest_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut roller = Roller::open(folder.path(), 100).expect("a log");
        for number in 0..200 {
            roller.write_all(format!("line {number:04} of the log, forty bytes long\n").as_bytes()).expect("written");
        }
        let files: Vec<_> = fs::read_dir(folder.path()).expect("a folder").filter_map(Result::ok).map(|entry| entry.path()).collect();
        assert_eq!(files.len(), KEPT + 1);
        let text = fs::read_to_string(current(folder.path())).expect("the current file");
        assert!(text.ends_with("line 0199 of the log, forty bytes long\n"), "{text}");
        assert!(files.iter().all(|path| fs::metadata(path).expect("a file").len() <= 100));
    }
}
