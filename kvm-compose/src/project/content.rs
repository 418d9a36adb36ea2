//! What the files that a testbed file names must hold: text, `KEY=value` lines, an ISO image, a disk of a format.
//!
//! The files are open already; where they lie is [`super`]'s.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
};

use super::Fault;
use crate::{
    names::{is_variable, printable},
    plan::{blueprint::DiskFormat, site::DiskFile},
};

/// Longer scripts belong into an image.
const LONGEST_SCRIPT: u64 = 1 << 20;

pub fn read_text(mut file: &File, written: &str, what: &str) -> Result<String, Fault> {
    let shown = printable(written);
    let mut bytes = Vec::new();
    let read = file.by_ref().take(LONGEST_SCRIPT + 1).read_to_end(&mut bytes);
    read.map_err(|error| Fault("E074", format!("`{shown}` cannot be read: {error}"), None))?;
    if bytes.len() as u64 > LONGEST_SCRIPT {
        return Err(Fault("E074", format!("{what} `{shown}` is larger than 1 MiB"), None));
    }
    String::from_utf8(bytes).map_err(|_| Fault("E074", format!("{what} `{shown}` is not UTF-8 text"), None))
}

/// Lines of `KEY=value`, empty ones, and comments, as `docker run --env-file` takes them. A name alone would take its value
/// from the server's own environment, which is nobody's business.
pub fn read_env_file(text: &str, written: &str) -> Result<BTreeMap<String, String>, Fault> {
    let shown = printable(written);
    let mut variables = BTreeMap::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        let hint = match (name.strip_prefix("export ").is_some(), is_variable(name), value) {
            // Whatever stands behind the sign is the value: no quote, blank or `$` means anything.
            (_, true, Some(value)) => {
                variables.insert(name.to_string(), value.to_string());
                continue;
            }
            (true, _, _) => "leave `export` out: the file is no script".to_string(),
            (_, true, None) => format!("write `{}=value`", printable(name)),
            (_, false, _) => crate::names::VARIABLE_RULE.to_string(),
        };
        let message = format!("line {} of `{shown}` is not `KEY=value`: `{}`", number + 1, printable(line));
        return Err(Fault("E078", message, Some(hint)));
    }
    Ok(variables)
}

/// An ISO 9660 image has its name in the sixteenth sector (ECMA-119 8.1), UDF's bridge form too.
pub fn read_iso(file: &File, written: &str) -> Result<(), Fault> {
    let mut mark = [0; 5];
    let shown = printable(written);
    match file.read_exact_at(&mut mark, 16 * 2048 + 1) {
        Ok(()) if &mark == b"CD001" || &mark == b"BEA01" => Ok(()),
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            Err(Fault("E074", format!("`{shown}` cannot be read: {error}"), None))
        }
        _ => {
            let hint = "name an installer's ISO image; a disk image is an `existing_disk`".to_string();
            Err(Fault("E079", format!("`{shown}` is not an ISO 9660 image"), Some(hint)))
        }
    }
}

pub fn read_disk(file: &File, path: PathBuf, written: &str, format: DiskFormat) -> Result<DiskFile, Fault> {
    let shown = printable(written);
    let unreadable = |error: std::io::Error| Fault("E074", format!("`{shown}` cannot be read: {error}"), None);
    let found = file.metadata().map_err(unreadable)?;
    if found.len() == 0 {
        return Err(Fault("E074", format!("disk `{shown}` is empty"), None));
    }
    let mut header = [0; 104];
    let mut length = 0;
    while length < header.len() {
        match file.read_at(&mut header[length..], length as u64).map_err(unreadable)? {
            0 => break,
            count => length += count,
        }
    }
    let foreign = [(&b"KDMV"[..], "VMDK"), (b"vhdxfile", "VHDX"), (b"conectix", "VPC"), (b"QED\0", "QED")];
    if let Some((_, name)) = foreign.iter().find(|(magic, _)| header.starts_with(magic)) {
        let hint = format!("convert it: qemu-img convert -O qcow2 {shown} disk.qcow2");
        return Err(Fault("E073", format!("disk `{shown}` is a {name} image, not {}", format.name()), Some(hint)));
    }
    let says = if header.starts_with(b"QFI\xfb") { DiskFormat::Qcow2 } else { DiskFormat::Raw };
    if says != format {
        let hint = format!("write `driver_type: {}`, or name another image", says.name());
        return Err(Fault(
            "E073",
            format!("disk `{shown}` is {} by its header, but the file says {}", says.name(), format.name()),
            Some(hint),
        ));
    }
    if says == DiskFormat::Qcow2 {
        check_alone(&header, &shown)?;
    }
    let version = format!("{}.{}.{:09}", found.len(), found.mtime(), found.mtime_nsec());
    Ok(DiskFile { path, format: says, version })
}

/// A qcow2 image that stands on other files would let a testbed file read any file of the host.
fn check_alone(header: &[u8; 104], shown: &str) -> Result<(), Fault> {
    let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|n| header[at + n]));
    let version = u32::from_be_bytes(std::array::from_fn(|n| header[4 + n]));
    let external_data = version >= 3 && number(72) & 0b100 != 0;
    let (has_backing, hint) = (number(8) != 0, format!("make it stand alone: qemu-img convert -O qcow2 {shown} alone.qcow2"));
    if has_backing || external_data {
        let what = if has_backing { "a backing file" } else { "an external data file" };
        return Err(Fault("E075", format!("disk `{shown}` rests on {what}, which the testbed file does not name"), Some(hint)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn qcow2(backing: u64, features: u64) -> Vec<u8> {
        let mut header = vec![0; 200];
        header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        header[8..16].copy_from_slice(&backing.to_be_bytes());
        header[72..80].copy_from_slice(&features.to_be_bytes());
        header
    }

    #[test]
    fn a_header_must_say_what_the_file_says_and_rest_on_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let check = |content: &[u8], format| {
            let path = folder.path().join("disk");
            fs::write(&path, content).expect("written");
            let file = File::open(&path).expect("open");
            read_disk(&file, path, "disk", format).map(|disk| disk.format).map_err(|fault| fault.0)
        };
        assert_eq!(check(&qcow2(0, 0), DiskFormat::Qcow2), Ok(DiskFormat::Qcow2));
        assert_eq!(check(b"raw", DiskFormat::Raw), Ok(DiskFormat::Raw));
        assert_eq!(check(&qcow2(0, 0), DiskFormat::Raw), Err("E073"));
        assert_eq!(check(b"raw", DiskFormat::Qcow2), Err("E073"));
        assert_eq!(check(b"KDMV....", DiskFormat::Raw), Err("E073"));
        assert_eq!(check(b"", DiskFormat::Raw), Err("E074"));
        assert_eq!(check(&qcow2(512, 0), DiskFormat::Qcow2), Err("E075"));
        assert_eq!(check(&qcow2(0, 0b100), DiskFormat::Qcow2), Err("E075"));
    }

    #[test]
    fn a_script_is_text_of_a_decent_size() {
        let folder = tempfile::tempdir().expect("a folder");
        let check = |content: &[u8]| {
            let path = folder.path().join("script");
            fs::write(&path, content).expect("written");
            read_text(&File::open(&path).expect("open"), "script", "script").map_err(|fault| fault.1)
        };
        assert_eq!(check(b"echo").as_deref(), Ok("echo"));
        assert!(check(&[0xff]).is_err_and(|text| text.contains("UTF-8")));
        assert!(check(&vec![b'x'; (1 << 20) + 1]).is_err_and(|text| text.contains("1 MiB")));
    }

    #[test]
    fn an_environment_file_holds_names_and_values_alone() {
        let good = "# a comment\n\nA=1\nB=\n  C=x=y # no comment\n_d=\"quoted\"\n";
        let read = read_env_file(good, "x.env").unwrap_or_default();
        let read: Vec<(&str, &str)> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(read, [("A", "1"), ("B", ""), ("C", "x=y # no comment"), ("_d", "\"quoted\"")]);
        for (text, line, hint) in [
            ("A=1\nPATH\n", "line 2 of `x.env`", "`PATH=value`"),
            ("export A=1", "line 1 of `x.env`", "leave `export` out"),
            ("1A=x", "line 1", "letters, digits"),
            ("A: x", "line 1", "letters, digits"),
        ] {
            let Err(Fault(code, message, said)) = read_env_file(text, "x.env") else { panic!("{text}") };
            assert!(code == "E078" && message.contains(line) && said.is_some_and(|said| said.contains(hint)), "{message}");
        }
    }

    #[test]
    fn an_installer_is_an_iso_image() {
        let folder = tempfile::tempdir().expect("a folder");
        let check = |content: &[u8]| {
            let path = folder.path().join("x.iso");
            fs::write(&path, content).expect("written");
            read_iso(&File::open(&path).expect("open"), "x.iso").map_err(|fault| fault.0)
        };
        let mut image = vec![0; 17 * 2048];
        assert_eq!(check(&image), Err("E079"));
        image[16 * 2048 + 1..16 * 2048 + 6].copy_from_slice(b"CD001");
        assert_eq!(check(&image), Ok(()));
        assert_eq!(check(b"short"), Err("E079"));
    }
}
