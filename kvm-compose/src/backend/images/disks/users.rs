//! Which deployments' disks rest on which content: read from the disks themselves, so that nothing has to be remembered.
//!
//! Knows the header of a qcow2 file (docs/interop/qcow2.txt of QEMU) and the layout of deployments' folders.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::documents::files;
use crate::{backend::snapshots, error::Problem, names::DeploymentName};

/// The longest name of a backing file that QEMU takes.
const LONGEST_NAME: u32 = 1023;

/// Deployments by the digest of the content that they use.
#[derive(Debug, Clone, Default)]
pub struct Users(BTreeMap<String, BTreeSet<DeploymentName>>);

impl Users {
    /// Looks at every disk below the folder of deployments.
    pub fn look(deployments: &Path, content: &Path) -> Result<Users, Problem> {
        let mut users = Users::default();
        for folder in files(deployments)?.into_iter().filter(|path| path.is_dir()) {
            let name = folder.file_name().and_then(|name| name.to_str()).and_then(|name| DeploymentName::new(name).ok());
            let Some(name) = name else { continue };
            // Disks of snapshots rest on the same content.
            let mut disks = files(&folder.join("disks"))?;
            for snapshot in files(&folder.join(snapshots::FOLDER))?.into_iter().filter(|path| path.is_dir()) {
                disks.extend(files(&snapshot)?);
            }
            for disk in disks {
                if let Some(base) = backing_file(&disk)
                    && base.parent() == Some(content)
                    && let Some(digest) = base.file_name().and_then(|name| name.to_str())
                {
                    users.0.entry(digest.to_owned()).or_default().insert(name.clone());
                }
            }
        }
        Ok(users)
    }

    /// Who uses this content; nothing when nobody does.
    pub fn of(&self, digest: &str) -> Option<&BTreeSet<DeploymentName>> {
        self.0.get(digest)
    }
}

/// What a qcow2 file rests on, as its header says; nothing for other files.
fn backing_file(disk: &Path) -> Option<PathBuf> {
    let file = File::open(disk).ok()?;
    let mut header = [0; 20];
    file.read_exact_at(&mut header, 0).ok()?;
    let offset = u64::from_be_bytes(header.get(8..16)?.try_into().ok()?);
    let length = u32::from_be_bytes(header.get(16..20)?.try_into().ok()?);
    if !header.starts_with(b"QFI\xfb") || offset == 0 || length > LONGEST_NAME {
        return None;
    }
    let mut name = vec![0; length as usize];
    file.read_exact_at(&mut name, offset).ok()?;
    String::from_utf8(name).ok().map(PathBuf::from)
}
