//! What an answer rests on, in lines for people.
//!
//! Pure.

use super::{
    facts::{Facts, Probed},
    trace::Traced,
};
use crate::names::printable;

/// What the answer rests on, a line each.
pub fn evidence(facts: &Facts) -> Vec<String> {
    let mut lines = vec![match &facts.probe {
        Probed::Reached(seen) | Probed::Failed(seen) => format!("probe from inside `{}` by {}: {seen}", facts.from.guest, facts.by),
        Probed::NotSent(why) => format!("no probe: {why}"),
    }];
    for end in [Some(&facts.from), facts.to.end.as_ref()].into_iter().flatten() {
        lines.push(format!("guest `{}`: {}", end.guest, end.domain.as_deref().unwrap_or("not there")));
        match &end.inside {
            Err(why) => lines.push(format!("agent of `{}`: {why}", end.guest)),
            Ok(inside) => {
                for (name, link) in inside.links.iter().filter(|(name, _)| *name != "lo") {
                    let state = match (link.up, link.carrier) {
                        (false, _) => "off",
                        (true, Some(false)) => "no carrier",
                        (true, _) => "up",
                    };
                    let addresses: Vec<String> = link.addresses.iter().map(ToString::to_string).collect();
                    lines.push(format!("`{}` {name}: {state}, MTU {}, {}", end.guest, link.mtu, addresses.join(", ")));
                }
                let way = inside.way.as_ref().map(|way| match way.via {
                    Some(via) => format!("through {via} by {}", way.link),
                    None => format!("on its own segment by {}", way.link),
                });
                lines.push(format!("`{}` sends there {}", end.guest, way.unwrap_or_else(|| "nowhere: no route".to_string())));
            }
        }
        if let Some(binding) = end.nic.as_ref().and_then(|nic| nic.binding.as_ref()) {
            let host = binding.chassis.as_deref().unwrap_or("no host");
            let state = if binding.up { "up" } else { "not up" };
            lines.push(format!("port of `{}`: on {host}, {state}{}", end.guest, if binding.enabled { "" } else { ", switched off" }));
        }
    }
    for (what, way) in [("there", &facts.forward), ("back", &facts.back)] {
        match way {
            None => {}
            Some(Traced::Delivered { port }) => lines.push(format!("ovn-trace, the way {what}: delivered to port {port}")),
            Some(Traced::Dropped { datapath, stage, matched, priority }) => {
                lines.push(format!(
                    "ovn-trace, the way {what}: dropped by {datapath} in {stage}, priority {priority}: {}",
                    printable(matched)
                ));
            }
            Some(Traced::Asks { datapath }) => {
                lines.push(format!("ovn-trace, the way {what}: {datapath} asks for the next hop's MAC address"))
            }
            Some(Traced::Unclear(words)) => lines.push(format!("ovn-trace, the way {what}: {words}")),
        }
    }
    lines.extend(facts.drift.iter().map(|row| format!("OVN: {} {}", row.key, if row.missing { "is missing" } else { "differs" })));
    lines.extend(facts.foreign.iter().map(|row| format!("OVN: {} has a {} of somebody else's", row.at, printable(&row.words))));
    lines.extend(facts.behind.clone());
    lines
}
