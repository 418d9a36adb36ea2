//! Observed domains by what they are asked for, so that comparing thousands of guests looks at each domain once.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::{
    names::{GuestName, HostName},
    plan::{
        container::Runtime,
        observed::{Observed, ObservedDomain},
    },
};

/// Observed domains by guest, by id and by port.
pub(super) struct Domains<'a> {
    guests: BTreeMap<&'a GuestName, Vec<&'a ObservedDomain>>,
    ids: BTreeMap<(&'a HostName, Uuid), &'a ObservedDomain>,
    ports: BTreeMap<(&'a HostName, Uuid), &'a ObservedDomain>,
    /// Ports that stand in a bridge of a host: a NIC's own, or what a shaped link has put in its place.
    plugged: BTreeSet<(&'a HostName, Uuid)>,
}

impl<'a> Domains<'a> {
    pub(super) fn new(observed: &'a Observed) -> Self {
        let (mut guests, mut ids, mut ports): (BTreeMap<_, Vec<_>>, _, _) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for domain in &observed.domains {
            guests.entry(&domain.guest).or_default().push(domain);
            ids.entry((&domain.host, domain.uuid)).or_insert(domain);
            for port in domain.ports() {
                ports.entry((&domain.host, port)).or_insert(domain);
            }
        }
        let own = observed.bridge_ports.iter().filter_map(|port| Some((&port.host, Uuid::parse_str(&port.what.iface_id).ok()?)));
        let links = observed.links.iter().map(|link| (&link.host, link.what.port));
        Domains { guests, ids, ports, plugged: own.chain(links).collect() }
    }

    /// A guest's domains: more than one while it moves.
    pub(super) fn of(&self, guest: &GuestName) -> Vec<&'a ObservedDomain> {
        self.guests.get(guest).cloned().unwrap_or_default()
    }

    /// Ports of NICs that a running domain has and no bridge of its host: nobody hears them, and OVN waits for them.
    pub(super) fn lost(&self, domain: &ObservedDomain) -> BTreeSet<Uuid> {
        // A container's NICs are live when their ports are.
        let is_looked_at = domain.active && domain.runtime == Runtime::Libvirt;
        let live = domain.nics.iter().filter(|nic| nic.live && is_looked_at).filter_map(|nic| nic.port);
        live.filter(|port| !self.plugged.contains(&(&domain.host, *port))).collect()
    }

    /// Whose a port of a host's bridge is.
    pub(super) fn owner(&self, host: &HostName, id: Option<Uuid>, port: Option<Uuid>) -> Option<&'a ObservedDomain> {
        let by_id = id.and_then(|id| self.ids.get(&(host, id)));
        by_id.or_else(|| port.and_then(|port| self.ports.get(&(host, port)))).copied()
    }
}
