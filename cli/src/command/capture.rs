//! `testbed capture`

use std::{
    fs::File,
    io::{IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};

use kvm_compose::{
    capture::whole_blocks,
    error::{Code, Problem},
    names::printable,
};

use uuid::Uuid;

use crate::{
    args::Capture,
    client::CaptureAsked,
    exit::{Exit, Outcome},
    session::Session,
};

/// How often the screen says how much there is.
const SAID: Duration = Duration::from_millis(500);

pub async fn run(session: &Session, args: Capture) -> Outcome {
    let name = session.deployment()?;
    let to_screen = args.write == Path::new("-");
    if to_screen && std::io::stdout().is_terminal() {
        return Err(Problem::new(Code::BadRequest, "a capture is no text for a terminal")
            .hint("write it into a file (`-w lab.pcapng`), or into a pipe: `testbed capture web -w - | wireshark -k -i -`"));
    }
    let client = session.client()?;
    let asked = CaptureAsked {
        id: Uuid::new_v4(),
        ports: &args.ports,
        count: args.count,
        bytes: args.max_size.map(|mebibytes| mebibytes << 20),
        seconds: args.duration,
        snaplen: args.snaplen,
    };
    let mut response = client.capture(&name, &asked).await?;
    // The file is made once the server listens: a mistake leaves none behind, nor empties one that is there.
    let mut into = Into::open(&args.write)?;
    let mut out = Counted { frames: 0, bytes: 0, rest: Vec::new(), said: Instant::now(), aloud: is_aloud(session) };
    out.note(&format!("capturing; Ctrl-C ends it{}", if to_screen { "" } else { " and leaves a whole file" }));
    let mut told = false;
    let ended = loop {
        tokio::select! {
            piece = response.chunk() => match piece {
                Ok(Some(piece)) => match out.take(&piece, &mut into) {
                    Ok(()) => {}
                    // Who reads the pipe has seen enough.
                    Err(Stop::Closed) => break Ok(()),
                    Err(Stop::Failed(problem)) => break Err(problem),
                },
                Ok(None) => break Ok(()),
                Err(error) => break Err(client.lost(&error).hint("what came until then is whole and can be read")),
            },
            // The server hands over what passed until now, and ends the stream; a second Ctrl-C does not wait for it.
            _ = tokio::signal::ctrl_c() => {
                if std::mem::replace(&mut told, true) || client.end_capture(&name, asked.id).await.is_err() {
                    break Ok(());
                }
            }
        }
    };
    into.flush()?;
    out.note(&format!("{} frames, {}", out.frames, size(out.bytes)));
    ended.map(|()| Exit::SUCCESS)
}

fn is_aloud(session: &Session) -> bool {
    !session.global.quiet
}

/// Where the blocks go.
enum Into {
    File(File, String),
    Stdout,
}

impl Into {
    fn open(path: &Path) -> Result<Into, Problem> {
        if path == Path::new("-") {
            return Ok(Into::Stdout);
        }
        let name = printable(&path.to_string_lossy());
        let file = File::create(path).map_err(|error| Problem::io(format_args!("cannot write `{name}`"), &error))?;
        Ok(Into::File(file, name))
    }

    fn write(&mut self, blocks: &[u8]) -> Result<(), Stop> {
        match self {
            Into::File(file, name) => {
                file.write_all(blocks).map_err(|error| Stop::Failed(Problem::io(format_args!("cannot write `{name}`"), &error)))
            }
            Into::Stdout => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(blocks).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
                    std::io::ErrorKind::BrokenPipe => Stop::Closed,
                    _ => Stop::Failed(Problem::io("cannot write to standard output", &error)),
                })
            }
        }
    }

    fn flush(&mut self) -> Result<(), Problem> {
        match self {
            Into::File(file, name) => file.sync_all().map_err(|error| Problem::io(format_args!("cannot write `{name}`"), &error)),
            Into::Stdout => Ok(()),
        }
    }
}

/// Why no more is written.
enum Stop {
    Closed,
    Failed(Problem),
}

/// Blocks as they come; only whole ones are written.
struct Counted {
    frames: u64,
    bytes: u64,
    rest: Vec<u8>,
    said: Instant,
    aloud: bool,
}

impl Counted {
    fn take(&mut self, piece: &[u8], into: &mut Into) -> Result<(), Stop> {
        self.rest.extend_from_slice(piece);
        let nonsense = |why| Stop::Failed(Problem::internal("the server sent what is no capture").cause(why));
        let (whole, frames) = whole_blocks(&self.rest).map_err(nonsense)?;
        into.write(&self.rest[..whole])?;
        self.rest.drain(..whole);
        self.frames += frames;
        self.bytes += whole as u64;
        if self.aloud && std::io::stderr().is_terminal() && self.said.elapsed() >= SAID {
            self.said = Instant::now();
            eprint!("\r{} frames, {}   ", self.frames, size(self.bytes));
        }
        Ok(())
    }

    fn note(&self, text: &str) {
        if self.aloud {
            let begin = if std::io::stderr().is_terminal() { "\r" } else { "" };
            eprintln!("{begin}{text}");
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} bytes"),
        10_000..=9_999_999 => format!("{} kB", bytes / 1000),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
