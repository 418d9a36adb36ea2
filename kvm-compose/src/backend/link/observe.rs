//! Looking at links: what the devices, the bridge and the relay say of each, as one fact.
//!
//! A link is there when any part of it is; it is whole when all are. Changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use testbedos_relay::wire::{self, LinkState};
use uuid::Uuid;

use super::{Links, device, from_wire, kernel, plug, relay};
use crate::{
    api::link::{LinkMeasured, LinkMeasuredDirection, LinkProbe, LinkTraffic},
    error::Problem,
    orchestrate::host::Cancel,
    plan::link::ObservedLink,
};

impl Links {
    /// Links of the deployment that are there on this host, whole or in parts.
    pub fn observe(&self) -> Result<Vec<ObservedLink>, Problem> {
        let devices = self.devices()?;
        let seen = plug::look(&mut self.database.open()?, &self.bridge);
        // Without a bridge there are no ports in it; that it is missing is told by whoever needs it.
        let seen = match seen {
            Err(problem) if devices.is_empty() => {
                tracing::debug!(%problem, "no bridge, no links");
                return Ok(Vec::new());
            }
            other => other?,
        };
        let served = relay::links(&self.relay_folder())?;
        let runs = served.is_some();
        let served: BTreeMap<Uuid, LinkState> = served.into_iter().flatten().filter_map(|state| Some((port_of(&state)?, state))).collect();
        let plugged =
            seen.plugs.iter().filter(|plug| device::is_ours(&plug.name) && plug.is_of(&self.owner)).filter_map(plug::Plug::iface_id);
        let by_kernel = |port: Uuid| {
            let plug = seen.plugged(port, &device::name_of(port)).filter(|plug| plug.is_of(&self.owner))?;
            Some((plug.name.clone(), plug.noted()?))
        };
        let noted = seen.plugs.iter().filter(|plug| plug.is_of(&self.owner) && plug.noted().is_some()).filter_map(plug::Plug::iface_id);
        let plugged = plugged.chain(noted);
        let ports: BTreeSet<Uuid> = plugged.chain(devices.iter().copied()).chain(served.keys().copied()).collect();
        let observed = |port: Uuid| {
            let name = device::name_of(port);
            let state = served.get(&port);
            if let (None, None, Some((device, noted))) = (state, seen.ours(&name), by_kernel(port)) {
                let fault = (!noted.done).then(|| "its change was cut short".to_string());
                return ObservedLink { port, device, shape: noted.shape, fault };
            }
            let fault = match (state, seen.ours(&name)) {
                (None, _) if !runs => Some("its relay does not run".to_string()),
                (None, _) => Some("its relay does not know it".to_string()),
                (Some(state), _) if state.fault.is_some() => state.fault.clone(),
                (Some(_), None) => Some(format!("it is not plugged into `{}`", self.bridge)),
                (Some(_), Some(ours)) if ours.iface_id() != Some(port) => Some(format!("`{name}` has lost the id of its port")),
                (Some(_), Some(_)) if seen.plugged(port, &name).is_some() => Some("its guest was started anew".to_string()),
                (Some(_), Some(_)) => (!devices.contains(&port)).then(|| format!("the device `{name}` is missing")),
            };
            ObservedLink { port, device: name, shape: state.map(|state| from_wire(&state.shape)).unwrap_or_default(), fault }
        };
        Ok(ports.into_iter().map(observed).collect())
    }

    /// What the relay counted on a link's passing frames, and with `probe` what its own frames met. Nothing for a plain link.
    pub fn measure(&self, port: Uuid, probe: bool) -> Result<Option<LinkMeasured>, Problem> {
        let seen = plug::look(&mut self.database.open()?, &self.bridge)?;
        if let Some(plug) = seen.plugged(port, &device::name_of(port)).filter(|plug| plug.is_of(&self.owner) && plug.noted().is_some()) {
            return by_kernel(&plug.name, port, probe).map(Some);
        }
        let Some(links) = relay::links(&self.relay_folder())? else { return Ok(None) };
        let Some(state) = links.into_iter().find(|state| port_of(state) == Some(port)) else { return Ok(None) };
        let probed = if probe { Some(relay::probe(&self.relay_folder(), &state.link.device)?) } else { None };
        Ok(Some(LinkMeasured {
            to_guest: measured(probed.map(|probed| probed.to_guest), &state.to_guest),
            from_guest: measured(probed.map(|probed| probed.from_guest), &state.from_guest),
        }))
    }

    /// The devices that guests themselves are plugged by, port by port, also where a shaped link stands between them and the
    /// bridge: what passes there is what the guest sends and gets. Ports without one are left out.
    pub fn taps(&self, ports: &[Uuid]) -> Result<BTreeMap<Uuid, String>, Problem> {
        let seen = plug::look(&mut self.database.open()?, &self.bridge)?;
        let tap = |port: Uuid| {
            let device = device::name_of(port);
            let own = seen.plugged(port, &device).map(|plug| plug.name.clone());
            own.or_else(|| seen.ours(&device).and_then(plug::Plug::live_tap).map(|tap| tap.name))
        };
        Ok(ports.iter().filter_map(|port| Some((*port, tap(*port)?))).collect())
    }

    fn devices(&self) -> Result<BTreeSet<Uuid>, Problem> {
        let installation = self.owner.installation.to_string();
        let ours =
            device::all()?.into_iter().filter(|found| found.installation == installation && found.deployment == self.owner.deployment);
        Ok(ours.map(|found| found.port).collect())
    }
}

/// The kernel sends no probes; its queues count what passes, over a second when there is time for it.
fn by_kernel(tap: &str, port: Uuid, wait: bool) -> Result<LinkMeasured, Problem> {
    const WAIT: Duration = Duration::from_secs(1);
    let (to, from) = kernel::counts(tap, port)?;
    let (mut later, mut seconds) = ((to, from), 0);
    if wait {
        Cancel::new().wait(WAIT);
        (later, seconds) = (kernel::counts(tap, port)?, 1);
    }
    let direction = |before: kernel::Counts, after: kernel::Counts| {
        let (passed, dropped) = (after.packets.saturating_sub(before.packets), after.dropped.saturating_sub(before.dropped));
        let all = (passed + dropped).max(1) as f64;
        let traffic = LinkTraffic {
            packets: after.packets + after.dropped,
            bytes: after.bytes,
            // The kernel counts what it loses by chance and what finds no room together.
            lost: 0,
            dropped: after.dropped,
            seconds,
            loss_percent: 100.0 * dropped as f64 / all,
            delay_ms: None,
            peak_mbit: after.bytes.saturating_sub(before.bytes) as f64 * 8.0 / 1e6,
        };
        LinkMeasuredDirection { probed: None, traffic }
    };
    Ok(LinkMeasured { to_guest: direction(to, later.0), from_guest: direction(from, later.1) })
}

fn measured(probed: Option<wire::Measured>, traffic: &wire::Traffic) -> LinkMeasuredDirection {
    let probed = probed.map(|found| LinkProbe {
        frames: found.frames,
        delay_ms: found.delay_ms,
        jitter_ms: found.jitter_ms,
        loss_percent: found.loss_percent,
        duplicate_percent: found.duplicate_percent,
        reorder_percent: found.reorder_percent,
        rate_mbit: found.rate_mbit,
    });
    let wire::Traffic { total, lately } = traffic;
    let traffic = LinkTraffic {
        packets: total.frames,
        bytes: total.bytes,
        lost: total.lost,
        dropped: total.dropped + total.refused,
        seconds: lately.seconds,
        loss_percent: lately.loss_percent,
        delay_ms: Some(lately.delay_ms),
        peak_mbit: lately.peak_mbit,
    };
    LinkMeasuredDirection { probed, traffic }
}

/// The port whose link it is, from the first word of what the relay calls it.
fn port_of(state: &LinkState) -> Option<Uuid> {
    Uuid::parse_str(state.link.label.split_whitespace().next()?).ok()
}
