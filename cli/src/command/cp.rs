//! `testbed cp`

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, stream};
use indicatif::{ProgressBar, ProgressDrawTarget};
use kvm_compose::{
    api::copy::{GuestPath, PathKind, PathSeen},
    error::{Code, Problem},
    names::{DeploymentName, GuestName, printable},
};
use tokio::sync::mpsc;

use crate::{
    args::copy::Copy,
    client::Client,
    copy::{
        Tally,
        pack::{self, Source},
        unpack::{self, Target},
    },
    exit::{Exit, Outcome},
    output::table,
    session::Session,
};

/// Pieces of an archive that may wait.
const WAITING: usize = 16;
/// The length of such a piece.
const PIECE: usize = 256 << 10;

/// One end of a copy.
enum End {
    Here(PathBuf),
    There { guest: GuestName, path: GuestPath, written: String },
}

/// What is at the end of a path as it was written.
struct Tail {
    /// `/.`: what is in a folder.
    contents: bool,
    /// A slash: a folder.
    folder: bool,
}

fn tail(text: &str) -> Tail {
    let contents = text == "." || text.ends_with("/.");
    Tail { contents, folder: contents || text.ends_with('/') }
}

pub async fn run(session: &Session, args: Copy) -> Outcome {
    let name = session.deployment()?;
    let client = session.client()?;
    let tally = Arc::new(Tally::default());
    let began = Instant::now();
    let bar = bar(session, &tally);
    let copying = async {
        match (end(&args.from)?, end(&args.to)?) {
            (End::Here(from), End::There { guest, path, written }) => {
                let to = There { client: &client, name: &name, guest: &guest, path: &path, written: &written };
                hand_over(&args.from, &from, &to, tally.clone(), &bar).await
            }
            (End::There { guest, path, written }, End::Here(to)) => {
                let from = There { client: &client, name: &name, guest: &guest, path: &path, written: &written };
                fetch(&from, &args.to, &to, tally.clone()).await
            }
            (End::Here(_), End::Here(_)) => Err(Problem::new(Code::BadRequest, "neither of the two is in a guest")
                .hint("write the one in a guest as GUEST:PATH, such as `web:/srv/site`")),
            (End::There { .. }, End::There { .. }) => {
                Err(Problem::new(Code::Unsupported, "both are in guests").hint("copy it here first, then to the other guest"))
            }
        }
    };
    let done = tokio::select! {
        done = copying => done,
        _ = tokio::signal::ctrl_c() => Err(Problem::new(Code::Cancelled, "the copy was cancelled").hint("what had come by then stays")),
    };
    bar.finish_and_clear();
    done?;
    let copied = tally.copied(began.elapsed().as_secs_f64());
    session.out.result(&copied, |copied| {
        if session.global.quiet {
            return String::new();
        }
        let rate = copied.bytes as f64 / 1e6 / copied.seconds.max(0.001);
        let files = if copied.files == 1 { "1 file".to_string() } else { format!("{} files", copied.files) };
        let mut text = format!("{files}, {} in {:.1} s ({rate:.1} MB/s)", table::bytes(copied.bytes), copied.seconds);
        if copied.skipped > 0 {
            text.push_str(&format!("; left out: {} devices, pipes or sockets", copied.skipped));
        }
        text
    });
    Ok(Exit::SUCCESS)
}

/// `GUEST:PATH`, or a path here: one with a slash before its colon is none of a guest's.
fn end(text: &str) -> Result<End, Problem> {
    let Some((guest, path)) = text.split_once(':').filter(|(guest, _)| !guest.contains('/') && !guest.is_empty() && *guest != ".") else {
        return Ok(End::Here(PathBuf::from(text)));
    };
    let guest = GuestName::new(guest)?;
    let found = GuestPath::new(path).ok_or_else(|| {
        Problem::new(Code::BadRequest, format!("`{}` is no path in a guest that can be copied", printable(path)))
            .hint(format!("write it from the root on and without `..`, such as `{guest}:/srv/site`"))
    })?;
    Ok(End::There { guest, path: found, written: path.to_string() })
}

/// A path in a guest, and the way to it.
struct There<'a> {
    client: &'a Client,
    name: &'a DeploymentName,
    guest: &'a GuestName,
    path: &'a GuestPath,
    written: &'a str,
}

impl There<'_> {
    async fn look(&self) -> Result<PathSeen, Problem> {
        self.client.path_in_guest(self.name, self.guest, self.path.as_str()).await
    }

    fn missing(&self, path: &str) -> Problem {
        Problem::new(Code::NotFound, format!("there is no `{path}` in guest `{}`", self.guest))
    }
}

/// Packs what is here, and hands it to a guest.
async fn hand_over(written: &str, from: &Path, to: &There<'_>, tally: Arc<Tally>, bar: &ProgressBar) -> Result<(), Problem> {
    let found = std::fs::metadata(from).map_err(|error| {
        let code = if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::BadRequest };
        Problem::new(code, format!("`{}` cannot be read", printable(written))).cause(error)
    })?;
    let own = tail(written);
    if own.folder && !found.is_dir() {
        return Err(Problem::new(Code::BadRequest, format!("`{}` is not a folder", printable(written))));
    }
    let seen = to.look().await?;
    let (folder, base) = to.path.split();
    let own_name = || {
        let named = std::fs::canonicalize(from).ok().and_then(|path| path.file_name().map(OsStr::to_os_string));
        named.and_then(|name| name.into_string().ok()).ok_or_else(|| {
            Problem::new(Code::BadRequest, format!("`{}` has no name that it could have in the guest", printable(written)))
                .hint("give it one: GUEST:/FOLDER/NAME")
        })
    };
    let (folder, name) = match seen.kind {
        PathKind::Folder if own.contents => (to.path.as_str().to_string(), None),
        PathKind::Folder => (to.path.as_str().to_string(), Some(own_name()?)),
        PathKind::File if found.is_dir() => {
            return Err(Problem::new(
                Code::Conflict,
                format!("`{}` in guest `{}` is a file, and a folder cannot take its place", to.path, to.guest),
            ));
        }
        PathKind::None if !seen.has_parent => {
            return Err(to.missing(folder).hint("make the folder first, such as with `testbed exec GUEST -- mkdir -p FOLDER`"));
        }
        PathKind::None if tail(to.written).folder && !found.is_dir() => return Err(to.missing(to.path.as_str())),
        PathKind::File | PathKind::None => (folder.to_string(), Some(base.to_string())),
    };
    let (send, pieces) = mpsc::channel::<io::Result<Vec<u8>>>(WAITING);
    let (path, holes) = (from.to_path_buf(), seen.holes);
    let packing = tokio::task::spawn_blocking(move || {
        let source = Source { path: &path, name: name.as_deref(), holes };
        let mut out = Pieces { send, piece: Vec::new() };
        let packed = pack::pack(&source, &mut out, &tally);
        match &packed {
            Ok(()) => drop(out.flush()),
            // So that the guest does not take half of it for the whole.
            Err(problem) => drop(out.send.blocking_send(Err(io::Error::other(problem.message.clone())))),
        }
        packed
    });
    let body = reqwest::Body::wrap_stream(stream::unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) }));
    let sent = to.client.put_files(to.name, to.guest, &folder, body);
    let packed = packing.map(|packed| packed.unwrap_or_else(|_| Err(Problem::internal("packing panicked"))));
    let told = async {
        let packed = packed.await;
        bar.set_prefix("the guest unpacks");
        packed
    };
    let (sent, packed) = tokio::join!(sent, told);
    match (sent, packed) {
        // What could not be read here is why the server did not get it; what the server refused is why nobody took the rest.
        (_, Err(problem)) if problem.code != Code::Interrupted => Err(problem),
        (sent, packed) => sent.and(packed),
    }
}

/// Fetches what a guest packs, and unpacks it here.
async fn fetch(from: &There<'_>, written: &str, to: &Path, tally: Arc<Tally>) -> Result<(), Problem> {
    let seen = from.look().await?;
    let own = tail(from.written);
    let is_folder = seen.kind == PathKind::Folder;
    if seen.kind == PathKind::None || (own.folder && !is_folder) {
        return Err(from.missing(from.written));
    }
    let base = from.path.split().1;
    let contents = own.contents || base.is_empty();
    let (folder, name): (PathBuf, Option<OsString>) = match std::fs::metadata(to) {
        Ok(found) if found.is_dir() => (to.to_path_buf(), (!contents).then(|| base.into())),
        Ok(_) if is_folder => {
            return Err(Problem::new(Code::Conflict, format!("`{}` is a file, and a folder cannot take its place", printable(written))));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Problem::io(format_args!("`{}` cannot be looked at", printable(written)), &error));
        }
        // `a/` is not there, and a file cannot be.
        Err(_) if tail(written).folder && !is_folder => {
            return Err(Problem::new(Code::NotFound, format!("there is no folder `{}`", printable(written))));
        }
        _ => {
            let name = to.file_name().ok_or_else(|| Problem::new(Code::BadRequest, format!("`{}` has no name", printable(written))))?;
            let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !parent.is_dir() {
                return Err(Problem::new(Code::NotFound, format!("there is no folder `{}`", printable(&parent.to_string_lossy()))));
            }
            (parent.to_path_buf(), Some(name.to_os_string()))
        }
    };
    let mut response = from.client.get_files(from.name, from.guest, from.path.as_str()).await?;
    let (send, receive) = mpsc::channel::<io::Result<Vec<u8>>>(WAITING);
    let is_named = !base.is_empty();
    let unpacking = tokio::task::spawn_blocking(move || {
        let target = Target { folder: &folder, name: name.as_deref(), is_named };
        unpack::unpack(&target, Received { receive, rest: Vec::new(), at: 0 }, &tally)
    });
    let mut broken = None;
    loop {
        let piece = match response.chunk().await {
            Ok(Some(piece)) => Ok(piece.to_vec()),
            Ok(None) => break,
            Err(error) => {
                broken = Some(from.client.lost(&error));
                Err(io::Error::other("the connection broke off"))
            }
        };
        let last = piece.is_err();
        // Whoever unpacks stops listening when it refuses, or has all that it wants.
        if send.send(piece).await.is_err() || last {
            break;
        }
    }
    drop(send);
    let unpacked = unpacking.await.unwrap_or_else(|_| Err(Problem::internal("unpacking panicked")));
    match (unpacked, broken) {
        (Err(problem), Some(lost)) if problem.code == Code::Interrupted => Err(problem.cause(lost)),
        (unpacked, _) => unpacked,
    }
}

/// An archive as it is packed, in pieces.
struct Pieces {
    send: mpsc::Sender<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        self.send.blocking_send(Ok(piece)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// An archive as it comes.
struct Received {
    receive: mpsc::Receiver<io::Result<Vec<u8>>>,
    rest: Vec<u8>,
    at: usize,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.rest.len() {
            match self.receive.blocking_recv() {
                Some(piece) => (self.rest, self.at) = (piece?, 0),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len() - self.at);
        buffer[..count].copy_from_slice(&self.rest[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// What is shown meanwhile.
fn bar(session: &Session, tally: &Arc<Tally>) -> ProgressBar {
    if !session.draws() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5)).with_style(crate::progress::count_style());
    bar.set_prefix("copying");
    bar.enable_steady_tick(Duration::from_millis(200));
    let (shown, tally) = (bar.downgrade(), tally.clone());
    tokio::spawn(async move {
        while let Some(bar) = shown.upgrade() {
            bar.set_position(tally.so_far());
            drop(bar);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_end_is_in_a_guest() {
        for text in ["site", "./a:b", "/srv/a:b", "a/b:c", ":x"] {
            assert!(matches!(end(text), Ok(End::Here(_))), "{text}");
        }
        let found = end("web:/srv/../x").err().expect("refused");
        assert_eq!(found.code, Code::BadRequest);
        assert!(matches!(end("web:/srv/"), Ok(End::There { guest, path, .. }) if guest.as_str() == "web" && path.as_str() == "/srv"));
        assert!(end("web:relative").is_err() && end("Not A Guest:/x").is_err());
        let ends = |text: &str| (tail(text).contents, tail(text).folder);
        assert_eq!([ends("a"), ends("a/"), ends("a/."), ends(".")], [(false, false), (false, true), (true, true), (true, true)]);
    }
}
