//! From what the user wrote to what it means: guests, their interfaces and addresses.
//!
//! Pure. Addresses: what the file names comes first, then what a guest has already, then the lowest free ones; so no
//! edit moves an untouched guest.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    interface::{Chosen, interface, who},
    kinds,
    model::{Guest, Leases, Switch},
    resolve::{Segments, check_unique_hostnames},
};
use crate::{
    addr::Pool,
    names::{DeploymentName, GuestName, NetworkName},
    spec::{
        model as wrote,
        reader::{Reader, Spanned, listed},
    },
};

/// The most interfaces of a guest: the PCI bus of the lean machine has no more free slots.
pub const MAX_NICS: usize = 20;

/// More gateways are not listed.
const MANY: usize = 100;

/// Reports machines with too many interfaces, and takes away those that are too many.
pub fn limit_nics(machines: &mut [wrote::Machine], reader: &mut Reader) {
    for machine in machines.iter_mut().filter(|machine| machine.network.len() > MAX_NICS) {
        reader.error(machine.at, "E006", format!("machine `{}` has more than {MAX_NICS} interfaces", machine.name.value), None);
        machine.network.truncate(MAX_NICS);
    }
}

/// Machines that are not, or not with all their interfaces, among the guests: that has its faults already.
pub fn partly(wrote: &[wrote::Machine], guests: &[Guest]) -> BTreeSet<GuestName> {
    let nics: BTreeMap<&GuestName, usize> = guests.iter().map(|guest| (&guest.name, guest.nics.len())).collect();
    let faulty = |machine: &&wrote::Machine| machine.misread || nics.get(&machine.name.value) != Some(&machine.network.len());
    wrote.iter().filter(faulty).map(|machine| machine.name.value.clone()).collect()
}

/// All guests, in the file's order.
pub fn guests(
    wrote: &[wrote::Machine],
    deployment: &DeploymentName,
    leases: &Leases,
    segments: &mut Segments,
    reader: &mut Reader,
) -> Vec<Guest> {
    let names: Vec<_> = wrote.iter().map(|machine| (machine.name.value.hostname(), machine.name.clone())).collect();
    check_unique_hostnames(&names, reader);
    claim_written(wrote, segments, reader);
    let chosen = choose_addresses(wrote, leases, segments, reader);
    let mut guests = Vec::new();
    let mut seen = BTreeSet::new();
    // A name that comes again was told; its generated addresses would only meet those of the first.
    for (index, machine) in wrote.iter().enumerate().filter(|(_, machine)| seen.insert(&machine.name.value)) {
        let plugged = 0..machine.network.len();
        let nics = plugged.filter_map(|nic| interface(index, nic, machine, deployment, &chosen, segments, reader)).collect();
        guests.extend(kinds::guest(machine, nics, reader));
    }
    guests
}

/// Claims every address and MAC that the file names, before anything is chosen.
fn claim_written(wrote: &[wrote::Machine], segments: &mut Segments, reader: &mut Reader) {
    let written: BTreeSet<(&NetworkName, IpAddr)> = wrote
        .iter()
        .flat_map(|machine| &machine.network)
        .filter_map(|nic| match nic.ip.as_ref()?.value {
            wrote::IpChoice::Address(address) => Some((&nic.switch.value, address)),
            wrote::IpChoice::Dynamic => None,
        })
        .collect();
    for machine in wrote {
        for nic in &machine.network {
            let Some(switch) = segments.find(&nic.switch, reader) else { continue };
            if let Some(Spanned { value: wrote::IpChoice::Address(address), at }) = &nic.ip {
                segments.claim_address(&switch, *address, &who(machine), *at, reader);
            }
            if let Some(mac) = &nic.mac {
                segments.claim_mac(&switch.name, mac.value, &who(machine), mac.at, reader);
            }
            if let Some(gateway) = &nic.gateway {
                let own = nic.ip.as_ref().is_some_and(|ip| ip.value == wrote::IpChoice::Address(gateway.value));
                let guest = written.contains(&(&nic.switch.value, gateway.value));
                match own {
                    true => {
                        let hint = Some("name a router's address on the switch, or leave `gateway` out".to_string());
                        reader.error(gateway.at, "E036", format!("machine `{}` cannot be its own gateway", machine.name.value), hint);
                    }
                    // A guest may route for others.
                    false if !guest => check_gateway(gateway, &switch, segments, reader),
                    false => {}
                }
            }
        }
    }
}

fn check_gateway(gateway: &Spanned<IpAddr>, switch: &Switch, segments: &Segments, reader: &mut Reader) {
    if switch.subnet_of(gateway.value).is_none() {
        let hint = Some(format!("use an address of {}", switch.subnets()));
        reader.error(gateway.at, "E036", format!("gateway {} is not in the subnet of switch `{}`", gateway.value, switch.name), hint);
        return;
    }
    let known = segments.gateways.get(&switch.name);
    // Beyond a `localnet` port stands whoever stands on the hosts' network.
    if known.is_none_or(|known| !known.all.contains(&gateway.value)) && switch.localnets.is_empty() {
        let message = format!("no router or guest has the address {} on switch `{}`", gateway.value, switch.name);
        reader.warning_with(gateway.at, "W004", message, |_| {
            let Some(known) = known else { return Some("no router stands on this switch".to_string()) };
            let some: Vec<String> = known.all.iter().take(MANY).map(IpAddr::to_string).collect();
            Some(format!("routers on this switch: {}", listed(some.iter().map(String::as_str))))
        });
    }
}

fn choose_addresses(wrote: &[wrote::Machine], leases: &Leases, segments: &mut Segments, reader: &mut Reader) -> Chosen {
    let mut open: Vec<(usize, usize, NetworkName, ipnet::Ipv4Net)> = Vec::new();
    for (machine_index, machine) in wrote.iter().enumerate() {
        for (nic_index, nic) in machine.network.iter().enumerate() {
            let written = nic.ip.as_ref().is_some_and(|ip| matches!(ip.value, wrote::IpChoice::Address(IpAddr::V4(_))));
            let Some(switch) = segments.switches.get(&nic.switch.value).filter(|_| !written) else { continue };
            open.extend(switch.ipv4().map(|subnet| (machine_index, nic_index, switch.name.clone(), subnet)));
        }
    }
    let mut pools: BTreeMap<NetworkName, Pool> = BTreeMap::new();
    for (_, _, switch, subnet) in &open {
        pools.entry(switch.clone()).or_insert_with(|| pool(switch, *subnet, segments));
    }
    // Whoever is named as a gateway is somebody else, though the file does not say who.
    for nic in wrote.iter().flat_map(|machine| &machine.network) {
        if let (Some(Spanned { value: IpAddr::V4(gateway), .. }), Some(pool)) = (&nic.gateway, pools.get_mut(&nic.switch.value)) {
            pool.take(*gateway);
        }
    }
    let mut chosen = Chosen::new();
    // What a guest has, it keeps, as long as the file leaves it free.
    for (machine_index, nic_index, switch, _) in &open {
        let lease = leases.get(&(wrote[*machine_index].name.value.clone(), *nic_index));
        if let (Some(IpAddr::V4(address)), Some(pool)) = (lease, pools.get_mut(switch))
            && pool.is_free(*address)
            && pool.take(*address)
        {
            chosen.insert((*machine_index, *nic_index), IpAddr::V4(*address));
        }
    }
    for (machine_index, nic_index, switch, subnet) in open {
        if chosen.contains_key(&(machine_index, nic_index)) {
            continue;
        }
        match pools.get_mut(&switch).and_then(Pool::next_free) {
            Some(address) => {
                chosen.insert((machine_index, nic_index), IpAddr::V4(address));
            }
            None => {
                let nic = &wrote[machine_index].network[nic_index];
                let hint = Some(format!("{subnet} is full: use a larger subnet, or exclude fewer addresses"));
                reader.error(
                    nic.at,
                    "E040",
                    format!("switch `{switch}` has no address left for machine `{}`", wrote[machine_index].name.value),
                    hint,
                );
            }
        }
    }
    chosen
}

fn pool(switch: &NetworkName, subnet: ipnet::Ipv4Net, segments: &Segments) -> Pool {
    let mut pool = Pool::new(subnet);
    for (from, to) in segments.excluded.get(switch).into_iter().flatten() {
        pool.exclude(*from, *to);
    }
    let avoided = segments.avoided.get(switch).into_iter().flatten().copied();
    for address in segments.addresses(switch).chain(avoided) {
        if let IpAddr::V4(address) = address {
            pool.take(address);
        }
    }
    // Without a router the first address is left for one that may come: gateways are customarily there.
    if !segments.gateways.contains_key(switch)
        && let Some(first) = subnet.hosts().next()
    {
        pool.take(first);
    }
    pool
}
