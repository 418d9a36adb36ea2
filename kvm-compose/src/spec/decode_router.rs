//! From nodes to what the user wrote: routers, their ports, routes, NAT and DHCP rules.
//!
//! Pure. Reports every fault and goes on.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    decode::{address, mac},
    decode_network::{cidr, items, labels},
    model::{AddressRange, DhcpRule, Nat, NatType, Router, RouterPort, StaticRoute, Transport},
    node::Node,
    reader::{Reader, Spanned},
};
use crate::names::NetworkName;

/// Decodes a router.
pub fn router(name: Spanned<NetworkName>, node: &Node, reader: &mut Reader) -> Option<Router> {
    let what = format!("router `{}`", name.value);
    let mut fields = reader.fields(node, &what)?;
    let ports = items(&mut fields, "ports", reader).iter().filter_map(|node| port(node, reader)).collect();
    let static_routes = items(&mut fields, "static_routes", reader).iter().filter_map(|node| route(node, reader)).collect();
    let nat = items(&mut fields, "nat", reader).iter().filter_map(|node| nat(node, reader)).collect();
    let dhcp = items(&mut fields, "dhcp", reader).iter().filter_map(|node| dhcp(node, reader)).collect();
    let labels = labels(&mut fields, reader);
    fields.finish(reader);
    Some(Router { name: Some(name), ports, static_routes, nat, dhcp, labels })
}

fn port(node: &Node, reader: &mut Reader) -> Option<RouterPort> {
    let mut fields = reader.fields(node, "a router port")?;
    let port = RouterPort {
        name: fields.require(reader, "name").and_then(|node| reader.name(node, "`name`")),
        mac: fields.get("mac").and_then(|node| reader.parsed(node, "`mac`", "E034", mac)),
        gateway_ip: fields.require(reader, "gateway_ip").and_then(|node| cidr(node, "`gateway_ip`", reader)),
        switch: fields.require(reader, "switch").and_then(|node| reader.name(node, "`switch`")),
        set_gateway_chassis: fields.get("set_gateway_chassis").and_then(|node| reader.name(node, "`set_gateway_chassis`")),
    };
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

fn nat(node: &Node, reader: &mut Reader) -> Option<Nat> {
    let mut fields = reader.fields(node, "a NAT rule")?;
    let at = fields.at;
    let nat_type = fields.require(reader, "nat_type").and_then(|node| nat_type(node, reader));
    let external_ip = fields.require(reader, "external_ip").and_then(|node| reader.parsed(node, "`external_ip`", "E030", address));
    let logical_ip = fields.require(reader, "logical_ip").and_then(|node| reader.parsed(node, "`logical_ip`", "E030", address_or_prefix));
    let external_port = fields.get("external_port").and_then(|node| reader.integer(node, "`external_port`", 1, 65535));
    let logical_port = fields.get("logical_port").and_then(|node| reader.integer(node, "`logical_port`", 1, 65535));
    let protocol = fields.get("protocol").and_then(|node| reader.word(node, "`protocol`", &Transport::WORDS));
    if let (Some(port), Some(kind)) = (&external_port, nat_type.as_ref().filter(|kind| kind.value != NatType::Dnat)) {
        let hint = Some("write `nat_type: dnat` for one port of the address".to_string());
        reader.error(port.at, "E007", format!("`{}` changes the whole address, not one port", kind.value.word()), hint);
    }
    for (key, at) in [("logical_port", logical_port.as_ref().map(|it| it.at)), ("protocol", protocol.as_ref().map(|it| it.at))] {
        if let (Some(at), None) = (at, fields.key_at("external_port")) {
            reader.error(at, "E007", format!("`{key}` needs `external_port`"), Some("add `external_port:`".to_string()));
        }
    }
    fields.finish(reader);
    Some(Nat { nat_type, external_ip, logical_ip, external_port, logical_port, protocol, at })
}

fn nat_type(node: &Node, reader: &mut Reader) -> Option<Spanned<NatType>> {
    if node.text() == Some("snat_and_dnat") {
        let hint = Some("write `dnat_and_snat`, as OVN does".to_string());
        reader.error(node.at, "E006", "`nat_type` cannot be `snat_and_dnat`".to_string(), hint);
        return None;
    }
    reader.word(node, "`nat_type`", &NatType::WORDS)
}

/// An address, taken as the prefix that holds only it, or a prefix.
fn address_or_prefix(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "write an address such as 10.0.0.10, or a prefix such as 10.0.0.0/24".to_string())
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
