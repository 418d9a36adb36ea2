//! The logical network as rows of OVN's northbound database (ovn-nb(5)).
//!
//! Pure. Conventions: `Text` for single strings, `Set` for sets (sorted), `Map` for maps, `Refs` for references.

use std::collections::BTreeMap;

use crate::{
    names::{DeploymentName, GuestName, InstallationId, NetworkName},
    plan::blueprint::{Column, Row, RowKey, Table},
    topology::{Nic, Router, RouterPort, Switch, Topology},
};

/// The key of a switch's row.
pub fn switch_key(name: &NetworkName) -> RowKey {
    RowKey(format!("switch/{name}"))
}

/// The key of a guest's port.
pub fn port_key(guest: &GuestName, nic: usize) -> RowKey {
    RowKey(format!("port/{guest}/{nic}"))
}

fn router_key(name: &NetworkName) -> RowKey {
    RowKey(format!("router/{name}"))
}

fn dhcp_key(switch: &NetworkName) -> RowKey {
    RowKey(format!("dhcp/{switch}"))
}

/// All rows, in an order in which each row's references come before it.
pub fn rows(topology: &Topology, installation: InstallationId, mtu: u16) -> Vec<Row> {
    let deployment = &topology.deployment;
    let mut rows: Vec<Row> = topology.switches.iter().map(|switch| switch_row(deployment, switch)).collect();
    rows.extend(
        topology.routers.iter().map(|router| {
            row(router_key(&router.name), Table::LogicalRouter, vec![("name", text(scoped(deployment, &router.name)))], None)
        }),
    );
    rows.extend(topology.switches.iter().filter_map(|switch| dhcp_row(switch, mtu)));
    for router in &topology.routers {
        for port in &router.ports {
            rows.extend(router_port_rows(deployment, router, port));
        }
        for (index, route) in router.routes.iter().enumerate() {
            // Two routes may share a prefix (equal-cost multipath), so the next hop is part of the key.
            let duplicate = router.routes[..index].iter().any(|other| other == route);
            if !duplicate {
                let key = RowKey(format!("route/{}/{}/{}", router.name, route.prefix, route.nexthop));
                let columns = vec![("ip_prefix", text(route.prefix.to_string())), ("nexthop", text(route.nexthop.to_string()))];
                rows.push(row(key, Table::StaticRoute, columns, Some((router_key(&router.name), "static_routes"))));
            }
        }
    }
    for guest in &topology.guests {
        for (index, nic) in guest.nics.iter().enumerate() {
            let name = installation.port_uuid(deployment, &guest.name, index).to_string();
            rows.push(guest_port_row(&guest.name, index, nic, name, topology));
        }
    }
    rows
}

/// A name that is unique among deployments: OVN demands it of ports, and people read it in `ovn-nbctl show`.
fn scoped(deployment: &DeploymentName, name: &NetworkName) -> String {
    format!("{deployment}.{name}")
}

fn switch_row(deployment: &DeploymentName, switch: &Switch) -> Row {
    row(switch_key(&switch.name), Table::LogicalSwitch, vec![("name", text(scoped(deployment, &switch.name)))], None)
}

fn dhcp_row(switch: &Switch, mtu: u16) -> Option<Row> {
    let dhcp = switch.dhcp.as_ref()?;
    let options = [
        ("lease_time", dhcp.lease_s.to_string()),
        ("mtu", mtu.to_string()),
        ("router", dhcp.gateway.to_string()),
        ("server_id", dhcp.gateway.to_string()),
        ("server_mac", dhcp.server_mac.to_string()),
    ];
    let columns = vec![("cidr", text(switch.subnet.to_string())), ("options", map(options))];
    Some(row(dhcp_key(&switch.name), Table::DhcpOptions, columns, None))
}

/// A router's port and the switch's end of it.
fn router_port_rows(deployment: &DeploymentName, router: &Router, port: &RouterPort) -> [Row; 2] {
    let name = scoped(deployment, &port.name);
    let columns =
        vec![("name", text(name.clone())), ("mac", text(port.mac.to_string())), ("networks", Column::Set(vec![port.address.to_string()]))];
    let own =
        row(RowKey(format!("router-port/{}", port.name)), Table::LogicalRouterPort, columns, Some((router_key(&router.name), "ports")));
    let columns = vec![
        ("name", text(format!("{name}.peer"))),
        ("type", text("router".to_string())),
        ("addresses", Column::Set(vec!["router".to_string()])),
        ("options", map([("router-port", name)])),
    ];
    let peer =
        row(RowKey(format!("router-peer/{}", port.name)), Table::LogicalSwitchPort, columns, Some((switch_key(&port.switch), "ports")));
    [own, peer]
}

fn guest_port_row(guest: &GuestName, index: usize, nic: &Nic, name: String, topology: &Topology) -> Row {
    let address = format!("{} {}", nic.mac, nic.address.addr());
    let served = topology.switches.iter().any(|switch| switch.name == nic.switch && switch.dhcp.is_some());
    let columns = vec![
        ("name", text(name)),
        ("type", text(String::new())),
        ("addresses", Column::Set(vec![address.clone()])),
        // Port security: nobody can pose as another guest (ovn-nb(5), `port_security`).
        ("port_security", Column::Set(vec![address])),
        ("dhcpv4_options", Column::Refs(if served { vec![dhcp_key(&nic.switch)] } else { Vec::new() })),
    ];
    row(port_key(guest, index), Table::LogicalSwitchPort, columns, Some((switch_key(&nic.switch), "ports")))
}

fn row(key: RowKey, table: Table, columns: Vec<(&str, Column)>, parent: Option<(RowKey, &str)>) -> Row {
    let columns = columns.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    Row { key, table, columns, parent: parent.map(|(key, column)| (key, column.to_string())) }
}

fn text(text: String) -> Column {
    Column::Text(text)
}

fn map<const N: usize>(entries: [(&str, String); N]) -> Column {
    Column::Map(entries.into_iter().map(|(key, value)| (key.to_string(), value)).collect::<BTreeMap<_, _>>())
}
