//! One follower of one log: reads the file from its own offset, sends a text frame a line, until the action's end.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{
        State,
        ws::{Message, Utf8Bytes, WebSocket},
    },
    response::Response,
};
use kvm_compose::error::Problem;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Gone, PING, Upgrade, close, heard, send, sized};
use crate::{
    api::extract::{ActionId, Name, Words},
    app::App,
    error::{Answer, Failure, bad_request},
    http::serve::Place,
    operations::{
        Followed,
        journal::{End, Progress},
    },
};

/// Bytes read and sent at once.
const CHUNK: usize = 16 * 1024;

/// A longer line is sent in pieces. The longest that we write, the plan of some ten thousand guests, is shorter.
const LONGEST_LINE: usize = 8 * 1024 * 1024;

/// Which of an action's two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Text,
    /// Events as JSON, one a line.
    Events,
}

impl Format {
    /// The value of `?format=`.
    pub fn parse(word: &str) -> Result<Format, Failure> {
        match word {
            "text" => Ok(Format::Text),
            "events" => Ok(Format::Events),
            _ => Err(bad_request("`format` must be `text` or `events`")),
        }
    }

    fn length(self, progress: &Progress) -> u64 {
        match self {
            Format::Text => progress.log,
            Format::Events => progress.events,
        }
    }
}

/// GET `/api/deployments/{name}/logs/{uuid}/stream?from=OFFSET&format=text|events`.
pub async fn stream(
    State(app): State<App>,
    Name(name): Name,
    ActionId(uuid): ActionId,
    words: Words,
    place: Option<Extension<Place>>,
    upgrade: Upgrade,
) -> Answer<Response> {
    let followed = app.operations.follow(&name, uuid)?;
    start(app, followed, &words, place, upgrade)
}

/// GET `/api/images/logs/{uuid}/stream`, as for deployments.
pub async fn stream_image(
    State(app): State<App>,
    ActionId(uuid): ActionId,
    words: Words,
    place: Option<Extension<Place>>,
    upgrade: Upgrade,
) -> Answer<Response> {
    let followed = app.operations.follow_image(uuid)?;
    start(app, followed, &words, place, upgrade)
}

fn start(app: App, followed: Followed, words: &Words, place: Option<Extension<Place>>, upgrade: Upgrade) -> Answer<Response> {
    let from = words.number("from")?;
    let format = words.get("format").map_or(Ok(Format::Text), Format::parse)?;
    let path = match format {
        Format::Text => &followed.log,
        Format::Events => &followed.events,
    };
    let reader = Reader::open(path, from)?;
    Ok(sized(upgrade)?.on_upgrade(move |mut socket| async move {
        let _place = place;
        let _counted = (app.metrics.follow(), app.tracker.token());
        match follow(&app, &mut socket, reader, followed, format).await {
            Ok(Some(end)) => close(&mut socket, 1000, format!("state={} error_code={}", end.state, end.error_code)).await,
            Ok(None) => close(&mut socket, 1001, "the server is stopping".to_string()).await,
            Err(Gone) => {}
        }
    }))
}

/// Follows to the action's end, or to the server's (nothing).
async fn follow(
    app: &App,
    socket: &mut WebSocket,
    mut reader: Reader,
    mut followed: Followed,
    format: Format,
) -> Result<Option<End>, Gone> {
    let mut ping = interval_at(Instant::now() + PING, PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let progress = *followed.progress.borrow_and_update();
        while let Some(lines) = reader.next(format.length(&progress)).await? {
            send(socket, lines).await?;
        }
        if let Some(end) = progress.end {
            return Ok(Some(end));
        }
        tokio::select! {
            changed = followed.progress.changed() => {
                changed.map_err(|_| Gone)?;
                // A moment for more lines to come, longer when many follow: they are sent together, and telling two
                // hundred followers of each single line would slow down the action that they watch.
                tokio::time::sleep(Duration::from_micros(5_000 + 250 * app.metrics.followers() as u64)).await;
            }
            // An action that has ended by then is followed to its end.
            () = app.closing.cancelled() => if followed.progress.borrow().end.is_none() { return Ok(None) },
            said = heard(socket) => said?,
            _ = ping.tick() => send(socket, vec![Message::Ping(Default::default())]).await?,
        }
    }
}

/// Reads lines from an offset.
struct Reader {
    file: Arc<File>,
    offset: u64,
    // The beginning of a line that is longer than a chunk, else empty.
    begun: Vec<u8>,
}

impl Reader {
    fn open(path: &Path, offset: u64) -> Result<Reader, Problem> {
        let file = File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => crate::error::not_found(format_args!("the log {}", path.display())),
            _ => Problem::io(format_args!("cannot read the log {}", path.display()), &error),
        })?;
        Ok(Reader { file: Arc::new(file), offset, begun: Vec::new() })
    }

    /// The next lines as frames, or nothing when all up to `end` are read.
    async fn next(&mut self, end: u64) -> Result<Option<Vec<Message>>, Gone> {
        if self.offset >= end {
            // A last line without a line break, which only a damaged log has.
            let rest = std::mem::take(&mut self.begun);
            return Ok((!rest.is_empty()).then(|| vec![frame(&rest)]));
        }
        let count = usize::try_from(end - self.offset).unwrap_or(CHUNK).min(CHUNK);
        let (file, offset) = (self.file.clone(), self.offset);
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; count];
            let count = file.read_at(&mut chunk, offset)?;
            chunk.truncate(count);
            std::io::Result::Ok(chunk)
        });
        let chunk = match read.await {
            Ok(Ok(chunk)) if !chunk.is_empty() => chunk,
            // Shorter than it was: someone cut it. Nothing more will come.
            Ok(Ok(_)) => {
                self.offset = end;
                return Ok(None);
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "a log cannot be read by its follower");
                return Err(Gone);
            }
            Err(_) => return Err(Gone),
        };
        self.offset += chunk.len() as u64;
        Ok(Some(self.lines(&chunk)))
    }

    fn lines(&mut self, chunk: &[u8]) -> Vec<Message> {
        let mut frames = Vec::new();
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.begun.is_empty() {
                frames.push(frame(line));
            } else {
                self.begun.extend_from_slice(line);
                frames.push(frame(&std::mem::take(&mut self.begun)));
            }
            rest = after;
        }
        self.begun.extend_from_slice(rest);
        if self.begun.len() >= LONGEST_LINE {
            // Not within a character, as far as it is text.
            let length = self.begun.len();
            let last = (length - 4..length).rev().find(|&at| self.begun[at] & 0xC0 != 0x80).unwrap_or(length);
            let cut = if std::str::from_utf8(&self.begun[last..]).is_ok() { length } else { last };
            let tail = self.begun.split_off(cut);
            frames.push(frame(&std::mem::replace(&mut self.begun, tail)));
        }
        frames
    }
}

fn frame(line: &[u8]) -> Message {
    Message::Text(Utf8Bytes::from(String::from_utf8_lossy(line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> Reader {
        Reader { file: Arc::new(File::open("/dev/null").expect("a file")), offset: 0, begun: Vec::new() }
    }

    fn texts(frames: Vec<Message>) -> Vec<String> {
        frames.into_iter().map(|frame| frame.into_text().expect("text").to_string()).collect()
    }

    #[test]
    fn lines_are_put_together_across_chunks() {
        let mut reader = reader();
        assert_eq!(texts(reader.lines(b"one\ntw")), ["one"]);
        assert_eq!(texts(reader.lines(b"o\n\nthr")), ["two", ""]);
        assert_eq!(texts(reader.lines(b"ee \xff\n")), ["three \u{fffd}"]);
    }

    #[test]
    fn a_very_long_line_comes_in_pieces_and_no_character_is_torn() {
        let mut reader = reader();
        let line = "é".repeat(10_000_000);
        let mut pieces = Vec::new();
        for chunk in [line.as_bytes(), b"\n"].concat().chunks(CHUNK - 1) {
            pieces.extend(texts(reader.lines(chunk)));
            assert!(reader.begun.capacity() <= 2 * (LONGEST_LINE + CHUNK));
        }
        assert!(pieces.len() >= 3);
        assert_eq!(pieces.concat(), line);
    }
}
