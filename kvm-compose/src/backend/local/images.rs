//! Base images of this host: the built-in one, and disk images by name.
//!
//! Puts catalogue, store and folders together; decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::LocalHost;
use crate::{
    api::{CatalogueEntry, ImageInfo, RemovedImages, event::EventKind},
    backend::images::{
        self,
        disks::{Disks, Import, spool::Spool, store::Description},
    },
    catalogue::{Catalogue, Image},
    error::{Code, Problem},
    names::{DeploymentName, printable},
    orchestrate::{Operation, host::Cancel},
    plan::site::{MicroImage, StoredImage},
    project,
    spec::{Sources, reader::suggestion},
    topology::{self, Guest, GuestKind, Leases, Topology},
};

impl LocalHost {
    /// The base images that are there: the built-in one first, then disk images by name.
    pub fn images(&self) -> Result<Vec<ImageInfo>, Problem> {
        let mut all = images::list_micro(&self.config.images_dir)?;
        all.extend(self.disks.list(&self.deployments())?);
        all.extend(self.goldens.list(&self.deployments())?);
        Ok(all)
    }

    /// The disk images.
    pub fn disks(&self) -> &Disks {
        &self.disks
    }

    /// The names that the catalogue has, with what is there of them.
    pub fn catalogue(&self) -> Result<Vec<CatalogueEntry>, Problem> {
        let catalogue = self.read_catalogue()?;
        let mut entries = Vec::new();
        for name in catalogue.names() {
            let (url, user, present) = match catalogue.find(name) {
                Some(Image::Published { url, user, .. }) => (Some(url.clone()), Some(user.clone()), self.disks.find(name)?.is_some()),
                Some(Image::Built { .. }) => (None, None, self.find_micro()?.is_some()),
                Some(Image::Imported) | None => continue,
            };
            entries.push(CatalogueEntry { name: name.to_owned(), url, user, present });
        }
        Ok(entries)
    }

    /// Downloads an image of the catalogue; see [`Disks::pull`].
    pub fn pull_image(&self, name: &str, operation: &Operation<'_>) -> Result<Description, Problem> {
        let catalogue = self.read_catalogue()?;
        let image = catalogue.find(name).ok_or_else(|| unknown(name, &catalogue))?;
        self.disks.pull(name, image, operation)
    }

    /// Takes a user's image in; see [`Disks::import`].
    pub fn import_image(&self, import: &Import, operation: &Operation<'_>) -> Result<Description, Problem> {
        if let Some(Image::Built { recipe }) = self.read_catalogue()?.find(&import.name) {
            return Err(Problem::new(Code::Conflict, format!("the name `{recipe}` belongs to the built-in image")).hint("use another name"));
        }
        self.disks.import(import, operation)
    }

    /// A file to hand an image over in.
    pub fn spool_image(&self) -> Result<Spool, Problem> {
        self.disks.spool()
    }

    /// Removes a disk image that no deployment's disk rests on.
    pub fn remove_image(&self, name: &str) -> Result<RemovedImages, Problem> {
        if let Some(Image::Built { recipe }) = self.read_catalogue()?.find(name) {
            return Err(Problem::new(Code::Unsupported, format!("`{recipe}` is built in and stays"))
                .hint(format!("`testbed image build {recipe}` makes it anew")));
        }
        self.disks.remove(name, &self.deployments(), &Cancel::new())
    }

    /// Removes what no name stands for and nobody uses; golden images, too, unless `goldens_stay`.
    pub fn prune_images(&self, goldens_stay: bool) -> Result<RemovedImages, Problem> {
        let mut removed = self.disks.prune(&self.deployments(), &Cancel::new())?;
        if !goldens_stay {
            let goldens = self.goldens.prune(&self.deployments())?;
            removed.removed.extend(goldens.removed);
            removed.freed_bytes += goldens.freed_bytes + self.prune_contexts()?;
        }
        Ok(removed)
    }

    /// Makes the micro image from this machine's packages.
    pub fn build_micro(&self, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<MicroImage, Problem> {
        cancel.check()?;
        images::build_micro(&self.config.images_dir, &images::MicroSources::find()?, cancel, say)
    }

    /// Downloads the images that a testbed names and this server does not have. A file with faults is left to
    /// [`LocalHost::prepare`], which says all of them.
    pub fn pull_missing(&self, deployment: &DeploymentName, sources: &Sources, operation: &Operation<'_>) -> Result<(), Problem> {
        let Ok(loaded) = topology::load_all(sources, deployment, &Leases::new()) else { return Ok(()) };
        let catalogue = self.read_catalogue()?;
        if topology::refused(&sources.file, &loaded).is_some() || !project::check_images(&loaded.topology, &catalogue).is_empty() {
            return Ok(());
        }
        for name in image_names(&loaded.topology) {
            if self.disks.find(name)?.is_none()
                && let Some(image) = catalogue.find(name)
            {
                operation.sink.emit(EventKind::Line { guest: None, text: format!("the image `{name}` is not on this server yet") })?;
                self.disks.pull(name, image, operation)?;
            }
        }
        Ok(())
    }

    /// What the names of images in a testbed stand for. For people who look, one that is not there is made up: that nothing
    /// stands on it is seen anyway.
    pub(super) fn stored_images(&self, topology: &Topology, made_up: bool) -> Result<BTreeMap<String, StoredImage>, Problem> {
        let mut images = BTreeMap::new();
        for name in image_names(topology) {
            let stored = self.disks.find(name)?.map(|found| StoredImage {
                path: self.disks.path(&found),
                virtual_bytes: found.virtual_bytes,
                user: found.user,
                digest: found.digest,
            });
            let nothing = || StoredImage { path: self.config.images_dir.join("none"), digest: String::new(), virtual_bytes: 0, user: None };
            images.extend(stored.or_else(|| made_up.then(nothing)).map(|image| (name.to_owned(), image)));
        }
        Ok(images)
    }

    pub(super) fn read_catalogue(&self) -> Result<Catalogue, Problem> {
        let imported = self.disks.names()?;
        Ok(project::catalogue(&self.config.catalogues)?.with_imported(imported))
    }
}

/// The images that a testbed names, each once.
fn image_names(topology: &Topology) -> BTreeSet<&str> {
    topology.guests.iter().filter_map(image_of).collect()
}

fn image_of(guest: &Guest) -> Option<&str> {
    match &guest.kind {
        GuestKind::CloudImage { image, .. } => Some(&image.path),
        _ => None,
    }
}

fn unknown(name: &str, catalogue: &Catalogue) -> Problem {
    let near = suggestion(name, &catalogue.names()).map_or_else(String::new, |near| format!("{near} "));
    Problem::new(Code::NotFound, format!("there is no image `{}` in the catalogue", printable(name)))
        .hint(format!("{near}`testbed image list --available` shows the catalogue; `images.toml` adds to it (docs/images.md)"))
}
