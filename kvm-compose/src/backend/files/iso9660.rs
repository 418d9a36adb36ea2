//! A writer for small ISO 9660 images (ECMA-119) with Rock Ridge names (IEEE P1282), which Linux, cloud-init and
//! isoinfo(1) read: one folder, files in it, the same input always the same bytes.
//!
//! Pure. Must not know what the files say.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Problem;

const SECTOR: usize = 2048;
/// After the system area (16 sectors) come: the volume descriptor, the end of descriptors, two path tables, the Rock Ridge
/// note, the folder.
const PATH_TABLE_L: usize = 18;
const PATH_TABLE_M: usize = 19;
const NOTE: usize = 20;
const FOLDER: usize = 21;
/// All dates, so that the bytes depend on nothing else: 2000-01-01 00:00:00 UTC.
const DATE: [u8; 7] = [100, 1, 1, 0, 0, 0, 0];
const LONG_DATE: &[u8; 17] = b"2000010100000000\0";
/// Longer names would not fit a directory record with their Rock Ridge entries.
const LONGEST_NAME: usize = 120;

/// Where a digest of the content stands: in the volume descriptor's field for the application (ECMA-119 8.4.32).
pub const DIGEST_AT: u64 = (16 * SECTOR + 883) as u64;
/// The length of that digest.
pub const DIGEST_LENGTH: usize = 64;

/// An image with a volume label and files, which bears a digest. Its length is a multiple of `unit`.
pub fn image(label: &str, files: &BTreeMap<String, String>, digest: &str, unit: usize) -> Result<Vec<u8>, Problem> {
    let sum: usize = files.values().map(|content| content.len().next_multiple_of(SECTOR)).sum();
    let bad_name = files
        .keys()
        .find(|name| name.is_empty() || name.len() > LONGEST_NAME || name.contains(['/', '\0']) || [".", ".."].contains(&name.as_str()));
    if let Some(name) = bad_name {
        return Err(Problem::internal(format!("`{}` cannot be a file's name in a seed", crate::names::printable(name))));
    }
    if label.len() > 32 || sum > 1 << 30 {
        return Err(Problem::internal("the seed's label or its files are too large"));
    }
    let mut entries = short_names(files.keys());
    entries.sort();
    // Sizes do not depend on places, so the folder is laid out twice: once to learn its size.
    let size = folder(&entries, files, FOLDER, 0).len();
    let first = FOLDER + size / SECTOR;
    let folder = folder(&entries, files, first, size);
    let mut image = vec![0; first * SECTOR];
    put(&mut image, FOLDER, &folder);
    put(&mut image, NOTE, &rock_ridge_note());
    put(&mut image, PATH_TABLE_L, &path_table(&(FOLDER as u32).to_le_bytes(), &1u16.to_le_bytes()));
    put(&mut image, PATH_TABLE_M, &path_table(&(FOLDER as u32).to_be_bytes(), &1u16.to_be_bytes()));
    for (_, name) in &entries {
        image.extend_from_slice(files[*name].as_bytes());
        image.resize(image.len().next_multiple_of(SECTOR), 0);
    }
    image.resize(image.len().next_multiple_of(unit), 0);
    let sectors = image.len() / SECTOR;
    put(&mut image, 16, &volume_descriptor(label, sectors, size));
    let at = DIGEST_AT as usize;
    image[at..at + DIGEST_LENGTH.min(digest.len())].copy_from_slice(&digest.as_bytes()[..DIGEST_LENGTH.min(digest.len())]);
    put(&mut image, 17, b"\xffCD001\x01");
    Ok(image)
}

fn put(image: &mut [u8], sector: usize, bytes: &[u8]) {
    image[sector * SECTOR..sector * SECTOR + bytes.len()].copy_from_slice(bytes);
}

/// ECMA-119 level 1 names (8.3, capitals, digits and `_`), each once, with the real name beside it.
fn short_names<'a>(names: impl Iterator<Item = &'a String>) -> Vec<(String, &'a String)> {
    let plain = |text: &str, longest: usize| -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        text.chars().map(plain).take(longest).collect()
    };
    let mut taken = BTreeSet::new();
    let mut short = Vec::new();
    for name in names {
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let (mut stem, extension) = (plain(stem, 8), plain(extension, 3));
        for number in 0u32.. {
            if number > 0 {
                let number = number.to_string();
                stem = format!("{}{number}", stem.chars().take(8 - number.len()).collect::<String>());
            }
            let candidate = format!("{stem}.{extension};1");
            if taken.insert(candidate.clone()) {
                short.push((candidate, name));
                break;
            }
        }
    }
    short
}

/// The folder's directory records (ECMA-119 9.1), whole sectors; files begin at sector `first`.
fn folder(entries: &[(String, &String)], files: &BTreeMap<String, String>, first: usize, size: usize) -> Vec<u8> {
    let mut records = vec![
        record(&[0], FOLDER, size, true, &[share_protocol(), posix(0o040555, 2), continuation()].concat()),
        record(&[1], FOLDER, size, true, &posix(0o040555, 2)),
    ];
    let mut at = first;
    for (short, name) in entries {
        let length = files[*name].len();
        let alternate = [&[b'N', b'M', 5 + name.len() as u8, 1, 0], name.as_bytes()].concat();
        records.push(record(short.as_bytes(), at, length, false, &[posix(0o100444, 1), alternate].concat()));
        at += length.div_ceil(SECTOR);
    }
    let mut folder: Vec<u8> = Vec::new();
    for record in records {
        if folder.len() % SECTOR + record.len() > SECTOR {
            folder.resize(folder.len().next_multiple_of(SECTOR), 0);
        }
        folder.extend(record);
    }
    folder.resize(folder.len().next_multiple_of(SECTOR), 0);
    folder
}

fn record(name: &[u8], sector: usize, size: usize, is_folder: bool, system_use: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0];
    record.extend(both32(sector));
    record.extend(both32(size));
    record.extend(DATE);
    record.extend([if is_folder { 2 } else { 0 }, 0, 0]);
    record.extend(both16(1));
    record.push(name.len() as u8);
    record.extend(name);
    if name.len().is_multiple_of(2) {
        record.push(0);
    }
    record.extend(system_use);
    if !record.len().is_multiple_of(2) {
        record.push(0);
    }
    record[0] = record.len() as u8;
    record
}

/// SUSP `SP`: system use entries begin at once; Linux needs it in the folder's own record to look for the rest.
fn share_protocol() -> Vec<u8> {
    vec![b'S', b'P', 7, 1, 0xbe, 0xef, 0]
}

/// Rock Ridge `PX`: mode, links, user and group 0.
fn posix(mode: usize, links: usize) -> Vec<u8> {
    [vec![b'P', b'X', 36, 1], both32(mode), both32(links), both32(0), both32(0)].concat()
}

/// SUSP `CE`: where the note lies that says "this is Rock Ridge".
fn continuation() -> Vec<u8> {
    [vec![b'C', b'E', 28, 1], both32(NOTE), both32(0), both32(rock_ridge_note().len())].concat()
}

/// SUSP `ER`: the extension's name, description and source.
fn rock_ridge_note() -> Vec<u8> {
    let (id, description, source) = ("RRIP_1991A", "THE ROCK RIDGE INTERCHANGE PROTOCOL", "IEEE P1282");
    let lengths = [id.len() as u8, description.len() as u8, source.len() as u8];
    let length = 8 + id.len() + description.len() + source.len();
    [&[b'E', b'R', length as u8, 1][..], &lengths, &[1], id.as_bytes(), description.as_bytes(), source.as_bytes()].concat()
}

fn path_table(sector: &[u8; 4], parent: &[u8; 2]) -> Vec<u8> {
    [&[1, 0][..], sector, parent, &[0, 0]].concat()
}

/// The primary volume descriptor (ECMA-119 8.4).
fn volume_descriptor(label: &str, sectors: usize, folder_size: usize) -> Vec<u8> {
    let padded = |text: &str, length: usize| format!("{text:<length$}").into_bytes();
    let mut d = b"\x01CD001\x01\0".to_vec();
    d.extend(padded("LINUX", 32));
    d.extend(padded(label, 32));
    d.extend([0; 8]);
    d.extend(both32(sectors));
    d.extend([0; 32]);
    d.extend([both16(1), both16(1), both16(SECTOR)].concat());
    d.extend(both32(10));
    d.extend((PATH_TABLE_L as u32).to_le_bytes());
    d.extend([0; 4]);
    d.extend((PATH_TABLE_M as u32).to_be_bytes());
    d.extend([0; 4]);
    d.extend(record(&[0], FOLDER, folder_size, true, &[]));
    // Volume set, publisher, preparer, application; then three file names: all blank.
    d.extend(padded("", 128 * 4 + 37 * 3));
    d.extend([&LONG_DATE[..], LONG_DATE, b"0000000000000000\0", LONG_DATE].concat());
    d.extend([1, 0]);
    d
}

/// A number in both byte orders (ECMA-119 7.3.3).
fn both32(number: usize) -> Vec<u8> {
    let number = number as u32;
    [number.to_le_bytes(), number.to_be_bytes()].concat()
}

fn both16(number: usize) -> Vec<u8> {
    let number = number as u16;
    [number.to_le_bytes(), number.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn isoinfo(image: &std::path::Path, arguments: &[&str]) -> Option<String> {
        let done = Command::new("isoinfo").args(arguments).arg("-i").arg(image).output().ok()?;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Some(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    #[test]
    fn another_program_reads_back_what_was_written() {
        let mut files: BTreeMap<String, String> = ["meta-data", "user-data", "network-config", "environment", "services", "empty"]
            .iter()
            .map(|name| (name.to_string(), format!("{name}\n").repeat(if *name == "user-data" { 700 } else { 1 })))
            .collect();
        files.insert("empty".into(), String::new());
        // Enough of them for a folder of several sectors, and names that are alike in their first eight letters.
        files.extend((0..60).map(|n| (format!("network-config-{n}.yaml"), format!("{n}"))));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("seed.iso");
        std::fs::write(&path, image("cidata", &files, "", 2048).expect("an image")).expect("written");
        let Some(description) = isoinfo(&path, &["-d"]) else {
            panic!("isoinfo is needed for this test: ./setup.sh installs it");
        };
        assert!(description.contains("Volume id: cidata"), "{description}");
        assert!(description.contains("Rock Ridge signatures version 1 found"), "{description}");
        let names: BTreeSet<String> = isoinfo(&path, &["-R", "-f"]).expect("listed").lines().map(|l| l[1..].to_string()).collect();
        assert_eq!(names, files.keys().cloned().collect());
        for (name, content) in &files {
            let read = isoinfo(&path, &["-R", "-x", &format!("/{name}")]).expect("read");
            assert_eq!(&read, content, "{name}");
        }
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let files = BTreeMap::from([("meta-data".to_string(), "a".to_string())]);
        let made = || image("cidata", &files, &"d".repeat(64), 1 << 18).expect("an image");
        let (one, two) = (made(), made());
        assert_eq!(one, two);
        assert_eq!((one.len(), &one[DIGEST_AT as usize - 1..][..66]), (1 << 18, format!("\0{}\0", "d".repeat(64)).as_bytes()));
        assert_eq!(one.len() % SECTOR, 0);
        assert_eq!(&one[16 * SECTOR + 40..16 * SECTOR + 46], b"cidata");
    }

    #[test]
    fn a_name_that_cannot_be_a_files_is_refused() {
        for name in ["", ".", "..", "a/b", "a\0b", &"x".repeat(LONGEST_NAME + 1)] {
            assert!(image("cidata", &BTreeMap::from([(name.to_string(), String::new())]), "", 2048).is_err(), "{name:?}");
        }
    }
}
