//! From what the user wrote to what it means: an interface of a guest and its addresses.
//!
//! Pure. On a switch with two subnets an interface has an address of each; the file may name one of them.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    model::{Assignment, Ipv6, Ipv6Mode, Nic, NicAddress, Switch},
    resolve::{Gateways, Segments},
    shape,
};
use crate::{
    addr::{Mac, interface_address, usable_in},
    names::DeploymentName,
    spec::{model as wrote, reader::Reader},
};

/// The IPv4 addresses that the testbed chooses, by (machine's index, interface's index).
pub type Chosen = BTreeMap<(usize, usize), IpAddr>;

/// A machine in words.
pub fn who(machine: &wrote::Machine) -> String {
    format!("machine `{}`", machine.name.value)
}

/// An interface of a machine's `network`.
pub fn interface(
    machine_index: usize,
    nic_index: usize,
    machine: &wrote::Machine,
    deployment: &DeploymentName,
    chosen: &Chosen,
    segments: &mut Segments,
    reader: &mut Reader,
) -> Option<Nic> {
    let nic = &machine.network[nic_index];
    let switch = segments.switches.get(&nic.switch.value)?.clone();
    let mac = match &nic.mac {
        Some(mac) => mac.value,
        None => {
            let mac = segments.free_mac(deployment, &switch.name, machine.name.value.as_str(), nic_index);
            segments.claim_mac(&switch.name, mac, &who(machine), nic.at, reader);
            mac
        }
    };
    let shape = match &nic.impairment {
        Some(impairment) => shape::of(impairment, reader),
        None => segments.impairments.get(&switch.name).copied().unwrap_or_default(),
    };
    let four = match switch.ipv4() {
        Some(_) => Some(ipv4(machine, nic, &switch, chosen.get(&(machine_index, nic_index)).copied(), segments, reader)?),
        None => None,
    };
    let six = switch.ipv6.map(|ipv6| ipv6_address(machine, nic, &switch, &ipv6, mac, segments, reader));
    let addresses = four.into_iter().chain(six).collect();
    Some(Nic { name: format!("eth{nic_index}"), switch: switch.name.clone(), mac, addresses, shape })
}

/// The address that the file names, of one IP version.
fn written(nic: &wrote::Interface, ipv4: bool) -> Option<IpAddr> {
    match nic.ip.as_ref()?.value {
        wrote::IpChoice::Address(address) if address.is_ipv4() == ipv4 => Some(address),
        _ => None,
    }
}

fn ipv4(
    machine: &wrote::Machine,
    nic: &wrote::Interface,
    switch: &Switch,
    chosen: Option<IpAddr>,
    segments: &Segments,
    reader: &mut Reader,
) -> Option<NicAddress> {
    let wanted = nic.gateway.as_ref().filter(|gateway| gateway.value.is_ipv4());
    let (address, assignment, gateway) = match (written(nic, true), &switch.dhcp) {
        (Some(address), _) => (address, Assignment::Static, wanted.map(|gateway| gateway.value)),
        (None, Some(dhcp)) => {
            if let Some(gateway) = wanted.filter(|gateway| gateway.value != dhcp.gateway) {
                let hint =
                    Some(format!("the rule of router `{}` hands out {}; use a static `ip` for another gateway", dhcp.router, dhcp.gateway));
                reader.error(gateway.at, "E036", "an interface with a DHCP address gets its gateway from the rule".to_string(), hint);
            }
            (chosen?, Assignment::Dhcp, Some(dhcp.gateway))
        }
        (None, None) => {
            let address = chosen?;
            assigned(machine, nic, switch, address, reader);
            let only = || segments.gateways.get(&switch.name).and_then(Gateways::only);
            (address, Assignment::Assigned, wanted.map(|gateway| gateway.value).or_else(only))
        }
    };
    let net = IpNet::new(address, switch.ipv4()?.prefix_len()).ok()?;
    Some(NicAddress { net, assignment, gateway })
}

/// Says that the testbed chose an address which nobody hands out.
fn assigned(machine: &wrote::Machine, nic: &wrote::Interface, switch: &Switch, address: IpAddr, reader: &mut Reader) {
    // In the form of bridges it cannot be otherwise; of a switch with many guests it is said of the first.
    if nic.assigned || !reader.first("W002", switch.name.as_str()) {
        return;
    }
    let at = nic.ip.as_ref().map_or(nic.at, |ip| ip.at);
    let hint = Some(format!("add a `dhcp` rule for `{}` to a router to have OVN hand it out", switch.name));
    let message = format!("no DHCP rule covers switch `{}`: the testbed gives machine `{}` {address}", switch.name, machine.name.value);
    reader.warning(at, "W002", message, hint);
}

/// The IPv6 address: the file's, or one of the interface's MAC address, which the guest finds by itself where a router
/// advertises the subnet.
fn ipv6_address(
    machine: &wrote::Machine,
    nic: &wrote::Interface,
    switch: &Switch,
    ipv6: &Ipv6,
    mac: Mac,
    segments: &mut Segments,
    reader: &mut Reader,
) -> NicAddress {
    let prefix = ipv6.subnet.prefix_len();
    let net = |address| IpNet::new(address, prefix).unwrap_or(IpNet::V6(ipv6.subnet));
    let wanted = nic.gateway.as_ref().map(|gateway| gateway.value).filter(IpAddr::is_ipv6);
    if let Some(address) = written(nic, false) {
        return NicAddress { net: net(address), assignment: Assignment::Static, gateway: wanted };
    }
    let taken = |address: IpAddr| segments.holds(&switch.name, address) || !usable_in(&IpNet::V6(ipv6.subnet), address);
    let free = |attempts: std::ops::Range<u32>| {
        attempts.map(|attempt| IpAddr::V6(interface_address(&ipv6.subnet, mac, attempt))).find(|address| !taken(*address))
    };
    // A small subnet may be full: then no attempt can succeed, and there are many guests to find that out. Its first address
    // is nobody's.
    let room = 1_u128.checked_shl(u32::from(128 - prefix)).unwrap_or(u128::MAX) - u128::from(prefix < 127);
    let found = if segments.held6(&switch.name) < room { free(0..1 << 12) } else { None };
    let address = found.unwrap_or_else(|| {
        let hint = Some(format!("{} is full: use a larger subnet", ipv6.subnet));
        let message = format!("switch `{}` has no address left for machine `{}`", switch.name, machine.name.value);
        reader.error(nic.at, "E040", message, hint);
        IpAddr::V6(ipv6.subnet.network())
    });
    segments.hold(&switch.name, address, who(machine));
    let router = segments.gateways.get(&switch.name).and_then(Gateways::six);
    let advertised = router.is_some();
    let own = IpAddr::V6(interface_address(&ipv6.subnet, mac, 0)) == address;
    let assignment = match ipv6.mode {
        Ipv6Mode::Dhcpv6 if advertised => Assignment::Dhcp,
        Ipv6Mode::Slaac if advertised && prefix == 64 && own => Assignment::Slaac,
        _ => Assignment::Assigned,
    };
    if assignment == Assignment::Assigned && switch.ipv4().is_none() {
        assigned(machine, nic, switch, address, reader);
    }
    // Who takes no advertisement hears of no router either.
    let gateway = wanted.or(router.filter(|_| assignment == Assignment::Assigned));
    NicAddress { net: net(address), assignment, gateway }
}
