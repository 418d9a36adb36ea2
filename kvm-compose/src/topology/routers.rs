//! From what the user wrote to what it means: routers, their ports, routes and DHCP rules.
//!
//! Pure. Every unresolved reference and every impossible address is a fault at its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    rc::Rc,
};

use ipnet::{IpNet, Ipv6Net};

use super::{
    model::{Dhcp, HostRef, Ipv6, Ipv6Mode, Router, RouterPort, StaticRoute, Switch},
    resolve::Segments,
};
use crate::{
    names::{DeploymentName, NetworkName},
    nets::Nets,
    spec::{
        model as wrote,
        reader::{Reader, listed},
    },
};

/// The lease time that OVN's DHCP server hands out, in seconds.
const LEASE_S: u32 = 3600;
/// How many routers of one segment get an address of its second subnet.
const MOST_ROUTERS: usize = 4096;
/// More subnets are not listed.
const MANY: usize = 100;

/// Routers with their ports, routes and DHCP rules; their addresses and MACs are claimed on the segments.
pub fn routers(wrote: &[wrote::Router], deployment: &DeploymentName, segments: &mut Segments, reader: &mut Reader) -> Vec<Router> {
    let mut port_names: BTreeMap<NetworkName, NetworkName> = BTreeMap::new();
    let mut routers: Vec<Router> = Vec::new();
    for router in wrote {
        let Some(name) = &router.name else { continue };
        let (mut ports, mut nets): (Vec<RouterPort>, Nets) = (Vec::new(), Nets::default());
        for port in &router.ports {
            let before = Before { ports: &ports, nets: &nets };
            let Some(port) = router_port(&name.value, port, &before, deployment, segments, &mut port_names, reader) else {
                continue;
            };
            nets.add(ports.len(), port.address);
            ports.push(port);
        }
        // A router with a faulty port has its fault already; what rests on the port is not judged.
        let whole = ports.len() == router.ports.len();
        let seconds = ports.iter().filter_map(|port| Some(IpNet::V6(segments.switches.get(&port.switch)?.ipv6?.subnet)));
        seconds.for_each(|net| nets.add(ports.len(), net));
        let own = ports.iter().map(|port| port.address.addr()).collect();
        let hops = Hops { router: &name.value, ports: &ports, nets, own };
        let used = router.static_routes.iter().filter_map(|route| route.nexthop.as_ref());
        for address in used.chain(router.nat.iter().filter_map(|rule| rule.external_ip.as_ref())) {
            if let Some(port) = hops.nets.holding(address.value).and_then(|number| ports.get(number)) {
                segments.avoided.entry(port.switch.clone()).or_default().insert(address.value);
            }
        }
        let routes = router.static_routes.iter().filter(|_| whole).filter_map(|route| static_route(route, &hops, reader)).collect();
        let labels = router.labels.iter().map(|(key, value)| (key.clone(), value.value.clone())).collect();
        routers.push(Router { name: name.value.clone(), ports, routes, nat: Vec::new(), labels });
    }
    second_addresses(&mut routers, segments);
    for (router, resolved) in wrote.iter().filter(|router| router.name.is_some()).zip(&routers) {
        let own: BTreeSet<IpAddr> = resolved.ports.iter().filter_map(|port| Some(IpAddr::V6(port.address6?.addr()))).collect();
        for hop in router.static_routes.iter().filter_map(|route| route.nexthop.as_ref()).filter(|hop| own.contains(&hop.value)) {
            let hint = Some("name the next router: they have the first addresses of a second subnet, in the order of the file".to_string());
            reader.error(hop.at, "E037", format!("{} is router `{}` itself", hop.value, resolved.name), hint);
        }
    }
    // After all ports: a rule may stand anywhere in the file.
    for (router, resolved) in wrote.iter().filter(|router| router.name.is_some()).zip(&routers) {
        let on: BTreeMap<&NetworkName, &RouterPort> = resolved.ports.iter().rev().map(|port| (&port.switch, port)).collect();
        for rule in router.dhcp.iter().filter(|_| resolved.ports.len() == router.ports.len()) {
            dhcp_rule(resolved, rule, &on, segments, reader);
        }
    }
    routers
}

/// A router's ports so far.
struct Before<'a> {
    ports: &'a [RouterPort],
    nets: &'a Nets,
}

#[expect(clippy::too_many_arguments, reason = "each is a different part of the state being resolved, and there is one caller")]
fn router_port(
    router: &NetworkName,
    port: &wrote::RouterPort,
    before: &Before<'_>,
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
    let switch = port.switch.as_ref().and_then(|name| segments.find(name, reader));
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
    if let Some(other) = before.nets.overlapping(address.value).and_then(|number| before.ports.get(number)) {
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
        // By its address alone: neighbours remember who has it, and nothing that is renamed or put elsewhere in the file should make
        // them look again, or leave a route to a router of the old link-local address behind.
        None => (segments.free_mac(deployment, &switch.name, &format!("router/{}", address.value.addr()), 0), name.at),
    };
    segments.claim_mac(&switch.name, mac, &who, at, reader);
    let first = !segments.gateways.contains_key(&switch.name);
    segments.gateways.entry(switch.name.clone()).or_default().add(address.value.addr());
    let gateway_chassis = port.set_gateway_chassis.as_ref().map(|host| HostRef { name: host.value.clone(), at: reader.place(host.at) });
    let advertises = first && switch.ipv6.is_some();
    let (address, switch) = (address.value, switch.name.clone());
    Some(RouterPort { name: name.value.clone(), mac, address, address6: None, switch, gateway_chassis, advertises })
}

/// Where a router's packets may go.
struct Hops<'a> {
    router: &'a NetworkName,
    ports: &'a [RouterPort],
    /// The subnets of its ports' switches.
    nets: Nets,
    own: BTreeSet<IpAddr>,
}

fn static_route(route: &wrote::StaticRoute, hops: &Hops<'_>, reader: &mut Reader) -> Option<StaticRoute> {
    let (prefix, nexthop, router) = (route.prefix.as_ref()?, route.nexthop.as_ref()?, hops.router);
    if prefix.value.addr().is_ipv4() != nexthop.value.is_ipv4() {
        reader.error(nexthop.at, "E030", "`prefix` and `nexthop` are of different IP versions".to_string(), None);
        return None;
    }
    if hops.own.contains(&nexthop.value) {
        let hint = Some("name the next router, not this one".to_string());
        reader.error(nexthop.at, "E037", format!("{} is router `{router}` itself", nexthop.value), hint);
        return None;
    }
    if hops.nets.holding(nexthop.value).is_none() {
        reader.error_with(nexthop.at, "E037", format!("router `{router}` cannot reach {}", nexthop.value), |_| {
            Some(format!("use an address in the subnet of one of its ports: {}", subnets(hops.ports)))
        });
        return None;
    }
    Some(StaticRoute { prefix: prefix.value.trunc(), nexthop: nexthop.value })
}

/// The subnets of ports in words.
pub fn subnets(ports: &[RouterPort]) -> String {
    let subnets: Vec<String> = ports.iter().take(MANY).map(|port| port.address.trunc().to_string()).collect();
    listed(subnets.iter().map(String::as_str))
}

fn dhcp_rule(
    router: &Router,
    rule: &wrote::DhcpRule,
    on: &BTreeMap<&NetworkName, &RouterPort>,
    segments: &mut Segments,
    reader: &mut Reader,
) {
    let Some(name) = &rule.switch else { return };
    let Some(switch) = segments.find(name, reader) else { return };
    let Some(port) = on.get(&switch.name) else {
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
    drop(switch);
    if let Some(switch) = segments.switches.get_mut(&name.value) {
        let switch = Rc::make_mut(switch);
        (switch.dhcp, switch.ipv6) = (Some(dhcp), ipv6);
    }
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
    // What was found taken stays taken.
    let mut tried: BTreeMap<NetworkName, usize> = BTreeMap::new();
    for router in routers {
        for port in &mut router.ports {
            let Some(switch) = segments.switches.get(&port.switch) else { continue };
            let Some(ipv6) = switch.ipv6.filter(|_| switch.ipv4().is_some()) else { continue };
            let from = tried.get(&port.switch).copied().unwrap_or(1);
            let mut open = (from..=MOST_ROUTERS).filter_map(|place| Some((place, nth_host(ipv6.subnet, place)?)));
            let found = open.find(|(_, address)| !segments.holds(&port.switch, IpAddr::V6(*address)));
            tried.insert(port.switch.clone(), found.map_or(MOST_ROUTERS, |(place, _)| place) + 1);
            let Some((_, address)) = found else { continue };
            let who = format!("port `{}` of router `{}`", port.name, router.name);
            segments.hold(&port.switch, IpAddr::V6(address), who);
            segments.gateways.entry(port.switch.clone()).or_default().add(IpAddr::V6(address));
            port.address6 = Ipv6Net::new(address, ipv6.subnet.prefix_len()).ok();
        }
    }
}

/// The address so far after the first of a subnet.
fn nth_host(subnet: Ipv6Net, place: usize) -> Option<Ipv6Addr> {
    let address = Ipv6Addr::from(u128::from(subnet.network()).checked_add(place as u128)?);
    subnet.contains(&address).then_some(address)
}
