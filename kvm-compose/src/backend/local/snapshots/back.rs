//! Snapshots of guests on this host, put back, given up, and what deaths left of them.
//!
//! Each is safe to repeat. Must not know in which order a restore goes.

use std::path::{Path, PathBuf};

use serde_json::json;
use uuid::Uuid;

use super::{HANDS, each};
use crate::{
    backend::{
        files::folder,
        hypervisor::Hypervisor,
        local::LocalHost,
        snapshots::{self, Left, Restoring, Shelf},
    },
    error::{Code, Problem},
    names::{DeploymentName, GuestName, SnapshotName, domain_name},
    orchestrate::host::{Cancel, Context},
    plan::{
        blueprint::Domain,
        container::Runtime,
        snapshot::{Manifest, SavedDisk, SavedFile, SavedGuest},
    },
};

/// How long an agent may take to set its guest's clock.
const CLOCK_LIMIT_S: u32 = 3;

impl LocalHost {
    /// Gives up what deaths left of snapshots; whoever stands still for one goes on. Returns what was done, in words.
    pub fn sweep_snapshots(&self, deployment: &DeploymentName) -> Result<Vec<String>, Problem> {
        let (shelf, owner) = (self.shelf(deployment), self.owner(deployment));
        let mut told = Vec::new();
        for left in shelf.left()? {
            let (folder, images, what) = match &left {
                Left::Part(folder, making) => {
                    self.release_all(&making.held, &owner)?;
                    (folder, &making.images, "a snapshot that was not finished is given up; its guests go on")
                }
                Left::Gone(folder, images) => (folder, images, "what was left of a deleted snapshot is removed"),
            };
            self.drop_images(images)?;
            shelf.clear(folder)?;
            told.push(what.to_string());
        }
        Ok(told)
    }

    /// Deletes a snapshot. One that cannot be read is deleted as well.
    pub fn delete_snapshot(&self, deployment: &DeploymentName, name: &SnapshotName) -> Result<(), Problem> {
        let shelf = self.shelf(deployment);
        match shelf.read(name) {
            Err(problem) if problem.code == Code::NotFound => return Err(problem),
            _ => {}
        }
        shelf.unname(name)?;
        self.sweep_snapshots(deployment).map(|_| ())
    }

    /// Checks what is kept of a guest against the manifest.
    pub fn check_saved(&self, shelf: &Shelf, manifest: &Manifest, guest: &SavedGuest, cancel: &Cancel) -> Result<(), Problem> {
        let folder = shelf.folder(&manifest.name);
        let wrong = |file: &SavedFile, how: &str| {
            let message = format!("the snapshot `{}` is damaged: `{}` of guest `{}` {how}", manifest.name, file.file, guest.name);
            Problem::new(Code::SumMismatch, message).hint("it cannot be restored; nothing was changed")
        };
        for file in guest.memory.iter().chain(guest.disks.iter().map(|disk| &disk.content)) {
            let found = snapshots::sum(&folder.join(&file.file), false, cancel).map_err(|problem| match problem.code {
                Code::Storage => wrong(file, "cannot be read").cause(problem.causes.first().unwrap_or(&problem.message)),
                _ => problem,
            })?;
            if found.bytes != file.bytes {
                return Err(wrong(file, &format!("has {} bytes instead of {}", found.bytes, file.bytes)));
            }
            if found.sha256 != file.sha256 {
                return Err(wrong(file, "has another SHA-256"));
            }
        }
        if let Some(image) = &guest.image
            && self.docker.image(&image.name)?.is_none()
        {
            let message = format!("the image `{}`, with the files of guest `{}`, is not in Docker any more", image.name, guest.name);
            return Err(Problem::new(Code::ImageMissing, message).hint("it cannot be restored; nothing was changed"));
        }
        Ok(())
    }

    /// Copies a guest's disks beside those that are there, where they wait for their names.
    pub fn stage_disks(&self, shelf: &Shelf, manifest: &Manifest, guest: &SavedGuest, cancel: &Cancel) -> Result<(), Problem> {
        let folder = self.folder(&manifest.deployment);
        for disk in &guest.disks {
            let target = self.disk_path(&manifest.deployment, disk);
            folder.make_room_for(&target)?;
            let part = folder::part_of(&target);
            snapshots::copy(&shelf.folder(&manifest.name).join(&disk.content.file), &part, cancel)?;
            let synced = std::fs::File::open(&part).and_then(|file| file.sync_all());
            synced.map_err(|error| Problem::io(format!("cannot write `{}`", part.display()), &error))?;
        }
        Ok(())
    }

    /// Ends what runs of guests and gives their staged disks their names.
    pub fn replace_guests(&self, manifest: &Manifest, guests: &[&SavedGuest], context: &Context<'_>) -> Result<(), Problem> {
        let (deployment, folder) = (&manifest.deployment, self.folder(&manifest.deployment));
        each(guests, HANDS, |guest| {
            let name = domain_name(deployment, &guest.name);
            let uuid = self.config.installation.domain_uuid(deployment, &guest.name);
            match guest.runtime {
                Runtime::Docker => self.remove_container(&name, uuid, context)?,
                Runtime::Libvirt => self.libvirt.remove(&name, uuid, &self.owner(deployment))?,
            }
            guest.disks.iter().try_for_each(|disk| folder.finish(&self.disk_path(deployment, disk)))
        })
    }

    /// Marks a restore, from which on it is to be finished.
    pub fn begin_restoring(&self, deployment: &DeploymentName, restoring: &Restoring) -> Result<(), Problem> {
        self.shelf(deployment).set_restoring(restoring)
    }

    fn disk_path(&self, deployment: &DeploymentName, disk: &SavedDisk) -> PathBuf {
        // Of a manifest nothing but a file's name is taken.
        let name = disk.disk.file_name().unwrap_or_default();
        self.deployments().join(deployment.as_str()).join("disks").join(name)
    }

    pub(in crate::backend::local) fn load(&self, domain: &Domain, memory: &Path, context: &Context<'_>) -> Result<(), Problem> {
        self.folder(context.deployment).make_room_for(&domain.console_log)?;
        self.libvirt.load(domain, &self.owner(context.deployment), context.operation, memory)
    }

    pub(in crate::backend::local) fn resume(
        &self,
        guest: &GuestName,
        name: &str,
        uuid: Uuid,
        context: &Context<'_>,
    ) -> Result<(), Problem> {
        self.libvirt.release(name, uuid, &self.owner(context.deployment))?;
        // Its clock stands where it stood; one without an agent finds out by itself (NTP does, in time).
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let call = json!({"execute": "guest-set-time", "arguments": {"time": u64::try_from(now).unwrap_or_default()}});
        if let Err(fault) = self.libvirt.agent(uuid, &call.to_string(), CLOCK_LIMIT_S) {
            (context.say)(&format!("guest `{guest}` keeps the time that it had: {}", fault.text()));
        }
        Ok(())
    }
}
