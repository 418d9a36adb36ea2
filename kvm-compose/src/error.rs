//! What an error is: one type from the library to HTTP and to the terminal.
//!
//! Knows the closed list of codes and the one table that maps each to its number, HTTP status and exit status.
//! Must not know where an error came from (libvirt, OVN, a file): adapters translate before they return.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares the closed list of codes with the one table that everything else reads.
macro_rules! codes {
    ($( $(#[doc = $doc:literal])* $variant:ident = $name:literal, $number:literal, $http:literal, $exit:literal; )*) => {
        /// The closed list of error codes. The names are the wire form and never change their meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum Code {
            $( $(#[doc = $doc])* #[serde(rename = $name)] $variant, )*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Code] = &[ $( Code::$variant, )* ];

            /// The name on the wire and in the documentation, such as `not_found`.
            pub const fn name(self) -> &'static str {
                match self { $( Code::$variant => $name, )* }
            }

            /// The number stored as `error_code` in `<name>-logs.json`; 0 is success and no code has it.
            pub const fn number(self) -> u16 {
                match self { $( Code::$variant => $number, )* }
            }

            /// The HTTP status of a response that carries this code.
            pub const fn http_status(self) -> u16 {
                match self { $( Code::$variant => $http, )* }
            }

            /// The exit status of the `testbed` command that ends with this code.
            pub const fn exit_status(self) -> u8 {
                match self { $( Code::$variant => $exit, )* }
            }

            /// What the code means, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $( Code::$variant => concat!($($doc),*), )* }
            }
        }
    };
}

codes! {
    /// The request or the command line is malformed.
    BadRequest = "bad_request", 10, 400, 2;
    /// A name is not allowed: wrong characters, too long or empty.
    InvalidName = "invalid_name", 11, 400, 2;
    /// The testbed file has faults; each is listed with its place.
    InvalidFile = "invalid_file", 12, 422, 2;
    /// The file asks for something this version or this host cannot do.
    Unsupported = "unsupported", 13, 422, 2;
    /// The path exists, but does not take this HTTP method.
    MethodNotAllowed = "method_not_allowed", 14, 405, 2;
    /// No credential, or a wrong one.
    Unauthorized = "unauthorized", 20, 401, 6;
    /// The credential does not allow this.
    Forbidden = "forbidden", 21, 403, 6;
    /// The named thing does not exist.
    NotFound = "not_found", 30, 404, 3;
    /// Another action runs on this deployment; its uuid is in the hint.
    Busy = "busy", 40, 409, 4;
    /// The thing exists already, or a stranger holds its name.
    Conflict = "conflict", 41, 409, 4;
    /// The body is larger than the limit.
    TooLarge = "too_large", 42, 413, 2;
    /// Too many requests or connections.
    RateLimited = "rate_limited", 43, 429, 5;
    /// No host has room for a guest.
    Capacity = "capacity", 50, 422, 1;
    /// A base image or a file that a guest needs is missing or unusable.
    ImageMissing = "image_missing", 51, 422, 1;
    /// The disk is full.
    DiskFull = "disk_full", 52, 500, 1;
    /// An image could not be downloaded from its publisher.
    DownloadFailed = "download_failed", 53, 503, 1;
    /// What was downloaded is not what the publisher's checksum says.
    SumMismatch = "sum_mismatch", 54, 503, 1;
    /// A file is no disk image that this program takes, or reaches for other files.
    ImageRefused = "image_refused", 55, 422, 1;
    /// libvirt does not answer, or refused a call.
    Libvirt = "libvirt", 60, 503, 1;
    /// OVN or Open vSwitch does not answer, or refused a transaction.
    Ovn = "ovn", 61, 503, 1;
    /// Docker does not answer, or refused a call.
    Docker = "docker", 62, 503, 1;
    /// A host of the cluster does not answer.
    HostAway = "host_away", 63, 503, 1;
    /// A guest's link cannot be shaped: its relay does not answer, or a network device refuses.
    Link = "link", 64, 503, 1;
    /// A guest did not become ready within its limit.
    GuestNotReady = "guest_not_ready", 70, 500, 1;
    /// The guest agent does not answer.
    AgentUnavailable = "agent_unavailable", 71, 503, 1;
    /// A script in a guest ended with a status other than 0.
    ScriptFailed = "script_failed", 72, 500, 1;
    /// A command run by `exec` ended with a status other than 0.
    CommandFailed = "command_failed", 73, 500, 1;
    /// A wait reached its limit.
    Timeout = "timeout", 74, 500, 1;
    /// An expectation of the testbed file was not met.
    ChecksFailed = "checks_failed", 75, 500, 7;
    /// The action was cancelled.
    Cancelled = "cancelled", 80, 409, 130;
    /// The server stopped while the action ran.
    Interrupted = "interrupted", 81, 500, 1;
    /// The server cannot be reached, or is stopping.
    Unavailable = "unavailable", 90, 503, 5;
    /// A file or folder of the server could not be read or written.
    Storage = "storage", 91, 500, 1;
    /// A fault of this program; please report it.
    Internal = "internal", 99, 500, 1;
}

impl Code {
    /// The code with this number, if there is one.
    pub fn from_number(number: u16) -> Option<Code> {
        Self::ALL.iter().copied().find(|code| code.number() == number)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A place in a text: 1-based line and column, counted in characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// The file as the user named it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// An error as people and programs see it. `Display` is the message alone and never repeats its causes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// One of the closed list.
    pub code: Code,
    /// What went wrong with which thing, one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What lies beneath, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Where in the user's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// Faults of a testbed file, when this is what the problem consists of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<crate::diagnostic::Diagnostic>,
}

impl Problem {
    /// A problem with a code and a message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Problem { code, message: message.into(), hint: None, causes: Vec::new(), at: None, diagnostics: Vec::new() }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what lies beneath.
    #[must_use]
    pub fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// A problem with a file or folder. A full disk gets its own code.
    pub fn io(doing: impl fmt::Display, error: &std::io::Error) -> Self {
        let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        let problem = Problem::new(if full { Code::DiskFull } else { Code::Storage }, doing.to_string()).cause(error);
        if full { problem.hint("free some space on the server's data folder, then run the command again") } else { problem }
    }

    /// A fault of this program.
    pub fn internal(message: impl Into<String>) -> Self {
        Problem::new(Code::Internal, message)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_numbers_are_unique_and_no_number_is_zero() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|c| c.name()).collect();
        let numbers: BTreeSet<_> = Code::ALL.iter().map(|c| c.number()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert_eq!(numbers.len(), Code::ALL.len());
        assert!(!numbers.contains(&0));
    }

    #[test]
    fn the_wire_form_is_the_name() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).expect("a code is a string"), serde_json::json!(code.name()));
            assert_eq!(Code::from_number(code.number()), Some(*code));
        }
    }
}
