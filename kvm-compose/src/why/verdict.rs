//! The verdict: the first thing on the packet's way, from its sender on, that explains what was seen.
//!
//! Pure: a decision table. Guests first (they stop most), then the ports, then OVN's own account of the way there and of the way
//! back, then what listens at the end. A fact that has nothing to do with this way is never the culprit.

use std::net::IpAddr;

use super::{
    facts::{End, Facts, Nic, Probed},
    inside::Inside,
    network::{drifted, missing_translation, stopped},
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
        .or_else(|| silent_agent(&facts.from).filter(|_| matches!(facts.probe, Probed::NotSent(_))))
        .or_else(|| no_name(facts))
        .or_else(|| interface(&facts.from))
        .or_else(|| port(&facts.from, facts))
        .or_else(|| way_out(&facts.from, facts.to.address, &name_of(facts), facts))
        .or_else(|| to.and_then(interface))
        .or_else(|| to.and_then(|to| port(to, facts)))
        .or_else(|| to.and_then(|to| way_out(to, own_address(&facts.from), &format!("`{}`", facts.from.guest), facts)))
        .or_else(|| missing_translation(facts))
        .or_else(|| stopped(facts, facts.forward.as_ref(), facts.to.address, "packets"))
        .or_else(|| stopped(facts, facts.back.as_ref(), own_address(&facts.from), "answers"))
        .or_else(|| drifted(facts))
        .or_else(|| loses(facts))
        .or_else(|| at_the_end(facts))
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
            let hint = format!("`ip link set {} mtu {}` in the guest", nic.name, facts.mtu);
            return Verdict { reachable: true, culprit: Culprit::Mtu, sentence, hint: Some(hint) };
        }
    }
    let sentence = format!("`{}` reaches {} by {}: {seen}", facts.from.guest, name_of(facts), facts.by);
    Verdict { reachable: true, culprit: Culprit::None, sentence, hint: None }
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

fn not_there(end: &End) -> Option<Verdict> {
    let guest = &end.guest;
    if let Some((host, why)) = &end.away {
        let hint = "`testbed cluster list` says which hosts answer";
        return Some(blocked(Culprit::HostAway, format!("host `{host}`, where guest `{guest}` stands, does not answer: {why}"), hint));
    }
    match end.domain.as_deref() {
        None => Some(blocked(Culprit::GuestDown, format!("guest `{guest}` is not there"), "`testbed up` makes it")),
        Some("running" | "idle") => None,
        Some(state) => {
            Some(blocked(Culprit::GuestDown, format!("guest `{guest}` does not run: it is {state}"), "`testbed up` makes it run"))
        }
    }
}

fn silent_agent(end: &End) -> Option<Verdict> {
    let why = end.inside.as_ref().err()?;
    let sentence = format!("the agent of guest `{}` does not answer, so it cannot be asked what it sees: {why}", end.guest);
    Some(blocked(Culprit::NoAgent, sentence, "the guest may still boot, or its agent has ended"))
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

/// The interface itself: is it there, on, plugged, and does it have its address?
fn interface(end: &End) -> Option<Verdict> {
    let (guest, nic, inside) = (&end.guest, end.nic.as_ref()?, end.inside.as_ref().ok()?);
    let name = &nic.name;
    let Some(link) = inside.links.get(name) else {
        return Some(blocked(
            Culprit::LinkDown,
            format!("guest `{guest}` has no interface {name}"),
            "`testbed plan` says what `up` would do",
        ));
    };
    if !link.up {
        let hint = format!("`ip link set {name} up` in the guest");
        return Some(blocked(Culprit::LinkDown, format!("interface {name} is switched off in guest `{guest}`"), &hint));
    }
    if link.carrier == Some(false) {
        let sentence = format!("the link of {name} of guest `{guest}` is down at its port: the guest sees no carrier");
        return Some(blocked(Culprit::LinkDown, sentence, "`testbed link` or `virsh domif-setlink` switch it on"));
    }
    if nic.addresses.is_empty() || nic.addresses.iter().any(|wanted| link.addresses.iter().any(|has| has.addr() == wanted.addr())) {
        return None;
    }
    let wanted: Vec<String> = nic.addresses.iter().map(|net| net.addr().to_string()).collect();
    let wanted = wanted.join(" and ");
    let others: Vec<String> = link.addresses.iter().map(|net| net.addr().to_string()).collect();
    if others.is_empty() {
        let lease = if nic.dhcp { "lost its lease: it " } else { "" };
        let sentence = format!("{name} of guest `{guest}` {lease}has no address, and should have {wanted}");
        return Some(blocked(Culprit::NoAddress, sentence, ""));
    }
    let sentence = format!("{name} of guest `{guest}` has the address {}, and the network knows it as {wanted}", others.join(" and "));
    Some(blocked(Culprit::WrongAddress, sentence, ""))
}

/// The port: is it there, on, and on a host?
fn port(end: &End, facts: &Facts) -> Option<Verdict> {
    let (guest, nic) = (&end.guest, end.nic.as_ref()?);
    let (name, switch) = (&nic.name, &nic.switch);
    let again = "`testbed up` puts it right";
    if facts.drift.iter().any(|row| row.missing && row.key == nic.key) {
        return Some(blocked(Culprit::Port, format!("{name} of guest `{guest}` has no port on switch `{switch}` in OVN"), again));
    }
    if facts.drift.iter().any(|row| row.key == nic.key) {
        let sentence = format!("the port of {name} of guest `{guest}` is not as the file wants it in OVN");
        return Some(blocked(Culprit::Port, sentence, again));
    }
    if let Some(inside) = end.inside.as_ref().ok()
        && let Some(link) = inside.links.get(name)
        && !link.mac.eq_ignore_ascii_case(&nic.mac)
    {
        let sentence = format!("{name} of guest `{guest}` sends as {}, and the network takes it for {} only", link.mac, nic.mac);
        return Some(blocked(Culprit::PortSecurity, sentence, ""));
    }
    let binding = nic.binding.as_ref()?;
    if !binding.enabled {
        return Some(blocked(Culprit::Port, format!("the port of {name} of guest `{guest}` is switched off in OVN"), again));
    }
    if !binding.present {
        let sentence = format!("the port of {name} of guest `{guest}` has not come through to OVN's southbound database");
        return Some(blocked(Culprit::OvnBehind, sentence, "does ovn-northd run? `testbed doctor` looks at it"));
    }
    match (&binding.chassis, binding.up) {
        (None, _) => {
            let sentence =
                format!("the port of {name} of guest `{guest}` is on no host: no integration bridge holds an interface with its id");
            Some(blocked(Culprit::Port, sentence, "`testbed up`, or stop and start the guest; does ovn-controller run there?"))
        }
        (Some(chassis), false) => {
            let sentence = format!("the port of {name} of guest `{guest}` is not up yet on host `{chassis}`");
            Some(blocked(Culprit::Port, sentence, "does ovn-controller run there? `testbed doctor` looks at it"))
        }
        (Some(_), true) => None,
    }
}

/// Does the guest know a way to the other, and is it the one that the file wants?
fn way_out(end: &End, to: Option<IpAddr>, to_name: &str, facts: &Facts) -> Option<Verdict> {
    let (guest, inside, to) = (&end.guest, end.inside.as_ref().ok()?, to?);
    let own = [&Some(&facts.from), &facts.to.end.as_ref()].into_iter().flatten().any(|other| {
        other.guest != *guest && other.nic.as_ref().is_some_and(|nic| end.nic.as_ref().is_some_and(|own| own.switch == nic.switch))
    });
    let longest = inside.forbidden.iter().filter(|(_, net)| net.contains(&to)).max_by_key(|(_, net)| net.prefix_len());
    if let (Some((kind, net)), None) = (longest, &inside.way) {
        let hint = format!("`ip route del {kind} {net}` in the guest");
        return Some(blocked(Culprit::GuestRoute, format!("guest `{guest}` has a route that forbids {to_name}: {kind} {net}"), &hint));
    }
    let nic = end.nic.as_ref();
    let gateway = nic.and_then(|nic| nic.gateway).filter(|gateway| gateway.is_ipv4() == to.is_ipv4());
    match (&inside.way, gateway) {
        (None, Some(gateway)) => {
            let sentence = format!("guest `{guest}` has no route to {to_name}: its default route through {gateway} is missing");
            Some(blocked(Culprit::GuestRoute, sentence, &format!("`ip route add default via {gateway}` in the guest")))
        }
        (None, None) => {
            let sentence = format!("guest `{guest}` has no route to {to_name}, and the file gives it no gateway");
            Some(blocked(Culprit::GuestRoute, sentence, "give its interface a `gateway`, or its switch a `dhcp` rule"))
        }
        (Some(way), Some(gateway)) if nic.is_some_and(|nic| nic.name == way.link) && way.via.is_some_and(|via| via != gateway) => {
            let via = way.via.map(|via| via.to_string()).unwrap_or_default();
            let sentence = format!("guest `{guest}` sends to {to_name} through {via}, and its gateway is {gateway}");
            Some(blocked(Culprit::WrongGateway, sentence, &format!("`ip route replace default via {gateway}` in the guest")))
        }
        (Some(way), Some(gateway))
            if way.via.is_none() && !own && !nic.is_some_and(|nic| nic.addresses.iter().any(|net| net.contains(&to))) =>
        {
            let sentence = format!("guest `{guest}` takes {to_name} to be on its own segment, and has to send through {gateway}");
            Some(blocked(Culprit::WrongGateway, sentence, "its prefix length is wrong, or a route without a gateway is in the way"))
        }
        _ => None,
    }
}

fn loses(facts: &Facts) -> Option<Verdict> {
    let ends = [Some(&facts.from), facts.to.end.as_ref()].into_iter().flatten();
    let (end, nic): (&End, &Nic) = ends.filter_map(|end| Some((end, end.nic.as_ref()?))).find(|(_, nic)| nic.loses_all)?;
    let sentence = format!("the link of {} of guest `{}` loses every packet, as its `impairment` in the file asks", nic.name, end.guest);
    Some(blocked(Culprit::Loss, sentence, "`testbed link set` changes it live"))
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
