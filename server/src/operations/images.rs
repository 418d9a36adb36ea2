//! Actions on images, which belong to no deployment, and who uses an image.

use std::sync::Arc;

use kvm_compose::{
    api::{Command, Phase, RemovedImages},
    backend::images::disks::{self, Import, store::in_use},
    error::{Code, Problem},
    names::{DeploymentName, printable},
    topology::GuestKind,
};
use uuid::Uuid;

use super::{Followed, Operations, index, perform::Job};

impl Operations {
    /// Starts the making of the micro image. Fails with `busy` while one is being made.
    pub fn start_build(self: &Arc<Self>) -> Result<Uuid, Problem> {
        self.start_on_images(Command::BuildImage, Job::BuildMicro)
    }

    /// Starts the download of an image. Fails with `not_found` when the catalogue has no such name. Blocks.
    pub fn start_pull(self: &Arc<Self>, name: &str) -> Result<Uuid, Problem> {
        disks::check_name(name)?;
        let catalogue = self.driver.catalogue()?;
        let Some(entry) = catalogue.iter().find(|entry| entry.name == name) else {
            let names: Vec<&str> = catalogue.iter().map(|entry| entry.name.as_str()).collect();
            let near = kvm_compose::spec::reader::suggestion(name, &names).map_or_else(String::new, |near| format!("{near} "));
            let hint = format!("{near}`testbed image list --available` shows the catalogue; `images.toml` adds to it");
            return Err(Problem::new(Code::NotFound, format!("there is no image `{}` in the catalogue", printable(name))).hint(hint));
        };
        if entry.url.is_none() {
            return Err(Problem::new(Code::Unsupported, format!("the image `{name}` is built on the server, not downloaded"))
                .hint(format!("make it with `testbed image build {name}`")));
        }
        self.start_on_images(Command::PullImage, Job::PullImage(name.to_owned()))
    }

    /// Starts taking in an image that was handed over.
    pub fn start_import(self: &Arc<Self>, import: Import) -> Result<Uuid, Problem> {
        self.start_on_images(Command::ImportImage, Job::ImportImage(import))
    }

    fn start_on_images(self: &Arc<Self>, command: Command, job: Job) -> Result<Uuid, Problem> {
        let slot = self.table.claim(&index::images_owner()?, command, Uuid::now_v7(), || Ok(()))?;
        self.launch(slot, job)
    }

    /// Asks an action on images to stop; fails as [`Operations::cancel`] does.
    pub fn cancel_image(&self, uuid: Uuid) -> Result<(), Problem> {
        if let Some(running) = self.table.running(uuid).filter(|running| running.command.is_on_images()) {
            running.cancel.cancel();
            return Ok(());
        }
        let entry = self.image_entry(uuid)?;
        Err(Problem::new(Code::Conflict, format!("the action {uuid} has ended already: {}", entry.state)))
    }

    /// The files of an action on images and how far they have come.
    pub fn follow_image(&self, uuid: Uuid) -> Result<Followed, Problem> {
        self.follow_entry(uuid, || self.image_entry(uuid))
    }

    /// Removes an image. Refused while a guest's disk rests on it, here or on another host. Blocks.
    pub fn remove_image(&self, name: &str) -> Result<RemovedImages, Problem> {
        disks::check_name(name)?;
        let users = self.image_users(name)?;
        if !users.is_empty() {
            return Err(in_use(name, users.iter().map(DeploymentName::as_str)));
        }
        self.driver.remove_image(name)
    }

    /// Removes images that nobody uses. While a deployment is being changed golden images stay: one may have been made for it a
    /// moment ago. Blocks.
    pub fn prune_images(&self) -> Result<RemovedImages, Problem> {
        let busy = self.table.all().iter().any(|running| !running.command.is_on_images());
        self.driver.prune_images(busy)
    }

    /// Deployments that are there, or are being made, and whose file names this image.
    fn image_users(&self, name: &str) -> Result<Vec<DeploymentName>, Problem> {
        let mut users = Vec::new();
        for record in self.records()? {
            let deployment = &record.value.name;
            if record.value.phase == Phase::Down && !self.table.is_owned(deployment) {
                continue;
            }
            // A file that cannot be read any more names nothing; the disks that are there say the rest.
            let Ok(topology) = self.project(deployment).and_then(|project| self.driver.topology(&project)) else { continue };
            let names = |kind: &GuestKind| matches!(kind, GuestKind::CloudImage { image, .. } if image.path == name);
            if topology.guests.iter().any(|guest| names(&guest.kind)) {
                users.push(deployment.clone());
            }
        }
        Ok(users)
    }
}
