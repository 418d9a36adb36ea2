//! `ovn` of host.json: the names by which testbed files know this host's networks.
//!
//! Must not know how a bridge is made.

use std::{collections::BTreeSet, fmt};

use ipnet::IpNet;
use kvm_compose::{
    addr::usable_in,
    names::{NetworkName, printable},
    plan::outside::Mapping,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How OVN's networks reach those of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OvnHost {
    /// Networks by name: each leads to a bridge of Open vSwitch, on which the host may have an address.
    pub bridge_mappings: Vec<BridgeMapping>,
    /// The host forwards what comes from these networks and hides it behind its own addresses, so that guests reach what the
    /// host reaches. Off unless it says so.
    pub masquerade: bool,
}

impl Default for OvnHost {
    fn default() -> Self {
        let public = ["public".to_string(), "br-ex".to_string(), "172.16.1.1/24".to_string()].map(Some).to_vec();
        OvnHost { bridge_mappings: BridgeMapping::try_from(public).into_iter().collect(), masquerade: false }
    }
}

impl OvnHost {
    /// The networks, for planning.
    pub fn mappings(&self) -> Vec<Mapping> {
        self.bridge_mappings.iter().map(|mapping| mapping.0.clone()).collect()
    }

    /// What no single entry can tell.
    pub fn check(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        match self.bridge_mappings.iter().find(|mapping| !names.insert(&mapping.0.network)) {
            Some(twice) => Err(format!("`ovn.bridge_mappings` has `{}` twice", twice.0.network)),
            None => Ok(()),
        }
    }
}

/// `[network, bridge, address]`; the address (`172.16.1.1/24`, the host's own) may be null or left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<Option<String>>", into = "Vec<Option<String>>")]
#[schemars(with = "Vec<Option<String>>")]
pub struct BridgeMapping(Mapping);

impl fmt::Display for BridgeMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mapping { network, bridge, address } = &self.0;
        write!(f, "{network} leads to the bridge {bridge}")?;
        address.map_or(Ok(()), |address| write!(f, ", where this host is {address}"))
    }
}

impl TryFrom<Vec<Option<String>>> for BridgeMapping {
    type Error = String;

    fn try_from(parts: Vec<Option<String>>) -> Result<Self, String> {
        let form = || "a bridge mapping is [network, bridge, address], such as [\"public\", \"br-ex\", \"172.16.1.1/24\"]".to_string();
        let (network, bridge, address) = match parts.as_slice() {
            [Some(network), Some(bridge)] | [Some(network), Some(bridge), None] => (network, bridge, None),
            [Some(network), Some(bridge), Some(address)] => (network, bridge, Some(address)),
            _ => return Err(form()),
        };
        let network = NetworkName::new(network).map_err(|problem| problem.message)?;
        if !is_bridge(bridge) {
            return Err(format!("`{}` is not a bridge's name: use 1 to 15 letters, digits, `-`, `_` and `.`", printable(bridge)));
        }
        let address = address.map(|text| own_address(text)).transpose()?;
        Ok(BridgeMapping(Mapping { network, bridge: bridge.clone(), address }))
    }
}

impl From<BridgeMapping> for Vec<Option<String>> {
    fn from(BridgeMapping(mapping): BridgeMapping) -> Self {
        vec![Some(mapping.network.to_string()), Some(mapping.bridge), mapping.address.map(|address| address.to_string())]
    }
}

/// A network interface's name, as far as `ovn-bridge-mappings` can hold it.
fn is_bridge(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn own_address(text: &str) -> Result<IpNet, String> {
    let wrong = || format!("`{}` is not an address of this host with its prefix, such as 172.16.1.1/24", printable(text));
    let net: IpNet = text.parse().map_err(|_| wrong())?;
    if usable_in(&net.trunc(), net.addr()) { Ok(net) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<OvnHost, String> {
        let ovn: OvnHost = serde_json::from_str(text).map_err(|error| error.to_string())?;
        ovn.check().map(|()| ovn)
    }

    #[test]
    fn a_mapping_is_read_and_written_as_existing_files_have_it() {
        let default = OvnHost::default();
        assert_eq!(serde_json::to_string(&default.bridge_mappings).expect("JSON"), r#"[["public","br-ex","172.16.1.1/24"]]"#);
        assert_eq!(read("{}"), Ok(default.clone()));
        assert_eq!(read(r#"{"bridge_mappings": [["public", "br-ex", "172.16.1.1/24"]]}"#), Ok(default));
        for text in [r#"{"bridge_mappings": [["public", "br-ex", null]]}"#, r#"{"bridge_mappings": [["public", "br-ex"]]}"#] {
            assert_eq!(read(text).expect("valid").mappings()[0].address, None);
        }
        assert_eq!(read(r#"{"bridge_mappings": []}"#).expect("valid").mappings(), []);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (text, named) in [
            (r#"{"bridge_mappings": [["public"]]}"#, "[network, bridge, address]"),
            (r#"{"bridge_mappings": [["pub lic", "br-ex"]]}"#, "pub lic"),
            (r#"{"bridge_mappings": [["public", "br,ex"]]}"#, "br,ex"),
            (r#"{"bridge_mappings": [["public", "a-bridge-with-a-long-name"]]}"#, "15 letters"),
            (r#"{"bridge_mappings": [["public", "br-ex", "172.16.1.0/24"]]}"#, "172.16.1.0/24"),
            (r#"{"bridge_mappings": [["public", "br-ex", "172.16.1.1"]]}"#, "with its prefix"),
            (r#"{"bridge_mappings": [["a", "br-ex"], ["a", "br-x"]]}"#, "twice"),
            (r#"{"bridge_mapings": []}"#, "bridge_mapings"),
        ] {
            let said = read(text).expect_err(text);
            assert!(said.contains(named), "{text}: {said}");
        }
    }
}
