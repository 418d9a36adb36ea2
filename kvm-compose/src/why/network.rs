//! The verdict, as far as the logical network gives it: OVN's own account of the way, and rows that are not as they should be.
//!
//! Pure.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    facts::{Facts, Foreign, ForeignKind},
    trace::Traced,
    verdict::{Verdict, blocked},
};
use crate::api::why::Culprit;

/// Where OVN itself says that the way ends.
pub fn stopped(facts: &Facts, traced: Option<&Traced>, to: Option<IpAddr>, what: &str) -> Option<Verdict> {
    let to = to.map(|to| to.to_string()).unwrap_or_default();
    match traced? {
        Traced::Delivered { .. } | Traced::Unclear(_) => None,
        Traced::Asks { datapath } => {
            let sentence = format!("{} gets no answer when it asks who has {to}", named(datapath));
            let silent = || blocked(Culprit::GatewaySilent, sentence, "nobody on that segment has the address");
            Some(drifted(facts).or_else(|| foreign(facts, Some((datapath, &[ForeignKind::Route])))).unwrap_or_else(silent))
        }
        Traced::Dropped { datapath, stage, matched, priority } => Some(match stage.as_str() {
            stage if stage.contains("_acl") => rule(facts, datapath, stage, matched, *priority, what),
            stage if stage.contains("port_sec") => {
                let sentence = format!("{datapath} drops {what}: the sender's address or MAC is not the one its port has");
                blocked(Culprit::PortSecurity, sentence, "")
            }
            stage if stage.starts_with("lr_in_ip_routing") => {
                let name = datapath.strip_prefix("router/").unwrap_or(datapath);
                let prefix = |key: &str| key.split('/').nth(1).is_some_and(|router| router == name);
                let route = facts.drift.iter().find(|row| row.key.starts_with("route/") && prefix(&row.key));
                let drift = route.map(|row| lost(&row.key, row.missing)).or_else(|| network_drift(facts));
                match drift.or_else(|| foreign(facts, Some((datapath, &[ForeignKind::Route])))) {
                    Some(verdict) => verdict,
                    None => {
                        let hint = "add a route to its `static_routes`, or a port on that network";
                        blocked(Culprit::RouterRoute, format!("router `{name}` has no route to {to}, where {what} go"), hint)
                    }
                }
            }
            stage if stage.starts_with("lr_in_policy") => policy(facts, datapath, matched, *priority, what),
            stage => network_drift(facts).or_else(|| foreign(facts, Some((datapath, &[])))).unwrap_or_else(|| {
                let sentence = format!("{} drops {what} to {to} in its table {stage}", named(datapath));
                blocked(Culprit::Network, sentence, "`testbed why -v` shows OVN's own words; `testbed plan` says what `up` would change")
            }),
        }),
    }
}

fn named(datapath: &str) -> String {
    match datapath.split_once('/') {
        Some((kind @ ("switch" | "router"), name)) => format!("{kind} `{name}`"),
        _ => format!("`{datapath}`"),
    }
}

/// The rule that drops: its flow has its priority and 1000 more, and its expression in it.
fn rule(facts: &Facts, datapath: &str, stage: &str, matched: &str, priority: u32, what: &str) -> Verdict {
    let switch = datapath.strip_prefix("switch/").unwrap_or(datapath);
    let direction = if stage.starts_with("ls_in") { "from-lport" } else { "to-lport" };
    let plain = |text: &str| text.split_whitespace().collect::<String>().replace(['(', ')'], "");
    let of_switch = facts.acls.iter().filter(|rule| rule.switch == switch).enumerate().filter(|(_, rule)| rule.direction == direction);
    let found = of_switch.into_iter().find(|(_, rule)| rule.priority + 1000 == priority && plain(matched).contains(&plain(&rule.matches)));
    match found {
        Some((_, rule)) if rule.at.is_none() => {
            let (one, ends) = match (what, facts.from.guest.as_str(), facts.to.wrote.as_str()) {
                ("answers", from, to) => ("the answer", format!("from `{to}` to `{from}`")),
                (_, from, to) => ("the request", format!("from `{from}` to `{to}`")),
            };
            let sentence = format!(
                "switch `{switch}` drops {one} ({} {ends}) because of `apply_deny_all`: none of its {direction} rules allows it",
                facts.by
            );
            let hint =
                format!("add a rule with `direction: {direction}` to its `acl`; one with `action: allow-related` lets answers pass, too");
            blocked(Culprit::Acl, sentence, &hint)
        }
        Some((index, rule)) => {
            let at = rule.at.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
            let sentence = format!(
                "ACL {} of switch `{switch}`{at} drops {what}: {direction}, priority {}, `{}`",
                index + 1,
                rule.priority,
                rule.matches
            );
            blocked(Culprit::Acl, sentence, "change the rule, or allow them at a higher priority")
        }
        None => {
            let priority = priority.saturating_sub(1000);
            let row = facts.foreign.iter().filter(|row| row.kind == ForeignKind::Acl && row.at == datapath && row.priority == priority);
            let row = row.into_iter().find(|row| plain(matched).contains(&plain(&row.matches)));
            let matched = row.map_or(matched, |row| &row.matches);
            let hint = match row {
                Some(row) => format!("somebody else has made it, and `testbed up` leaves it alone; `{}` removes it", row.remove),
                None => format!("somebody else has made it; `ovn-nbctl acl-list {}.{switch}` shows it", facts.deployment),
            };
            let sentence = format!(
                "an ACL of switch `{switch}` that the file does not have drops {what}: {direction}, priority {priority}, `{matched}`"
            );
            blocked(Culprit::Acl, sentence, &hint)
        }
    }
}

/// The policy that drops. The file's routers have none, so somebody else has made it.
fn policy(facts: &Facts, datapath: &str, matched: &str, priority: u32, what: &str) -> Verdict {
    let router = datapath.strip_prefix("router/").unwrap_or(datapath);
    let sentence =
        format!("a routing policy of router `{router}` that the file does not have drops {what}: priority {priority}, `{matched}`");
    let known = facts.foreign.iter().filter(|row| row.kind == ForeignKind::Policy && row.at == datapath && row.priority == priority);
    let hint = match known.into_iter().find(|row| matched.contains(&row.matches)) {
        Some(row) => format!("somebody else has made it, and `testbed up` leaves it alone; `{}` removes it", row.remove),
        None => format!("somebody else has made it; `ovn-nbctl lr-policy-list {}.{router}` shows it", facts.deployment),
    };
    blocked(Culprit::Network, sentence, &hint)
}

/// A row on a switch or router of the file that somebody else has made and that may concern these packets; with `only`, of one
/// switch or router, of these kinds (of all, when none is named).
pub fn foreign(facts: &Facts, only: Option<(&String, &[ForeignKind])>) -> Option<Verdict> {
    let to = facts.to.address?;
    let is_meant = |row: &&Foreign| match row.kind {
        // OVN writes a prefix of a single address without its length.
        ForeignKind::Route => {
            row.matches.parse::<IpNet>().is_ok_and(|net| net.contains(&to)) || row.matches.parse::<IpAddr>().is_ok_and(|one| one == to)
        }
        ForeignKind::Policy | ForeignKind::Nat => true,
        // Those that drop are seen where they do.
        ForeignKind::Acl => false,
    };
    let is_asked = |row: &&Foreign| only.is_none_or(|(at, kinds)| row.at == *at && (kinds.is_empty() || kinds.contains(&row.kind)));
    let row = facts.foreign.iter().filter(is_asked).find(is_meant)?;
    let culprit = match row.kind {
        ForeignKind::Route => Culprit::RouterRoute,
        ForeignKind::Nat => Culprit::Nat,
        ForeignKind::Policy | ForeignKind::Acl => Culprit::Network,
    };
    let sentence = format!("{} has a {} that the file does not have, and that may lead packets to {to} astray", named(&row.at), row.words);
    let hint = format!("somebody else has made it, and `testbed up` leaves it alone; `{}` removes it", row.remove);
    Some(blocked(culprit, sentence, &hint))
}

/// What a row that is not as it should be means.
pub fn lost(key: &str, missing: bool) -> Verdict {
    let state = if missing { "is missing in OVN" } else { "is not as the file wants it in OVN" };
    let parts: Vec<&str> = key.split('/').collect();
    let (culprit, what) = match parts.as_slice() {
        ["route", router, rest @ ..] => {
            let hop = rest.last().copied().unwrap_or_default();
            let prefix = rest[..rest.len().saturating_sub(1)].join("/");
            (Culprit::RouterRoute, format!("the route of router `{router}` to {prefix} through {hop}"))
        }
        ["nat", router, kind, external, ..] => (Culprit::Nat, format!("the {kind} of router `{router}` at {external}")),
        ["forward", router, protocol] => (Culprit::Nat, format!("the forwarding of {protocol} ports by router `{router}`")),
        ["router-port" | "router-peer", port] => (Culprit::Network, format!("router port `{port}`")),
        ["gateway", port] => (Culprit::Network, format!("the gateway chassis of router port `{port}`")),
        ["switch", name] => (Culprit::Network, format!("switch `{name}`")),
        ["router", name] => (Culprit::Network, format!("router `{name}`")),
        ["port", guest, index] => (Culprit::Port, format!("the port of eth{index} of guest `{guest}`")),
        ["localnet", name] => (Culprit::Network, format!("localnet port `{name}`")),
        _ => (Culprit::Network, format!("`{key}`")),
    };
    blocked(culprit, format!("{what} {state}"), "`testbed up` puts it back")
}

/// Something that the way needs is not there; ports of other guests, names and leases do not matter.
pub fn network_drift(facts: &Facts) -> Option<Verdict> {
    let order = ["switch", "router", "router-port", "router-peer", "route", "gateway", "localnet"];
    let rank = |key: &str| order.iter().position(|kind| key.split('/').next() == Some(kind));
    let worst = facts.drift.iter().filter_map(|row| Some((rank(&row.key)?, row))).min_by_key(|(rank, row)| (!row.missing, *rank))?;
    Some(lost(&worst.1.key, worst.1.missing))
}

pub fn drifted(facts: &Facts) -> Option<Verdict> {
    let inside = facts.forward.as_ref().is_some_and(|way| matches!(way, Traced::Delivered { .. }));
    let back = facts.back.as_ref().is_none_or(|way| matches!(way, Traced::Delivered { .. }));
    // Delivered both ways: what drifted is not on the way.
    if inside && back && facts.to.end.is_some() {
        return None;
    }
    let translation = facts.drift.iter().find(|row| row.key.starts_with("nat/") || row.key.starts_with("forward/"));
    network_drift(facts).or_else(|| translation.map(|row| lost(&row.key, row.missing)))
}
