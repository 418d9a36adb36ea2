//! Packs a file or a folder of this machine.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use kvm_compose::{
    error::{Code, Problem},
    names::printable,
};
use tar::{Builder, EntryType, Header};

use super::Tally;

/// What is packed, and as what.
pub struct Source<'a> {
    /// Where it is here. A link is followed, those below are kept.
    pub path: &'a Path,
    /// Its name in the archive; none packs what is in a folder, without the folder.
    pub name: Option<&'a str>,
    /// Holes of sparse files are left out, as GNU tar does it.
    pub holes: bool,
}

/// Packs it into `out`. Modes and times of change are kept; the guest's root owns it there.
pub fn pack(source: &Source<'_>, out: impl Write, tally: &Tally) -> Result<(), Problem> {
    let mut builder = Builder::new(out);
    builder.follow_symlinks(false);
    builder.sparse(source.holes);
    let found = fs::metadata(source.path).map_err(|error| unreadable(source.path, &error))?;
    let path = fs::canonicalize(source.path).map_err(|error| unreadable(source.path, &error))?;
    let mut packer = Packer { builder, holes: source.holes, tally };
    match source.name {
        Some(name) => packer.add(&path, Path::new(name), &found)?,
        None => packer.below(&path, Path::new(""))?,
    }
    packer.builder.into_inner().map_err(torn).map(drop)
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let code = if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::BadRequest };
    Problem::new(code, format!("`{}` cannot be read", printable(&path.to_string_lossy()))).cause(error)
}

/// The archive could not be handed on; whoever takes it knows why.
fn torn(error: io::Error) -> Problem {
    Problem::new(Code::Interrupted, "the files could not be handed on").cause(error)
}

struct Packer<'a, W: Write> {
    builder: Builder<W>,
    holes: bool,
    tally: &'a Tally,
}

impl<W: Write> Packer<'_, W> {
    /// Everything in a folder, by name.
    fn below(&mut self, folder: &Path, name: &Path) -> Result<(), Problem> {
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut paths: Vec<PathBuf> = entries.map_err(|error| unreadable(folder, &error))?.iter().map(fs::DirEntry::path).collect();
        paths.sort();
        for path in paths {
            let found = fs::symlink_metadata(&path).map_err(|error| unreadable(&path, &error))?;
            self.add(&path, &name.join(path.file_name().unwrap_or_default()), &found)?;
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, name: &Path, found: &fs::Metadata) -> Result<(), Problem> {
        let kind = found.file_type();
        let mut header = Header::new_gnu();
        header.set_mode(found.mode() & 0o7777);
        header.set_mtime(u64::try_from(found.mtime()).unwrap_or_default());
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            self.builder.append_data(&mut header, name, io::empty()).map_err(torn)?;
            return self.below(path, name);
        }
        if kind.is_symlink() {
            let target = fs::read_link(path).map_err(|error| unreadable(path, &error))?;
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            self.tally.file();
            return self.builder.append_link(&mut header, name, &target).map_err(torn);
        }
        if !kind.is_file() {
            self.tally.skip();
            return Ok(());
        }
        let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
        self.tally.file();
        if self.holes && found.blocks() * 512 < found.len() {
            self.tally.bytes(usize::try_from(found.len()).unwrap_or(usize::MAX));
            return self.builder.append_file(name, &mut file).map_err(torn);
        }
        header.set_entry_type(EntryType::Regular);
        header.set_size(found.len());
        let mut reader = Exactly { file, left: found.len(), tally: self.tally };
        self.builder.append_data(&mut header, name, &mut reader).map_err(torn)
    }
}

/// So many bytes of a file that may grow or shrink meanwhile; what is missing is zero.
struct Exactly<'a> {
    file: File,
    left: u64,
    tally: &'a Tally,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..most];
        let mut count = self.file.read(buffer)?;
        if count == 0 {
            buffer.fill(0);
            count = most;
        }
        self.left -= count as u64;
        self.tally.bytes(count);
        Ok(count)
    }
}
