//! What OVN serves on the segments: DHCP (RFC 2131, RFC 8415), names (DNS), router advertisements (RFC 4861).
//!
//! Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::rows::{map, row, text};
use crate::{
    plan::blueprint::{Column, Row, RowKey, Table},
    topology::{Ipv6Mode, RouterPort, Switch, Topology},
};

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
/// guest without IPv6 has its IPv4 address mapped (RFC 4291 section 2.5.5.2), which leads to the same place.
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

/// What OVN's DHCP servers answer on a switch.
pub fn dhcp_rows(topology: &Topology, switch: &Switch, mtu: u16) -> Vec<Row> {
    let (four, six) = dhcp_keys(switch);
    let mut rows = Vec::new();
    if let (Some(key), Some(dhcp), Some(subnet)) = (four, &switch.dhcp, switch.ipv4()) {
        let gateway = dhcp.gateway.to_string();
        let mut options: BTreeMap<String, String> = [
            ("lease_time", dhcp.lease_s.to_string()),
            ("mtu", mtu.to_string()),
            ("router", gateway.clone()),
            ("server_id", gateway.clone()),
            ("server_mac", dhcp.server_mac.to_string()),
        ]
        .map(|(key, value)| (key.to_string(), value))
        .into();
        if topology.dns {
            // OVN answers a question for a guest's name whomever it is put to.
            options.insert("dns_server".to_string(), gateway);
        }
        let columns = vec![("cidr", text(subnet.to_string())), ("options", Column::Map(options))];
        rows.push(row(key, Table::DhcpOptions, columns, None));
    }
    if let (Some(key), Some(ipv6), Some((mac, gateway))) = (six, switch.ipv6, gateway6(topology, switch)) {
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

/// MAC and IPv6 address of the router that advertises a switch's IPv6 subnet.
pub fn gateway6(topology: &Topology, switch: &Switch) -> Option<(String, String)> {
    let ports = topology.routers.iter().flat_map(|router| &router.ports);
    let port = ports.filter(|port| port.switch == switch.name).find(|port| port.advertises)?;
    let address = port.addresses().find(|address| matches!(address, IpNet::V6(_)))?;
    Some((port.mac.to_string(), address.addr().to_string()))
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
    let Column::Map(configs) = map([
        ("address_mode", mode.to_string()),
        ("max_interval", "30".to_string()),
        ("min_interval", "10".to_string()),
        ("mtu", mtu.to_string()),
        ("send_periodic", "true".to_string()),
    ]) else {
        return BTreeMap::new();
    };
    configs
}
