//! What OVN serves on the segments: DHCP (RFC 2131, RFC 8415), names (DNS), router advertisements (RFC 4861).
//!
//! Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{
    routed::Routed,
    rows::{Place, map, row, scoped, switch_key, text},
};
use crate::{
    names::generated_mac,
    plan::blueprint::{Column, Row, RowKey, Table},
    topology::{Ipv6Mode, RouterPort, Switch, Topology},
};

/// Whom guests of a switch without a router ask for names. OVN answers such questions whomever they are put to, but somebody
/// must answer the ARP request before: a port that nothing is plugged into does. Link-local (RFC 3927), so that it is in
/// nobody's subnet; guests have a route to it.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 53);

/// The IPv4 address of who has none (RFC 7600 section 4.8).
const NOWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// The key of the row that holds the guests' names.
pub fn dns_key() -> RowKey {
    RowKey("dns".to_string())
}

/// The keys of a switch's DHCP rows, IPv4 and IPv6, as far as it has them.
pub fn dhcp_keys(switch: &Switch) -> (Option<RowKey>, Option<RowKey>) {
    let four = switch.dhcp.as_ref().filter(|_| switch.ipv4().is_some()).map(|_| RowKey(format!("dhcp/{}", switch.name)));
    let six = switch.ipv6.filter(|ipv6| ipv6.mode == Ipv6Mode::Dhcpv6).map(|_| RowKey(format!("dhcp6/{}", switch.name)));
    (four, six)
}

/// The names of all guests with their addresses, when the testbed has names.
///
/// A name needs an address of each IP version: OVN passes on a query that it cannot answer, and nobody would answer it. A
/// guest without IPv6 has its IPv4 address mapped (RFC 4291 section 2.5.5.2), which leads to the same place; one without
/// IPv4 has the dummy address of RFC 7600, which leads nowhere, and who asks for both kinds gets the other one first.
pub fn dns_row(topology: &Topology) -> Option<Row> {
    if !topology.dns {
        return None;
    }
    let mut records = BTreeMap::new();
    for guest in &topology.guests {
        // A wire leads nowhere but to its other end.
        let wired = |switch| topology.switch(switch).is_some_and(|switch| switch.wire);
        let nics = guest.nics.iter().filter(|nic| !wired(&nic.switch));
        let mut addresses: Vec<IpAddr> = nics.flat_map(|nic| &nic.addresses).map(|address| address.net.addr()).collect();
        if addresses.is_empty() {
            continue;
        }
        if !addresses.iter().any(IpAddr::is_ipv4) {
            addresses.push(IpAddr::V4(NOWHERE));
        }
        if !addresses.iter().any(IpAddr::is_ipv6) {
            let mapped = addresses.iter().filter_map(|address| match address {
                IpAddr::V4(address) => Some(IpAddr::V6(address.to_ipv6_mapped())),
                IpAddr::V6(_) => None,
            });
            let mapped: Vec<IpAddr> = mapped.collect();
            addresses.extend(mapped);
        }
        let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        records.insert(guest.hostname.to_lowercase(), addresses.join(" "));
    }
    (!records.is_empty()).then(|| row(dns_key(), Table::Dns, vec![("records", Column::Map(records))], None))
}

/// Does the switch need the port behind [`RESOLVER`]: has it names, IPv4, and no router in whose place OVN could answer?
pub fn needs_resolver(routed: &Routed<'_>, switch: &Switch) -> bool {
    routed.topology.dns && !switch.wire && routed.ports(&switch.name).next().is_none() && switch.ipv4().is_some()
}

/// The port behind [`RESOLVER`]: OVN answers ARP for a `localport` without anything plugged into it (ovn-northd(8)).
pub fn resolver_row(routed: &Routed<'_>, switch: &Switch) -> Option<Row> {
    let topology = routed.topology;
    let mac = generated_mac(&topology.deployment, &format!("resolver/{}", switch.name), 0, 0);
    let columns = vec![
        ("name", text(format!("{}.resolver", scoped(&topology.deployment, &switch.name)))),
        ("type", text("localport".to_string())),
        ("addresses", Column::Set(vec![format!("{mac} {RESOLVER}")])),
    ];
    let key = RowKey(format!("resolver/{}", switch.name));
    needs_resolver(routed, switch).then(|| row(key, Table::LogicalSwitchPort, columns, Some((switch_key(&switch.name), "ports"))))
}

/// What OVN's DHCP servers answer on a switch.
pub fn dhcp_rows(routed: &Routed<'_>, switch: &Switch, place: &Place<'_>) -> Vec<Row> {
    let topology = routed.topology;
    let (four, six) = dhcp_keys(switch);
    let mut rows = Vec::new();
    if let (Some(key), Some(dhcp), Some(subnet)) = (four, &switch.dhcp, switch.ipv4()) {
        let gateway = dhcp.gateway.to_string();
        let mut options: BTreeMap<String, String> = [
            ("lease_time", dhcp.lease_s.to_string()),
            ("mtu", place.mtu.to_string()),
            ("router", gateway.clone()),
            ("server_id", gateway.clone()),
            ("server_mac", dhcp.server_mac.to_string()),
        ]
        .map(|(key, value)| (key.to_string(), value))
        .into();
        if topology.dns {
            // OVN answers a question for a guest's name whomever it is put to; other names only somebody outside knows.
            let outside = place.resolver.filter(|resolver| resolver.is_ipv4() && routed.leads_out(switch));
            options.insert("dns_server".to_string(), outside.map_or(gateway, |resolver| resolver.to_string()));
        }
        let columns = vec![("cidr", text(subnet.to_string())), ("options", Column::Map(options))];
        rows.push(row(key, Table::DhcpOptions, columns, None));
    }
    if let (Some(key), Some(ipv6), Some((mac, gateway))) = (six, switch.ipv6, routed.gateway6(switch)) {
        let mut options = vec![("server_id", mac)];
        if topology.dns {
            options.push(("dns_server", gateway));
        }
        let options = options.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
        let columns = vec![("cidr", text(ipv6.subnet.to_string())), ("options", Column::Map(options))];
        rows.push(row(key, Table::DhcpOptions, columns, None));
    }
    rows
}

/// How guests use IPv6 on a router port's segment (ovn-nb(5), `ipv6_ra_configs`); empty where it says nothing.
pub fn advertisement(topology: &Topology, port: &RouterPort, mtu: u16) -> BTreeMap<String, String> {
    let Some(ipv6) = topology.switch(&port.switch).and_then(|switch| switch.ipv6).filter(|_| port.advertises) else {
        return BTreeMap::new();
    };
    let mode = match ipv6.mode {
        Ipv6Mode::Slaac => "slaac",
        Ipv6Mode::Dhcpv6 => "dhcpv6_stateful",
    };
    let Column::Map(mut configs) = map([
        ("address_mode", mode.to_string()),
        ("max_interval", "30".to_string()),
        ("min_interval", "10".to_string()),
        ("mtu", mtu.to_string()),
        ("send_periodic", "true".to_string()),
    ]) else {
        return BTreeMap::new();
    };
    let own = port.addresses().find(|address| matches!(address, IpNet::V6(_)));
    if let Some(own) = own.filter(|_| topology.dns) {
        configs.insert("rdnss".to_string(), own.addr().to_string());
    }
    configs
}
