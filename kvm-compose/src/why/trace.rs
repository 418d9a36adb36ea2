//! OVN's own account of a packet's way: the packet for `ovn-trace`, and what it printed read (ovn-trace(8)).
//!
//! Pure.

use std::net::IpAddr;

use crate::api::why::Traffic;

/// A packet as it leaves a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The port it comes in by.
    pub inport: String,
    /// MAC addresses, from and to.
    pub macs: (String, String),
    /// Addresses, from and to; of one IP version.
    pub addresses: (IpAddr, IpAddr),
    /// What it carries.
    pub by: Traffic,
    /// It is an answer to such a packet.
    pub answer: bool,
}

/// The port that a connection comes from when it does not matter.
const SOURCE_PORT: u16 = 40_000;

impl Packet {
    /// The packet in OVN's expression language.
    pub fn microflow(&self) -> String {
        let version = if self.addresses.0.is_ipv4() { 4 } else { 6 };
        let ports = |protocol: &str, port: u16| {
            let (source, destination) = if self.answer { (port, SOURCE_PORT) } else { (SOURCE_PORT, port) };
            format!("{protocol}.src == {source} && {protocol}.dst == {destination}")
        };
        let carried = match (self.by, version, self.answer) {
            (Traffic::Icmp, 4, false) => "icmp4.type == 8 && icmp4.code == 0".to_string(),
            (Traffic::Icmp, 4, true) => "icmp4.type == 0 && icmp4.code == 0".to_string(),
            (Traffic::Icmp, _, false) => "icmp6.type == 128 && icmp6.code == 0".to_string(),
            (Traffic::Icmp, _, true) => "icmp6.type == 129 && icmp6.code == 0".to_string(),
            (Traffic::Tcp(port), ..) => ports("tcp", port),
            (Traffic::Udp(port), ..) => ports("udp", port),
        };
        format!(
            "inport == \"{}\" && eth.src == {} && eth.dst == {} && ip{version}.src == {} && ip{version}.dst == {} && ip.ttl == 64 && {carried}",
            self.inport, self.macs.0, self.macs.1, self.addresses.0, self.addresses.1
        )
    }

    /// What connection tracking says of it each time it is asked, for `--ct`.
    pub fn tracked(&self) -> &'static str {
        if self.answer { "est,rpl" } else { "new" }
    }
}

/// Where a packet's way ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Traced {
    /// At a guest's or a host's port.
    Delivered {
        /// The port.
        port: String,
    },
    /// In a table that drops it.
    Dropped {
        /// The row's id of the switch or router in the northbound database.
        datapath: String,
        /// The table, such as `ls_out_acl`.
        stage: String,
        /// What it matched; nothing when no flow did.
        matched: String,
        /// The flow's priority.
        priority: u32,
    },
    /// The next hop's MAC address is not known, and is asked for.
    Asks {
        /// The row's id of the router.
        datapath: String,
    },
    /// `ovn-trace` could not say.
    Unclear(String),
}

/// Reads the detailed account.
pub fn read(stdout: &str) -> Traced {
    let mut datapath = String::new();
    let mut flow = (String::new(), String::new(), 0);
    let (mut dropped, mut delivered, mut asks) = (None, None, None);
    for line in stdout.lines().take(20_000) {
        let text = line.trim();
        if let Some((_, rest)) = text.split_once("gress(dp=\"") {
            datapath = rest.split('"').next().unwrap_or_default().to_string();
        } else if let Some((name, rest)) = table(text) {
            let (matched, rest) = rest.rsplit_once(", priority ").unwrap_or((rest, ""));
            let priority = rest.split(',').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            flow = (name.to_string(), matched.to_string(), priority);
            if rest.is_empty() && text.contains("no match") {
                flow.1 = String::new();
                dropped = Some((datapath.clone(), flow.clone()));
            }
        } else if text == "drop;" || text.starts_with("reject") {
            dropped = Some((datapath.clone(), flow.clone()));
        } else if text.starts_with("arp {") || text.starts_with("nd_ns {") {
            asks = Some(datapath.clone());
        } else if let Some(rest) = text.strip_prefix("/* output to \"") {
            let (port, kind) = rest.split_once("\", type \"").unwrap_or((rest, ""));
            if kind.starts_with('"') || kind.starts_with("localnet") {
                delivered = Some(port.to_string());
            }
        }
    }
    match (delivered, asks, dropped) {
        // What is delivered after that is the question.
        (_, Some(datapath), _) => Traced::Asks { datapath },
        (Some(port), ..) => Traced::Delivered { port },
        (None, None, Some((datapath, (stage, matched, priority)))) => Traced::Dropped { datapath, stage, matched, priority },
        (None, None, None) => {
            let last = stdout.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it printed nothing");
            Traced::Unclear(last.chars().filter(|c| !c.is_control()).take(200).collect())
        }
    }
}

/// `13. lr_in_ip_routing (northd.c:12045): 1, priority 0, uuid 3a54ef49` → the table's name and what follows.
fn table(line: &str) -> Option<(&str, &str)> {
    let (number, rest) = line.split_once(". ")?;
    number.parse::<u32>().ok()?;
    let (name, rest) = rest.split_once([' ', ':'])?;
    let is_name = name.starts_with("ls_") || name.starts_with("lr_");
    let rest = rest.split_once("): ").map_or(rest, |(_, rest)| rest);
    is_name.then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "# tcp,reg14=0x1\n\ningress(dp=\"6bddca02\", inport=\"a\")\n-----\n 0. ls_in_check_port_sec (northd.c:8432): 1, priority 50, uuid 29093313\n    next;\n";

    #[test]
    fn ends_of_a_way_are_told_apart() {
        let acl = "egress(dp=\"d48e\", inport=\"r\", outport=\"b\")\n 4. ls_out_acl (northd.c:6588): ip4 && tcp.dst == 81, priority 1900, uuid 428b4a0a\n    drop;\n";
        let route = "ingress(dp=\"2449\", inport=\"r\")\n13. lr_in_ip_routing (northd.c:12045): 1, priority 0, uuid 3a54ef49\n    drop;\n";
        let implicit = "ingress(dp=\"2449\", inport=\"r\")\n25. ls_in_l2_lkup: no match (implicit drop)\n";
        let output = "    /* output to \"why.r1-left.peer\", type \"patch\" */\n    /* output to \"14debf21\", type \"\" */\n";
        let dropped = |datapath: &str, stage: &str, matched: &str, priority| Traced::Dropped {
            datapath: datapath.to_string(),
            stage: stage.to_string(),
            matched: matched.to_string(),
            priority,
        };
        for (text, expected) in [
            (acl, dropped("d48e", "ls_out_acl", "ip4 && tcp.dst == 81", 1900)),
            (route, dropped("2449", "lr_in_ip_routing", "1", 0)),
            (implicit, dropped("2449", "ls_in_l2_lkup", "", 0)),
            (output, Traced::Delivered { port: "14debf21".to_string() }),
            (
                "    arp { eth.dst = ff; output; };\n    /* output to \"14debf21\", type \"\" */\n",
                Traced::Asks { datapath: "6bddca02".to_string() },
            ),
        ] {
            assert_eq!(read(&format!("{START}{text}")), expected);
        }
        assert_eq!(read("ovn-trace: unknown datapath \"x\"\n"), Traced::Unclear("ovn-trace: unknown datapath \"x\"".to_string()));
    }

    #[test]
    fn packets_are_written_for_both_versions_and_ways() {
        let packet = |addresses: (&str, &str), by, answer| Packet {
            inport: "p".to_string(),
            macs: ("02:00:00:00:00:01".to_string(), "02:00:00:00:00:02".to_string()),
            addresses: (addresses.0.parse().expect("valid"), addresses.1.parse().expect("valid")),
            by,
            answer,
        };
        let start = "inport == \"p\" && eth.src == 02:00:00:00:00:01 && eth.dst == 02:00:00:00:00:02 && ";
        for (packet, rest) in [
            (
                packet(("10.0.0.1", "10.0.0.2"), Traffic::Icmp, false),
                "ip4.src == 10.0.0.1 && ip4.dst == 10.0.0.2 && ip.ttl == 64 && icmp4.type == 8 && icmp4.code == 0",
            ),
            (
                packet(("fd00::1", "fd00::2"), Traffic::Tcp(80), true),
                "ip6.src == fd00::1 && ip6.dst == fd00::2 && ip.ttl == 64 && tcp.src == 80 && tcp.dst == 40000",
            ),
        ] {
            assert_eq!(packet.microflow(), format!("{start}{rest}"));
        }
    }
}
