//! What is known when the verdict is given.
//!
//! Pure data.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{inside::Inside, trace::Traced};
use crate::{api::why::Traffic, error::Place, names::GuestName};

/// Everything that the verdict rests on.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What is sent.
    pub by: Traffic,
    /// Who sends.
    pub from: End,
    /// Who should get it.
    pub to: Target,
    /// What the probe from inside saw.
    pub probe: Probed,
    /// The way there, by OVN's own words.
    pub forward: Option<Traced>,
    /// The way of the answers.
    pub back: Option<Traced>,
    /// Rows of the logical network that are not as the file wants them.
    pub drift: Vec<Drift>,
    /// The file's rules, by switch.
    pub acls: Vec<Rule>,
    /// Addresses outside that routers translate: external address, router.
    pub translated: Vec<(IpAddr, String)>,
    /// What the network carries, in bytes of IP.
    pub mtu: u32,
    /// What of OVN is behind its database.
    pub behind: Option<String>,
}

/// A guest on the way.
#[derive(Debug, Clone)]
pub struct End {
    /// The guest.
    pub guest: GuestName,
    /// libvirt's word for its state; none when there is no domain.
    pub domain: Option<String>,
    /// Its host, when that does not answer, and why.
    pub away: Option<(String, String)>,
    /// What its agent says of it, or why it says nothing.
    pub inside: Result<Inside, String>,
    /// The interface that matters, as the file wants it.
    pub nic: Option<Nic>,
}

/// An interface as the file wants it, and its port as OVN has it.
#[derive(Debug, Clone)]
pub struct Nic {
    /// Its name in the guest.
    pub name: String,
    /// The switch.
    pub switch: String,
    /// Its MAC address.
    pub mac: String,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// The gateway beside the first.
    pub gateway: Option<IpAddr>,
    /// Addresses come from DHCP.
    pub dhcp: bool,
    /// The link loses everything, by the file.
    pub loses_all: bool,
    /// Its key among the rows, `port/a/0`.
    pub key: String,
    /// What the southbound database says of its port; none when it could not be asked.
    pub binding: Option<Binding>,
}

/// A port in the southbound database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binding {
    /// It is there.
    pub present: bool,
    /// It is switched on in the northbound database.
    pub enabled: bool,
    /// The host that has it.
    pub chassis: Option<String>,
    /// Its flows are in place.
    pub up: bool,
}

/// Whom the sender means.
#[derive(Debug, Clone)]
pub struct Target {
    /// As it was asked.
    pub wrote: String,
    /// The address; none for a name that has none.
    pub address: Option<IpAddr>,
    /// The guest behind it.
    pub end: Option<End>,
}

/// What the probe saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// An answer.
    Reached(String),
    /// None.
    Failed(String),
    /// It was not sent.
    NotSent(String),
}

/// A row that is not as the file wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Our key of it, such as `route/r1/10.2.0.0/24/10.9.0.2`.
    pub key: String,
    /// It is missing, else it differs.
    pub missing: bool,
}

/// A rule of the file.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The switch.
    pub switch: String,
    /// `to-lport` or `from-lport`.
    pub direction: String,
    /// Its priority.
    pub priority: u32,
    /// Which traffic.
    pub matches: String,
    /// Where it stands.
    pub at: Option<Place>,
}
