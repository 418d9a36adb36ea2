//! Reads the files that a testbed file names: scripts whole, of disks the header.
//!
//! A path may lead to the project's folder or to a folder that the operator allows, and nowhere else, whatever links say.
//! All faults are told at once, each at its place. Must not know what a script or disk is for.

pub mod carry;
mod content;

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    io::Errno,
};

use content::{read_disk, read_env_file, read_iso};

use crate::{
    catalogue::Catalogue,
    diagnostic::{Diagnostic, Severity},
    error::{Place, Problem},
    names::{GuestName, printable},
    plan::{blueprint::DiskFormat, site::ProjectFiles},
    topology::{Android, FileRef, GuestKind, Topology},
};

/// Where files may lie, and which images there are.
#[derive(Debug, Clone)]
pub struct Places<'a> {
    /// The project's folder.
    pub project: &'a Path,
    /// Folders outside of it that the operator allows.
    pub allowed: Vec<&'a Path>,
    /// The image catalogue; without one images are not looked for.
    pub catalogue: Option<&'a Catalogue>,
}

/// A fault of one file: its code, what is wrong, what to do.
struct Fault(&'static str, String, Option<String>);

/// What a file is named for.
#[derive(Clone, Copy)]
enum Use {
    Script,
    Disk(DiskFormat),
    Iso,
    EnvFile,
    /// A file or a folder.
    Tree,
    Folder,
    /// No file: a name of the catalogue.
    Image,
}

/// Every file that a topology names, with who names it. What several clones name is listed once.
fn named(topology: &Topology) -> Vec<(&GuestName, Use, &FileRef)> {
    let mut all: Vec<(&GuestName, Use, &FileRef)> = Vec::new();
    let mut seen = BTreeSet::new();
    let shared = topology.scaled.iter().filter_map(|scaled| Some((&scaled.machine, Use::Script, scaled.shared_setup.as_ref()?)));
    let of_guests = topology.guests.iter().flat_map(|guest| {
        let mut files: Vec<(Use, &FileRef)> = Vec::new();
        match &guest.kind {
            GuestKind::Micro { .. } | GuestKind::Android(Android::Made { .. }) => {}
            GuestKind::ExistingDisk { disk, format, .. } => files.push((Use::Disk(*format), disk)),
            // A name that is missing is a fault of the file's text.
            GuestKind::CloudImage { image, .. } if image.path.is_empty() => {}
            GuestKind::CloudImage { image, .. } => files.push((Use::Image, image)),
            GuestKind::IsoGuest { iso, .. } => files.push((Use::Iso, iso)),
            GuestKind::Docker(container) => {
                files.extend(container.env_file.iter().map(|file| (Use::EnvFile, file)));
                files.extend(container.volumes.iter().map(|mount| (Use::Tree, &mount.source)));
            }
            GuestKind::Android(Android::Existing { path }) => files.push((Use::Folder, path)),
        }
        files.extend(guest.context.iter().map(|context| (Use::Tree, context)));
        files.extend(guest.setup_scripts.iter().chain(&guest.run_scripts).map(|script| (Use::Script, script)));
        let who = guest.clone_of.as_ref().map_or(&guest.name, |clone| &clone.machine);
        files.into_iter().map(move |(what, file)| (who, what, file))
    });
    for (who, what, file) in shared.chain(of_guests) {
        if seen.insert(&file.at) {
            all.push((who, what, file));
        }
    }
    all
}

/// Reads every file that a topology names, or tells all faults.
pub fn read(topology: &Topology, places: &Places<'_>) -> Result<ProjectFiles, Vec<Diagnostic>> {
    let mut files = ProjectFiles::default();
    let mut faults = Vec::new();
    for (who, what, file) in named(topology) {
        if let Err(fault) = take(what, file, places, &mut files) {
            faults.push(diagnostic(who, file, fault));
        }
    }
    if faults.is_empty() { Ok(files) } else { Err(faults) }
}

fn take(what: Use, named: &FileRef, places: &Places<'_>, files: &mut ProjectFiles) -> Result<(), Fault> {
    let written = named.path.as_str();
    match what {
        Use::Script => {
            let text = places.open(written).and_then(|(file, _)| content::read_text(&file, written, "script"))?;
            files.scripts.insert(named.path.clone(), text);
        }
        Use::Disk(format) => {
            let disk = places.open(written).and_then(|(file, path)| read_disk(&file, path, written, format))?;
            files.disks.insert(named.path.clone(), disk);
        }
        Use::Iso => {
            let (file, path) = places.open(written)?;
            read_iso(&file, written)?;
            files.disks.insert(named.path.clone(), read_disk(&file, path, written, DiskFormat::Raw)?);
        }
        Use::EnvFile => {
            let text = places.open(written).and_then(|(file, _)| content::read_text(&file, written, "file"))?;
            files.env_files.insert(named.path.clone(), read_env_file(&text, written)?);
        }
        Use::Tree => {
            let found = places
                .find(written, false)
                .map_err(|Fault(code, message, hint)| Fault(code, message.replace("there is no file", "there is no file or folder"), hint));
            files.trees.insert(named.path.clone(), found?);
        }
        Use::Folder => places.find(written, true).map(|_| ())?,
        Use::Image => {
            if let Some((message, hint)) = places.catalogue.and_then(|catalogue| catalogue.fault(written)) {
                return Err(Fault("E077", message, Some(hint)));
            }
        }
    }
    Ok(())
}

/// The text of a file of the project's folder, `largest` bytes at most; the error says what is wrong, what to do, and whether
/// the file lies elsewhere.
pub fn read_text(project: &Path, path: &str, largest: u64) -> Result<String, (String, Option<String>, bool)> {
    let shown = printable(path);
    let opened = Places { project, allowed: Vec::new(), catalogue: None }.open(path);
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
pub fn check(topology: &Topology, project: &Path, catalogue: &Catalogue) -> Vec<Diagnostic> {
    let anywhere = Path::new("/");
    let mut faults = read(topology, &Places { project, allowed: vec![anywhere], catalogue: Some(catalogue) }).err().unwrap_or_default();
    let known: BTreeSet<Place> = faults.iter().map(|fault| fault.at.clone()).collect();
    for (who, what, file) in named(topology).into_iter().filter(|(_, _, file)| !known.contains(&file.at)) {
        let places = Places { project, allowed: Vec::new(), catalogue: None };
        let found = match what {
            Use::Image => Ok(()),
            Use::Tree | Use::Folder => places.find(&file.path, false).map(|_| ()),
            _ => places.open(&file.path).map(|_| ()),
        };
        if let Err(fault) = found {
            faults.push(diagnostic(who, file, fault));
        }
    }
    // What was imported has a name on the server alone.
    let is_unknown = |fault: &&mut Diagnostic| fault.code == "E077" && fault.message.contains("there is no image");
    for fault in faults.iter_mut().filter(is_unknown) {
        fault.severity = Severity::Warning;
        fault.code = "W006".to_string();
        fault.hint = fault.hint.take().map(|hint| format!("{hint}; only the server knows what was imported"));
    }
    for fault in faults.iter_mut().filter(|fault| matches!(fault.code.as_str(), "E072" | "E076")) {
        fault.severity = Severity::Warning;
        fault.code = "W006".to_string();
        fault.hint = Some("only the server can say whether it may use this file".to_string());
    }
    faults
}

/// Names of images that are not in the catalogue: what can be told of a text without its project.
pub fn check_images(topology: &Topology, catalogue: &Catalogue) -> Vec<Diagnostic> {
    let images = named(topology).into_iter().filter(|(_, what, _)| matches!(what, Use::Image));
    let fault = |(who, _, image): (&GuestName, Use, &FileRef)| {
        let (message, hint) = catalogue.fault(&image.path)?;
        Some(diagnostic(who, image, Fault("E077", message, Some(hint))))
    };
    images.filter_map(fault).collect()
}

/// The built-in image catalogue, extended by the files that are there; later ones take the place of earlier ones.
pub fn catalogue(files: &[PathBuf]) -> Result<Catalogue, Problem> {
    let mut catalogue = Catalogue::built_in()?;
    for file in files {
        match std::fs::read_to_string(file) {
            Ok(text) => catalogue = catalogue.extended(&text, &file.display().to_string())?,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(Problem::io(format_args!("cannot read {}", file.display()), &error)),
        }
    }
    Ok(catalogue)
}

/// The name of a file that extends the catalogue, in a configuration folder.
pub const CATALOGUE_FILE: &str = "images.toml";

/// The configuration folder of the machine, which server and `testbed` both read.
pub const MACHINE_CONFIG: &str = "/etc/testbedos";

impl Places<'_> {
    /// Opens a regular file for reading; returns it with its path, links resolved.
    fn open(&self, written: &str) -> Result<(File, PathBuf), Fault> {
        let shown = printable(written);
        let (file, path) = self.open_any(written)?;
        let found = file.metadata().map_err(|error| Fault("E074", format!("`{shown}` cannot be read: {error}"), None))?;
        if !found.is_file() {
            let hint = found.is_dir().then(|| "it is a folder; name a file".to_string());
            return Err(Fault("E071", format!("`{shown}` is not a regular file"), hint));
        }
        Ok((file, path))
    }

    /// Looks for a file or folder, or for a folder; returns its path, links resolved.
    fn find(&self, written: &str, folder: bool) -> Result<PathBuf, Fault> {
        let shown = printable(written);
        let (file, path) = self.open_any(written)?;
        let found = file.metadata().map_err(|error| Fault("E074", format!("`{shown}` cannot be read: {error}"), None))?;
        match found.is_dir() || (found.is_file() && !folder) {
            true => Ok(path),
            false => Err(Fault("E071", format!("`{shown}` is not a {}folder", if folder { "" } else { "regular file or a " }), None)),
        }
    }

    fn open_any(&self, written: &str) -> Result<(File, PathBuf), Fault> {
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

fn diagnostic(who: &GuestName, named: &FileRef, Fault(code, message, hint): Fault) -> Diagnostic {
    let width = u32::try_from(named.path.chars().count()).unwrap_or(1);
    Diagnostic {
        severity: Severity::Error,
        code: code.to_string(),
        message: format!("guest `{who}`: {message}"),
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
        let catalogue = Catalogue::built_in().expect("right");
        let places = Places { project: &project, allowed: vec![&images], catalogue: Some(&catalogue) };
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
            let catalogue = Catalogue::built_in().expect("right");
            check(&loaded.topology, &project, &catalogue)
                .into_iter()
                .map(|fault| (fault.code, fault.severity, fault.at.line))
                .collect::<Vec<_>>()
        };
        assert_eq!(check("here.sh"), []);
        assert_eq!(check("none.sh"), [("E070".to_string(), Severity::Error, 2)]);
        assert_eq!(check("../there.sh"), [("W006".to_string(), Severity::Warning, 2)]);
        assert_eq!(check("../none.sh"), [("E070".to_string(), Severity::Error, 2)]);
    }

    #[test]
    fn everything_a_guest_names_is_looked_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("html")).expect("made");
        fs::write(folder.path().join("good.env"), "A=1\n").expect("written");
        fs::write(folder.path().join("bad.env"), "A\n").expect("written");
        let catalogue = Catalogue::built_in().expect("right");
        let check = |machine: &str| {
            let text = format!("machines:\n  - {{name: a, {machine}}}\nnetwork: {{ovn: {{switches: {{}}}}}}\n");
            let name = crate::names::DeploymentName::new("lab").expect("valid");
            let loaded = crate::topology::load("x.yaml", &text, &name, &Default::default()).unwrap_or_else(|problem| panic!("{problem:?}"));
            let faults = check(&loaded.topology, folder.path(), &catalogue);
            faults.into_iter().map(|fault| (fault.code, fault.severity == Severity::Error)).collect::<Vec<_>>()
        };
        let error = |code: &str| vec![(code.to_string(), true)];
        let docker = |rest: &str| check(&format!("docker: {{image: x, scaling: {{count: 3}}, {rest}}}"));
        assert_eq!(docker("env_file: good.env, volumes: [{source: '${PWD}/html', target: /a}, {source: good.env, target: /b}]"), []);
        assert_eq!(docker("env_file: bad.env"), error("E078"));
        assert_eq!(docker("env_file: html"), error("E071"));
        assert_eq!(docker("volumes: [{source: none, target: /a}]"), error("E070"));
        assert_eq!(docker("volumes: [{source: /etc, target: /a}]"), [("W006".to_string(), false)]);
        let libvirt = |kind: &str| check(&format!("libvirt: {{cpus: 1, memory_mb: 64, libvirt_type: {kind}}}"));
        assert_eq!(libvirt("{cloud_image: {name: ubuntu_20_04, context: html}}"), []);
        assert_eq!(libvirt("{cloud_image: {name: ubuntu_2004}}"), [("W006".to_string(), false)]);
        assert_eq!(libvirt("{cloud_image: {name: micro}}"), error("E077"));
        assert_eq!(libvirt("{cloud_image: {name: fedora, context: none}}"), error("E070"));
        assert_eq!(libvirt("{iso_guest: {path: good.env}}"), error("E079"));
        assert_eq!(
            check(
                "libvirt: {cpus: 1, memory_mb: 64, libvirt_type: {cloud_image: {name: fedora}}, scaling: {count: 2, shared_setup: none, clone_run: [{script: none}]}}"
            ),
            [error("E070"), error("E070")].concat()
        );
        assert_eq!(check("android: {existing_avd: {path: good.env}}"), error("E071"));
        assert_eq!(check("android: {existing_avd: {path: html}}"), []);
    }
}
