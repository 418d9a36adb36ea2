//! The master's view of a way through the network, for `why`.

use std::{collections::BTreeMap, path::PathBuf};

use uuid::Uuid;

use super::LocalHost;
use crate::{
    backend::network::path,
    error::Problem,
    names::DeploymentName,
    orchestrate::host::Cancel,
    why::{
        Binding, Foreign,
        trace::{self, Packet, Traced},
    },
};

impl LocalHost {
    /// What OVN says of ports, by their names.
    pub fn port_bindings(&self, ports: &[Uuid]) -> Result<BTreeMap<Uuid, Binding>, Problem> {
        path::bindings(&self.config.ovn_nb, &self.southbound(), ports)
    }

    /// Rows that somebody else has put on a deployment's switches and routers.
    pub fn foreign_rows(&self, deployment: &DeploymentName) -> Result<Vec<Foreign>, Problem> {
        self.northbound.foreign(&self.owner(deployment))
    }

    /// What of OVN is behind, in words.
    pub fn network_behind(&self) -> Result<Option<String>, Problem> {
        path::behind(&self.config.ovn_nb)
    }

    /// Where OVN says that a packet's way ends.
    pub fn trace(&self, switch: &str, packet: &Packet, cancel: &Cancel) -> Result<Traced, Problem> {
        path::trace(&self.southbound(), switch, packet, cancel).map(|text| trace::read(&text))
    }

    fn southbound(&self) -> PathBuf {
        self.config.ovn_nb.with_file_name("ovnsb_db.sock")
    }
}
