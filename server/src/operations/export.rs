//! A testbed as one archive: its file, what that names, and what it was read with. Disks of guests and what happened in them are
//! not in it.
//!
//! The archive is a project like any other (tar), with a description in front that says what every file must be.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    path::PathBuf,
};

use chrono::Utc;
use kvm_compose::{
    api::export::{COMPOSITION, ExportManifest, ExportedFile, MANIFEST, VERSION},
    diagnostic::problem_of,
    error::{Code, Problem},
    names::{DeploymentName, printable},
    project::carry,
    topology::{self, Leases},
};
use sha2::{Digest, Sha256};

use super::{Operations, projects::FILE};

/// A testbed that can be written out.
pub struct Export {
    /// What it holds.
    pub manifest: ExportManifest,
    /// Texts that are in no file of the project's folder, or not as they are there.
    texts: BTreeMap<String, Vec<u8>>,
    folder: PathBuf,
}

impl Operations {
    /// Looks at everything that an export of a deployment holds. Fails with the testbed's faults, as `up` would.
    pub fn export(&self, name: &DeploymentName) -> Result<Export, Problem> {
        let project = self.project(name)?;
        let loaded = topology::load_all(&project.sources, name, &Leases::new())?;
        let needs = carry::needs(&loaded.topology, &project.folder)
            .map_err(|faults| problem_of(&project.sources.file, faults).unwrap_or_else(|| Problem::internal("a fault without a fault")))?;
        let composition = &project.sources.composition;
        let mut texts: BTreeMap<String, Vec<u8>> =
            composition.files.iter().map(|(path, text)| (path.clone(), text.clone().into_bytes())).collect();
        texts.insert(FILE.to_string(), self.yaml(name)?);
        if !composition.is_empty() {
            let text = serde_json::to_vec_pretty(composition).map_err(|error| Problem::internal("a composition as JSON").cause(error))?;
            texts.insert(COMPOSITION.to_string(), text);
        }
        let mut files: BTreeMap<String, ExportedFile> = BTreeMap::new();
        for (path, text) in &texts {
            files.insert(path.clone(), sum(&mut text.as_slice()).map_err(|error| unreadable(path, &error))?);
        }
        for path in needs.files.iter().filter(|path| !texts.contains_key(*path)) {
            let mut file = carry::open(&project.folder, path).map_err(|why| Problem::new(Code::InvalidFile, why))?;
            files.insert(path.clone(), sum(&mut file).map_err(|error| unreadable(path, &error))?);
        }
        let manifest = ExportManifest {
            version: VERSION,
            name: name.clone(),
            exported: Utc::now(),
            files,
            images: needs.images.into_iter().collect(),
            elsewhere: needs.elsewhere.into_iter().collect(),
        };
        Ok(Export { manifest, texts, folder: project.folder })
    }
}

impl Export {
    /// Writes the archive. Fails when a file is not any more what was looked at: what was written then is cut short, so that
    /// nobody takes it for whole.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        let manifest = serde_json::to_vec_pretty(&self.manifest)?;
        archive.append_data(&mut header(manifest.len() as u64), MANIFEST, manifest.as_slice())?;
        for (path, wanted) in &self.manifest.files {
            let mut header = header(wanted.bytes);
            match self.texts.get(path) {
                Some(text) => archive.append_data(&mut header, path, text.as_slice())?,
                None => {
                    let file = carry::open(&self.folder, path).map_err(io::Error::other)?;
                    let mut read = Summed::new(file.take(wanted.bytes));
                    archive.append_data(&mut header, path, &mut read)?;
                    if read.sum() != *wanted {
                        return Err(io::Error::other(format!("`{}` changed while it was exported", printable(path))));
                    }
                }
            }
        }
        archive.into_inner()?.flush()
    }
}

fn header(bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(bytes);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

fn unreadable(path: &str, error: &io::Error) -> Problem {
    Problem::io(format_args!("`{}` cannot be read", printable(path)), error)
}

fn sum(read: &mut impl Read) -> io::Result<ExportedFile> {
    let mut read = Summed::new(read);
    io::copy(&mut read, &mut io::sink())?;
    Ok(read.sum())
}

/// A reader that knows what has passed through it.
pub struct Summed<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
}

impl<R> Summed<R> {
    /// Of a reader.
    pub fn new(inner: R) -> Self {
        Summed { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// What was read of it.
    pub fn sum(self) -> ExportedFile {
        let sha256 = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        ExportedFile { sha256, bytes: self.bytes }
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}
