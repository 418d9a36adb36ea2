//! Subnets: which of many holds an address, without going through all of them.
//!
//! Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

/// Subnets by number.
#[derive(Debug, Default)]
pub struct Nets {
    /// Network address and prefix length → the first number.
    nets: BTreeMap<(IpAddr, u8), usize>,
    /// The lengths that occur, for IPv4 and IPv6.
    lengths: BTreeSet<(bool, u8)>,
}

impl Nets {
    /// Subnets with their numbers.
    pub fn of(nets: impl Iterator<Item = (usize, IpNet)>) -> Self {
        let mut all = Nets::default();
        nets.for_each(|(number, net)| all.add(number, net));
        all
    }

    /// Adds the subnet around an address.
    pub fn add(&mut self, number: usize, net: IpNet) {
        self.nets.entry((net.network(), net.prefix_len())).or_insert(number);
        self.lengths.insert((net.addr().is_ipv4(), net.prefix_len()));
    }

    /// The first subnet that holds an address.
    pub fn holding(&self, address: IpAddr) -> Option<usize> {
        let lengths = self.lengths.iter().filter(|(four, _)| *four == address.is_ipv4());
        let around = lengths.filter_map(|(_, length)| Some((IpNet::new(address, *length).ok()?.network(), *length)));
        around.filter_map(|key| self.nets.get(&key)).min().copied()
    }

    /// True when a subnet holds all of this one.
    pub fn cover(&self, net: IpNet) -> bool {
        let lengths = self.lengths.iter().filter(|(four, length)| *four == net.addr().is_ipv4() && *length <= net.prefix_len());
        let mut around = lengths.filter_map(|(_, length)| Some((IpNet::new(net.addr(), *length).ok()?.network(), *length)));
        around.any(|key| self.nets.contains_key(&key))
    }

    /// A subnet that holds this one, or one that lies in it.
    pub fn overlapping(&self, net: IpNet) -> Option<usize> {
        let inside = || self.nets.range((net.network(), 0)..=(net.broadcast(), u8::MAX)).next().map(|(_, number)| *number);
        self.holding(net.network()).or_else(inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_found_by_what_they_hold_and_by_what_holds_them() {
        let net = |text: &str| text.parse::<IpNet>().expect("valid");
        let nets = Nets::of([net("10.0.1.5/24"), net("10.0.0.0/16"), net("fd00::1/64"), net("10.0.1.0/24")].into_iter().enumerate());
        for (address, number) in [("10.0.1.9", Some(0)), ("10.0.2.9", Some(1)), ("fd00::9", Some(2)), ("10.1.0.1", None), ("fd01::", None)]
        {
            assert_eq!(nets.holding(address.parse().expect("valid")), number, "{address}");
        }
        for (other, covered) in [("10.0.1.128/25", true), ("10.0.0.0/16", true), ("10.0.0.0/15", false), ("fd00::/63", false)] {
            assert_eq!(nets.cover(net(other)), covered, "{other}");
        }
        for (other, number) in
            [("10.0.1.128/25", Some(0)), ("10.0.0.0/8", Some(1)), ("11.0.0.0/8", None), ("fd00::/32", Some(2)), ("::/0", Some(2))]
        {
            assert_eq!(nets.overlapping(net(other)), number, "{other}");
        }
    }
}
