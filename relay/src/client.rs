//! The other side of the socket: whoever wants a link served.
//!
//! Blocks, with a limit on everything. Must not know how a relay is started.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use crate::{
    control::short_path,
    wire::{Hello, LinkState, Probed, Reply, Request},
};

/// How long an answer may take; a probe of a slow link takes some seconds.
const LIMIT: Duration = Duration::from_secs(25);

/// A connection to a relay.
pub struct Client {
    stream: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the relay of a folder. Nothing when none runs there.
    pub fn connect(folder: &Path) -> io::Result<Option<Client>> {
        let none = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(error),
        };
        let open = match File::open(folder) {
            Ok(open) => open,
            Err(error) => return none(error),
        };
        let stream = match UnixStream::connect(short_path(&open)) {
            Ok(stream) => stream,
            Err(error) => return none(error),
        };
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let answers = BufReader::new(stream.try_clone()?);
        Ok(Some(Client { stream, answers }))
    }

    /// Asks and waits for the answer.
    pub fn ask(&mut self, request: &Request) -> io::Result<Reply> {
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        self.stream.write_all(&text)?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the relay ended"));
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Whose relay it is.
    pub fn hello(&mut self) -> io::Result<Hello> {
        match self.ask(&Request::Hello)? {
            Reply::Hello(hello) => Ok(hello),
            other => Err(unexpected(&other)),
        }
    }

    /// All links.
    pub fn links(&mut self) -> io::Result<Vec<LinkState>> {
        match self.ask(&Request::Links)? {
            Reply::Links { links } => Ok(links),
            other => Err(unexpected(&other)),
        }
    }

    /// Measures a link with the relay's own frames.
    pub fn probe(&mut self, device: &str) -> io::Result<Probed> {
        match self.ask(&Request::Probe { device: device.to_string() })? {
            Reply::Probed(probed) => Ok(probed),
            other => Err(unexpected(&other)),
        }
    }
}

/// An answer that does not fit what was asked: the relay's refusal, as an error.
pub fn unexpected(reply: &Reply) -> io::Error {
    match reply {
        Reply::Refused { why, .. } => io::Error::other(why.clone()),
        other => io::Error::new(io::ErrorKind::InvalidData, format!("the relay answered {other:?}")),
    }
}
