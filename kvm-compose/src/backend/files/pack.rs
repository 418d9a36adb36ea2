//! A file or folder as one tar stream: the same names, contents and modes always give the same bytes.
//!
//! Owners and dates are left out: they say when and by whom a project was checked out. Symbolic links are kept as links and
//! never followed, so nothing from elsewhere gets in, whatever somebody does to the folder meanwhile. Must not know where
//! the stream goes.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, SeekFrom};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, GnuExtSparseHeader, Header};

use super::sums::hexadecimal;
use crate::{
    error::{Code, Problem},
    names::printable,
    orchestrate::host::Cancel,
    plan::blueprint::Sum,
};

/// All dates: 2000-01-01 00:00:00 UTC.
const DATE: u64 = 946_684_800;
/// More files than this are no context.
const MOST_FILES: usize = 200_000;
/// Deeper folders would hold too many of them open at once.
const DEEPEST: usize = 100;
/// Pieces of a sparse file that a header has room for, and that each further block has.
const PIECES: (usize, usize) = (4, 21);

/// What packed trees hold, computed once per state of a tree.
#[derive(Debug, Default)]
pub struct Known {
    sums: Mutex<HashMap<PathBuf, (Vec<u8>, Sum)>>,
}

impl Known {
    /// The sum that a tree had when it was looked at last.
    pub fn last(&self, root: &Path) -> Option<Sum> {
        self.sums.lock().get(root).map(|(_, sum)| sum.clone())
    }

    /// The sum of a tree's stream; read whole when something in it has changed.
    pub fn of(&self, root: &Path, cancel: &Cancel) -> Result<Sum, Problem> {
        let state = state(root, cancel)?;
        if let Some((known, sum)) = self.sums.lock().get(root)
            && *known == state
        {
            return Ok(sum.clone());
        }
        let mut hash = Hashing { to: io::sink(), hash: Sha256::new(), bytes: 0 };
        pack(root, &mut hash, cancel)?;
        let sum = hash.sum();
        self.sums.lock().insert(root.to_path_buf(), (state, sum.clone()));
        Ok(sum)
    }
}

/// Passes on what is written, and sums it up.
pub struct Hashing<W> {
    to: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Hashing<W> {
    /// Passes on to `to`.
    pub fn new(to: W) -> Self {
        Hashing { to, hash: Sha256::new(), bytes: 0 }
    }

    /// What has passed.
    pub fn sum(&self) -> Sum {
        Sum { sha256: hexadecimal(&self.hash.clone().finalize()), bytes: self.bytes }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let count = self.to.write(piece)?;
        self.hash.update(&piece[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Writes a file or folder as a tar stream. Of a folder what is in it, of a file itself.
pub fn pack(root: &Path, to: &mut dyn Write, cancel: &Cancel) -> Result<(), Problem> {
    let mut builder = Builder::new(to);
    builder.sparse(false);
    let mut walk = Walk { root, cancel, seen: 0 };
    walk.all(&mut |path, entry, mode| append(&mut builder, path, entry, mode))?;
    builder.into_inner().map(|_| ()).map_err(|error| walk.failed(root, &error))
}

/// A digest of what tells two states of a tree apart without reading files.
fn state(root: &Path, cancel: &Cancel) -> Result<Vec<u8>, Problem> {
    let mut hash = Sha256::new();
    let mut walk = Walk { root, cancel, seen: 0 };
    walk.all(&mut |path, entry, mode| {
        let said = match entry {
            Entry::Folder => "folder".to_string(),
            Entry::Link(target) => format!("link {}", target.display()),
            Entry::File(file) => {
                let found = file.metadata()?;
                let (len, ino) = (found.len(), found.ino());
                format!("{len} {ino} {} {} {} {}", found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec())
            }
        };
        for part in [path.as_os_str().as_bytes(), &mode.to_le_bytes(), said.as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Ok(())
    })?;
    Ok(hash.finalize().to_vec())
}

enum Entry {
    Folder,
    Link(PathBuf),
    File(File),
}

type Take<'t> = dyn FnMut(&Path, Entry, u32) -> io::Result<()> + 't;

struct Walk<'a> {
    root: &'a Path,
    cancel: &'a Cancel,
    seen: usize,
}

impl Walk<'_> {
    fn all(&mut self, take: &mut Take<'_>) -> Result<(), Problem> {
        // The path was resolved when it was judged: a link in it now was put there since.
        let opened = rustix::fs::openat2(CWD, self.root, OPEN, Mode::empty(), ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS);
        let root = opened.map_err(|error| self.failed(self.root, &error.into()))?;
        let name = PathBuf::from(self.root.file_name().unwrap_or_default());
        let found = rustix::fs::fstat(&root).map_err(|error| self.failed(self.root, &error.into()))?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => self.folder(root, Path::new(""), 0, take),
            FileType::RegularFile => {
                take(&name, Entry::File(root.into()), found.st_mode & 0o7777).map_err(|error| self.failed(self.root, &error))
            }
            _ => Err(self.special(self.root)),
        }
    }

    fn folder(&mut self, folder: OwnedFd, inner: &Path, depth: usize, take: &mut Take<'_>) -> Result<(), Problem> {
        let failed = |path: &Path, error: rustix::io::Errno| self.failed(path, &error.into());
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder).map_err(|error| failed(inner, error))? {
            let name = entry.map_err(|error| failed(inner, error))?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(PathBuf::from(std::ffi::OsStr::from_bytes(&name)));
            }
        }
        names.sort();
        for name in names {
            self.cancel.check()?;
            self.seen += 1;
            let path = inner.join(&name);
            if self.seen > MOST_FILES || depth > DEEPEST {
                let message = format!("`{}` is no context: it has more than {MOST_FILES} files, or too deep folders", self.shown());
                return Err(Problem::new(Code::BadRequest, message).hint("name the folder that the guest needs"));
            }
            let failed = |error: rustix::io::Errno| self.failed(&path, &error.into());
            let opened = match rustix::fs::openat(&folder, &name, OPEN | OFlags::NOFOLLOW, Mode::empty()) {
                Err(rustix::io::Errno::LOOP) => {
                    let target = rustix::fs::readlinkat(&folder, &name, Vec::new()).map_err(failed)?;
                    let target = PathBuf::from(std::ffi::OsStr::from_bytes(target.to_bytes()));
                    take(&path, Entry::Link(target), 0o777).map_err(|error| self.failed(&path, &error))?;
                    continue;
                }
                // A socket, or a device without a driver.
                Err(rustix::io::Errno::NXIO) => return Err(self.special(&path)),
                opened => opened.map_err(failed)?,
            };
            let found = rustix::fs::fstat(&opened).map_err(failed)?;
            let mode = found.st_mode & 0o7777;
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => {
                    take(&path, Entry::Folder, mode).map_err(|error| self.failed(&path, &error))?;
                    self.folder(opened, &path, depth + 1, take)?;
                }
                FileType::RegularFile => take(&path, Entry::File(opened.into()), mode).map_err(|error| self.failed(&path, &error))?,
                _ => return Err(self.special(&path)),
            }
        }
        Ok(())
    }

    fn shown(&self) -> String {
        printable(&self.root.to_string_lossy())
    }

    fn failed(&self, path: &Path, error: &io::Error) -> Problem {
        // Whoever takes the stream may have a reason of its own.
        Problem::io(format!("cannot pack `{}` of `{}`", printable(&path.to_string_lossy()), self.shown()), error)
    }

    fn special(&self, path: &Path) -> Problem {
        let message = format!("`{}` of `{}` is neither file, folder nor link", printable(&path.to_string_lossy()), self.shown());
        Problem::new(Code::BadRequest, message).hint("remove it from what the guest gets as its `context`")
    }
}

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

fn append(builder: &mut Builder<&mut dyn Write>, path: &Path, entry: Entry, mode: u32) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(mode);
    header.set_mtime(DATE);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    match entry {
        Entry::Folder => {
            header.set_entry_type(EntryType::Directory);
            builder.append_data(&mut header, path, io::empty())
        }
        Entry::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            builder.append_link(&mut header, path, target)
        }
        Entry::File(file) => {
            let length = file.metadata()?.len();
            let pieces = pieces(&file, length)?;
            if pieces == [(0, length)] || length == 0 {
                header.set_entry_type(EntryType::Regular);
                header.set_size(length);
                return builder.append_data(&mut header, path, Pieces { file: &file, rest: pieces.into() });
            }
            let further = sparse(&mut header, &pieces, length)?;
            builder.append_data(&mut header, path, further.as_slice().chain(Pieces { file: &file, rest: pieces.into() }))
        }
    }
}

/// Where a file has data: offset and length of each piece; a file of holes ends in an empty piece.
fn pieces(file: &File, length: u64) -> io::Result<Vec<(u64, u64)>> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    while at < length {
        let from = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(from) if from < length => from,
            Ok(_) | Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let to = rustix::fs::seek(file, SeekFrom::Hole(from))?.min(length);
        pieces.push((from, to - from));
        at = to;
    }
    if pieces.last().is_none_or(|(from, count)| from + count < length) && length > 0 {
        pieces.push((length, 0));
    }
    Ok(pieces)
}

/// Makes the header one of a sparse file; returns the blocks that go on with the list of its pieces (GNU tar, "Sparse Formats").
fn sparse(header: &mut Header, pieces: &[(u64, u64)], length: u64) -> io::Result<Vec<u8>> {
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(pieces.iter().map(|(_, count)| count).sum());
    let (first, rest) = pieces.split_at(pieces.len().min(PIECES.0));
    let gnu = header.as_gnu_mut().ok_or_else(|| io::Error::other("not a GNU header"))?;
    gnu.set_real_size(length);
    for (place, (from, count)) in gnu.sparse.iter_mut().zip(first) {
        place.set_offset(*from);
        place.set_length(*count);
    }
    gnu.set_is_extended(!rest.is_empty());
    let mut further = Vec::new();
    let mut blocks = rest.chunks(PIECES.1).peekable();
    while let Some(block) = blocks.next() {
        let mut next = GnuExtSparseHeader::new();
        for (place, (from, count)) in next.sparse.iter_mut().zip(block) {
            place.set_offset(*from);
            place.set_length(*count);
        }
        next.set_is_extended(blocks.peek().is_some());
        further.extend_from_slice(next.as_bytes());
    }
    Ok(further)
}

/// A file's data, piece by piece; one that became shorter meanwhile is an error.
struct Pieces<'f> {
    file: &'f File,
    rest: std::collections::VecDeque<(u64, u64)>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while let Some((from, count)) = self.rest.front_mut() {
            if *count == 0 {
                self.rest.pop_front();
                continue;
            }
            let most = to.len().min(usize::try_from(*count).unwrap_or(usize::MAX));
            let read = std::os::unix::fs::FileExt::read_at(self.file, &mut to[..most], *from)?;
            if read == 0 && most > 0 {
                return Err(io::Error::other("it became shorter while it was read"));
            }
            (*from, *count) = (*from + read as u64, *count - read as u64);
            return Ok(read);
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{FileExt as _, PermissionsExt as _, symlink},
        process::Command,
    };

    use super::*;

    fn packed(root: &Path) -> Result<Vec<u8>, Problem> {
        let mut stream = Vec::new();
        pack(root, &mut stream, &Cancel::new()).map(|()| stream)
    }

    fn tree(folder: &Path) {
        fs::create_dir_all(folder.join("deep/er")).expect("made");
        fs::write(folder.join("run.sh"), "#!/bin/sh\n").expect("written");
        fs::set_permissions(folder.join("run.sh"), fs::Permissions::from_mode(0o4751)).expect("set");
        fs::write(folder.join("deep/er").join("n".repeat(180)), "long").expect("written");
        fs::write(folder.join("empty"), "").expect("written");
        symlink("/etc/shadow", folder.join("away")).expect("linked");
        let holes = File::create(folder.join("holes")).expect("made");
        holes.set_len(64 << 20).expect("long");
        for at in 0..30u64 {
            holes.write_all_at(format!("piece {at}").as_bytes(), at * (2 << 20)).expect("written");
        }
        File::create(folder.join("hole")).expect("made").set_len(8 << 20).expect("long");
    }

    #[test]
    fn what_is_packed_comes_out_the_same_by_gnu_tar() {
        let data = tempfile::tempdir().expect("a folder");
        let (from, to) = (data.path().join("from"), data.path().join("to"));
        tree(&from);
        fs::create_dir(&to).expect("made");
        let stream = packed(&from).expect("packed");
        assert!(stream.len() < 1 << 20, "holes are not packed: {}", stream.len());
        fs::write(data.path().join("x.tar"), &stream).expect("written");
        let tar = Command::new("tar").args(["-xpf", "../x.tar", "--no-same-owner"]).current_dir(&to).output().expect("tar");
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
        let diff = Command::new("diff").args(["-r", "--no-dereference"]).args([&from, &to]).output().expect("diff");
        assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
        assert_eq!(fs::metadata(to.join("run.sh")).expect("there").mode() & 0o7777, 0o4751);
        assert_eq!(fs::read_link(to.join("away")).expect("a link"), Path::new("/etc/shadow"));
        assert!(fs::metadata(to.join("holes")).expect("there").blocks() * 512 < 4 << 20);
        // Another place and another time give the same bytes; another mode does not.
        let other = data.path().join("other");
        tree(&other);
        assert_eq!(packed(&other).expect("packed"), stream);
        fs::set_permissions(other.join("run.sh"), fs::Permissions::from_mode(0o644)).expect("set");
        assert_ne!(packed(&other).expect("packed"), stream);
    }

    #[test]
    fn a_sum_is_that_of_the_stream_and_follows_what_changes() {
        let data = tempfile::tempdir().expect("a folder");
        let (known, cancel, file) = (Known::default(), Cancel::new(), data.path().join("file"));
        fs::write(&file, "one").expect("written");
        let first = known.of(&file, &cancel).expect("known");
        let stream = packed(&file).expect("packed");
        assert_eq!((first.bytes, first.sha256.as_str()), (stream.len() as u64, hexadecimal(&Sha256::digest(&stream)).as_str()));
        assert_eq!(known.of(&file, &cancel).expect("known"), first);
        fs::write(&file, "two").expect("written");
        assert_ne!(known.of(&file, &cancel).expect("known").sha256, first.sha256);
    }

    #[test]
    fn what_is_no_file_and_a_link_in_the_way_are_refused() {
        let data = tempfile::tempdir().expect("a folder");
        let folder = data.path().join("folder");
        fs::create_dir(&folder).expect("made");
        let _socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).expect("bound");
        assert!(packed(&folder).expect_err("refused").message.contains("neither file"));
        symlink(&folder, data.path().join("link")).expect("linked");
        assert!(packed(&data.path().join("link")).is_err());
        assert!(packed(&data.path().join("link/x")).is_err());
    }
}
