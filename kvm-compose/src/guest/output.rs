//! What a command in a guest prints, read from files in the guest while it is written.
//!
//! The agent hands output over only at a command's end and whole, and its messages have limits: a large one is lost with
//! the command's status. Files are read in pieces, as they grow. Must not know commands.

use super::agent::Agent;
use crate::{api::event::OutputStream, backend::hypervisor::AgentFault};

/// So much of one stream is kept; what comes after is thrown away in the guest.
pub const LONGEST: usize = 16 << 20;
/// Pieces that are read at one visit, so that one stream does not starve the other.
const PIECES: usize = 8;

/// Takes what a command prints, as it comes.
pub type Say<'a> = &'a dyn Fn(OutputStream, &[u8]);

/// A file in the guest that a command appends to.
pub struct Tail {
    stream: OutputStream,
    path: String,
    handle: Option<i64>,
    /// What was read so far.
    pub content: Vec<u8>,
    /// More came than is kept.
    pub truncated: bool,
}

impl Tail {
    /// The tail of a file that may not be there yet.
    pub fn of(stream: OutputStream, path: String) -> Self {
        Tail { stream, path, handle: None, content: Vec::new(), truncated: false }
    }

    /// True once something of it was read, or may have been.
    pub fn is_open(&self) -> bool {
        self.handle.is_some()
    }

    /// Reads what has come; returns how many bytes that were.
    pub fn visit(&mut self, agent: &Agent<'_>, say: Say<'_>) -> Result<usize, AgentFault> {
        let handle = match self.handle {
            Some(handle) => handle,
            None => match agent.open(&self.path, "r") {
                Ok(handle) => *self.handle.insert(handle),
                // The command has not begun yet.
                Err(AgentFault::Refused(_)) => return Ok(0),
                Err(fault) => return Err(fault),
            },
        };
        let before = self.content.len();
        for _ in 0..PIECES {
            if self.truncated {
                // Who appends to an emptied file goes on at its start: a guest's memory is not filled with what nobody reads.
                return agent.open(&self.path, "w").and_then(|emptied| agent.close(emptied)).map(|()| 0);
            }
            let piece = agent.read(handle)?;
            if piece.is_empty() {
                break;
            }
            let kept = &piece[..piece.len().min(LONGEST - self.content.len())];
            self.truncated = kept.len() < piece.len();
            say(self.stream, kept);
            self.content.extend_from_slice(kept);
        }
        Ok(self.content.len() - before)
    }

    /// Reads to the end.
    pub fn finish(&mut self, agent: &Agent<'_>, say: Say<'_>) -> Result<(), AgentFault> {
        while !self.truncated && self.visit(agent, say)? > 0 {}
        Ok(())
    }

    /// Closes the file; a guest that is gone has closed it.
    pub fn close(&mut self, agent: &Agent<'_>) {
        if let Some(handle) = self.handle.take()
            && let Err(fault) = agent.close(handle)
        {
            tracing::debug!(path = self.path, fault = fault.text(), "a file in a guest stays open");
        }
    }
}
