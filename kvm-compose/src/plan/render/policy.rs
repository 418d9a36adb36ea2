//! What changes or stops traffic: access control lists, address translation, gateways.
//!
//! Pure.

use std::collections::BTreeMap;

use super::{
    digest,
    rows::{router_key, router_port_key, row, scoped, switch_key, text},
};
use crate::{
    names::{DeploymentName, HostName, InstallationId},
    plan::blueprint::{Column, Row, RowKey, Table},
    topology::{Acl, Nat, Router, RouterPort, Switch, Topology},
};

/// What `apply_deny_all` drops: all IP on its way to a port. ARP is no IP and passes, as do the answers of OVN's own DHCP and
/// DNS (ovn-northd(8)).
pub const DENY_ALL: &str = "ip";
/// What passes all the same, with a priority above it: how IPv6 neighbours and routers find each other (RFC 4861). OVN can
/// test these words positively alone, so they cannot be taken out of the other expression.
pub const NEIGHBOURS: &str = "nd || nd_rs || nd_ra";

/// The key of a rule's row: it depends on the rule alone, so that rules beside it may come and go.
pub fn acl_key(switch: &Switch, acl: &Acl) -> RowKey {
    let digest = digest(&[&acl.matches]);
    RowKey(format!("acl/{}/{}/{}/{}", switch.name, acl.direction.word(), acl.priority, &digest[..12]))
}

/// The key of the row of a switch's deny-all rule.
pub fn deny_all_key(switch: &Switch) -> RowKey {
    RowKey(format!("acl/{}/deny-all", switch.name))
}

/// The names of ports in the file, such as `web:eth0`, and what OVN calls them.
pub fn port_names(topology: &Topology, installation: InstallationId) -> BTreeMap<String, String> {
    let deployment = &topology.deployment;
    let mut names = BTreeMap::new();
    for switch in &topology.switches {
        let own = switch.localnets.iter().map(|port| &port.name).chain(switch.internals.iter().map(|port| &port.name));
        names.extend(own.map(|name| (name.to_string(), scoped(deployment, name))));
    }
    let routed = topology.routers.iter().flat_map(|router| &router.ports).map(|port| &port.name);
    names.extend(routed.map(|name| (name.to_string(), format!("{}.peer", scoped(deployment, name)))));
    for guest in &topology.guests {
        let uuid = |index| installation.port_uuid(deployment, &guest.name, index).to_string();
        names.extend(guest.nics.iter().enumerate().map(|(index, nic)| (format!("{}:{}", guest.name, nic.name), uuid(index))));
    }
    names
}

/// An expression with OVN's names of ports in place of the file's. Texts in quotes are names of ports and nothing else
/// (ovn-sb(5)): one that is no port of the file is passed on as it is.
fn with_names(matches: &str, names: &BTreeMap<String, String>) -> String {
    let parts = matches.split('"').enumerate();
    let named = parts.map(|(index, part)| if index % 2 == 1 { names.get(part).map_or(part, String::as_str) } else { part });
    named.collect::<Vec<_>>().join("\"")
}

/// A switch's rules.
pub fn acl_rows(switch: &Switch, names: &BTreeMap<String, String>) -> Vec<Row> {
    let rule = |key: RowKey, direction: &str, priority: u16, matches: &str, action: &str| {
        let columns = vec![
            ("direction", text(direction.to_string())),
            ("priority", text(priority.to_string())),
            ("match", text(matches.to_string())),
            ("action", text(action.to_string())),
        ];
        row(key, Table::Acl, columns, Some((switch_key(&switch.name), "acls")))
    };
    let mut rows: Vec<Row> = switch
        .acls
        .iter()
        .map(|acl| rule(acl_key(switch, acl), acl.direction.word(), acl.priority, &with_names(&acl.matches, names), acl.action.word()))
        .collect();
    if switch.deny_all {
        rows.push(rule(deny_all_key(switch), "to-lport", 0, DENY_ALL, "drop"));
        rows.push(rule(RowKey(format!("acl/{}/neighbours", switch.name)), "to-lport", 1, NEIGHBOURS, "allow"));
    }
    rows
}

/// The key of an address translation's row.
pub fn nat_key(router: &Router, nat: &Nat) -> RowKey {
    RowKey(format!("nat/{}/{}/{}/{}", router.name, nat.kind.word(), nat.external, nat.logical))
}

/// A router's address translations, those of single ports apart.
pub fn nat_rows(router: &Router) -> Vec<Row> {
    let mut rows: BTreeMap<RowKey, Row> = BTreeMap::new();
    for nat in router.nat.iter().filter(|nat| nat.forward.is_none()) {
        let single = nat.logical.prefix_len() == nat.logical.max_prefix_len();
        let logical = if single { nat.logical.addr().to_string() } else { nat.logical.to_string() };
        let columns = vec![
            ("type", text(nat.kind.word().to_string())),
            ("external_ip", text(nat.external.to_string())),
            ("logical_ip", text(logical)),
        ];
        let key = nat_key(router, nat);
        rows.insert(key.clone(), row(key, Table::Nat, columns, Some((router_key(&router.name), "nat"))));
    }
    rows.into_values().collect()
}

/// Ports of addresses outside that lead to guests: OVN does that with a load balancer of one backend each, one per protocol.
pub fn balancer_rows(deployment: &DeploymentName, router: &Router) -> Vec<Row> {
    let mut vips: BTreeMap<&'static str, BTreeMap<String, String>> = BTreeMap::new();
    for nat in &router.nat {
        let Some(forward) = &nat.forward else { continue };
        let socket = |address, port| std::net::SocketAddr::new(address, port).to_string();
        let (from, to) = (socket(nat.external, forward.external), socket(nat.logical.addr(), forward.internal));
        vips.entry(forward.protocol.word()).or_default().insert(from, to);
    }
    let rows = vips.into_iter().map(|(protocol, vips)| {
        let columns = vec![
            ("name", text(format!("{}.{protocol}", scoped(deployment, &router.name)))),
            ("vips", Column::Map(vips)),
            ("protocol", text(protocol.to_string())),
        ];
        row(RowKey(format!("forward/{}/{protocol}", router.name)), Table::LoadBalancer, columns, None)
    });
    rows.collect()
}

/// The host through which a router port's traffic leaves.
pub fn gateway_row(deployment: &DeploymentName, port: &RouterPort, chassis: &BTreeMap<HostName, String>) -> Option<Row> {
    let chassis = chassis.get(&port.gateway_chassis.as_ref()?.name)?;
    let columns = vec![
        ("name", text(format!("{}.{chassis}", scoped(deployment, &port.name)))),
        ("chassis_name", text(chassis.clone())),
        ("priority", text("10".to_string())),
    ];
    Some(row(
        RowKey(format!("gateway/{}", port.name)),
        Table::GatewayChassis,
        columns,
        Some((router_port_key(&port.name), "gateway_chassis")),
    ))
}
