//! The commands that somebody would write for the same network.

use kvm_compose::topology::Topology;

/// One command of `ovn-nbctl` for each object, names under a prefix of ours.
pub struct ByHand {
    /// Makes it.
    pub make: Vec<Vec<String>>,
    /// Takes it away.
    pub remove: Vec<Vec<String>>,
    /// The last switch that is made.
    pub witness: String,
}

/// The commands for a topology.
pub fn commands(topology: &Topology, prefix: &str) -> ByHand {
    let mut by_hand = ByHand { make: Vec::new(), remove: Vec::new(), witness: String::new() };
    for switch in &topology.switches {
        let name = format!("{prefix}.{}", switch.name);
        by_hand.make.push(command(&["ls-add", &name]));
        by_hand.remove.push(command(&["--if-exists", "ls-del", &name]));
        by_hand.witness = name;
    }
    for router in &topology.routers {
        let name = format!("{prefix}.{}", router.name);
        by_hand.make.push(command(&["lr-add", &name]));
        by_hand.remove.push(command(&["--if-exists", "lr-del", &name]));
        for port in &router.ports {
            let (own, peer, switch) =
                (format!("{prefix}.{}", port.name), format!("{prefix}.{}.peer", port.name), format!("{prefix}.{}", port.switch));
            by_hand.make.push(command(&["lrp-add", &name, &own, &port.mac.to_string(), &port.address.to_string()]));
            by_hand.make.push(command(&[
                "lsp-add",
                &switch,
                &peer,
                "--",
                "lsp-set-type",
                &peer,
                "router",
                "--",
                "lsp-set-addresses",
                &peer,
                "router",
                "--",
                "lsp-set-options",
                &peer,
                &format!("router-port={own}"),
            ]));
        }
        for route in &router.routes {
            by_hand.make.push(command(&["lr-route-add", &name, &route.prefix.to_string(), &route.nexthop.to_string()]));
        }
    }
    for guest in &topology.guests {
        for nic in &guest.nics {
            let (port, switch) = (format!("{prefix}.{}.{}", guest.name, nic.name), format!("{prefix}.{}", nic.switch));
            let addresses: Vec<String> = nic.addresses.iter().map(|address| address.net.addr().to_string()).collect();
            let address = format!("{} {}", nic.mac, addresses.join(" "));
            by_hand.make.push(command(&[
                "lsp-add",
                &switch,
                &port,
                "--",
                "lsp-set-addresses",
                &port,
                &address,
                "--",
                "lsp-set-port-security",
                &port,
                &address,
            ]));
        }
    }
    by_hand
}

fn command(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_string()).collect()
}
