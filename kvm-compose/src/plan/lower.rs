//! Topology → blueprint: every path, name, XML text and row decided, guests placed.
//!
//! Pure. What cannot stand on the site is refused here, before anything is touched.

use std::path::{Path, PathBuf};

use super::{
    blueprint::{Blueprint, GuestBlueprint, Script, ScriptKind, Seed, Volume},
    render::{digest, domain, rows, seed},
    site::{ProjectFiles, Site},
};
use crate::{
    error::{Code, Problem},
    topology::{DiskDevice, FileRef, Guest, GuestKind, Topology},
};

/// How long a script may run, in seconds.
const SCRIPT_TIMEOUT_S: u64 = 1800;

/// Decides every path, name, XML text and row of a deployment.
///
/// Fails when the site cannot carry it: no micro image, a host that does not exist, a file that was not read.
pub fn lower(topology: &Topology, site: &Site, files: &ProjectFiles) -> Result<Blueprint, Problem> {
    let folder = site.deployments.join(topology.deployment.as_str());
    let guests: Result<Vec<_>, Problem> = topology.guests.iter().map(|g| guest(g, topology, site, files, &folder)).collect();
    Ok(Blueprint {
        installation: site.installation,
        deployment: topology.deployment.clone(),
        rows: rows::rows(topology, site.installation, site.mtu),
        guests: guests?,
        folder,
    })
}

/// The blueprint of nothing: what `down` aims at.
pub fn nothing(installation: crate::names::InstallationId, deployment: &crate::names::DeploymentName) -> Blueprint {
    Blueprint { installation, deployment: deployment.clone(), folder: PathBuf::new(), rows: Vec::new(), guests: Vec::new() }
}

fn guest(guest: &Guest, topology: &Topology, site: &Site, files: &ProjectFiles, folder: &Path) -> Result<GuestBlueprint, Problem> {
    let placement = place(guest, site)?;
    let mut bases = Vec::new();
    let mut volumes = Vec::new();
    let (mut drive, mut kernel, mut graphics) = (None, None, false);
    match &guest.kind {
        GuestKind::Micro { .. } => {
            let image = site.micro.as_ref().ok_or_else(|| no_micro(guest))?;
            bases.extend([image.kernel.clone(), image.initramfs.clone()]);
            kernel = Some(image);
        }
        GuestKind::ExistingDisk { disk, device, readonly, deep_copy, graphics: wanted, .. } => {
            let file = files.disks.get(&disk.path).ok_or_else(|| unread(disk))?;
            bases.push(file.path.clone());
            graphics = *wanted;
            if *readonly {
                drive = Some((file.path.clone(), file.format, *device, true));
            } else {
                let origin = digest(&[&file.path.to_string_lossy(), &file.version, if *deep_copy { "deep" } else { "linked" }]);
                let path = folder.join("disks").join(format!("{}-{}.qcow2", guest.name, &origin[..12]));
                drive = Some((path.clone(), super::blueprint::DiskFormat::Qcow2, *device, false));
                volumes.push(Volume { path, base: file.path.clone(), base_format: file.format, deep_copy: *deep_copy });
            }
        }
    }
    let uuid = site.installation.domain_uuid(&topology.deployment, &guest.name);
    let seed = match &guest.kind {
        // Nothing on a CD-ROM would read it.
        GuestKind::ExistingDisk { device: DiskDevice::Cdrom, .. } => None,
        _ => Some(seed_of(guest, uuid, site.mtu, folder)),
    };
    let ports: Vec<_> = (0..guest.nics.len()).map(|nic| site.installation.port_uuid(&topology.deployment, &guest.name, nic)).collect();
    let console_log = folder.join("console").join(format!("{}.log", guest.name));
    let drives = domain::Drives {
        kernel,
        disk: drive.as_ref().map(|(path, format, device, readonly)| domain::Drive {
            path,
            format: *format,
            device: *device,
            readonly: *readonly,
        }),
        seed: seed.as_ref().map(|seed| seed.path.as_path()),
        graphics,
    };
    let domain = domain::domain(guest, &topology.deployment, site, &drives, &ports, &console_log)
        .map_err(|error| Problem::internal(format!("the XML of guest `{}` could not be written", guest.name)).cause(error))?;
    Ok(GuestBlueprint {
        name: guest.name.clone(),
        host: site.host.clone(),
        placement,
        bases,
        volumes,
        seed,
        domain,
        ready: guest.ready.clone(),
        scripts: scripts(guest, files)?,
    })
}

fn place(guest: &Guest, site: &Site) -> Result<String, Problem> {
    match &guest.host {
        None => Ok("the only host".to_string()),
        Some(host) if host == &site.host => Ok("the file asks for it".to_string()),
        Some(host) if matches!(host.as_str(), "main" | "master") => Ok(format!("the file asks for `{host}`, which is the master")),
        Some(host) => {
            let problem = Problem::new(Code::Capacity, format!("guest `{}` cannot be placed: there is no host `{host}`", guest.name))
                .hint(format!("the hosts are: {} (also called `main` and `master`)", site.host));
            Err(Problem { at: guest.host_at.clone(), ..problem })
        }
    }
}

fn no_micro(guest: &Guest) -> Problem {
    Problem::new(Code::ImageMissing, format!("guest `{}` needs the micro image, which has not been made", guest.name))
        .hint("make it with `testbed image build micro`")
}

fn unread(file: &FileRef) -> Problem {
    let mut problem = Problem::new(Code::ImageMissing, format!("`{}` was not read", crate::names::printable(&file.path)));
    problem.at = Some(file.at.clone());
    problem
}

fn seed_of(guest: &Guest, uuid: uuid::Uuid, mtu: u16, folder: &Path) -> Seed {
    let files = seed::files(guest, uuid, mtu);
    let parts: Vec<&str> = files.iter().flat_map(|(name, content)| [name.as_str(), content.as_str()]).collect();
    let digest = digest(&parts);
    Seed { path: folder.join("seeds").join(format!("{}-seed-{}.iso", guest.name, &digest[..12])), files }
}

fn scripts(guest: &Guest, files: &ProjectFiles) -> Result<Vec<Script>, Problem> {
    let named = [(ScriptKind::Setup, &guest.setup_script), (ScriptKind::Run, &guest.run_script)];
    let mut scripts = Vec::new();
    for (kind, file) in named {
        let Some(file) = file else { continue };
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
