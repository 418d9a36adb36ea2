//! From what the user wrote to what it means: how addresses change at routers.
//!
//! Pure. Every impossible address, and two rules for one, are faults at their places.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use super::{
    model::{Forward, Nat, NatType, Router, Transport},
    resolve::Segments,
    routers::subnets,
};
use crate::{
    nets::Nets,
    spec::{model as wrote, reader::Reader},
};

/// NAT rules, once every address on the segments is known.
pub fn nat(wrote: &[wrote::Router], routers: &mut [Router], segments: &mut Segments, reader: &mut Reader) {
    for (wrote, router) in wrote.iter().filter(|router| router.name.is_some()).zip(routers) {
        if router.ports.len() == wrote.ports.len() {
            // Of several ports the first.
            let nets = router.ports.iter().enumerate().flat_map(|(number, port)| port.addresses().map(move |net| (number, net)));
            let (nets, mut taken) = (Nets::of(nets), Taken::default());
            let rules = wrote.nat.iter().filter_map(|rule| nat_rule(router, rule, &nets, &mut taken, segments, reader));
            router.nat = rules.collect();
        }
    }
}

/// What the rules so far lead elsewhere.
#[derive(Default)]
struct Taken {
    /// Addresses that a rule names.
    named: BTreeSet<IpAddr>,
    /// Those that lead to a guest, whole.
    whole: BTreeSet<IpAddr>,
    /// Those of which a port does.
    parts: BTreeSet<IpAddr>,
    /// The ports.
    ports: BTreeSet<(IpAddr, &'static str, u16)>,
}

impl Taken {
    /// Does another rule lead there already? Notes that this one does.
    fn clashes(&mut self, kind: NatType, external: IpAddr, forward: Option<&Forward>) -> bool {
        let leads = kind != NatType::Snat;
        let port = forward.map(|forward| (external, forward.protocol.word(), forward.external));
        let clashes = (leads && self.whole.contains(&external))
            || match port {
                Some(port) => self.ports.contains(&port),
                None => leads && self.parts.contains(&external),
            };
        if !clashes {
            let of_parts = if port.is_some() { &mut self.parts } else { &mut self.whole };
            of_parts.extend(leads.then_some(external));
            self.ports.extend(port);
        }
        clashes
    }
}

fn nat_rule(
    router: &Router,
    rule: &wrote::Nat,
    nets: &Nets,
    taken: &mut Taken,
    segments: &mut Segments,
    reader: &mut Reader,
) -> Option<Nat> {
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
    let Some(port) = nets.holding(external.value).and_then(|number| router.ports.get(number)) else {
        let message = format!("router `{}` has no port in the network of {}", router.name, external.value);
        reader.error_with(external.at, "E041", message, |_| {
            Some(format!("use an address of the network outside; subnets of its ports: {}", subnets(&router.ports)))
        });
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
    if taken.clashes(kind, external.value, forward.as_ref()) {
        let hint =
            Some("give the rule another address, or use `nat_type: dnat` with `external_port` for several guests behind one".to_string());
        reader.error(external.at, "E033", format!("{} leads to another guest already", external.value), hint);
        return None;
    }
    if taken.named.insert(external.value) && !own {
        let switch = segments.switches.get(&port.switch)?.clone();
        let who = format!("a NAT rule of router `{}`", router.name);
        segments.claim_address(&switch, external.value, &who, external.at, reader);
    }
    Some(Nat { kind, external: external.value, logical: logical.value.trunc(), forward, at: reader.place(rule.at) })
}

fn first_host(net: &IpNet) -> IpAddr {
    net.hosts().next().unwrap_or_else(|| net.addr())
}
