//! Topology → blueprint: every path, name, XML text and row decided, guests placed.
//!
//! Pure. What cannot stand on the site is refused here, before anything is touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    blueprint::{
        Base, Blueprint, CONTAINER_NOTE, Column, DiskFormat, GuestBlueprint, NETWORK_CONFIG, Row, RowKey, Script, ScriptKind, Seed, Sum,
        Volume,
    },
    link::Link,
    outside::{Outside, outside},
    place::{self, Place, Places},
    render::{container, digest, domain, files_digest, routed::Routed, rows, seed},
    site::{Hosts, MicroImage, ProjectFiles, Site},
};
use crate::{
    error::{Code, Problem},
    names::{DeploymentName, GuestName, HostName, InstallationId},
    topology::{Assignment, DiskDevice, FileRef, Guest, GuestKind, HostRef, Nic, Topology},
};

/// How long a script may run, in seconds.
const SCRIPT_TIMEOUT_S: u64 = 1800;

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
    let lowering = Lowering { rows: rows.iter().map(|row| (&row.key, row)).collect(), routed: &routed, hosts, files, sums };
    let startable = in_order(&topology.guests).into_iter().filter(|guest| guest.kind.is_startable());
    let guests: Result<Vec<_>, Problem> = startable.map(|guest| lowering.guest(guest, places)).collect();
    let guests = guests?;
    Ok(Blueprint {
        installation: master.installation,
        deployment: topology.deployment.clone(),
        master: master.host.clone(),
        rows,
        guests,
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
    for guest in topology.guests.iter().filter(away) {
        match &guest.kind {
            GuestKind::Micro { .. } => {
                paths.extend(hosts.master.micro.iter().flat_map(|image| [image.kernel.clone(), image.initramfs.clone()]))
            }
            GuestKind::ExistingDisk { disk, .. } => paths.extend(files.disks.get(&disk.path).map(|file| file.path.clone())),
            GuestKind::CloudImage { image, .. } => paths.extend(files.images.get(&image.path).map(|stored| stored.path.clone())),
            // Docker gets its images itself.
            GuestKind::Docker(_) => {}
            // They are not started.
            GuestKind::IsoGuest { .. } | GuestKind::Android(_) => {}
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
        outside: Outside::default(),
    }
}

struct Lowering<'a> {
    rows: BTreeMap<&'a RowKey, &'a Row>,
    routed: &'a Routed<'a>,
    hosts: &'a Hosts,
    files: &'a ProjectFiles,
    sums: &'a Sums,
}

impl Lowering<'_> {
    /// A base file as the guest's host has it.
    fn base(&self, path: &Path, site: &Site) -> Result<Base, Problem> {
        if site.host == self.hosts.master.host {
            return Ok(Base { path: path.to_path_buf(), sum: None });
        }
        let sum = self.sums.get(path).ok_or_else(|| Problem::internal(format!("the content of {} is not known", path.display())))?;
        Ok(Base { path: site.bases.join(&sum.sha256), sum: Some(sum.clone()) })
    }

    fn guest(&self, guest: &Guest, places: &Places) -> Result<GuestBlueprint, Problem> {
        let (topology, files) = (self.routed.topology, self.files);
        let unplaced = || Problem::internal(format!("guest `{}` was not placed", guest.name));
        let Place { host, why } = places.get(&guest.name).ok_or_else(unplaced)?;
        let site = self.hosts.find(host).ok_or_else(unplaced)?;
        let folder = site.deployments.join(topology.deployment.as_str());
        let ports: Vec<_> = (0..guest.nics.len()).map(|nic| site.installation.port_uuid(&topology.deployment, &guest.name, nic)).collect();
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
                domain: Arc::new(container::container(guest, wanted, self.routed, site, files, &parts).map_err(unread)?),
                links: links(guest, &ports),
                ready: guest.ready.clone(),
                depends_on: guest.depends_on.clone(),
                scripts: Vec::new(),
            });
        }
        let mut bases = Vec::new();
        let mut volumes = Vec::new();
        let (mut drive, mut kernel, mut graphics) = (None, None, false);
        match &guest.kind {
            GuestKind::Micro { .. } => {
                let image = self.hosts.master.micro.as_ref().ok_or_else(|| no_micro(guest))?;
                let (boots, root) = (self.base(&image.kernel, site)?, self.base(&image.initramfs, site)?);
                kernel = Some(MicroImage { digest: image.digest.clone(), kernel: boots.path.clone(), initramfs: root.path.clone() });
                bases.extend([boots, root]);
            }
            GuestKind::ExistingDisk { disk, device, readonly, deep_copy, graphics: wanted, .. } => {
                let file = files.disks.get(&disk.path).ok_or_else(|| unread(disk))?;
                let base = self.base(&file.path, site)?;
                graphics = *wanted;
                if *readonly {
                    drive = Some((base.path.clone(), file.format, *device, true));
                } else {
                    let origin = digest(&[&base.path.to_string_lossy(), &file.version, if *deep_copy { "deep" } else { "linked" }]);
                    let path = folder.join("disks").join(format!("{}-{}.qcow2", guest.name, &origin[..12]));
                    drive = Some((path.clone(), DiskFormat::Qcow2, *device, false));
                    let base = base.path.clone();
                    volumes.push(Volume { path, base, base_format: file.format, deep_copy: *deep_copy, grown_to: None });
                }
                bases.push(base);
            }
            GuestKind::CloudImage { image, expand_gb, graphics: wanted, .. } => {
                let stored = files.images.get(&image.path).ok_or_else(|| not_pulled(guest, image))?;
                let base = self.base(&stored.path, site)?;
                graphics = *wanted;
                let grown_to = (*expand_gb > 0).then(|| stored.virtual_bytes.saturating_add(expand_gb.saturating_mul(1 << 30)));
                // By content alone: where the base lies, on which host, is no matter.
                let origin = digest(&[&stored.digest, &expand_gb.to_string()]);
                let path = folder.join("disks").join(format!("{}-{}.qcow2", guest.name, &origin[..12]));
                drive = Some((path.clone(), DiskFormat::Qcow2, DiskDevice::Disk, false));
                let (format, under) = (DiskFormat::Qcow2, base.path.clone());
                volumes.push(Volume { path, base: under, base_format: format, deep_copy: false, grown_to });
                bases.push(base);
            }
            GuestKind::IsoGuest { .. } | GuestKind::Docker(_) | GuestKind::Android(_) => {
                return Err(Problem::internal(format!("guest `{}` is of a kind that cannot be started", guest.name)));
            }
        }
        let uuid = site.installation.domain_uuid(&topology.deployment, &guest.name);
        let seed = match &guest.kind {
            // Nothing on a CD-ROM would read it.
            GuestKind::ExistingDisk { device: DiskDevice::Cdrom, .. } => None,
            _ => Some(seed_of(guest, self.routed, uuid, site.mtu, &folder, &self.rows)),
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
            domain: domain.into(),
            links: links(guest, &ports),
            ready: guest.ready.clone(),
            depends_on: guest.depends_on.clone(),
            scripts: scripts(guest, files)?,
        })
    }
}

/// Remarks on where each interface is, and on what DHCP and routers tell the guest, which the rest of its configuration does not say: a change of it is a change of
/// the guest's network, and it asks anew.
fn leases(guest: &Guest, rows: &BTreeMap<&RowKey, &Row>) -> String {
    let told = |nic: &Nic| nic.addresses.iter().any(|address| matches!(address.assignment, Assignment::Dhcp | Assignment::Slaac));
    let remarks = guest.nics.iter().enumerate().map(|(index, nic)| {
        if !told(nic) {
            return format!("# {}: on {}\n", nic.name, nic.switch);
        }
        let port = rows.get(&rows::port_key(&guest.name, index));
        let refs = port.iter().flat_map(|row| row.columns.values()).filter_map(|column| match column {
            Column::Refs(keys) => Some(keys),
            _ => None,
        });
        let served = refs.flatten().filter_map(|key| rows.get(key));
        let options: Vec<String> = served.map(|row| format!("{:?}", row.columns)).collect();
        let digest = digest(&options.iter().map(String::as_str).collect::<Vec<_>>());
        let addresses: Vec<String> = nic.addresses.iter().map(|address| address.net.to_string()).collect();
        format!("# {}: {} on {}, DHCP {}\n", nic.name, addresses.join(" "), nic.switch, &digest[..8])
    });
    remarks.collect()
}

fn no_micro(guest: &Guest) -> Problem {
    Problem::new(Code::ImageMissing, format!("guest `{}` needs the micro image, which has not been made", guest.name))
        .hint("make it with `testbed image build micro`")
}

fn not_pulled(guest: &Guest, image: &FileRef) -> Problem {
    let name = crate::names::printable(&image.path);
    let mut problem =
        Problem::new(Code::ImageMissing, format!("guest `{}` needs the image `{name}`, which is not on the server", guest.name));
    problem.at = Some(image.at.clone());
    problem.hint(format!("`testbed image pull {name}` downloads it; `testbed up` does that by itself"))
}

fn unread(file: &FileRef) -> Problem {
    let mut problem = Problem::new(Code::ImageMissing, format!("`{}` was not read", crate::names::printable(&file.path)));
    problem.at = Some(file.at.clone());
    problem
}

fn seed_of(guest: &Guest, routed: &Routed<'_>, uuid: uuid::Uuid, mtu: u16, folder: &Path, rows: &BTreeMap<&RowKey, &Row>) -> Seed {
    let mut files = seed::files(guest, routed, uuid, mtu);
    if let Some(network) = files.get_mut(NETWORK_CONFIG) {
        network.push_str(&leases(guest, rows));
    }
    Seed { path: folder.join("seeds").join(format!("{}-seed.iso", guest.name)), digest: files_digest(files.iter()), files }
}

fn links(guest: &Guest, ports: &[uuid::Uuid]) -> Vec<Link> {
    guest.nics.iter().zip(ports).map(|(nic, port)| Link { interface: nic.name.clone(), port: *port, shape: nic.shape }).collect()
}

fn scripts(guest: &Guest, files: &ProjectFiles) -> Result<Vec<Script>, Problem> {
    let setup = guest.setup_scripts.iter().map(|file| (ScriptKind::Setup, file));
    let mut scripts = Vec::new();
    for (kind, file) in setup.chain(guest.run_scripts.iter().map(|file| (ScriptKind::Run, file))) {
        let content = files.scripts.get(&file.path).ok_or_else(|| unread(file))?.clone();
        let word = match kind {
            ScriptKind::Setup => "setup",
            ScriptKind::Run => "run",
        };
        let name = Path::new(&file.path).file_name().map_or_else(|| file.path.clone(), |name| name.to_string_lossy().into_owned());
        scripts.push(Script { kind, name, digest: digest(&[word, &content]), content, timeout_s: SCRIPT_TIMEOUT_S });
    }
    Ok(scripts)
}
