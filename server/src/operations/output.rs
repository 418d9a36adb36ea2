//! What a command in a guest prints, on its way into the action's journal and result.
//!
//! A line is journaled when it is whole, or when it grows too long; both streams are kept as the bytes they are.

use std::cell::RefCell;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kvm_compose::{
    api::{
        ExecRequest,
        action::ExecOutput,
        event::{EventKind, OutputStream},
    },
    backend::local::ExecResult,
    error::{Code, Problem},
    orchestrate::Sink,
};

use super::perform::Outcome;

/// A longer line is journaled in pieces.
const LONGEST_PIECE: usize = 32 * 1024;

/// Hears what a command prints.
pub struct Heard<'a> {
    sink: &'a dyn Sink,
    exec: &'a ExecRequest,
    streams: RefCell<[Stream; 2]>,
}

#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    journaled: usize,
}

impl<'a> Heard<'a> {
    /// Hears the command of a request.
    pub fn new(sink: &'a dyn Sink, exec: &'a ExecRequest) -> Self {
        Heard { sink, exec, streams: RefCell::default() }
    }

    /// Takes the next bytes of a stream.
    pub fn take(&self, stream: OutputStream, bytes: &[u8]) {
        let mut streams = self.streams.borrow_mut();
        let heard = &mut streams[index(stream)];
        heard.bytes.extend_from_slice(bytes);
        while let Some(length) = whole(&heard.bytes[heard.journaled..]) {
            self.journal(stream, heard, length);
        }
    }

    /// What came of the command, with all that it printed, also when it was stopped.
    pub fn outcome(self, answer: Result<ExecResult, Problem>) -> Result<Outcome, Problem> {
        let mut streams = self.streams.take();
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            let heard = &mut streams[index(stream)];
            let rest = heard.bytes.len() - heard.journaled;
            if rest > 0 {
                self.journal(stream, heard, rest);
            }
        }
        let output = ExecOutput {
            stdout_base64: STANDARD.encode(&streams[0].bytes),
            stderr_base64: STANDARD.encode(&streams[1].bytes),
            truncated: answer.as_ref().is_ok_and(|answer| answer.truncated),
        };
        let result = serde_json::to_value(output).map_err(|error| Problem::internal("an output is not JSON").cause(error))?;
        let (exit_status, problem) = match answer {
            Ok(answer) => (Some(answer.status), (answer.status != 0).then(|| failed(self.exec, answer.status))),
            Err(problem) => (None, Some(problem)),
        };
        Ok(Outcome { problem, exit_status, result: Some(result) })
    }

    fn journal(&self, stream: OutputStream, heard: &mut Stream, length: usize) {
        let line = &heard.bytes[heard.journaled..heard.journaled + length];
        heard.journaled += length;
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)).into_owned();
        let event = EventKind::Output { guest: self.exec.guest.clone(), stream, data_base64: STANDARD.encode(line), text };
        // The result has it all the same.
        if let Err(problem) = self.sink.emit(event) {
            tracing::warn!(guest = %self.exec.guest, %problem, "what a command printed was not journaled");
        }
    }
}

fn index(stream: OutputStream) -> usize {
    match stream {
        OutputStream::Stdout => 0,
        OutputStream::Stderr => 1,
    }
}

/// How many bytes are to be journaled now: a whole line, or a piece of a long one.
fn whole(bytes: &[u8]) -> Option<usize> {
    let line = bytes.iter().take(LONGEST_PIECE).position(|&byte| byte == b'\n').map(|end| end + 1);
    line.or_else(|| (bytes.len() >= LONGEST_PIECE).then_some(LONGEST_PIECE))
}

fn failed(exec: &ExecRequest, status: i32) -> Problem {
    let program = kvm_compose::names::printable(exec.argv.first().map_or("", String::as_str));
    let how = match status {
        129..=192 => format!("status {status}: {}", signal(status - 128)),
        _ => format!("status {status}"),
    };
    Problem::new(Code::CommandFailed, format!("`{program}` in guest `{}` ended with {how}", exec.guest))
}

/// A signal by its number, as on x86 (signal(7)).
fn signal(number: i32) -> String {
    const NAMES: [&str; 15] =
        ["HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM"];
    let name = usize::try_from(number - 1).ok().and_then(|index| NAMES.get(index));
    name.map_or_else(|| format!("signal {number}"), |name| format!("signal {number} (SIG{name})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_out_whole_and_long_ones_in_pieces() {
        assert_eq!(whole(b""), None);
        assert_eq!(whole(b"half"), None);
        assert_eq!(whole(b"one\ntwo"), Some(4));
        assert_eq!(whole(&[b'x'; LONGEST_PIECE + 5]), Some(LONGEST_PIECE));
    }

    #[test]
    fn signals_have_names() {
        assert_eq!((signal(9), signal(15), signal(40)), ("signal 9 (SIGKILL)".into(), "signal 15 (SIGTERM)".into(), "signal 40".into()));
    }
}
