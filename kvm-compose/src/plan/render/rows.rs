//! The logical network as rows of OVN's northbound database (ovn-nb(5)): switches, routers and their ports.
//!
//! Pure. Conventions: `Text` for single strings, `Set` for sets (sorted), `Map` for maps, `Refs` for references. What is
//! served on the segments (DHCP, DNS, advertisements) is in `services`, what changes or stops traffic in `policy`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{claims, policy, routed::Routed, services};
use crate::{
    names::{DeploymentName, GuestName, HostName, InstallationId, NetworkName},
    plan::blueprint::{Column, Row, RowKey, Table},
    topology::{Guest, Internal, Localnet, Nic, Router, RouterPort, StaticRoute, Switch, Topology},
};

/// The key of a switch's row.
pub fn switch_key(name: &NetworkName) -> RowKey {
    RowKey(format!("switch/{name}"))
}

/// The key of a guest's port.
pub fn port_key(guest: &GuestName, nic: usize) -> RowKey {
    RowKey(format!("port/{guest}/{nic}"))
}

/// The key of a router's row.
pub fn router_key(name: &NetworkName) -> RowKey {
    RowKey(format!("router/{name}"))
}

/// The key of a router port's row.
pub fn router_port_key(name: &NetworkName) -> RowKey {
    RowKey(format!("router-port/{name}"))
}

/// What rows need to know beside the topology.
pub struct Place<'a> {
    /// The installation that owns them.
    pub installation: InstallationId,
    /// MTU of guests' interfaces.
    pub mtu: u16,
    /// Whom guests with a way out are told to ask for names.
    pub resolver: Option<IpAddr>,
    /// The names of hosts as chassis.
    pub chassis: &'a BTreeMap<HostName, String>,
}

/// All rows, in an order in which each row's references come before it.
pub fn rows(routed: &Routed<'_>, place: &Place<'_>) -> Vec<Row> {
    let topology = routed.topology;
    let deployment = &topology.deployment;
    let mut rows: Vec<Row> = services::dns_row(topology).into_iter().collect();
    let named = !rows.is_empty();
    let balancers: Vec<Row> = topology.routers.iter().flat_map(|router| policy::balancer_rows(deployment, router)).collect();
    let mut forwards: Vec<RowKey> = balancers.iter().map(|row| row.key.clone()).collect();
    forwards.sort();
    rows.extend(topology.switches.iter().map(|switch| switch_row(deployment, switch, named, &forwards)));
    rows.extend(topology.routers.iter().map(|router| router_row(deployment, router)));
    rows.splice(0..0, balancers);
    rows.extend(topology.switches.iter().flat_map(|switch| services::dhcp_rows(routed, switch, place)));
    let names = policy::port_names(topology, place.installation);
    let guests = claims::Guests::new(topology);
    for switch in &topology.switches {
        rows.extend(policy::acl_rows(switch, &names));
        rows.extend(services::resolver_row(routed, switch));
        if !switch.localnets.is_empty() {
            let claims = guests.claims(routed, switch);
            rows.extend(switch.localnets.iter().map(|localnet| localnet_row(deployment, switch, localnet, &claims)));
        }
        rows.extend(switch.internals.iter().map(|internal| internal_row(deployment, switch, internal)));
    }
    for router in &topology.routers {
        for port in &router.ports {
            rows.extend(router_port_rows(topology, router, port, place.mtu));
            rows.extend(policy::gateway_row(deployment, port, place.chassis));
        }
        rows.extend(route_rows(router));
        rows.extend(policy::nat_rows(router));
    }
    let switches: BTreeMap<&NetworkName, &Switch> = topology.switches.iter().map(|switch| (&switch.name, switch)).collect();
    let hops = hops(topology);
    for guest in &topology.guests {
        let forwards = guest.nics.iter().flat_map(|nic| &nic.addresses).any(|address| hops.contains(&address.net.addr()));
        for (index, nic) in guest.nics.iter().enumerate() {
            let name = place.installation.port_uuid(deployment, &guest.name, index).to_string();
            rows.push(guest_port_row(guest, index, nic, name, switches.get(&nic.switch).copied(), forwards));
        }
    }
    rows
}

/// A name that is unique among deployments: OVN demands it of ports, and people read it in `ovn-nbctl show`.
pub fn scoped(deployment: &DeploymentName, name: &NetworkName) -> String {
    format!("{deployment}.{name}")
}

/// Addresses that others send through: a guest that has one of them forwards what is not its own.
fn hops(topology: &Topology) -> BTreeSet<IpAddr> {
    let gateways = topology.guests.iter().flat_map(|guest| &guest.nics).flat_map(|nic| &nic.addresses).filter_map(|a| a.gateway);
    let next = topology.routers.iter().flat_map(|router| &router.routes).map(|route| route.nexthop);
    gateways.chain(next).collect()
}

fn switch_row(deployment: &DeploymentName, switch: &Switch, named: bool, forwards: &[RowKey]) -> Row {
    let records = if named && !switch.wire { vec![services::dns_key()] } else { Vec::new() };
    // A router's gateway takes back what a forwarding did only to answers that leave through it. For guests inside, their own
    // switch forwards, and takes it back as well (ovn-northd(8), `ls_in_lb`).
    let forwards = if switch.wire || !switch.localnets.is_empty() { Vec::new() } else { forwards.to_vec() };
    let columns = vec![
        ("name", text(scoped(deployment, &switch.name))),
        ("dns_records", Column::Refs(records)),
        ("load_balancer", Column::Refs(forwards)),
    ];
    row(switch_key(&switch.name), Table::LogicalSwitch, columns, None)
}

fn router_row(deployment: &DeploymentName, router: &Router) -> Row {
    let mut balancers: Vec<RowKey> = policy::balancer_rows(deployment, router).into_iter().map(|row| row.key).collect();
    balancers.sort();
    let columns = vec![("name", text(scoped(deployment, &router.name))), ("load_balancer", Column::Refs(balancers))];
    row(router_key(&router.name), Table::LogicalRouter, columns, None)
}

/// A way from a switch to the hosts' network of that name (ovn-nb(5), type `localnet`).
fn localnet_row(deployment: &DeploymentName, switch: &Switch, localnet: &Localnet, claims: &str) -> Row {
    let columns = vec![
        ("name", text(scoped(deployment, &localnet.name))),
        ("type", text("localnet".to_string())),
        ("addresses", Column::Set(vec!["unknown".to_string()])),
        ("options", map([("network_name", localnet.network.to_string())])),
        ("external_ids", map([(claims::CLAIMS, claims.to_string())])),
    ];
    let key = RowKey(format!("localnet/{}", localnet.name));
    row(key, Table::LogicalSwitchPort, columns, Some((switch_key(&switch.name), "ports")))
}

/// The port of an interface of the master's own machine; its name is the interface's `iface-id`.
fn internal_row(deployment: &DeploymentName, switch: &Switch, internal: &Internal) -> Row {
    let columns = vec![
        ("name", text(scoped(deployment, &internal.name))),
        ("type", text(String::new())),
        ("addresses", Column::Set(vec![format!("{} {}", internal.mac, internal.address.addr())])),
    ];
    let key = RowKey(format!("internal/{}", internal.name));
    row(key, Table::LogicalSwitchPort, columns, Some((switch_key(&switch.name), "ports")))
}

fn route_rows(router: &Router) -> Vec<Row> {
    // Two routes may share a prefix (equal-cost multipath), so the next hop is part of the key.
    let mut seen = BTreeSet::new();
    let once: Vec<&StaticRoute> = router.routes.iter().filter(|route| seen.insert((route.prefix, route.nexthop))).collect();
    let rows = once.into_iter().map(|route| {
        let key = RowKey(format!("route/{}/{}/{}", router.name, route.prefix, route.nexthop));
        let columns = vec![("ip_prefix", text(route.prefix.to_string())), ("nexthop", text(route.nexthop.to_string()))];
        row(key, Table::StaticRoute, columns, Some((router_key(&router.name), "static_routes")))
    });
    rows.collect()
}

/// A router's port and the switch's end of it.
fn router_port_rows(topology: &Topology, router: &Router, port: &RouterPort, mtu: u16) -> [Row; 2] {
    let name = scoped(&topology.deployment, &port.name);
    let mut networks: Vec<String> = port.addresses().map(|address| address.to_string()).collect();
    networks.sort();
    let columns = vec![
        ("name", text(name.clone())),
        ("mac", text(port.mac.to_string())),
        ("networks", Column::Set(networks)),
        ("ipv6_ra_configs", Column::Map(services::advertisement(topology, port, mtu))),
    ];
    let own = row(router_port_key(&port.name), Table::LogicalRouterPort, columns, Some((router_key(&router.name), "ports")));
    let mut options = BTreeMap::from([("router-port".to_string(), name.clone())]);
    if port.gateway_chassis.is_some() {
        // The network outside learns where NAT's addresses are (ovn-nb(5), `nat-addresses`).
        options.insert("nat-addresses".to_string(), "router".to_string());
    }
    let columns = vec![
        ("name", text(format!("{name}.peer"))),
        ("type", text("router".to_string())),
        ("addresses", Column::Set(vec!["router".to_string()])),
        ("options", Column::Map(options)),
    ];
    let peer =
        row(RowKey(format!("router-peer/{}", port.name)), Table::LogicalSwitchPort, columns, Some((switch_key(&port.switch), "ports")));
    [own, peer]
}

fn guest_port_row(guest: &Guest, index: usize, nic: &Nic, name: String, switch: Option<&Switch>, forwards: bool) -> Row {
    let addresses: Vec<String> = nic.addresses.iter().map(|address| address.net.addr().to_string()).collect();
    let own = std::iter::once(nic.mac.to_string()).chain(addresses).collect::<Vec<_>>().join(" ");
    let wire = switch.is_some_and(|switch| switch.wire);
    // Port security: nobody can pose as another guest (ovn-nb(5), `port_security`). A guest that routes sends what others
    // sent, so only its MAC address is held against it; on a wire there is nobody else.
    let (known, secured) = match (wire, forwards) {
        (true, _) => (vec!["unknown".to_string()], Vec::new()),
        (false, true) => (vec![own], vec![nic.mac.to_string()]),
        (false, false) => (vec![own.clone()], vec![own]),
    };
    let (four, six) = switch.map(services::dhcp_keys).unwrap_or_default();
    let columns = vec![
        ("name", text(name)),
        ("type", text(String::new())),
        ("addresses", Column::Set(known)),
        ("port_security", Column::Set(secured)),
        ("dhcpv4_options", Column::Refs(four.into_iter().collect())),
        ("dhcpv6_options", Column::Refs(six.into_iter().collect())),
    ];
    row(port_key(&guest.name, index), Table::LogicalSwitchPort, columns, Some((switch_key(&nic.switch), "ports")))
}

/// A row.
pub fn row(key: RowKey, table: Table, columns: Vec<(&str, Column)>, parent: Option<(RowKey, &str)>) -> Row {
    let columns = columns.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    Row { key, table, columns, parent: parent.map(|(key, column)| (key, column.to_string())) }
}

/// One string.
pub fn text(text: String) -> Column {
    Column::Text(text)
}

/// A map of strings.
pub fn map<const N: usize>(entries: [(&str, String); N]) -> Column {
    Column::Map(entries.into_iter().map(|(key, value)| (key.to_string(), value)).collect::<BTreeMap<_, _>>())
}
