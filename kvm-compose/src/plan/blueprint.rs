//! The blueprint: every path, name, XML text, row and argument of a deployment, decided.
//!
//! Pure data. Whoever carries it out has nothing left to decide. Serialised as it is, so that a step can travel to
//! another host.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::container::{Container, Runtime};
use super::golden::Golden;
use super::link::Link;
use super::outside::Outside;
use crate::names::{DeploymentName, GuestName, HostName, InstallationId};
pub use crate::spec::model::{DiskFormat, ReadyCondition};
pub use crate::topology::Readiness;

/// Everything a deployment consists of. The empty one (no rows, no guests) is what `down` aims at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blueprint {
    /// The server that owns all of it.
    pub installation: InstallationId,
    /// The deployment.
    pub deployment: DeploymentName,
    /// The host of the master, which keeps the logical network.
    pub master: HostName,
    /// The deployment's own folder on the master; on each host every file of the blueprint lies below its own.
    pub folder: PathBuf,
    /// The logical network, in an order in which each row's references come before it.
    pub rows: Vec<Row>,
    /// The guests, by name.
    pub guests: Vec<GuestBlueprint>,
    /// The golden images that clones among them rest on; each is made when a clone needs it and it is not there.
    #[serde(default)]
    pub goldens: Vec<Golden>,
    /// Where it leaves OVN: hosts' bridges, and interfaces of hosts.
    #[serde(default)]
    pub outside: Outside,
}

/// One row of OVN's northbound database, as far as we manage it (ovn-nb(5)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What it is within the deployment, such as `switch/lan` or `port/web/0`: unique, and kept in `external_ids`.
    pub key: RowKey,
    /// The table, such as `Logical_Switch`.
    pub table: Table,
    /// The columns we manage; others are left alone.
    pub columns: BTreeMap<String, Column>,
    /// The row and its column that list this one: a port belongs to a switch's `ports`.
    pub parent: Option<(RowKey, String)>,
}

/// A row's name within its deployment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RowKey(pub String);

impl std::fmt::Display for RowKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The tables of the northbound database that hold our rows. All have an `external_ids` column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Table {
    /// A layer-2 segment.
    #[serde(rename = "Logical_Switch")]
    LogicalSwitch,
    /// A port of a switch: a guest's, or the switch's end of a router port.
    #[serde(rename = "Logical_Switch_Port")]
    LogicalSwitchPort,
    /// A layer-3 router.
    #[serde(rename = "Logical_Router")]
    LogicalRouter,
    /// A port of a router.
    #[serde(rename = "Logical_Router_Port")]
    LogicalRouterPort,
    /// A static route of a router.
    #[serde(rename = "Logical_Router_Static_Route")]
    StaticRoute,
    /// What OVN's DHCP server answers on a subnet.
    #[serde(rename = "DHCP_Options")]
    DhcpOptions,
    /// Names and their addresses.
    #[serde(rename = "DNS")]
    Dns,
    /// Ports of an address outside that lead to guests.
    #[serde(rename = "Load_Balancer")]
    LoadBalancer,
    /// A rule for the traffic of a switch.
    #[serde(rename = "ACL")]
    Acl,
    /// How an address changes at a router.
    #[serde(rename = "NAT")]
    Nat,
    /// A host through which a router port's traffic leaves.
    #[serde(rename = "Gateway_Chassis")]
    GatewayChassis,
}

impl Table {
    /// All tables, those without a parent first.
    pub const ALL: &'static [Table] = &[
        Table::LogicalSwitch,
        Table::LogicalRouter,
        Table::DhcpOptions,
        Table::Dns,
        Table::LoadBalancer,
        Table::LogicalSwitchPort,
        Table::LogicalRouterPort,
        Table::StaticRoute,
        Table::Acl,
        Table::Nat,
        Table::GatewayChassis,
    ];

    /// The table's name in the schema.
    pub const fn name(self) -> &'static str {
        match self {
            Table::LogicalSwitch => "Logical_Switch",
            Table::LogicalSwitchPort => "Logical_Switch_Port",
            Table::LogicalRouter => "Logical_Router",
            Table::LogicalRouterPort => "Logical_Router_Port",
            Table::StaticRoute => "Logical_Router_Static_Route",
            Table::DhcpOptions => "DHCP_Options",
            Table::Dns => "DNS",
            Table::LoadBalancer => "Load_Balancer",
            Table::Acl => "ACL",
            Table::Nat => "NAT",
            Table::GatewayChassis => "Gateway_Chassis",
        }
    }
}

/// The value of a column (RFC 7047 section 5.1, reduced to what the northbound tables use).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Column {
    /// One string, or one whole number in digits.
    Text(String),
    /// One boolean.
    Flag(bool),
    /// A set of strings, sorted.
    Set(Vec<String>),
    /// A map of strings.
    Map(BTreeMap<String, String>),
    /// A set of references to other rows of the same deployment, sorted; empty is "none".
    Refs(Vec<RowKey>),
}

/// One guest, decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestBlueprint {
    /// Its name.
    pub name: GuestName,
    /// The host it stands on.
    pub host: HostName,
    /// Why it stands there, for `plan`.
    pub placement: String,
    /// Files that must be there before anything starts: images, kernels.
    pub bases: Vec<Base>,
    /// Its disks.
    pub volumes: Vec<Volume>,
    /// Its NoCloud seed.
    pub seed: Option<Seed>,
    /// What it gets from the project.
    #[serde(default)]
    pub context: Option<Context>,
    /// What runs it; the step that starts it shares it.
    pub domain: Arc<Domain>,
    /// The links of its interfaces, in their order.
    pub links: Vec<Link>,
    /// When it counts as ready.
    pub ready: Readiness,
    /// Guests that must have settled before it starts; they come before it in the blueprint.
    #[serde(default)]
    pub depends_on: Vec<GuestName>,
    /// What runs in it once it is ready, in order.
    pub scripts: Vec<Script>,
}

/// A file that guests start from and never change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Base {
    /// Where it is on the guest's host.
    pub path: PathBuf,
    /// What the host gets it by, when it comes from the master; without one it must be there.
    pub sum: Option<Sum>,
    /// The digest of the golden image that it is: made by a step, fetched by another, and never demanded beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<String>,
}

/// A file's content, by which hosts get it from the master.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sum {
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
}

/// A disk of a guest. The path ends in a digest of the content's origin, so the same path means the same disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Where it is made, below the deployment's folder.
    pub path: PathBuf,
    /// What it is made from; an empty disk is made from nothing.
    pub base: Option<PathBuf>,
    /// The base's format.
    pub base_format: DiskFormat,
    /// A linked clone holds only differences; a deep copy stands alone.
    pub deep_copy: bool,
    /// Its size in bytes, where it is not a base's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grown_to: Option<u64>,
}

/// An ISO 9660 image labelled `cidata` (cloud-init's NoCloud data source). Its path stays the same, so that a running guest
/// finds new content at its next boot; the image bears a digest of what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// Where it is written, below the deployment's folder.
    pub path: PathBuf,
    /// File name → content.
    pub files: BTreeMap<String, String>,
    /// SHA-256 of names and contents, in hexadecimal.
    pub digest: String,
}

/// A file or folder of the project that is in the guest at `/etc/nocloud/context/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Its mark in the guest.
    pub digest: String,
    /// Of the tar stream that is sent.
    pub sum: Sum,
    /// Where the guest's host has it.
    pub from: ContextFrom,
}

/// Where a host has what it sends to a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextFrom {
    /// In the project.
    Tree(PathBuf),
    /// Packed, as it came from the master.
    Packed(PathBuf),
}

/// The seed's file with the network configuration (cloud-init's name for it).
pub const NETWORK_CONFIG: &str = "network-config";

/// What runs a guest: a persistent libvirt domain, or a container in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// libvirt's name.
    pub name: String,
    /// libvirt's UUID.
    pub uuid: Uuid,
    /// The guest it is.
    pub guest: GuestName,
    /// The whole XML, our metadata included (but for the operation, which the executor puts in `{operation}`'s place).
    pub xml: String,
    /// SHA-256 of what a running guest cannot take up: its definition without NICs, and its seed without the network
    /// configuration, in hexadecimal. Kept in the metadata and compared by `diff`.
    pub digest: String,
    /// Its NICs. Each can be plugged and unplugged while the guest runs.
    pub nics: Vec<NicDevice>,
    /// The network configuration that the guest takes up when it boots, or later through its agent. Kept in the metadata.
    pub network: String,
    /// Where libvirt writes what the guest's serial console says.
    pub console_log: PathBuf,
    /// Memory in MiB, for placement and `ps`.
    pub memory_mb: u64,
    /// Virtual CPUs.
    pub cpus: u32,
    /// The most memory in MiB that it may use with its emulator. Set when it has been made: in its XML libvirt would take it for
    /// a wish to lock all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max_mb: Option<u64>,
    /// It is made paused and runs once those that start with it are made: where QEMU translates, guests that boot would
    /// starve those that start.
    pub paced: bool,
    /// The container, when it is one: then `xml` and `network` are empty, a NIC's `xml` is an [`Interface`] as JSON, and
    /// `console_log` is a file that only says that there is a container.
    ///
    /// [`Interface`]: super::container::Interface
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Box<Container>>,
}

impl Domain {
    /// What runs it.
    pub fn runtime(&self) -> Runtime {
        if self.container.is_some() { Runtime::Docker } else { Runtime::Libvirt }
    }

    /// Names of the OVN ports it plugs, which are the `interfaceid`s of its NICs.
    pub fn ports(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.nics.iter().map(|nic| nic.port)
    }
}

/// A NIC of a domain, as libvirt plugs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicDevice {
    /// Its alias in libvirt, which ends in a digest of the device: the same alias is the same device.
    pub alias: String,
    /// Its name in the guest.
    pub name: String,
    /// Its MAC address.
    pub mac: String,
    /// The OVN port.
    pub port: Uuid,
    /// libvirt's element for it.
    pub xml: String,
}

/// How the file ends that says, below `console`, that there is a container: whoever finds one must ask Docker.
pub const CONTAINER_NOTE: &str = ".container";

/// How every alias of a NIC that we made begins (libvirt demands `ua-` of names that it has not given itself).
pub const NIC_ALIAS: &str = "ua-nic-";

/// The text in `Domain::xml` that the executor replaces by the operation's uuid.
pub const OPERATION_MARK: &str = "{operation}";

/// The XML namespace of our element in a domain's `<metadata>`.
pub const METADATA_NAMESPACE: &str = "https://testbedos.dev/xmlns/domain/1";

/// A script that must have run in a guest. Its mark in the guest is its digest: "has run" is asked, never remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// `setup` or `run`.
    pub kind: ScriptKind,
    /// The file's name, for messages.
    pub name: String,
    /// The text.
    pub content: String,
    /// SHA-256 of kind, content and environment, in hexadecimal.
    pub digest: String,
    /// The limit, in seconds.
    pub timeout_s: u64,
}

/// When a script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptKind {
    /// Once in a guest's life.
    Setup,
    /// At the end of every `up`.
    Run,
}
