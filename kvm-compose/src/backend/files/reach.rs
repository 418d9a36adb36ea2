//! Can the user that QEMU runs as get to a file? Folders on the way that it may not pass through, and the command that opens them.
//!
//! Must not know libvirt; whoever calls says which user QEMU is.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Why QEMU, as this user and group, cannot get to a path, with the command that mends it; nothing when it can. A path that is not
/// there is looked at as far as it is.
pub fn fault(path: &Path, qemu: Option<(u32, u32)>) -> Option<Closed> {
    let (user, group) = qemu.filter(|(user, _)| *user != 0)?;
    let is_closed = |folder: &&Path| fs::metadata(folder).is_ok_and(|found| found.is_dir() && !is_open(&found, user, group));
    let mut folders: Vec<PathBuf> = path.ancestors().filter(is_closed).map(Path::to_path_buf).collect();
    folders.reverse();
    (!folders.is_empty()).then_some(Closed { user, folders })
}

/// Folders that QEMU's user cannot pass through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    user: u32,
    /// From the root on; never empty.
    folders: Vec<PathBuf>,
}

impl Closed {
    /// What is wrong, in words.
    pub fn words(&self) -> String {
        let names: Vec<String> = self.folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
        let s = if names.len() == 1 { "" } else { "s" };
        format!("the user that QEMU runs as (uid {}) cannot enter the folder{s} {}", self.user, names.join(" and "))
    }

    /// The command that opens them.
    pub fn command(&self) -> String {
        let names: Vec<String> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
        format!("chmod o+x {}", names.join(" "))
    }
}

/// May this user pass through the folder?
fn is_open(folder: &fs::Metadata, user: u32, group: u32) -> bool {
    let bit = if folder.uid() == user {
        0o100
    } else if folder.gid() == group {
        0o010
    } else {
        0o001
    };
    folder.mode() & bit != 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn closed_folders_are_named_with_the_command_that_opens_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("data");
        fs::create_dir(&inner).expect("made");
        let file = inner.join("lab/seeds/a-seed.iso");
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        set(folder.path(), 0o711);
        set(&inner, 0o700);
        let closed = fault(&file, Some((64055, 64055))).expect("closed");
        assert_eq!(closed.command(), format!("chmod o+x {}", inner.display()));
        assert!(closed.words().contains(&format!("(uid 64055) cannot enter the folder `{}`", inner.display())), "{}", closed.words());
        assert_eq!((fault(&file, Some((0, 0))), fault(&file, None)), (None, None));
        set(&inner, 0o711);
        assert_eq!(fault(&file, Some((64055, 64055))), None);
    }
}
