//! What a guest says of its own network: the script that asks, and its answer read.
//!
//! Pure. The script needs a shell, `cat`, `ip` and /proc: busybox has them. (Its `read` takes less than a whole line from
//! /proc/sys, and ends with its shell where a file cannot be read, such as the carrier of an interface that is off.) What a guest printed is hostile: what makes no sense is passed
//! over, and only numbers, addresses and short words are taken.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

/// Prints the facts, section by section, with few processes: a guest under emulation takes its time to start one. `$1` is the
/// address that matters, or `-`.
pub const SCRIPT: &str = r#"exec 2>/dev/null
for p in /sys/class/net/*; do echo "@link ${p##*/}"; cat "$p/flags" "$p/mtu" "$p/address" "$p/carrier"; done
echo @addr; ip -o addr show
echo @route; ip route show; ip -6 route show
[ "$1" = - ] || { echo @get; ip route get "$1"; }
echo @neigh; ip neigh show
echo @tcp; cat /proc/net/tcp /proc/net/tcp6
echo @udp; cat /proc/net/udp /proc/net/udp6
echo @icmp; cat /proc/sys/net/ipv4/icmp_echo_ignore_all
echo @rules
if command -v nft; then nft list ruleset; elif command -v iptables-save; then iptables-save; fi
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
    let (mut section, mut link, mut nth) = ("", String::new(), 0);
    for line in text.lines().take(20_000) {
        let words: Vec<&str> = line.split_whitespace().take(24).collect();
        if let Some(name) = words.first().and_then(|word| word.strip_prefix('@')) {
            (section, nth) = (name, 0);
            link = words.get(1).filter(|name| name.len() <= 15).map(|name| (*name).to_string()).unwrap_or_default();
            continue;
        }
        match (section, words.as_slice()) {
            ("link", [word]) if !link.is_empty() => {
                inside.links.entry(link.clone()).or_default().take(nth, word);
                nth += 1;
            }
            ("addr", [_, name, "inet" | "inet6", net, rest @ ..]) if !rest.windows(2).any(|pair| pair == ["scope", "link"]) => {
                if let (Some(link), Some(net)) = (inside.links.get_mut(name.trim_end_matches(':')), network(net)) {
                    link.addresses.push(net);
                }
            }
            ("route", [kind @ ("blackhole" | "unreachable" | "prohibit"), net, ..]) => {
                inside.forbidden.extend(network(net).map(|net| ((*kind).to_string(), net)));
            }
            ("get", [to, rest @ ..]) if to.parse::<IpAddr>().is_ok() => {
                let after = |key: &str| rest.windows(2).find(|pair| pair[0] == key).map(|pair| pair[1]);
                let address = |key: &str| after(key).and_then(|text| text.parse().ok());
                inside.way = after("dev").map(|link| Way { via: address("via"), link: link.to_string(), source: address("src") });
            }
            ("neigh", [address, rest @ ..]) if rest.iter().any(|word| matches!(*word, "FAILED" | "INCOMPLETE")) => {
                inside.silent.extend(address.parse::<IpAddr>());
            }
            // Number, local address, remote address, state: 0A listens, 07 is a socket that is not connected.
            ("tcp", [_, local, _, "0A", ..]) => inside.tcp.extend(socket(local)),
            ("udp", [_, local, _, "07", ..]) => inside.udp.extend(socket(local)),
            ("icmp", [value]) => inside.ignores_echo = *value == "1",
            ("rules", words) => {
                let word = |word: &&str| matches!(word.trim_matches(';').to_ascii_lowercase().as_str(), "drop" | "reject");
                inside.rules += u32::from(words.iter().any(word));
            }
            _ => {}
        }
    }
    inside
}

impl Link {
    /// Takes the files of an interface in turn; the last cannot be read while it is off.
    fn take(&mut self, nth: usize, word: &str) {
        match nth {
            0 => {
                let flags = word.strip_prefix("0x").and_then(|flags| u32::from_str_radix(flags, 16).ok()).unwrap_or(0);
                self.up = flags & 1 == 1;
            }
            1 => self.mtu = word.parse().unwrap_or(0),
            2 => self.mac = word.chars().filter(|c| c.is_ascii_hexdigit() || *c == ':').take(17).collect(),
            _ => self.carrier = Some(word == "1"),
        }
    }
}

/// `0100007F:0035` → the port, and whether it is open on all addresses.
fn socket(local: &str) -> Option<(u16, bool)> {
    let (address, port) = local.split_once(':')?;
    Some((u16::from_str_radix(port, 16).ok()?, address.chars().all(|c| c == '0')))
}

/// An address with or without a prefix length.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "@link eth0
0x1003
1442
02:4c:74:a2:d0:24
1
@link eth1
0x1002
1500
02:4c:74:a2:d0:25
@link lo
0x9
65536
00:00:00:00:00:00
1
@addr
1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever
2: eth0    inet 10.72.1.2/24 scope global eth0\\       valid_lft forever
2: eth0    inet6 fe80::4c:74ff:fea2:d024/64 scope link \\       valid_lft forever
@route
default via 10.72.1.1 dev eth0
blackhole 10.72.2.99
unreachable 10.73.0.0/16
@get
10.72.2.10 via 10.72.1.1 dev eth0  src 10.72.1.2
@neigh
10.72.1.1 dev eth0 lladdr 02:4a:37:5e:e6:b8 ref 1 used 0/0/0 probes 4 REACHABLE
10.72.1.77 dev eth0  used 0/0/0 probes 6 FAILED
@tcp
  sl  local_address rem_address   st tx_queue
   0: 00000000:0050 00000000:0000 0A 00000000:00000000
   1: 0100007F:0035 00000000:0000 0A 00000000:00000000
   2: 0200480A:0016 0100480A:9C40 01 00000000:00000000
@udp
   0: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 00000000:00000000
@icmp
1
@rules
/usr/sbin/nft
table ip filter {
  chain input { type filter hook input priority 0; policy drop; }
  tcp dport 22 reject
  ip saddr 10.0.0.0/8 accept
}
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
        assert_eq!((inside.ignores_echo, inside.rules), (true, 2));
    }

    #[test]
    fn no_way_is_no_way_and_nonsense_is_nothing() {
        assert_eq!(read(b"@get\n").way, None);
        assert_eq!(
            read(b"@link\n1\n@tcp\n0: x:y z 0A\n@addr\n\n@route\nblackhole x\n@neigh\nFAILED\n\xff\xfe\n@icmp\n"),
            Inside::default()
        );
    }
}
