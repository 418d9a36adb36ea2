//! This host's bridges to networks of its own, and its interfaces on logical switches.
//!
//! Puts the parts together and decides nothing.

use super::LocalHost;
use crate::{
    backend::{
        Owner,
        network::{host_link, internal, mapping},
    },
    error::Problem,
    names::DeploymentName,
    orchestrate::host::{Cancel, Context},
    plan::{
        blueprint::Blueprint,
        observed::{OnHost, Stranger},
        outside::{InternalPort, SeenOutside, Uplink},
    },
};

impl LocalHost {
    /// What is there of the deployment's interfaces, and of the bridges that it needs here.
    pub(super) fn look_outside(
        &self,
        deployment: &DeploymentName,
        wanted: Option<&Blueprint>,
    ) -> Result<(SeenOutside, Vec<Stranger>), Problem> {
        let (socket, never) = (&self.config.ovs_db, Cancel::new());
        let mut internals = internal::observe(socket, &self.owner(deployment))?;
        let uplinks = wanted.map(|wanted| wanted.outside.on(&self.config.host).uplinks).unwrap_or_default();
        if internals.is_empty() && uplinks.is_empty() {
            return Ok((SeenOutside::default(), Vec::new()));
        }
        let links = host_link::links(&never)?;
        internal::with_links(&mut internals, &links);
        let (uplinks, strangers) = mapping::observe(socket, self.config.installation, &uplinks, &links, &never)?;
        let host = &self.config.host;
        let seen = SeenOutside {
            uplinks: uplinks.into_iter().map(|what| OnHost { host: host.clone(), what }).collect(),
            internals: internals.into_iter().map(|what| OnHost { host: host.clone(), what }).collect(),
        };
        Ok((seen, strangers))
    }

    pub(super) fn set_up_uplink(&self, uplink: &Uplink, cancel: &Cancel) -> Result<(), Problem> {
        mapping::set_up(&self.config.ovs_db, self.config.installation, uplink, cancel)
    }

    pub(super) fn plug_internal(&self, port: &InternalPort, owner: &Owner, context: &Context<'_>) -> Result<(), Problem> {
        internal::plug(&self.config.ovs_db, owner, context.operation, port, context.cancel)
    }

    pub(super) fn unplug_internal(&self, interface: &str, owner: &Owner, cancel: &Cancel) -> Result<(), Problem> {
        internal::unplug(&self.config.ovs_db, owner, interface, cancel)
    }
}
