//! The relay's side of its Unix socket: a line with a request, a line with its answer.
//!
//! Each connection has a thread that waits; the engine never does. Only the relay's own user can open the socket.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{DirBuilderExt, MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{Arc, RwLock, mpsc},
    time::Duration,
};

use rustix::fs::FlockOperation;

use crate::{
    engine::{Asked, Door},
    wire::{Hello, Reply, Request},
};

/// The socket's name in its folder.
pub const SOCKET: &str = "control.sock";
/// The lock's name.
const LOCK: &str = "lock";
/// How long an answer may take; a probe of a slow link takes some seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// A longer request is none.
const LONGEST_REQUEST: u64 = 64 << 10;

/// The folder's lock: one relay a folder, for as long as it lives.
pub struct Lock {
    folder: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the folder, which is made if it is not there. Nothing when another relay has it.
    pub fn take(folder: &Path) -> io::Result<Option<Lock>> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(&path)?;
        // A relay that ended meanwhile took the file away: a lock on what has no name any more is none.
        let is_named = || fs::metadata(&path).is_ok_and(|named| file.metadata().is_ok_and(|ours| ours.ino() == named.ino()));
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_named() => Ok(Some(Lock { folder: folder.to_path_buf(), _file: file })),
            Ok(()) => Ok(None),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The folder goes with its relay, so that nothing is left of a deployment that is taken down.
        for name in [SOCKET, LOCK] {
            let _gone = fs::remove_file(self.folder.join(name));
        }
        let _gone = fs::remove_dir(&self.folder);
    }
}

/// A path to the socket that is short enough for any folder (unix(7) allows 107 bytes); good while `folder` is open.
pub fn short_path(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))
}

/// Opens the socket in a folder that is locked. What a dead relay left gives way.
pub fn listen(folder: &Path) -> io::Result<UnixListener> {
    let open = File::open(folder)?;
    match fs::remove_file(folder.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(short_path(&open))?;
    fs::set_permissions(folder.join(SOCKET), fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers that are being given, so that the relay ends after the last of them.
#[derive(Debug, Clone, Default)]
pub struct Answering(Arc<RwLock<()>>);

impl Answering {
    /// Waits until every answer that was begun is written, at most as long as one may take.
    pub fn wait(&self) {
        // Nobody panics while an answer is given, and if somebody did there is nothing left to wait for.
        let _all_given = self.0.write();
    }
}

/// Serves connections for ever, each in a thread of its own.
pub fn serve(listener: &UnixListener, hello: &Hello, door: &Door, answering: &Answering) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let (hello, door, answering) = (hello.clone(), door.clone(), answering.clone());
        std::thread::spawn(move || {
            // A client that goes away has no need of an answer.
            let _ended = converse(stream, &hello, &door, &answering);
        });
    }
}

fn converse(mut stream: UnixStream, hello: &Hello, door: &Door, answering: &Answering) -> io::Result<()> {
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    let mut requests = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if io::Read::take(&mut requests, LONGEST_REQUEST).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let _until_it_is_written = answering.0.read();
        let reply = match serde_json::from_str::<Request>(&line) {
            Ok(Request::Hello) => Reply::Hello(hello.clone()),
            Ok(request) => ask(door, request),
            Err(error) => Reply::Refused { why: format!("this is no request: {error}"), ending: false },
        };
        let mut text = serde_json::to_vec(&reply)?;
        text.push(b'\n');
        stream.write_all(&text)?;
    }
}

fn ask(door: &Door, request: Request) -> Reply {
    let (answer, answered) = mpsc::channel();
    if !door.ask(Asked { request, answer }) {
        return Reply::Refused { why: "the relay ends".to_string(), ending: true };
    }
    match answered.recv_timeout(ANSWER_LIMIT) {
        Ok(reply) => reply,
        Err(mpsc::RecvTimeoutError::Disconnected) => Reply::Refused { why: "the relay ends".to_string(), ending: true },
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Reply::Refused { why: format!("no answer within {} s", ANSWER_LIMIT.as_secs()), ending: false }
        }
    }
}
