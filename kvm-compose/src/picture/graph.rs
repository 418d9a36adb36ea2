//! What a picture shows, in plain words: things, and what is plugged into what.
//!
//! The one place where pictures read the topology; all that draw or write know only this. Words are as the topology has
//! them: whoever writes them escapes them.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::{
    names::{GuestName, NetworkName},
    topology::{self, NatType, Topology},
};

/// A testbed as a graph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// The deployment's name.
    pub name: String,
    /// Routers, in the topology's order.
    pub routers: Vec<Router>,
    /// Switches, in the topology's order.
    pub switches: Vec<Switch>,
    /// Networks outside the testbed.
    pub outsides: Vec<Outside>,
    /// Guests, in the topology's order; after them ports of the host itself.
    pub guests: Vec<Guest>,
    /// Wires between two guests.
    pub wires: Vec<Wire>,
}

/// A router.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Router {
    /// Its name.
    pub name: String,
    /// What it does beside forwarding between its ports: routes, translations.
    pub facts: Vec<String>,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// A router's port on a switch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<String>,
    /// The switch's index.
    pub switch: usize,
}

/// A layer-2 segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Switch {
    /// Its name.
    pub name: String,
    /// Its subnets.
    pub subnets: Vec<String>,
    /// The conditions on it, such as `25 ms`; mostly empty.
    pub note: String,
}

/// A network that is not the testbed's, and the switches that are bridged to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// The name under which hosts know it.
    pub name: String,
    /// The switches' indices, with the names of their ports to it.
    pub switches: Vec<(usize, String)>,
}

/// Something with interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// What it is, as the testbed file says it: `micro`, `libvirt`, …; `host` is a port of the host itself.
    pub kind: String,
    /// Its interfaces.
    pub nics: Vec<Nic>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Its name in the guest.
    pub name: String,
    /// What it is plugged into; nothing when that is not there.
    pub end: Option<End>,
    /// Its addresses, without prefix lengths.
    pub addresses: Vec<String>,
    /// The conditions on it; mostly empty.
    pub note: String,
}

/// What an interface is plugged into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A switch, by index.
    Switch(usize),
    /// A wire, by index.
    Wire(usize),
}

/// A point-to-point wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire {
    /// Guest and interface at each end, by index.
    pub ends: [(usize, usize); 2],
    /// The conditions on it; mostly empty.
    pub note: String,
}

impl Graph {
    /// The graph of a topology.
    pub fn of(topology: &Topology) -> Graph {
        let switches: Vec<&topology::Switch> = topology.switches.iter().filter(|switch| !switch.wire).collect();
        let guests: BTreeMap<&GuestName, usize> = topology.guests.iter().zip(0..).map(|(guest, index)| (&guest.name, index)).collect();
        // Of a faulty file there may be wires whose ends are not there.
        let end = |(guest, nic): &(GuestName, usize)| {
            let guest = *guests.get(guest)?;
            topology.guests.get(guest).filter(|it| *nic < it.nics.len()).map(|_| (guest, *nic))
        };
        let whole = |wire: &'_ topology::Wire| Some([end(&wire.ends[0])?, end(&wire.ends[1])?]);
        let wires: Vec<(&NetworkName, [(usize, usize); 2])> =
            topology.wires.iter().filter_map(|wire| Some((&wire.switch, whole(wire)?))).collect();
        let ends: Ends<'_> = Ends {
            switches: switches.iter().zip(0..).map(|(switch, index)| (&switch.name, index)).collect(),
            wires: wires.iter().zip(0..).map(|((switch, _), index)| (*switch, index)).collect(),
        };
        let mut graph = Graph {
            name: topology.deployment.to_string(),
            routers: topology.routers.iter().map(|router| ends.router(router)).collect(),
            switches: switches.iter().map(|switch| switch_of(switch)).collect(),
            outsides: outsides(&switches),
            guests: topology.guests.iter().map(|guest| ends.guest(guest)).collect(),
            wires: wires.into_iter().map(|(_, ends)| Wire { ends, note: String::new() }).collect(),
        };
        // Ports of the host itself come last, so that guests keep their places.
        for (index, switch) in switches.iter().enumerate() {
            graph.guests.extend(switch.internals.iter().map(|internal| internal_of(internal, index)));
        }
        graph.gather_notes();
        graph
    }

    /// Conditions that all interfaces on a switch have are said once, at the switch; those of a wire at the wire.
    fn gather_notes(&mut self) {
        let mut notes: Vec<Vec<&str>> = vec![Vec::new(); self.switches.len()];
        for nic in self.guests.iter().filter(|guest| guest.kind != HOST).flat_map(|guest| &guest.nics) {
            if let Some(End::Switch(switch)) = nic.end {
                notes[switch].push(&nic.note);
            }
        }
        let shared: Vec<Option<String>> = notes.iter().map(|notes| common(notes)).collect();
        for (switch, note) in self.switches.iter_mut().zip(&shared) {
            switch.note = note.clone().unwrap_or_default();
        }
        for wire in &mut self.wires {
            let [one, other] = wire.ends.map(|(guest, nic)| self.guests[guest].nics[nic].note.as_str());
            // What each end says of what comes to it, the wire says of both directions.
            let both = common(&[one, other]).map(|note| if note.contains('↑') { note } else { note.replace('↓', "") });
            wire.note = both.unwrap_or_default();
            for (guest, nic) in wire.ends.iter().filter(|_| !wire.note.is_empty()) {
                self.guests[*guest].nics[*nic].note.clone_from(&wire.note);
            }
        }
        for guest in &mut self.guests {
            for nic in &mut guest.nics {
                if matches!(nic.end, Some(End::Switch(switch)) if shared[switch].is_some()) {
                    nic.note.clear();
                }
            }
        }
    }

    /// The switch that a guest hangs from: that of its first interface on one.
    pub fn home(&self, guest: usize) -> Option<usize> {
        self.guests[guest].nics.iter().find_map(|nic| match nic.end {
            Some(End::Switch(switch)) => Some(switch),
            _ => None,
        })
    }

    /// The other end of a wire: guest and interface.
    pub fn far(&self, wire: usize, guest: usize, nic: usize) -> (usize, usize) {
        let [one, other] = self.wires[wire].ends;
        if one == (guest, nic) { other } else { one }
    }
}

/// The kind of a port of the host itself.
pub const HOST: &str = "host";

/// What several have in common, when that is something.
fn common(notes: &[&str]) -> Option<String> {
    let first = notes.first().filter(|first| !first.is_empty() && notes.len() > 1)?;
    notes.iter().all(|note| note == first).then(|| (*first).to_string())
}

/// Where the names of the topology are in the graph.
struct Ends<'a> {
    switches: BTreeMap<&'a NetworkName, usize>,
    wires: BTreeMap<&'a NetworkName, usize>,
}

impl Ends<'_> {
    fn router(&self, router: &topology::Router) -> Router {
        let port = |port: &topology::RouterPort| {
            let switch = *self.switches.get(&port.switch)?;
            Some(Port { name: port.name.to_string(), addresses: port.addresses().map(|address| address.to_string()).collect(), switch })
        };
        let routes = router.routes.iter().map(|route| format!("{} via {}", route.prefix, route.nexthop));
        let nat = router.nat.iter().map(|nat| match nat.kind {
            NatType::Snat => format!("{} leaves as {}", nat.logical, nat.external),
            _ => format!("{} leads to {}", nat.external, nat.logical),
        });
        Router { name: router.name.to_string(), facts: routes.chain(nat).collect(), ports: router.ports.iter().filter_map(port).collect() }
    }

    fn guest(&self, guest: &topology::Guest) -> Guest {
        let nic = |nic: &topology::Nic| Nic {
            name: nic.name.clone(),
            end: match self.wires.get(&nic.switch) {
                Some(wire) => Some(End::Wire(*wire)),
                None => self.switches.get(&nic.switch).map(|switch| End::Switch(*switch)),
            },
            addresses: nic.addresses.iter().map(|address| address.net.addr().to_string()).collect(),
            note: shape(&nic.shape),
        };
        Guest { name: guest.name.to_string(), kind: guest.kind.word().to_string(), nics: guest.nics.iter().map(nic).collect() }
    }
}

fn switch_of(switch: &topology::Switch) -> Switch {
    let second = switch.ipv6.as_ref().map(|ipv6| IpNet::V6(ipv6.subnet)).filter(|net| Some(*net) != switch.subnet);
    let subnets = switch.subnet.into_iter().chain(second).map(|net| net.to_string()).collect();
    Switch { name: switch.name.to_string(), subnets, note: String::new() }
}

fn outsides(switches: &[&topology::Switch]) -> Vec<Outside> {
    let mut outsides: BTreeMap<&NetworkName, Vec<(usize, String)>> = BTreeMap::new();
    for (index, switch) in switches.iter().enumerate() {
        for localnet in &switch.localnets {
            outsides.entry(&localnet.network).or_default().push((index, localnet.name.to_string()));
        }
    }
    outsides.into_iter().map(|(name, switches)| Outside { name: name.to_string(), switches }).collect()
}

fn internal_of(internal: &topology::Internal, switch: usize) -> Guest {
    let addresses = vec![internal.address.addr().to_string()];
    let nic = Nic { name: internal.name.to_string(), end: Some(End::Switch(switch)), addresses, note: String::new() };
    Guest { name: internal.name.to_string(), kind: HOST.to_string(), nics: vec![nic] }
}

/// The conditions of a link in a few words; nothing when there are none.
fn shape(shape: &topology::Shape) -> String {
    if shape.to_guest == shape.from_guest {
        return conditions(&shape.to_guest);
    }
    let directions = [("↓", &shape.to_guest), ("↑", &shape.from_guest)].map(|(arrow, of)| (arrow, conditions(of)));
    let said = directions.iter().filter(|(_, words)| !words.is_empty()).map(|(arrow, words)| format!("{arrow}{words}"));
    said.collect::<Vec<_>>().join(" ")
}

fn conditions(of: &topology::Conditions) -> String {
    let mut words = Vec::new();
    if of.delay_us > 0 || of.jitter_us > 0 {
        let jitter = if of.jitter_us > 0 { format!("±{}", of.jitter_us as f64 / 1e3) } else { String::new() };
        words.push(format!("{}{jitter} ms", of.delay_us as f64 / 1e3));
    }
    for (share, what) in [(of.loss_ppm, "loss"), (of.duplicate_ppm, "twice"), (of.reorder_ppm, "reordered")] {
        if share > 0 {
            words.push(format!("{} % {what}", f64::from(share) / 1e4));
        }
    }
    words.extend(of.rate_kbit.map(|rate| if rate >= 1000 { format!("{} Mbit/s", rate as f64 / 1e3) } else { format!("{rate} kbit/s") }));
    words.join(", ")
}
