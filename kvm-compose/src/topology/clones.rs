//! Scaled machines, written out: each clone as a machine of its own, called `<machine>-<id>`.
//!
//! Pure. What can only be said of the machine as a whole (`shared_setup`, how `testbed config` prints it) is kept beside.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::model::{FileRef, Scaled};
use crate::{
    addr::Ordinal,
    names::GuestName,
    spec::{
        model::{CloneOf, DiskDevice, Interface, IpChoice, Machine, Range, ScaledInterface, Scaling},
        reader::{Reader, Spanned},
    },
};

/// A few lines may ask for millions of clones.
const MOST_GUESTS: usize = 12_000;
/// Each clone has all that is said of its machine: how many values that may be for all of them.
const MOST_VALUES: usize = 2_000_000;

/// Machines with their clones written out, and what is known of each scaled machine. Nothing when they are too many.
pub fn written_out(machines: Vec<Machine>, reader: &mut Reader) -> Option<(Vec<Machine>, Vec<Scaled>)> {
    let (mut all, mut scaled, mut room) = (Vec::new(), Vec::new(), MOST_VALUES);
    for mut machine in machines {
        if all.len() >= MOST_GUESTS {
            too_many(&machine, "name fewer machines", reader);
            return None;
        }
        let taken = match (&mut machine.libvirt, &mut machine.docker) {
            (Some(libvirt), _) => libvirt.scaling.take(),
            (_, Some(docker)) => docker.scaling.take(),
            _ => None,
        };
        let Some(scaling) = taken else {
            all.push(machine);
            continue;
        };
        // A faulty count is a fault already; what rests on it is not judged.
        let Some(count) = scaling.count.as_ref().map(|count| count.value as u32) else { continue };
        if GuestName::new(&format!("{}-{}", machine.name.value, count - 1)).is_err() {
            let hint = Some(format!("a guest's name has at most 50 characters: {}", GuestName::RULE));
            let message = format!("the name `{}` leaves no room for the numbers of its clones", machine.name.value);
            reader.error(machine.name.at, "E010", message, hint);
            continue;
        }
        if all.len() + count as usize > MOST_GUESTS {
            too_many(&machine, "lower `count`", reader);
            return None;
        }
        let Some(left) = room.checked_sub(values(&machine, &scaling, count)) else {
            let hint = Some("lower `count`, or say less of the machine".to_string());
            let message = format!("the clones of machine `{}` have more than {MOST_VALUES} values", machine.name.value);
            reader.error(machine.name.at, "E029", message, hint);
            return None;
        };
        room = left;
        all.extend(clones(&machine, &scaling, count));
        scaled.push(Scaled {
            machine: machine.name.value.clone(),
            shared_setup: scaling.shared_setup.as_ref().map(|path| FileRef {
                path: path.value.clone(),
                at: reader.place(path.at),
                source: reader.source(path.at),
            }),
            written: document(&scaling, count),
        });
        if let Some(shared) = &scaling.shared_setup {
            on_a_disk(&machine, shared, reader);
        }
    }
    Some((all, scaled))
}

/// A script can only run in what is written to.
fn on_a_disk(machine: &Machine, shared: &Spanned<String>, reader: &mut Reader) {
    let device = machine.libvirt.as_ref().and_then(|libvirt| libvirt.libvirt_type.existing_disk.as_ref()?.device_type.as_ref());
    if device.is_some_and(|device| device.value == DiskDevice::Cdrom) {
        let message = "a CD-ROM is never written to, so `shared_setup` makes no sense".to_string();
        reader.error(shared.at, "E007", message, Some("remove it".to_string()));
    }
}

fn too_many(machine: &Machine, hint: &str, reader: &mut Reader) {
    reader.error(machine.name.at, "E029", format!("a testbed has at most {MOST_GUESTS} guests"), Some(hint.to_string()));
}

/// How much all clones take together.
fn values(machine: &Machine, scaling: &Scaling, count: u32) -> usize {
    let on = |clones: &Option<Vec<Spanned<u64>>>| clones.as_ref().map_or(count as usize, Vec::len);
    let scripts = scaling.clone_setup.iter().chain(&scaling.clone_run);
    // An interface or a script is more than one value.
    let lists = scaling.interfaces.iter().map(|one| on(&one.clones)).chain(scripts.map(|script| on(&script.clones)));
    lists.fold(machine.size.saturating_mul(count as usize), |sum, one| sum.saturating_add(one.saturating_mul(8)))
}

fn clones(machine: &Machine, scaling: &Scaling, count: u32) -> Vec<Machine> {
    let mut clones: Vec<Machine> = (0..count).filter_map(|id| clone(machine, id, scaling.shared_setup.is_some())).collect();
    for interface in &scaling.interfaces {
        for (id, place) in of(&interface.clones, count) {
            if let (Some(clone), Some(interface)) = (clones.get_mut(id), plugged(interface, place)) {
                clone.network.push(interface);
            }
        }
    }
    let scripts = scaling.clone_setup.iter().map(|script| (true, script)).chain(scaling.clone_run.iter().map(|script| (false, script)));
    for (is_setup, script) in scripts {
        for (id, _) in of(&script.clones, count) {
            if let Some(clone) = clones.get_mut(id).and_then(|clone| clone.clone_of.as_mut()) {
                let list = if is_setup { &mut clone.setup } else { &mut clone.run };
                list.extend(script.script.clone());
            }
        }
    }
    clones
}

fn clone(machine: &Machine, id: u32, shared: bool) -> Option<Machine> {
    let name = GuestName::new(&format!("{}-{id}", machine.name.value)).ok()?;
    let clone_of = Some(CloneOf { machine: machine.name.clone(), id, shared, setup: Vec::new(), run: Vec::new() });
    Some(Machine { name: Spanned { value: name, at: machine.name.at }, network: Vec::new(), clone_of, ..machine.clone() })
}

/// The clones on a list, each with its place there; without a list all are on it.
fn of(clones: &Option<Vec<Spanned<u64>>>, count: u32) -> Vec<(usize, u128)> {
    match clones {
        None => (0..count).map(|id| (id as usize, u128::from(id))).collect(),
        Some(list) => list.iter().zip(0..).map(|(id, place)| (id.value as usize, place)).collect(),
    }
}

fn plugged(interface: &ScaledInterface, place: u128) -> Option<Interface> {
    let ip = match &interface.ip_range {
        Some(range) => Spanned { value: IpChoice::Address(nth(range, place)?), at: range.from.at },
        None => Spanned { value: IpChoice::Dynamic, at: interface.at },
    };
    let mac = interface.mac_range.as_ref().and_then(|range| Some(Spanned { value: nth(range, place)?, at: range.from.at }));
    Some(Interface {
        switch: interface.switch.clone(),
        ip: Some(ip),
        gateway: interface.gateway.clone(),
        mac,
        impairment: None,
        at: interface.at,
        assigned: interface.bridge,
    })
}

/// The n-th of a range; a range that is too short is a fault already, and then its last.
fn nth<T: Ordinal>(range: &Range<T>, place: u128) -> Option<T> {
    T::from_ordinal(&range.from.value, range.from.value.ordinal().checked_add(place)?)
}

/// `scaling` as it is printed: the same in the language.
fn document(scaling: &Scaling, count: u32) -> Value {
    let mut value = Map::from_iter([("count".to_string(), json!(count))]);
    let ids = |clones: &Option<Vec<Spanned<u64>>>| match clones {
        Some(list) => list.iter().map(|id| id.value).collect::<Vec<_>>(),
        None => (0..u64::from(count)).collect(),
    };
    let range = |from: String, to: String| json!({"from": from, "to": to});
    let interface = |interface: &ScaledInterface| {
        let mut value = Map::from_iter([("clones".to_string(), json!(ids(&interface.clones)))]);
        if let Some(gateway) = &interface.gateway {
            value.insert("gateway".to_string(), json!(gateway.value.to_string()));
        }
        let ip = interface.ip_range.as_ref().map(|ip| json!({"ip_range": range(ip.from.value.to_string(), ip.to.value.to_string())}));
        value.insert("ip_type".to_string(), ip.unwrap_or_else(|| json!("dynamic")));
        if let Some(mac) = &interface.mac_range {
            value.insert("mac_range".to_string(), range(mac.from.value.to_string(), mac.to.value.to_string()));
        }
        value
    };
    let mut named = BTreeSet::new();
    let twice = !scaling.interfaces.iter().all(|one| named.insert(&one.switch.value));
    let interfaces: Value = if twice {
        let listed = scaling.interfaces.iter().map(|one| {
            let named = Map::from_iter([("switch".to_string(), json!(one.switch.value.as_str()))]);
            Value::Object(named.into_iter().chain(interface(one)).collect())
        });
        Value::Array(listed.collect())
    } else {
        Value::Object(scaling.interfaces.iter().map(|one| (one.switch.value.to_string(), Value::Object(interface(one)))).collect())
    };
    if !scaling.interfaces.is_empty() {
        value.insert("interfaces".to_string(), interfaces);
    }
    if let Some(shared) = &scaling.shared_setup {
        value.insert("shared_setup".to_string(), json!(shared.value));
    }
    for (key, scripts) in [("clone_setup", &scaling.clone_setup), ("clone_run", &scaling.clone_run)] {
        let list: Vec<Value> = scripts
            .iter()
            .filter_map(|script| Some(json!({"script": script.script.as_ref()?.value, "clones": ids(&script.clones)})))
            .collect();
        if !list.is_empty() {
            value.insert(key.to_string(), Value::Array(list));
        }
    }
    Value::Object(value)
}
