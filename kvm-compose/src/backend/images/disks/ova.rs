//! The disk of an OVA archive (DMTF DSP0243): a tar file with a description, one disk, and their sums.
//!
//! The archive is a stranger's: only regular files with plain names, nothing is written but the disk, and that into a file of
//! ours.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::{Component, Path},
};

use sha2::{Digest as _, Sha256, Sha512};

use super::header::refused;
use crate::{error::Problem, names::printable, orchestrate::host::Cancel};

/// An archive of a machine has a handful of files.
const MOST_FILES: usize = 64;
/// A manifest has a line a file.
const LARGEST_MANIFEST: u64 = 64 << 10;

/// Writes the archive's one disk into `to`, `largest` bytes at most, and holds it against the archive's manifest. Gives the
/// disk's name.
pub fn disk(archive: &Path, to: &File, largest: u64, cancel: &Cancel, say: &dyn Fn(String)) -> Result<String, Problem> {
    let torn = |error: io::Error| refused("the archive cannot be read to its end").cause(error);
    let file = File::open(archive).map_err(|error| Problem::io(format!("reading {}", archive.display()), &error))?;
    let mut entries = tar::Archive::new(BufReader::with_capacity(1 << 20, file));
    let (mut found, mut manifest): (Option<Taken>, Option<String>) = (None, None);
    for (count, entry) in entries.entries().map_err(torn)?.enumerate() {
        let mut entry = entry.map_err(torn)?;
        if count >= MOST_FILES {
            return Err(refused(format_args!("the archive has more than {MOST_FILES} files")));
        }
        let name = plain_name(&entry.path().map_err(torn)?)?;
        if !matches!(entry.header().entry_type(), tar::EntryType::Regular | tar::EntryType::Continuous) {
            return Err(refused(format_args!("`{}` in the archive is no regular file", printable(&name))));
        }
        match kind(&name) {
            Kind::Manifest => {
                let mut text = String::new();
                entry.by_ref().take(LARGEST_MANIFEST).read_to_string(&mut text).map_err(torn)?;
                manifest = Some(text);
            }
            Kind::Packed => {
                return Err(refused(format_args!("the disk `{}` is compressed", printable(&name)))
                    .hint("unpack the archive with tar, then the disk, and import that"));
            }
            Kind::Disk => {
                if let Some(first) = &found {
                    let message = format!("the archive has two disks: `{}` and `{}`", printable(&first.name), printable(&name));
                    return Err(refused(message).hint("unpack it with tar, and import each disk under a name of its own"));
                }
                if entry.size() > largest {
                    return Err(too_large(largest));
                }
                say(format!("taking the disk `{}` out of the archive", printable(&name)));
                found = Some(take(&mut entry, name, to, cancel)?);
            }
            Kind::Other => {}
        }
    }
    let taken = found.ok_or_else(|| refused("the archive has no disk").hint("an OVA has a file whose name ends in .vmdk"))?;
    match manifest.as_deref().and_then(|text| promised(text, &taken.name)) {
        Some(sum) if sum != taken.sha256 && sum != taken.sha512 => {
            return Err(refused(format_args!("the disk `{}` is not what the archive's manifest says", printable(&taken.name)))
                .cause(format!("the manifest says {sum}, its SHA-256 is {}", taken.sha256))
                .hint("copy or export the archive again"));
        }
        Some(_) => say("the disk is what the archive's manifest says".to_string()),
        None => {}
    }
    Ok(taken.name)
}

/// More than may be taken in.
pub fn too_large(largest: u64) -> Problem {
    Problem::new(crate::error::Code::TooLarge, format!("the image is larger than {} GiB", largest >> 30))
        .hint("the server's `largest_gib` in the table `[images]` of config/server.toml allows more")
}

struct Taken {
    name: String,
    sha256: String,
    sha512: String,
}

enum Kind {
    Manifest,
    Disk,
    Packed,
    Other,
}

fn kind(name: &str) -> Kind {
    let name = name.to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if ends(&[".mf"]) {
        Kind::Manifest
    } else if ends(&[".vmdk", ".img", ".raw", ".qcow2"]) {
        Kind::Disk
    } else if ends(&[".vmdk.gz", ".vmdk.bz2", ".vmdk.xz"]) {
        Kind::Packed
    } else {
        Kind::Other
    }
}

/// An archive of a machine is flat: a name that leads anywhere is an attack.
fn plain_name(path: &Path) -> Result<String, Problem> {
    let mut parts = path.components().filter(|part| *part != Component::CurDir);
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => Ok(name.to_string_lossy().into_owned()),
        _ => Err(refused(format_args!("`{}` leads out of the archive", printable(&path.to_string_lossy())))),
    }
}

fn take(entry: &mut impl Read, name: String, to: &File, cancel: &Cancel) -> Result<Taken, Problem> {
    let mut to = to;
    let (mut short, mut long) = (Sha256::new(), Sha512::new());
    let mut chunk = vec![0; 1 << 20];
    loop {
        cancel.check()?;
        let count = entry.read(&mut chunk).map_err(|error| refused("the archive cannot be read to its end").cause(error))?;
        let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        short.update(bytes);
        long.update(bytes);
        to.write_all(bytes).map_err(|error| Problem::io("writing the disk of the archive", &error))?;
    }
    Ok(Taken { name, sha256: hexadecimal(&short.finalize()), sha512: hexadecimal(&long.finalize()) })
}

/// What the manifest says of a file: `SHA256(name)= sum`. Sums that are too weak to say anything are passed over.
fn promised(manifest: &str, name: &str) -> Option<String> {
    manifest.lines().find_map(|line| {
        let (head, sum) = line.split_once(")=").or_else(|| line.split_once(") ="))?;
        let (algorithm, named) = head.split_once('(')?;
        let strong = matches!(algorithm.trim().to_ascii_uppercase().as_str(), "SHA256" | "SHA512");
        (strong && named.trim() == name).then(|| sum.trim().to_ascii_lowercase())
    })
}

/// Bytes in hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
