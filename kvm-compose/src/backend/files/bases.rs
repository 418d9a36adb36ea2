//! Are the files there that guests start from, and can QEMU reach them?
//!
//! Must not know libvirt; whoever calls says which user QEMU is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::reach;

/// Bases that are missing or unusable, with the reason. `qemu` is the user and group that QEMU runs as.
pub fn missing<'a>(bases: impl Iterator<Item = &'a PathBuf>, qemu: Option<(u32, u32)>) -> BTreeMap<PathBuf, String> {
    let bases: BTreeSet<&PathBuf> = bases.collect();
    bases.into_iter().filter_map(|base| Some((base.clone(), fault(base, qemu)?))).collect()
}

fn fault(base: &Path, qemu: Option<(u32, u32)>) -> Option<String> {
    let found = match fs::metadata(base) {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    if !found.is_file() {
        return Some("it is not a regular file".to_string());
    }
    if found.len() == 0 {
        return Some("it is empty".to_string());
    }
    if let Err(error) = fs::File::open(base) {
        return Some(error.to_string());
    }
    reach::fault(base, qemu).map(|closed| format!("{}; `{}` opens it", closed.words(), closed.command()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_fault_has_its_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("empty"), b"").expect("made");
        fs::write(path("good"), b"x").expect("made");
        fs::create_dir(path("folder")).expect("made");
        let faults = missing([path("empty"), path("good"), path("folder"), path("none")].iter(), Some((0, 0)));
        let reasons: Vec<&str> = faults.values().map(String::as_str).collect();
        assert_eq!(reasons.len(), 3);
        assert!(reasons[0].contains("empty") && reasons[1].contains("regular") && reasons[2].contains("No such file"), "{reasons:?}");
    }

    #[test]
    fn a_closed_folder_stops_only_a_qemu_that_is_not_root() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("set");
        let base = folder.path().join("base");
        fs::write(&base, b"x").expect("made");
        assert!(missing([base.clone()].iter(), Some((64055, 64055))).values().next().is_some_and(|reason| reason.contains("chmod")));
        assert!(missing([base].iter(), Some((0, 0))).is_empty());
    }
}
