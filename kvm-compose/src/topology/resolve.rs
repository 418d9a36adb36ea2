//! The network while it is being resolved: segments, and who has which name and address on them.
//!
//! Pure. Every unresolved reference and every impossible address is a fault at its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
};

use ipnet::IpNet;

use super::{
    model::{Ipv6, Ipv6Mode, Shape, Switch},
    shape,
};
use crate::{
    addr::{Mac, usable_in},
    names::{DeploymentName, NetworkName, generated_mac},
    spec::{
        model as wrote,
        node::Mark,
        reader::{Reader, Spanned},
    },
};

/// The network while it is being resolved: what is known of each segment.
pub struct Segments {
    /// By name. Each is looked at again and again, so it is not copied for that.
    pub switches: BTreeMap<NetworkName, Rc<Switch>>,
    /// Ranges that the testbed does not hand out.
    pub excluded: BTreeMap<NetworkName, Vec<(Ipv4Addr, Ipv4Addr)>>,
    /// Addresses that the testbed does not hand out since the file has another use for them: next hops, and addresses under
    /// which routers hide guests.
    pub avoided: BTreeMap<NetworkName, BTreeSet<IpAddr>>,
    /// Router ports' addresses by segment.
    pub gateways: BTreeMap<NetworkName, Gateways>,
    /// What a switch says of the links of its interfaces.
    pub impairments: BTreeMap<NetworkName, Shape>,
    held: BTreeMap<NetworkName, Held>,
    names: BTreeSet<NetworkName>,
}

/// Who has what on a segment, in words.
#[derive(Default)]
struct Held {
    addresses: BTreeMap<IpAddr, String>,
    /// How many of them are IPv6.
    six: u128,
    macs: BTreeMap<Mac, String>,
}

/// Addresses of routers on a segment.
#[derive(Default)]
pub struct Gateways {
    /// All of them.
    pub all: BTreeSet<IpAddr>,
    four: Vec<IpAddr>,
}

impl Gateways {
    /// The IPv4 one, when there is only one.
    pub fn only(&self) -> Option<IpAddr> {
        match self.four.as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }

    /// The last IPv6 one, when there are any.
    pub fn six(&self) -> Option<IpAddr> {
        self.all.last().copied().filter(IpAddr::is_ipv6)
    }

    /// Adds one.
    pub fn add(&mut self, address: IpAddr) {
        self.all.insert(address);
        self.four.extend(Some(address).filter(IpAddr::is_ipv4));
    }
}

impl Segments {
    /// The switches of the file.
    pub fn new(switches: &[wrote::Switch], reader: &mut Reader) -> Self {
        let names = switches.iter().filter_map(|s| s.name.as_ref()).map(|name| name.value.clone()).collect();
        let mut known = BTreeMap::new();
        let mut impairments = BTreeMap::new();
        for switch in switches {
            let (Some(name), Some(subnet)) = (&switch.name, &switch.subnet) else { continue };
            let (name, subnet) = (name.value.clone(), subnet.value.trunc());
            let labels = switch.labels.iter().map(|(key, value)| (key.clone(), value.value.clone())).collect();
            let ipv6 = second_subnet(switch, subnet, reader);
            impairments.extend(switch.impairment.as_ref().map(|impairment| (name.clone(), shape::of(impairment, reader))));
            known.insert(name.clone(), Rc::new(Switch { subnet: Some(subnet), ipv6, labels, ..Switch::named(name) }));
        }
        Segments {
            switches: known,
            excluded: BTreeMap::new(),
            avoided: BTreeMap::new(),
            gateways: BTreeMap::new(),
            impairments,
            held: BTreeMap::new(),
            names,
        }
    }

    /// A switch by the name the user wrote, or a fault (E020). A switch whose subnet is faulty is silent here.
    pub fn find(&self, name: &Spanned<NetworkName>, reader: &mut Reader) -> Option<Rc<Switch>> {
        let known = self.switches.get(&name.value);
        if known.is_none() && !self.names.contains(&name.value) {
            reader.error_with(name.at, "E020", format!("there is no switch `{}`", name.value), |guesses| {
                let names = self.names.iter().map(NetworkName::as_str);
                Some(match self.names.is_empty() {
                    true => "the file has no switches".to_string(),
                    false => guesses.near_or_listed(name.value.as_str(), names, "switches of this file"),
                })
            });
        }
        known.cloned()
    }

    /// Is the address taken on the switch?
    pub fn holds(&self, switch: &NetworkName, address: IpAddr) -> bool {
        self.held.get(switch).is_some_and(|held| held.addresses.contains_key(&address))
    }

    /// How many IPv6 addresses are taken on the switch.
    pub fn held6(&self, switch: &NetworkName) -> u128 {
        self.held.get(switch).map_or(0, |held| held.six)
    }

    /// The addresses that are taken on the switch.
    pub fn addresses(&self, switch: &NetworkName) -> impl Iterator<Item = IpAddr> + '_ {
        self.held.get(switch).into_iter().flat_map(|held| held.addresses.keys().copied())
    }

    /// Notes who has an address.
    pub fn hold(&mut self, switch: &NetworkName, address: IpAddr, who: String) {
        let held = self.held_on(switch);
        if held.addresses.insert(address, who).is_none() && address.is_ipv6() {
            held.six += 1;
        }
    }

    fn held_on(&mut self, switch: &NetworkName) -> &mut Held {
        self.held.entry(switch.clone()).or_default()
    }

    /// Notes who has an address; a fault when somebody else has it (E033) or it is not usable (E031, E032).
    pub fn claim_address(&mut self, switch: &Switch, address: IpAddr, who: &str, at: Mark, reader: &mut Reader) -> bool {
        let Some(subnet) = switch.subnet_of(address) else {
            let hint = Some(format!("use an address of {}", switch.subnets()));
            reader.error(at, "E031", format!("{address} is not in the subnet of switch `{}`", switch.name), hint);
            return false;
        };
        if !usable_in(&subnet, address) {
            let hint = Some(format!("use another address of {subnet}"));
            reader.error(at, "E032", format!("{address} is the network or broadcast address of switch `{}`", switch.name), hint);
            return false;
        }
        if let Some(other) = self.held.get(&switch.name).and_then(|held| held.addresses.get(&address)) {
            reader.error(
                at,
                "E033",
                format!("{address} on switch `{}` is taken by {other}", switch.name),
                Some("use another address".to_string()),
            );
            return false;
        }
        self.hold(&switch.name, address, who.to_string());
        true
    }

    /// Notes who has a MAC address; a fault when somebody else has it (E035).
    pub fn claim_mac(&mut self, switch: &NetworkName, mac: Mac, who: &str, at: Mark, reader: &mut Reader) {
        match self.held.get(switch).and_then(|held| held.macs.get(&mac)) {
            Some(other) => {
                let hint = Some("use another, or leave `mac` out to have one generated".to_string());
                reader.error(at, "E035", format!("{mac} on switch `{switch}` is taken by {other}"), hint);
            }
            None => {
                self.held_on(switch).macs.insert(mac, who.to_string());
            }
        }
    }

    /// A generated MAC address that nobody on the segment has.
    pub fn free_mac(&self, deployment: &DeploymentName, switch: &NetworkName, owner: &str, port: usize) -> Mac {
        let held = self.held.get(switch);
        (0..u32::MAX)
            .map(|attempt| generated_mac(deployment, owner, port, attempt))
            .find(|mac| held.is_none_or(|held| !held.macs.contains_key(mac)))
            .unwrap_or(Mac([2, 0, 0, 0, 0, 1]))
    }
}

/// The IPv6 subnet of a switch: the one beside its own, or its own.
fn second_subnet(switch: &wrote::Switch, subnet: IpNet, reader: &mut Reader) -> Option<Ipv6> {
    match (subnet, &switch.ipv6) {
        (IpNet::V6(subnet), None) => Some(Ipv6 { subnet, mode: Ipv6Mode::Slaac }),
        (IpNet::V6(_), Some(wrote)) => {
            if let Some(second) = &wrote.subnet {
                let hint = Some("remove `ipv6`, or make `subnet` an IPv4 one".to_string());
                reader.error(second.at, "E007", "the switch's subnet is IPv6 already".to_string(), hint);
            }
            None
        }
        (IpNet::V4(_), None) => None,
        (IpNet::V4(_), Some(wrote)) => {
            let (subnet, mode) = (wrote.subnet.as_ref()?, wrote.mode.as_ref().map_or(Ipv6Mode::Slaac, |mode| mode.value));
            if mode == Ipv6Mode::Slaac && subnet.value.prefix_len() != 64 {
                let hint = Some("use a prefix of 64 (RFC 4862), or `mode: dhcpv6`".to_string());
                reader.error(subnet.at, "E006", format!("guests cannot make an address of {} themselves", subnet.value), hint);
                return None;
            }
            Some(Ipv6 { subnet: subnet.value, mode })
        }
    }
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
