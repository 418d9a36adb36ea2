//! What the file says of the way out, for `why`: which switches hang together, what routers lead in, and where the host is the next hop.
//!
//! Pure: reads a topology and the host's mappings.

use std::{collections::BTreeSet, net::IpAddr};

use kvm_compose::{
    api::Traffic,
    names::NetworkName,
    plan::outside::Mapping,
    spec::model::{NatType, Transport},
    topology::{Guest, Router, Topology},
    why::{Leads, Outside, Translated},
};

/// Do routers connect two switches, or are they one?
pub fn joined(topology: &Topology, from: &NetworkName, to: &NetworkName) -> bool {
    let mut reached = BTreeSet::from([from]);
    loop {
        let before = reached.len();
        for router in &topology.routers {
            if router.ports.iter().any(|port| reached.contains(&port.switch)) {
                reached.extend(router.ports.iter().map(|port| &port.switch));
            }
        }
        if reached.contains(to) || reached.len() == before {
            return reached.contains(to);
        }
    }
}

/// Addresses that routers translate, and their own.
pub fn translated(topology: &Topology) -> Vec<Translated> {
    let mut all = Vec::new();
    for router in &topology.routers {
        let mut add = |address, leads| all.push(Translated { address, router: router.name.to_string(), leads });
        for port in &router.ports {
            port.addresses().for_each(|net| add(net.addr(), Leads::Nothing));
        }
        for nat in &router.nat {
            let leads = match (&nat.forward, nat.kind) {
                (Some(forward), _) => Leads::By(match forward.protocol {
                    Transport::Tcp => Traffic::Tcp(forward.external),
                    Transport::Udp => Traffic::Udp(forward.external),
                }),
                (None, NatType::Snat) => Leads::Nothing,
                (None, NatType::Dnat | NatType::DnatAndSnat) => Leads::All,
            };
            add(nat.external, leads);
        }
    }
    all
}

/// The host, where it is the next hop of what a guest's interface sends to an address beyond the testbed.
pub fn outside(topology: &Topology, mappings: &[Mapping], masquerade: bool, guest: &Guest, nic: usize, to: IpAddr) -> Option<Outside> {
    let is_inside = |switch: &kvm_compose::topology::Switch| switch.subnet.is_some_and(|subnet| subnet.contains(&to));
    if topology.switches.iter().any(is_inside) {
        return None;
    }
    let nic = guest.nics.get(nic)?;
    let mut addresses = nic.addresses.iter().filter(|address| address.net.addr().is_ipv4() == to.is_ipv4());
    let (source, gateway) = addresses.find_map(|address| Some((address.net.addr(), address.gateway?)))?;
    let (mut hop, mut switch, mut hidden) = (gateway, &nic.switch, false);
    for _ in 0..=topology.routers.len() {
        if let Some(mapping) = host_at(topology, mappings, switch, hop) {
            let on_it = topology.switch(switch)?.subnet.is_some_and(|subnet| subnet.contains(&source));
            return Some(Outside { bridge: mapping.bridge.clone(), host: hop, masquerade, hidden: hidden || on_it });
        }
        let router = router_at(topology, switch, hop)?;
        hidden |= router.nat.iter().any(|nat| nat.kind != NatType::Dnat && nat.forward.is_none() && nat.logical.contains(&source));
        let route = router.routes.iter().filter(|route| route.prefix.contains(&to)).max_by_key(|route| route.prefix.prefix_len())?;
        hop = route.nexthop;
        switch = &router.ports.iter().find(|port| port.addresses().any(|net| net.contains(&hop)))?.switch;
    }
    None
}

/// The mapping whose address on the host this is, on a switch that leads there.
fn host_at<'a>(topology: &Topology, mappings: &'a [Mapping], switch: &NetworkName, hop: IpAddr) -> Option<&'a Mapping> {
    let localnets = &topology.switch(switch)?.localnets;
    mappings.iter().find(|mapping| {
        localnets.iter().any(|localnet| localnet.network == mapping.network) && mapping.address.is_some_and(|net| net.addr() == hop)
    })
}

fn router_at<'a>(topology: &'a Topology, switch: &NetworkName, hop: IpAddr) -> Option<&'a Router> {
    let has = |router: &&Router| router.ports.iter().any(|port| port.switch == *switch && port.addresses().any(|net| net.addr() == hop));
    topology.routers.iter().find(has)
}

#[cfg(test)]
mod tests {
    use kvm_compose::{names::DeploymentName, topology::Leases};

    use super::*;

    const YAML: &str = "
machines:
  - {name: pc, micro: {}, network: [{switch: lan, ip: 10.0.0.10, gateway: 10.0.0.1}]}
  - {name: deep, micro: {}, network: [{switch: racks, ip: 10.1.0.10, gateway: 10.1.0.1}]}
  - {name: alone, micro: {}, network: [{switch: island, ip: 10.2.0.10, gateway: 10.2.0.1}]}
network:
  ovn:
    switches:
      lan: {subnet: 10.0.0.0/24}
      racks: {subnet: 10.1.0.0/24}
      island: {subnet: 10.2.0.0/24}
      public: {subnet: 172.16.1.0/24, ports: [{name: ls-public, localnet: {network_name: public}}]}
    routers:
      edge:
        ports:
          - {name: edge-lan, gateway_ip: 10.0.0.1/24, switch: lan}
          - {name: edge-public, gateway_ip: 172.16.1.200/24, switch: public, set_gateway_chassis: main}
        static_routes: [{prefix: 0.0.0.0/0, nexthop: 172.16.1.1}]
        nat:
          - {nat_type: snat, external_ip: 172.16.1.200, logical_ip: 10.0.0.0/24}
          - {nat_type: dnat, external_ip: 172.16.1.200, external_port: 8080, logical_ip: 10.0.0.10, logical_port: 80}
      inner:
        ports:
          - {name: inner-lan, gateway_ip: 10.0.0.2/24, switch: lan}
          - {name: inner-racks, gateway_ip: 10.1.0.1/24, switch: racks}
        static_routes: [{prefix: 0.0.0.0/0, nexthop: 10.0.0.1}]
";

    fn topology() -> Topology {
        let name = DeploymentName::new("d").expect("valid");
        kvm_compose::topology::load("kvm-compose.yaml", YAML, &name, &Leases::new()).expect("it loads").topology
    }

    #[test]
    fn the_way_out_is_followed_to_the_host() {
        let topology = topology();
        let mapping = Mapping {
            network: NetworkName::new("public").expect("valid"),
            bridge: "br-ex".to_string(),
            address: "172.16.1.1/24".parse().ok(),
        };
        let ask = |guest: usize, to: &str| {
            let to = to.parse().expect("an address");
            outside(&topology, std::slice::from_ref(&mapping), false, &topology.guests[guest], 0, to)
        };
        let pc = ask(0, "8.8.8.8").expect("by the host");
        assert_eq!((pc.bridge.as_str(), pc.hidden, pc.masquerade), ("br-ex", true, false));
        assert!(!ask(1, "8.8.8.8").expect("through two routers").hidden, "no rule covers the racks");
        assert_eq!((ask(2, "8.8.8.8"), ask(0, "10.1.0.10")), (None, None));
    }

    #[test]
    fn what_hangs_together_and_what_leads_in() {
        let topology = topology();
        let name = |word: &str| NetworkName::new(word).expect("valid");
        assert!(joined(&topology, &name("racks"), &name("public")) && joined(&topology, &name("island"), &name("island")));
        assert!(!joined(&topology, &name("racks"), &name("island")));
        let at = |leads| translated(&topology).iter().any(|one| one.address.to_string() == "172.16.1.200" && one.leads == leads);
        assert!(at(Leads::By(Traffic::Tcp(8080))) && at(Leads::Nothing) && !at(Leads::All));
    }
}
