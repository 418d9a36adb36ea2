//! Who stands near whom and apart from whom, and what that says of hosts.
//!
//! Pure. A guest's ties are gone through once, however many hosts there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::place::Places;
use crate::{
    names::{GuestName, HostName},
    topology::Guest,
};

/// Who stands near whom and apart from whom, both ways round.
#[derive(Default)]
pub struct Relations<'g> {
    near: BTreeMap<&'g GuestName, BTreeSet<&'g GuestName>>,
    apart: BTreeMap<&'g GuestName, BTreeSet<&'g GuestName>>,
}

impl<'g> Relations<'g> {
    /// The relations of all guests.
    pub fn new(guests: &'g [Guest]) -> Self {
        let mut all = Relations::default();
        for guest in guests {
            for (map, others) in [(&mut all.near, &guest.placement.near), (&mut all.apart, &guest.placement.apart)] {
                for other in others {
                    map.entry(&guest.name).or_default().insert(other);
                    map.entry(other).or_default().insert(&guest.name);
                }
            }
        }
        all
    }

    /// What a guest's relations to those that are placed say of hosts.
    pub fn of<'a>(&self, guest: &GuestName, places: &'a Places) -> Ties<'a>
    where
        'g: 'a,
    {
        let placed = |map: &BTreeMap<&GuestName, BTreeSet<&'g GuestName>>| -> Vec<(&'a GuestName, &'a HostName)> {
            let others = map.get(guest).into_iter().flatten();
            others.filter_map(|other| Some((*other, &places.get(*other)?.host))).collect()
        };
        let near = placed(&self.near);
        let first = near.first().copied();
        let elsewhere = near.iter().copied().find(|(_, host)| first.is_some_and(|(_, there)| there != *host));
        let apart = placed(&self.apart).into_iter().rev().map(|(other, host)| (host, other)).collect();
        Ties { near: first, elsewhere, apart }
    }
}

/// What a guest's relations say of hosts.
pub struct Ties<'a> {
    /// One that it stands near, and where.
    pub near: Option<(&'a GuestName, &'a HostName)>,
    /// Another one, on another host.
    elsewhere: Option<(&'a GuestName, &'a HostName)>,
    /// Where those stand that it stands apart from.
    apart: BTreeMap<&'a HostName, &'a GuestName>,
}

/// Why a guest may not stand on a host.
pub enum Against<'a> {
    /// It stands near this one, which stands there.
    Near(&'a GuestName, &'a HostName),
    /// It stands apart from this one, which stands here.
    Apart(&'a GuestName, &'a HostName),
}

impl<'a> Ties<'a> {
    /// What stands against a host.
    pub fn against(&self, host: &HostName) -> Option<Against<'a>> {
        let near = self.near.into_iter().chain(self.elsewhere).find(|(_, there)| *there != host);
        let apart = || self.apart.get_key_value(host).map(|(host, other)| Against::Apart(other, host));
        near.map(|(other, there)| Against::Near(other, there)).or_else(apart)
    }
}

impl fmt::Display for Against<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Against::Near(other, host) => write!(f, "it must stand near `{other}`, which stands on `{host}`"),
            Against::Apart(other, host) => write!(f, "it must stand apart from `{other}`, which stands on `{host}`"),
        }
    }
}
