//! From nodes to what the user wrote: the network section, its switches and their ports.
//!
//! Pure. Reports every fault and goes on. Routers are in `decode_router`, rules in `decode_acl`, wires in `decode_link`.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

use super::{
    decode::{self, address, mac},
    decode_acl, decode_bridges, decode_link, decode_router,
    model::{Internal, Ipv6, Ipv6Mode, Labels, Localnet, Network, Ovn, Switch, SwitchPort},
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
        (None, None) if fields.key_at("links").is_none() => {
            reader.error(fields.at, "E004", "`network` needs `ovn`".to_string(), Some("add `ovn:` with `switches:` below it".to_string()));
        }
        (Some(_), Some(_)) => {
            let at = decode_bridges::KEYS.iter().find_map(|key| fields.key_at(key)).unwrap_or(fields.at);
            let hint = Some("keep one of the two; `testbed config` turns bridges into `ovn`".to_string());
            reader.error(at, "E007", "`network` has `ovn` or `bridges`, not both".to_string(), hint);
        }
        _ => {}
    }
    let links = items(&mut fields, "links", reader).iter().filter_map(|node| decode_link::link(node, reader)).collect();
    fields.finish(reader);
    Network { ovn, links, bridges, bridge_connections: (), external_bridge: () }
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
            ovn.routers.extend(decode_router::router(name, node, reader));
        }
    }
    ovn.acl = fields.get("acl").and_then(|node| decode_acl::section(node, reader));
    ovn.dns = fields.get("dns").and_then(|node| reader.boolean(node, "`dns`"));
    fields.finish(reader);
    ovn
}

/// The entries of a map whose keys are names of the network.
pub(super) fn named<'a>(node: &'a Node, what: &str, reader: &mut Reader) -> Vec<(Spanned<NetworkName>, &'a Node)> {
    let Some(fields) = reader.fields(node, what) else { return Vec::new() };
    fields.entries().iter().filter_map(|(key, value)| reader.name(key, what).map(|name| (name, value))).collect()
}

/// The items of a list; a key that is absent is an empty one.
pub(super) fn items<'a>(fields: &mut Fields<'a>, key: &'static str, reader: &mut Reader) -> &'a [Node] {
    fields.get(key).and_then(|node| reader.list(node, &format!("`{key}`"))).unwrap_or_default()
}

/// Decodes `labels`: free keys and values.
pub(super) fn labels(fields: &mut Fields<'_>, reader: &mut Reader) -> Labels {
    fields.get("labels").map(|node| decode::labels(node, reader)).unwrap_or_default()
}

fn switch(name: Spanned<NetworkName>, node: &Node, reader: &mut Reader) -> Option<Switch> {
    let mut fields = reader.fields(node, &format!("switch `{}`", name.value))?;
    let subnet = fields.require(reader, "subnet").and_then(|node| subnet(node, "`subnet`", reader));
    let ports = items(&mut fields, "ports", reader).iter().filter_map(|node| port(node, reader)).collect();
    let ipv6 = fields.get("ipv6").and_then(|node| ipv6(node, reader));
    let impairment = fields.get("impairment").and_then(|node| decode_link::impairment(node, reader));
    let labels = labels(&mut fields, reader);
    fields.finish(reader);
    Some(Switch { name: Some(name), subnet, ports, ipv6, impairment, labels })
}

fn port(node: &Node, reader: &mut Reader) -> Option<SwitchPort> {
    let mut fields = reader.fields(node, "a port of a switch")?;
    let at = fields.at;
    let name = fields.require(reader, "name").and_then(|node| reader.name(node, "`name`"));
    let given = ["localnet", "internal"].iter().filter(|kind| fields.key_at(kind).is_some()).count();
    if given != 1 {
        let hint = Some("guests' ports are made by themselves: name the switch at the machine".to_string());
        reader.error(at, "E007", "a port of a switch needs exactly one of `localnet` and `internal`".to_string(), hint);
    }
    let localnet = fields.get("localnet").and_then(|node| localnet(node, reader));
    let internal = fields.get("internal").and_then(|node| internal(node, reader));
    fields.finish(reader);
    Some(SwitchPort { name, localnet, internal })
}

fn localnet(node: &Node, reader: &mut Reader) -> Option<Localnet> {
    let mut fields = reader.fields(node, "`localnet`")?;
    let network_name = fields.require(reader, "network_name").and_then(|node| reader.name(node, "`network_name`"));
    fields.finish(reader);
    Some(Localnet { network_name })
}

fn internal(node: &Node, reader: &mut Reader) -> Option<Internal> {
    let mut fields = reader.fields(node, "`internal`")?;
    let ip = fields.require(reader, "ip").and_then(|node| reader.parsed(node, "`ip`", "E030", address));
    let mac = fields.get("mac").and_then(|node| reader.parsed(node, "`mac`", "E034", mac));
    fields.finish(reader);
    Some(Internal { ip, mac })
}

/// `ipv6: fd00:1::/64`, or a map with `subnet` and `mode`.
fn ipv6(node: &Node, reader: &mut Reader) -> Option<Ipv6> {
    if node.text().is_some() {
        return Some(Ipv6 { subnet: subnet6(node, "`ipv6`", reader), mode: None });
    }
    let mut fields = reader.fields(node, "`ipv6`")?;
    let subnet = fields.require(reader, "subnet").and_then(|node| subnet6(node, "`subnet` of `ipv6`", reader));
    let mode = fields.get("mode").and_then(|node| reader.word(node, "`mode`", &Ipv6Mode::WORDS));
    fields.finish(reader);
    Some(Ipv6 { subnet, mode })
}

fn subnet6(node: &Node, what: &str, reader: &mut Reader) -> Option<Spanned<Ipv6Net>> {
    let net = subnet(node, what, reader)?;
    match net.value {
        IpNet::V6(value) => Some(Spanned { value: value.trunc(), at: net.at }),
        IpNet::V4(value) => {
            let hint = Some("use an IPv6 prefix, such as fd00:1::/64; IPv4 is what `subnet` is for".to_string());
            reader.error(node.at, "E030", format!("{what} {value} is not IPv6"), hint);
            None
        }
    }
}

pub(super) fn subnet(node: &Node, what: &str, reader: &mut Reader) -> Option<Spanned<IpNet>> {
    let net = cidr(node, what, reader)?;
    if net.value.prefix_len() > 30 && matches!(net.value, IpNet::V4(_)) {
        let hint = Some("use a prefix of at most 30".to_string());
        reader.error(node.at, "E006", format!("{what} {} has no room for guests and a gateway", net.value), hint);
        return None;
    }
    if net.value.prefix_len() > 127 {
        let hint = Some("use a prefix of at most 127; of 64 where guests make their addresses themselves".to_string());
        reader.error(node.at, "E006", format!("{what} {} has room for one address alone", net.value), hint);
        return None;
    }
    let first = net.value.network();
    let special = match first {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_multicast() || v4.is_unspecified() || v4.is_link_local() || v4.octets()[0] >= 240,
        IpAddr::V6(v6) => {
            // Up to ::ffff:0:0/96 it is IPv4 in another guise (RFC 4291, section 2.5.5).
            v6.is_loopback() || v6.is_multicast() || v6.is_unicast_link_local() || v6.segments()[..5] == [0; 5]
        }
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

pub(super) fn cidr(node: &Node, what: &str, reader: &mut Reader) -> Option<Spanned<IpNet>> {
    reader.parsed(node, what, "E030", |text| {
        text.parse::<IpNet>().map_err(|_| match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => format!("add the prefix length: `{text}/24`"),
            Ok(IpAddr::V6(_)) => format!("add the prefix length: `{text}/64`"),
            Err(_) => "write `address/prefix`, such as 10.0.0.0/24".to_string(),
        })
    })
}
