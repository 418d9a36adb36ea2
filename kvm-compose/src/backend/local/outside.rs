//! This host's bridges to networks of its own, and its interfaces on logical switches.
//!
//! Puts the parts together and decides nothing.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::LocalHost;
use crate::{
    backend::{
        Owner,
        network::{
            host_link::{self, Link},
            internal, mapping,
        },
    },
    error::Problem,
    names::DeploymentName,
    orchestrate::host::{Cancel, Context},
    plan::{
        blueprint::Blueprint,
        observed::{OnHost, Stranger},
        outside::{InternalPort, Outside, SeenOutside, Uplink},
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
        let wanted = wanted.map(|wanted| wanted.outside.on(&self.config.host)).unwrap_or_default();
        if internals.is_empty() && wanted == Outside::default() {
            return Ok((SeenOutside::default(), Vec::new()));
        }
        let links = host_link::links(&never)?;
        internal::with_links(&mut internals, &links);
        let (uplinks, mut strangers) = mapping::observe(socket, self.config.installation, &wanted.uplinks, &links, &never)?;
        // An interface of the deployment that goes, goes before another comes.
        let own = |name: &String| internals.iter().any(|port| port.interface == *name);
        let others = links.iter().filter(|(name, _)| !own(name)).map(|(name, link)| (name.clone(), link.clone())).collect();
        strangers.extend(in_the_way(&wanted, &links, &others));
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

/// Networks of others on this host that an address which is wanted would tear apart.
fn in_the_way(wanted: &Outside, links: &BTreeMap<String, Link>, others: &BTreeMap<String, Link>) -> Vec<Stranger> {
    let uplinks = wanted.uplinks.iter().filter_map(|uplink| Some((&uplink.mapping.bridge, uplink.mapping.address?, "host.json")));
    let internals = wanted.internals.iter().map(|port| (&port.interface, port.address, "the testbed file"));
    let is_there = |name: &String, address: &IpNet| links.get(name).is_some_and(|link| link.addresses.contains(address));
    let missing = uplinks.chain(internals).filter(|(name, address, _)| !is_there(name, address));
    let found = missing.filter_map(|(name, address, who)| {
        let (other, net) = host_link::in_the_way(others, name, address)?;
        Some(Stranger {
            kind: "network".to_string(),
            name: format!("{net} on {other}"),
            hint: format!("{who} gives the host {address} on `{name}`: choose a subnet that the host has nowhere else"),
            installation: None,
            deployment: None,
        })
    });
    found.collect()
}
