//! What a guest says of its own network: the script that asks, and its answer read.
//!
//! Pure. The script needs a shell, `ip` and /proc: busybox has them. What a guest printed is hostile: what makes no sense is passed
//! over, and only numbers, addresses and short words are taken.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

/// Prints the facts, a line each. `$1` is the address that matters, or `-`.
pub const SCRIPT: &str = r#"for p in /sys/class/net/*; do
f=- c=- m=- a=-
read -r f <"$p/flags"; read -r m <"$p/mtu"; read -r a <"$p/address"; read -r c <"$p/carrier"
echo "@link ${p##*/} $f $c $m $a"
done 2>/dev/null
ip -o addr show 2>/dev/null | while read -r l; do echo "@addr $l"; done
{ ip route show; ip -6 route show; } 2>/dev/null | while read -r l; do echo "@route $l"; done
[ "$1" = - ] || ip route get "$1" 2>&1 | { read -r l; echo "@get $l"; }
ip neigh show 2>/dev/null | while read -r l; do echo "@neigh $l"; done
for t in tcp tcp6 udp udp6; do
while read -r _ l _ s _; do echo "@sock $t $l $s"; done <"/proc/net/$t"
done 2>/dev/null
read -r i </proc/sys/net/ipv4/icmp_echo_ignore_all && echo "@icmp $i"
{ nft list ruleset || iptables-save; } 2>/dev/null | grep -ciE 'drop|reject' | { read -r n && echo "@rules $n"; }
exit 0"#;

/// A guest's network, as it has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    /// Interfaces by name.
    pub links: BTreeMap<String, Link>,
    /// Routes that forbid: `blackhole`, `unreachable` or `prohibit`, and where to.
    pub forbidden: Vec<(String, IpNet)>,
    /// The way to the address that matters, when there is one.
    pub way: Option<Way>,
    /// Who did not answer when asked for its MAC address.
    pub silent: Vec<IpAddr>,
    /// TCP ports that somebody listens on, and whether on all addresses.
    pub tcp: Vec<(u16, bool)>,
    /// UDP ports that somebody reads from, and whether on all addresses.
    pub udp: Vec<(u16, bool)>,
    /// Echo requests are ignored.
    pub ignores_echo: bool,
    /// Rules of its firewall that drop or reject.
    pub rules: u32,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// It is switched on.
    pub up: bool,
    /// The other end is there; unknown while it is switched off.
    pub carrier: Option<bool>,
    /// The largest packet it sends.
    pub mtu: u32,
    /// Its MAC address.
    pub mac: String,
    /// Its addresses, those of the link alone left out.
    pub addresses: Vec<IpNet>,
}

/// How the guest sends to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Through whom; nobody on the same segment.
    pub via: Option<IpAddr>,
    /// By which interface.
    pub link: String,
    /// From which address.
    pub source: Option<IpAddr>,
}

/// Reads what [`SCRIPT`] printed.
pub fn read(stdout: &[u8]) -> Inside {
    let text = String::from_utf8_lossy(stdout);
    let mut inside = Inside::default();
    for line in text.lines().take(5000) {
        let words: Vec<&str> = line.split_whitespace().take(24).collect();
        match words.as_slice() {
            ["@link", name, flags, carrier, mtu, mac, ..] if name.len() <= 15 => {
                let flags = flags.strip_prefix("0x").and_then(|flags| u32::from_str_radix(flags, 16).ok()).unwrap_or(0);
                let carrier = match *carrier {
                    "1" => Some(true),
                    "0" => Some(false),
                    _ => None,
                };
                let link = inside.links.entry((*name).to_string()).or_default();
                (link.up, link.carrier, link.mtu) = (flags & 1 == 1, carrier, mtu.parse().unwrap_or(0));
                link.mac = mac.chars().filter(|c| c.is_ascii_hexdigit() || *c == ':').take(17).collect();
            }
            ["@addr", _, name, "inet" | "inet6", net, rest @ ..] if !rest.windows(2).any(|pair| pair == ["scope", "link"]) => {
                if let (Some(link), Some(net)) = (inside.links.get_mut(name.trim_end_matches(':')), network(net)) {
                    link.addresses.push(net);
                }
            }
            ["@route", kind @ ("blackhole" | "unreachable" | "prohibit"), net, ..] => {
                inside.forbidden.extend(network(net).map(|net| ((*kind).to_string(), net)));
            }
            ["@get", to, rest @ ..] if to.parse::<IpAddr>().is_ok() => {
                let after = |key: &str| rest.windows(2).find(|pair| pair[0] == key).map(|pair| pair[1]);
                let address = |key: &str| after(key).and_then(|text| text.parse().ok());
                inside.way = after("dev").map(|link| Way { via: address("via"), link: link.to_string(), source: address("src") });
            }
            ["@neigh", address, rest @ ..] if rest.iter().any(|word| matches!(*word, "FAILED" | "INCOMPLETE")) => {
                inside.silent.extend(address.parse::<IpAddr>());
            }
            ["@sock", kind, local, state] => {
                let Some((address, port)) = local.split_once(':') else { continue };
                let Ok(port) = u16::from_str_radix(port, 16) else { continue };
                let anywhere = address.chars().all(|c| c == '0');
                match (&kind[..3.min(kind.len())], *state) {
                    ("tcp", "0A") => inside.tcp.push((port, anywhere)),
                    ("udp", "07") => inside.udp.push((port, anywhere)),
                    _ => {}
                }
            }
            ["@icmp", value] => inside.ignores_echo = *value == "1",
            ["@rules", count] => inside.rules = count.parse().unwrap_or(0),
            _ => {}
        }
    }
    inside
}

/// An address with or without a prefix length.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "@link eth0 0x1003 1 1442 02:4c:74:a2:d0:24
@link eth1 0x1002 - 1500 02:4c:74:a2:d0:25
@link lo 0x9 1 65536 00:00:00:00:00:00
@addr 1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever
@addr 2: eth0    inet 10.72.1.2/24 scope global eth0\\       valid_lft forever
@addr 2: eth0    inet6 fe80::4c:74ff:fea2:d024/64 scope link \\       valid_lft forever
@route default via 10.72.1.1 dev eth0
@route blackhole 10.72.2.99
@route unreachable 10.73.0.0/16
@get 10.72.2.10 via 10.72.1.1 dev eth0  src 10.72.1.2
@neigh 10.72.1.1 dev eth0 lladdr 02:4a:37:5e:e6:b8 ref 1 used 0/0/0 probes 4 REACHABLE
@neigh 10.72.1.77 dev eth0  used 0/0/0 probes 6 FAILED
@sock tcp local_address st
@sock tcp 00000000:0050 0A
@sock tcp 0100007F:0035 0A
@sock tcp 0200480A:0016 01
@sock udp6 00000000000000000000000000000000:0035 07
@icmp 1
@rules 3
@nonsense \u{1b}[2J
";

    #[test]
    fn a_guests_report_is_read() {
        let inside = read(SAID.as_bytes());
        let eth0 = &inside.links["eth0"];
        assert_eq!((eth0.up, eth0.carrier, eth0.mtu, eth0.addresses.len()), (true, Some(true), 1442, 1));
        assert_eq!((inside.links["eth1"].up, inside.links["eth1"].carrier), (false, None));
        assert_eq!(inside.forbidden.len(), 2);
        let way = inside.way.expect("a way");
        assert_eq!((way.via, way.link.as_str()), ("10.72.1.1".parse().ok(), "eth0"));
        assert_eq!(inside.silent, ["10.72.1.77".parse::<IpAddr>().expect("valid")]);
        assert_eq!((inside.tcp, inside.udp), (vec![(80, true), (53, false)], vec![(53, true)]));
        assert_eq!((inside.ignores_echo, inside.rules), (true, 3));
    }

    #[test]
    fn no_way_is_no_way_and_nonsense_is_nothing() {
        assert_eq!(read(b"@get ip: RTNETLINK answers: Network unreachable\n@get RTNETLINK answers: No route to host\n").way, None);
        assert_eq!(read(b"@link\n@sock tcp x:y 0A\n@addr\n@route blackhole x\n@neigh FAILED\n\xff\xfe@icmp"), Inside::default());
    }
}
