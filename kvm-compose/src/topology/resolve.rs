//! From what the user wrote to what it means: switches and routers. Guests are in `guests`.
//!
//! Pure. Every unresolved reference and every impossible address is a fault at its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;

use super::model::{Dhcp, Router, RouterPort, StaticRoute, Switch};
use crate::{
    addr::{Mac, usable_in},
    names::{DeploymentName, NetworkName, generated_mac},
    spec::{
        model as wrote,
        node::Mark,
        reader::{Reader, Spanned, suggestion},
    },
};

/// The lease time that OVN's DHCP server hands out, in seconds.
const LEASE_S: u32 = 3600;

/// The network while it is being resolved: what is known of each segment.
pub struct Segments {
    /// By name.
    pub switches: BTreeMap<NetworkName, Switch>,
    /// Ranges that the testbed does not hand out.
    pub excluded: BTreeMap<NetworkName, Vec<(Ipv4Addr, Ipv4Addr)>>,
    /// Who has an address on a segment, in words.
    pub addresses: BTreeMap<(NetworkName, IpAddr), String>,
    /// Who has a MAC address on a segment, in words.
    pub macs: BTreeMap<(NetworkName, Mac), String>,
    /// Router ports' addresses by segment.
    pub gateways: BTreeMap<NetworkName, Vec<IpAddr>>,
    names: Vec<NetworkName>,
}

impl Segments {
    /// The switches of the file.
    pub fn new(switches: &[wrote::Switch]) -> Self {
        let names = switches.iter().filter_map(|s| s.name.as_ref()).map(|name| name.value.clone()).collect();
        let known = switches.iter().filter_map(|switch| {
            let (name, subnet) = (switch.name.as_ref()?.value.clone(), switch.subnet.as_ref()?.value.trunc());
            Some((name.clone(), Switch { name, subnet, dhcp: None }))
        });
        Segments {
            switches: known.collect(),
            excluded: BTreeMap::new(),
            addresses: BTreeMap::new(),
            macs: BTreeMap::new(),
            gateways: BTreeMap::new(),
            names,
        }
    }

    /// A switch by the name the user wrote, or a fault (E020). A switch whose subnet is faulty is silent here.
    pub fn find(&self, name: &Spanned<NetworkName>, reader: &mut Reader) -> Option<&Switch> {
        if !self.names.contains(&name.value) {
            let names: Vec<&str> = self.names.iter().map(NetworkName::as_str).collect();
            let hint = suggestion(name.value.as_str(), &names).unwrap_or_else(|| match names.is_empty() {
                true => "the file has no switches".to_string(),
                false => format!("switches of this file: {}", names.join(", ")),
            });
            reader.error(name.at, "E020", format!("there is no switch `{}`", name.value), Some(hint));
        }
        self.switches.get(&name.value)
    }

    /// Notes who has an address; a fault when somebody else has it (E033) or it is not usable (E031, E032).
    pub fn claim_address(&mut self, switch: &Switch, address: IpAddr, who: &str, at: Mark, reader: &mut Reader) -> bool {
        let subnet = switch.subnet;
        if !subnet.contains(&address) {
            let hint = Some(format!("use an address of {subnet}"));
            reader.error(at, "E031", format!("{address} is not in the subnet of switch `{}`", switch.name), hint);
            return false;
        }
        if !usable_in(&subnet, address) {
            let hint = Some(format!("use another address of {subnet}"));
            reader.error(at, "E032", format!("{address} is the network or broadcast address of switch `{}`", switch.name), hint);
            return false;
        }
        if let Some(other) = self.addresses.get(&(switch.name.clone(), address)) {
            reader.error(
                at,
                "E033",
                format!("{address} on switch `{}` is taken by {other}", switch.name),
                Some("use another address".to_string()),
            );
            return false;
        }
        self.addresses.insert((switch.name.clone(), address), who.to_string());
        true
    }

    /// Notes who has a MAC address; a fault when somebody else has it (E035).
    pub fn claim_mac(&mut self, switch: &NetworkName, mac: Mac, who: &str, at: Mark, reader: &mut Reader) {
        match self.macs.get(&(switch.clone(), mac)) {
            Some(other) => {
                let hint = Some("use another, or leave `mac` out to have one generated".to_string());
                reader.error(at, "E035", format!("{mac} on switch `{switch}` is taken by {other}"), hint);
            }
            None => {
                self.macs.insert((switch.clone(), mac), who.to_string());
            }
        }
    }

    /// A generated MAC address that nobody on the segment has.
    pub fn free_mac(&self, deployment: &DeploymentName, switch: &NetworkName, owner: &str, port: usize) -> Mac {
        (0..u32::MAX)
            .map(|attempt| generated_mac(deployment, owner, port, attempt))
            .find(|mac| !self.macs.contains_key(&(switch.clone(), *mac)))
            .unwrap_or(Mac([2, 0, 0, 0, 0, 1]))
    }
}

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
        let routes =
            router.static_routes.iter().filter(|_| whole).filter_map(|route| static_route(&name.value, route, &ports, reader)).collect();
        routers.push(Router { name: name.value.clone(), ports, routes });
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
    if address.value.prefix_len() != switch.subnet.prefix_len() {
        let hint = Some(format!("the switch's subnet is {}", switch.subnet));
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
    segments.gateways.entry(switch.name.clone()).or_default().push(address.value.addr());
    Some(RouterPort { name: name.value.clone(), mac, address: address.value, switch: switch.name })
}

fn static_route(router: &NetworkName, route: &wrote::StaticRoute, ports: &[RouterPort], reader: &mut Reader) -> Option<StaticRoute> {
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
    if !ports.iter().any(|port| port.address.trunc().contains(&nexthop.value)) {
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
    if switch.subnet.addr().is_ipv6() {
        reader.error(
            name.at,
            "E090",
            "DHCP on an IPv6 switch is not supported by this version yet".to_string(),
            Some("use static addresses there".to_string()),
        );
        return;
    }
    if let Some(existing) = &switch.dhcp {
        reader.error(name.at, "E011", format!("switch `{}` has a DHCP rule already, of router `{}`", switch.name, existing.router), None);
        return;
    }
    let excluded = rule.exclude_ips.as_ref().and_then(|range| exclude(&switch, range, segments, reader));
    let dhcp = Dhcp { router: router.name.clone(), gateway: port.address.addr(), server_mac: port.mac, lease_s: LEASE_S, excluded };
    segments.switches.insert(switch.name.clone(), Switch { dhcp: Some(dhcp), ..switch });
}

fn exclude(switch: &Switch, range: &wrote::AddressRange, segments: &mut Segments, reader: &mut Reader) -> Option<(IpAddr, IpAddr)> {
    let (from, to) = (range.from.as_ref()?, range.to.as_ref()?);
    let mut outside = false;
    for end in [from, to] {
        if !switch.subnet.contains(&end.value) {
            outside = true;
            let hint = Some(format!("use addresses of {}", switch.subnet));
            reader.error(end.at, "E031", format!("{} is not in the subnet of switch `{}`", end.value, switch.name), hint);
        }
    }
    if outside {
        return None;
    }
    if let (IpAddr::V4(first), IpAddr::V4(last)) = (from.value, to.value) {
        if first > last {
            reader.error(
                from.at,
                "E039",
                format!("the range begins with {first} and ends before it, with {last}"),
                Some("swap `from` and `to`".to_string()),
            );
            return None;
        }
        segments.excluded.entry(switch.name.clone()).or_default().push((first, last));
    }
    Some((from.value, to.value))
}

/// Names that differ only in case or `_` would give two guests one hostname.
pub fn check_unique_hostnames(names: &[(String, Spanned<crate::names::GuestName>)], reader: &mut Reader) {
    let mut seen: BTreeMap<&str, &Spanned<crate::names::GuestName>> = BTreeMap::new();
    let mut exact: BTreeSet<&str> = BTreeSet::new();
    for (hostname, name) in names {
        if !exact.insert(name.value.as_str()) {
            reader.error(name.at, "E011", format!("there is a machine `{}` already", name.value), Some("give it another name".to_string()));
        } else if let Some(other) = seen.insert(hostname, name) {
            let message = format!("machines `{}` and `{}` would both be called `{hostname}`", other.value, name.value);
            reader.error(name.at, "E011", message, Some("give one of them another name".to_string()));
        }
    }
}

/// True when both are of one IP version.
pub fn same_version(net: &IpNet, address: IpAddr) -> bool {
    net.addr().is_ipv4() == address.is_ipv4()
}
