//! What guests get as their `context`: summed up before planning, packed for other hosts, sent to guests here.
//!
//! Brings the tar stream and the guest together; decides nothing.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::LocalHost;
use crate::{
    backend::files::pack::{self, Hashing},
    error::{Code, Problem},
    guest::{context, script},
    names::{GuestName, printable},
    orchestrate::host::{Cancel, Context as StepContext},
    plan::{
        blueprint::{Context, ContextFrom, Sum},
        place::Places,
        site::{Hosts, PackedTree, ProjectFiles},
    },
    topology::Topology,
};

impl LocalHost {
    /// Adds what the contexts of a topology hold. Without a `cancel` what was read last is good enough.
    pub(super) fn read_contexts(&self, topology: &Topology, files: &mut ProjectFiles, cancel: Option<&Cancel>) -> Result<(), Problem> {
        let unhurried = Cancel::new();
        for named in topology.guests.iter().filter_map(|guest| guest.context.as_ref()) {
            if let Some(path) = files.trees.get(&named.path).filter(|_| !files.contexts.contains_key(&named.path)) {
                let last = self.packed.last(path).filter(|_| cancel.is_none());
                let sum = last.map_or_else(|| self.packed.of(path, cancel.unwrap_or(&unhurried)), Ok).map_err(|mut problem| {
                    problem.at.get_or_insert_with(|| named.at.clone());
                    problem
                })?;
                files.contexts.insert(named.path.clone(), PackedTree { path: path.clone(), sum });
            }
        }
        Ok(())
    }

    /// Packs the contexts of guests on other hosts, which ask for them by their sums.
    pub(super) fn pack_contexts(
        &self,
        topology: &Topology,
        hosts: &Hosts,
        places: &Places,
        files: &ProjectFiles,
        cancel: &Cancel,
    ) -> Result<(), Problem> {
        let away = topology.guests.iter().filter(|guest| places.get(&guest.name).is_some_and(|place| place.host != hosts.master.host));
        for tree in away.filter_map(|guest| files.contexts.get(&guest.context.as_ref()?.path)) {
            let path = self.contexts().join(&tree.sum.sha256);
            if !fs::metadata(&path).is_ok_and(|found| found.len() == tree.sum.bytes) {
                keep(tree, &path, cancel)?;
            }
            self.sums.of(&path, cancel)?;
        }
        Ok(())
    }

    /// Removes what was packed for other hosts; they have it, or it is packed again. Says how many bytes that frees.
    pub(super) fn prune_contexts(&self) -> Result<u64, Problem> {
        let folder = self.contexts();
        let mut freed = 0;
        for path in crate::backend::images::disks::documents::files(&folder)? {
            freed += fs::metadata(&path).map_or(0, |found| found.len());
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Problem::io(format!("removing {}", path.display()), &error));
                }
                _ => {}
            }
        }
        Ok(freed)
    }

    fn contexts(&self) -> PathBuf {
        self.config.images_dir.join("contexts")
    }

    /// Sends a guest its context, unless it has it.
    pub(super) fn send_context(
        &self,
        guest: &GuestName,
        domain: uuid::Uuid,
        wanted: &Context,
        step: &StepContext<'_>,
    ) -> Result<(), Problem> {
        let inside = script::Guest { hypervisor: &self.libvirt, guest: guest.as_str(), domain, cancel: step.cancel };
        let stream = |to: &mut dyn Write| {
            let mut to = Hashing::new(to);
            let path = match &wanted.from {
                ContextFrom::Tree(path) => {
                    pack::pack(path, &mut to, step.cancel)?;
                    path
                }
                ContextFrom::Packed(path) => {
                    let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut to));
                    copied.map_err(|error| Problem::io(format!("cannot send {}", path.display()), &error))?;
                    path
                }
            };
            check(&to.sum(), &wanted.sum, path)
        };
        context::send(&inside, wanted, stream, step.say)
    }
}

/// What was planned with must be what is sent.
fn check(found: &Sum, wanted: &Sum, path: &Path) -> Result<(), Problem> {
    if found == wanted {
        return Ok(());
    }
    let message = format!("`{}` changed while it was read", printable(&path.to_string_lossy()));
    Err(Problem::new(Code::Storage, message).hint("run the command again"))
}

fn keep(tree: &PackedTree, path: &Path, cancel: &Cancel) -> Result<(), Problem> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let doing = |error: io::Error| Problem::io(format!("packing for other hosts below {}", folder.display()), &error);
    fs::create_dir_all(folder).map_err(doing)?;
    let file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder).map_err(doing)?;
    let mut to = Hashing::new(io::BufWriter::new(file.as_file()));
    pack::pack(&tree.path, &mut to, cancel)?;
    to.flush().map_err(doing)?;
    check(&to.sum(), &tree.sum, &tree.path)?;
    drop(to);
    file.as_file().sync_all().map_err(doing)?;
    file.persist(path).map(|_| ()).map_err(|error| doing(error.error))
}
