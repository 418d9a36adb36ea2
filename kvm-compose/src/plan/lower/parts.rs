//! What belongs to a guest beside its disks: its seed, its context, its scripts, its golden image; and what is refused.
//!
//! Pure.

use std::{collections::BTreeMap, path::Path};

use super::Lowering;
use crate::{
    error::{Code, Problem},
    names::GuestName,
    plan::{
        blueprint::{Base, Column, Context, ContextFrom, NETWORK_CONFIG, Row, RowKey, Script, ScriptKind, Seed},
        golden::{self, Golden},
        link::Link,
        place::Place,
        render::{digest, files_digest, rows, seed},
        site::{ProjectFiles, Site},
    },
    topology::{Assignment, FileRef, Guest, GuestKind, Nic},
};

/// How long a script may run, in seconds.
const SCRIPT_TIMEOUT_S: u64 = 1800;

impl Lowering<'_> {
    /// A golden image, and the guest it is made in, which stands on the master.
    pub(super) fn golden(&self, wanted: &golden::Wanted) -> Result<Golden, Problem> {
        let master = &self.hosts.master;
        let place = Place { host: master.host.clone(), why: "golden images are made on the master".to_string() };
        Ok(Golden {
            key: wanted.key.clone(),
            path: master.goldens.join(&wanted.key),
            made_from: wanted.made_from.clone(),
            guest: self.guest_at(&wanted.guest, &wanted.stands_for, &place)?,
        })
    }

    /// The golden image that a guest's disk rests on, as its host has it.
    pub(super) fn golden_of(&self, guest: &Guest, site: &Site) -> Option<Base> {
        let wanted = self.goldens.get(&guest.clone_of.as_ref()?.machine)?;
        Some(Base { path: site.goldens.join(&wanted.key), sum: None, golden: Some(wanted.key.clone()) })
    }

    pub(super) fn seed(&self, guest: &Guest, wired: &GuestName, uuid: uuid::Uuid, site: &Site, folder: &Path) -> Seed {
        // A golden image is for other deployments too.
        let key = self.files.ssh_key.as_deref().filter(|_| *wired == guest.name);
        let mut files = seed::files(guest, self.routed, uuid, site.mtu, key);
        if let Some(network) = files.get_mut(NETWORK_CONFIG) {
            network.push_str(&leases(guest, wired, &self.rows));
        }
        Seed { path: folder.join("seeds").join(format!("{}-seed.iso", guest.name)), digest: files_digest(files.iter()), files }
    }

    /// What a guest gets from the project, as its host has it.
    pub(super) fn context(&self, named: &FileRef, site: &Site) -> Result<Context, Problem> {
        let tree = self.files.contexts.get(&named.path).ok_or_else(|| unread(named))?;
        let from = match site.host == self.hosts.master.host {
            true => ContextFrom::Tree(tree.path.clone()),
            false => ContextFrom::Packed(site.bases.join(&tree.sum.sha256)),
        };
        Ok(Context { digest: digest(&["context", &tree.sum.sha256]), sum: tree.sum.clone(), from })
    }

    pub(super) fn scripts(&self, guest: &Guest) -> Result<Vec<Script>, Problem> {
        let cloned = guest.clone_of.as_ref().is_some_and(|clone| self.goldens.contains_key(&clone.machine));
        // A cloud image becomes somebody by cloud-init.
        let own = (cloned && matches!(guest.kind, GuestKind::ExistingDisk { .. })).then(|| golden::identity(&guest.hostname));
        Ok(own.into_iter().chain(scripts_of(guest, self.files)?).collect())
    }
}

/// Remarks on where each interface is, and on what DHCP and routers tell the guest, which the rest of its configuration does not say: a change of it is a change of
/// the guest's network, and it asks anew.
fn leases(guest: &Guest, wired: &GuestName, rows: &BTreeMap<&RowKey, &Row>) -> String {
    let told = |nic: &Nic| nic.addresses.iter().any(|address| matches!(address.assignment, Assignment::Dhcp | Assignment::Slaac));
    let remarks = guest.nics.iter().enumerate().map(|(index, nic)| {
        if !told(nic) {
            return format!("# {}: on {}\n", nic.name, nic.switch);
        }
        let port = rows.get(&rows::port_key(wired, index));
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

/// Refuses what the host cannot limit.
pub(super) fn limited(guest: &Guest, site: &Site) -> Result<(), Problem> {
    if guest.resources.memory_low_mb.is_none() || !site.unified_cgroups {
        return Ok(());
    }
    let message = format!("`memory_low_mb` of guest `{}` cannot be kept on host `{}`", guest.name, site.host);
    Err(Problem::new(Code::Unsupported, message)
        .cause("libvirt has no setting for it where the host has control groups of version 2")
        .hint("leave it out, or let the guest stand on a host with version 1"))
}

pub(super) fn no_micro(guest: &Guest) -> Problem {
    Problem::new(Code::ImageMissing, format!("guest `{}` needs the micro image, which has not been made", guest.name))
        .hint("make it with `testbed image build micro`")
}

pub(super) fn not_pulled(guest: &Guest, image: &FileRef) -> Problem {
    let name = crate::names::printable(&image.path);
    let mut problem =
        Problem::new(Code::ImageMissing, format!("guest `{}` needs the image `{name}`, which is not on the server", guest.name));
    problem.at = Some(image.at.clone());
    problem.hint(format!("`testbed image pull {name}` downloads it; `testbed up` does that by itself"))
}

pub(super) fn unread(file: &FileRef) -> Problem {
    let mut problem = Problem::new(Code::ImageMissing, format!("`{}` was not read", crate::names::printable(&file.path)));
    problem.at = Some(file.at.clone());
    problem
}

pub(super) fn links(guest: &Guest, ports: &[uuid::Uuid]) -> Vec<Link> {
    guest.nics.iter().zip(ports).map(|(nic, port)| Link { interface: nic.name.clone(), port: *port, shape: nic.shape }).collect()
}

fn scripts_of(guest: &Guest, files: &ProjectFiles) -> Result<Vec<Script>, Problem> {
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
