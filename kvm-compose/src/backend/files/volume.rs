//! Making a guest's disks from their bases with qemu-img(1).
//!
//! Must not know domains.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use super::{folder, folder::Folder, process::Call};
use crate::{error::Problem, orchestrate::host::Cancel, plan::blueprint::Volume};

/// A linked clone is made in milliseconds, a deep copy of a large image takes minutes.
const LIMIT: Duration = Duration::from_secs(3600);

/// Makes a disk. Present already is success: its path names what it was made from.
pub fn create(folder: &Folder, volume: &Volume, cancel: &Cancel) -> Result<(), Problem> {
    if fs::symlink_metadata(&volume.path).is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    folder.make_room_for(&volume.path)?;
    let part = folder::part_of(&volume.path);
    // An earlier attempt may have left half a file.
    folder.remove(&part)?;
    let (base, format) = (volume.base.as_deref().map(text).transpose()?, volume.base_format.name());
    let mut argv: Vec<&str> = vec!["qemu-img"];
    let target = text(&part)?;
    let size = volume.grown_to.map(|bytes| bytes.to_string());
    match base {
        Some(base) if volume.deep_copy => argv.extend(["convert", "-q", "-f", format, "-O", "qcow2", "--", base, target]),
        Some(base) => argv.extend(["create", "-q", "-f", "qcow2", "-F", format, "-b", base, "--", target]),
        None => argv.extend(["create", "-q", "-f", "qcow2", "--", target]),
    }
    if !volume.deep_copy {
        argv.extend(size.as_deref());
    }
    let made = Call::new(argv, LIMIT).succeed(&format!("cannot make the disk `{}`", volume.path.display()), cancel).and_then(|_| {
        let keep = || -> std::io::Result<()> {
            let file = File::open(&part)?;
            // libvirt hands the disk to QEMU's user; nobody else is to read a guest's disk.
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.sync_all()
        };
        keep().map_err(|error| Problem::io(format!("cannot write `{}`", part.display()), &error))?;
        folder.finish(&volume.path)
    });
    if made.is_err() {
        folder.remove(&part).ok();
    }
    made
}

fn text(path: &Path) -> Result<&str, Problem> {
    path.to_str().ok_or_else(|| Problem::internal(format!("the path `{}` is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Code, names::DeploymentName, plan::blueprint::DiskFormat};

    #[test]
    fn a_linked_clone_is_small_and_a_deep_copy_stands_alone() {
        let data = tempfile::tempdir().expect("a folder");
        let base = data.path().join("base.raw");
        fs::write(&base, vec![7; 1 << 20]).expect("a base");
        let folder = Folder::new(data.path(), &DeploymentName::new("lab").expect("valid"));
        let volume = |name: &str, deep_copy| Volume {
            path: data.path().join("lab/disks").join(name),
            base: Some(base.clone()),
            base_format: DiskFormat::Raw,
            deep_copy,
            grown_to: (!deep_copy).then_some(3 << 20),
        };
        for (name, deep_copy) in [("linked.qcow2", false), ("deep.qcow2", true)] {
            let volume = volume(name, deep_copy);
            create(&folder, &volume, &Cancel::new()).expect("made");
            create(&folder, &volume, &Cancel::new()).expect("there already");
            let head = fs::read(&volume.path).expect("readable");
            assert_eq!(&head[..4], b"QFI\xfb");
            let backing = u64::from_be_bytes(head[8..16].try_into().expect("eight bytes"));
            assert_eq!(backing != 0, !deep_copy);
            let size = u64::from_be_bytes(head[24..32].try_into().expect("eight bytes"));
            assert_eq!(size, if deep_copy { 1 << 20 } else { 3 << 20 });
            assert_eq!(fs::metadata(&volume.path).expect("there").permissions().mode() & 0o777, 0o600);
        }
        let empty = Volume { base: None, ..volume("empty.qcow2", false) };
        create(&folder, &empty, &Cancel::new()).expect("made");
        let head = fs::read(&empty.path).expect("readable");
        assert_eq!(head[8..16], [0; 8], "it rests on nothing");
        assert_eq!(u64::from_be_bytes(head[24..32].try_into().expect("eight bytes")), 3 << 20);
        let missing = Volume { base: Some(data.path().join("missing")), ..volume("x.qcow2", false) };
        assert_eq!(create(&folder, &missing, &Cancel::new()).expect_err("no base").code, Code::Storage);
        assert_eq!(folder.files().expect("listed").len(), 3, "nothing half-made is left");
    }
}
