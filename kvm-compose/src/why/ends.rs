//! The verdict, as far as a guest at one end gives it: does it run, has it its interface, address and port, and a way out?
//!
//! Pure.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    facts::{End, Facts, Nic},
    verdict::{Verdict, blocked},
};
use crate::api::why::Culprit;

/// A guest that does not run, or whose host does not answer.
pub fn not_there(end: &End) -> Option<Verdict> {
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

/// A host on which nothing switches packets.
pub fn switch_down(end: &End) -> Option<Verdict> {
    let (host, why) = end.switch_down.as_ref()?;
    let sentence = format!("Open vSwitch does not run on host `{host}`, where guest `{}` stands: {why}", end.guest);
    Some(blocked(Culprit::OvnBehind, sentence, "`./setup.sh services start` on that host starts it"))
}

/// A guest that cannot be asked.
pub fn silent_agent(end: &End) -> Option<Verdict> {
    let why = end.inside.as_ref().err()?;
    let sentence = format!("the agent of guest `{}` does not answer, so it cannot be asked what it sees: {why}", end.guest);
    Some(blocked(Culprit::NoAgent, sentence, "the guest may still boot, or its agent has ended"))
}

/// The interface itself: is it there, on, plugged, and does it have its address of the version of IP that is asked for?
pub fn interface(end: &End, asked: Option<IpAddr>) -> Option<Verdict> {
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
    let fits = |net: &&IpNet| asked.is_none_or(|asked| net.addr().is_ipv4() == asked.is_ipv4());
    let own: Vec<&IpNet> = nic.addresses.iter().filter(fits).collect();
    // One without an address of that version has what it has of the other.
    let own = if own.is_empty() { nic.addresses.iter().collect() } else { own };
    if own.is_empty() || own.iter().any(|wanted| link.addresses.iter().any(|has| has.addr() == wanted.addr())) {
        return None;
    }
    let wanted: Vec<String> = own.iter().map(|net| net.addr().to_string()).collect();
    let wanted = wanted.join(" and ");
    let version = own.first().is_none_or(|net| net.addr().is_ipv4());
    let others: Vec<String> = link
        .addresses
        .iter()
        .map(|net| net.addr())
        .filter(|address| address.is_ipv4() == version)
        .map(|address| address.to_string())
        .collect();
    if others.is_empty() {
        let lease = if nic.dhcp { "lost its lease: it " } else { "" };
        let sentence = format!("{name} of guest `{guest}` {lease}has no address, and should have {wanted}");
        return Some(blocked(Culprit::NoAddress, sentence, &address_again(end, nic)));
    }
    let sentence = format!("{name} of guest `{guest}` has the address {}, and the network knows it as {wanted}", others.join(" and "));
    Some(blocked(Culprit::WrongAddress, sentence, &address_again(end, nic)))
}

/// How a guest gets its address again.
fn address_again(end: &End, nic: &Nic) -> String {
    let (guest, name) = (&end.guest, &nic.name);
    if nic.dhcp {
        return format!(
            "it asks anew when its DHCP client is started again: `testbed exec {guest} -- killall udhcpc` in a micro guest, `dhclient {name}` \
             elsewhere; or restart the guest"
        );
    }
    let addresses: Vec<String> = nic.addresses.iter().map(|net| format!("ip addr add {net} dev {name}")).collect();
    let route = nic.gateway.map(|gateway| format!("; ip route add default via {gateway}")).unwrap_or_default();
    format!("`ip addr flush dev {name}; {}{route}` in the guest, or restart it", addresses.join("; "))
}

/// The port: is it there, on, and on a host?
pub fn port(end: &End, facts: &Facts) -> Option<Verdict> {
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
        (None, _) if nic.plugged == Some(true) => {
            let sentence = format!("the port of {name} of guest `{guest}` is on no host: no ovn-controller has taken its interface up");
            Some(blocked(Culprit::Port, sentence, "does ovn-controller run there? `testbed doctor` looks at it"))
        }
        (None, _) => {
            let sentence =
                format!("the port of {name} of guest `{guest}` is on no host: no integration bridge holds an interface with its id");
            Some(blocked(Culprit::Port, sentence, "`testbed up` unplugs it and plugs it again"))
        }
        (Some(chassis), false) => {
            let sentence = format!("the port of {name} of guest `{guest}` is not up yet on host `{chassis}`");
            Some(blocked(Culprit::Port, sentence, "does ovn-controller run there? `testbed doctor` looks at it"))
        }
        (Some(_), true) => None,
    }
}

/// Does the guest know a way to the other, and is it the one that the file wants?
pub fn way_out(end: &End, to: Option<IpAddr>, to_name: &str, facts: &Facts) -> Option<Verdict> {
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
            if !facts.joined {
                return not_joined(facts);
            }
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

/// Two segments with nothing between them.
fn not_joined(facts: &Facts) -> Option<Verdict> {
    let (from, to) = (&facts.from, facts.to.end.as_ref()?);
    let (own, other) = (&from.nic.as_ref()?.switch, &to.nic.as_ref()?.switch);
    let word = if facts.bridges { "the segment of bridge" } else { "switch" };
    let sentence = format!("no router joins {word} `{own}` of guest `{}` and {word} `{other}` of guest `{}`", from.guest, to.guest);
    let hint = if facts.bridges {
        "`bridge_connections` makes two bridges one segment; for a router write the network as `ovn` (`testbed config` prints this file so)"
    } else {
        "give a router of the file a port on each, or one of the guests an interface on the other's switch"
    };
    Some(blocked(Culprit::Network, sentence, hint))
}
