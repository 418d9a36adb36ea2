//! The master's view of a way through the network, for `why`.

use std::{collections::BTreeMap, path::PathBuf};

use uuid::Uuid;

use super::LocalHost;
use crate::{
    backend::network::path,
    error::Problem,
    orchestrate::host::Cancel,
    why::{
        Binding,
        trace::{self, Packet, Traced},
    },
};

impl LocalHost {
    /// What OVN says of ports, by their names.
    pub fn port_bindings(&self, ports: &[Uuid]) -> Result<BTreeMap<Uuid, Binding>, Problem> {
        path::bindings(&self.config.ovn_nb, &self.southbound(), ports)
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
