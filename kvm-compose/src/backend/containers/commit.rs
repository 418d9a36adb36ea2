//! A container held still, and its files put into an image.
//!
//! Must not know snapshots of a testbed.

use std::time::Duration;

use bollard::{
    errors::Error,
    models::ContainerConfig,
    query_parameters::{CommitContainerOptionsBuilder, RemoveImageOptionsBuilder},
};
use uuid::Uuid;

use super::{Engine, LIMIT, found};
use crate::{backend::Owner, error::Problem};

/// The name of images that hold containers' files; the tag says which.
pub const REPOSITORY: &str = "testbedos-snapshot";

/// A large container's files take a while.
const COMMIT_LIMIT: Duration = Duration::from_secs(600);

impl Engine {
    /// Makes a container's processes stand still.
    pub fn freeze(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<(), Problem> {
        match self.look_at_ours(name, uuid, owner)? {
            Some(seen) if seen.state.pid.is_some() && !seen.state.paused => {
                let doing = format!("Docker does not pause the container `{name}`");
                self.ask(&doing, LIMIT, async |docker| docker.pause_container(&seen.id).await)
            }
            _ => Ok(()),
        }
    }

    /// Lets a container go on that stands still. One that is gone or goes on already is left as it is.
    pub fn release(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<(), Problem> {
        match self.look_at_ours(name, uuid, owner)? {
            Some(seen) if seen.state.paused => {
                let doing = format!("Docker does not let the container `{name}` go on");
                self.ask(&doing, LIMIT, async |docker| docker.unpause_container(&seen.id).await)
            }
            _ => Ok(()),
        }
    }

    /// Puts a container's files into an image of this tag, as they are; returns the image's id.
    pub fn commit(&self, name: &str, tag: &str) -> Result<String, Problem> {
        let doing = format!("Docker does not put the files of the container `{name}` into an image");
        // Whoever holds it still does so for all guests at once.
        let options = CommitContainerOptionsBuilder::default().container(name).repo(REPOSITORY).tag(tag).pause(false).build();
        let made = self.ask(&doing, COMMIT_LIMIT, async |docker| docker.commit_container(options, ContainerConfig::default()).await)?;
        Ok(made.id)
    }

    /// Takes an image's name away, and the image unless a container still needs it. Absent already is success.
    pub fn remove_image(&self, image: &str) -> Result<(), Problem> {
        let doing = format!("Docker does not remove the image `{image}`");
        let options = RemoveImageOptionsBuilder::default().force(true).build();
        self.ask(&doing, LIMIT, async |docker| {
            match docker.remove_image(image, Some(options), None).await {
                // Somebody else is at it, such as the call of a server that died.
                Err(Error::DockerResponseServerError { status_code: 409, .. }) => Ok(()),
                other => found(other).map(|_| ()),
            }
        })
    }
}
