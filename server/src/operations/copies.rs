//! Archives into guests and out of them, wherever they stand: a member gets one by its digest, as it gets base files, and sends
//! one as the output of a call, a few pieces ahead of what was read.
//!
//! Must not know HTTP or what is in an archive.

use std::cell::RefCell;

use kvm_compose::{
    api::copy::{GuestPath, PathSeen},
    backend::local::CopySpool,
    error::Problem,
    names::{DeploymentName, GuestName},
    orchestrate::host::Cancel,
};
use uuid::Uuid;

use super::local::LocalDriver;
use crate::cluster::{
    calls::{Patience, Said},
    wire::Call,
};

impl LocalDriver {
    /// What is at a path in a guest.
    pub(super) fn look_at_path_anywhere(
        &self,
        deployment: &DeploymentName,
        guest: &GuestName,
        path: &GuestPath,
    ) -> Result<PathSeen, Problem> {
        let cancel = Cancel::new();
        let Some((cluster, host)) = self.standing_far(deployment, guest, &cancel)? else {
            return self.host().look_at_path(deployment, guest, path, false, &cancel);
        };
        let call = Call::LookAtPath { deployment: deployment.clone(), guest: guest.clone(), path: path.clone() };
        cluster.call(&host, &call, Patience::UntilLost, &cancel, &|_| {})
    }

    /// Unpacks an archive into a folder of a guest.
    pub(super) fn put_anywhere(
        &self,
        deployment: &DeploymentName,
        guest: &GuestName,
        folder: &GuestPath,
        archive: &CopySpool,
        cancel: &Cancel,
    ) -> Result<(), Problem> {
        let Some((cluster, host)) = self.standing_far(deployment, guest, cancel)? else {
            return self.host().put_archive(deployment, guest, folder, archive, cancel);
        };
        let sum = self.host().sum_of(archive.path(), cancel)?;
        let call = Call::PutArchive { deployment: deployment.clone(), guest: guest.clone(), folder: folder.clone(), sum };
        cluster.call(&host, &call, Patience::UntilLost, cancel, &|_| {})
    }

    /// Packs a path of a guest, piece by piece, until `write` says that nobody reads.
    pub(super) fn get_anywhere(
        &self,
        deployment: &DeploymentName,
        guest: &GuestName,
        path: &GuestPath,
        cancel: &Cancel,
        write: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), Problem> {
        let Some((cluster, host)) = self.standing_far(deployment, guest, cancel)? else {
            return self.host().get_archive(deployment, guest, path, cancel, write);
        };
        let call = Call::GetArchive { deployment: deployment.clone(), guest: guest.clone(), path: path.clone() };
        let (id, write) = (Uuid::now_v7(), RefCell::new(write));
        cluster.call_as(id, &host, &call, Patience::UntilLost, cancel, &|said| {
            let Said::Output(_, piece) = said else { return };
            if !(write.borrow_mut())(piece) {
                cancel.cancel();
            }
            // The next one may come. A member that is away hears it never, and gives up.
            let _away = cluster.type_in(&host, id, b"+");
        })
    }
}
