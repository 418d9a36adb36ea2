//! Addresses: MACs, subnets, and pools that hand out the lowest free address.
//!
//! Pure. Knows nothing of who uses an address.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An Ethernet address, six octets (IEEE 802).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// True for a group address, which no interface may have as its own.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// True for 00:00:00:00:00:00.
    pub fn is_zero(self) -> bool {
        self.0 == [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = String;

    /// Six pairs of hexadecimal digits joined by `:` or `-`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split([':', '-']).collect();
        let octets: Option<Vec<u8>> = parts
            .iter()
            .map(|part| {
                (part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit())).then(|| u8::from_str_radix(part, 16).ok()).flatten()
            })
            .collect();
        match octets.and_then(|octets| <[u8; 6]>::try_from(octets).ok()) {
            Some(octets) => Ok(Mac(octets)),
            None => Err("a MAC address is six pairs of hexadecimal digits, such as 02:00:00:00:00:01".to_string()),
        }
    }
}

impl TryFrom<String> for Mac {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

/// Things that follow each other: ranges of them have a length and an n-th member.
pub trait Ordinal: Sized {
    /// Its place among its kin.
    fn ordinal(&self) -> u128;
    /// True when both are of one sort: an IPv4 address does not follow an IPv6 one.
    fn is_kin(&self, other: &Self) -> bool;
    /// The one of `like`'s sort at a place, if there is one.
    fn from_ordinal(like: &Self, place: u128) -> Option<Self>;
}

impl Ordinal for Mac {
    fn ordinal(&self) -> u128 {
        self.0.iter().fold(0, |sum, octet| sum << 8 | u128::from(*octet))
    }
    fn is_kin(&self, _: &Self) -> bool {
        true
    }
    fn from_ordinal(_: &Self, place: u128) -> Option<Self> {
        let [.., a, b, c, d, e, f] = place.to_be_bytes();
        (place < 1 << 48).then_some(Mac([a, b, c, d, e, f]))
    }
}

impl Ordinal for IpAddr {
    fn ordinal(&self) -> u128 {
        match self {
            IpAddr::V4(v4) => u128::from(u32::from(*v4)),
            IpAddr::V6(v6) => u128::from(*v6),
        }
    }
    fn is_kin(&self, other: &Self) -> bool {
        self.is_ipv4() == other.is_ipv4()
    }
    fn from_ordinal(like: &Self, place: u128) -> Option<Self> {
        match like {
            IpAddr::V4(_) => u32::try_from(place).ok().map(|number| IpAddr::V4(Ipv4Addr::from(number))),
            IpAddr::V6(_) => Some(IpAddr::V6(std::net::Ipv6Addr::from(place))),
        }
    }
}

/// True when `address` can belong to a machine in `subnet`: inside it, and for IPv4 neither its first nor its last.
pub fn usable_in(subnet: &IpNet, address: IpAddr) -> bool {
    if !subnet.contains(&address) {
        return false;
    }
    match subnet {
        // RFC 3021: both addresses of a /31 are usable, and the one of a /32.
        IpNet::V4(net) if net.prefix_len() < 31 => address != IpAddr::V4(net.network()) && address != IpAddr::V4(net.broadcast()),
        IpNet::V4(_) => true,
        // RFC 4291 2.6.1: the first address is the subnet-router anycast address.
        IpNet::V6(net) => net.prefix_len() >= 127 || address != IpAddr::V6(net.network()),
    }
}

/// The address in `subnet` of the interface `mac`: its modified EUI-64 (RFC 4291 appendix A) as far as the subnet has room,
/// and for later attempts the ones after it.
pub fn interface_address(subnet: &ipnet::Ipv6Net, mac: Mac, attempt: u32) -> std::net::Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let identifier = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]).wrapping_add(u64::from(attempt));
    let host = u128::from(identifier) & u128::from(subnet.hostmask());
    std::net::Ipv6Addr::from(u128::from(subnet.network()) | host)
}

/// Addresses of one IPv4 subnet that are still free. Ranges cost nothing, however large.
#[derive(Debug, Clone)]
pub struct Pool {
    first: u32,
    last: u32,
    taken: BTreeSet<u32>,
    excluded: Vec<(u32, u32)>,
}

impl Pool {
    /// A pool over the subnet's usable addresses.
    pub fn new(subnet: ipnet::Ipv4Net) -> Self {
        let (network, broadcast) = (u32::from(subnet.network()), u32::from(subnet.broadcast()));
        // RFC 3021: both addresses of a /31 are usable, and the one of a /32.
        let edge = u32::from(subnet.prefix_len() < 31);
        Pool { first: network + edge, last: broadcast - edge, taken: BTreeSet::new(), excluded: Vec::new() }
    }

    /// Takes an address out of the pool; false when it was taken before.
    pub fn take(&mut self, address: Ipv4Addr) -> bool {
        self.taken.insert(u32::from(address))
    }

    /// True when the address may be handed out: in the subnet, not excluded, not taken.
    pub fn is_free(&self, address: Ipv4Addr) -> bool {
        let number = u32::from(address);
        (self.first..=self.last).contains(&number) && !self.taken.contains(&number) && self.excluded_until(number).is_none()
    }

    /// Takes every address from `from` to `to`, both included.
    pub fn exclude(&mut self, from: Ipv4Addr, to: Ipv4Addr) {
        self.excluded.push((u32::from(from), u32::from(to)));
    }

    /// The lowest free address, taken, or `None` when the subnet is full.
    pub fn next_free(&mut self) -> Option<Ipv4Addr> {
        let mut candidate = self.first;
        while candidate <= self.last {
            if let Some(end) = self.excluded_until(candidate) {
                candidate = end.checked_add(1)?;
            } else if !self.taken.insert(candidate) {
                candidate = candidate.checked_add(1)?;
            } else {
                // Everything below stays taken: the next search starts here.
                self.first = candidate;
                return Some(Ipv4Addr::from(candidate));
            }
        }
        None
    }

    fn excluded_until(&self, number: u32) -> Option<u32> {
        self.excluded.iter().find(|(from, to)| (*from..=*to).contains(&number)).map(|(_, to)| *to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_parse_and_print() {
        assert_eq!("02:00:AA:00:00:01".parse::<Mac>().map(|m| m.to_string()), Ok("02:00:aa:00:00:01".to_string()));
        for bad in ["", "02:00:00:00:00", "02:00:00:00:00:0g", "02:00:00:00:00:001", "0200.0000.0001", "+2:00:00:00:00:01"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_pool_hands_out_the_lowest_free_address_once() {
        let mut pool = Pool::new("10.0.0.0/29".parse().expect("valid"));
        assert!(pool.take(Ipv4Addr::new(10, 0, 0, 1)));
        pool.exclude(Ipv4Addr::new(10, 0, 0, 3), Ipv4Addr::new(10, 0, 0, 4));
        let rest: Vec<_> = std::iter::from_fn(|| pool.next_free()).map(|a| a.octets()[3]).collect();
        assert_eq!(rest, [2, 5, 6]);
    }

    #[test]
    fn network_and_broadcast_are_not_usable() {
        let net: IpNet = "10.0.0.0/24".parse().expect("valid");
        assert!(!usable_in(&net, "10.0.0.0".parse().expect("valid")));
        assert!(!usable_in(&net, "10.0.0.255".parse().expect("valid")));
        assert!(!usable_in(&net, "10.0.1.1".parse().expect("valid")));
        assert!(usable_in(&net, "10.0.0.1".parse().expect("valid")));
    }
}
