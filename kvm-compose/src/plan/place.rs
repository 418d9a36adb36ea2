//! Which guest stands on which host, and why.
//!
//! Pure and deterministic: the same hosts and guests give the same places. A guest that stands somewhere stays there.
//! Decides nothing else; what a place means for paths and XML is [`super::lower()`]'s.

use std::collections::BTreeMap;

use super::{
    relations::{Against, Relations},
    site::{Hosts, Site, Standing},
};
use crate::{
    error::{Code, Problem},
    names::{GuestName, HostName},
    topology::{Guest, GuestKind, HostRef},
};

/// Where each guest stands.
pub type Places = BTreeMap<GuestName, Place>;

/// Where a guest stands, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The host.
    pub host: HostName,
    /// Why, for `plan`.
    pub why: String,
}

/// What is left of a host while guests are placed.
struct Room<'h> {
    site: &'h Site,
    free_mb: u64,
    cpus: u32,
}

/// Places every guest, or says with numbers why one does not fit.
///
/// First those whose host is given (by the file, or because they stand there), then the others in the file's order: each
/// goes where the most virtual CPUs are left per CPU, then where more memory is left, the master and then the names in
/// order when both are equal. Memory is a limit; CPUs are shared. `near` and `apart` are kept; a guest that stands where
/// they no longer let it is placed anew.
pub fn place(guests: &[Guest], hosts: &Hosts) -> Result<Places, Problem> {
    let mut rooms: Vec<Room<'_>> = hosts.all().map(|site| Room { site, free_mb: site.free_memory_mb, cpus: site.busy_cpus }).collect();
    let relations = Relations::new(guests);
    let mut places = Places::new();
    let mut open = Vec::new();
    for guest in guests {
        let contained = matches!(guest.kind, GuestKind::Docker(_));
        let place = match &guest.placement.host {
            Some(asked) => asked_for(guest, asked, hosts)?,
            None if contained => Place { host: hosts.master.host.clone(), why: of_container(hosts) },
            None => {
                open.push(guest);
                continue;
            }
        };
        if contained && place.host != hosts.master.host {
            return Err(far(guest));
        }
        if let Some(why) = relations.of(&guest.name, &places).against(&place.host) {
            return Err(torn(guest, &place.host, &why.to_string()));
        }
        take(guest, &place.host, hosts, &mut rooms)?;
        places.insert(guest.name.clone(), place);
    }
    let mut free = Vec::new();
    for guest in open {
        match standing(guest, hosts)?.filter(|place| relations.of(&guest.name, &places).against(&place.host).is_none()) {
            Some(place) => {
                take(guest, &place.host, hosts, &mut rooms)?;
                places.insert(guest.name.clone(), place);
            }
            None => free.push(guest),
        }
    }
    for guest in free {
        let place = choose(guest, hosts, &rooms, &relations, &places)?;
        take(guest, &place.host, hosts, &mut rooms)?;
        places.insert(guest.name.clone(), place);
    }
    Ok(places)
}

/// The place of a guest that is there already.
fn standing(guest: &Guest, hosts: &Hosts) -> Result<Option<Place>, Problem> {
    let Some(standing) = hosts.standing.get(&guest.name) else { return Ok(None) };
    if let Some(why) = hosts.away.get(&standing.host) {
        return Err(away(guest, &standing.host, why));
    }
    // A host that has left the cluster holds nobody.
    Ok(hosts.find(&standing.host).map(|site| Place { host: site.host.clone(), why: stands(hosts) }))
}

fn torn(guest: &Guest, host: &HostName, why: &str) -> Problem {
    let asked = guest.placement.host.as_ref();
    let message = format!("guest `{}` cannot be placed on `{}`: {why}", guest.name, asked.map_or(host, |asked| &asked.name));
    let mut problem = Problem::new(Code::Capacity, message).hint("let one of the two stand on another host");
    problem.at = asked.map(|asked| asked.at.clone());
    problem
}

/// What a container mounts lies on the master, and so do the images that people make.
fn of_container(hosts: &Hosts) -> String {
    if hosts.members.is_empty() { stands(hosts) } else { "containers stand on the master".to_string() }
}

fn far(guest: &Guest) -> Problem {
    let message = format!("guest `{}` is a container, and this version starts containers on the master alone", guest.name);
    let mut problem = Problem::new(Code::Unsupported, message).hint("take `placement: {host: …}` out, or write `main`");
    problem.at = guest.placement.host.as_ref().map(|asked| asked.at.clone());
    problem
}

fn stands(hosts: &Hosts) -> String {
    if hosts.members.is_empty() { "the only host" } else { "it stands there" }.to_string()
}

/// The host that the file names; `main` and `master` both name the master. None when it is not there.
pub fn named<'a>(asked: &HostRef, hosts: &'a Hosts) -> Option<&'a Site> {
    let master = || matches!(asked.name.as_str(), "main" | "master").then_some(&hosts.master);
    hosts.find(&asked.name).or_else(master)
}

/// The place that the file asks for, or what is wrong with it.
pub(super) fn asked_for(guest: &Guest, asked: &HostRef, hosts: &Hosts) -> Result<Place, Problem> {
    if let Some(site) = named(asked, hosts) {
        let why = if site.host == asked.name {
            "the file asks for it".to_string()
        } else {
            format!("the file asks for `{}`, which is the master", asked.name)
        };
        return Ok(Place { host: site.host.clone(), why });
    }
    let mut problem = match hosts.away.get(&asked.name) {
        Some(why) => away(guest, &asked.name, why),
        None => {
            let names: Vec<&str> = hosts.members.iter().map(|site| site.host.as_str()).collect();
            let others = if names.is_empty() { String::new() } else { format!(", {}", names.join(", ")) };
            Problem::new(Code::Capacity, format!("guest `{}` cannot be placed: there is no host `{}`", guest.name, asked.name)).hint(
                format!("the hosts are: {} (also called `main` and `master`){others}; `testbed cluster token` adds one", hosts.master.host),
            )
        }
    };
    problem.at = Some(asked.at.clone());
    Err(problem)
}

fn away(guest: &Guest, host: &HostName, why: &str) -> Problem {
    Problem::new(Code::HostAway, format!("guest `{}` stands on host `{host}`, which does not answer", guest.name))
        .cause(why)
        .hint(format!("wait until it is back, or give it up with `testbed cluster remove {host}`"))
}

fn choose(guest: &Guest, hosts: &Hosts, rooms: &[Room<'_>], relations: &Relations<'_>, places: &Places) -> Result<Place, Problem> {
    let ties = relations.of(&guest.name, places);
    let against: Vec<Option<Against<'_>>> = rooms.iter().map(|room| ties.against(&room.site.host)).collect();
    if against.iter().all(Option::is_some) {
        let mut problem = Problem::new(Code::Capacity, format!("guest `{}` cannot be placed: no host is left for it", guest.name))
            .hint("change `near` and `apart`, or add a host with `testbed cluster token`");
        problem.causes = against.iter().flatten().take(20).map(Against::to_string).collect();
        problem.causes.dedup();
        return Err(problem);
    }
    let fits = rooms.iter().zip(&against).filter(|(room, why)| why.is_none() && room.free_mb >= guest.memory_mb).map(|(room, _)| room);
    // Shares are compared by cross-multiplying: no rounding, so no accident decides.
    let load = |room: &Room<'_>| (u64::from(room.cpus) + u64::from(weight(guest)), u64::from(room.site.cpus.max(1)));
    let best = fits.min_by(|one, other| {
        let ((cpus, of), (other_cpus, of_other)) = (load(one), load(other));
        (cpus * of_other).cmp(&(other_cpus * of)).then((other.free_mb / 1024).cmp(&(one.free_mb / 1024)))
    });
    let Some(room) = best else { return Err(full(guest, rooms)) };
    let why = if hosts.members.is_empty() {
        "the only host".to_string()
    } else if let Some((other, _)) = ties.near {
        format!("near `{other}`")
    } else {
        let but = if against.iter().any(Option::is_some) { " of those left to it" } else { "" };
        format!("the least loaded{but}: {} of its {} CPUs are taken, {} MiB are free", room.cpus, room.site.cpus, room.free_mb)
    };
    Ok(Place { host: room.site.host.clone(), why })
}

/// How many virtual CPUs a guest counts for.
fn weight(guest: &Guest) -> u32 {
    guest.placement.weight.unwrap_or(guest.cpus)
}

fn full(guest: &Guest, rooms: &[Room<'_>]) -> Problem {
    let most = rooms.iter().max_by_key(|room| room.free_mb);
    let (name, free) = most.map_or(("none", 0), |room| (room.site.host.as_str(), room.free_mb));
    let mut problem = Problem::new(
        Code::Capacity,
        format!(
            "guest `{}` cannot be placed: it needs {} MiB, the most that any host has left is {free} MiB (`{name}`)",
            guest.name, guest.memory_mb
        ),
    )
    .hint("lower `memory_mb`, take guests away, or add a host with `testbed cluster token`");
    if rooms.len() > 1 {
        problem.causes = rooms.iter().map(|room| format!("`{}` has {} MiB left", room.site.host, room.free_mb)).collect();
    }
    problem
}

/// Counts a guest on its host. One that runs there already has its memory.
fn take(guest: &Guest, host: &HostName, hosts: &Hosts, rooms: &mut [Room<'_>]) -> Result<(), Problem> {
    let runs = hosts.standing.get(&guest.name).is_some_and(|Standing { host: at, running }| *running && at == host);
    let Some(room) = rooms.iter_mut().find(|room| &room.site.host == host) else { return Ok(()) };
    if runs {
        return Ok(());
    }
    if room.free_mb < guest.memory_mb {
        return Err(Problem::new(
            Code::Capacity,
            format!(
                "guest `{}` cannot be placed on `{host}`: it needs {} MiB, {} MiB are left there",
                guest.name, guest.memory_mb, room.free_mb
            ),
        )
        .hint("lower `memory_mb`, take guests away, or let it stand on another host"));
    }
    room.free_mb -= guest.memory_mb;
    room.cpus = room.cpus.saturating_add(weight(guest));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        names::{DeploymentName, InstallationId},
        plan::site::Accelerator,
        topology,
    };

    fn site(name: &str, free_memory_mb: u64, cpus: u32) -> Site {
        Site {
            installation: InstallationId(uuid::Uuid::nil()),
            host: HostName::new(name).expect("valid"),
            deployments: PathBuf::from("/d"),
            bases: PathBuf::from("/b"),
            goldens: PathBuf::from("/g"),
            accelerator: Accelerator::Kvm,
            emulator: PathBuf::from("/q"),
            micro: None,
            bridge: "br-int".to_string(),
            chassis: None,
            resolver: None,
            mappings: Vec::new(),
            masquerade: false,
            unified_cgroups: false,
            mtu: 1442,
            free_memory_mb,
            cpus,
            busy_cpus: 0,
        }
    }

    fn hosts(memory: [u64; 3]) -> Hosts {
        let [master, h1, h2] = memory;
        Hosts { members: vec![site("h1", h1, 4), site("h2", h2, 4)], ..Hosts::alone(site("m", master, 4)) }
    }

    /// Guests of the given memory; a host after a `@` is asked for.
    fn guests(of: &[&str]) -> Vec<Guest> {
        let mut text = String::from("machines:\n");
        for (index, guest) in of.iter().enumerate() {
            let (memory, host) = guest.split_once('@').unwrap_or((guest, ""));
            let placement = if host.is_empty() { String::new() } else { format!(", placement: {{host: {host}}}") };
            text.push_str(&format!("  - {{name: g{index}, micro: {{memory_mb: {memory}}}{placement}}}\n"));
        }
        text.push_str("network: {ovn: {switches: {}}}\n");
        let name = DeploymentName::new("lab").expect("valid");
        topology::load("f.yaml", &text, &name, &topology::Leases::new())
            .unwrap_or_else(|problem| panic!("{problem:?}\n{text}"))
            .topology
            .guests
    }

    fn placed(of: &[&str], hosts: &Hosts) -> String {
        match place(&guests(of), hosts) {
            Ok(places) => places.values().map(|place| place.host.as_str()).collect::<Vec<_>>().join(" "),
            Err(problem) => format!("{}: {problem}", problem.code),
        }
    }

    #[test]
    fn guests_spread_over_hosts_and_the_same_input_gives_the_same_places() {
        assert_eq!(placed(&["128"; 6], &hosts([8000, 8000, 8000])), "m h1 h2 m h1 h2");
        // Memory decides between hosts that are equally loaded, and it is a limit.
        assert_eq!(placed(&["128"; 3], &hosts([3000, 8000, 5000])), "h1 h2 m");
        assert_eq!(placed(&["1024"; 3], &hosts([500, 2100, 1100])), "h1 h2 h1");
    }

    #[test]
    fn the_file_asks_and_is_heard() {
        assert_eq!(placed(&["128@h2", "128@master", "128@h2", "128"], &hosts([8000, 8000, 8000])), "h2 m h2 h1");
        let said = placed(&["128@nowhere"], &hosts([8000; 3]));
        assert_eq!(said, "capacity: guest `g0` cannot be placed: there is no host `nowhere`");
        let problem = place(&guests(&["128@nowhere"]), &hosts([8000; 3])).expect_err("no such host");
        assert_eq!(problem.at.map(|at| (at.line, at.column)), Some((2, 59)));
        assert!(problem.hint.is_some_and(|hint| hint.contains("m (also called") && hint.contains("h1, h2")));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_numbers() {
        let said = placed(&["4096"], &hosts([1000, 3000, 2000]));
        assert_eq!(said, "capacity: guest `g0` cannot be placed: it needs 4096 MiB, the most that any host has left is 3000 MiB (`h1`)");
        let said = placed(&["600@h2", "600@h2"], &hosts([1000, 3000, 1000]));
        assert_eq!(said, "capacity: guest `g1` cannot be placed on `h2`: it needs 600 MiB, 400 MiB are left there");
    }

    /// Guests with these `placement`s.
    fn related(of: &[&str], hosts: &Hosts) -> String {
        let machines: String =
            of.iter().enumerate().map(|(n, placement)| format!("  - {{name: g{n}, micro: {{}}, placement: {placement}}}\n")).collect();
        let text = format!("machines:\n{machines}network: {{ovn: {{switches: {{}}}}}}\n");
        let name = DeploymentName::new("lab").expect("valid");
        let guests = topology::load("f.yaml", &text, &name, &topology::Leases::new()).expect("valid").topology.guests;
        match place(&guests, hosts) {
            Ok(places) => places.values().map(|place| place.host.as_str()).collect::<Vec<_>>().join(" "),
            Err(problem) => format!("{}: {problem}", problem.code),
        }
    }

    #[test]
    fn guests_stand_near_and_apart_as_the_file_says_and_heavy_ones_count_more() {
        let three = hosts([8000; 3]);
        assert_eq!(related(&["{}", "{near: g0}", "{near: [g1]}", "{apart: [g0]}"], &three), "m m m h1");
        // Whoever is named later is bound as well.
        assert_eq!(related(&["{near: g2}", "{}", "{host: h2}"], &three), "h2 m h2");
        assert_eq!(related(&["{apart: [g1, g2]}", "{apart: g2}", "{}"], &three), "m h1 h2");
        assert_eq!(related(&["{weight: 8}", "{}", "{}", "{}"], &three), "m h1 h2 h1");
        let said = related(&["{apart: [g1, g2, g3]}", "{apart: [g2, g3]}", "{apart: g3}", "{}"], &three);
        assert_eq!(said, "capacity: guest `g3` cannot be placed: no host is left for it");
        let said = related(&["{host: h1}", "{host: h2, near: g0}"], &three);
        assert_eq!(said, "capacity: guest `g1` cannot be placed on `h2`: it must stand near `g0`, which stands on `h1`");
        // One that stands where it no longer may is placed anew.
        let mut moved = hosts([8000; 3]);
        let standing = |host: &str| Standing { host: HostName::new(host).expect("valid"), running: true };
        for guest in ["g0", "g1"] {
            moved.standing.insert(GuestName::new(guest).expect("valid"), standing("h1"));
        }
        assert_eq!(related(&["{}", "{}"], &moved), "h1 h1");
        assert_eq!(related(&["{}", "{apart: g0}"], &moved), "h1 m");
    }

    #[test]
    fn a_guest_stays_where_it_stands() {
        let name = |name: &str| GuestName::new(name).expect("valid");
        let at = |host: &str, running| Standing { host: HostName::new(host).expect("valid"), running };
        let mut hosts = hosts([8000, 100, 8000]);
        hosts.standing.insert(name("g0"), at("h1", true));
        // It runs on a host that is full of it, and is not counted twice.
        assert_eq!(placed(&["4000", "128"], &hosts), "h1 m");
        hosts.standing.insert(name("g0"), at("h1", false));
        assert!(placed(&["4000"], &hosts).starts_with("capacity: "));
        // A host that left the cluster holds nobody; one that is away is waited for.
        hosts.standing.insert(name("g0"), at("gone", true));
        assert_eq!(placed(&["128"], &hosts), "m");
        hosts.away.insert(HostName::new("gone").expect("valid"), "no word for 20 s".to_string());
        assert_eq!(placed(&["128"], &hosts), "host_away: guest `g0` stands on host `gone`, which does not answer");
    }
}
