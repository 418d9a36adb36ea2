//! Links of guests: what stands between a guest's TAP device and the integration bridge when the testbed file asks for delay,
//! loss or a rate.
//!
//! ```text
//! plain:   QEMU ── vnetN ── br-int                 libvirt has plugged it
//! shaped:  QEMU ── vnetN ── relay ── tblX ── br-int     one transaction takes the one off and puts the other there
//! ```
//!
//! Where the kernel can do what is asked ([`kernel`]: netem, or a token bucket for a rate alone towards the guest), it does, on
//! `vnetN` in its own place, and no relay is needed.
//!
//! `tblX` has the same `iface-id`, so for OVN the guest's port has not moved. One relay (`testbedos-relay`) serves all links of
//! a deployment on a host, and outlives the server. All three parts carry our mark: the device its alias, the port its
//! `external_ids`, the relay its arguments. Each step looks at what is there first, so it can be repeated after a crash at any
//! point. Must not know the testbed file or libvirt.

mod device;
mod kernel;
mod observe;
mod plug;
mod relay;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use testbedos_relay::wire;
use uuid::Uuid;

pub use device::{index_of as device_index, is_ours as is_link_device};
pub use relay::running;

use super::Owner;
use crate::{
    backend::network::ovsdb::Database,
    error::{Code, Problem},
    orchestrate::host::Cancel,
    topology::{Conditions, Shape},
};

/// How long OVN may take to notice that a port is another device.
const CLAIM_LIMIT: Duration = Duration::from_secs(10);

/// The links of one deployment on this host.
pub struct Links {
    owner: Owner,
    /// The deployment's folder.
    folder: PathBuf,
    database: Database,
    bridge: String,
}

/// A link that is to be shaped.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The OVN port of the guest's interface.
    pub port: Uuid,
    /// What people call it: `web:eth0`.
    pub label: String,
    /// What the link does to frames.
    pub shape: &'a Shape,
    /// The guest's TAP device and its MAC address, as libvirt has them: for a port that is lost.
    pub known: Option<(String, String)>,
}

impl Links {
    /// The links of a deployment whose folder is `folder`, on `bridge` of the Open vSwitch behind `socket`.
    pub fn new(owner: Owner, folder: &Path, socket: &Path, bridge: &str) -> Self {
        Links { owner, folder: folder.to_path_buf(), database: Database::switch(socket), bridge: bridge.to_string() }
    }

    /// Makes a link do this to frames; it may do so already, or something else.
    pub fn shape(&self, wanted: &Wanted<'_>, cancel: &Cancel) -> Result<(), Problem> {
        let device = device::name_of(wanted.port);
        let mut session = self.database.open()?;
        let seen = plug::look(&mut session, &self.bridge)?;
        let tap = match (seen.plugged(wanted.port, &device), seen.ours(&device).and_then(plug::Plug::live_tap), &wanted.known) {
            (Some(plug), _, _) => plug.as_tap()?,
            (None, Some(tap), _) => tap,
            (None, None, Some((name, mac))) => plug::Tap::named(name, mac)?,
            (None, None, None) => {
                return Err(Problem::new(Code::Link, format!("`{}` has no TAP device on `{}`", wanted.label, self.bridge))
                    .hint("its guest does not run, or lost its port; `testbed up` starts it"));
            }
        };
        let alias = device::alias(&self.owner, wanted.port);
        let abilities = kernel::abilities(plug::is_kernels(&mut session, &self.bridge)?, cancel);
        if let Some(commands) = kernel::commands(wanted.shape, &tap.name, wanted.port, &alias, abilities) {
            return self.shape_by_kernel(wanted, &tap.name, &commands, cancel);
        }
        if seen.plugged(wanted.port, &device).is_some_and(|plug| plug.noted().is_some()) {
            kernel::clear(&tap.name, wanted.port, cancel)?;
        }
        device::ensure(&device, &tap.name, &alias, cancel)?;
        let link = wire::Link {
            device: device.clone(),
            tap: tap.name.clone(),
            tap_index: tap.index,
            label: format!("{} {}", wanted.port, wanted.label),
        };
        relay::add(&self.relay_folder(), &self.owner, &link, to_wire(wanted.shape), cancel)?;
        if plug::insert(&mut session, &seen, &self.owner, wanted.port, &device, &tap)? {
            self.await_claim(&mut session, &device, &wanted.label, cancel)?;
        }
        Ok(())
    }

    /// Has the kernel do it, on the guest's own device in its own place.
    fn shape_by_kernel(&self, wanted: &Wanted<'_>, tap: &str, commands: &[Vec<String>], cancel: &Cancel) -> Result<(), Problem> {
        let device = device::name_of(wanted.port);
        // A relay that did it before makes room.
        self.unshape_relay(wanted.port, cancel)?;
        let mut session = self.database.open()?;
        let mut note = |done| {
            let seen = plug::look(&mut session, &self.bridge)?;
            let plug = seen.plugged(wanted.port, &device);
            let plug = plug.ok_or_else(|| Problem::new(Code::Link, format!("`{tap}` is not plugged into `{}`", self.bridge)))?;
            plug::note(&mut session, plug, &self.owner, Some(&plug::Noted { shape: *wanted.shape, done }))
        };
        note(false)?;
        kernel::clear(tap, wanted.port, cancel)?;
        kernel::run(commands, &wanted.label, cancel)?;
        note(true)
    }

    /// Makes a link plain again: the guest's own device goes back to its place, if it is still there. Plain already is success.
    pub fn unshape(&self, port: Uuid, cancel: &Cancel) -> Result<(), Problem> {
        let device = device::name_of(port);
        let mut session = self.database.open()?;
        let seen = plug::look(&mut session, &self.bridge)?;
        if let Some((plug, noted)) = seen.plugged(port, &device).and_then(|plug| Some((plug, plug.noted()?))) {
            plug::note(&mut session, plug, &self.owner, Some(&plug::Noted { done: false, ..noted }))?;
            kernel::clear(&plug.name, port, cancel)?;
            plug::note(&mut session, plug, &self.owner, None)?;
        }
        // Its guest may be gone, and the device that the kernel led its packets through still there.
        device::remove(&device::inbound_name_of(port), cancel)?;
        self.unshape_relay(port, cancel)
    }

    fn unshape_relay(&self, port: Uuid, cancel: &Cancel) -> Result<(), Problem> {
        let device = device::name_of(port);
        let mut session = self.database.open()?;
        let seen = plug::look(&mut session, &self.bridge)?;
        if let Some(back) = plug::remove(&mut session, &seen, &self.owner, port, &device)? {
            self.await_claim(&mut session, &back, &back, cancel)?;
        }
        relay::remove(&self.relay_folder(), &device)?;
        device::remove(&device, cancel)
    }

    fn relay_folder(&self) -> PathBuf {
        self.folder.join(RELAY_FOLDER)
    }

    /// Waits until OVN has made the port's flows for the device that stands there now.
    fn await_claim(
        &self,
        session: &mut crate::backend::network::ovsdb::Session,
        device: &str,
        label: &str,
        cancel: &Cancel,
    ) -> Result<(), Problem> {
        let deadline = Instant::now() + CLAIM_LIMIT;
        let mut pause = Duration::from_millis(5);
        while !plug::is_claimed(session, device)? {
            if Instant::now() >= deadline {
                let limit = CLAIM_LIMIT.as_secs();
                return Err(Problem::new(
                    Code::Timeout,
                    format!("OVN has not taken up `{device}`, the port of `{label}`, within {limit} s"),
                )
                .hint("look whether ovn-controller runs: `testbed doctor`"));
            }
            if cancel.wait(pause) {
                cancel.check()?;
            }
            pause = (pause * 2).min(Duration::from_millis(100));
        }
        Ok(())
    }
}

/// The relay's folder within its deployment's.
pub const RELAY_FOLDER: &str = "link";

/// As the relay is told.
fn to_wire(shape: &Shape) -> wire::Shape {
    let direction = |from: &Conditions| wire::Condition {
        delay_us: from.delay_us,
        jitter_us: from.jitter_us,
        loss_ppm: from.loss_ppm,
        duplicate_ppm: from.duplicate_ppm,
        reorder_ppm: from.reorder_ppm,
        rate_kbit: from.rate_kbit.unwrap_or(0),
    };
    wire::Shape { to_guest: direction(&shape.to_guest), from_guest: direction(&shape.from_guest) }
}

/// As the relay tells.
fn from_wire(shape: &wire::Shape) -> Shape {
    let direction = |from: &wire::Condition| Conditions {
        delay_us: from.delay_us,
        jitter_us: from.jitter_us,
        loss_ppm: from.loss_ppm,
        duplicate_ppm: from.duplicate_ppm,
        reorder_ppm: from.reorder_ppm,
        rate_kbit: (from.rate_kbit > 0).then_some(from.rate_kbit),
    };
    Shape { to_guest: direction(&shape.to_guest), from_guest: direction(&shape.from_guest) }
}
