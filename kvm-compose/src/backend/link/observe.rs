//! Looking at links: what the devices, the bridge and the relay say of each, as one fact.
//!
//! A link is there when any part of it is; it is whole when all are. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use testbedos_relay::wire::{self, LinkState};
use uuid::Uuid;

use super::{Links, device, from_wire, plug, relay};
use crate::{
    api::link::{LinkMeasured, LinkMeasuredDirection, LinkProbe, LinkTraffic},
    error::Problem,
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
        let ports: BTreeSet<Uuid> = plugged.chain(devices.iter().copied()).chain(served.keys().copied()).collect();
        let observed = |port: Uuid| {
            let name = device::name_of(port);
            let state = served.get(&port);
            let fault = match (state, seen.ours(&name)) {
                (None, _) if !runs => Some("its relay does not run".to_string()),
                (None, _) => Some("its relay does not know it".to_string()),
                (Some(state), _) if state.fault.is_some() => state.fault.clone(),
                (Some(_), None) => Some(format!("it is not plugged into `{}`", self.bridge)),
                (Some(_), Some(_)) if seen.plugged(port, &name).is_some() => Some("its guest was started anew".to_string()),
                (Some(_), Some(_)) => (!devices.contains(&port)).then(|| format!("the device `{name}` is missing")),
            };
            ObservedLink { port, device: name, shape: state.map(|state| from_wire(&state.shape)).unwrap_or_default(), fault }
        };
        Ok(ports.into_iter().map(observed).collect())
    }

    /// What the relay counted on a link's passing frames, and with `probe` what its own frames met. Nothing for a plain link.
    pub fn measure(&self, port: Uuid, probe: bool) -> Result<Option<LinkMeasured>, Problem> {
        let Some(links) = relay::links(&self.relay_folder())? else { return Ok(None) };
        let Some(state) = links.into_iter().find(|state| port_of(state) == Some(port)) else { return Ok(None) };
        let probed = if probe { Some(relay::probe(&self.relay_folder(), &state.link.device)?) } else { None };
        Ok(Some(LinkMeasured {
            to_guest: measured(probed.map(|probed| probed.to_guest), &state.to_guest),
            from_guest: measured(probed.map(|probed| probed.from_guest), &state.from_guest),
        }))
    }

    fn devices(&self) -> Result<BTreeSet<Uuid>, Problem> {
        let installation = self.owner.installation.to_string();
        let ours =
            device::all()?.into_iter().filter(|found| found.installation == installation && found.deployment == self.owner.deployment);
        Ok(ours.map(|found| found.port).collect())
    }
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
        delay_ms: lately.delay_ms,
        peak_mbit: lately.peak_mbit,
    };
    LinkMeasuredDirection { probed, traffic }
}

/// The port whose link it is, from the first word of what the relay calls it.
fn port_of(state: &LinkState) -> Option<Uuid> {
    Uuid::parse_str(state.link.label.split_whitespace().next()?).ok()
}
