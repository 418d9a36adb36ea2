//! The network while it is being resolved: segments, and who has which name and address on them.
//!
//! Pure. Every unresolved reference and every impossible address is a fault at its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
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
        reader::{Reader, Spanned, suggestion},
    },
};

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
    /// What a switch says of the links of its interfaces.
    pub impairments: BTreeMap<NetworkName, Shape>,
    names: Vec<NetworkName>,
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
            known.insert(name.clone(), Switch { subnet: Some(subnet), ipv6, labels, ..Switch::named(name) });
        }
        Segments {
            switches: known,
            excluded: BTreeMap::new(),
            addresses: BTreeMap::new(),
            macs: BTreeMap::new(),
            gateways: BTreeMap::new(),
            impairments,
            names,
        }
    }

    /// A switch by the name the user wrote, or a fault (E020). A switch whose subnet is faulty is silent here.
    pub fn find(&self, name: &Spanned<NetworkName>, reader: &mut Reader) -> Option<&Switch> {
        let known = self.switches.get(&name.value);
        if known.is_none() && !self.names.contains(&name.value) {
            let names: Vec<&str> = self.names.iter().map(NetworkName::as_str).collect();
            let hint = suggestion(name.value.as_str(), &names).unwrap_or_else(|| match names.is_empty() {
                true => "the file has no switches".to_string(),
                false => format!("switches of this file: {}", names.join(", ")),
            });
            reader.error(name.at, "E020", format!("there is no switch `{}`", name.value), Some(hint));
        }
        known
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
