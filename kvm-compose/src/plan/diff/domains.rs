//! Observed domains by what they are asked for, so that comparing thousands of guests looks at each domain once.
//!
//! Pure.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{
    names::{GuestName, HostName},
    plan::observed::{Observed, ObservedDomain},
};

/// Observed domains by guest, by id and by port.
pub(super) struct Domains<'a> {
    guests: BTreeMap<&'a GuestName, Vec<&'a ObservedDomain>>,
    ids: BTreeMap<(&'a HostName, Uuid), &'a ObservedDomain>,
    ports: BTreeMap<(&'a HostName, Uuid), &'a ObservedDomain>,
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
        Domains { guests, ids, ports }
    }

    /// A guest's domains: more than one while it moves.
    pub(super) fn of(&self, guest: &GuestName) -> Vec<&'a ObservedDomain> {
        self.guests.get(guest).cloned().unwrap_or_default()
    }

    /// Whose a port of a host's bridge is.
    pub(super) fn owner(&self, host: &HostName, id: Option<Uuid>, port: Option<Uuid>) -> Option<&'a ObservedDomain> {
        let by_id = id.and_then(|id| self.ids.get(&(host, id)));
        by_id.or_else(|| port.and_then(|port| self.ports.get(&(host, port)))).copied()
    }
}
