//! Seeds on disk: written whole, and written anew under the eyes of a running guest.
//!
//! A guest that runs holds its seed's file open and reads it at its next boot. So a seed of the same length is written into the
//! same file: first its digest goes, then the content comes, then the digest, which says that the content is whole. Must not
//! know what a seed says.

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{Folder, iso9660};
use crate::{
    error::Problem,
    plan::{blueprint::Seed, observed::ObservedSeed},
};

/// The label by which cloud-init finds a seed (NoCloud).
const LABEL: &str = "cidata";
/// Seeds are as long as a multiple of this, so that a changed one nearly always has the length of the old one.
const UNIT: usize = 256 << 10;

/// Makes the seed say what it should; right already is success.
pub fn write(folder: &Folder, seed: &Seed) -> Result<(), Problem> {
    if digest(&seed.path).as_deref() == Some(&seed.digest) {
        return Ok(());
    }
    let image = iso9660::image(LABEL, &seed.files, &seed.digest, UNIT)?;
    let is_file = |meta: &std::fs::Metadata| meta.is_file() && meta.len() == image.len() as u64;
    if std::fs::symlink_metadata(&seed.path).is_ok_and(|meta| is_file(&meta)) {
        folder.make_room_for(&seed.path)?;
        overwrite(&seed.path, &image).map_err(|error| Problem::io(format!("cannot write `{}`", seed.path.display()), &error))
    } else {
        folder.write(&seed.path, &image)
    }
}

fn overwrite(path: &Path, image: &[u8]) -> io::Result<()> {
    let at = iso9660::DIGEST_AT;
    let (before, after) = (at as usize, at as usize + iso9660::DIGEST_LENGTH);
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&[0; iso9660::DIGEST_LENGTH], at)?;
    file.write_all_at(&image[..before], 0)?;
    file.write_all_at(&image[after..], after as u64)?;
    file.sync_all()?;
    file.write_all_at(&image[before..after], at)?;
    file.sync_all()
}

/// The seeds among files, with what they bear.
pub fn observed(files: &BTreeSet<PathBuf>) -> Vec<ObservedSeed> {
    let seeds = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "iso"));
    seeds.map(|path| ObservedSeed { path: path.clone(), digest: digest(path).unwrap_or_default() }).collect()
}

/// The digest that a seed bears; nothing when it cannot be read or was not written to its end.
fn digest(path: &Path) -> Option<String> {
    let mut digest = [0; iso9660::DIGEST_LENGTH];
    std::fs::File::open(path).and_then(|file| file.read_exact_at(&mut digest, iso9660::DIGEST_AT)).ok()?;
    let text = std::str::from_utf8(&digest).ok()?;
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::MetadataExt};

    use super::*;
    use crate::names::DeploymentName;

    fn seed(path: &Path, content: &str, digest: char) -> Seed {
        let files = BTreeMap::from([("network-config".to_string(), content.to_string())]);
        Seed { path: path.to_path_buf(), files, digest: digest.to_string().repeat(64) }
    }

    #[test]
    fn a_changed_seed_stays_the_same_file_and_a_half_written_one_is_written_again() {
        let data = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(data.path(), &DeploymentName::new("lab").expect("valid"));
        let path = data.path().join("lab/seeds/a-seed.iso");
        let bears = |path: &Path| observed(&BTreeSet::from([path.to_path_buf()]))[0].digest.clone();
        write(&folder, &seed(&path, "one", 'a')).expect("written");
        let inode = std::fs::metadata(&path).expect("there").ino();
        assert_eq!(bears(&path), "a".repeat(64));
        write(&folder, &seed(&path, "two", 'b')).expect("written anew");
        assert_eq!((std::fs::metadata(&path).expect("there").ino(), bears(&path)), (inode, "b".repeat(64)));
        let fresh = data.path().join("lab/seeds/fresh.iso");
        write(&folder, &seed(&fresh, "two", 'b')).expect("written");
        assert_eq!(std::fs::read(&path).expect("read"), std::fs::read(&fresh).expect("read"));
        // The server died between the content and the digest.
        let file = OpenOptions::new().write(true).open(&path).expect("there");
        file.write_all_at(&[0; 64], iso9660::DIGEST_AT).expect("written");
        assert_eq!(bears(&path), "");
        write(&folder, &seed(&path, "two", 'b')).expect("written again");
        assert_eq!(bears(&path), "b".repeat(64));
        // A longer one is another file.
        write(&folder, &seed(&path, &"x".repeat(300 << 10), 'c')).expect("written");
        assert_ne!(std::fs::metadata(&path).expect("there").ino(), inode);
        assert_eq!(bears(&data.path().join("none.iso")), "");
    }
}
