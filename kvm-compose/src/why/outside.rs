//! The verdict, as far as the edge of the testbed gives it: addresses of routers that lead to guests, and the way out.
//!
//! Pure.

use super::{
    facts::{Facts, Leads, Translated},
    network::{lost, network_drift},
    trace::Traced,
    verdict::{Verdict, blocked},
};
use crate::api::why::{Culprit, Traffic};

/// An address outside that a router should translate, and does not.
pub fn missing_translation(facts: &Facts) -> Option<Verdict> {
    let to = facts.to.address?;
    let row = facts.drift.iter().find(|row| {
        let mut parts = row.key.split('/');
        match parts.next() {
            Some("nat") => parts.nth(2) == Some(to.to_string().as_str()),
            Some("forward") => facts.translated.iter().any(|one| one.address == to && row.key.contains(one.router.as_str())),
            _ => false,
        }
    })?;
    Some(lost(&row.key, row.missing))
}

/// An address of a router's from which no rule of the file leads such packets to a guest.
pub fn leads_nowhere(facts: &Facts) -> Option<Verdict> {
    let to = facts.to.address.filter(|_| facts.to.end.is_none())?;
    let here: Vec<&Translated> = facts.translated.iter().filter(|one| one.address == to).collect();
    let router = &here.first()?.router;
    if here.iter().any(|one| one.leads == Leads::All || one.leads == Leads::By(facts.by)) {
        return None;
    }
    let ports: Vec<String> =
        here.iter().filter_map(|one| if let Leads::By(traffic) = one.leads { Some(traffic.to_string()) } else { None }).collect();
    if facts.by == Traffic::Icmp && ports.is_empty() {
        // The router answers itself, where it is its own.
        return None;
    }
    let others =
        if ports.is_empty() { "none of its rules leads in from there".to_string() } else { format!("it has {}", ports.join(", ")) };
    let sentence = format!("no `nat` rule of router `{router}` leads {} of {to} to a guest: {others}", facts.by);
    let hint = match facts.by {
        Traffic::Tcp(port) | Traffic::Udp(port) => {
            format!("add one with `nat_type: dnat`, `external_ip: {to}` and `external_port: {port}`")
        }
        Traffic::Icmp => format!("`nat_type: dnat_and_snat` gives a guest all of {to}"),
    };
    Some(blocked(Culprit::Nat, sentence, &hint))
}

/// Packets that leave the testbed for the host, and are not sent on there or cannot be answered.
pub fn beyond_the_host(facts: &Facts) -> Option<Verdict> {
    let (to, outside) = (facts.to.address?, facts.outside.as_ref()?);
    let translation = facts.drift.iter().any(|row| row.key.starts_with("nat/"));
    if translation || network_drift(facts).is_some() || matches!(facts.forward, Some(Traced::Dropped { .. })) {
        return None;
    }
    if !outside.hidden {
        let source = facts.from.nic.as_ref()?.addresses.iter().map(|net| net.addr()).find(|address| address.is_ipv4() == to.is_ipv4())?;
        let sentence = format!("packets to {to} leave the testbed as {source}, which nobody outside can answer: no `snat` rule covers it");
        return Some(blocked(Culprit::Nat, sentence, "add one to the router's `nat`, with a `logical_ip` that holds the guest's address"));
    }
    if outside.masquerade {
        return None;
    }
    let sentence = format!(
        "packets to {to} get as far as this host ({} on `{}`), which does not send them on under an address of its own: `masquerade` is off",
        outside.host, outside.bridge
    );
    let hint = "set `\"masquerade\": true` in `ovn` of config/host.json and restart the server (docs/outside.md, \"On to the Internet\")";
    Some(blocked(Culprit::Nat, sentence, hint))
}
