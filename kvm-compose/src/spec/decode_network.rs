//! From nodes to what the user wrote: the network section.
//!
//! Pure. Reports every fault and goes on.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    decode::{address, mac},
    decode_bridges,
    model::{AddressRange, DhcpRule, Network, Ovn, Router, RouterPort, StaticRoute, Switch},
    node::Node,
    reader::{Fields, Reader, Spanned},
};
use crate::names::NetworkName;

/// Decodes `network`.
pub fn network(node: &Node, reader: &mut Reader) -> Network {
    let Some(mut fields) = reader.fields(node, "`network`") else { return Network::default() };
    let ovn_at = fields.key_at("ovn");
    let ovn = match fields.get("ovn") {
        Some(node) => ovn(node, reader),
        None => Ovn::default(),
    };
    let bridges = decode_bridges::bridges(&mut fields, reader);
    match (ovn_at, &bridges) {
        (None, None) => {
            reader.error(fields.at, "E004", "`network` needs `ovn`".to_string(), Some("add `ovn:` with `switches:` below it".to_string()));
        }
        (Some(_), Some(_)) => {
            let at = decode_bridges::KEYS.iter().find_map(|key| fields.key_at(key)).unwrap_or(fields.at);
            let hint = Some("keep one of the two; `testbed config` turns bridges into `ovn`".to_string());
            reader.error(at, "E007", "`network` has `ovn` or `bridges`, not both".to_string(), hint);
        }
        _ => {}
    }
    fields.refuse(reader, &["links"]);
    fields.finish(reader);
    Network { ovn, bridges, bridge_connections: (), external_bridge: () }
}

fn ovn(node: &Node, reader: &mut Reader) -> Ovn {
    let Some(mut fields) = reader.fields(node, "`ovn`") else { return Ovn::default() };
    let mut ovn = Ovn::default();
    if let Some(node) = fields.require(reader, "switches") {
        for (name, node) in named(node, "`switches`", reader) {
            ovn.switches.extend(switch(name, node, reader));
        }
    }
    if let Some(node) = fields.get("routers") {
        for (name, node) in named(node, "`routers`", reader) {
            ovn.routers.extend(router(name, node, reader));
        }
    }
    fields.refuse(reader, &["acl", "dns"]);
    fields.finish(reader);
    ovn
}

/// The entries of a map whose keys are names of the network.
fn named<'a>(node: &'a Node, what: &str, reader: &mut Reader) -> Vec<(Spanned<NetworkName>, &'a Node)> {
    let Some(fields) = reader.fields(node, what) else { return Vec::new() };
    fields.entries().iter().filter_map(|(key, value)| reader.name(key, what).map(|name| (name, value))).collect()
}

fn switch(name: Spanned<NetworkName>, node: &Node, reader: &mut Reader) -> Option<Switch> {
    let mut fields = reader.fields(node, &format!("switch `{}`", name.value))?;
    let subnet = fields.require(reader, "subnet").and_then(|node| subnet(node, "`subnet`", reader));
    fields.refuse(reader, &["ports", "ipv6", "impairment", "labels"]);
    fields.finish(reader);
    Some(Switch { name: Some(name), subnet })
}

fn subnet(node: &Node, what: &str, reader: &mut Reader) -> Option<Spanned<IpNet>> {
    let net = cidr(node, what, reader)?;
    if net.value.prefix_len() > 30 && matches!(net.value, IpNet::V4(_)) {
        let hint = Some("use a prefix of at most 30".to_string());
        reader.error(node.at, "E006", format!("{what} {} has no room for guests and a gateway", net.value), hint);
        return None;
    }
    let first = net.value.network();
    let special = match first {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_multicast() || v4.is_unspecified() || v4.is_link_local() || v4.octets()[0] >= 240,
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_multicast() || v6.is_unspecified(),
    };
    if net.value.prefix_len() == 0 || special {
        let hint = Some("use private addresses, such as 10.0.0.0/24 (RFC 1918) or fd00:1::/64 (RFC 4193)".to_string());
        reader.error(node.at, "E006", format!("{what} {} has addresses that no guest may have", net.value), hint);
        return None;
    }
    if net.value.addr() != first {
        let hint = Some(format!("write `{}`", net.value.trunc()));
        reader.warning(node.at, "W005", format!("{what} {} means {}", net.value, net.value.trunc()), hint);
    }
    Some(net)
}

fn cidr(node: &Node, what: &str, reader: &mut Reader) -> Option<Spanned<IpNet>> {
    reader.parsed(node, what, "E030", |text| {
        text.parse::<IpNet>().map_err(|_| match text.parse::<IpAddr>() {
            Ok(_) => format!("add the prefix length: `{text}/24`"),
            Err(_) => "write `address/prefix`, such as 10.0.0.0/24".to_string(),
        })
    })
}

fn router(name: Spanned<NetworkName>, node: &Node, reader: &mut Reader) -> Option<Router> {
    let what = format!("router `{}`", name.value);
    let mut fields = reader.fields(node, &what)?;
    let ports = items(&mut fields, "ports", reader).iter().filter_map(|node| port(node, reader)).collect();
    let static_routes = items(&mut fields, "static_routes", reader).iter().filter_map(|node| route(node, reader)).collect();
    let dhcp = items(&mut fields, "dhcp", reader).iter().filter_map(|node| dhcp(node, reader)).collect();
    fields.refuse(reader, &["nat", "labels"]);
    fields.finish(reader);
    Some(Router { name: Some(name), ports, static_routes, dhcp })
}

fn items<'a>(fields: &mut Fields<'a>, key: &'static str, reader: &mut Reader) -> &'a [Node] {
    fields.get(key).and_then(|node| reader.list(node, &format!("`{key}`"))).unwrap_or_default()
}

fn port(node: &Node, reader: &mut Reader) -> Option<RouterPort> {
    let mut fields = reader.fields(node, "a router port")?;
    let port = RouterPort {
        name: fields.require(reader, "name").and_then(|node| reader.name(node, "`name`")),
        mac: fields.get("mac").and_then(|node| reader.parsed(node, "`mac`", "E034", mac)),
        gateway_ip: fields.require(reader, "gateway_ip").and_then(|node| cidr(node, "`gateway_ip`", reader)),
        switch: fields.require(reader, "switch").and_then(|node| reader.name(node, "`switch`")),
    };
    fields.refuse(reader, &["set_gateway_chassis"]);
    fields.finish(reader);
    Some(port)
}

fn route(node: &Node, reader: &mut Reader) -> Option<StaticRoute> {
    let mut fields = reader.fields(node, "a static route")?;
    let route = StaticRoute {
        prefix: fields.require(reader, "prefix").and_then(|node| cidr(node, "`prefix`", reader)),
        nexthop: fields.require(reader, "nexthop").and_then(|node| reader.parsed(node, "`nexthop`", "E030", address)),
    };
    fields.finish(reader);
    Some(route)
}

fn dhcp(node: &Node, reader: &mut Reader) -> Option<DhcpRule> {
    let mut fields = reader.fields(node, "a DHCP rule")?;
    let switch = fields.require(reader, "switch").and_then(|node| reader.name(node, "`switch`"));
    let exclude_ips = fields.get("exclude_ips").and_then(|node| range(node, reader));
    fields.finish(reader);
    Some(DhcpRule { switch, exclude_ips })
}

fn range(node: &Node, reader: &mut Reader) -> Option<AddressRange> {
    let mut fields = reader.fields(node, "`exclude_ips`")?;
    let range = AddressRange {
        from: fields.require(reader, "from").and_then(|node| reader.parsed(node, "`from`", "E030", address)),
        to: fields.require(reader, "to").and_then(|node| reader.parsed(node, "`to`", "E030", address)),
    };
    fields.finish(reader);
    Some(range)
}
