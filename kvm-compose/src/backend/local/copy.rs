//! Archives into guests of this host and out of them: a small one through the agent, a larger one over a disk that is lent to the
//! guest, a container's through Docker.
//!
//! Puts the parts together and decides which way an archive goes.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use uuid::Uuid;

use super::LocalHost;
use crate::{
    api::copy::{GuestPath, PathKind, PathSeen},
    backend::{Owner, files::folder::COPIES, hypervisor::lend},
    error::{Code, Problem},
    guest::copy::Guest,
    names::{DeploymentName, GuestName, domain_name},
    orchestrate::host::Cancel,
    plan::blueprint::Sum,
};

/// A larger archive goes into a guest over a disk.
const SMALL_IN: u64 = 64 << 10;
/// What takes more room than this comes out of a guest over a disk.
const SMALL_OUT: u64 = 4 << 20;
/// So much of the host's disk is left alone.
const SPARE: u64 = 1 << 30;
/// Read at once.
const CHUNK: usize = 256 << 10;

/// Files of copies that are under way.
static UNDER_WAY: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// Serial numbers of disks that are lent now.
static LENT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A file for an archive on its way; it goes when this is dropped.
#[derive(Debug)]
pub struct CopySpool {
    path: PathBuf,
    file: File,
    /// How long it may become.
    pub room: u64,
}

impl CopySpool {
    /// A file in a folder that has nothing but such files. What killed servers left in it goes first.
    pub fn in_folder(folder: &Path) -> Result<CopySpool, Problem> {
        let failed = |error: std::io::Error| Problem::io(format!("cannot make room for a copy in `{}`", folder.display()), &error);
        // QEMU's user passes through folders but does not list them.
        fs::DirBuilder::new().recursive(true).mode(0o711).create(folder).map_err(failed)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).map_err(failed)?;
        let mut under_way = UNDER_WAY.lock();
        for left in fs::read_dir(folder).map_err(failed)?.flatten().map(|entry| entry.path()).filter(|path| {
            // What comes from a master has another ending until it is whole.
            !under_way.contains(&path.with_extension(""))
        }) {
            tracing::info!(path = %left.display(), "removing what an interrupted copy left");
            fs::remove_file(&left).map_err(failed)?;
        }
        let path = folder.join(Uuid::new_v4().simple().to_string());
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        under_way.insert(path.clone());
        drop(under_way);
        let mut spool = CopySpool { path, file, room: 0 };
        spool.room = free(&spool.path)?.saturating_sub(SPARE);
        Ok(spool)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, open for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for CopySpool {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "what was copied stays on the disk");
            }
            _ => {}
        }
        UNDER_WAY.lock().remove(&self.path);
    }
}

impl LocalHost {
    /// A file for an archive of a deployment's guest.
    pub fn copy_spool(&self, deployment: &DeploymentName) -> Result<CopySpool, Problem> {
        CopySpool::in_folder(&self.deployments().join(deployment.as_str()).join(COPIES))
    }

    /// What is at a path in a guest; with `size` also how much.
    pub fn look_at_path(
        &self,
        deployment: &DeploymentName,
        guest: &GuestName,
        path: &GuestPath,
        size: bool,
        cancel: &Cancel,
    ) -> Result<PathSeen, Problem> {
        if let Some(container) = self.running_container(deployment, guest)? {
            return self.docker.look_at_path(&container, path);
        }
        self.within(deployment, guest, cancel)?.look(path, size)
    }

    /// Unpacks an archive into a folder of a guest.
    pub fn put_archive(
        &self,
        deployment: &DeploymentName,
        guest: &GuestName,
        folder: &GuestPath,
        archive: &CopySpool,
        cancel: &Cancel,
    ) -> Result<(), Problem> {
        let failed = |error: std::io::Error| Problem::io("cannot read an archive on its way", &error);
        if let Some(container) = self.running_container(deployment, guest)? {
            if self.docker.look_at_path(&container, folder)?.kind != PathKind::Folder {
                return Err(Problem::new(Code::NotFound, format!("there is no folder `{folder}` in guest `{guest}`")));
            }
            let file = File::open(&archive.path).map_err(failed)?;
            let scratch = archive.path.parent().map_or_else(tempfile::tempfile, tempfile::tempfile_in).map_err(failed)?;
            return self.docker.put_archive(&container, folder, &file, scratch, cancel);
        }
        let inside = self.within(deployment, guest, cancel)?;
        let length = archive.file.metadata().map_err(failed)?.len();
        if length <= SMALL_IN {
            let content = fs::read(&archive.path).map_err(failed)?;
            return inside.unpack(folder, &content);
        }
        // A disk ends with a whole sector.
        archive.file.set_len(length.next_multiple_of(512)).map_err(failed)?;
        self.with_disk(deployment, guest, &archive.path, true, |serial| inside.unpack_disk(folder, serial))
    }

    /// Packs a path of a guest; the archive goes to `write` piece by piece until it says that nobody reads.
    pub fn get_archive(
        &self,
        deployment: &DeploymentName,
        guest: &GuestName,
        path: &GuestPath,
        cancel: &Cancel,
        write: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), Problem> {
        let seen = self.look_at_path(deployment, guest, path, true, cancel)?;
        if seen.kind == PathKind::None {
            return Err(Problem::new(Code::NotFound, format!("there is no `{path}` in guest `{guest}`")));
        }
        if let Some(container) = self.running_container(deployment, guest)? {
            return self.docker.get_archive(&container, path, cancel, write);
        }
        let inside = self.within(deployment, guest, cancel)?;
        if seen.bytes <= SMALL_OUT
            && let Some(archive) = inside.pack(path)?
        {
            archive.chunks(CHUNK).all(write);
            return Ok(());
        }
        let spool = self.copy_spool(deployment)?;
        let failed = |error: std::io::Error| Problem::io("cannot read an archive on its way", &error);
        if spool.room < seen.bytes {
            let message = format!("the server has no room for `{path}` of guest `{guest}` on its way");
            return Err(Problem::new(Code::DiskFull, message).cause(format!("it takes {} MiB", seen.bytes >> 20)));
        }
        spool.file.set_len((spool.room / 512) * 512).map_err(failed)?;
        self.with_disk(deployment, guest, &spool.path, false, |serial| inside.pack_disk(path, serial, seen.holes))?;
        let length = archive_length(&spool.file)?;
        let mut file = &spool.file;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let (mut rest, mut chunk) = (length, vec![0; CHUNK]);
        while rest > 0 {
            cancel.check()?;
            let most = chunk.len().min(usize::try_from(rest).unwrap_or(CHUNK));
            let count = file.read(&mut chunk[..most]).map_err(failed)?;
            if count == 0 || !write(&chunk[..count]) {
                return Ok(());
            }
            rest -= count as u64;
        }
        Ok(())
    }

    /// Gets an archive from the master, for a guest of this host.
    pub fn fetch_archive(&self, deployment: &DeploymentName, sum: &Sum, cancel: &Cancel) -> Result<CopySpool, Problem> {
        let source = self.source.as_ref().ok_or_else(|| Problem::internal("this host has no master to get archives from"))?;
        let mut spool = self.copy_spool(deployment)?;
        let failed = |error: std::io::Error| Problem::io("cannot keep an archive on its way", &error);
        // The transfer makes a file of its own, and gives it the name when it is whole.
        fs::remove_file(&spool.path).map_err(failed)?;
        if let Err(problem) = source.fetch(sum, &spool.path, cancel, &|_| {}) {
            let part = spool.path.with_extension("part");
            if let Err(error) = fs::remove_file(&part) {
                tracing::debug!(path = %part.display(), %error, "nothing came of an archive");
            }
            return Err(problem);
        }
        spool.file = File::options().read(true).write(true).open(&spool.path).map_err(failed)?;
        Ok(spool)
    }

    fn within<'a>(&'a self, deployment: &DeploymentName, guest: &'a GuestName, cancel: &'a Cancel) -> Result<Guest<'a>, Problem> {
        let domain = self.config.installation.domain_uuid(deployment, guest);
        self.check_runs(deployment, guest, domain)?;
        Ok(Guest { hypervisor: &self.libvirt, guest: guest.as_str(), domain, cancel })
    }

    /// Lends a file to a guest as a disk while something is done with it.
    fn with_disk(
        &self,
        deployment: &DeploymentName,
        guest: &GuestName,
        file: &Path,
        read_only: bool,
        work: impl FnOnce(&str) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let (name, uuid) = (domain_name(deployment, guest), self.config.installation.domain_uuid(deployment, guest));
        let owner: Owner = self.owner(deployment);
        let (to, serial) = (lend::To { name: &name, uuid, owner: &owner }, lend::serial());
        LENT.lock().insert(serial.clone());
        let lent = self.libvirt.lend(to, file, &serial, read_only, &|serial| LENT.lock().contains(serial));
        let done = lent.map_err(|problem| self.reachable(problem)).and_then(|()| work(&serial));
        let back = self.libvirt.take_back(to, &serial);
        LENT.lock().remove(&serial);
        if let Err(problem) = &back {
            tracing::warn!(%guest, %problem, causes = ?problem.causes, "a lent disk stays with its guest; the next copy takes it back");
        }
        // Whoever reads what the guest wrote must know that it writes no more.
        if read_only { done } else { done.and(back) }
    }
}

/// Bytes free for us where a file lies.
fn free(path: &Path) -> Result<u64, Problem> {
    let found = rustix::fs::statvfs(path).map_err(|error| Problem::io("cannot ask for the disk's free space", &error.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The length of the archive at the beginning of a file, its end marker included. One that is cut short is a problem.
fn archive_length(file: &File) -> Result<u64, Problem> {
    const BLOCK: u64 = 512;
    let torn = |why: &dyn std::fmt::Display| Problem::new(Code::CommandFailed, "the guest's archive is not whole").cause(why);
    let mut reader = file;
    reader.seek(SeekFrom::Start(0)).map_err(|error| torn(&error))?;
    let mut archive = tar::Archive::new(reader);
    let mut end = 0;
    for entry in archive.entries_with_seek().map_err(|error| torn(&error))?.raw(true) {
        let entry = entry.map_err(|error| torn(&error))?;
        let size = entry.header().entry_size().map_err(|error| torn(&error))?;
        end = entry.raw_file_position() + size.next_multiple_of(BLOCK);
    }
    if end == 0 {
        return Err(torn(&"it is empty"));
    }
    let length = file.metadata().map_err(|error| torn(&error))?.len();
    if end + 2 * BLOCK > length {
        return Err(torn(&"it breaks off"));
    }
    Ok(end + 2 * BLOCK)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn an_archive_ends_where_it_says_and_not_with_its_disk() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(700);
        builder.append_data(&mut header, "x/".repeat(80) + "name", &[7u8; 700][..]).expect("appended");
        let archive = builder.into_inner().expect("whole");
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&archive).expect("written");
        file.set_len(10 << 20).expect("longer");
        assert_eq!(archive_length(&file).expect("whole"), archive.len() as u64);
        for cut in [600, 0] {
            file.set_len(cut).expect("shorter");
            archive_length(&file).expect_err("not whole");
        }
    }
}
