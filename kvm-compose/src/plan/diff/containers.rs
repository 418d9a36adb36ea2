//! Steps for containers: their images, and which of them is meant.
//!
//! Pure. Everything else of a container is as of a domain.

use std::sync::Arc;

use super::Differ;
use crate::plan::{
    blueprint::{Domain, GuestBlueprint},
    observed::ObservedDomain,
    step::{Impact, StepId, Work},
};

/// Stops a guest and keeps it.
pub(super) fn stop(guest: &GuestBlueprint) -> Work {
    Work::StopDomain { name: guest.domain.name.clone(), uuid: guest.domain.uuid, runtime: guest.domain.runtime() }
}

impl Differ<'_> {
    /// The name of a container's image leads to another image than the one it was made from. An image that is not there any
    /// more is none that it could be made from anew.
    pub(super) fn has_another_image(&self, guest: &GuestBlueprint, there: &ObservedDomain) -> bool {
        let Some(container) = &guest.domain.container else { return false };
        self.observed.image(&guest.host, &container.image).is_some_and(|id| id != there.image)
    }

    /// What is started: of a container, from the very image that its name leads to now.
    pub(super) fn pinned(&self, guest: &GuestBlueprint) -> Arc<Domain> {
        let mut domain = guest.domain.clone();
        let id = domain.container.as_ref().and_then(|container| self.observed.image(&guest.host, &container.image));
        if let Some(id) = id
            && let Some(container) = &mut Arc::make_mut(&mut domain).container
        {
            container.image_id = Some(id.to_string());
        }
        domain
    }

    /// Brings the image of a container that starts, once to a host.
    pub(super) fn pull(&mut self, guest: &GuestBlueprint) -> Option<StepId> {
        let image = &guest.domain.container.as_ref()?.image;
        if self.observed.image(&guest.host, image).is_some() {
            return None;
        }
        let key = (guest.host.clone(), image.clone());
        if let Some(step) = self.pulled.get(&key) {
            return Some(step.clone());
        }
        let id = format!("pull/{image}{}", self.suffix(&guest.host));
        let work = Work::PullImage { image: image.clone() };
        let step = self.push(id, guest.host.clone(), work, Vec::new(), ("the host does not have it", Impact::Create), Vec::new());
        self.pulled.insert(key, step.clone());
        Some(step)
    }
}
