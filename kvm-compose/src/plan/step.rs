//! Steps: what a plan consists of, what each waits for, and its undo.
//!
//! Pure data. A step says everything its host needs; the host decides nothing.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    blueprint::{Base, Column, Context, Domain, NicDevice, Readiness, Row, RowKey, Script, Seed, Table, Volume},
    container::Runtime,
    golden::Kept,
    link::Link,
    observed::BridgePort,
    outside::{InternalPort, Uplink},
};
pub use crate::api::event::Impact;
use crate::{
    names::{GuestName, HostName, NetworkName},
    topology::Shape,
};

/// The difference between a blueprint and the world, as steps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In an order in which each step's needs come before it.
    pub steps: Vec<Step>,
}

impl Plan {
    /// True when the world is as the blueprint wants it.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// One change of the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Unique within the plan, such as `start/web`; also what people see.
    pub id: StepId,
    /// Where it is done.
    pub host: HostName,
    /// What is done.
    pub work: Work,
    /// Steps that must have succeeded before.
    pub needs: Vec<StepId>,
    /// Why, in a few words: `new`, `memory changed`, `no longer in the file`.
    pub reason: String,
    /// What it does to what is there.
    pub impact: Impact,
    /// Every guest it touches.
    pub guests: Vec<GuestName>,
    /// Guests that it does not touch and whose traffic it may change.
    pub traffic: Vec<GuestName>,
    /// What takes it back, when the operation fails later; decided with the step.
    pub undo: Option<Work>,
}

/// A step's name within its plan. Shared: where all wait for all, a plan holds each name many times.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(Arc<str>);

impl StepId {
    /// A step's name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        StepId(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for StepId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is done. Each variant is safe to repeat: ensure present, or ensure absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum Work {
    /// One transaction on the northbound database, then a wait until every chassis has it.
    Network {
        /// What changes.
        change: NetworkChange,
    },
    /// Gets a base file from the master; present already is success.
    FetchBase {
        /// The file.
        base: Base,
    },
    /// Lets a guest that is set up forget who it is, shuts it down, gives its disk the name of a golden image, and removes the
    /// guest; present already is success. The image stays.
    KeepGolden {
        /// The guest and the image.
        kept: Kept,
    },
    /// Has Docker get an image; present already is success. It stays.
    PullImage {
        /// The image, as `docker pull` names it.
        image: String,
    },
    /// Makes a disk; present already is success.
    CreateVolume {
        /// The disk.
        volume: Volume,
    },
    /// Writes a seed; present already with the same content is success.
    WriteSeed {
        /// The seed.
        seed: Seed,
    },
    /// Plugs a NIC into a domain, running or defined or both; plugged already is success.
    AttachNic {
        /// libvirt's name.
        name: String,
        /// libvirt's UUID.
        uuid: Uuid,
        /// The NIC.
        nic: NicDevice,
        /// What runs it.
        #[serde(default)]
        runtime: Runtime,
    },
    /// Unplugs a NIC and waits until the guest has let go of it; absent already is success.
    DetachNic {
        /// libvirt's name.
        name: String,
        /// libvirt's UUID.
        uuid: Uuid,
        /// The NIC.
        nic: NicDevice,
        /// What runs it.
        #[serde(default)]
        runtime: Runtime,
    },
    /// Lets a running guest take up a network configuration, and notes it in the domain's metadata.
    ConfigureNetwork {
        /// The guest.
        guest: GuestName,
        /// libvirt's name.
        name: String,
        /// libvirt's UUID.
        uuid: Uuid,
        /// The whole configuration (network-config, version 2).
        network: String,
        /// The interfaces whose part of it changed.
        links: Vec<String>,
        /// How long its agent is waited for, in seconds; 0 where none is expected. A guest without one is on its own, which is
        /// told.
        agent_s: u64,
    },
    /// Removes a file below the deployment's folder; absent already is success.
    RemoveFile {
        /// The file.
        path: PathBuf,
    },
    /// Defines a domain and starts it. A domain with our mark and the same digest is only started.
    StartDomain {
        /// The domain.
        domain: Arc<Domain>,
    },
    /// Defines a domain and starts it from its saved memory; it stands still until it is resumed.
    LoadDomain {
        /// The domain.
        domain: Arc<Domain>,
        /// The file with its memory.
        memory: PathBuf,
    },
    /// Lets a domain run that stands still, and sets its clock.
    WakeDomain {
        /// The guest.
        guest: GuestName,
        /// libvirt's name.
        name: String,
        /// libvirt's UUID.
        uuid: Uuid,
    },
    /// Stops a domain and keeps its definition: the undo of starting one that was there.
    StopDomain {
        /// libvirt's name.
        name: String,
        /// libvirt's UUID.
        uuid: Uuid,
        /// What runs it.
        #[serde(default)]
        runtime: Runtime,
    },
    /// Asks a guest to shut down, waits for it, and ends it at the limit; its definition stays. Not running already is success.
    ShutDownDomain {
        /// The guest.
        guest: GuestName,
        /// libvirt's name.
        name: String,
        /// libvirt's UUID.
        uuid: Uuid,
        /// How long it has, in seconds; with 0 it is not asked.
        limit_s: u64,
        /// What runs it.
        #[serde(default)]
        runtime: Runtime,
    },
    /// Holds a running guest; held already is success.
    PauseDomain {
        /// libvirt's name.
        name: String,
        /// libvirt's UUID.
        uuid: Uuid,
        /// What runs it.
        #[serde(default)]
        runtime: Runtime,
    },
    /// Lets a guest that is held go on; running already is success.
    ResumeDomain {
        /// libvirt's name.
        name: String,
        /// libvirt's UUID.
        uuid: Uuid,
        /// What runs it.
        #[serde(default)]
        runtime: Runtime,
    },
    /// Stops and undefines a domain with our mark; absent already is success.
    RemoveDomain {
        /// libvirt's name.
        name: String,
        /// libvirt's UUID.
        uuid: Uuid,
        /// What runs it.
        #[serde(default)]
        runtime: Runtime,
    },
    /// Makes a host's bridge to a network of its own; there already is success. It stays.
    SetUpUplink {
        /// The bridge.
        uplink: Uplink,
    },
    /// Makes an interface of the host on the integration bridge, or makes one that is there as it is wanted.
    PlugInternal {
        /// The interface.
        port: InternalPort,
    },
    /// Takes such an interface away; absent already is success.
    UnplugInternal {
        /// Its name in the testbed file.
        name: NetworkName,
        /// The interface.
        interface: String,
    },
    /// Takes a port off the integration bridge that its guest left behind.
    RemoveBridgePort {
        /// The port.
        port: BridgePort,
    },
    /// Makes a guest's link do this to frames, in place; it may be shaped already.
    ShapeLink {
        /// The guest.
        guest: GuestName,
        /// The link.
        link: Link,
        /// What it did before, for the undo; nothing when it was plain or broken.
        before: Option<Shape>,
    },
    /// Makes a guest's link plain again; plain already is success.
    UnshapeLink {
        /// The OVN port.
        port: Uuid,
        /// What people call it: `web:eth0`.
        label: String,
    },
    /// Lets a guest see a carrier, or none.
    SetCarrier {
        /// The guest.
        guest: GuestName,
        /// libvirt's name.
        domain: String,
        /// libvirt's UUID.
        uuid: Uuid,
        /// The interface's name in the guest.
        interface: String,
        /// The OVN port.
        port: Uuid,
        /// A carrier, or none.
        up: bool,
        /// What runs it.
        #[serde(default)]
        runtime: Runtime,
    },
    /// Waits until a guest is ready.
    AwaitReady {
        /// The guest.
        guest: GuestName,
        /// libvirt's name.
        domain: String,
        /// libvirt's UUID.
        uuid: Uuid,
        /// What is waited for, and how long.
        ready: Readiness,
        /// Where the guest's console output is, for the message.
        console_log: PathBuf,
        /// What runs it.
        #[serde(default)]
        runtime: Runtime,
    },
    /// Sends a guest its context through its agent; there already is success.
    SendContext {
        /// The guest.
        guest: GuestName,
        /// libvirt's UUID.
        uuid: Uuid,
        /// What it gets.
        context: Context,
    },
    /// Runs a script in a guest through its agent.
    RunScript {
        /// The guest.
        guest: GuestName,
        /// libvirt's UUID.
        uuid: Uuid,
        /// The script.
        script: Script,
        /// Run it even when its mark says that it has run.
        rerun: bool,
    },
}

/// A change of the northbound database, done in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkChange {
    /// Rows to add. Their references name rows that are there or that are added here.
    pub insert: Vec<Row>,
    /// Columns to set.
    pub update: Vec<RowUpdate>,
    /// Rows to take away.
    pub delete: Vec<RowDelete>,
}

impl NetworkChange {
    /// True when nothing changes.
    pub fn is_empty(&self) -> bool {
        self.insert.is_empty() && self.update.is_empty() && self.delete.is_empty()
    }
}

/// New values of some columns of a row that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowUpdate {
    /// The row.
    pub key: RowKey,
    /// Its table.
    pub table: Table,
    /// Column → value wanted.
    pub to: std::collections::BTreeMap<String, Column>,
    /// Column → value before, for the undo.
    pub from: std::collections::BTreeMap<String, Column>,
    /// It goes from one list to another, as a port goes to another switch: it stays the same row.
    #[serde(default)]
    pub moved: Option<RowMove>,
}

/// From which row's list to which; each a row and its column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowMove {
    /// Where it was.
    pub from: (RowKey, String),
    /// Where it goes.
    pub to: (RowKey, String),
}

/// A row to take away, found by its key and our mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowDelete {
    /// The row.
    pub key: RowKey,
    /// Its table.
    pub table: Table,
    /// The row and its column that list it.
    pub parent: Option<(RowKey, String)>,
    /// What it was, for the undo; nothing when what it was for is gone with it.
    #[serde(default)]
    pub was: Option<Row>,
}
