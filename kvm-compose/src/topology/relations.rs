//! Which guests a guest names: those it waits for, stands near, stands apart from.
//!
//! Pure. The name of a scaled machine means all its clones. A name that nobody has, and a circle, are faults.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Guest, Scaled};
use crate::{
    names::GuestName,
    spec::{
        model::Machine,
        node::Mark,
        reader::{Reader, Spanned},
    },
};

/// The most guests that all lists together may name: clones that name clones are many.
const MOST: usize = 500_000;

/// Fills in `depends_on`, `near` and `apart` of all guests. `machines` are those that the guests were made from.
pub fn resolve(guests: &mut [Guest], machines: &[Machine], scaled: &[Scaled], reader: &mut Reader) {
    let mut known: BTreeMap<GuestName, Vec<GuestName>> = BTreeMap::new();
    for machine in machines {
        known.entry(machine.name.value.clone()).or_default().push(machine.name.value.clone());
        if let Some(clone) = &machine.clone_of {
            known.entry(clone.machine.value.clone()).or_default().push(machine.name.value.clone());
        }
    }
    let mut said: BTreeSet<Mark> = BTreeSet::new();
    let mut waits: BTreeMap<GuestName, Vec<(GuestName, Mark)>> = BTreeMap::new();
    let mut places: BTreeMap<GuestName, usize> = guests.iter().enumerate().map(|(place, guest)| (guest.name.clone(), place)).collect();
    let mut room = MOST;
    for machine in machines {
        if room == 0 {
            let hint = Some("name fewer machines, or scale them less".to_string());
            reader.error(machine.at, "E029", format!("`depends_on`, `near` and `apart` name more than {MOST} guests in all"), hint);
            return;
        }
        let mut find = |names: &[Spanned<GuestName>], what: &str| named(machine, names, what, &known, scaled, &mut said, reader);
        let depends_on = find(&machine.depends_on, "depends_on");
        let placement = machine.placement.as_ref();
        let near = find(placement.map_or(&[], |placement| &placement.near), "near");
        let apart = find(placement.map_or(&[], |placement| &placement.apart), "apart");
        for (name, at) in apart.iter().filter(|_| !near.is_empty()) {
            if near.binary_search_by(|(other, _)| other.cmp(name)).is_ok() && said.insert(*at) {
                let hint = Some("keep one of the two".to_string());
                reader.error(*at, "E007", format!("`{}` cannot stand near `{name}` and apart from it", machine.name.value), hint);
            }
        }
        room = room.saturating_sub(depends_on.len() + near.len() + apart.len());
        waits.insert(machine.name.value.clone(), depends_on.clone());
        let Some(guest) = places.remove(&machine.name.value).and_then(|place| guests.get_mut(place)) else { continue };
        let plain = |names: Vec<(GuestName, Mark)>| names.into_iter().map(|(name, _)| name).collect();
        guest.depends_on = plain(depends_on);
        guest.placement.near = plain(near);
        guest.placement.apart = plain(apart);
    }
    circles(machines, &waits, &mut said, reader);
}

fn named(
    machine: &Machine,
    names: &[Spanned<GuestName>],
    what: &str,
    known: &BTreeMap<GuestName, Vec<GuestName>>,
    scaled: &[Scaled],
    said: &mut BTreeSet<Mark>,
    reader: &mut Reader,
) -> Vec<(GuestName, Mark)> {
    let own = &machine.name.value;
    let mut found: BTreeMap<GuestName, Mark> = BTreeMap::new();
    for name in names {
        // A clone in a list that all clones of its machine have is not meant itself.
        if name.value == *own && machine.clone_of.is_none() {
            if said.insert(name.at) {
                let hint = Some("name another machine".to_string());
                reader.error(name.at, "E023", format!("`{what}` of machine `{own}` names the machine itself"), hint);
            }
            continue;
        }
        match known.get(&name.value) {
            Some(all) => {
                for other in all.iter().filter(|one| *one != own) {
                    found.entry(other.clone()).or_insert(name.at);
                }
            }
            None if said.insert(name.at) => {
                reader.error_with(name.at, "E022", format!("there is no machine `{}`", name.value), |guesses| {
                    let words = known.keys().chain(scaled.iter().map(|scaled| &scaled.machine)).map(GuestName::as_str);
                    Some(guesses.near_or_listed(name.value.as_str(), words, "machines of this file"))
                });
            }
            None => {}
        }
    }
    found.into_iter().collect()
}

/// Reports each circle of guests that wait for each other once, with its members in order.
fn circles(machines: &[Machine], waits: &BTreeMap<GuestName, Vec<(GuestName, Mark)>>, said: &mut BTreeSet<Mark>, reader: &mut Reader) {
    let mut done: BTreeSet<&GuestName> = BTreeSet::new();
    for machine in machines {
        // Depth first, by hand: a chain may be as long as the file has guests.
        let mut path: Vec<(&GuestName, usize)> = vec![(&machine.name.value, 0)];
        let mut on_path: BTreeMap<&GuestName, usize> = BTreeMap::from([(&machine.name.value, 0)]);
        if done.contains(&machine.name.value) {
            continue;
        }
        while let Some((name, next)) = path.last_mut() {
            let name = *name;
            let Some((other, at)) = waits.get(name).and_then(|list| list.get(*next)) else {
                done.insert(name);
                on_path.remove(name);
                path.pop();
                continue;
            };
            *next += 1;
            if let Some(from) = on_path.get(other) {
                if said.insert(*at) {
                    let circle: Vec<&GuestName> = path[*from..].iter().map(|(known, _)| *known).chain([other]).collect();
                    let hint = Some("take one of these names out of `depends_on`".to_string());
                    reader.error(*at, "E023", format!("`depends_on` goes round in a circle: {}", shown(&circle)), hint);
                }
                // Nobody reads of more circles, and each may be as long as the file has guests.
                if reader.is_full() {
                    return;
                }
            } else if !done.contains(other) {
                on_path.insert(other, path.len());
                path.push((other, 0));
            }
        }
    }
}

/// A circle in words; of a long one its ends.
fn shown(circle: &[&GuestName]) -> String {
    let words = |names: &[&GuestName]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" → ");
    match circle.len() {
        0..=12 => words(circle),
        length => format!("{} → … ({} more) → {}", words(&circle[..6]), length - 11, words(&circle[length - 5..])),
    }
}
