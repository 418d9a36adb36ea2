//! What the user wrote, key by key: the `checks` section. The JSON Schema is generated from these types.
//!
//! Pure data. References are not checked: that is the topology's work.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::{node::Mark, reader::Spanned};
pub use crate::api::check::Expect;
use crate::names::GuestName;

/// An expectation: exactly one of `ping`, `tcp`, `http`, `dns` and `exec` says what is asked, from inside a guest.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["ping"]}, {"required": ["tcp"]}, {"required": ["http"]}, {"required": ["dns"]}, {"required": ["exec"]}]))]
pub struct Check {
    /// Its name, unique among the checks; made from what it asks when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub name: Option<Spanned<String>>,
    /// Does an address answer echo requests (ping(8))?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping: Option<Ping>,
    /// Does somebody take connections on a TCP port?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Tcp>,
    /// What does a web server answer?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// What address does a name have?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// What does a command end with?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// `pass` when absent; with `fail` the check passes when what it asks for is not so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Spanned<Expect>>,
    /// How long it may take, in seconds; 10 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_s: Option<Spanned<u64>>,
    /// Where it stands in the file.
    #[serde(skip)]
    #[schemars(skip)]
    pub at: Mark,
}

/// Echo requests from a guest.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ping {
    /// The guest that asks.
    #[schemars(required)]
    pub from: Option<Spanned<GuestName>>,
    /// A guest (`b`, or `b:eth1` for one of its interfaces), an address, or a DNS name with a dot in it.
    #[schemars(required)]
    pub to: Option<Spanned<String>>,
    /// How many requests; 3 when absent. One answer is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub count: Option<Spanned<u64>>,
}

/// A TCP connection from a guest.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Tcp {
    /// The guest that connects.
    #[schemars(required)]
    pub from: Option<Spanned<GuestName>>,
    /// As for `ping`.
    #[schemars(required)]
    pub to: Option<Spanned<String>>,
    /// The port.
    #[schemars(required, range(min = 1, max = 65535))]
    pub port: Option<Spanned<u64>>,
}

/// An HTTP request (GET) from a guest.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Http {
    /// The guest that asks.
    #[schemars(required)]
    pub from: Option<Spanned<GuestName>>,
    /// What it asks for. A guest's name in it means the guest's address.
    #[schemars(required)]
    pub url: Option<Spanned<String>>,
    /// The status of the answer (RFC 9110 section 15); any from 200 to 299 when absent. Redirections are not followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 599))]
    pub status: Option<Spanned<u64>>,
    /// A text that the answer holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<Spanned<String>>,
}

/// A name, looked up by a guest.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Dns {
    /// The guest that asks.
    #[schemars(required)]
    pub from: Option<Spanned<GuestName>>,
    /// The name.
    #[schemars(required)]
    pub name: Option<Spanned<String>>,
    /// An address that it has; any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub address: Option<Spanned<IpAddr>>,
}

/// A command, run in a guest.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Exec {
    /// The guest.
    #[schemars(required)]
    pub guest: Option<Spanned<GuestName>>,
    /// Program and arguments, or one text for the guest's shell.
    #[schemars(required, with = "Command")]
    pub command: Option<Vec<Spanned<String>>>,
    /// The status it ends with; 0 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 255))]
    pub status: Option<Spanned<u64>>,
    /// A text that it prints on its standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout_contains: Option<Spanned<String>>,
}

/// Program and arguments, or one text for the guest's shell.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the shape of a value in the JSON Schema")]
enum Command {
    Words(Vec<String>),
    Shell(String),
}
