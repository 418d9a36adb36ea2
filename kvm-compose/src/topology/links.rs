//! From what the user wrote to what it means: wires between two guests.
//!
//! Pure. A wire is a switch of its own with two ports and no more; its ends are interfaces after those of the machine's
//! `network`.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use ipnet::IpNet;
use uuid::Uuid;

use super::{
    guests::MAX_NICS,
    model::{Assignment, Guest, Nic, NicAddress, Shape, Switch, Wire},
    resolve::Segments,
    shape,
};
use crate::{
    names::{DeploymentName, GuestName, NetworkName},
    spec::{
        model::{self as wrote, LinkEnd},
        reader::{Reader, Spanned},
    },
};

/// The namespace of wires' names (RFC 9562, version 5).
const WIRES: Uuid = Uuid::from_u128(0x6f1d_30c2_5a0e_4a0c_9d5b_84f1_c2b7_11aa);

/// Adds the interfaces that wires give to guests, and a switch per wire.
pub fn links(
    wrote: &[wrote::Link],
    machines: &[wrote::Machine],
    deployment: &DeploymentName,
    guests: &mut [Guest],
    segments: &mut Segments,
    reader: &mut Reader,
) -> Vec<Wire> {
    // Interfaces come in order, wherever their wires stand in the file.
    let mut ends: Vec<(&Spanned<LinkEnd>, usize, usize)> =
        wrote.iter().enumerate().flat_map(|(link, wrote)| wrote.ends.iter().enumerate().map(move |(end, at)| (at, link, end))).collect();
    ends.sort_by_key(|(end, ..)| (end.value.nic, end.at));
    let mut tried = Tried::new();
    let wires: Vec<Option<Wire>> = wrote.iter().map(|link| wire(link, &mut tried, segments, reader)).collect();
    let shapes: Vec<[Shape; 2]> = wrote
        .iter()
        .map(|link| link.impairment.as_ref().map(|impairment| shape::of_wire(impairment, reader)).unwrap_or_default())
        .collect();
    let mut plugged = vec![0; wrote.len()];
    let places: BTreeMap<GuestName, usize> = guests.iter().zip(0..).map(|(guest, place)| (guest.name.clone(), place)).collect();
    let known: BTreeSet<&str> = machines.iter().map(|machine| machine.name.value.as_str()).collect();
    for (end, link, side) in ends {
        let Some(wire) = &wires[link] else { continue };
        let Some(guest) = places.get(&end.value.guest).and_then(|place| guests.get_mut(*place)) else {
            unknown(end, &known, reader);
            continue;
        };
        if !fits(end, guest, reader) {
            continue;
        }
        let who = format!("machine `{}`", guest.name);
        let mac = segments.free_mac(deployment, &wire.switch, guest.name.as_str(), end.value.nic);
        segments.claim_mac(&wire.switch, mac, &who, end.at, reader);
        let address = segments.switches.get(&wire.switch).and_then(|switch| switch.subnet).and_then(|subnet| {
            let address = subnet.hosts().nth(side + usize::from(matches!(subnet, IpNet::V6(net) if net.prefix_len() < 127)))?;
            segments.hold(&wire.switch, address, who);
            IpNet::new(address, subnet.prefix_len()).ok()
        });
        let addresses = address.map(|net| NicAddress { net, assignment: Assignment::Assigned, gateway: None }).into_iter().collect();
        let (name, switch, shape) = (format!("eth{}", end.value.nic), wire.switch.clone(), shapes[link][side]);
        guest.nics.push(Nic { name, switch, mac, addresses, shape });
        plugged[link] += 1;
    }
    let whole = wires.into_iter().zip(plugged).filter_map(|(wire, ends)| wire.filter(|_| ends == 2));
    whole.collect()
}

/// The wire and its switch.
fn wire<'a>(link: &'a wrote::Link, tried: &mut Tried<'a>, segments: &mut Segments, reader: &mut Reader) -> Option<Wire> {
    let [one, other] = link.ends.as_slice() else { return None };
    if one.value == other.value {
        let hint = Some("a wire joins two interfaces".to_string());
        reader.error(other.at, "E007", format!("both ends of the link are `{}`", one.value), hint);
        return None;
    }
    let name = wire_name([&one.value, &other.value], tried, segments)?;
    if let Some(subnet) = link.subnet.as_ref().filter(|subnet| room(&subnet.value) < 2) {
        let hint = Some("use a prefix of at most 30, or 126 of IPv6".to_string());
        reader.error(subnet.at, "E006", format!("{} has no room for both ends", subnet.value), hint);
        return None;
    }
    let labels: super::model::Labels = link.labels.iter().map(|(key, value)| (key.clone(), value.value.clone())).collect();
    let subnet = link.subnet.as_ref().map(|subnet| subnet.value.trunc());
    let switch = Switch { subnet, wire: true, labels: labels.clone(), ..Switch::named(name.clone()) };
    segments.switches.insert(name.clone(), Rc::new(switch));
    let ends = [one, other].map(|end| (end.value.guest.clone(), end.value.nic));
    Some(Wire { switch: name, ends, labels })
}

fn room(subnet: &IpNet) -> usize {
    subnet.hosts().take(3).count()
}

/// Ends of wires → how many names were tried for them: of a faulty file many wires have the same.
type Tried<'a> = BTreeMap<(&'a LinkEnd, &'a LinkEnd), u32>;

/// A name for the wire's switch, which depends on its ends alone, so that no edit elsewhere in the file renames it.
fn wire_name<'a>(ends: [&'a LinkEnd; 2], tried: &mut Tried<'a>, segments: &Segments) -> Option<NetworkName> {
    let (first, last) = (*ends.iter().min()?, *ends.iter().max()?);
    let tried = tried.entry((first, last)).or_default();
    (*tried..u32::MAX).find_map(|attempt| {
        *tried = attempt + 1;
        let digest = Uuid::new_v5(&WIRES, format!("{first} {last} {attempt}").as_bytes()).simple().to_string();
        NetworkName::new(&format!("wire-{}", &digest[..8])).ok().filter(|name| !segments.switches.contains_key(name))
    })
}

/// Is the end the guest's next interface?
fn fits(end: &Spanned<LinkEnd>, guest: &Guest, reader: &mut Reader) -> bool {
    let next = guest.nics.len();
    if end.value.nic == next {
        if next >= MAX_NICS {
            reader.error(end.at, "E006", format!("machine `{}` has more than {MAX_NICS} interfaces", guest.name), None);
        }
        return next < MAX_NICS;
    }
    let (message, hint) = if end.value.nic < next {
        (format!("`{}` is plugged in already", end.value), format!("its next free interface is `{}:eth{next}`", guest.name))
    } else {
        (
            format!("`{}` would leave a gap: `{}` has {next} interfaces before it", end.value, guest.name),
            format!("write `{}:eth{next}`", guest.name),
        )
    };
    reader.error(end.at, "E011", message, Some(hint));
    false
}

/// A fault, unless the machine is in the file and has faults of its own.
fn unknown(end: &Spanned<LinkEnd>, known: &BTreeSet<&str>, reader: &mut Reader) {
    let name = end.value.guest.as_str();
    if !known.contains(name) {
        reader.error_with(end.at, "E022", format!("there is no machine `{name}`"), |guesses| {
            Some(guesses.near_or_listed(name, known.iter().copied(), "machines of this file"))
        });
    }
}
