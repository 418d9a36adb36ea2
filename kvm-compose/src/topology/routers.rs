//! From what the user wrote to what it means: routers, their ports, routes, DHCP rules and NAT.
//!
//! Pure. Every unresolved reference and every impossible address is a fault at its place.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::{IpNet, Ipv6Net};

use super::{
    model::{Dhcp, Forward, HostRef, Ipv6, Ipv6Mode, Nat, NatType, Router, RouterPort, StaticRoute, Switch, Transport},
    resolve::Segments,
};
use crate::{
    names::{DeploymentName, NetworkName},
    spec::{model as wrote, reader::Reader},
};

/// The lease time that OVN's DHCP server hands out, in seconds.
const LEASE_S: u32 = 3600;
/// How many routers of one segment get an address of its second subnet.
const MOST_ROUTERS: usize = 4096;

/// Routers with their ports, routes and DHCP rules; their addresses and MACs are claimed on the segments.
pub fn routers(wrote: &[wrote::Router], deployment: &DeploymentName, segments: &mut Segments, reader: &mut Reader) -> Vec<Router> {
    let mut port_names: BTreeMap<NetworkName, NetworkName> = BTreeMap::new();
    let mut routers: Vec<Router> = Vec::new();
    for router in wrote {
        let Some(name) = &router.name else { continue };
        let mut ports: Vec<RouterPort> = Vec::new();
        for (index, port) in router.ports.iter().enumerate() {
            ports.extend(router_port(&name.value, index, port, &ports, deployment, segments, &mut port_names, reader));
        }
        // A router with a faulty port has its fault already; what rests on the port is not judged.
        let whole = ports.len() == router.ports.len();
        let routes = router
            .static_routes
            .iter()
            .filter(|_| whole)
            .filter_map(|route| static_route(&name.value, route, &ports, segments, reader))
            .collect();
        let labels = router.labels.iter().map(|(key, value)| (key.clone(), value.value.clone())).collect();
        routers.push(Router { name: name.value.clone(), ports, routes, nat: Vec::new(), labels });
    }
    second_addresses(&mut routers, segments);
    for (router, resolved) in wrote.iter().filter(|router| router.name.is_some()).zip(&routers) {
        let own = |hop: IpAddr| resolved.ports.iter().any(|port| port.address6.is_some_and(|own| hop == own.addr()));
        for hop in router.static_routes.iter().filter_map(|route| route.nexthop.as_ref()).filter(|hop| own(hop.value)) {
            let hint = Some("name the next router: they have the first addresses of a second subnet, in the order of the file".to_string());
            reader.error(hop.at, "E037", format!("{} is router `{}` itself", hop.value, resolved.name), hint);
        }
    }
    // After all ports: a rule may stand anywhere in the file.
    for (router, resolved) in wrote.iter().filter(|router| router.name.is_some()).zip(&routers) {
        for rule in router.dhcp.iter().filter(|_| resolved.ports.len() == router.ports.len()) {
            dhcp_rule(resolved, rule, segments, reader);
        }
    }
    routers
}

#[expect(clippy::too_many_arguments, reason = "each is a different part of the state being resolved, and there is one caller")]
fn router_port(
    router: &NetworkName,
    index: usize,
    port: &wrote::RouterPort,
    before: &[RouterPort],
    deployment: &DeploymentName,
    segments: &mut Segments,
    names: &mut BTreeMap<NetworkName, NetworkName>,
    reader: &mut Reader,
) -> Option<RouterPort> {
    if let Some(name) = &port.name
        && let Some(other) = names.insert(name.value.clone(), router.clone())
    {
        let hint = Some("names of router ports are unique in the whole file".to_string());
        reader.error(name.at, "E011", format!("router `{other}` has a port `{}` already", name.value), hint);
    }
    let switch = port.switch.as_ref().and_then(|name| segments.find(name, reader).cloned());
    let (name, address, switch) = (port.name.as_ref()?, port.gateway_ip.as_ref()?, switch?);
    let who = format!("port `{}` of router `{router}`", name.value);
    let subnet = switch.subnet?;
    if address.value.prefix_len() != subnet.prefix_len() {
        let hint = Some(format!("the switch's subnet is {subnet}"));
        reader.error(address.at, "E031", format!("`gateway_ip` and switch `{}` have different prefixes", switch.name), hint);
        return None;
    }
    if !segments.claim_address(&switch, address.value.addr(), &who, address.at, reader) {
        return None;
    }
    if let Some(other) = before
        .iter()
        .find(|other| other.address.trunc().contains(&address.value.addr()) || address.value.trunc().contains(&other.address.addr()))
    {
        let hint = Some("a router cannot tell two ports with overlapping subnets apart".to_string());
        reader.error(
            address.at,
            "E038",
            format!("ports `{}` and `{}` of router `{router}` have overlapping subnets", other.name, name.value),
            hint,
        );
    }
    let (mac, at) = match &port.mac {
        Some(mac) => (mac.value, mac.at),
        None => (segments.free_mac(deployment, &switch.name, &format!("router/{router}/{}", name.value), index), name.at),
    };
    segments.claim_mac(&switch.name, mac, &who, at, reader);
    let first = !segments.gateways.contains_key(&switch.name);
    segments.gateways.entry(switch.name.clone()).or_default().push(address.value.addr());
    let gateway_chassis = port.set_gateway_chassis.as_ref().map(|host| HostRef { name: host.value.clone(), at: reader.place(host.at) });
    let advertises = first && switch.ipv6.is_some();
    let (mac, address, switch) = (mac, address.value, switch.name);
    Some(RouterPort { name: name.value.clone(), mac, address, address6: None, switch, gateway_chassis, advertises })
}

fn static_route(
    router: &NetworkName,
    route: &wrote::StaticRoute,
    ports: &[RouterPort],
    segments: &Segments,
    reader: &mut Reader,
) -> Option<StaticRoute> {
    let (prefix, nexthop) = (route.prefix.as_ref()?, route.nexthop.as_ref()?);
    if prefix.value.addr().is_ipv4() != nexthop.value.is_ipv4() {
        reader.error(nexthop.at, "E030", "`prefix` and `nexthop` are of different IP versions".to_string(), None);
        return None;
    }
    if ports.iter().any(|port| port.address.addr() == nexthop.value) {
        let hint = Some("name the next router, not this one".to_string());
        reader.error(nexthop.at, "E037", format!("{} is router `{router}` itself", nexthop.value), hint);
        return None;
    }
    if !ports.iter().any(|port| port.address.trunc().contains(&nexthop.value) || own_second(port, segments, nexthop.value)) {
        let subnets: Vec<String> = ports.iter().map(|port| port.address.trunc().to_string()).collect();
        let hint = Some(format!("use an address in the subnet of one of its ports: {}", subnets.join(", ")));
        reader.error(nexthop.at, "E037", format!("router `{router}` cannot reach {}", nexthop.value), hint);
        return None;
    }
    Some(StaticRoute { prefix: prefix.value.trunc(), nexthop: nexthop.value })
}

fn dhcp_rule(router: &Router, rule: &wrote::DhcpRule, segments: &mut Segments, reader: &mut Reader) {
    let Some(name) = &rule.switch else { return };
    let Some(switch) = segments.find(name, reader).cloned() else { return };
    let Some(port) = router.ports.iter().find(|port| port.switch == switch.name) else {
        let hint = Some(format!("give the router a port on `{}`, or move the rule to a router that has one", switch.name));
        reader.error(name.at, "E021", format!("router `{}` has no port on switch `{}`", router.name, switch.name), hint);
        return;
    };
    if let Some(existing) = &switch.dhcp {
        reader.error(name.at, "E011", format!("switch `{}` has a DHCP rule already, of router `{}`", switch.name, existing.router), None);
        return;
    }
    let excluded = rule.exclude_ips.as_ref().and_then(|range| exclude(&switch, range, segments, reader));
    let dhcp = Dhcp { router: router.name.clone(), gateway: port.address.addr(), server_mac: port.mac, lease_s: LEASE_S, excluded };
    // On a switch that is IPv6 alone the rule means DHCPv6.
    let only6 = switch.ipv6.filter(|_| switch.ipv4().is_none());
    let ipv6 = only6.map(|ipv6| Ipv6 { mode: Ipv6Mode::Dhcpv6, ..ipv6 }).or(switch.ipv6);
    segments.switches.insert(switch.name.clone(), Switch { dhcp: Some(dhcp), ipv6, ..switch });
}

fn exclude(switch: &Switch, range: &wrote::AddressRange, segments: &mut Segments, reader: &mut Reader) -> Option<(IpAddr, IpAddr)> {
    let (from, to) = (range.from.as_ref()?, range.to.as_ref()?);
    let mut outside = false;
    for end in [from, to] {
        if !switch.subnet.is_some_and(|subnet| subnet.contains(&end.value)) {
            outside = true;
            let hint = Some(format!("use addresses of {}", switch.subnets()));
            reader.error(end.at, "E031", format!("{} is not in the subnet of switch `{}`", end.value, switch.name), hint);
        }
    }
    if outside {
        return None;
    }
    if from.value > to.value {
        let hint = Some("swap `from` and `to`".to_string());
        let message = format!("the range begins with {} and ends before it, with {}", from.value, to.value);
        reader.error(from.at, "E039", message, hint);
        return None;
    }
    if let (IpAddr::V4(first), IpAddr::V4(last)) = (from.value, to.value) {
        segments.excluded.entry(switch.name.clone()).or_default().push((first, last));
    }
    Some((from.value, to.value))
}

/// A port's address in the second, IPv6 subnet of its switch: the first that no other router has.
fn second_addresses(routers: &mut [Router], segments: &mut Segments) {
    for router in routers {
        for port in &mut router.ports {
            let Some(switch) = segments.switches.get(&port.switch) else { continue };
            let Some(ipv6) = switch.ipv6.filter(|_| switch.ipv4().is_some()) else { continue };
            let taken = |address: &std::net::Ipv6Addr| segments.addresses.contains_key(&(port.switch.clone(), IpAddr::V6(*address)));
            let Some(address) = ipv6.subnet.hosts().skip(1).take(MOST_ROUTERS).find(|address| !taken(address)) else { continue };
            let who = format!("port `{}` of router `{}`", port.name, router.name);
            segments.addresses.insert((port.switch.clone(), IpAddr::V6(address)), who);
            segments.gateways.entry(port.switch.clone()).or_default().push(IpAddr::V6(address));
            port.address6 = Ipv6Net::new(address, ipv6.subnet.prefix_len()).ok();
        }
    }
}

/// Is the address in the second subnet of the port's switch?
fn own_second(port: &RouterPort, segments: &Segments, address: IpAddr) -> bool {
    segments.switches.get(&port.switch).and_then(|switch| switch.ipv6).is_some_and(|ipv6| IpNet::V6(ipv6.subnet).contains(&address))
}

/// NAT rules, once every address on the segments is known.
pub fn nat(wrote: &[wrote::Router], routers: &mut [Router], segments: &mut Segments, reader: &mut Reader) {
    for (wrote, router) in wrote.iter().filter(|router| router.name.is_some()).zip(routers) {
        if router.ports.len() == wrote.ports.len() {
            let mut rules = Vec::new();
            for rule in &wrote.nat {
                rules.extend(nat_rule(router, rule, &rules, segments, reader));
            }
            router.nat = rules;
        }
    }
}

fn nat_rule(router: &Router, rule: &wrote::Nat, before: &[Nat], segments: &mut Segments, reader: &mut Reader) -> Option<Nat> {
    let (kind, external, logical) = (rule.nat_type.as_ref()?.value, rule.external_ip.as_ref()?, rule.logical_ip.as_ref()?);
    let forward = rule.external_port.as_ref().map(|port| Forward {
        protocol: rule.protocol.as_ref().map_or(Transport::Tcp, |protocol| protocol.value),
        external: port.value as u16,
        internal: rule.logical_port.as_ref().unwrap_or(port).value as u16,
    });
    if external.value.is_ipv4() != logical.value.addr().is_ipv4() {
        reader.error(logical.at, "E030", "`external_ip` and `logical_ip` are of different IP versions".to_string(), None);
        return None;
    }
    if kind != NatType::Snat && logical.value.prefix_len() != logical.value.max_prefix_len() {
        let hint = Some(format!("write one address, such as `logical_ip: {}`", first_host(&logical.value)));
        reader.error(logical.at, "E030", format!("`{}` leads to one address, not to {}", kind.word(), logical.value), hint);
        return None;
    }
    let Some(port) = router.ports.iter().find(|port| port.addresses().any(|own| own.contains(&external.value))) else {
        let subnets: Vec<String> = router.ports.iter().map(|port| port.address.trunc().to_string()).collect();
        let hint = Some(format!("use an address of the network outside; subnets of its ports: {}", subnets.join(", ")));
        reader.error(external.at, "E041", format!("router `{}` has no port in the network of {}", router.name, external.value), hint);
        return None;
    };
    if port.gateway_chassis.is_none() {
        let hint = Some(format!("add `set_gateway_chassis: main` to the port `{}`", port.name));
        let message = format!("NAT needs a gateway chassis, and port `{}` of router `{}` has none", port.name, router.name);
        reader.error(external.at, "E041", message, hint);
        return None;
    }
    let own = port.addresses().any(|own| own.addr() == external.value);
    if own && kind != NatType::Snat && forward.is_none() {
        let hint = Some("use another address of the network outside, or `external_port` for one port".to_string());
        reader.error(external.at, "E033", format!("{} is the router's own address", external.value), hint);
        return None;
    }
    let clash = before.iter().any(|other| match (&forward, &other.forward) {
        (Some(one), Some(other_port)) => {
            other.external == external.value && one.protocol == other_port.protocol && one.external == other_port.external
        }
        (None, None) => kind != NatType::Snat && other.kind != NatType::Snat && other.external == external.value,
        _ => kind != NatType::Snat && other.kind != NatType::Snat && other.external == external.value,
    });
    if clash {
        let hint =
            Some("give the rule another address, or use `nat_type: dnat` with `external_port` for several guests behind one".to_string());
        reader.error(external.at, "E033", format!("{} leads to another guest already", external.value), hint);
        return None;
    }
    let ours = own || before.iter().any(|other| other.external == external.value);
    if !ours {
        let switch = segments.switches.get(&port.switch)?.clone();
        let who = format!("a NAT rule of router `{}`", router.name);
        segments.claim_address(&switch, external.value, &who, external.at, reader);
    }
    Some(Nat { kind, external: external.value, logical: logical.value.trunc(), forward, at: reader.place(rule.at) })
}

fn first_host(net: &IpNet) -> IpAddr {
    net.hosts().next().unwrap_or_else(|| net.addr())
}
