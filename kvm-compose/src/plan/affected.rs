//! Which guests a change of the network concerns: those whose own port changes, and those whose traffic passes what changes.
//!
//! Pure. Follows the rows: a part to what lists it, a router to its switches, a switch to its guests. What packets only pass (a
//! route, a translation, a rule, a router's port) concerns everybody whom routers connect, however many are in between; what a
//! switch itself offers (leases, names) concerns those on it. Reads no column but the references and the port that a switch's end
//! of a router port names.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    blueprint::{Column, Row, RowKey, Table},
    observed::ObservedRow,
    step::NetworkChange,
};
use crate::names::GuestName;

/// Guests that a change concerns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// Guests with a port that is made, changed or taken away.
    pub touched: BTreeSet<GuestName>,
    /// Other guests whose traffic may change.
    pub traffic: BTreeSet<GuestName>,
}

/// The rows before and after a change, as far as it matters who hangs together.
pub struct Wiring<'a> {
    /// Row → the row that lists it.
    parent: BTreeMap<&'a RowKey, BTreeSet<&'a RowKey>>,
    /// Row → rows that refer to it.
    users: BTreeMap<&'a RowKey, BTreeSet<&'a RowKey>>,
    tables: BTreeMap<&'a RowKey, Table>,
    /// Switch → guests with a port on it.
    guests: BTreeMap<&'a RowKey, BTreeSet<GuestName>>,
    /// Router → switches.
    switches: BTreeMap<&'a RowKey, BTreeSet<&'a RowKey>>,
    /// Switch → routers.
    routers: BTreeMap<&'a RowKey, BTreeSet<&'a RowKey>>,
}

impl<'a> Wiring<'a> {
    /// What hangs together, before or after.
    pub fn new(wanted: &'a [Row], observed: &'a [ObservedRow]) -> Self {
        let after = wanted.iter().map(|row| (&row.key, row.table, row.parent.as_ref().map(|(key, _)| key), &row.columns));
        let before = observed.iter().map(|row| (&row.key, row.table, row.parent.as_ref(), &row.columns));
        let rows: Vec<_> = after.chain(before).collect();
        let mut wiring = Wiring {
            parent: BTreeMap::new(),
            users: BTreeMap::new(),
            tables: BTreeMap::new(),
            guests: BTreeMap::new(),
            switches: BTreeMap::new(),
            routers: BTreeMap::new(),
        };
        let mut routers: BTreeMap<&str, &RowKey> = BTreeMap::new();
        for (key, table, parent, columns) in &rows {
            wiring.tables.insert(key, *table);
            wiring.parent.entry(key).or_default().extend(*parent);
            for column in columns.values() {
                if let Column::Refs(used) = column {
                    for used in used {
                        wiring.users.entry(used).or_default().insert(key);
                    }
                }
            }
            if let (Some(guest), Some(switch)) = (port_of(key), parent) {
                wiring.guests.entry(switch).or_default().insert(guest.0);
            }
            if let (Table::LogicalRouterPort, Some(router), Some(Column::Text(name))) = (table, parent, columns.get("name")) {
                routers.insert(name, router);
            }
        }
        for (_, _, parent, columns) in &rows {
            if let (Some(switch), Some(Column::Map(options))) = (parent, columns.get("options"))
                && let Some(router) = options.get("router-port").and_then(|name| routers.get(name.as_str()))
            {
                wiring.switches.entry(router).or_default().insert(switch);
                wiring.routers.entry(switch).or_default().insert(router);
            }
        }
        wiring
    }

    /// Guests that a change of these rows concerns.
    pub fn of(&self, keys: impl Iterator<Item = &'a RowKey>) -> Affected {
        let (mut affected, mut near, mut far) = (Affected::default(), BTreeSet::new(), BTreeSet::new());
        for key in keys {
            match port_of(key) {
                Some((guest, _)) => {
                    affected.touched.insert(guest);
                }
                None if self.is_passed(key) => self.follow(key, true, &mut far, &mut affected.traffic),
                None => self.follow(key, false, &mut near, &mut affected.traffic),
            }
        }
        affected.traffic.retain(|guest| !affected.touched.contains(guest));
        affected
    }

    /// Something on the way of packets that come from elsewhere and go elsewhere.
    fn is_passed(&self, key: &RowKey) -> bool {
        match self.tables.get(key) {
            Some(Table::LogicalSwitch | Table::DhcpOptions | Table::Dns) | None => false,
            Some(
                Table::LogicalSwitchPort
                | Table::LogicalRouter
                | Table::LogicalRouterPort
                | Table::StaticRoute
                | Table::LoadBalancer
                | Table::Acl
                | Table::Nat
                | Table::GatewayChassis,
            ) => true,
        }
    }

    /// With `far` from a switch on to its routers, and so to everybody who is connected; without, never beyond the next switches.
    fn follow(&self, key: &'a RowKey, far: bool, seen: &mut BTreeSet<&'a RowKey>, traffic: &mut BTreeSet<GuestName>) {
        let mut ahead = vec![key];
        while let Some(key) = ahead.pop() {
            if !seen.insert(key) {
                continue;
            }
            if let Some((guest, _)) = port_of(key) {
                traffic.insert(guest);
                continue;
            }
            traffic.extend(self.guests.get(key).into_iter().flatten().cloned());
            let routers = far.then_some(&self.routers);
            let edges = [Some(&self.parent), Some(&self.users), Some(&self.switches), routers];
            ahead.extend(edges.into_iter().flatten().filter_map(|of| of.get(key)).flatten());
        }
    }
}

/// Every row that a change names.
pub fn keys(change: &NetworkChange) -> impl Iterator<Item = &RowKey> {
    let inserted = change.insert.iter().map(|row| &row.key);
    inserted.chain(change.update.iter().map(|row| &row.key)).chain(change.delete.iter().map(|row| &row.key))
}

/// The guest whose port a row is, and which of its interfaces.
pub fn port_of(key: &RowKey) -> Option<(GuestName, usize)> {
    let (guest, index) = key.0.strip_prefix("port/")?.split_once('/')?;
    Some((GuestName::new(guest).ok()?, index.parse().ok()?))
}
