//! A plan by things instead of steps: what happens to each guest, switch and router, and which guests notice.
//!
//! Pure. For people who decide whether to say `up`.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    affected::{self, Wiring},
    blueprint::{Blueprint, Column, RowKey, Table},
    describe,
    diff::LOST_PORT,
    observed::{Observed, ObservedRow},
    step::{NetworkChange, Plan, RowUpdate, Step, Work},
};
use crate::{api::deployment::PlannedChange, api::event::Impact, names::GuestName};

/// A seed that follows what the running guest takes up is not worth a word beside it.
const SEED: &str = "its seed written anew";

/// What happens to each thing, guests first.
pub fn changes(blueprint: &Blueprint, plan: &Plan, observed: &Observed) -> Vec<PlannedChange> {
    let mut guests: BTreeMap<&GuestName, (Impact, Vec<String>)> = BTreeMap::new();
    let goldens: BTreeSet<&GuestName> = blueprint.goldens.iter().map(|golden| &golden.guest.name).collect();
    for step in &plan.steps {
        let [guest] = step.guests.as_slice() else { continue };
        if goldens.contains(guest) {
            continue;
        }
        let Some(what) = of_guest(step) else { continue };
        let (impact, all) = guests.entry(guest).or_insert((step.impact, Vec::new()));
        *impact = stronger(*impact, step.impact);
        if !all.contains(&what) {
            all.push(what);
        }
    }
    for (_, what) in guests.values_mut().filter(|(_, what)| what.len() > 1) {
        what.retain(|what| what != SEED);
    }
    let network = plan.steps.iter().find_map(|step| match &step.work {
        Work::Network { change } => Some(change),
        _ => None,
    });
    let mut of_network = Vec::new();
    if let Some(change) = network {
        let things = Things::new(blueprint, &observed.rows, change);
        let there: BTreeSet<&GuestName> = observed.domains.iter().map(|domain| &domain.guest).collect();
        let staying: BTreeSet<&GuestName> = blueprint.guests.iter().map(|guest| &guest.name).filter(|name| there.contains(name)).collect();
        for (root, keys) in things.roots(change) {
            match affected::port_of(root) {
                Some((guest, index)) => {
                    // Who comes or goes brings its ports along.
                    if let Some(name) = staying.get(&guest) {
                        let (impact, all) = guests.entry(name).or_insert((Impact::InPlace, Vec::new()));
                        *impact = stronger(*impact, Impact::InPlace);
                        let words = things.verb(root);
                        // A port that comes with its NIC, or goes with it, is no news.
                        if !all.iter().any(|what| what.starts_with(&format!("eth{index} ")) && what.ends_with("plugged")) {
                            all.push(format!("port eth{index} {words}"));
                        }
                    }
                }
                None => of_network.push(things.change(root, &keys)),
            }
        }
    }
    let guests = guests.into_iter().map(|(name, (impact, what))| PlannedChange {
        thing: format!("guest {name}"),
        impact,
        what: what.join("; "),
        guests: vec![name.clone()],
        traffic: Vec::new(),
    });
    let of_hosts = plan
        .steps
        .iter()
        .filter(|step| matches!(step.work, Work::SetUpUplink { .. } | Work::PlugInternal { .. } | Work::UnplugInternal { .. }));
    let of_hosts = of_hosts.map(|step| PlannedChange {
        thing: format!("host {}", step.host),
        impact: step.impact,
        what: describe::what(&step.work),
        guests: Vec::new(),
        traffic: Vec::new(),
    });
    let kept = plan.steps.iter().filter_map(|step| match &step.work {
        Work::KeepGolden { kept } => Some((step, kept)),
        _ => None,
    });
    let goldens = kept.map(|(step, kept)| PlannedChange {
        thing: format!("golden image {}", kept.guest),
        impact: step.impact,
        what: format!("made once from {}", kept.made_from),
        guests: Vec::new(),
        traffic: Vec::new(),
    });
    goldens.chain(guests).chain(of_network).chain(of_hosts).collect()
}

/// How many things are changed in which way, on one line.
pub fn summary(changes: &[PlannedChange], from_nothing: bool) -> String {
    let count = |impact| changes.iter().filter(|change| change.impact == impact).count();
    let words = [(Impact::Create, "created"), (Impact::Remove, "removed"), (Impact::InPlace, "in place"), (Impact::HotPlug, "hot-plug")];
    let mut parts: Vec<String> =
        words.iter().filter(|(impact, _)| count(*impact) > 0).map(|(impact, word)| format!("{} {word}", count(*impact))).collect();
    let ends = [(Impact::Restart, "restart"), (Impact::Recreate, "recreate")];
    parts.extend(ends.iter().filter(|(impact, _)| count(*impact) > 0).map(|(impact, word)| format!("{} {word}", count(*impact))));
    if count(Impact::Restart) + count(Impact::Recreate) == 0 && !from_nothing {
        parts.push("nothing restarts".to_string());
    }
    parts.join(", ")
}

/// What a step means for its guest; nothing when it only waits, or belongs to another step.
fn of_guest(step: &Step) -> Option<String> {
    match &step.work {
        Work::StartDomain { .. } | Work::CreateVolume { .. } => Some(step.reason.clone()),
        Work::RemoveDomain { .. } if step.impact == Impact::Remove => Some(step.reason.clone()),
        Work::AttachNic { nic, .. } => Some(format!("{} plugged", nic.name)),
        Work::DetachNic { nic, .. } if step.reason == LOST_PORT => Some(format!("{} unplugged, as {LOST_PORT}", nic.name)),
        Work::DetachNic { nic, .. } => Some(format!("{} unplugged", nic.name)),
        Work::ConfigureNetwork { links, .. } if !step.id.as_str().starts_with("release/") && !links.is_empty() => {
            Some(format!("{} configured anew through its agent", links.join(", ")))
        }
        // Of a guest that comes or goes it is no news.
        Work::ShapeLink { .. } | Work::UnshapeLink { .. } | Work::SetCarrier { .. } if step.impact == Impact::InPlace => {
            Some(describe::what(&step.work))
        }
        Work::SendContext { .. } if step.impact == Impact::InPlace => Some("its context sent anew".to_string()),
        Work::WriteSeed { .. } if step.impact == Impact::InPlace => Some(SEED.to_string()),
        _ => None,
    }
}

/// What a guest loses most by.
fn stronger(one: Impact, other: Impact) -> Impact {
    let rank = |impact| match impact {
        Impact::None => 0,
        Impact::InPlace => 1,
        Impact::HotPlug => 2,
        Impact::Create => 3,
        Impact::Restart => 4,
        Impact::Remove => 5,
        Impact::Recreate => 6,
    };
    if rank(other) > rank(one) { other } else { one }
}

/// The rows before and after, by what people call a thing.
struct Things<'a> {
    wiring: Option<Wiring<'a>>,
    parents: BTreeMap<&'a RowKey, (&'a RowKey, Table)>,
    tables: BTreeMap<&'a RowKey, Table>,
    added: BTreeSet<&'a RowKey>,
    removed: BTreeSet<&'a RowKey>,
    updated: BTreeMap<&'a RowKey, &'a RowUpdate>,
}

impl<'a> Things<'a> {
    fn new(blueprint: &'a Blueprint, observed: &'a [ObservedRow], change: &'a NetworkChange) -> Self {
        let after = blueprint.rows.iter().map(|row| (&row.key, row.table, row.parent.as_ref().map(|(key, _)| key)));
        let before = observed.iter().map(|row| (&row.key, row.table, row.parent.as_ref()));
        let (mut parents, mut tables) = (BTreeMap::new(), BTreeMap::new());
        for (key, table, parent) in before.chain(after) {
            tables.insert(key, table);
            if let Some(parent) = parent {
                parents.insert(key, (parent, table));
            }
        }
        // Where nothing was, nobody's traffic changes.
        let wiring = (!observed.is_empty() && !blueprint.rows.is_empty()).then(|| Wiring::new(&blueprint.rows, observed));
        Things {
            wiring,
            parents,
            tables,
            added: change.insert.iter().map(|row| &row.key).collect(),
            removed: change.delete.iter().map(|row| &row.key).collect(),
            updated: change.update.iter().map(|update| (&update.key, update)).collect(),
        }
    }

    /// The changed rows by the switch or router that they are part of; a guest's port stands for itself.
    fn roots(&self, change: &'a NetworkChange) -> BTreeMap<&'a RowKey, BTreeSet<&'a RowKey>> {
        let mut roots: BTreeMap<&RowKey, BTreeSet<&RowKey>> = BTreeMap::new();
        for key in affected::keys(change) {
            let mut root = key;
            while let (None, Some((parent, _))) = (affected::port_of(root), self.parents.get(root)) {
                root = parent;
            }
            // A switch's end of a router port is the router's doing; both are told once.
            roots.entry(root).or_default().insert(key);
        }
        roots
    }

    fn change(&self, root: &'a RowKey, keys: &BTreeSet<&'a RowKey>) -> PlannedChange {
        let (impact, what) = match (self.added.contains(root), self.removed.contains(root)) {
            (true, false) => (Impact::Create, "new".to_string()),
            (false, true) => (Impact::Remove, "no longer in the file".to_string()),
            _ => (Impact::InPlace, keys.iter().map(|key| self.words(root, key)).collect::<Vec<_>>().join("; ")),
        };
        let affected = self.wiring.as_ref().map(|wiring| wiring.of(keys.iter().copied())).unwrap_or_default();
        PlannedChange {
            thing: self.thing(root),
            impact,
            what,
            guests: affected.touched.into_iter().collect(),
            traffic: affected.traffic.into_iter().collect(),
        }
    }

    fn thing(&self, root: &RowKey) -> String {
        let name = root.0.split_once('/').map_or(root.0.as_str(), |(_, name)| name);
        match self.tables.get(root) {
            Some(Table::LogicalSwitch) => format!("switch {name}"),
            Some(Table::LogicalRouter) => format!("router {name}"),
            Some(Table::DhcpOptions) => format!("DHCP on {name}"),
            Some(Table::Dns) => "guests' names".to_string(),
            _ => root.0.replacen('/', " ", 1),
        }
    }

    /// One row, without the name of the thing that it is part of.
    fn words(&self, root: &RowKey, key: &RowKey) -> String {
        if key == root {
            return self.verb(key);
        }
        let (kind, name) = key.0.split_once('/').unwrap_or((&key.0, ""));
        let owner = root.0.split_once('/').map_or("", |(_, name)| name);
        let name = name.strip_prefix(owner).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name);
        format!("{} {name} {}", kind.replace('-', " "), self.verb(key))
    }

    fn verb(&self, key: &RowKey) -> String {
        match (self.added.contains(key), self.removed.contains(key)) {
            (true, true) => return "made anew".to_string(),
            (true, false) => return "added".to_string(),
            (false, true) => return "removed".to_string(),
            (false, false) => {}
        }
        let Some(update) = self.updated.get(key) else { return "changed".to_string() };
        let mut parts = Vec::new();
        if let Some(moved) = &update.moved {
            let name = |key: &RowKey| key.0.split_once('/').map_or(key.0.clone(), |(_, name)| name.to_string());
            parts.push(format!("moves from {} to {}", name(&moved.from.0), name(&moved.to.0)));
        }
        let told_with = |column: &str| matches!(column, "port_security") && update.to.contains_key("addresses");
        for (column, to) in update.to.iter().filter(|(column, _)| !told_with(column)) {
            let is_short = |column: &Column| describe::value(column).len() <= 60;
            parts.push(match update.from.get(column) {
                Some(from) if is_short(from) && is_short(to) => {
                    format!("{}: {} → {}", column.replace('_', " "), describe::value(from), describe::value(to))
                }
                _ => format!("{} changed", column.replace('_', " ")),
            });
        }
        parts.join(", ")
    }
}
