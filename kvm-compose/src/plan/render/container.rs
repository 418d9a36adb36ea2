//! A guest's container: what its engine is told, and its interfaces.
//!
//! Pure. A container has no DHCP client: each address is known before, and set up from outside.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use uuid::Uuid;

use super::{routed::Routed, seed::name_server};
use crate::{
    names::{DeploymentName, domain_name},
    plan::{
        blueprint::{Domain, NIC_ALIAS, NicDevice},
        container::{Bind, Container, HostDevice, Interface},
        site::{ProjectFiles, Site},
    },
    topology::{Assignment, Container as Wanted, FileRef, Guest, Nic},
};

/// Where a container of a deployment stands: in what folder, on which ports.
pub struct Parts<'a> {
    /// Its interfaces' OVN ports.
    pub ports: &'a [Uuid],
    /// The file that says that there is a container, for whom Docker does not answer.
    pub note: &'a Path,
}

/// Renders a guest's container; fails with a file that was not read.
pub fn container<'g>(
    guest: &'g Guest,
    wanted: &'g Wanted,
    routed: &Routed<'_>,
    site: &Site,
    files: &ProjectFiles,
    parts: &Parts<'_>,
) -> Result<Domain, &'g FileRef> {
    let mut environment = BTreeMap::new();
    if let Some(file) = &wanted.env_file {
        environment.extend(files.env_files.get(&file.path).ok_or(file)?.clone());
    }
    // What stands in the testbed file goes before what the file says that it names.
    environment.extend(guest.environment.clone());
    let mount = |mount: &'g crate::topology::Mount| {
        let source = files.trees.get(&mount.source.path).ok_or(&mount.source)?.clone();
        Ok(Bind { source, target: mount.target.clone(), read_only: mount.read_only })
    };
    let devices = wanted.devices.iter().map(|device| HostDevice {
        source: device.source.clone(),
        target: device.target.clone(),
        permissions: device.permissions.clone(),
    });
    let container = Container {
        image: wanted.image.clone(),
        image_id: None,
        restored: None,
        hostname: guest.hostname.clone(),
        command: wanted.command.clone(),
        entrypoint: wanted.entrypoint.clone(),
        environment,
        mounts: wanted.volumes.iter().map(mount).collect::<Result<_, _>>()?,
        privileged: wanted.privileged,
        user: wanted.user.clone(),
        devices: devices.collect(),
        cpu_shares: guest.resources.cpu_shares,
        memory_low_mb: guest.resources.memory_low_mb,
        memory_max_mb: guest.resources.memory_max_mb,
    };
    let digest = super::digest(&["container", &json(&container)]);
    Ok(Domain {
        name: name_of(&routed.topology.deployment, guest),
        uuid: site.installation.domain_uuid(&routed.topology.deployment, &guest.name),
        guest: guest.name.clone(),
        xml: String::new(),
        digest,
        nics: guest.nics.iter().zip(parts.ports).map(|(nic, port)| device(nic, *port, routed, site.mtu)).collect(),
        network: String::new(),
        console_log: parts.note.to_path_buf(),
        memory_mb: guest.memory_mb,
        cpus: guest.cpus,
        memory_max_mb: None,
        paced: false,
        container: Some(Box::new(container)),
    })
}

fn name_of(deployment: &DeploymentName, guest: &Guest) -> String {
    domain_name(deployment, &guest.name)
}

/// Whom a container asks for names on an interface: DHCP tells it nothing, so it is told here.
fn server(nic: &Nic, routed: &Routed<'_>) -> Option<IpAddr> {
    let addresses: Vec<_> = nic.addresses.iter().collect();
    name_server(nic, &addresses, routed)
}

fn device(nic: &Nic, port: Uuid, routed: &Routed<'_>, mtu: u16) -> NicDevice {
    let advertised = |assignment| matches!(assignment, Assignment::Dhcp | Assignment::Slaac);
    let interface = Interface {
        mtu,
        addresses: nic.addresses.iter().map(|address| address.net).collect(),
        gateways: nic.addresses.iter().filter_map(|address| address.gateway).collect(),
        name_servers: server(nic, routed).into_iter().collect(),
        beside: server(nic, routed).filter(|server| *server == IpAddr::V4(super::services::RESOLVER)).into_iter().collect(),
        // The default route comes from the router's advertisement alone: DHCPv6 has none (RFC 8415).
        advertised: nic.addresses.iter().any(|address| address.net.addr().is_ipv6() && advertised(address.assignment)),
    };
    let (text, mac) = (json(&interface), nic.mac.to_string());
    let digest = super::digest(&[&nic.name, &mac, &port.to_string(), &text]);
    NicDevice { alias: format!("{NIC_ALIAS}{}-{}", nic.name, &digest[..12]), name: nic.name.clone(), mac, port, xml: text }
}

fn json(value: &impl serde::Serialize) -> String {
    // These hold texts, numbers and lists of them: nothing that JSON cannot say.
    serde_json::to_string(value).unwrap_or_default()
}
