//! Reads the files that a testbed file names: scripts whole, of disks the header.
//!
//! A path may lead to the project's folder or to a folder that the operator allows, and nowhere else, whatever links say.
//! All faults are told at once, each at its place. Must not know what a script or disk is for.

use std::{
    fs::File,
    io::Read,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::{
    diagnostic::{Diagnostic, Severity},
    names::printable,
    plan::{
        blueprint::DiskFormat,
        site::{DiskFile, ProjectFiles},
    },
    topology::{FileRef, Guest, GuestKind, Topology},
};

/// Longer scripts belong into an image.
const LONGEST_SCRIPT: u64 = 1 << 20;

/// Where files may lie.
#[derive(Debug, Clone)]
pub struct Places<'a> {
    /// The project's folder.
    pub project: &'a Path,
    /// Folders outside of it that the operator allows.
    pub allowed: Vec<&'a Path>,
}

/// A fault of one file: its code, what is wrong, what to do.
struct Fault(&'static str, String, Option<String>);

/// Reads every file that a topology names, or tells all faults.
pub fn read(topology: &Topology, places: &Places<'_>) -> Result<ProjectFiles, Vec<Diagnostic>> {
    let mut files = ProjectFiles::default();
    let mut faults = Vec::new();
    for guest in &topology.guests {
        for script in [&guest.setup_script, &guest.run_script].into_iter().flatten() {
            match places.open(&script.path).and_then(|(file, _)| read_script(&file, &script.path)) {
                Ok(text) => drop(files.scripts.insert(script.path.clone(), text)),
                Err(fault) => faults.push(diagnostic(guest, script, fault)),
            }
        }
        if let GuestKind::ExistingDisk { disk, format, .. } = &guest.kind {
            match places.open(&disk.path).and_then(|(file, path)| read_disk(&file, path, &disk.path, *format)) {
                Ok(found) => drop(files.disks.insert(disk.path.clone(), found)),
                Err(fault) => faults.push(diagnostic(guest, disk, fault)),
            }
        }
    }
    if faults.is_empty() { Ok(files) } else { Err(faults) }
}

/// The text of a file of the project's folder, `largest` bytes at most; the error says what is wrong, what to do, and whether
/// the file lies elsewhere.
pub fn read_text(project: &Path, path: &str, largest: u64) -> Result<String, (String, Option<String>, bool)> {
    let shown = printable(path);
    let opened = Places { project, allowed: Vec::new() }.open(path);
    let (file, _) = opened.map_err(|Fault(code, message, hint)| match code {
        "E072" => (message, Some("move it into the project's folder".to_string()), true),
        _ => (message, hint, false),
    })?;
    let mut bytes = Vec::new();
    let read = (&file).take(largest + 1).read_to_end(&mut bytes);
    read.map_err(|error| (format!("`{shown}` cannot be read: {error}"), None, false))?;
    if bytes.len() as u64 > largest {
        return Err((format!("`{shown}` is larger than {} MiB", largest >> 20), None, false));
    }
    String::from_utf8(bytes).map_err(|_| (format!("`{shown}` is not UTF-8 text"), None, false))
}

/// The faults that can be told without a server, which may be allowed more: it reads as another user and may allow other
/// folders. What only it can say is a warning.
pub fn check(topology: &Topology, project: &Path) -> Vec<Diagnostic> {
    let anywhere = Path::new("/");
    let mut faults = read(topology, &Places { project, allowed: vec![anywhere] }).err().unwrap_or_default();
    for guest in &topology.guests {
        let disk = match &guest.kind {
            GuestKind::ExistingDisk { disk, .. } => Some(disk),
            GuestKind::Micro { .. } => None,
        };
        let known: Vec<_> = faults.iter().map(|fault| fault.at.clone()).collect();
        for named in [&guest.setup_script, &guest.run_script].into_iter().flatten().chain(disk).filter(|named| !known.contains(&named.at)) {
            if let Err(fault) = (Places { project, allowed: Vec::new() }).open(&named.path) {
                faults.push(diagnostic(guest, named, fault));
            }
        }
    }
    for fault in faults.iter_mut().filter(|fault| matches!(fault.code.as_str(), "E072" | "E076")) {
        fault.severity = Severity::Warning;
        fault.code = "W006".to_string();
        fault.hint = Some("only the server can say whether it may use this file".to_string());
    }
    faults
}

impl Places<'_> {
    /// Opens a file for reading; returns it with its path, links resolved.
    fn open(&self, written: &str) -> Result<(File, PathBuf), Fault> {
        let shown = printable(written);
        let plain = match written.strip_prefix("${PWD}") {
            Some(rest) => format!("./{}", rest.trim_start_matches('/')),
            None => written.to_string(),
        };
        let plain = Path::new(&plain);
        let inner = plain.strip_prefix(self.project).unwrap_or(plain);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = if inner.is_absolute() { Err(Errno::XDEV) } else { self.open_inside(inner, flags) };
        let opened = match opened {
            Err(Errno::XDEV) => self.open_allowed(&self.project.join(plain), flags),
            other => other,
        };
        let file = File::from(opened.map_err(|error| fault_of(error, &shown, self))?);
        let found = file.metadata().map_err(|error| Fault("E074", format!("`{shown}` cannot be read: {error}"), None))?;
        if !found.is_file() {
            return Err(Fault("E071", format!("`{shown}` is not a regular file"), None));
        }
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let path = path.map_err(|error| Fault("E074", format!("`{shown}` cannot be found again: {error}"), None))?;
        Ok((file, path))
    }

    fn open_inside(&self, inner: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let project = rustix::fs::open(self.project, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::fs::openat2(&project, inner, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
    }

    /// Opens a file whose real path lies below an allowed folder.
    fn open_allowed(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let real = path.canonicalize().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        for allowed in &self.allowed {
            let Ok(allowed) = allowed.canonicalize() else { continue };
            let Ok(inner) = real.strip_prefix(&allowed) else { continue };
            let folder = rustix::fs::open(&allowed, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            return rustix::fs::openat2(&folder, inner, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS);
        }
        Err(Errno::XDEV)
    }
}

fn fault_of(error: Errno, shown: &str, places: &Places<'_>) -> Fault {
    match error {
        Errno::NOENT | Errno::NOTDIR => {
            let hint = format!("paths are relative to the project's folder `{}`", places.project.display());
            Fault("E070", format!("there is no file `{shown}`"), Some(hint))
        }
        Errno::XDEV | Errno::LOOP => Fault(
            "E072",
            format!("`{shown}` lies outside the project's folder"),
            Some("move it into the project, or let the operator allow its folder in the server's settings".to_string()),
        ),
        Errno::ACCESS | Errno::PERM => Fault("E076", format!("`{shown}` may not be read by this user"), None),
        // A socket or a device without a driver cannot even be opened.
        Errno::NXIO => Fault("E071", format!("`{shown}` is not a regular file"), None),
        error => Fault("E074", format!("`{shown}` cannot be read: {}", std::io::Error::from(error)), None),
    }
}

fn read_script(mut file: &File, written: &str) -> Result<String, Fault> {
    let shown = printable(written);
    let mut bytes = Vec::new();
    let read = file.by_ref().take(LONGEST_SCRIPT + 1).read_to_end(&mut bytes);
    read.map_err(|error| Fault("E074", format!("`{shown}` cannot be read: {error}"), None))?;
    if bytes.len() as u64 > LONGEST_SCRIPT {
        return Err(Fault("E074", format!("script `{shown}` is larger than 1 MiB"), None));
    }
    String::from_utf8(bytes).map_err(|_| Fault("E074", format!("script `{shown}` is not UTF-8 text"), None))
}

fn read_disk(file: &File, path: PathBuf, written: &str, format: DiskFormat) -> Result<DiskFile, Fault> {
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

fn diagnostic(guest: &Guest, named: &FileRef, Fault(code, message, hint): Fault) -> Diagnostic {
    let width = u32::try_from(named.path.chars().count()).unwrap_or(1);
    Diagnostic {
        severity: Severity::Error,
        code: code.to_string(),
        message: format!("guest `{}`: {message}", guest.name),
        at: named.at.clone(),
        width,
        source: named.source.clone(),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn qcow2(backing: u64, features: u64) -> Vec<u8> {
        let mut header = vec![0; 200];
        header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        header[8..16].copy_from_slice(&backing.to_be_bytes());
        header[72..80].copy_from_slice(&features.to_be_bytes());
        header
    }

    #[test]
    fn a_path_leads_only_where_it_may() {
        let outside = tempfile::tempdir().expect("a folder");
        let (project, images, secret) = (outside.path().join("project"), outside.path().join("images"), outside.path().join("secret"));
        fs::create_dir(&project).expect("made");
        fs::create_dir(&images).expect("made");
        fs::create_dir(project.join("sub")).expect("made");
        for file in [project.join("sub/x"), images.join("x"), secret.clone()] {
            fs::write(file, b"x").expect("written");
        }
        symlink(&secret, project.join("out")).expect("linked");
        symlink("sub/x", project.join("in")).expect("linked");
        symlink(images.join("x"), project.join("image")).expect("linked");
        symlink(&secret, images.join("out")).expect("linked");
        rustix::fs::mknodat(rustix::fs::CWD, project.join("fifo"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).expect("a fifo");
        let places = Places { project: &project, allowed: vec![&images] };
        let text = |path: &Path| path.to_str().expect("UTF-8").to_string();
        for good in [
            "sub/x",
            "./sub/../sub/x",
            "in",
            "image",
            "${PWD}/sub/x",
            &text(&project.join("sub/x")),
            &text(&images.join("x")),
            "../images/x",
        ] {
            let opened = places.open(good).map(|(_, path)| path.ends_with("x"));
            assert!(opened.unwrap_or_else(|fault| panic!("{good}: {}", fault.1)), "{good}");
        }
        for (bad, code) in [
            ("none", "E070"),
            ("sub", "E071"),
            ("fifo", "E071"),
            ("/dev/null", "E072"),
            ("out", "E072"),
            ("../secret", "E072"),
            ("/etc/passwd", "E072"),
            ("../images/out", "E072"),
            ("/proc/self/environ", "E072"),
            ("${PWD}/../secret", "E072"),
        ] {
            assert_eq!(places.open(bad).map(|_| ()).map_err(|fault| fault.0), Err(code), "{bad}");
        }
    }

    #[test]
    fn without_a_server_what_is_missing_is_an_error_and_what_lies_elsewhere_a_warning() {
        let outside = tempfile::tempdir().expect("a folder");
        let project = outside.path().join("project");
        fs::create_dir(&project).expect("made");
        for file in [project.join("here.sh"), outside.path().join("there.sh")] {
            fs::write(file, b"echo").expect("written");
        }
        let check = |script: &str| {
            let machine = format!("  - {{name: a, micro: {{setup_script: {script}}}, network: [{{switch: lan}}]}}\n");
            let text = format!("machines:\n{machine}network: {{ovn: {{switches: {{lan: {{subnet: 10.0.0.0/24}}}}}}}}\n");
            let name = crate::names::DeploymentName::new("lab").expect("valid");
            let loaded = crate::topology::load("x.yaml", &text, &name, &Default::default()).expect("it loads");
            check(&loaded.topology, &project).into_iter().map(|fault| (fault.code, fault.severity, fault.at.line)).collect::<Vec<_>>()
        };
        assert_eq!(check("here.sh"), []);
        assert_eq!(check("none.sh"), [("E070".to_string(), Severity::Error, 2)]);
        assert_eq!(check("../there.sh"), [("W006".to_string(), Severity::Warning, 2)]);
        assert_eq!(check("../none.sh"), [("E070".to_string(), Severity::Error, 2)]);
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
            read_script(&File::open(&path).expect("open"), "script").map_err(|fault| fault.1)
        };
        assert_eq!(check(b"echo").as_deref(), Ok("echo"));
        assert!(check(&[0xff]).is_err_and(|text| text.contains("UTF-8")));
        assert!(check(&vec![b'x'; (1 << 20) + 1]).is_err_and(|text| text.contains("1 MiB")));
    }
}
