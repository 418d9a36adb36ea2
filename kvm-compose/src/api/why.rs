//! `why`: can one guest reach another, and what stands in the way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{DeploymentName, GuestName};

/// Who wants to reach whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhyRequest {
    /// The guest that wants to.
    pub from: GuestName,
    /// A guest, an address or a DNS name.
    pub to: String,
    /// `icmp` (when absent), `tcp:PORT` or `udp:PORT`.
    #[serde(default)]
    pub by: Traffic,
}

/// What is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^(icmp|(tcp|udp):[0-9]{1,5})$"))]
pub enum Traffic {
    /// Echo requests.
    #[default]
    Icmp,
    /// A TCP connection to a port.
    Tcp(u16),
    /// UDP to a port.
    Udp(u16),
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Traffic::Icmp => f.write_str("icmp"),
            Traffic::Tcp(port) => write!(f, "tcp:{port}"),
            Traffic::Udp(port) => write!(f, "udp:{port}"),
        }
    }
}

impl std::str::FromStr for Traffic {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{}` is none of icmp, tcp:PORT and udp:PORT", crate::names::printable(text));
        if matches!(text, "icmp" | "ping") {
            return Ok(Traffic::Icmp);
        }
        let (kind, port) = text.split_once(':').ok_or_else(wrong)?;
        let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        match kind {
            "tcp" => Ok(Traffic::Tcp(port)),
            "udp" => Ok(Traffic::Udp(port)),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Traffic {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Traffic> for String {
    fn from(traffic: Traffic) -> String {
        traffic.to_string()
    }
}

/// What `why` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhyAnswer {
    /// The deployment.
    pub deployment: DeploymentName,
    /// Who wants to reach whom.
    pub question: WhyRequest,
    /// It can.
    pub reachable: bool,
    /// What stands in the way, in one word; `none` when nothing does.
    pub culprit: Culprit,
    /// The answer, in one sentence.
    pub sentence: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What the answer rests on.
    pub evidence: Vec<String>,
    /// How long it took to find out, in milliseconds.
    pub millis: u64,
}

/// What can stand in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Culprit {
    /// Nothing.
    None,
    /// A guest does not run.
    GuestDown,
    /// A host does not answer.
    HostAway,
    /// A guest's agent does not answer, so nothing can be asked there.
    NoAgent,
    /// A name has no address.
    Name,
    /// An interface is down, in the guest or at its port.
    LinkDown,
    /// An interface has no address.
    NoAddress,
    /// An interface has another address than the network knows.
    WrongAddress,
    /// A guest has no way to the other.
    GuestRoute,
    /// A guest sends through the wrong gateway.
    WrongGateway,
    /// The next hop does not answer.
    GatewaySilent,
    /// A port is missing, switched off, or on no host.
    Port,
    /// A router has no route, or one that the file does not have.
    RouterRoute,
    /// A router lacks a port, a switch is missing, no router joins two switches, or a router has a policy that the file does not have.
    Network,
    /// An address translation is missing or wrong, no rule leads a port in, or the host does not send on what leaves.
    Nat,
    /// A rule drops it.
    Acl,
    /// The network takes the sender for somebody else.
    PortSecurity,
    /// Nothing listens there.
    NotListening,
    /// The other guest itself drops it.
    GuestFirewall,
    /// Packets are too large for the network, or for a guest.
    Mtu,
    /// The link loses most of what it should carry, or passes nothing.
    Loss,
    /// Open vSwitch does not run, or OVN is behind the databases.
    OvnBehind,
    /// It could not be found out.
    Unknown,
}
