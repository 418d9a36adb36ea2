//! The two files of an action: its log (lines for people) and its journal (events as JSON), and who follows them.
//!
//! The files are the buffer: followers are told their lengths and read for themselves, so a slow one costs nothing.
//! Must not know websockets or records.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Duration, Utc};
use kvm_compose::{
    api::ActionState,
    error::{Code, Problem},
    names::DeploymentName,
    orchestrate::{
        Sink,
        event::{Event, EventKind},
    },
};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use uuid::Uuid;

/// Events of all actions, for those who watch them live.
pub type Bus = broadcast::Sender<Arc<Live>>;

/// An event on the bus.
#[derive(Debug)]
pub struct Live {
    /// The deployment it belongs to.
    pub deployment: DeploymentName,
    /// The event as JSON.
    pub json: String,
}

/// A longer event is only in the journal: the bus holds its last events in memory.
const LONGEST_LIVE: usize = 16 * 1024;

/// A longer text is cut: as JSON, where one byte may become six, its line stays below a mebibyte.
const LONGEST_TEXT: usize = 128 * 1024;

/// How far an action's files have come. Both lengths are at a line's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the log.
    pub log: u64,
    /// Bytes of the journal.
    pub events: u64,
    /// What became of the action, once nothing more is written.
    pub end: Option<End>,
}

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its state.
    pub state: ActionState,
    /// 0, or its code's number.
    pub error_code: u16,
}

/// Where an action's files are.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The log.
    pub log: PathBuf,
    /// The journal.
    pub events: PathBuf,
}

impl Paths {
    /// Where an answer that is too long for the index is kept.
    pub fn result(&self) -> PathBuf {
        result_beside(&self.log)
    }
}

/// Where the answer of the action with this log is kept when it is too long for the index.
pub fn result_beside(log: &Path) -> PathBuf {
    log.with_extension("result.json")
}

/// The files of a running action.
pub struct Journal {
    deployment: DeploymentName,
    operation: Uuid,
    paths: Paths,
    files: Mutex<Files>,
    synced: Mutex<u64>,
    progress: watch::Sender<Progress>,
    bus: Bus,
    limit: u64,
}

struct Files {
    log: File,
    events: File,
    progress: Progress,
    cut: bool,
}

impl Journal {
    /// Makes the files of an action that starts now: `<ISO 8601 basic>-<name>.log` and `.events.ndjson`.
    pub fn create(folder: &Path, deployment: &DeploymentName, operation: Uuid, bus: Bus, limit: u64) -> Result<Journal, Problem> {
        let mut at = Utc::now();
        let (paths, log) = loop {
            let stem = format!("{}-{deployment}", at.format("%Y%m%dT%H%M%S%.3fZ"));
            let paths = Paths { log: folder.join(format!("{stem}.log")), events: folder.join(format!("{stem}.events.ndjson")) };
            match new_file(&paths.log) {
                Ok(log) => break (paths, log),
                // Another action of the deployment began in the same millisecond: the next one is free.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => at += Duration::milliseconds(1),
                Err(error) => return Err(Problem::io(format_args!("cannot make the log {}", paths.log.display()), &error)),
            }
        };
        let events = new_file(&paths.events)
            .map_err(|error| Problem::io(format_args!("cannot make the journal {}", paths.events.display()), &error))?;
        let progress = Progress { log: 0, events: 0, end: None };
        Ok(Journal {
            deployment: deployment.clone(),
            operation,
            paths,
            files: Mutex::new(Files { log, events, progress, cut: false }),
            synced: Mutex::new(0),
            progress: watch::channel(progress).0,
            bus,
            limit,
        })
    }

    /// Where the files are.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Tells how far the files have come, now and from now on.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Tells followers that nothing more comes. Called last, when the outcome is on record.
    pub fn end(&self, end: End) {
        self.files.lock().progress.end = Some(end);
        self.progress.send_modify(|progress| progress.end = Some(end));
    }

    fn append(&self, kind: EventKind) -> Result<u64, Problem> {
        let mut files = self.files.lock();
        let is_text = matches!(kind, EventKind::Line { .. } | EventKind::Output { .. } | EventKind::Warning { .. });
        if is_text && files.progress.log + files.progress.events > self.limit {
            if files.cut {
                return Ok(files.progress.events);
            }
            files.cut = true;
            let text = format!("the log has reached its limit of {} bytes; further lines are left out", self.limit);
            return self.append_event(&mut files, EventKind::Warning { text });
        }
        self.append_event(&mut files, kind)
    }

    fn append_event(&self, files: &mut Files, kind: EventKind) -> Result<u64, Problem> {
        let kind = shortened(kind);
        let event = Event { at: Utc::now(), operation: self.operation, deployment: self.deployment.clone(), kind };
        let mut line = event.line();
        line.push('\n');
        let mut json = serde_json::to_string(&event).map_err(|error| Problem::internal("an event is not JSON").cause(error))?;
        json.push('\n');
        // The journal first: what people read is never ahead of what recovery reads.
        append_whole(&mut files.events, &mut files.progress.events, json.as_bytes())
            .map_err(|error| Problem::io(format_args!("cannot write the journal {}", self.paths.events.display()), &error))?;
        append_whole(&mut files.log, &mut files.progress.log, line.as_bytes())
            .map_err(|error| Problem::io(format_args!("cannot write the log {}", self.paths.log.display()), &error))?;
        self.progress.send_replace(files.progress);
        self.announce(json);
        Ok(files.progress.events)
    }

    fn announce(&self, mut json: String) {
        if self.bus.receiver_count() == 0 || json.len() > LONGEST_LIVE {
            return;
        }
        json.pop();
        // It fails only when the last watcher left meanwhile.
        self.bus.send(Arc::new(Live { deployment: self.deployment.clone(), json })).ok();
    }

    /// Waits until the journal is on disk at least to `length`. Whoever comes first syncs for all that wait behind.
    fn sync(&self, length: u64) -> Result<(), Problem> {
        let mut synced = self.synced.lock();
        if *synced >= length {
            return Ok(());
        }
        let failed = |error: std::io::Error| Problem::io(format_args!("cannot sync the journal {}", self.paths.events.display()), &error);
        let (file, reached) = {
            let files = self.files.lock();
            (files.events.try_clone().map_err(failed)?, files.progress.events)
        };
        file.sync_data().map_err(failed)?;
        *synced = reached;
        Ok(())
    }
}

impl Sink for Journal {
    fn emit(&self, kind: EventKind) -> Result<(), Problem> {
        let must_be_on_disk = matches!(kind, EventKind::StepStarted { .. } | EventKind::UndoStarted { .. } | EventKind::Finished { .. });
        let length = self.append(kind)?;
        if must_be_on_disk { self.sync(length) } else { Ok(()) }
    }
}

/// Cuts a text that would be a line longer than followers are sent in one piece.
fn shortened(mut kind: EventKind) -> EventKind {
    if let EventKind::Line { text, .. } | EventKind::Warning { text } = &mut kind
        && text.len() > LONGEST_TEXT
    {
        let end = (0..=LONGEST_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    kind
}

fn new_file(path: &Path) -> std::io::Result<File> {
    File::options().append(true).create_new(true).mode(0o600).open(path)
}

/// Appends all or nothing: after an error (a full disk) the file ends where it ended before, at a line's end.
fn append_whole(file: &mut File, length: &mut u64, bytes: &[u8]) -> std::io::Result<()> {
    match file.write_all(bytes) {
        Ok(()) => {
            *length += bytes.len() as u64;
            Ok(())
        }
        Err(error) => {
            file.set_len(*length)?;
            Err(error)
        }
    }
}

/// Ends the files of an action whose server was killed: torn ends are mended, and a last event is appended.
pub fn end_interrupted(paths: &Paths, event: &Event) -> Result<(), Problem> {
    let json = serde_json::to_string(event).map_err(|error| Problem::internal("an event is not JSON").cause(error))?;
    let journal_end = whole_events(&fs::read(&paths.events).unwrap_or_default());
    append_at(&paths.events, Some(journal_end), &json)
        .map_err(|error| Problem::io(format_args!("cannot end the journal {}", paths.events.display()), &error))?;
    append_at(&paths.log, None, &event.line())
        .map_err(|error| Problem::io(format_args!("cannot end the log {}", paths.log.display()), &error))
}

/// How many bytes of a journal are whole events: a power cut may leave half a line, or zeros, at the end.
fn whole_events(content: &[u8]) -> u64 {
    let mut end = content.len();
    while end > 0 {
        let start = content[..end - 1].iter().rposition(|&byte| byte == b'\n').map_or(0, |found| found + 1);
        let line = &content[start..end];
        if line.ends_with(b"\n") && serde_json::from_slice::<serde_json::Value>(line).is_ok() {
            break;
        }
        end = start;
    }
    end as u64
}

/// Appends a line, after cutting the file to `keep` bytes, or else after ending a torn last line.
fn append_at(path: &Path, keep: Option<u64>, line: &str) -> std::io::Result<()> {
    let mut file = File::options().read(true).append(true).create(true).mode(0o600).open(path)?;
    match keep {
        Some(keep) => file.set_len(keep)?,
        None => {
            let length = file.metadata()?.len();
            let mut last = *b"\n";
            if length > 0 {
                std::os::unix::fs::FileExt::read_exact_at(&file, &mut last, length - 1)?;
            }
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
    }
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_all()
}

/// Why the lines of an action end without its own word.
pub fn interrupted_problem() -> Problem {
    Problem::new(Code::Interrupted, "the server stopped while the action ran")
        .hint("run the same command again: `up` goes on from what is there, `down` removes what is left")
}

/// How long an action ran, in milliseconds.
pub fn millis(started: DateTime<Utc>, ended: DateTime<Utc>) -> u64 {
    u64::try_from((ended - started).num_milliseconds()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_end_of_a_journal_is_cut_off_and_the_rest_kept() {
        let whole = b"{\"a\":1}\n{\"b\":2}\n".to_vec();
        for (torn, kept) in [
            (b"".as_slice(), whole.len()),
            (b"{\"c\":".as_slice(), whole.len()),
            (b"\0\0\0\0".as_slice(), whole.len()),
            (b"\0\0\n".as_slice(), whole.len()),
            (b"{\"c\":3}".as_slice(), whole.len()),
            (b"\n".as_slice(), whole.len()),
        ] {
            let content = [whole.clone(), torn.to_vec()].concat();
            assert_eq!(whole_events(&content), kept as u64, "{torn:?}");
        }
        assert_eq!(whole_events(b""), 0);
        assert_eq!(whole_events(b"half"), 0);
    }
}
