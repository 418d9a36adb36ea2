//! A client for an OVSDB server over a Unix socket: JSON-RPC as RFC 7047 has it, as far as we use it.
//!
//! One session, one thread. Every read and write has a limit, and a message a largest size. Must not know any schema.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::framing::Scan;
use crate::error::{Code, Problem};

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// The largest message we accept: about a hundred thousand rows.
const LARGEST_MESSAGE: usize = 64 << 20;

/// A database behind a socket.
#[derive(Debug, Clone)]
pub struct Database {
    /// The server's socket.
    pub socket: PathBuf,
    /// The database's name in its schema.
    pub name: &'static str,
    /// What people call it, for messages.
    pub title: &'static str,
}

/// An open connection to a database.
#[derive(Debug)]
pub struct Session {
    stream: UnixStream,
    database: Database,
    /// Bytes read but not yet used.
    pending: Vec<u8>,
    next_id: u64,
    answer_limit: Duration,
    largest_message: usize,
}

/// A transaction that was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The operation's index, or the number of operations when the commit itself failed.
    pub operation: usize,
    /// RFC 7047's word, such as `constraint violation`.
    pub error: String,
    /// The server's words.
    pub details: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.details.is_empty() { f.write_str(&self.error) } else { write!(f, "{}: {}", self.error, self.details) }
    }
}

impl Database {
    /// OVN's northbound database.
    pub fn northbound(socket: &Path) -> Self {
        Database { socket: socket.to_path_buf(), name: "OVN_Northbound", title: "OVN's northbound database" }
    }

    /// OVN's southbound database.
    pub fn southbound(socket: &Path) -> Self {
        Database { socket: socket.to_path_buf(), name: "OVN_Southbound", title: "OVN's southbound database" }
    }

    /// Open vSwitch's own database.
    pub fn switch(socket: &Path) -> Self {
        Database { socket: socket.to_path_buf(), name: "Open_vSwitch", title: "Open vSwitch's database" }
    }

    /// Connects.
    pub fn open(&self) -> Result<Session, Problem> {
        let opened = UnixStream::connect(&self.socket);
        let stream = opened.map_err(|error| self.problem(format!("cannot connect to `{}`: {error}", self.socket.display())))?;
        Ok(Session {
            stream,
            database: self.clone(),
            pending: Vec::new(),
            next_id: 0,
            answer_limit: ANSWER_LIMIT,
            largest_message: LARGEST_MESSAGE,
        })
    }

    /// The database does not answer, because of `cause`.
    pub fn problem(&self, cause: impl std::fmt::Display) -> Problem {
        Problem::new(Code::Ovn, format!("{} does not answer", self.title))
            .cause(cause)
            .hint("`testbed doctor` says which part is down and how to start it")
    }
}

impl Session {
    /// Runs operations as one transaction (RFC 7047 section 4.1.3): all results, or the first refusal.
    pub fn transact(&mut self, operations: Vec<Value>) -> Result<Result<Vec<Value>, Refusal>, Problem> {
        let count = operations.len();
        let mut params = vec![json!(self.database.name)];
        params.extend(operations);
        let Value::Array(results) = self.call("transact", &Value::Array(params))? else {
            return Err(self.database.problem("its answer to a transaction is not a list"));
        };
        let refused = results.iter().enumerate().find_map(|(operation, result)| {
            let error = result.get("error")?.as_str()?.to_string();
            let details = result.get("details").and_then(Value::as_str).unwrap_or_default().to_string();
            Some(Refusal { operation, error, details })
        });
        match refused {
            Some(refusal) => Ok(Err(refusal)),
            None if results.len() < count => Err(self.database.problem("it answered fewer operations than it was given")),
            None => Ok(Ok(results)),
        }
    }

    /// Runs operations that are only refused by a fault of ours or of the schema.
    pub fn read(&mut self, operations: Vec<Value>) -> Result<Vec<Value>, Problem> {
        let refused = |refusal: Refusal, database: &Database| {
            Problem::new(Code::Ovn, format!("{} refused to be read", database.title)).cause(refusal)
        };
        let outcome = self.transact(operations)?;
        outcome.map_err(|refusal| refused(refusal, &self.database))
    }

    /// The names of the databases that the server holds.
    pub fn databases(&mut self) -> Result<Vec<String>, Problem> {
        let answer = self.call("list_dbs", &json!([]))?;
        Ok(answer.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_string)).collect())
    }

    fn call(&mut self, method: &str, params: &Value) -> Result<Value, Problem> {
        let deadline = Instant::now() + self.answer_limit;
        self.next_id += 1;
        let id = json!(self.next_id);
        self.send(&json!({"method": method, "params": params, "id": id}), deadline)?;
        loop {
            let mut message = self.receive(deadline)?;
            if message.get("method").and_then(Value::as_str) == Some("echo") {
                // The server asks whether we still live (section 4.1.11).
                self.send(&json!({"result": message["params"], "error": null, "id": message["id"]}), deadline)?;
            } else if message.get("id") == Some(&id) {
                return match message.get("error") {
                    None | Some(Value::Null) => Ok(message["result"].take()),
                    Some(error) => Err(self.database.problem(format!("it refused `{method}`: {}", short(error)))),
                };
            }
            // Anything else is a notification that nobody asked for.
        }
    }

    fn send(&mut self, message: &Value, deadline: Instant) -> Result<(), Problem> {
        self.stream.set_write_timeout(Some(left(deadline))).map_err(|error| self.database.problem(error))?;
        self.stream.write_all(message.to_string().as_bytes()).map_err(|error| self.broken(&error))
    }

    /// The next message, or a problem at the deadline.
    fn receive(&mut self, deadline: Instant) -> Result<Value, Problem> {
        let mut scan = Scan::default();
        let mut chunk = vec![0; 64 << 10];
        loop {
            if let Some(end) = scan.end_of_message(&self.pending) {
                let message: Vec<u8> = self.pending.drain(..end).collect();
                return serde_json::from_slice(&message).map_err(|error| self.database.problem(format!("its answer is not JSON: {error}")));
            }
            if self.pending.len() > self.largest_message {
                return Err(self.database.problem(format!("its answer is larger than {} bytes", self.largest_message)));
            }
            if Instant::now() >= deadline {
                return Err(self.database.problem(format!("no answer within {} s", self.answer_limit.as_secs_f32())));
            }
            self.stream.set_read_timeout(Some(left(deadline))).map_err(|error| self.database.problem(error))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(self.database.problem("it closed the connection")),
                Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    fn broken(&self, error: &std::io::Error) -> Problem {
        self.database.problem(format!("the connection broke: {error}"))
    }
}

/// A socket takes no limit of zero.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// A server that reads one request and answers with `reply`, then keeps the connection open until the client leaves.
    fn session_with(reply: &'static [u8]) -> (Session, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("db.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).expect("a request") > 0);
            stream.write_all(reply).ok();
            while stream.read(&mut request).is_ok_and(|count| count > 0) {}
        });
        let mut session = Database::northbound(&socket).open().expect("connected");
        session.answer_limit = Duration::from_millis(300);
        session.largest_message = 100_000;
        (session, folder)
    }

    fn cause(reply: &'static [u8]) -> String {
        let (mut session, _folder) = session_with(reply);
        let problem = session.transact(vec![json!({"op": "select"})]).expect_err("a problem");
        assert_eq!(problem.code, Code::Ovn);
        problem.causes.concat()
    }

    #[test]
    fn an_answer_after_an_echo_and_a_notification_is_found() {
        let (mut session, _folder) = session_with(
            br#"{"method":"echo","params":["}{"],"id":"echo"}{"method":"update","params":["\\\""],"id":null} {"id":1,"result":[{"rows":[]}],"error":null}"#,
        );
        assert_eq!(session.transact(vec![json!({})]), Ok(Ok(vec![json!({"rows": []})])));
    }

    #[test]
    fn a_silent_server_costs_the_limit() {
        let begun = Instant::now();
        assert!(cause(b"").contains("no answer within"));
        assert!(cause(b"{\"id\":1,\"result\":[").contains("no answer within"));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_server_that_never_ends_is_cut_off() {
        let endless: &'static [u8] = Vec::leak([b"{\"id\":1,\"result\":[\"".as_slice(), &vec![b'x'; 300_000]].concat());
        assert!(cause(endless).contains("larger than 100000 bytes"));
    }

    #[test]
    fn garbage_is_a_problem_and_no_panic() {
        assert!(cause(b"{\"id\":1,]").contains("not JSON"));
        assert!(cause(br#"{"id":1,"result":7,"error":null}"#).contains("not a list"));
        assert!(cause(br#"{"id":1,"result":[],"error":null}"#).contains("fewer"));
        assert!(cause(br#"{"id":1,"result":null,"error":"unknown database"}"#).contains("unknown database"));
        let deep: &'static [u8] = Vec::leak([b"{\"id\":1,\"result\":".as_slice(), &[b'['; 5000], &[b']'; 5000], b"}"].concat());
        assert!(cause(deep).contains("not JSON"));
    }

    #[test]
    fn a_refusal_names_the_operation() {
        let (mut session, _folder) =
            session_with(br#"{"id":1,"error":null,"result":[{},{"error":"constraint violation","details":"no"},null]}"#);
        let refusal = session.transact(vec![json!({}), json!({}), json!({})]).expect("an answer").expect_err("refused");
        assert_eq!((refusal.operation, refusal.to_string().as_str()), (1, "constraint violation: no"));
    }

    #[test]
    fn no_server_is_a_problem_with_a_hint() {
        let problem = Database::switch(Path::new("/nonexistent/db.sock")).open().expect_err("no server");
        assert_eq!(problem.code, Code::Ovn);
        assert!(problem.hint.is_some_and(|hint| hint.contains("doctor")));
    }
}
