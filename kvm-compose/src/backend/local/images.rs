//! Base images of this host: the built-in one, and disk images by name.
//!
//! Puts catalogue, store and folders together; decides nothing.

use super::LocalHost;
use crate::{
    api::{CatalogueEntry, ImageInfo, RemovedImages},
    backend::images::{
        self,
        disks::{Disks, Import, spool::Spool, store::Description},
    },
    catalogue::{Catalogue, Image},
    error::{Code, Problem},
    names::printable,
    orchestrate::{Operation, host::Cancel},
    plan::site::MicroImage,
    project,
    spec::reader::suggestion,
};

impl LocalHost {
    /// The base images that are there: the built-in one first, then disk images by name.
    pub fn images(&self) -> Result<Vec<ImageInfo>, Problem> {
        let mut all = images::list_micro(&self.config.images_dir)?;
        all.extend(self.disks.list(&self.deployments())?);
        Ok(all)
    }

    /// The disk images.
    pub fn disks(&self) -> &Disks {
        &self.disks
    }

    /// The names that the catalogue has, with what is there of them.
    pub fn catalogue(&self) -> Result<Vec<CatalogueEntry>, Problem> {
        let catalogue = self.read_catalogue()?;
        let entry = |name: &str| {
            let (url, user, present) = match catalogue.find(name) {
                Some(Image::Published { url, user, .. }) => (Some(url.clone()), Some(user.clone()), self.disks.find(name)?.is_some()),
                _ => (None, None, self.find_micro()?.is_some()),
            };
            Ok(CatalogueEntry { name: name.to_owned(), url, user, present })
        };
        catalogue.names().into_iter().map(entry).collect()
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

    /// Removes what no name stands for and nobody uses.
    pub fn prune_images(&self) -> Result<RemovedImages, Problem> {
        self.disks.prune(&self.deployments(), &Cancel::new())
    }

    /// Makes the micro image from this machine's packages.
    pub fn build_micro(&self, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<MicroImage, Problem> {
        cancel.check()?;
        images::build_micro(&self.config.images_dir, &images::MicroSources::find()?, cancel, say)
    }

    pub(super) fn read_catalogue(&self) -> Result<Catalogue, Problem> {
        project::catalogue(&self.config.catalogues)
    }
}

fn unknown(name: &str, catalogue: &Catalogue) -> Problem {
    let near = suggestion(name, &catalogue.names()).map_or_else(String::new, |near| format!("{near} "));
    Problem::new(Code::NotFound, format!("there is no image `{}` in the catalogue", printable(name)))
        .hint(format!("{near}`testbed image list --available` shows the catalogue; `images.toml` adds to it (docs/images.md)"))
}
