//! A project as a tar archive, unpacked below the deployment's folder.
//!
//! The archive is a stranger's: only regular files and folders, only plain relative names, sizes counted while unpacking.
//! The old project is replaced only by a whole new one. An export says in front what it holds: then every file must be there,
//! byte for byte, and no other.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
};

use axum::{
    body::Bytes,
    extract::Request,
    http::{StatusCode, header},
};
use futures_util::StreamExt as _;
use kvm_compose::{
    api::{
        Composition, ExportManifest, ExportedFile,
        export::{COMPOSITION, FOLDER, MANIFEST, VERSION},
    },
    error::{Code, Problem},
    names::{DeploymentName, printable},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    app::{App, blocking},
    data::make_folder,
    error::{Answer, problem_of_status},
    operations::export::Summed,
    store::atomic,
};

/// All files together may be this large.
const LARGEST: u64 = 2 * 1024 * 1024 * 1024;

/// An export may leave this much of the disk free.
const KEPT_FREE: u64 = 1 << 30;

/// A longer description of an export is refused: that of 100,000 files is shorter.
const LARGEST_DESCRIPTION: u64 = 64 << 20;

/// Files and folders together may be this many.
const MOST: usize = 100_000;

/// Folders may be nested this deep.
const DEEPEST: usize = 64;

/// True when the body is said to be a tar archive.
pub fn is_archive(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| matches!(kind.as_bytes(), b"application/x-tar" | b"application/tar"))
}

/// Unpacks the body as the deployment's project; returns what an export was read with beside its files.
pub async fn receive(app: &App, name: &DeploymentName, request: Request) -> Answer<Composition> {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(4);
    let (data, name) = (app.data.clone(), name.clone());
    let unpacking = tokio::spawn(blocking(move || {
        make_folder(&data.deployment(&name), 0o711)?;
        let fresh = data.deployment(&name).join(format!(".project-{}", Uuid::new_v4()));
        make_folder(&fresh, 0o711)?;
        let unpacked = unpack(Body { receiver, rest: Bytes::new() }, &fresh).and_then(|files| exported(&fresh, files));
        let done = unpacked.and_then(|composition| replace(&fresh, &data.project(&name)).map(|()| composition));
        if done.is_err()
            && let Err(error) = fs::remove_dir_all(&fresh)
        {
            tracing::warn!(folder = %fresh.display(), %error, "cannot remove what was unpacked of a refused upload");
        }
        done
    }));
    let mut body = request.into_body().into_data_stream();
    while let Some(chunk) = body.next().await {
        // The other end stops listening as soon as it refuses the archive.
        if sender.send(chunk.map_err(io::Error::other)).await.is_err() {
            break;
        }
    }
    drop(sender);
    let done = unpacking.await.map_err(|error| Problem::internal("the unpacking ended early").cause(error))?;
    Ok(done?)
}

/// The body as a blocking reader.
struct Body {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

fn refused(what: impl std::fmt::Display) -> Problem {
    Problem::new(Code::BadRequest, format!("the archive is refused: {what}"))
}

/// Unpacks an archive; returns what was written, by path.
fn unpack(body: impl Read, folder: &Path) -> Result<BTreeMap<String, ExportedFile>, Problem> {
    let torn = |error: io::Error| refused("it cannot be read to its end").cause(error);
    let mut archive = tar::Archive::new(body);
    let (mut size, mut count, mut files) = (0u64, 0usize, BTreeMap::new());
    let mut largest = LARGEST;
    for entry in archive.entries().map_err(torn)? {
        let mut entry = entry.map_err(torn)?;
        count += 1;
        if count > MOST {
            return Err(too_large(format_args!("more than {MOST} files")));
        }
        let written = entry.path().map_err(torn)?.into_owned();
        let shown = printable(&written.to_string_lossy());
        let Some(plain) = plain(&written) else { return Err(refused(format_args!("`{shown}` leads out of the project"))) };
        let target = folder.join(&plain);
        match entry.header().entry_type() {
            tar::EntryType::Directory => {
                if !plain.as_os_str().is_empty() {
                    make_folder(&target, 0o755)?;
                }
            }
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                // What says in front how much it will be may be as much as there is room for: it has disks.
                if count == 1 && plain == Path::new(MANIFEST) {
                    largest = LARGEST.max(room(folder)?);
                }
                size = size.saturating_add(entry.size());
                if size > largest {
                    return Err(too_large(format_args!("more than {largest} bytes")));
                }
                let mut read = Summed::new(&mut entry);
                write(&mut read, &target)?;
                files.insert(plain.to_string_lossy().into_owned(), read.sum());
            }
            kind => return Err(refused(format_args!("`{shown}` is neither a file nor a folder ({kind:?})"))),
        }
    }
    if count == 0 {
        return Err(refused("it is empty"));
    }
    Ok(files)
}

/// How many bytes may be written below a folder, so that the server itself still has room.
fn room(folder: &Path) -> Result<u64, Problem> {
    let found = rustix::fs::statvfs(folder).map_err(|error| Problem::io("the free space cannot be asked for", &error.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize).saturating_sub(KEPT_FREE))
}

/// Holds an export against its own description, and takes what is not the project's out of the folder. An archive without a
/// description is somebody's project, as it is.
fn exported(folder: &Path, mut files: BTreeMap<String, ExportedFile>) -> Result<Composition, Problem> {
    let Some(said) = files.remove(MANIFEST) else { return Ok(Composition::default()) };
    if said.bytes > LARGEST_DESCRIPTION {
        return Err(refused("its description is too long"));
    }
    let read =
        |path: &str| fs::read(folder.join(path)).map_err(|error| Problem::io(format_args!("cannot read `{path}` of the archive"), &error));
    let version: serde_json::Value =
        serde_json::from_slice(&read(MANIFEST)?).map_err(|error| refused("its description cannot be read").cause(error))?;
    if version["version"].as_u64().is_some_and(|version| version > u64::from(VERSION)) {
        return Err(refused("it was made by a newer version").hint("update this server"));
    }
    let manifest: ExportManifest =
        serde_json::from_value(version).map_err(|error| refused("its description cannot be read").cause(error))?;
    for (path, wanted) in &manifest.files {
        let shown = printable(path);
        match files.remove(path) {
            Some(found) if found == *wanted => {}
            Some(_) => return Err(refused(format_args!("`{shown}` is not what was exported: its content has changed"))),
            None => return Err(refused(format_args!("`{shown}` is missing"))),
        }
    }
    if let Some(path) = files.keys().next() {
        return Err(refused(format_args!("`{}` is in it, and its description does not say so", printable(path))));
    }
    let composition = match manifest.files.contains_key(COMPOSITION) {
        true => serde_json::from_slice(&read(COMPOSITION)?).map_err(|error| refused("its variables cannot be read").cause(error))?,
        false => Composition::default(),
    };
    let own = folder.join(FOLDER);
    fs::remove_dir_all(&own).map_err(|error| Problem::io(format_args!("cannot remove {}", own.display()), &error))?;
    Ok(composition)
}

fn too_large(what: impl std::fmt::Display) -> Problem {
    problem_of_status(StatusCode::PAYLOAD_TOO_LARGE, "").cause(what)
}

/// A relative path of plain names, or nothing.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) if !name.to_string_lossy().contains('\0') => plain.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (plain.components().count() <= DEEPEST).then_some(plain)
}

fn write(entry: &mut impl Read, target: &Path) -> Result<(), Problem> {
    let failed = |error: io::Error| Problem::io(format_args!("cannot write {}", target.display()), &error);
    if let Some(folder) = target.parent() {
        make_folder(folder, 0o755)?;
    }
    // A name that comes twice is refused: the first would be lost without a word.
    let mut file = fs::File::options().write(true).create_new(true).mode(0o644).open(target).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => refused(format_args!("`{}` is in it twice", printable(&target.to_string_lossy()))),
        _ => failed(error),
    })?;
    io::copy(entry, &mut file).map_err(failed)?;
    file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)
}

/// Puts the fresh project in the old one's place.
fn replace(fresh: &Path, project: &Path) -> Result<(), Problem> {
    let failed = |error: io::Error| Problem::io(format_args!("cannot replace the project {}", project.display()), &error);
    let old = project.with_file_name(format!(".project-{}", Uuid::new_v4()));
    let had_one = match fs::rename(project, &old) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(failed(error)),
    };
    fs::rename(fresh, project).map_err(failed)?;
    if let Some(parent) = project.parent() {
        atomic::sync_folder(parent).map_err(failed)?;
    }
    if had_one { fs::remove_dir_all(&old).map_err(failed) } else { Ok(()) }
}
