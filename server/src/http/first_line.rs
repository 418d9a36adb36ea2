//! The first line of a connection, read by us: a client that sends nothing is let go in time, and a path with characters
//! that HTTP does not allow (`<`, a space, NUL) is percent-encoded, so that it is refused by name like any other, with an
//! answer that says why, where the HTTP library would answer with an empty 400.
//!
//! And the last bytes: what a refused client still sends is read for a moment, or it would see a broken pipe and not why.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::serve::Place;

/// A longer first line is left to the HTTP library, which refuses it.
const LONGEST: usize = 64 * 1024;

/// How long, and how much, is read of what a client sends after the answer.
const LINGER: (Duration, usize) = (Duration::from_secs(2), 4 * 1024 * 1024);

/// What a connection is made of.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// A stream with bytes that were read from it already in front.
pub struct Rewound<S: Stream> {
    front: Vec<u8>,
    taken: usize,
    // Taken out only when it is dropped.
    stream: Option<S>,
    place: Place,
}

impl<S: Stream> Drop for Rewound<S> {
    fn drop(&mut self) {
        if let (Some(stream), Ok(runtime)) = (self.stream.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(linger(stream, self.place.clone()));
        }
    }
}

/// Says that nothing more comes, then reads on until the client has understood.
async fn linger(mut stream: impl Stream, _place: Place) {
    let reading = async {
        stream.shutdown().await?;
        let (mut sink, mut read) = ([0; 4096], 0);
        while read < LINGER.1 {
            match stream.read(&mut sink).await? {
                0 => break,
                count => read += count,
            }
        }
        io::Result::Ok(())
    };
    // Whatever comes of it, the connection is over.
    tokio::time::timeout(LINGER.0, reading).await.ok();
}

/// Reads the first line and puts it back, its path encoded. Fails when the client leaves before it is complete.
pub async fn read<S: Stream>(mut stream: S, place: Place) -> io::Result<Rewound<S>> {
    let mut front = Vec::with_capacity(256);
    while !front.contains(&b'\n') && front.len() < LONGEST {
        if stream.read_buf(&mut front).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        front.reserve(256);
    }
    let end = front.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    if let Some(line) = encoded(&front[..end]) {
        front.splice(..end, line);
    }
    Ok(Rewound { front, taken: 0, stream: Some(stream), place })
}

/// `METHOD target HTTP/1.x` with the target's illegal bytes percent-encoded; nothing when there is nothing to do.
fn encoded(line: &[u8]) -> Option<Vec<u8>> {
    let start = line.iter().position(|&byte| byte == b' ')? + 1;
    let end = line.iter().rposition(|&byte| byte == b' ')?;
    let version = line.get(end + 1..)?;
    if end <= start || !version.starts_with(b"HTTP/1.") || !line[start..end].iter().any(|&byte| is_illegal(byte)) {
        return None;
    }
    let mut out = line[..start].to_vec();
    for &byte in &line[start..end] {
        if is_illegal(byte) {
            out.extend(format!("%{byte:02X}").bytes());
        } else {
            out.push(byte);
        }
    }
    out.extend_from_slice(&line[end..]);
    Some(out)
}

/// Bytes that a request's target may not hold (RFC 3986 section 2).
fn is_illegal(byte: u8) -> bool {
    !byte.is_ascii_graphic() || matches!(byte, b'<' | b'>' | b'"' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#')
}

impl<S: Stream> Rewound<S> {
    fn inner(&mut self) -> io::Result<Pin<&mut S>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<S: Stream> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.taken < self.front.len() {
            let count = buffer.remaining().min(self.front.len() - self.taken);
            buffer.put_slice(&self.front[self.taken..self.taken + count]);
            self.taken += count;
            if self.taken == self.front.len() {
                self.front = Vec::new();
                self.taken = 0;
            }
            return Poll::Ready(Ok(()));
        }
        self.inner()?.poll_read(context, buffer)
    }
}

impl<S: Stream> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_illegal_bytes_of_the_target_are_encoded() {
        for (line, expected) in [
            ("GET /api/version HTTP/1.1\r", None),
            ("GET /a%2Fb?x=1&y=[2] HTTP/1.1\r", None),
            ("GET /<x/> HTTP/1.1\r", Some("GET /%3Cx/%3E HTTP/1.1\r")),
            ("GET /a b\0 HTTP/1.0\r", Some("GET /a%20b%00 HTTP/1.0\r")),
            ("GET /é HTTP/1.1\r", Some("GET /%C3%A9 HTTP/1.1\r")),
            ("nonsense", None),
            ("GET / <x>", None),
        ] {
            assert_eq!(encoded(line.as_bytes()).map(|line| String::from_utf8(line).expect("ASCII")), expected.map(String::from));
        }
    }
}
