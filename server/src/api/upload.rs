//! A project as a tar archive, unpacked below the deployment's folder.
//!
//! The archive is a stranger's: only regular files and folders, only plain relative names, sizes counted while unpacking.
//! The old project is replaced only by a whole new one.

use std::{
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
    error::{Code, Problem},
    names::{DeploymentName, printable},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    app::{App, blocking},
    data::make_folder,
    error::{Answer, problem_of_status},
    store::atomic,
};

/// All files together may be this large.
const LARGEST: u64 = 2 * 1024 * 1024 * 1024;

/// Files and folders together may be this many.
const MOST: usize = 100_000;

/// Folders may be nested this deep.
const DEEPEST: usize = 64;

/// True when the body is said to be a tar archive.
pub fn is_archive(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| matches!(kind.as_bytes(), b"application/x-tar" | b"application/tar"))
}

/// Unpacks the body as the deployment's project.
pub async fn receive(app: &App, name: &DeploymentName, request: Request) -> Answer<()> {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(4);
    let (data, name) = (app.data.clone(), name.clone());
    let unpacking = tokio::spawn(blocking(move || {
        make_folder(&data.deployment(&name), 0o711)?;
        let fresh = data.deployment(&name).join(format!(".project-{}", Uuid::new_v4()));
        make_folder(&fresh, 0o711)?;
        let done = unpack(Body { receiver, rest: Bytes::new() }, &fresh).and_then(|()| replace(&fresh, &data.project(&name)));
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

fn unpack(body: impl Read, folder: &Path) -> Result<(), Problem> {
    let torn = |error: io::Error| refused("it cannot be read to its end").cause(error);
    let mut archive = tar::Archive::new(body);
    let (mut size, mut count) = (0u64, 0usize);
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
                size = size.saturating_add(entry.size());
                if size > LARGEST {
                    return Err(too_large(format_args!("more than {LARGEST} bytes")));
                }
                write(&mut entry, &target)?;
            }
            kind => return Err(refused(format_args!("`{shown}` is neither a file nor a folder ({kind:?})"))),
        }
    }
    if count == 0 {
        return Err(refused("it is empty"));
    }
    Ok(())
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
