//! What the user wrote, key by key: machines and what every kind of them has.
//!
//! Pure data. The kinds are in `model_libvirt`, `model_docker`; clones in `model_scaling`.

use std::{collections::BTreeMap, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    model_docker::{Android, Docker},
    model_libvirt::Libvirt,
    model_network::{Impairment, Labels},
    node::Mark,
    reader::Spanned,
};
use crate::{
    addr::Mac,
    names::{GuestName, HostName, NetworkName},
};

/// A guest. Exactly one of `micro`, `libvirt`, `docker` and `android` says what it boots.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Machine {
    /// Its name: letters, digits and `-`, at most 50.
    #[schemars(length(min = 1, max = 50), regex(pattern = r"^[A-Za-z0-9]([-_A-Za-z0-9]*[A-Za-z0-9])?$"))]
    pub name: Spanned<GuestName>,
    /// Its interfaces: eth0, eth1, … in this order.
    #[serde(default)]
    pub network: Vec<Interface>,
    /// Its interfaces, in the older `bridges` form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<BridgeInterface>,
    /// A tiny guest that boots the built-in kernel and initramfs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro: Option<Micro>,
    /// A virtual machine with a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub libvirt: Option<Libvirt>,
    /// A container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker: Option<Docker>,
    /// An Android emulator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub android: Option<Android>,
    /// Guests that must be ready before it starts; the name of a scaled machine means all its clones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMore")]
    pub depends_on: Vec<Spanned<GuestName>>,
    /// When it counts as ready; `up` ends when all guests are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// Where it may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// What it may use of its host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Free words, to find it by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, super::model_docker::Text>")]
    pub labels: Labels,
    /// Where it stands in the file.
    #[serde(skip)]
    #[schemars(skip)]
    pub at: Mark,
    /// Where the key of its kind stands.
    #[serde(skip)]
    #[schemars(skip)]
    pub kind_at: Mark,
    /// How many values it has in the file, those of `scaling` apart: what a clone of it takes.
    #[serde(skip)]
    #[schemars(skip)]
    pub size: usize,
    /// Some of its interfaces could not be read: what follows from the others alone is not judged.
    #[serde(skip)]
    #[schemars(skip)]
    pub misread: bool,
    /// Which clone of a scaled machine it is.
    #[serde(skip)]
    #[schemars(skip)]
    pub clone_of: Option<CloneOf>,
}

/// A clone of a scaled machine, and what is its own.
#[derive(Debug, Clone, PartialEq)]
pub struct CloneOf {
    /// The machine.
    pub machine: Spanned<GuestName>,
    /// Counts from 0.
    pub id: u32,
    /// It is made from a golden image.
    pub shared: bool,
    /// Run once in it, in this order.
    pub setup: Vec<Spanned<String>>,
    /// Run at the end of every `up`, in this order.
    pub run: Vec<Spanned<String>>,
}

/// An interface of a guest.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Interface {
    /// The switch it is plugged into.
    pub switch: Spanned<NetworkName>,
    /// An address of the switch's subnet, or `dynamic` (the default).
    #[serde(default)]
    pub ip: Option<Spanned<IpChoice>>,
    /// The default gateway. With `dynamic` the DHCP rule gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub gateway: Option<Spanned<IpAddr>>,
    /// Its MAC address; generated, and the same in every run, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Spanned<Mac>>,
    /// Conditions of its link; the switch's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impairment: Option<Impairment>,
    /// Where it stands in the file.
    #[serde(skip)]
    #[schemars(skip)]
    pub at: Mark,
    /// The form of the file leaves every address to the testbed, so that there is nothing to say about it.
    #[serde(skip)]
    #[schemars(skip)]
    pub assigned: bool,
}

/// An interface of a guest in the older `bridges` form.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct BridgeInterface {
    /// The bridge it is plugged into.
    pub bridge: Spanned<NetworkName>,
    /// Its MAC address; generated, and the same in every run, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Spanned<Mac>>,
    /// Where it stands in the file.
    #[serde(skip)]
    #[schemars(skip)]
    pub at: Mark,
}

/// `dynamic` or an address without a mask.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum IpChoice {
    /// From the switch's DHCP rule, or else chosen by the testbed.
    Dynamic,
    /// This one.
    Address(IpAddr),
}

impl Serialize for IpChoice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            IpChoice::Dynamic => serializer.serialize_str("dynamic"),
            IpChoice::Address(address) => serializer.collect_str(address),
        }
    }
}

impl JsonSchema for IpChoice {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IpChoice".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "anyOf": [{"const": "dynamic"}, {"format": "ipv4"}, {"format": "ipv6"}]})
    }
}

/// A guest without a disk: built-in kernel and initramfs, ready in about 3 s even without KVM.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Micro {
    /// Virtual CPUs; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512))]
    pub cpus: Option<Spanned<u64>>,
    /// Memory in MiB; 128 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 96, max = 4194304))]
    pub memory_mb: Option<Spanned<u64>>,
    /// Variables in the guest's environment, also through `/etc/nocloud/env.sh KEY`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    #[schemars(with = "BTreeMap<String, super::model_docker::Text>")]
    pub environment: BTreeMap<String, Spanned<String>>,
    /// A script that runs once, after the first boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_script: Option<Spanned<String>>,
    /// A script that runs at the end of every `up`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_script: Option<Spanned<String>>,
    /// Test services and their TCP ports: `http: 80` serves a page.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub services: BTreeMap<String, Spanned<u64>>,
}

/// When a guest counts as ready: one condition, and a limit.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ready {
    /// `true`: its guest agent answers; `false`: it runs.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<bool>")]
    pub agent: (),
    /// `true`: something listens on the port of SSH (22) in it.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<bool>")]
    pub ssh: (),
    /// Something listens on this TCP port in it.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<u16>", range(min = 1, max = 65535))]
    pub tcp: (),
    /// A GET of this is answered with a status from 200 to 399 in it: a port, a port and a path, or an URL of `localhost`.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<super::model_docker::Text>")]
    pub http: (),
    /// Its serial console has said this text.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<String>")]
    pub log: (),
    /// The limit in seconds; 300 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_s: Option<Spanned<u64>>,
    /// What is waited for.
    #[serde(skip)]
    #[schemars(skip)]
    pub condition: Option<Spanned<ReadyCondition>>,
}

/// A fact about a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadyCondition {
    /// It runs.
    Running,
    /// Its guest agent answers.
    Agent,
    /// Something listens on this TCP port in it.
    Tcp(u16),
    /// A GET in it is answered with a status from 200 to 399.
    Http {
        /// The port.
        port: u16,
        /// The path, beginning with `/`.
        path: String,
    },
    /// Its serial console has said this.
    Log(String),
}

/// The port of SSH (RFC 4250 section 4.1).
pub const SSH_PORT: u16 = 22;

impl std::fmt::Display for ReadyCondition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReadyCondition::Running => f.write_str("the domain runs"),
            ReadyCondition::Agent => f.write_str("the guest agent answers"),
            ReadyCondition::Tcp(SSH_PORT) => f.write_str("the SSH server listens"),
            ReadyCondition::Tcp(port) => write!(f, "something listens on TCP port {port}"),
            ReadyCondition::Http { port, path } => write!(f, "http://localhost:{port}{path} answers"),
            ReadyCondition::Log(text) => write!(f, "the console says `{text}`"),
        }
    }
}

/// Where a guest may run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Placement {
    /// The host; `main` and `master` both name the master.
    pub host: Option<Spanned<HostName>>,
    /// Guests on whose host it stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMore")]
    pub near: Vec<Spanned<GuestName>>,
    /// Guests on whose hosts it does not stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMore")]
    pub apart: Vec<Spanned<GuestName>>,
    /// How many virtual CPUs it counts for when the least loaded host is looked for; its `cpus` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<Spanned<u64>>,
}

/// One name, or a list of them.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum OneOrMore {
    /// One.
    One(String),
    /// Several.
    More(Vec<String>),
}

/// What a guest may use of its host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Resources {
    /// Its weight where processors are scarce; 1024 is usual (cgroup `cpu.shares`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 262144))]
    pub cpu_shares: Option<Spanned<u64>>,
    /// Memory in MiB that is not taken from it where memory is scarce.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4194304))]
    pub memory_low_mb: Option<Spanned<u64>>,
    /// The most memory in MiB that it may use, the emulator's own included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4194304))]
    pub memory_max_mb: Option<Spanned<u64>>,
    /// The most reads and writes of its disks in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000000))]
    pub disk_iops: Option<Spanned<u64>>,
    /// Where the key stands.
    #[serde(skip)]
    #[schemars(skip)]
    pub at: Mark,
}
