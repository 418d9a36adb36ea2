//! The older form of the network, said in the newer one: each segment of connected bridges becomes a switch.
//!
//! Pure. What a bridge of this form never said (its subnet, its way out) is chosen here, and stays the same in every run.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use uuid::Uuid;

use crate::{
    names::{DeploymentName, HostName, NetworkName},
    spec::{
        model::{Bridges, DhcpRule, Interface, Localnet, Machine, Nat, NatType, Router, RouterPort, Spec, StaticRoute, Switch, SwitchPort},
        node::Mark,
        reader::{Reader, Spanned},
    },
};

/// The file with its bridges turned into switches; a file of the newer form as it is.
pub fn as_switches(mut spec: Spec, deployment: &DeploymentName, reader: &mut Reader) -> Spec {
    match spec.network.bridges.take() {
        Some(bridges) => turned(spec, &bridges, deployment, reader),
        None => {
            let switches: BTreeSet<NetworkName> =
                spec.network.ovn.switches.iter().filter_map(|switch| Some(switch.name.as_ref()?.value.clone())).collect();
            for machine in &mut spec.machines {
                without_bridges(machine, &switches, reader);
            }
            spec
        }
    }
}

/// Bridges named in a file that has none.
fn without_bridges(machine: &mut Machine, switches: &BTreeSet<NetworkName>, reader: &mut Reader) {
    let listed = machine.interfaces.drain(..).map(|interface| interface.bridge).collect::<Vec<_>>();
    let scaling = [machine.libvirt.as_ref().and_then(|it| it.scaling.as_ref()), machine.docker.as_ref().and_then(|it| it.scaling.as_ref())];
    let scaled = scaling.into_iter().flatten().flat_map(|scaling| &scaling.interfaces).filter(|interface| interface.bridge);
    for bridge in listed.into_iter().chain(scaled.map(|interface| interface.switch.clone())) {
        let message = format!("there is no bridge `{}`: this file has switches", bridge.value);
        reader.error_with(bridge.at, "E024", message, |guesses| {
            Some(match switches.contains(&bridge.value) {
                true => format!("write `switch: {}` below `network:`", bridge.value),
                false => guesses
                    .near(bridge.value.as_str(), switches.iter().map(NetworkName::as_str))
                    .unwrap_or_else(|| "name a switch with `switch:` below `network:`".to_string()),
            })
        });
    }
}

fn turned(mut spec: Spec, bridges: &Bridges, deployment: &DeploymentName, reader: &mut Reader) -> Spec {
    let segments = segments(bridges);
    let subnets = subnets(&segments, deployment);
    for (segment, third) in &subnets {
        let Some(bridge) = bridges.bridges.iter().find(|bridge| bridge.name.value == *segment) else { continue };
        let subnet = ipnet::Ipv4Net::new(std::net::Ipv4Addr::new(10, *third, 0, 0), 24).ok();
        let subnet = subnet.map(|net| Spanned { value: IpNet::V4(net), at: bridge.at });
        spec.network.ovn.switches.push(switch(bridge.name.clone(), subnet));
    }
    let known: BTreeSet<NetworkName> = bridges.bridges.iter().map(|bridge| bridge.name.value.clone()).collect();
    let find = |name: &Spanned<NetworkName>, reader: &mut Reader| -> Option<Spanned<NetworkName>> {
        match segments.get(&name.value) {
            Some(segment) => Some(Spanned { value: segment.clone(), at: name.at }),
            None => {
                reader.error_with(name.at, "E024", format!("there is no bridge `{}`", name.value), |guesses| {
                    let words = known.iter().map(NetworkName::as_str);
                    Some(guesses.near_or_listed(name.value.as_str(), words, "bridges of this file"))
                });
                None
            }
        }
    };
    for machine in &mut spec.machines {
        // Interfaces that name a bridge by `switch` mean the same.
        let written = machine.network.len();
        machine.network.retain_mut(|interface| {
            interface.assigned = true;
            find(&interface.switch, reader).map(|segment| interface.switch = segment).is_some()
        });
        machine.misread |= machine.network.len() < written;
        for interface in std::mem::take(&mut machine.interfaces) {
            let Some(switch) = find(&interface.bridge, reader) else {
                machine.misread = true;
                continue;
            };
            machine.network.push(Interface {
                switch,
                ip: None,
                gateway: None,
                mac: interface.mac,
                impairment: None,
                at: interface.at,
                assigned: true,
            });
        }
        let scalings =
            [machine.libvirt.as_mut().and_then(|it| it.scaling.as_mut()), machine.docker.as_mut().and_then(|it| it.scaling.as_mut())];
        for scaling in scalings.into_iter().flatten() {
            scaling.interfaces.retain_mut(|interface| match find(&interface.switch, reader) {
                Some(segment) => {
                    interface.switch = segment;
                    true
                }
                None => false,
            });
        }
    }
    if let Some(external) = &bridges.external
        && let Some((segment, third)) = segments.get(&external.value).and_then(|segment| Some((segment, *subnets.get(segment)?)))
    {
        way_out(&mut spec, external.at, segment, third, &known, deployment);
    }
    spec
}

fn switch(name: Spanned<NetworkName>, subnet: Option<Spanned<IpNet>>) -> Switch {
    Switch { name: Some(name), subnet, ports: Vec::new(), ipv6: None, impairment: None, labels: BTreeMap::new() }
}

/// What the segment of the external bridge gets: a router with DHCP, and source NAT to the hosts' network `public`.
fn way_out(spec: &mut Spec, at: Mark, segment: &NetworkName, third: u8, bridges: &BTreeSet<NetworkName>, deployment: &DeploymentName) {
    // No bridge of the file has these names; of a port nobody else can.
    let free = |wish: &str| {
        let names = std::iter::once(wish.to_string()).chain((2..).map(|n| format!("{wish}-{n}")));
        names.filter_map(|name| NetworkName::new(&name).ok()).find(|name| !bridges.contains(name)).map(|value| Spanned { value, at })
    };
    let public = |host: u8| IpAddr::from([172, 16, 1, host]);
    let (inside, own) = (IpAddr::from([10, third, 0, 0]), public(OUTSIDE_FROM + hash(deployment.as_str()) % OUTSIDE));
    let net = |address: IpAddr| IpNet::new(address, 24).ok().map(|value| Spanned { value, at });
    let port = |name: &str, address, switch: &Spanned<NetworkName>, chassis: Option<HostName>| RouterPort {
        name: NetworkName::new(name).ok().map(|value| Spanned { value, at }),
        mac: None,
        gateway_ip: net(address),
        switch: Some(switch.clone()),
        set_gateway_chassis: chassis.map(|value| Spanned { value, at }),
    };
    let (Some(outside), Some(router)) = (free("public"), free("external")) else { return };
    let inner = Spanned { value: segment.clone(), at };
    let localnet = NetworkName::new("public").ok().map(|value| Localnet { network_name: Some(Spanned { value, at }) });
    let way = SwitchPort { name: NetworkName::new("external-localnet").ok().map(|value| Spanned { value, at }), localnet, internal: None };
    spec.network.ovn.switches.push(Switch { ports: vec![way], ..switch(outside.clone(), net(public(0))) });
    let everywhere = IpNet::new(IpAddr::from([0, 0, 0, 0]), 0).ok().map(|value| Spanned { value, at });
    spec.network.ovn.routers.push(Router {
        name: Some(router),
        ports: vec![
            port("external-inside", IpAddr::from([10, third, 0, 1]), &inner, None),
            port("external-outside", own, &outside, Some(HostName::master())),
        ],
        static_routes: vec![StaticRoute { prefix: everywhere, nexthop: Some(Spanned { value: public(1), at }) }],
        nat: vec![Nat {
            nat_type: Some(Spanned { value: NatType::Snat, at }),
            external_ip: Some(Spanned { value: own, at }),
            logical_ip: net(inside),
            external_port: None,
            logical_port: None,
            protocol: None,
            at,
        }],
        dhcp: vec![DhcpRule { switch: Some(inner), exclude_ips: None }],
        labels: BTreeMap::new(),
    });
}

/// Addresses of routers on the hosts' network `public`: one for each deployment, from its name.
const OUTSIDE_FROM: u8 = 130;
/// How many of them there are.
const OUTSIDE: u8 = 120;

fn hash(text: &str) -> u8 {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).as_bytes()[0]
}

/// Bridge → the first bridge of its segment, in the file's order.
fn segments(bridges: &Bridges) -> BTreeMap<NetworkName, NetworkName> {
    let names: Vec<&NetworkName> = bridges.bridges.iter().map(|bridge| &bridge.name.value).collect();
    let places: BTreeMap<&NetworkName, usize> = names.iter().zip(0..).map(|(name, place)| (*name, place)).collect();
    // Each points to one before it that it is connected to, the first of a segment to itself.
    let mut before: Vec<usize> = (0..names.len()).collect();
    for (one, other) in &bridges.connections {
        let (Some(one), Some(other)) = (places.get(&one.value), places.get(&other.value)) else { continue };
        let (one, other) = (first(&mut before, *one), first(&mut before, *other));
        before[one.max(other)] = one.min(other);
    }
    names.iter().zip(0..).map(|(name, place)| ((*name).clone(), names[first(&mut before, place)].clone())).collect()
}

/// The first of a bridge's segment. The way there is shortened for the next who asks.
fn first(before: &mut [usize], mut place: usize) -> usize {
    while before[place] != place {
        before[place] = before[before[place]];
        place = before[place];
    }
    place
}

/// Segment → n of its subnet 10.n.0.0/24: from its name, so that no edit elsewhere moves it; the next free one where two
/// names give the same.
fn subnets(segments: &BTreeMap<NetworkName, NetworkName>, deployment: &DeploymentName) -> BTreeMap<NetworkName, u8> {
    let (mut chosen, mut taken): (BTreeMap<NetworkName, u8>, BTreeSet<u8>) = (BTreeMap::new(), BTreeSet::new());
    for segment in segments.values() {
        if chosen.contains_key(segment) || taken.len() == 254 {
            continue;
        }
        let text = format!("subnet/{deployment}/{segment}");
        let start = hash(&text);
        let free = (0..=u8::MAX).map(|step| start.wrapping_add(step)).find(|n| (1..=254).contains(n) && !taken.contains(n));
        if let Some(free) = free {
            taken.insert(free);
            chosen.insert(segment.clone(), free);
        }
    }
    chosen
}
