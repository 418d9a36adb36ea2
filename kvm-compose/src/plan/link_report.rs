//! Links as people and programs see them: what the file asks for beside what is in force; and what `set_link` makes of one.
//!
//! Pure.

use std::collections::BTreeMap;

use super::{
    blueprint::Blueprint,
    link::Link,
    observed::{Observed, OnHost},
};
use crate::{
    api::link::{Carrier, LinkChange, LinkConditions, LinkDirection, LinkReport, SetLink},
    error::{Code, Problem},
    names::{GuestName, printable},
    topology::{Conditions, Shape},
};

/// The longest delay that can be asked for, as in the testbed file.
const LONGEST_MS: f64 = 3_600_000.0;

/// Each link of each guest of the file.
pub fn reports(blueprint: &Blueprint, observed: &Observed) -> Vec<LinkReport> {
    let links: BTreeMap<_, _> = observed.links.iter().map(|there| (there.what.port, there)).collect();
    let domains: BTreeMap<&GuestName, _> = observed.domains.iter().map(|domain| (&domain.guest, domain)).collect();
    let report = |guest: &super::blueprint::GuestBlueprint, link: &Link| {
        let OnHost { what: there, .. } = match links.get(&link.port) {
            Some(there) => (*there).clone(),
            None => OnHost {
                host: guest.host.clone(),
                what: super::link::ObservedLink { port: link.port, device: String::new(), shape: Shape::default(), fault: None },
            },
        };
        let domain = domains.get(&guest.name).filter(|domain| domain.active);
        let carrier = domain.map(|domain| if domain.down.contains(&link.port) { Carrier::Down } else { Carrier::Up });
        // Of a link that is broken it is not known what it was asked last; it will be what the file says.
        let set = if there.fault.is_some() || domain.is_none() { link.shape } else { there.shape };
        let direction = |file: &Conditions, set: &Conditions| LinkDirection { file: shown(file), set: shown(set), ..Default::default() };
        LinkReport {
            guest: guest.name.clone(),
            interface: link.interface.clone(),
            host: guest.host.to_string(),
            port: link.port,
            carrier,
            // What is not there deviates in another way: `ps` says that.
            deviates: domain.is_some() && (set != link.shape || carrier == Some(Carrier::Down)),
            fault: there.fault.filter(|_| domain.is_some()),
            to_guest: direction(&link.shape.to_guest, &set.to_guest),
            from_guest: direction(&link.shape.from_guest, &set.from_guest),
        }
    };
    blueprint.guests.iter().flat_map(|guest| guest.links.iter().map(move |link| report(guest, link))).collect()
}

/// In the units of the testbed file.
fn shown(of: &Conditions) -> LinkConditions {
    let (millis, percent) = (|micros: u64| micros as f64 / 1000.0, |ppm: u32| f64::from(ppm) / 10_000.0);
    LinkConditions {
        delay_ms: millis(of.delay_us),
        jitter_ms: millis(of.jitter_us),
        loss_percent: percent(of.loss_ppm),
        duplicate_percent: percent(of.duplicate_ppm),
        reorder_percent: percent(of.reorder_ppm),
        rate_mbit: of.rate_kbit.map(|kbit| kbit as f64 / 1000.0),
    }
}

/// The guest's link that a request names, by the file.
pub fn named<'a>(blueprint: &'a Blueprint, request: &SetLink) -> Result<&'a Link, Problem> {
    let guest = blueprint.guests.iter().find(|guest| guest.name == request.guest).ok_or_else(|| {
        let names: Vec<&str> = blueprint.guests.iter().map(|guest| guest.name.as_str()).collect();
        Problem::new(Code::NotFound, format!("the file has no guest `{}`", request.guest)).hint(format!("guests: {}", names.join(", ")))
    })?;
    guest.links.iter().find(|link| link.interface == request.interface).ok_or_else(|| {
        let names: Vec<&str> = guest.links.iter().map(|link| link.interface.as_str()).collect();
        Problem::new(Code::NotFound, format!("guest `{}` has no interface `{}`", guest.name, printable(&request.interface)))
            .hint(if names.is_empty() { "it has none".to_string() } else { format!("its interfaces: {}", names.join(", ")) })
    })
}

/// What a link does to frames once a request is carried out.
pub fn changed(now: &Shape, request: &SetLink) -> Result<Shape, Problem> {
    let now = if request.clear { Shape::default() } else { *now };
    Ok(Shape { to_guest: direction(&now.to_guest, &request.to_guest)?, from_guest: direction(&now.from_guest, &request.from_guest)? })
}

/// Refuses a request that no link can carry out.
pub fn check(request: &SetLink) -> Result<(), Problem> {
    // Against each other the values are checked once it is known what they change.
    for change in [&request.to_guest, &request.from_guest] {
        values(change)?;
    }
    let nothing = LinkChange::default();
    if request.carrier.is_none() && !request.clear && request.to_guest == nothing && request.from_guest == nothing {
        return Err(Problem::new(Code::BadRequest, "nothing of the link is to be changed"));
    }
    Ok(())
}

fn values(change: &LinkChange) -> Result<(), Problem> {
    let limits = [
        ("delay_ms", change.delay_ms, LONGEST_MS),
        ("jitter_ms", change.jitter_ms, LONGEST_MS),
        ("loss_percent", change.loss_percent, 100.0),
        ("duplicate_percent", change.duplicate_percent, 100.0),
        ("reorder_percent", change.reorder_percent, 100.0),
        ("rate_mbit", change.rate_mbit, 1_000_000.0),
    ];
    match limits.iter().find(|(_, value, most)| value.is_some_and(|value| !(0.0..=*most).contains(&value))) {
        Some((key, Some(value), most)) => {
            Err(Problem::new(Code::BadRequest, format!("`{key}` cannot be {value}")).hint(format!("use a number from 0 to {most}")))
        }
        _ => Ok(()),
    }
}

fn direction(now: &Conditions, change: &LinkChange) -> Result<Conditions, Problem> {
    values(change)?;
    let scaled = |value: f64, by: f64| (value * by).round();
    let ppm = |change: Option<f64>, now: u32| change.map_or(now, |percent| scaled(percent, 10_000.0) as u32);
    let micros = |change: Option<f64>, now: u64| change.map_or(now, |millis| scaled(millis, 1000.0) as u64);
    let rate = change.rate_mbit.map_or(now.rate_kbit, |mbit| (mbit > 0.0).then(|| (scaled(mbit, 1000.0) as u64).max(1)));
    let changed = Conditions {
        delay_us: micros(change.delay_ms, now.delay_us),
        jitter_us: micros(change.jitter_ms, now.jitter_us),
        loss_ppm: ppm(change.loss_percent, now.loss_ppm),
        duplicate_ppm: ppm(change.duplicate_percent, now.duplicate_ppm),
        reorder_ppm: ppm(change.reorder_percent, now.reorder_ppm),
        rate_kbit: rate,
    };
    let refused = |message: &str, hint: &str| Err(Problem::new(Code::BadRequest, message).hint(hint));
    if changed.reorder_ppm > 0 && changed.delay_us == 0 {
        return refused("`reorder_percent` needs `delay_ms`", "only a packet that is held can be overtaken");
    }
    if changed.jitter_us > changed.delay_us {
        return refused("`jitter_ms` is larger than `delay_ms`", "no packet arrives before it was sent: make `delay_ms` at least as large");
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(to_guest: LinkChange) -> SetLink {
        SetLink {
            guest: GuestName::new("web").expect("valid"),
            interface: "eth0".to_string(),
            carrier: None,
            clear: false,
            to_guest,
            from_guest: LinkChange::default(),
        }
    }

    #[test]
    fn what_is_not_named_stays_and_clear_takes_all_away() {
        let now = Conditions { delay_us: 5000, loss_ppm: 1000, ..Conditions::default() };
        let now = Shape { to_guest: now, from_guest: now };
        let slower = request(LinkChange { delay_ms: Some(25.5), rate_mbit: Some(0.5), ..LinkChange::default() });
        let to = changed(&now, &slower).expect("changed");
        assert_eq!((to.to_guest.delay_us, to.to_guest.loss_ppm, to.to_guest.rate_kbit), (25_500, 1000, Some(500)));
        assert_eq!(to.from_guest, now.from_guest);
        let unlimited = request(LinkChange { rate_mbit: Some(0.0), ..LinkChange::default() });
        assert_eq!(changed(&to, &unlimited).expect("changed").to_guest.rate_kbit, None);
        let clear = SetLink { clear: true, ..request(LinkChange::default()) };
        assert!(changed(&now, &clear).expect("changed").is_plain());
    }

    #[test]
    fn what_no_link_can_do_is_refused() {
        let refused = [
            LinkChange::default(),
            LinkChange { loss_percent: Some(100.1), ..LinkChange::default() },
            LinkChange { delay_ms: Some(-1.0), ..LinkChange::default() },
            LinkChange { delay_ms: Some(f64::NAN), ..LinkChange::default() },
            LinkChange { rate_mbit: Some(f64::INFINITY), ..LinkChange::default() },
        ];
        for change in refused {
            assert_eq!(check(&request(change)).expect_err("refused").code, Code::BadRequest, "{change:?}");
        }
        for change in [
            LinkChange { reorder_percent: Some(1.0), ..LinkChange::default() },
            LinkChange { delay_ms: Some(1.0), jitter_ms: Some(2.0), ..LinkChange::default() },
        ] {
            assert!(changed(&Shape::default(), &request(change)).is_err_and(|problem| problem.hint.is_some()), "{change:?}");
        }
    }
}
