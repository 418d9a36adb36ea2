//! A publisher of images on loopback that does what publishers and networks do: cuts, stalls, lies, redirects.
#![allow(dead_code, reason = "each test uses its part")]

use std::{
    collections::{HashMap, VecDeque},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

/// What becomes of one request.
#[derive(Debug, Clone)]
pub enum Deed {
    /// An answer without content.
    Status(u16),
    /// The promise of all of it, so many bytes, and the end of the connection.
    Cut(usize),
    /// The promise of all of it, so many bytes, and then nothing more.
    Stall(usize),
    /// This many bytes promised, whatever there is.
    Promise(usize),
    /// Another address.
    Redirect(String),
    /// All of it, whatever part was asked for.
    WithoutRange,
    /// All of it, in chunks, with no word of how much it is.
    Endless,
    /// All of it, once the gate is open.
    Gate,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub target: String,
    pub headers: HashMap<String, String>,
}

#[derive(Default)]
struct State {
    files: HashMap<String, (Vec<u8>, String)>,
    deeds: HashMap<String, VecDeque<Deed>>,
    asked: Vec<Asked>,
    open: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    opened: Condvar,
}

pub struct Publisher {
    shared: Arc<Shared>,
    pub address: SocketAddr,
}

impl Publisher {
    pub fn start() -> Publisher {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let ours = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = ours.clone();
                // A client that goes away is part of the play.
                thread::spawn(move || serve(&shared, stream).unwrap_or_default());
            }
        });
        Publisher { shared, address }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Publishes a file under a new ETag.
    pub fn put(&self, path: &str, content: &[u8]) {
        let mut state = self.shared.state.lock().expect("the state");
        let tag = format!("\"{}-{}\"", content.len(), state.files.len() + state.asked.len());
        state.files.insert(path.to_string(), (content.to_vec(), tag));
    }

    /// The next requests for a file meet these; all after them are served well.
    pub fn then(&self, path: &str, deeds: &[Deed]) {
        self.shared.state.lock().expect("the state").deeds.entry(path.to_string()).or_default().extend(deeds.iter().cloned());
    }

    pub fn open_gate(&self) {
        self.shared.state.lock().expect("the state").open = true;
        self.shared.opened.notify_all();
    }

    /// The requests for a file so far.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let state = self.shared.state.lock().expect("the state");
        state.asked.iter().filter(|asked| asked.target.ends_with(path)).cloned().collect()
    }
}

fn serve(shared: &Shared, stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let target = first.split(' ').nth(1).unwrap_or_default().to_string();
    let mut headers = HashMap::new();
    for line in reader.by_ref().lines() {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_string());
    }
    // To a proxy the whole URL is said.
    let path = target.find("://").map_or(target.as_str(), |at| target[at + 3..].find('/').map_or("/", |slash| &target[at + 3 + slash..]));
    let (deed, file) = {
        let mut state = shared.state.lock().expect("the state");
        state.asked.push(Asked { target: target.clone(), headers: headers.clone() });
        (state.deeds.get_mut(path).and_then(VecDeque::pop_front), state.files.get(path).cloned())
    };
    answer(shared, &mut stream, deed, file, &headers)?;
    stream.shutdown(Shutdown::Both)
}

fn answer(
    shared: &Shared,
    stream: &mut TcpStream,
    deed: Option<Deed>,
    file: Option<(Vec<u8>, String)>,
    headers: &HashMap<String, String>,
) -> std::io::Result<()> {
    let plain = |status: u16, more: &str| format!("HTTP/1.1 {status} As told\r\nConnection: close\r\nContent-Length: 0\r\n{more}\r\n");
    let Some((content, tag)) = file else { return stream.write_all(plain(404, "").as_bytes()) };
    let deed = match deed {
        Some(Deed::Status(status)) => return stream.write_all(plain(status, "").as_bytes()),
        Some(Deed::Redirect(to)) => return stream.write_all(plain(302, &format!("Location: {to}\r\n")).as_bytes()),
        other => other,
    };
    if let Some(Deed::Gate) = deed {
        let state = shared.state.lock().expect("the state");
        drop(shared.opened.wait_timeout_while(state, Duration::from_secs(60), |state| !state.open).expect("the state"));
    }
    if let Some(Deed::Endless) = deed {
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for piece in content.chunks(1 << 16) {
            stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
            stream.write_all(piece)?;
            stream.write_all(b"\r\n")?;
        }
        return stream.write_all(b"0\r\n\r\n");
    }
    let range = headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let still_the_same = headers.get("if-range").is_none_or(|had| *had == tag);
    let start = range.filter(|_| still_the_same && !matches!(deed, Some(Deed::WithoutRange)));
    let body = &content[start.unwrap_or(0).min(content.len())..];
    let promised = if let Some(Deed::Promise(bytes)) = deed { bytes } else { body.len() };
    let head = match start {
        Some(start) if start >= content.len() => {
            return stream.write_all(plain(416, &format!("Content-Range: bytes */{}\r\n", content.len())).as_bytes());
        }
        Some(start) => format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{}", content.len() - 1, content.len()),
        None => "200 OK".to_string(),
    };
    stream.write_all(format!("HTTP/1.1 {head}\r\nETag: {tag}\r\nConnection: close\r\nContent-Length: {promised}\r\n\r\n").as_bytes())?;
    match deed {
        Some(Deed::Cut(bytes)) => stream.write_all(&body[..bytes.min(body.len())]),
        Some(Deed::Stall(bytes)) => {
            stream.write_all(&body[..bytes.min(body.len())])?;
            // Until the other end gives up.
            stream.read(&mut [0; 1]).map(|_| ())
        }
        _ => stream.write_all(&body[..promised.min(body.len())]),
    }
}
