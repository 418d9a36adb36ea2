//! Golden images: what a scaled machine's clones are made from once `shared_setup` has run in it.
//!
//! Pure. An image is called by a digest of all that made it, so whoever finds the name there need not make it again.
//! The guest it is made in stands in for the first clone: it has that clone's interfaces, which nobody else uses while no
//! clone can be there, and the machine's own name, which no clone has.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    blueprint::{GuestBlueprint, Script, ScriptKind},
    render::digest,
    site::ProjectFiles,
};
use crate::{
    error::Problem,
    names::GuestName,
    topology::{DiskDevice, Guest, GuestKind, Placement, ReadyCondition, Resources, Topology},
};

/// Put first into every digest: another way of making them makes other images.
const RECIPE: &str = "golden image 1";

/// A golden image that clones rest on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Golden {
    /// A digest of what makes it, in hexadecimal.
    pub key: String,
    /// Where it is on the master.
    pub path: PathBuf,
    /// What it is made from, for people.
    pub made_from: String,
    /// The guest it is made in.
    pub guest: GuestBlueprint,
}

/// The end of making one: the guest forgets who it is and shuts down, and its disk gets the image's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The image's digest.
    pub key: String,
    /// The guest's name.
    pub guest: GuestName,
    /// libvirt's name.
    pub domain: String,
    /// libvirt's UUID.
    pub uuid: Uuid,
    /// Its disk.
    pub disk: PathBuf,
    /// What else it leaves: its seed, its console's log.
    pub beside: Vec<PathBuf>,
    /// What it was made from, for people.
    pub made_from: String,
}

impl Golden {
    /// The last step of making it.
    pub fn kept(&self) -> Option<Kept> {
        let guest = &self.guest;
        let seed = guest.seed.iter().map(|seed| seed.path.clone());
        Some(Kept {
            key: self.key.clone(),
            guest: guest.name.clone(),
            domain: guest.domain.name.clone(),
            uuid: guest.domain.uuid,
            disk: guest.volumes.first()?.path.clone(),
            beside: seed.chain([guest.domain.console_log.clone()]).collect(),
            made_from: self.made_from.clone(),
        })
    }

    /// The guest without interfaces, for when the clone that it stands in for is there after all.
    pub fn alone(&self) -> GuestBlueprint {
        let mut guest = self.guest.clone();
        let mut domain = (*guest.domain).clone();
        for nic in std::mem::take(&mut domain.nics) {
            domain.xml = domain.xml.replace(&nic.xml, "");
        }
        guest.domain = domain.into();
        guest
    }
}

/// A scaled machine whose clones rest on a golden image.
pub(super) struct Wanted {
    /// The image's digest.
    pub key: String,
    /// The guest it is made in.
    pub guest: Guest,
    /// The clone it stands in for.
    pub stands_for: GuestName,
    /// What it is made from, for people.
    pub made_from: String,
}

/// The golden images that a testbed's clones rest on, by their machines.
pub(super) fn wanted(topology: &Topology, files: &ProjectFiles) -> Result<BTreeMap<GuestName, Wanted>, Problem> {
    let mut all = BTreeMap::new();
    for scaled in &topology.scaled {
        let Some(shared) = &scaled.shared_setup else { continue };
        let is_first = |guest: &&Guest| guest.clone_of.as_ref().is_some_and(|clone| clone.machine == scaled.machine);
        let Some(first) = topology.guests.iter().find(is_first) else { continue };
        let Some((kind, origin, from)) = origin(&first.kind, files) else { continue };
        let script = files.scripts.get(&shared.path).map(String::as_str).unwrap_or_default();
        let variables =
            serde_json::to_string(&first.environment).map_err(|error| Problem::internal("variables cannot be written").cause(error))?;
        let mut parts = vec![RECIPE, script, &variables];
        parts.extend(origin.iter().map(String::as_str));
        let context = first.context.as_ref().and_then(|named| files.contexts.get(&named.path)).map(|tree| tree.sum.sha256.as_str());
        parts.extend(context);
        let key = digest(&parts);
        let mut ready = first.ready.clone();
        // What clones wait for may only be true once they are set up.
        ready.condition = ReadyCondition::Agent;
        let guest = Guest {
            name: scaled.machine.clone(),
            hostname: scaled.machine.hostname(),
            kind,
            placement: Placement::default(),
            depends_on: Vec::new(),
            ready,
            resources: Resources::default(),
            setup_scripts: vec![shared.clone()],
            run_scripts: Vec::new(),
            clone_of: None,
            ..first.clone()
        };
        let made_from = format!("{from}, {}", crate::names::printable(&shared.path));
        all.insert(scaled.machine.clone(), Wanted { key, guest, stands_for: first.name.clone(), made_from });
    }
    Ok(all)
}

/// What the guest boots, what that is made from, and its name for people; nothing for what has no disk to set up.
fn origin(kind: &GuestKind, files: &ProjectFiles) -> Option<(GuestKind, Vec<String>, String)> {
    match kind {
        GuestKind::CloudImage { image, expand_gb, username, password, .. } => {
            // One that is not there is refused when its guest is looked at.
            let content = files.images.get(&image.path).map(|stored| stored.digest.clone()).unwrap_or_default();
            let text = |value: &Option<String>| value.as_ref().map_or_else(String::new, |value| format!("={value}"));
            let parts = vec!["cloud_image".to_string(), content, expand_gb.to_string(), text(username), text(password)];
            Some((kind.clone(), parts, crate::names::printable(&image.path)))
        }
        GuestKind::ExistingDisk { disk, format, device: DiskDevice::Disk, graphics, .. } => {
            let file = files.disks.get(&disk.path);
            let content = file.map(|file| format!("{} {}", file.path.display(), file.version)).unwrap_or_default();
            let kind = GuestKind::ExistingDisk {
                disk: disk.clone(),
                format: *format,
                device: DiskDevice::Disk,
                readonly: false,
                deep_copy: false,
                graphics: *graphics,
            };
            let parts = vec!["existing_disk".to_string(), content, format.name().to_string()];
            Some((kind, parts, crate::names::printable(&disk.path)))
        }
        _ => None,
    }
}

/// Makes a clone of a disk that no cloud-init sets up somebody of its own: its name, and what the golden image has not.
pub(super) fn identity(hostname: &str) -> Script {
    let content = include_str!("../guest/identity.sh").replace("{hostname}", hostname);
    let digest = digest(&["identity", &content]);
    Script { kind: ScriptKind::Setup, name: "identity".to_string(), digest, content, timeout_s: 120 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_that_gives_a_clone_its_name_names_it() {
        let script = identity("worker-3");
        assert!(script.content.contains("name='worker-3'") && !script.content.contains('{'.to_string().as_str().repeat(2).as_str()));
        assert_ne!(script.digest, identity("worker-4").digest);
    }
}
