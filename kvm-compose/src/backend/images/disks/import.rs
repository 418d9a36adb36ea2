//! A user's disk image, from what was handed over to a name in the store.

use std::{
    fs::File,
    io::{self, BufReader, Read as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use super::{Disks, header::Form, inspect, ova, spool::Spool, store::Description};
use crate::{
    api::{ImageSource, event::EventKind},
    error::Problem,
    names::printable,
    orchestrate::{Operation, host::Cancel},
};

/// What is to be taken in.
#[derive(Debug)]
pub struct Import {
    /// All of it, already on the server.
    pub spool: Spool,
    /// The file's name on the user's machine.
    pub file: String,
    /// The image's name.
    pub name: String,
}

/// A file that is all there.
pub(super) struct Whole<'a> {
    pub path: &'a Path,
    /// What it was found to be.
    pub form: Form,
    /// Its SHA-256 and length, when they are known.
    pub known: Option<(String, u64)>,
}

impl Disks {
    /// Takes a user's image in under a name, which stands for it from then on.
    pub fn import(&self, import: &Import, operation: &Operation<'_>) -> Result<Description, Problem> {
        let Operation { cancel, sink, .. } = operation;
        let say = |text: String| sink.emit(EventKind::Line { guest: None, text });
        super::check_name(&import.name)?;
        let (sha256, bytes) = sum_of(import.spool.path(), cancel)?;
        say(format!("`{}` has {} MiB; its SHA-256 is {sha256}", printable(&import.file), bytes.div_ceil(1 << 20)))?;
        let source = ImageSource::Imported { file: import.file.clone(), sha256: sha256.clone() };
        let form = inspect::form_of(import.spool.path())?;
        if form != Form::Ova {
            let known = Some((sha256, bytes));
            return self.take_in(&Whole { path: import.spool.path(), form, known }, (&import.name, None, source), operation);
        }
        let disk = Spool::new(&self.store.parts())?;
        let told = |text: String| {
            if let Err(problem) = say(text) {
                tracing::warn!(%problem, "a line of an import was not logged");
            }
        };
        ova::disk(import.spool.path(), disk.file(), self.settings.largest_bytes, cancel, &told)?;
        let inner = inspect::form_of(disk.path())?;
        if inner == Form::Ova {
            return Err(super::header::refused("the archive's disk is an archive again"));
        }
        self.take_in(&Whole { path: disk.path(), form: inner, known: None }, (&import.name, None, source), operation)
    }

    /// Checks a file that is whole, turns it into qcow2 if it is not, and gives it its name. The file is moved away.
    pub(super) fn take_in(
        &self,
        file: &Whole<'_>,
        (name, user, source): (&str, Option<String>, ImageSource),
        operation: &Operation<'_>,
    ) -> Result<Description, Problem> {
        let Operation { cancel, sink, .. } = operation;
        let say = |text: String| sink.emit(EventKind::Line { guest: None, text });
        let Whole { path, form, known } = file;
        let (path, form) = (*path, *form);
        let virtual_bytes = inspect::virtual_bytes(path, form, cancel)?;
        let converted;
        let image = if form == Form::Qcow2 {
            inspect::check(path, cancel)?;
            path
        } else {
            say(format!("converting it from {} to qcow2", form.name()))?;
            let spool = Spool::new(&self.store.parts())?;
            inspect::convert(path, form, spool.path(), self.settings.largest_bytes, cancel)?;
            converted = spool;
            converted.path()
        };
        let sync = || File::open(image).and_then(|file| file.sync_all());
        sync().map_err(|error| Problem::io(format!("writing {}", image.display()), &error))?;
        let known = known.clone().filter(|_| image == path);
        let (digest, size_bytes) = known.map_or_else(|| sum_of(image, cancel), Ok)?;
        let description =
            Description { digest, name: name.to_owned(), size_bytes, virtual_bytes, user, source, created: chrono::Utc::now() };
        let lock = self.store.lock(cancel)?;
        self.store.publish(&lock, image, &description)?;
        say(format!("`{name}` is {}, a disk of {}", short(&description.digest), size(virtual_bytes)))?;
        Ok(description)
    }
}

/// A size for people.
fn size(bytes: u64) -> String {
    match bytes >> 30 {
        0 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// The beginning of a digest, which is enough for people.
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// SHA-256 and length of a file.
fn sum_of(path: &Path, cancel: &Cancel) -> Result<(String, u64), Problem> {
    let failed = |error: io::Error| Problem::io(format!("reading {}", path.display()), &error);
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut chunk = vec![0; 1 << 20];
    loop {
        cancel.check()?;
        let count = file.read(&mut chunk).map_err(failed)?;
        let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else { break };
        hash.update(read);
        bytes += count as u64;
    }
    Ok((ova::hexadecimal(&hash.finalize()), bytes))
}
