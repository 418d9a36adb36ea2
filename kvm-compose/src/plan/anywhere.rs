//! Planning that is not tied to machines: a host that has all that a testbed may need, and one for each host that it names.
//!
//! Pure. For `plan --offline`, and for whoever wants to know what a testbed file comes to without a server.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use uuid::Uuid;

use super::{
    blueprint::{Blueprint, Sum},
    lower::{lower, travelling},
    outside,
    place::place,
    site::{Accelerator, Hosts, MicroImage, ProjectFiles, Site},
};
use crate::{
    error::Problem,
    names::{HostName, InstallationId},
    topology::Topology,
};

/// The hosts of a testbed that may stand anywhere.
///
/// # Errors
///
/// None in practice: the name `any` is a name.
pub fn hosts(topology: &Topology) -> Result<Hosts, Problem> {
    let master = Site {
        installation: InstallationId(Uuid::nil()),
        host: HostName::new("any")?,
        deployments: PathBuf::from("/deployments"),
        accelerator: Accelerator::Kvm,
        emulator: PathBuf::from("/usr/bin/qemu-system-x86_64"),
        micro: Some(MicroImage {
            digest: "0".repeat(64),
            kernel: PathBuf::from("/images/micro/kernel"),
            initramfs: PathBuf::from("/images/micro/initramfs"),
        }),
        bridge: "br-int".to_string(),
        chassis: None,
        resolver: None,
        mappings: outside::anywhere(topology),
        masquerade: false,
        unified_cgroups: false,
        mtu: 1442,
        bases: PathBuf::from("/images/bases"),
        goldens: PathBuf::from("/images/golden"),
        free_memory_mb: 1 << 40,
        cpus: 1,
        busy_cpus: 0,
    };
    let gateways = topology.routers.iter().flat_map(|router| &router.ports).filter_map(|port| port.gateway_chassis.as_ref());
    let asked = topology.guests.iter().filter_map(|guest| guest.placement.host.as_ref()).chain(gateways);
    let named: BTreeSet<&HostName> = asked.map(|host| &host.name).collect();
    let others = named.into_iter().filter(|name| !matches!(name.as_str(), "main" | "master" | "any"));
    // Named ones are so busy that nobody goes there unasked.
    let members = others.map(|name| Site { host: name.clone(), busy_cpus: u32::MAX / 2, ..master.clone() }).collect();
    Ok(Hosts { members, standing: BTreeMap::new(), away: BTreeMap::new(), master })
}

/// The blueprint of a testbed on such hosts.
///
/// # Errors
///
/// What stands against every placement, such as guests that must be near to and apart from each other; and what cannot act
/// yet.
pub fn blueprint(topology: &Topology, files: &ProjectFiles) -> Result<Blueprint, Problem> {
    let hosts = hosts(topology)?;
    let places = place(&topology.guests, &hosts)?;
    let unread = |path: PathBuf| (path, Sum { sha256: "0".repeat(64), bytes: 0 });
    let sums = travelling(topology, &hosts, &places, files).into_iter().map(unread).collect();
    lower(topology, &hosts, &places, files, &sums)
}
