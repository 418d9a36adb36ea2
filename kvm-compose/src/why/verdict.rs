//! The verdict: the first thing on the packet's way, from its sender on, that explains what was seen.
//!
//! Pure: a decision table. Guests first (they stop most), then the ports, then OVN's own account of the way there and of the way
//! back, then what listens at the end. A fact that has nothing to do with this way is never the culprit.

use std::net::IpAddr;

use super::{
    ends::{interface, not_there, port, silent_agent, switch_down, way_out},
    facts::{End, Facts, Nic, Probed},
    inside::Inside,
    network::{drifted, foreign, stopped},
    outside::{beyond_the_host, leads_nowhere, missing_translation},
    trace::Traced,
};
use crate::api::why::{Culprit, Traffic};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// It can be reached.
    pub reachable: bool,
    /// What stands in the way.
    pub culprit: Culprit,
    /// One sentence.
    pub sentence: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// It cannot be reached.
pub fn blocked(culprit: Culprit, sentence: String, hint: &str) -> Verdict {
    Verdict { reachable: false, culprit, sentence, hint: (!hint.is_empty()).then(|| hint.to_string()) }
}

/// Why, or that it can.
pub fn diagnose(facts: &Facts) -> Verdict {
    if let Probed::Reached(seen) = &facts.probe {
        return reached(facts, seen);
    }
    let to = facts.to.end.as_ref();
    let found = not_there(&facts.from)
        .or_else(|| to.and_then(not_there))
        .or_else(|| switch_down(&facts.from))
        .or_else(|| to.and_then(switch_down))
        .or_else(|| silent_agent(&facts.from).filter(|_| matches!(facts.probe, Probed::NotSent(_))))
        .or_else(|| no_name(facts))
        .or_else(|| interface(&facts.from, facts.to.address))
        .or_else(|| port(&facts.from, facts))
        .or_else(|| way_out(&facts.from, facts.to.address, &name_of(facts), facts))
        .or_else(|| to.and_then(|to| interface(to, facts.to.address)))
        .or_else(|| to.and_then(|to| port(to, facts)))
        .or_else(|| to.and_then(|to| way_out(to, own_address(&facts.from), &format!("`{}`", facts.from.guest), facts)))
        .or_else(|| missing_translation(facts))
        .or_else(|| leads_nowhere(facts))
        .or_else(|| beyond_the_host(facts))
        .or_else(|| stopped(facts, facts.forward.as_ref(), facts.to.address, "packets"))
        .or_else(|| stopped(facts, facts.back.as_ref(), own_address(&facts.from), "answers"))
        .or_else(|| drifted(facts))
        .or_else(|| loses(facts))
        .or_else(|| at_the_end(facts))
        .or_else(|| foreign(facts, None))
        .or_else(|| silent_hop(facts))
        .or_else(|| silent_agent(&facts.from));
    found.unwrap_or_else(|| unknown(facts))
}

fn reached(facts: &Facts, seen: &str) -> Verdict {
    let ends = [Some(&facts.from), facts.to.end.as_ref()];
    for (end, nic, inside) in ends.into_iter().flatten().filter_map(|end| Some((end, end.nic.as_ref()?, end.inside.as_ref().ok()?))) {
        if let Some(link) = inside.links.get(&nic.name).filter(|link| link.mtu > facts.mtu) {
            let sentence = format!(
                "`{}` reaches {} with small packets, but {} of `{}` has an MTU of {} where the network carries {}: larger ones get lost",
                facts.from.guest,
                name_of(facts),
                nic.name,
                end.guest,
                link.mtu,
                facts.mtu
            );
            return Verdict { reachable: true, culprit: Culprit::Mtu, sentence, hint: Some(mtu_hint(nic, facts)) };
        }
        if let Some(link) = inside.links.get(&nic.name).filter(|link| link.mtu > 0 && link.mtu < facts.mtu) {
            let sentence = format!(
                "`{}` reaches {} with small packets, but {} of `{}` has an MTU of {} where its neighbours send up to {}: larger ones to \
                 it get lost",
                facts.from.guest,
                name_of(facts),
                nic.name,
                end.guest,
                link.mtu,
                facts.mtu
            );
            return Verdict { reachable: true, culprit: Culprit::Mtu, sentence, hint: Some(mtu_hint(nic, facts)) };
        }
    }
    let sentence = format!("`{}` reaches {} by {}: {seen}", facts.from.guest, name_of(facts), facts.by);
    Verdict { reachable: true, culprit: Culprit::None, sentence, hint: other_family(facts) }
}

/// A name brings addresses of both IP versions, and one was asked alone.
fn other_family(facts: &Facts) -> Option<String> {
    let (end, asked) = (facts.to.end.as_ref()?, facts.to.address?);
    if facts.to.wrote.parse::<IpAddr>().is_ok() {
        return None;
    }
    let mut addresses = end.nic.as_ref()?.addresses.iter().map(|net| net.addr());
    let other = addresses.find(|address| address.is_ipv4() != asked.is_ipv4())?;
    let version = if other.is_ipv4() { "IPv4" } else { "IPv6" };
    Some(format!("the name brings {other} too: `testbed why {} {other}` asks by {version}", facts.from.guest))
}

fn mtu_hint(nic: &Nic, facts: &Facts) -> String {
    format!("`ip link set {} mtu {}` in the guest", nic.name, facts.mtu)
}

fn name_of(facts: &Facts) -> String {
    let address = facts.to.address.map(|address| address.to_string());
    match (&facts.to.end, address) {
        (Some(end), Some(address)) if facts.to.wrote == end.guest.as_str() => format!("`{}` ({address})", end.guest),
        (_, Some(address)) if address != facts.to.wrote => format!("`{}` ({address})", facts.to.wrote),
        _ => format!("`{}`", facts.to.wrote),
    }
}

fn own_address(end: &End) -> Option<IpAddr> {
    end.nic.as_ref()?.addresses.first().map(|net| net.addr())
}
fn no_name(facts: &Facts) -> Option<Verdict> {
    if facts.to.address.is_some() {
        return None;
    }
    if let Some(end) = &facts.to.end {
        let sentence = format!("guest `{}` has no address in the file that it could be reached at", end.guest);
        return Some(blocked(Culprit::NoAddress, sentence, "give its interface an address, or its switch a subnet"));
    }
    let (guest, name) = (&facts.from.guest, &facts.to.wrote);
    Some(blocked(
        Culprit::Name,
        format!("guest `{guest}` gets no address for the name `{name}`"),
        "name a guest of the file, or an address",
    ))
}

/// A link that loses most of what it should carry, or passes nothing.
fn loses(facts: &Facts) -> Option<Verdict> {
    /// What loses less lets one of the probe's packets through as a rule.
    const MOST: u32 = 500_000;
    let ends = || [Some(&facts.from), facts.to.end.as_ref()].into_iter().flatten().filter_map(|end| Some((end, end.nic.as_ref()?)));
    if let Some((end, nic, fault)) = ends().find_map(|(end, nic)| Some((end, nic, nic.link_fault.as_ref()?))) {
        let sentence = format!("the link of {} of guest `{}` passes nothing: {fault}", nic.name, end.guest);
        return Some(blocked(Culprit::Loss, sentence, "`testbed up` mends it"));
    }
    let (end, nic) = ends().filter(|(_, nic)| nic.loss_ppm >= MOST).max_by_key(|(_, nic)| nic.loss_ppm)?;
    let (who, hint) = match nic.loss_by_file {
        true => ("its `impairment` in the file asks", "`testbed link set` changes it live"),
        false => ("`testbed link set` asked", "`testbed up` takes the link back to what the file says"),
    };
    let share = match nic.loss_ppm {
        1_000_000.. => "every packet".to_string(),
        ppm => format!("{} % of all packets", f64::from(ppm) / 10_000.0),
    };
    let sentence = format!("the link of {} of guest `{}` loses {share}, as {who}", nic.name, end.guest);
    Some(blocked(Culprit::Loss, sentence, hint))
}

/// What the guest at the end does with what it gets.
fn at_the_end(facts: &Facts) -> Option<Verdict> {
    let refused = matches!(&facts.probe, Probed::Failed(seen) if seen.contains("refused"));
    let Some(end) = &facts.to.end else {
        let sentence = format!("{} answers, but nothing listens on {} there", name_of(facts), facts.by);
        return refused.then(|| blocked(Culprit::NotListening, sentence, ""));
    };
    let guest = &end.guest;
    let Ok(inside) = &end.inside else {
        let sentence = format!("{} gets to guest `{guest}`, where nothing listens on {}", facts.from.guest, facts.by);
        return refused.then(|| blocked(Culprit::NotListening, sentence, ""));
    };
    let listening = |list: &[(u16, bool)], port: u16| -> Option<Verdict> {
        let found: Vec<bool> = list.iter().filter(|(one, _)| *one == port).map(|(_, anywhere)| *anywhere).collect();
        let sentence = match found.as_slice() {
            [] => format!("nothing listens on {} in guest `{guest}`", facts.by),
            all if refused && !all.contains(&true) => {
                format!("what listens on {} in guest `{guest}` does so on another address only", facts.by)
            }
            _ => return None,
        };
        Some(blocked(Culprit::NotListening, sentence, "start the service there, or ask for another port"))
    };
    let nobody = match facts.by {
        Traffic::Tcp(port) => listening(&inside.tcp, port),
        Traffic::Udp(port) => listening(&inside.udp, port),
        Traffic::Icmp if inside.ignores_echo => {
            let hint = "`sysctl net.ipv4.icmp_echo_ignore_all=0` in the guest";
            Some(blocked(Culprit::GuestFirewall, format!("guest `{guest}` ignores echo requests (icmp_echo_ignore_all)"), hint))
        }
        Traffic::Icmp => None,
    };
    nobody.or_else(|| {
        let rules = inside_rules(inside)?;
        let sentence = format!("packets get as far as guest `{guest}`, whose firewall has {rules} that drop or reject");
        Some(blocked(Culprit::GuestFirewall, sentence, "`nft list ruleset` or `iptables-save` in the guest shows them"))
    })
}

fn inside_rules(inside: &Inside) -> Option<String> {
    (inside.rules > 0).then(|| format!("{} rule{}", inside.rules, if inside.rules == 1 { "" } else { "s" }))
}

/// Whom the sender asked in vain for its MAC address.
fn silent_hop(facts: &Facts) -> Option<Verdict> {
    let inside = facts.from.inside.as_ref().ok()?;
    let hop = inside.way.as_ref().and_then(|way| way.via).or(facts.to.address)?;
    if !inside.silent.contains(&hop) {
        return None;
    }
    let who = if Some(hop) == facts.to.address { "the address" } else { "the gateway" };
    let sentence = format!("{who} {hop} does not answer when guest `{}` asks for its MAC address", facts.from.guest);
    Some(blocked(Culprit::GatewaySilent, sentence, "nobody on the segment has it, or the link does not carry it"))
}

fn unknown(facts: &Facts) -> Verdict {
    if let Some(behind) = &facts.behind {
        return blocked(Culprit::OvnBehind, format!("OVN is behind: {behind}"), "does it run on every host? `testbed doctor` looks at it");
    }
    let seen = match &facts.probe {
        Probed::Failed(seen) | Probed::NotSent(seen) | Probed::Reached(seen) => seen,
    };
    if let (Traffic::Udp(port), Some(Traced::Delivered { .. }), Some(end)) = (facts.by, &facts.forward, &facts.to.end)
        && end.inside.as_ref().is_ok_and(|inside| inside.udp.iter().any(|(one, _)| *one == port))
    {
        let sentence =
            format!("`{}` reaches {} by {}: the network delivers it, and somebody reads there", facts.from.guest, name_of(facts), facts.by);
        return Verdict { reachable: true, culprit: Culprit::None, sentence, hint: None };
    }
    let sentence = format!(
        "`{}` does not reach {} by {} ({seen}), and nothing that was looked at says why",
        facts.from.guest,
        name_of(facts),
        facts.by
    );
    blocked(Culprit::Unknown, sentence, "`-v` shows what was looked at")
}
