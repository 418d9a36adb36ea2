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
    /// What OVN calls the deployment's switches and routers begins with this and a dot.
    pub deployment: String,
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
    /// Addresses that routers translate, and their own.
    pub translated: Vec<Translated>,
    /// Rows on the file's switches and routers that somebody else has made.
    pub foreign: Vec<Foreign>,
    /// The way out, when the address lies beyond the host.
    pub outside: Option<Outside>,
    /// Routers connect the switches of both ends, or they are one.
    pub joined: bool,
    /// The file is of the form that knows bridges and no routers.
    pub bridges: bool,
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
    /// Its host, when Open vSwitch does not run there, and why this is known.
    pub switch_down: Option<(String, String)>,
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
    /// Of a million packets the link loses so many, in the direction that loses more.
    pub loss_ppm: u32,
    /// The file asks for that; else `link set` did.
    pub loss_by_file: bool,
    /// Why its link passes no frames, if something of it is broken.
    pub link_fault: Option<String>,
    /// A bridge of its host holds an interface with the port's id; none when that could not be asked.
    pub plugged: Option<bool>,
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

/// An address of a router's, and what becomes of packets to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translated {
    /// The address.
    pub address: IpAddr,
    /// The router.
    pub router: String,
    /// What leads from it to a guest.
    pub leads: Leads,
}

/// Where packets to an address of a router's go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// All of them to one guest.
    All,
    /// Those by this protocol and to this port.
    By(Traffic),
    /// None: it is the router's own, or one that only those inside go out under.
    Nothing,
}

/// A row on a switch or router of ours that carries no mark of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Our key of the switch or router.
    pub at: String,
    /// What it is.
    pub kind: ForeignKind,
    /// Its priority; 0 for what has none.
    pub priority: u32,
    /// Which packets it means: an expression, a prefix, an address.
    pub matches: String,
    /// It in words: `policy 1000 …`.
    pub words: String,
    /// The command that takes it away.
    pub remove: String,
}

/// Kinds of rows that people add by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignKind {
    /// A routing policy.
    Policy,
    /// A static route.
    Route,
    /// An address translation.
    Nat,
    /// A rule of a switch.
    Acl,
}

/// The host as the next hop of what leaves the testbed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// The bridge on which it stands.
    pub bridge: String,
    /// Its address there.
    pub host: IpAddr,
    /// It sends on what comes from there, under an address of its own.
    pub masquerade: bool,
    /// A rule of the file gives the sender an address that the outside can answer to.
    pub hidden: bool,
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
