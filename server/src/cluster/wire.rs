//! What master and member say to each other over their one connection: JSON, one message a websocket frame.
//!
//! The member dials, so a member needs no open port. Must not know sockets.

use std::collections::{BTreeMap, BTreeSet};

use kvm_compose::{
    api::{copy::GuestPath, event::OutputStream},
    error::{Code, Problem},
    names::{DeploymentName, GuestName, HostName, InstallationId},
    plan::{
        blueprint::{Blueprint, Sum},
        site::Site,
        step::Work,
    },
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::host::HostConfig;

/// The version of these messages. Both sides must have the same.
pub const PROTOCOL: u32 = 1;

/// This program's version. Both sides must have the same: a step means what this version takes it for.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The largest message: the network of ten thousand guests is smaller.
pub const LARGEST: usize = 64 << 20;

/// POST `/api/cluster/join`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The secret part of the token.
    pub secret: String,
    /// [`VERSION`] of the client.
    pub version: String,
    /// [`PROTOCOL`] of the client.
    pub protocol: u32,
    /// Its host.json.
    pub host: HostConfig,
    /// Its name in OVN (`external_ids:system-id`).
    pub chassis: String,
    /// A certificate signing request (RFC 2986), PEM.
    pub request: String,
}

/// The answer to [`Join`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Joined {
    /// The member's certificate, PEM.
    pub certificate: String,
    /// The authority's certificate, PEM.
    pub authority: String,
    /// The master's host.
    pub master: HostName,
    /// Whose marks the member's things carry.
    pub installation: InstallationId,
    /// Port of OVN's southbound database on the master, over TLS.
    pub southbound_port: u16,
}

/// From the member.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum FromMember {
    /// The first message.
    Hello {
        /// [`VERSION`].
        version: String,
        /// [`PROTOCOL`].
        protocol: u32,
        /// Its host.json.
        host: HostConfig,
    },
    /// It is there.
    Beat {
        /// Memory free for guests, in MiB.
        free_memory_mb: u64,
    },
    /// A line for the log of the action that a call belongs to.
    Line {
        /// The call.
        id: Uuid,
        /// The line.
        text: String,
    },
    /// What the command of a call printed.
    Output {
        /// The call.
        id: Uuid,
        /// Where to.
        stream: OutputStream,
        /// The bytes, base64.
        bytes: String,
    },
    /// A call has ended.
    Done {
        /// The call.
        id: Uuid,
        /// What came of it.
        outcome: Outcome,
    },
}

/// From the master.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum FromMaster {
    /// The first message.
    Welcome {
        /// The micro image, which tests KVM on the member.
        micro: Option<MicroOffer>,
    },
    /// It is there.
    Beat,
    /// Do this, and say [`FromMember::Done`]. A call that was heard before is not done again.
    Call {
        /// Names the call, also when it is repeated over another connection.
        id: Uuid,
        /// What to do.
        call: Box<Call>,
    },
    /// Typed into the console that a call opened.
    Input {
        /// The call.
        id: Uuid,
        /// The bytes, base64.
        bytes: String,
    },
    /// Nobody waits for this call any more.
    Cancel {
        /// The call.
        id: Uuid,
    },
    /// The connection ends for good.
    Leave {
        /// `unauthorized` when it is for good.
        code: Code,
        /// Why.
        reason: String,
    },
}

/// The micro image, by content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MicroOffer {
    /// The image's digest.
    pub digest: String,
    /// Its kernel.
    pub kernel: Sum,
    /// Its initramfs.
    pub initramfs: Sum,
}

/// What a member can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Call {
    /// What planning must know: answered with [`Seat`].
    Site {
        /// Whose guests to look for.
        deployment: DeploymentName,
        /// Do not wait for the test of KVM.
        at_once: bool,
    },
    /// What is there of a deployment: answered with `Observed`.
    Observe {
        /// The deployment.
        deployment: DeploymentName,
        /// What is wanted, as far as it stands here.
        wanted: Option<Box<Blueprint>>,
        /// Names of the deployment's logical ports.
        ports: BTreeSet<String>,
    },
    /// Carry out one step.
    Apply {
        /// The deployment.
        deployment: DeploymentName,
        /// The operation, for marks.
        operation: Uuid,
        /// The work.
        work: Box<Work>,
    },
    /// Remove what is left of the deployment's folder.
    Sweep {
        /// The deployment.
        deployment: DeploymentName,
    },
    /// Run a command in a guest: answered with [`Ended`].
    Exec {
        /// The deployment.
        deployment: DeploymentName,
        /// The guest.
        guest: GuestName,
        /// Program and arguments.
        argv: Vec<String>,
        /// Added to its environment.
        environment: BTreeMap<String, String>,
        /// What it reads, base64.
        stdin: String,
        /// The limit in seconds.
        timeout_s: u64,
    },
    /// Open a guest's serial console: what it says comes as output, until the call is cancelled.
    Console {
        /// The deployment.
        deployment: DeploymentName,
        /// The guest.
        guest: GuestName,
    },
    /// Measure a guest's link: answered with `LinkMeasured`, or nothing for a plain one.
    MeasureLink {
        /// The deployment.
        deployment: DeploymentName,
        /// The OVN port.
        port: Uuid,
        /// With frames of the relay's own.
        probe: bool,
    },
    /// Listen to ports of guests: each frame comes as output, a pcapng packet block whose interface is the port's place in the
    /// list, after one empty output when all are listened to; answered with `Counts` of each, once the call is cancelled.
    Capture {
        /// The deployment.
        deployment: DeploymentName,
        /// OVN ports.
        ports: Vec<Uuid>,
        /// Bytes kept of each frame.
        snap: usize,
    },
    /// What is at a path in a guest: answered with `PathSeen`.
    LookAtPath {
        /// The deployment.
        deployment: DeploymentName,
        /// The guest.
        guest: GuestName,
        /// The path.
        path: GuestPath,
    },
    /// Get an archive from the master and unpack it in a guest.
    PutArchive {
        /// The deployment.
        deployment: DeploymentName,
        /// The guest.
        guest: GuestName,
        /// The folder in the guest.
        folder: GuestPath,
        /// The archive, by content.
        sum: Sum,
    },
    /// Pack a path of a guest: the archive comes as output; for each piece that was read a byte is typed in.
    GetArchive {
        /// The deployment.
        deployment: DeploymentName,
        /// The guest.
        guest: GuestName,
        /// The path.
        path: GuestPath,
    },
    /// Everything with the master's mark: answered with a list of (what, deployment).
    Marked,
}

/// The answer to [`Call::Site`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seat {
    /// The host.
    pub site: Site,
    /// Guests of the deployment that stand there, and whether they run.
    pub standing: BTreeMap<GuestName, bool>,
}

/// The answer to [`Call::Exec`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ended {
    /// The command's status.
    pub status: i32,
    /// Its standard output, base64.
    pub stdout: String,
    /// Its standard error, base64.
    pub stderr: String,
    /// The agent cut one of them.
    pub truncated: bool,
}

/// What came of a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its answer.
    Answer(serde_json::Value),
    /// Why not.
    Problem(Problem),
}

/// What both sides check before anything else.
pub fn check_version(version: &str, protocol: u32, whose: &str) -> Result<(), Problem> {
    if version == VERSION && protocol == PROTOCOL {
        return Ok(());
    }
    let message = format!(
        "{whose} is version {} (protocol {protocol}), this server is {VERSION} (protocol {PROTOCOL})",
        kvm_compose::names::printable(version)
    );
    Err(Problem::new(Code::Unsupported, message).hint("install the same version on all hosts of a cluster"))
}
