//! The guest agent's commands that we use (QEMU Guest Agent Protocol Reference), typed.
//!
//! Must not know what they are used for.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::backend::hypervisor::{AgentFault, Hypervisor};

/// How much of a file travels in one message; 256 KiB at once hang the channel.
pub const CHUNK: usize = 48 << 10;

/// How much of a file is read at once: replies may be longer than what is sent.
const PIECE: usize = 256 << 10;

/// The agent of one guest.
#[derive(Clone, Copy)]
pub struct Agent<'a> {
    hypervisor: &'a dyn Hypervisor,
    domain: Uuid,
    limit_s: u32,
}

/// A program for the agent to start.
#[derive(Debug, Clone, Default)]
pub struct Program<'a> {
    /// Its path or name.
    pub path: &'a str,
    /// Its arguments.
    pub arguments: Vec<&'a str>,
    /// Its whole environment; the agent's own when empty.
    pub environment: Vec<String>,
    /// What it reads.
    pub stdin: &'a [u8],
}

/// What the agent says of a program that it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It runs.
    Running,
    /// It ended.
    Ended {
        /// 0 to 255; 128 + n for a signal n.
        status: i32,
        /// What it wrote to its standard output.
        stdout: Vec<u8>,
        /// What it wrote to its standard error.
        stderr: Vec<u8>,
        /// The agent cut one of them.
        truncated: bool,
    },
}

impl<'a> Agent<'a> {
    /// The agent of a domain; each command may take so many seconds.
    pub fn new(hypervisor: &'a dyn Hypervisor, domain: Uuid, limit_s: u32) -> Self {
        Agent { hypervisor, domain, limit_s }
    }

    /// Does it answer?
    pub fn ping(&self) -> Result<(), AgentFault> {
        self.call("guest-ping", &json!({})).map(|_| ())
    }

    /// Starts a program; returns its process id in the guest.
    pub fn start(&self, program: &Program<'_>) -> Result<i64, AgentFault> {
        let mut arguments = json!({"path": program.path, "arg": program.arguments, "capture-output": true});
        if !program.environment.is_empty() {
            arguments["env"] = json!(program.environment);
        }
        if !program.stdin.is_empty() {
            arguments["input-data"] = json!(BASE64_STANDARD.encode(program.stdin));
        }
        let answer = self.call("guest-exec", &arguments)?;
        answer["pid"].as_i64().ok_or_else(|| nonsense("guest-exec", &answer))
    }

    /// Asks for a program. After it said `Ended`, the agent has forgotten it.
    pub fn status(&self, pid: i64) -> Result<Status, AgentFault> {
        let answer = self.call("guest-exec-status", &json!({"pid": pid}))?;
        if answer["exited"].as_bool() != Some(true) {
            return Ok(Status::Running);
        }
        let number = |name: &str| answer[name].as_i64().and_then(|number| i32::try_from(number).ok());
        let status = match (number("exitcode"), number("signal")) {
            (_, Some(signal @ 1..=127)) => 128 + signal,
            (Some(status), _) => status & 0xff,
            _ => return Err(nonsense("guest-exec-status", &answer)),
        };
        let bytes = |name: &str| match &answer[name] {
            Value::Null => Ok(Vec::new()),
            Value::String(text) => BASE64_STANDARD.decode(text).map_err(|_| nonsense("guest-exec-status", &answer)),
            _ => Err(nonsense("guest-exec-status", &answer)),
        };
        let cut = |name: &str| answer[name].as_bool() == Some(true);
        let truncated = cut("out-truncated") || cut("err-truncated");
        Ok(Status::Ended { status, stdout: bytes("out-data")?, stderr: bytes("err-data")?, truncated })
    }

    /// Opens a file in the guest, with a mode of fopen(3); returns a handle.
    pub fn open(&self, path: &str, mode: &str) -> Result<i64, AgentFault> {
        let opened = self.call("guest-file-open", &json!({"path": path, "mode": mode}))?;
        opened.as_i64().ok_or_else(|| nonsense("guest-file-open", &opened))
    }

    /// Reads the next piece of an open file; nothing at its end, as it is now.
    pub fn read(&self, handle: i64) -> Result<Vec<u8>, AgentFault> {
        let answer = self.call("guest-file-read", &json!({"handle": handle, "count": PIECE}))?;
        let piece = answer["buf-b64"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
        piece.filter(|piece| piece.len() <= PIECE).ok_or_else(|| nonsense("guest-file-read", &answer))
    }

    /// Closes an open file.
    pub fn close(&self, handle: i64) -> Result<(), AgentFault> {
        self.call("guest-file-close", &json!({"handle": handle})).map(|_| ())
    }

    /// Writes a file in the guest, whole.
    pub fn write_file(&self, path: &str, content: &[u8]) -> Result<(), AgentFault> {
        let handle = self.open(path, "w")?;
        let written = self.write(handle, content);
        written.and(self.close(handle))
    }

    /// Writes on in an open file.
    pub fn write(&self, handle: i64, content: &[u8]) -> Result<(), AgentFault> {
        content.chunks(CHUNK).try_for_each(|chunk| {
            let mut rest = chunk;
            while !rest.is_empty() {
                let answer = self.call("guest-file-write", &json!({"handle": handle, "buf-b64": BASE64_STANDARD.encode(rest)}))?;
                let count = answer["count"].as_u64().and_then(|count| usize::try_from(count).ok());
                rest = match count {
                    Some(count @ 1..) if count <= rest.len() => &rest[count..],
                    _ => return Err(nonsense("guest-file-write", &answer)),
                };
            }
            Ok(())
        })
    }

    fn call(&self, command: &str, arguments: &Value) -> Result<Value, AgentFault> {
        let request = if arguments.as_object().is_some_and(serde_json::Map::is_empty) {
            json!({"execute": command})
        } else {
            json!({"execute": command, "arguments": arguments})
        };
        let reply = self.hypervisor.agent(self.domain, &request.to_string(), self.limit_s)?;
        let mut reply: Value =
            serde_json::from_str(&reply).map_err(|error| AgentFault::Refused(format!("its answer is not JSON: {error}")))?;
        if let Some(error) = reply.get("error") {
            let words = error["desc"].as_str().unwrap_or("it gave no reason");
            return Err(AgentFault::Refused(words.chars().take(300).collect()));
        }
        match reply.get_mut("return") {
            Some(answer) => Ok(answer.take()),
            None => Err(nonsense(command, &reply)),
        }
    }
}

fn nonsense(command: &str, answer: &Value) -> AgentFault {
    let shown: String = answer.to_string().chars().take(200).collect();
    AgentFault::Refused(format!("its answer to `{command}` makes no sense: {shown}"))
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::{
        backend::{
            Owner,
            hypervisor::{DomainState, Listing, Mark},
        },
        error::{Code, Problem},
        plan::blueprint::Domain,
    };

    /// A guest whose agent says what it is told to say, in turn, and then falls silent.
    struct Guest(Mutex<Vec<String>>);

    impl Guest {
        fn says(replies: &[&str]) -> Self {
            Guest(Mutex::new(replies.iter().rev().map(|reply| reply.to_string()).collect()))
        }
    }

    impl Hypervisor for Guest {
        fn domains(&self, _ours: &dyn Fn(&Mark) -> bool) -> Result<Listing, Problem> {
            Ok(Listing::default())
        }
        fn state(&self, _uuid: Uuid) -> Result<Option<DomainState>, Problem> {
            Ok(Some(DomainState::Running))
        }
        fn start(&self, domain: &Domain, _owner: &Owner, _operation: Uuid) -> Result<(), Problem> {
            Err(Problem::new(Code::Unsupported, domain.name.clone()))
        }
        fn stop(&self, name: &str, _uuid: Uuid, _owner: &Owner) -> Result<(), Problem> {
            Err(Problem::new(Code::Unsupported, name))
        }
        fn remove(&self, name: &str, _uuid: Uuid, _owner: &Owner) -> Result<(), Problem> {
            Err(Problem::new(Code::Unsupported, name))
        }
        fn agent(&self, _uuid: Uuid, command: &str, _limit_s: u32) -> Result<String, AgentFault> {
            serde_json::from_str::<Value>(command).expect("we write JSON");
            self.0.lock().pop().ok_or_else(|| AgentFault::Silent("not connected".to_string()))
        }
    }

    const HOSTILE: &[&str] = &[
        "",
        "null",
        "[]",
        "{\"return\":",
        "{\"return\":null}",
        "{\"return\":{\"exited\":true,\"exitcode\":99999999999}}",
        "{\"return\":{\"exited\":true,\"exitcode\":0,\"out-data\":\"%%%\"}}",
        "{\"return\":{\"exited\":true,\"exitcode\":0,\"out-data\":[1]}}",
        "{\"return\":{\"exited\":true,\"signal\":-5}}",
        "{\"return\":{\"pid\":\"1\",\"count\":-1}}",
        "{\"error\":{\"desc\":7}}",
    ];

    #[test]
    fn nonsense_is_refused_whatever_it_looks_like() {
        for reply in HOSTILE {
            let guest = Guest::says(&[reply, reply]);
            let agent = Agent::new(&guest, Uuid::nil(), 1);
            let program = Program { path: "true", ..Program::default() };
            assert!(matches!(agent.start(&program), Err(AgentFault::Refused(_))), "{reply}");
            if !matches!(agent.status(1), Ok(Status::Running) | Err(AgentFault::Refused(_))) {
                panic!("{reply}");
            }
            assert!(
                matches!(
                    Agent::new(&Guest::says(&["{\"return\":1}", reply, "{\"return\":{}}"]), Uuid::nil(), 1).write_file("/x", b"x"),
                    Err(AgentFault::Refused(_))
                ),
                "{reply}"
            );
        }
        let endless = "{\"error\":{\"desc\":\"".to_string() + &"x".repeat(100_000) + "\"}}";
        let guest = Guest::says(&[&endless]);
        assert!(Agent::new(&guest, Uuid::nil(), 1).ping().is_err_and(|fault| fault.text().len() < 1000));
    }

    #[test]
    fn statuses_and_signals_are_numbers_as_a_shell_has_them() {
        for (reply, expected) in [
            ("{\"return\":{\"exited\":true,\"exitcode\":3}}", 3),
            ("{\"return\":{\"exited\":true,\"signal\":9}}", 137),
            ("{\"return\":{\"exited\":true,\"exitcode\":256}}", 0),
        ] {
            let guest = Guest::says(&[reply]);
            let status = Agent::new(&guest, Uuid::nil(), 1).status(1);
            assert!(matches!(status, Ok(Status::Ended { status, .. }) if status == expected), "{reply}");
        }
    }
}
