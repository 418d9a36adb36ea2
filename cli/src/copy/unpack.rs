//! Unpacks what came from a guest, below one folder of this machine and never beside it.
//!
//! The archive is a stranger's: every name is looked up from that folder on, without leaving it and without following a link
//! (openat2(2)), so neither `..` nor a link that was unpacked before leads out. Devices and pipes are left out, and files are not
//! setuid.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use kvm_compose::{
    error::{Code, Problem},
    names::printable,
};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use tar::EntryType;

use super::Tally;

/// Runs of zeros of this length become holes.
const BLOCK: usize = 4096;
/// Read at once.
const CHUNK: usize = 256 << 10;
/// Folders may be nested this deep.
const DEEPEST: usize = 256;

/// Where it goes.
pub struct Target<'a> {
    /// The folder that holds it, which is there.
    pub folder: &'a Path,
    /// Its name in it; none puts what is in the guest's folder right there.
    pub name: Option<&'a OsStr>,
    /// All names in the archive begin with the name of what was packed.
    pub is_named: bool,
}

/// Unpacks an archive.
pub fn unpack(target: &Target<'_>, archive: impl Read, tally: &Tally) -> Result<(), Problem> {
    let shown = || printable(&target.folder.to_string_lossy());
    let opened = rustix::fs::open(target.folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let base = opened.map_err(|error| Problem::io(format_args!("the folder `{}` cannot be opened", shown()), &error.into()))?;
    let mut below = Below { base, target, folders: Vec::new(), tally };
    let torn = |error: io::Error| Problem::new(Code::Interrupted, "what came from the guest breaks off").cause(error);
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(torn)? {
        let mut entry = entry.map_err(torn)?;
        below.take(&mut entry)?;
    }
    below.finish()
}

/// A folder and what is put below it.
struct Below<'a> {
    base: OwnedFd,
    target: &'a Target<'a>,
    /// Folders that came, with their modes and times, which are set last.
    folders: Vec<(PathBuf, u32, u64)>,
    tally: &'a Tally,
}

fn refused(name: &Path, why: &str) -> Problem {
    Problem::new(Code::Forbidden, format!("what came from the guest is refused: `{}` {why}", printable(&name.to_string_lossy())))
        .hint("nothing was written outside the target; look at the guest, it sends what no `tar` makes by itself")
}

impl Below<'_> {
    /// Where a name of the archive leads, from the base on; nothing for the base itself.
    fn place(&self, name: &Path) -> Result<Option<PathBuf>, Problem> {
        let mut parts: Vec<&OsStr> = Vec::new();
        for part in name.components() {
            match part {
                Component::Normal(part) => parts.push(part),
                Component::CurDir => {}
                _ => return Err(refused(name, "leads out of it")),
            }
        }
        if parts.len() > DEEPEST {
            return Err(refused(name, "is nested too deep"));
        }
        let skipped = usize::from(self.target.is_named && !parts.is_empty());
        let own = self.target.name.into_iter().chain(parts.into_iter().skip(skipped));
        let place: PathBuf = own.collect();
        Ok((!place.as_os_str().is_empty()).then_some(place))
    }

    fn take<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), Problem> {
        let unreadable = |error: io::Error| Problem::new(Code::Interrupted, "what came from the guest cannot be read").cause(error);
        let name = entry.path().map_err(unreadable)?.into_owned();
        let Some(place) = self.place(&name)? else { return Ok(()) };
        let mode = entry.header().mode().map_err(unreadable)? & 0o777;
        let changed = entry.header().mtime().unwrap_or_default();
        match entry.header().entry_type() {
            EntryType::Directory => {
                drop(self.folder(&place, &name)?);
                self.folders.push((place, mode, changed));
                Ok(())
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.file(entry, &place, (mode, changed)),
            EntryType::Symlink => {
                let to = entry.link_name().map_err(unreadable)?.ok_or_else(|| refused(&name, "is a link to nothing"))?;
                let (parent, last) = self.make_room(&place, &name)?;
                let made = rustix::fs::symlinkat(to.as_ref(), &parent, &last);
                self.tally.file();
                made.map_err(|error| failed(&place, &error.into()))
            }
            EntryType::Link => {
                let to = entry.link_name().map_err(unreadable)?.ok_or_else(|| refused(&name, "is a link to nothing"))?;
                let Some(there) = self.place(&to)? else { return Err(refused(&name, "is a link to a folder")) };
                let (from, named) = self.parent(&there, &name)?;
                let (parent, last) = self.make_room(&place, &name)?;
                self.tally.file();
                rustix::fs::linkat(&from, &named, &parent, &last, AtFlags::empty()).map_err(|error| failed(&place, &error.into()))
            }
            EntryType::Block | EntryType::Char | EntryType::Fifo => {
                self.tally.skip();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn file<R: Read>(&self, entry: &mut tar::Entry<'_, R>, place: &Path, (mode, changed): (u32, u64)) -> Result<(), Problem> {
        let (parent, last) = self.make_room(place, place)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&parent, &last, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(made.map_err(|error| failed(place, &error.into()))?);
        let size = entry.size();
        let written = fill(&mut file, entry, self.tally).and_then(|length| {
            if length != size {
                return Err(io::Error::other(format!("it breaks off after {length} of {size} bytes")));
            }
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
            rustix::fs::futimens(&file, &times(changed))?;
            Ok(())
        });
        self.tally.file();
        written.map_err(|error| {
            // Half a file is none.
            rustix::fs::unlinkat(&parent, &last, AtFlags::empty()).ok();
            failed(place, &error)
        })
    }

    /// The folder that holds a place, and its name in it; folders that are missing are made.
    fn parent(&self, place: &Path, name: &Path) -> Result<(OwnedFd, OsString), Problem> {
        let last = place.file_name().ok_or_else(|| refused(name, "has no name"))?.to_os_string();
        let folder = place.parent().unwrap_or(Path::new(""));
        Ok((self.folder(folder, name)?, last))
    }

    /// The same, with nothing at the place any more but a folder, which is refused.
    fn make_room(&self, place: &Path, name: &Path) -> Result<(OwnedFd, OsString), Problem> {
        let (parent, last) = self.parent(place, name)?;
        match rustix::fs::unlinkat(&parent, &last, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok((parent, last)),
            Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => Err(Problem::new(
                Code::Conflict,
                format!("there is a folder `{}` where a file would go", printable(&place.to_string_lossy())),
            )
            .hint("move it away, or copy to another place")),
            Err(error) => Err(failed(place, &error.into())),
        }
    }

    /// Opens a folder below the base, and makes what is missing of it.
    fn folder(&self, folder: &Path, name: &Path) -> Result<OwnedFd, Problem> {
        match self.open(folder) {
            Err(rustix::io::Errno::NOENT) => {}
            other => return other.map_err(|error| in_the_way(folder, name, error)),
        }
        let mut done = PathBuf::new();
        for part in folder.components() {
            let parent = self.open(&done).map_err(|error| in_the_way(&done, name, error))?;
            done.push(part);
            match rustix::fs::mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(failed(&done, &error.into())),
            }
        }
        self.open(folder).map_err(|error| in_the_way(folder, name, error))
    }

    fn open(&self, folder: &Path) -> rustix::io::Result<OwnedFd> {
        if folder.as_os_str().is_empty() {
            return rustix::io::fcntl_dupfd_cloexec(self.base.as_fd(), 3);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.base, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// Sets what would have been in the way, or changed, while files came.
    fn finish(&self) -> Result<(), Problem> {
        for (folder, mode, changed) in self.folders.iter().rev() {
            let opened = self.open(folder).map_err(|error| in_the_way(folder, folder, error))?;
            let read = rustix::fs::openat(&opened, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            let set = read.and_then(|read| {
                rustix::fs::fchmod(&read, Mode::from_raw_mode(*mode))?;
                rustix::fs::futimens(&read, &times(*changed))
            });
            set.map_err(|error| failed(folder, &error.into()))?;
        }
        Ok(())
    }
}

fn in_the_way(folder: &Path, name: &Path, error: rustix::io::Errno) -> Problem {
    match error {
        rustix::io::Errno::LOOP | rustix::io::Errno::XDEV | rustix::io::Errno::NOTDIR => {
            let folder = printable(&folder.to_string_lossy());
            refused(name, &format!("would go through `{folder}`, which is a link or no folder"))
        }
        other => failed(folder, &other.into()),
    }
}

fn failed(place: &Path, error: &io::Error) -> Problem {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let code = if full { Code::DiskFull } else { Code::Storage };
    let code = if error.kind() == io::ErrorKind::Other { Code::Interrupted } else { code };
    Problem::new(code, format!("cannot write `{}`", printable(&place.to_string_lossy()))).cause(error)
}

fn times(changed: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(changed).unwrap_or_default(), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Writes a file with holes where it is zero; returns its length.
fn fill(file: &mut File, from: &mut impl Read, tally: &Tally) -> io::Result<u64> {
    let (mut chunk, mut end) = (vec![0; CHUNK], 0u64);
    loop {
        let mut filled = 0;
        while filled < CHUNK {
            match from.read(&mut chunk[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        for block in chunk[..filled].chunks(BLOCK) {
            if block.iter().all(|byte| *byte == 0) {
                file.seek(SeekFrom::Current(block.len() as i64))?;
            } else {
                file.write_all(block)?;
            }
        }
        end += filled as u64;
        tally.bytes(filled);
        if filled < CHUNK {
            return file.set_len(end).map(|()| end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o4751);
            header.set_mtime(1_000_000_000);
            let data = if *kind == EntryType::Regular { content.as_bytes() } else { b"" };
            header.set_size(data.len() as u64);
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                header.as_gnu_mut().expect("GNU").linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            // By hand: the library refuses to write what this is about.
            header.as_gnu_mut().expect("GNU").name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, data).expect("appended");
        }
        builder.into_inner().expect("whole")
    }

    fn into(folder: &Path, name: Option<&str>, entries: &[(EntryType, &str, &str)]) -> Result<Tally, Problem> {
        let tally = Tally::default();
        let target = Target { folder, name: name.map(OsStr::new), is_named: true };
        unpack(&target, archive(entries).as_slice(), &tally).map(|()| tally)
    }

    #[test]
    fn nothing_is_written_outside_whatever_the_archive_says() {
        use EntryType::{Directory, Link, Regular, Symlink};
        let cases: &[&[(EntryType, &str, &str)]] = &[
            &[(Regular, "site/../../evil", "x")],
            &[(Regular, "/site/evil", "x")],
            &[(Regular, "..", "x")],
            &[(Directory, "site", ""), (Symlink, "site/out", "../.."), (Regular, "site/out/evil", "x")],
            &[(Symlink, "site", "/tmp"), (Regular, "site/evil", "x")],
            &[(Directory, "site", ""), (Symlink, "site/a", "/"), (Directory, "site/a/tmp/evil", "")],
            &[(Directory, "site", ""), (Link, "site/mine", "../outside/secret")],
            &[(Directory, "site", ""), (Symlink, "site/d", "/"), (Link, "site/mine", "site/d/etc/passwd")],
        ];
        for entries in cases {
            let lab = tempfile::tempdir().expect("a folder");
            std::fs::create_dir(lab.path().join("outside")).expect("made");
            std::fs::write(lab.path().join("outside/secret"), "secret").expect("written");
            let folder = lab.path().join("inside");
            std::fs::create_dir(&folder).expect("made");
            let problem = into(&folder, Some("site"), entries).expect_err("refused");
            assert_eq!(problem.code, Code::Forbidden, "{entries:?}: {problem:?}");
            let beside: Vec<_> =
                std::fs::read_dir(lab.path()).expect("readable").map(|entry| entry.expect("an entry").file_name()).collect();
            assert_eq!(beside.len(), 2, "{entries:?}: {beside:?}");
            assert_eq!(std::fs::read_dir(lab.path().join("outside")).expect("readable").count(), 1);
            assert!(!Path::new("/tmp/evil").exists());
        }
    }

    #[test]
    fn a_link_that_was_there_is_not_followed_but_replaced() {
        use EntryType::{Directory, Regular};
        let lab = tempfile::tempdir().expect("a folder");
        let victim = lab.path().join("victim");
        std::fs::write(&victim, "mine").expect("written");
        symlink(&victim, lab.path().join("file")).expect("linked");
        into(lab.path(), Some("file"), &[(Regular, "file", "theirs")]).expect("unpacked");
        assert_eq!(std::fs::read_to_string(&victim).expect("there"), "mine");
        assert_eq!(std::fs::read_to_string(lab.path().join("file")).expect("there"), "theirs");
        // Nor a link to a folder that stands where a folder would go.
        symlink("/tmp", lab.path().join("folder")).expect("linked");
        into(lab.path(), Some("folder"), &[(Directory, "folder", ""), (Regular, "folder/evil", "x")]).expect_err("refused");
        assert!(!Path::new("/tmp/evil").exists());
        // A folder is never taken away for a file.
        std::fs::create_dir(lab.path().join("kept")).expect("made");
        assert_eq!(into(lab.path(), Some("kept"), &[(Regular, "kept", "x")]).expect_err("refused").code, Code::Conflict);
    }

    #[test]
    fn names_modes_times_links_and_holes_arrive() {
        use EntryType::{Block, Directory, Fifo, Link, Regular, Symlink};
        let lab = tempfile::tempdir().expect("a folder");
        let zeros = "\0".repeat(600_000) + "end";
        let entries = [
            (Directory, "site", ""),
            (Regular, "site/a", "content"),
            (Symlink, "site/b", "../anywhere"),
            (Link, "site/c", "site/a"),
            (Regular, "site/deep/er/d", zeros.as_str()),
            (Fifo, "site/pipe", ""),
            (Block, "site/disk", ""),
        ];
        let tally = into(lab.path(), Some("renamed"), &entries).expect("unpacked");
        let at = |name: &str| lab.path().join("renamed").join(name);
        let seen = std::fs::metadata(at("a")).expect("there");
        assert_eq!((seen.permissions().mode() & 0o7777, seen.mtime(), seen.nlink()), (0o751, 1_000_000_000, 2), "no setuid");
        assert_eq!(std::fs::metadata(at("")).expect("there").mtime(), 1_000_000_000);
        assert_eq!(std::fs::read_link(at("b")).expect("a link"), Path::new("../anywhere"));
        assert_eq!(std::fs::read(at("deep/er/d")).expect("there"), zeros.as_bytes());
        let sparse = std::fs::metadata(at("deep/er/d")).expect("there");
        assert!(sparse.blocks() * 512 < 100_000, "{}", sparse.blocks());
        let copied = tally.copied(1.0);
        assert_eq!((copied.files, copied.bytes, copied.skipped), (4, 600_010, 2));
        // What is in a folder, without the folder.
        into(&at(""), None, &[(Directory, "site", ""), (Regular, "site/new", "x")]).expect("unpacked");
        assert!(at("new").exists());
        // One that breaks off is told.
        let whole = archive(&[(Regular, "site", &"x".repeat(5000))]);
        let target = Target { folder: lab.path(), name: Some(OsStr::new("cut")), is_named: true };
        unpack(&target, &whole[..2000], &Tally::default()).expect_err("it breaks off");
        assert!(!lab.path().join("cut").exists());
    }
}
