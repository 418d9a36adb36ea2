//! Topology → blueprint: every path, name, XML text and row decided, guests placed.
//!
//! Pure. What cannot stand on the site is refused here, before anything is touched.

mod parts;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use parts::{limited, links, no_micro, not_pulled, unread};

use super::{
    blueprint::{
        Base, Blueprint, CONTAINER_NOTE, Context, ContextFrom, DiskFormat, GuestBlueprint, NETWORK_CONFIG, Row, RowKey, Sum, Volume,
    },
    golden::{self, Golden},
    outside::{Outside, outside},
    place::{self, Place, Places},
    render::{container, digest, domain, files_digest, routed::Routed, rows},
    site::{Hosts, MicroImage, ProjectFiles, Site},
};
use crate::{
    error::{Code, Problem},
    names::{DeploymentName, GuestName, HostName, InstallationId},
    topology::{DiskDevice, Guest, GuestKind, HostRef, Topology},
};

/// Content of the master's base files, by their path there.
pub type Sums = BTreeMap<PathBuf, Sum>;

/// Decides every path, name, XML text and row of a deployment whose guests are placed. Base files of guests on other
/// hosts must be in `sums` ([`travelling`] names them).
///
/// Fails when the hosts cannot carry it: no micro image, a file that was not read.
pub fn lower(topology: &Topology, hosts: &Hosts, places: &Places, files: &ProjectFiles, sums: &Sums) -> Result<Blueprint, Problem> {
    let master = &hosts.master;
    let chassis = chassis(topology, hosts)?;
    let place = rows::Place { installation: master.installation, mtu: master.mtu, chassis: &chassis, resolver: master.resolver };
    let routed = Routed::new(topology);
    let rows = rows::rows(&routed, &place);
    let wanted = golden::wanted(topology, files)?;
    let lowering =
        Lowering { rows: rows.iter().map(|row| (&row.key, row)).collect(), routed: &routed, hosts, files, sums, goldens: &wanted };
    let startable = in_order(&topology.guests).into_iter().filter(|guest| guest.kind.is_startable());
    let guests: Result<Vec<_>, Problem> = startable.map(|guest| lowering.guest(guest, places)).collect();
    let guests = guests?;
    let goldens: Result<Vec<Golden>, Problem> = wanted.values().map(|wanted| lowering.golden(wanted)).collect();
    let goldens = goldens?;
    Ok(Blueprint {
        installation: master.installation,
        deployment: topology.deployment.clone(),
        master: master.host.clone(),
        rows,
        guests,
        goldens,
        outside: outside(&routed, hosts, places)?,
        folder: master.deployments.join(topology.deployment.as_str()),
    })
}

/// The guests with those before each that it waits for; otherwise in the file's order.
fn in_order(guests: &[Guest]) -> Vec<&Guest> {
    let place: BTreeMap<&GuestName, usize> = guests.iter().enumerate().map(|(place, guest)| (&guest.name, place)).collect();
    let mut done = vec![false; guests.len()];
    let mut order = Vec::with_capacity(guests.len());
    for start in 0..guests.len() {
        // By hand, since a chain may be as long as the file has guests; a circle was refused before.
        let mut path = vec![(start, 0)];
        while let Some((at, next)) = path.pop() {
            if done[at] {
                continue;
            }
            match guests[at].depends_on.get(next).map(|name| place.get(name)) {
                Some(other) => {
                    path.push((at, next + 1));
                    path.extend(other.filter(|other| !done[**other]).map(|other| (*other, 0)));
                }
                None => {
                    done[at] = true;
                    order.push(&guests[at]);
                }
            }
        }
    }
    order
}

/// The names in OVN of the hosts through which routers' traffic leaves.
fn chassis(topology: &Topology, hosts: &Hosts) -> Result<BTreeMap<HostName, String>, Problem> {
    let mut chassis = BTreeMap::new();
    for asked in topology.routers.iter().flat_map(|router| &router.ports).filter_map(|port| port.gateway_chassis.as_ref()) {
        let site = gateway(asked, hosts)?;
        chassis.insert(asked.name.clone(), site.chassis.clone().unwrap_or_else(|| site.host.to_string()));
    }
    Ok(chassis)
}

/// The host through which a router's traffic leaves, or what is wrong with its name.
pub(super) fn gateway<'h>(asked: &HostRef, hosts: &'h Hosts) -> Result<&'h Site, Problem> {
    place::named(asked, hosts).ok_or_else(|| {
        let names: Vec<&str> = hosts.members.iter().map(|site| site.host.as_str()).chain(["main"]).collect();
        let mut problem = match hosts.away.get(&asked.name) {
            Some(why) => Problem::new(Code::HostAway, format!("host `{}` is a gateway and does not answer", asked.name)).cause(why),
            None => Problem::new(Code::NotFound, format!("`set_gateway_chassis` names no host: `{}`", asked.name)),
        };
        problem.at = Some(asked.at.clone());
        problem.hint(format!("hosts: {}", names.join(", ")))
    })
}

/// Base files on the master that guests on other hosts need, whose content must be known before [`lower`].
pub fn travelling(topology: &Topology, hosts: &Hosts, places: &Places, files: &ProjectFiles) -> BTreeSet<PathBuf> {
    let away = |guest: &&Guest| places.get(&guest.name).is_some_and(|place| place.host != hosts.master.host);
    let mut paths = BTreeSet::new();
    // A golden image is fetched by what the master knows of it then.
    let is_cloned = |guest: &Guest| {
        let machine = guest.clone_of.as_ref().map(|clone| &clone.machine);
        topology.scaled.iter().any(|scaled| Some(&scaled.machine) == machine && scaled.shared_setup.is_some())
    };
    for guest in topology.guests.iter().filter(away).filter(|guest| !is_cloned(guest)) {
        match &guest.kind {
            GuestKind::Micro { .. } => {
                paths.extend(hosts.master.micro.iter().flat_map(|image| [image.kernel.clone(), image.initramfs.clone()]))
            }
            GuestKind::ExistingDisk { disk, .. } => paths.extend(files.disks.get(&disk.path).map(|file| file.path.clone())),
            GuestKind::CloudImage { image, .. } => paths.extend(files.images.get(&image.path).map(|stored| stored.path.clone())),
            // Docker gets its images itself.
            GuestKind::Docker(_) => {}
            GuestKind::IsoGuest { iso, .. } => paths.extend(files.disks.get(&iso.path).map(|file| file.path.clone())),
            // They are not started.
            GuestKind::Android(_) => {}
        }
    }
    paths
}

/// The blueprint of nothing: what `down` aims at.
pub fn nothing(installation: InstallationId, deployment: &DeploymentName, master: &HostName) -> Blueprint {
    let (deployment, master) = (deployment.clone(), master.clone());
    Blueprint {
        installation,
        deployment,
        master,
        folder: PathBuf::new(),
        rows: Vec::new(),
        guests: Vec::new(),
        goldens: Vec::new(),
        outside: Outside::default(),
    }
}

struct Lowering<'a> {
    rows: BTreeMap<&'a RowKey, &'a Row>,
    routed: &'a Routed<'a>,
    hosts: &'a Hosts,
    files: &'a ProjectFiles,
    sums: &'a Sums,
    goldens: &'a BTreeMap<GuestName, golden::Wanted>,
}

impl Lowering<'_> {
    /// A base file as the guest's host has it.
    fn base(&self, path: &Path, site: &Site) -> Result<Base, Problem> {
        if site.host == self.hosts.master.host {
            return Ok(Base { path: path.to_path_buf(), sum: None, golden: None });
        }
        let sum = self.sums.get(path).ok_or_else(|| Problem::internal(format!("the content of {} is not known", path.display())))?;
        Ok(Base { path: site.bases.join(&sum.sha256), sum: Some(sum.clone()), golden: None })
    }

    fn guest(&self, guest: &Guest, places: &Places) -> Result<GuestBlueprint, Problem> {
        let unplaced = || Problem::internal(format!("guest `{}` was not placed", guest.name));
        self.guest_at(guest, &guest.name, places.get(&guest.name).ok_or_else(unplaced)?)
    }

    /// A guest at a place, with the ports of `wired`: its own, but for one that stands in for another.
    fn guest_at(&self, guest: &Guest, wired: &GuestName, Place { host, why }: &Place) -> Result<GuestBlueprint, Problem> {
        let (topology, files) = (self.routed.topology, self.files);
        let unplaced = || Problem::internal(format!("guest `{}` was not placed", guest.name));
        let site = self.hosts.find(host).ok_or_else(unplaced)?;
        let folder = site.deployments.join(topology.deployment.as_str());
        let ports: Vec<_> = (0..guest.nics.len()).map(|nic| site.installation.port_uuid(&topology.deployment, wired, nic)).collect();
        if let GuestKind::Docker(wanted) = &guest.kind {
            let note = folder.join("console").join(format!("{}{CONTAINER_NOTE}", guest.name));
            let parts = container::Parts { ports: &ports, note: &note };
            return Ok(GuestBlueprint {
                name: guest.name.clone(),
                host: site.host.clone(),
                placement: why.clone(),
                bases: Vec::new(),
                volumes: Vec::new(),
                seed: None,
                context: None,
                domain: Arc::new(container::container(guest, wanted, self.routed, site, files, &parts).map_err(unread)?),
                links: links(guest, &ports),
                ready: guest.ready.clone(),
                depends_on: guest.depends_on.clone(),
                scripts: Vec::new(),
            });
        }
        let mut bases = Vec::new();
        let mut volumes = Vec::new();
        let (mut drive, mut cdrom, mut kernel, mut graphics) = (None, None, None, false);
        match &guest.kind {
            GuestKind::Micro { .. } => {
                let image = self.hosts.master.micro.as_ref().ok_or_else(|| no_micro(guest))?;
                let (boots, root) = (self.base(&image.kernel, site)?, self.base(&image.initramfs, site)?);
                kernel = Some(MicroImage { digest: image.digest.clone(), kernel: boots.path.clone(), initramfs: root.path.clone() });
                bases.extend([boots, root]);
            }
            GuestKind::ExistingDisk { disk, device, readonly, deep_copy, graphics: wanted, .. } => {
                let file = files.disks.get(&disk.path).ok_or_else(|| unread(disk))?;
                graphics = *wanted;
                let (base, base_format, origin) = match self.golden_of(guest, site) {
                    Some(golden) => {
                        let key = golden.golden.clone().unwrap_or_default();
                        (golden, DiskFormat::Qcow2, ["golden".to_string(), key])
                    }
                    None => {
                        let base = self.base(&file.path, site)?;
                        let path = base.path.to_string_lossy().into_owned();
                        (base, file.format, [path, file.version.clone()])
                    }
                };
                if *readonly {
                    drive = Some((base.path.clone(), base_format, *device, true));
                } else {
                    let origin = digest(&[&origin[0], &origin[1], if *deep_copy { "deep" } else { "linked" }]);
                    let path = folder.join("disks").join(format!("{}-{}.qcow2", guest.name, &origin[..12]));
                    drive = Some((path.clone(), DiskFormat::Qcow2, *device, false));
                    let base = base.path.clone();
                    volumes.push(Volume { path, base: Some(base), base_format, deep_copy: *deep_copy, grown_to: None });
                }
                bases.push(base);
            }
            GuestKind::CloudImage { image, expand_gb, graphics: wanted, .. } => {
                let stored = files.images.get(&image.path).ok_or_else(|| not_pulled(guest, image))?;
                graphics = *wanted;
                let grown_to = (*expand_gb > 0).then(|| stored.virtual_bytes.saturating_add(expand_gb.saturating_mul(1 << 30)));
                // By content alone: where the base lies, on which host, is no matter. A golden image has grown already.
                let (base, origin, grown_to) = match self.golden_of(guest, site) {
                    Some(golden) => {
                        let origin = digest(&["golden", golden.golden.as_deref().unwrap_or_default()]);
                        (golden, origin, None)
                    }
                    None => (self.base(&stored.path, site)?, digest(&[&stored.digest, &expand_gb.to_string()]), grown_to),
                };
                let path = folder.join("disks").join(format!("{}-{}.qcow2", guest.name, &origin[..12]));
                drive = Some((path.clone(), DiskFormat::Qcow2, DiskDevice::Disk, false));
                let (format, under) = (DiskFormat::Qcow2, base.path.clone());
                volumes.push(Volume { path, base: Some(under), base_format: format, deep_copy: false, grown_to });
                bases.push(base);
            }
            GuestKind::IsoGuest { iso, disk_gb, graphics: wanted } => {
                let file = files.disks.get(&iso.path).ok_or_else(|| unread(iso))?;
                let base = self.base(&file.path, site)?;
                graphics = *wanted;
                cdrom = Some(base.path.clone());
                bases.push(base);
                // What is installed stays when the installer changes.
                let bytes = disk_gb.saturating_mul(1 << 30);
                let origin = digest(&["empty", &bytes.to_string()]);
                let path = folder.join("disks").join(format!("{}-{}.qcow2", guest.name, &origin[..12]));
                drive = Some((path.clone(), DiskFormat::Qcow2, DiskDevice::Disk, false));
                volumes.push(Volume { path, base: None, base_format: DiskFormat::Qcow2, deep_copy: false, grown_to: Some(bytes) });
            }
            GuestKind::Docker(_) | GuestKind::Android(_) => {
                return Err(Problem::internal(format!("guest `{}` is of a kind that cannot be started", guest.name)));
            }
        }
        let context = guest.context.as_ref().map(|named| self.context(named, site)).transpose()?;
        if let Some(Context { sum, from: ContextFrom::Packed(path), .. }) = &context {
            bases.push(Base { path: path.clone(), sum: Some(sum.clone()), golden: None });
        }
        limited(guest, site)?;
        let uuid = site.installation.domain_uuid(&topology.deployment, &guest.name);
        let seed = match &guest.kind {
            // Nothing on a CD-ROM would read it.
            GuestKind::ExistingDisk { device: DiskDevice::Cdrom, .. } | GuestKind::IsoGuest { .. } => None,
            _ => Some(self.seed(guest, wired, uuid, site, &folder)),
        };
        let console_log = folder.join("console").join(format!("{}.log", guest.name));
        let drives = domain::Drives {
            kernel: kernel.as_ref(),
            disk: drive.as_ref().map(|(path, format, device, readonly)| domain::Drive {
                path,
                format: *format,
                device: *device,
                readonly: *readonly,
            }),
            seed: seed.as_ref().map(|seed| seed.path.as_path()),
            cdrom: cdrom.as_deref(),
            graphics,
        };
        let rest = seed.as_ref().map(|seed| files_digest(seed.files.iter().filter(|(name, _)| *name != NETWORK_CONFIG)));
        let parts = domain::Parts {
            ports: &ports,
            console_log: &console_log,
            network: seed.as_ref().and_then(|seed| seed.files.get(NETWORK_CONFIG)).map_or("", String::as_str),
            seed: rest.as_deref().unwrap_or_default(),
        };
        let domain = domain::domain(guest, &topology.deployment, site, &drives, &parts)
            .map_err(|error| Problem::internal(format!("the XML of guest `{}` could not be written", guest.name)).cause(error))?;
        Ok(GuestBlueprint {
            name: guest.name.clone(),
            host: site.host.clone(),
            placement: why.clone(),
            bases,
            volumes,
            seed,
            context,
            domain: domain.into(),
            links: links(guest, &ports),
            ready: guest.ready.clone(),
            depends_on: guest.depends_on.clone(),
            scripts: self.scripts(guest)?,
        })
    }
}
