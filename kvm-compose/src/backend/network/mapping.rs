//! Hosts' networks: bridges of Open vSwitch, and the key by which ovn-controller(8) finds them (`ovn-bridge-mappings`).
//!
//! What others have there stays. What we made is marked, for whoever takes it away: a bridge by `testbedos-installation`, a
//! mapping by its place in `testbedos-bridge-mappings`, forwarding by `testbedos-ip-forward`.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    host_commit::commit,
    host_link::{self, Link},
    host_masquerade as masquerade,
    ovsdb::{Database, Session},
    seen::{INSTALLATION, rows_of},
    value,
};
use crate::{
    addr::Mac,
    error::{Code, Problem},
    names::InstallationId,
    orchestrate::host::Cancel,
    plan::{
        observed::Stranger,
        outside::{Mapping, SeenUplink, Uplink},
    },
};

/// OVN's key in the table `Open_vSwitch`.
const MAPPINGS: &str = "ovn-bridge-mappings";
/// Which of them are ours.
const OURS: &str = "testbedos-bridge-mappings";
/// What the kernel did before we made it forward.
const FORWARD: &str = "testbedos-ip-forward";
/// How often a change is built anew because someone else was faster.
const TRIES: usize = 5;

/// Open vSwitch, as far as this needs it.
struct Seen {
    row: Uuid,
    ids: BTreeMap<String, String>,
    bridges: BTreeMap<String, Bridge>,
}

struct Bridge {
    datapath: String,
    installation: Option<String>,
}

fn look(session: &mut Session) -> Result<Seen, Problem> {
    let results = session.read(vec![
        json!({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["_uuid", "external_ids"]}),
        json!({"op": "select", "table": "Bridge", "where": [], "columns": ["name", "datapath_type", "external_ids"]}),
    ])?;
    let row = &results[0]["rows"][0];
    let missing = || Problem::new(Code::Ovn, "Open vSwitch's database is empty").hint("`ovs-vsctl init` makes its first row");
    let bridge = |row: &Value| {
        let installation = value::read_map(&row["external_ids"]).and_then(|mut ids| ids.remove(INSTALLATION));
        Some((row["name"].as_str()?.to_string(), Bridge { datapath: row["datapath_type"].as_str()?.to_string(), installation }))
    };
    Ok(Seen {
        row: value::read_uuid(&row["_uuid"]).ok_or_else(missing)?,
        ids: value::read_map(&row["external_ids"]).unwrap_or_default(),
        bridges: rows_of(&results[1]).iter().filter_map(bridge).collect(),
    })
}

impl Seen {
    /// Where a network leads, unless it leads nowhere any more.
    fn bridge_of(&self, network: &str) -> Option<&str> {
        let mappings = self.ids.get(MAPPINGS).map_or("", String::as_str);
        let found = pairs(mappings).find(|(name, _)| *name == network)?.1;
        self.bridges.contains_key(found).then_some(found)
    }

    /// Another bridge that the network leads to, and that is not ours to leave.
    fn stranger(&self, installation: InstallationId, mapping: &Mapping) -> Option<Stranger> {
        let other = self.bridge_of(mapping.network.as_str()).filter(|other| *other != mapping.bridge)?;
        let owner = self.bridges.get(other)?.installation.clone();
        (owner.as_deref() != Some(&installation.to_string())).then(|| Stranger {
            kind: "bridge mapping".to_string(),
            name: format!("{}:{other}", mapping.network),
            hint: format!(
                "host.json leads `{}` to `{}`: name `{other}` there, or take the mapping out of `ovs-vsctl get open . external-ids:{MAPPINGS}`",
                mapping.network, mapping.bridge
            ),
            installation: owner,
            deployment: None,
        })
    }
}

/// What this host's bridges lack of what is wanted, and mappings of others in their way.
pub fn observe(
    socket: &Path,
    installation: InstallationId,
    wanted: &[Uplink],
    links: &BTreeMap<String, Link>,
    cancel: &Cancel,
) -> Result<(Vec<SeenUplink>, Vec<Stranger>), Problem> {
    if wanted.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let seen = look(&mut Database::switch(socket).open()?)?;
    let strangers = wanted.iter().filter_map(|uplink| seen.stranger(installation, &uplink.mapping)).collect();
    let lacks = |uplink: &Uplink| {
        let Mapping { network, bridge, address } = &uplink.mapping;
        if !seen.bridges.contains_key(bridge) {
            return Ok(SeenUplink { network: network.clone(), there: false, lacks: vec![format!("the bridge {bridge}")] });
        }
        let mut lacks = Vec::new();
        if seen.bridge_of(network.as_str()) != Some(bridge.as_str()) {
            lacks.push("the mapping".to_string());
        }
        let link = links.get(bridge);
        if !link.is_some_and(|link| link.up) {
            lacks.push("a bridge that is up".to_string());
        }
        if let Some(address) = address.filter(|address| !link.is_some_and(|link| link.addresses.contains(address))) {
            lacks.push(format!("the address {address}"));
        }
        if let Some(net) = masquerade::network_of(*address).filter(|_| uplink.masquerade)
            && !masquerade::is_on(bridge, net, cancel)?
        {
            lacks.push("masquerading".to_string());
        }
        Ok(SeenUplink { network: network.clone(), there: true, lacks })
    };
    let uplinks: Result<Vec<SeenUplink>, Problem> = wanted.iter().map(lacks).collect();
    Ok((uplinks?, strangers))
}

/// Makes a bridge and its mapping, in one transaction, then brings it up. Done already is success.
pub fn set_up(socket: &Path, installation: InstallationId, uplink: &Uplink, cancel: &Cancel) -> Result<(), Problem> {
    let (mut session, Mapping { network, bridge, address }) = (Database::switch(socket).open()?, &uplink.mapping);
    let mut refused = None;
    for _ in 0..TRIES {
        let seen = look(&mut session)?;
        if let Some(stranger) = seen.stranger(installation, &uplink.mapping) {
            return Err(
                Problem::new(Code::Conflict, format!("the network `{network}` leads elsewhere: `{}`", stranger.name)).hint(stranger.hint)
            );
        }
        let operations = operations(installation, uplink, &seen, masquerade::forwards()?);
        refused = match operations.is_empty() {
            true => None,
            // Somebody else was faster: look again.
            false => commit(&mut session, operations, cancel)?.err(),
        };
        if refused.is_none() {
            break;
        }
    }
    if let Some(refusal) = refused {
        return Err(Problem::new(Code::Ovn, format!("Open vSwitch refused the bridge `{bridge}`")).cause(refusal));
    }
    host_link::bring_up(bridge, *address, false, cancel)?;
    match masquerade::network_of(*address).filter(|_| uplink.masquerade) {
        Some(net) => masquerade::turn_on(bridge, net, cancel),
        None => Ok(()),
    }
}

fn operations(installation: InstallationId, uplink: &Uplink, seen: &Seen, forwards: bool) -> Vec<Value> {
    let Mapping { network, bridge, .. } = &uplink.mapping;
    let row = json!([["_uuid", "==", ["uuid", seen.row.to_string()]]]);
    let mut operations = Vec::new();
    let mut ids = BTreeMap::new();
    let text = |key: &str| seen.ids.get(key).map_or("", String::as_str);
    if !seen.bridges.contains_key(bridge) {
        let marks = BTreeMap::from([(INSTALLATION.to_string(), installation.to_string())]);
        // Its address on the link stays over restarts, and so do others' neighbour tables.
        let other = BTreeMap::from([
            ("hwaddr".to_string(), hardware_address(installation, bridge).to_string()),
            ("disable-in-band".to_string(), "true".to_string()),
        ]);
        let datapath = match seen.bridges.get(&uplink.beside) {
            Some(beside) => beside.datapath.clone(),
            None => text("ovn-bridge-datapath-type").to_string(),
        };
        operations.extend([
            json!({"op": "insert", "table": "Interface", "uuid-name": "interface", "row": {"name": bridge, "type": "internal"}}),
            json!({"op": "insert", "table": "Port", "uuid-name": "port", "row": {"name": bridge, "interfaces": ["named-uuid", "interface"]}}),
            json!({"op": "insert", "table": "Bridge", "uuid-name": "bridge", "row": {"name": bridge, "ports": ["named-uuid", "port"],
                "datapath_type": datapath, "external_ids": value::write_map(&marks), "other_config": value::write_map(&other)}}),
            json!({"op": "mutate", "table": "Open_vSwitch", "where": row, "mutations": [["bridges", "insert", ["set", [["named-uuid", "bridge"]]]]]}),
        ]);
    }
    if seen.bridge_of(network.as_str()) != Some(bridge.as_str()) {
        ids.insert(MAPPINGS.to_string(), with(text(MAPPINGS), &uplink.mapping));
        ids.insert(OURS.to_string(), with(text(OURS), &uplink.mapping));
    }
    if uplink.masquerade && !forwards && !seen.ids.contains_key(FORWARD) {
        ids.insert(FORWARD.to_string(), "0".to_string());
    }
    if !ids.is_empty() {
        let keys: Vec<&String> = ids.keys().collect();
        operations.push(json!({"op": "mutate", "table": "Open_vSwitch", "where": row,
            "mutations": [["external_ids", "delete", ["set", keys]], ["external_ids", "insert", value::write_map(&ids)]]}));
        // Nothing happens unless the keys still say what they said: others may be changing them.
        let same = json!([{"external_ids": value::write_map(&seen.ids)}]);
        let wait = json!({"op": "wait", "timeout": 0, "table": "Open_vSwitch", "where": row, "columns": ["external_ids"], "until": "==", "rows": same});
        operations.insert(0, wait);
    }
    operations
}

fn hardware_address(installation: InstallationId, bridge: &str) -> Mac {
    let bytes = *Uuid::new_v5(&installation.0, format!("uplink/{bridge}").as_bytes()).as_bytes();
    Mac([0x02, bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]])
}

/// `a:br-a,b:br-b`, read.
fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(',').filter_map(|pair| pair.trim().split_once(':'))
}

/// The same text with one mapping more, in place of another for the same network.
fn with(text: &str, mapping: &Mapping) -> String {
    let others = pairs(text).filter(|(network, _)| *network != mapping.network.as_str());
    let others = others.map(|(network, bridge)| format!("{network}:{bridge}"));
    others.chain([mapping.to_string()]).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{HostName, NetworkName};

    fn uplink(network: &str, bridge: &str) -> Uplink {
        let mapping = Mapping { network: NetworkName::new(network).expect("valid"), bridge: bridge.to_string(), address: None };
        Uplink { host: HostName::master(), mapping, beside: "br-int".to_string(), masquerade: false }
    }

    fn seen(mappings: &str, bridges: &[(&str, Option<u128>)]) -> Seen {
        let bridge = |installation: Option<u128>| Bridge {
            datapath: "netdev".to_string(),
            installation: installation.map(|id| Uuid::from_u128(id).to_string()),
        };
        Seen {
            row: Uuid::nil(),
            ids: BTreeMap::from([(MAPPINGS.to_string(), mappings.to_string())]),
            bridges: bridges.iter().map(|(name, installation)| (name.to_string(), bridge(*installation))).collect(),
        }
    }

    const OUR: InstallationId = InstallationId(Uuid::from_u128(1));

    #[test]
    fn a_mapping_is_added_to_those_of_others() {
        assert_eq!(with("", &uplink("public", "br-ex").mapping), "public:br-ex");
        assert_eq!(with("phys:br-p, public:br-x", &uplink("public", "br-ex").mapping), "phys:br-p,public:br-ex");
        let all = operations(OUR, &uplink("public", "br-ex"), &seen("phys:br-p", &[("br-int", None), ("br-p", None)]), true);
        let text = json!(all).to_string();
        assert!(text.contains("phys:br-p,public:br-ex") && text.contains("\"datapath_type\":\"netdev\""), "{text}");
        assert_eq!(all[0]["op"], "wait");
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let there = seen("public:br-ex", &[("br-ex", None)]);
        assert!(operations(OUR, &uplink("public", "br-ex"), &there, true).is_empty());
        assert_eq!(operations(OUR, &Uplink { masquerade: true, ..uplink("public", "br-ex") }, &there, false).len(), 2);
    }

    #[test]
    fn anothers_bridge_is_in_the_way_and_our_own_or_a_gone_one_is_not() {
        let wanted = uplink("public", "br-ex").mapping;
        assert!(seen("public:br-x", &[("br-x", None)]).stranger(OUR, &wanted).is_some_and(|stranger| stranger.name == "public:br-x"));
        assert!(seen("public:br-x", &[("br-x", Some(2))]).stranger(OUR, &wanted).is_some());
        assert_eq!(seen("public:br-x", &[("br-x", Some(1))]).stranger(OUR, &wanted), None);
        assert_eq!(seen("public:br-x", &[]).stranger(OUR, &wanted), None);
    }
}
