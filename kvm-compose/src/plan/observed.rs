//! What is there: the world as far as it carries a deployment's mark, and strangers in its way.
//!
//! Pure data, filled by a host's `observe`, compared by `diff`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    blueprint::{Column, RowKey, Table},
    container::Runtime,
    link::ObservedLink,
    outside::SeenOutside,
};
use crate::names::{GuestName, HostName};

/// What one host (or all of them, merged) has of a deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Rows of the northbound database that carry the deployment's mark.
    pub rows: Vec<ObservedRow>,
    /// Domains that carry it.
    pub domains: Vec<ObservedDomain>,
    /// Files below the deployment's folder that the engine may have made (disks, seeds, console logs).
    pub files: BTreeSet<OnHost<PathBuf>>,
    /// The seeds among the files, with the digests that they bear.
    pub seeds: BTreeSet<OnHost<ObservedSeed>>,
    /// Ports of the integration bridges that belong to one of the deployment's guests.
    pub bridge_ports: Vec<OnHost<BridgePort>>,
    /// Links of guests that are shaped.
    #[serde(default)]
    pub links: Vec<OnHost<ObservedLink>>,
    /// Things of others that hold a name the blueprint needs.
    pub strangers: Vec<Stranger>,
    /// Base files of the blueprint that are missing or unusable.
    pub missing_bases: Vec<MissingBase>,
    /// Images that the blueprint's containers need and that are there: name → id.
    #[serde(default)]
    pub images: Vec<OnHost<SeenImage>>,
    /// Hosts' bridges that the blueprint needs, and the deployment's interfaces of hosts.
    #[serde(default)]
    pub outside: SeenOutside,
    /// Hosts on which Open vSwitch does not run, and why this is known.
    #[serde(default)]
    pub switch_down: BTreeMap<HostName, String>,
    /// Hosts that may have something of the deployment and could not be asked, with the reason.
    pub away: BTreeMap<HostName, String>,
}

/// Something on one of the hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OnHost<T> {
    /// The host.
    pub host: HostName,
    /// What is there.
    pub what: T,
}

/// A seed that is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObservedSeed {
    /// Where it is.
    pub path: PathBuf,
    /// The digest of what it holds; empty when it was not written to its end.
    pub digest: String,
}

/// A base file that cannot be used as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingBase {
    /// The host that needs it.
    pub host: HostName,
    /// Where it should be.
    pub path: PathBuf,
    /// Why it cannot be used.
    pub why: String,
}

impl Observed {
    /// True when nothing is there, as far as every host that matters has answered.
    pub fn is_nothing(&self) -> bool {
        let network = self.rows.is_empty() && self.bridge_ports.is_empty() && self.outside.internals.is_empty();
        network && self.domains.is_empty() && self.files.is_empty() && self.links.is_empty() && self.away.is_empty()
    }

    /// True when a file is there.
    pub fn has_file(&self, host: &HostName, path: &Path) -> bool {
        self.files.contains(&OnHost { host: host.clone(), what: path.to_path_buf() })
    }

    /// The id of an image, when it is there.
    pub fn image(&self, host: &HostName, name: &str) -> Option<&str> {
        self.images.iter().find(|image| &image.host == host && image.what.name == name).map(|image| image.what.id.as_str())
    }

    /// The digest that a seed bears, when it is there.
    pub fn seed(&self, host: &HostName, path: &Path) -> Option<&str> {
        let first = OnHost { host: host.clone(), what: ObservedSeed { path: path.to_path_buf(), digest: String::new() } };
        let found = self.seeds.range(&first..).next().filter(|seed| &seed.host == host && seed.what.path == path);
        found.map(|seed| seed.what.digest.as_str())
    }

    /// Adds what another host has.
    pub fn merge(&mut self, other: Observed) {
        self.rows.extend(other.rows);
        self.domains.extend(other.domains);
        self.files.extend(other.files);
        self.seeds.extend(other.seeds);
        self.bridge_ports.extend(other.bridge_ports);
        self.links.extend(other.links);
        self.strangers.extend(other.strangers);
        self.missing_bases.extend(other.missing_bases);
        self.images.extend(other.images);
        self.outside.merge(other.outside);
        self.switch_down.extend(other.switch_down);
        self.away.extend(other.away);
    }
}

/// A row with our mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedRow {
    /// The database's id of the row.
    pub uuid: Uuid,
    /// Our key, from `external_ids`.
    pub key: RowKey,
    /// Its table.
    pub table: Table,
    /// All columns that any blueprint may manage, references turned into keys (a reference to a row that is not ours
    /// is the key `?<uuid>`).
    pub columns: BTreeMap<String, Column>,
    /// Which of our rows lists it.
    pub parent: Option<RowKey>,
}

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeenImage {
    /// The image, as the testbed file names it.
    pub name: String,
    /// What the name leads to now.
    pub id: String,
}

/// What runs a guest and carries our mark: a domain, or a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedDomain {
    /// libvirt's name.
    pub name: String,
    /// libvirt's UUID.
    pub uuid: Uuid,
    /// The guest it is.
    pub guest: GuestName,
    /// The host it stands on.
    pub host: HostName,
    /// The digest in its metadata.
    pub digest: String,
    /// True when it has a process: running, paused or shutting down.
    pub active: bool,
    /// libvirt's word for its state (virsh(1) `domstate`): running, paused, shut off, crashed, …
    pub state: String,
    /// True when its guest agent answered just now.
    pub agent: bool,
    /// Digests of the scripts that have run in it since it was made; empty without an agent.
    pub scripts: BTreeSet<String>,
    /// Memory in MiB, by its definition.
    pub memory_mb: u64,
    /// Virtual CPUs, by its definition.
    pub cpus: u32,
    /// The network configuration that it took up last, from its metadata.
    pub network: String,
    /// Its NICs, those that it runs with and those that it is defined with.
    pub nics: Vec<ObservedNic>,
    /// The ports of those of them whose link was taken down: the guest sees no carrier.
    #[serde(default)]
    pub down: BTreeSet<Uuid>,
    /// What runs it.
    #[serde(default)]
    pub runtime: Runtime,
    /// The id of a container's image.
    #[serde(default)]
    pub image: String,
}

impl ObservedDomain {
    /// `interfaceid`s of its NICs.
    pub fn ports(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.nics.iter().filter_map(|nic| nic.port)
    }
}

/// A NIC of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedNic {
    /// libvirt's alias; empty when nobody but libvirt gave it one.
    pub alias: String,
    /// Its MAC address.
    pub mac: String,
    /// The OVN port, when it is plugged into one.
    pub port: Option<Uuid>,
    /// The running guest has it.
    pub live: bool,
    /// It is part of the definition, so that the next start brings it back.
    pub defined: bool,
    /// libvirt's element for it.
    pub xml: String,
}

/// A port of the integration bridge (a row of Open vSwitch's `Interface` table).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BridgePort {
    /// The bridge.
    pub bridge: String,
    /// The interface's name.
    pub name: String,
    /// `external_ids:iface-id`: the OVN port it is.
    pub iface_id: String,
    /// `external_ids:vm-id`: the domain libvirt plugged it for.
    pub vm_id: Option<Uuid>,
}

/// Something without our mark that holds a name we need.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stranger {
    /// `domain`, `port`, …
    pub kind: String,
    /// The name it holds.
    pub name: String,
    /// How to tell whose it is, or how to remove it.
    pub hint: String,
    /// The installation that made it, when it is a testbed's.
    #[serde(default)]
    pub installation: Option<String>,
    /// The deployment that has an address outside, when that is what it holds.
    #[serde(default)]
    pub deployment: Option<String>,
}

impl Stranger {
    /// A thing that another installation made for a deployment of its own.
    pub fn of_installation(kind: &str, name: &str, installation: &str, deployment: &str) -> Self {
        let hint = format!(
            "it belongs to the deployment `{deployment}` of the testbedos-server with that id (`testbed version --server` prints a server's): \
             take it down there, or give this deployment another name with `--project-name`"
        );
        Stranger { kind: kind.to_string(), name: name.to_string(), hint, installation: Some(installation.to_string()), deployment: None }
    }

    /// An address of a hosts' network that another deployment answers for; `installation` where that is another's too.
    pub fn of_address(address: IpAddr, network: &str, installation: Option<&str>, deployment: &str) -> Self {
        let whose = installation.map_or_else(String::new, |_| " on the testbedos-server with that id".to_string());
        Stranger {
            kind: format!("address of the network `{network}`"),
            name: address.to_string(),
            hint: format!(
                "use another address, or take the deployment `{deployment}` down{whose}: the network outside would believe whichever spoke last"
            ),
            installation: installation.map(str::to_string),
            deployment: Some(deployment.to_string()),
        }
    }

    /// What is taken, and by whom.
    pub fn taken(&self) -> String {
        match (&self.deployment, &self.installation) {
            (Some(deployment), None) => format!("`{}`, an {}, is taken: deployment `{deployment}` has it", self.name, self.kind),
            (Some(deployment), Some(installation)) => {
                format!(
                    "`{}`, an {}, is taken: deployment `{deployment}` of another installation, {installation}, has it",
                    self.name, self.kind
                )
            }
            (None, Some(installation)) => {
                format!("there is a {} named `{}` already: another installation, {installation}, has it", self.kind, self.name)
            }
            (None, None) => format!("there is a {} named `{}` already: it is no testbed's", self.kind, self.name),
        }
    }
}
