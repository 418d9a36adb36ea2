//! HTTP and websockets as written on the wire: nothing is normalised on the way.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use tokio_tungstenite::tungstenite::{self, Message, WebSocket, handshake::client::generate_key, protocol::CloseFrame};

#[derive(Clone)]
pub enum Door {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

#[derive(Clone)]
pub struct Client {
    pub door: Door,
    pub headers: Vec<(String, String)>,
}

pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.text());
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.head, self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The error's code, after a look at the whole documented shape.
    #[track_caller]
    pub fn code(&self) -> String {
        let body = self.json();
        let id = body["request_id"].as_str().expect("a request id");
        assert_eq!(self.header("x-request-id"), Some(id), "{}", self.head);
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.head);
        assert!(!body["message"].as_str().expect("a message").is_empty());
        body["code"].as_str().expect("a code").to_string()
    }
}

impl Client {
    pub fn connect(&self) -> Box<dyn Stream> {
        match &self.door {
            Door::Unix(path) => Box::new(UnixStream::connect(path).expect("connected")),
            Door::Tcp(address) => Box::new(TcpStream::connect(address).expect("connected")),
        }
    }

    fn host(&self) -> String {
        match &self.door {
            Door::Unix(_) => "localhost".to_string(),
            Door::Tcp(address) => address.to_string(),
        }
    }

    /// Sends exactly these bytes, reads to the end.
    pub fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("sent");
        let mut all = Vec::new();
        // A server that refuses early may reset the rest: what it said before counts.
        if let Err(error) = stream.read_to_end(&mut all) {
            assert!(!all.is_empty(), "no answer: {error}");
        }
        let end =
            all.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(&all)));
        let head = String::from_utf8_lossy(&all[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        let mut body = all.split_off(end + 4);
        if head.to_lowercase().contains("transfer-encoding: chunked") {
            body = unchunked(&body);
        }
        Answer { status, head, body }
    }

    pub fn send(&self, method: &str, path: &str, kind: &str, extra: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
        if !extra.iter().any(|(name, _)| *name == "Connection") {
            head.push_str("Connection: close\r\n");
        }
        if !kind.is_empty() {
            head.push_str(&format!("Content-Type: {kind}\r\n"));
        }
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let all: Vec<_> = own.chain(extra.iter().copied()).collect();
        if !all.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {}\r\n", self.host()));
        }
        for (name, value) in all {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.raw(&[head.as_bytes(), body].concat())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", &[], b"")
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, "application/json", &[], body.as_bytes())
    }

    pub fn put(&self, path: &str, body: &str) -> Answer {
        self.send("PUT", path, "application/yaml", &[], body.as_bytes())
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "", &[], b"")
    }

    pub fn upgrade(&self, path: &str) -> tungstenite::http::Request<()> {
        let mut request = tungstenite::http::Request::builder()
            .uri(format!("ws://{}{path}", self.host()))
            .header("Host", self.host())
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", generate_key());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(()).expect("a request")
    }

    pub fn follow(&self, path: &str) -> Follower {
        let (socket, _) = tungstenite::client::client(self.upgrade(path), self.connect()).expect("a websocket");
        Follower { socket }
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(&String::from_utf8_lossy(&rest[..end]), 16).expect("a size");
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
    body
}

pub struct Follower {
    socket: WebSocket<Box<dyn Stream>>,
}

impl Follower {
    /// The next bytes, or nothing at the end.
    pub fn bytes(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.socket.read().expect("the stream goes on") {
                Message::Binary(bytes) => return Some(bytes.to_vec()),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// Sends bytes.
    pub fn type_in(&mut self, bytes: &[u8]) {
        self.socket.send(Message::Binary(bytes.to_vec().into())).expect("sent");
    }

    /// The next line, or nothing at the end.
    pub fn line(&mut self) -> Result<String, Option<CloseFrame>> {
        loop {
            match self.socket.read().expect("the stream goes on") {
                Message::Text(text) => return Ok(text.to_string()),
                Message::Close(frame) => return Err(frame),
                _ => {}
            }
        }
    }

    /// All lines, and why it ended.
    pub fn until_end(mut self) -> (Vec<String>, String) {
        let mut lines = Vec::new();
        loop {
            match self.line() {
                Ok(line) => lines.push(line),
                Err(frame) => {
                    let frame = frame.expect("a close frame with a reason");
                    assert_eq!(u16::from(frame.code), 1000, "{}", frame.reason);
                    return (lines, frame.reason.to_string());
                }
            }
        }
    }
}
