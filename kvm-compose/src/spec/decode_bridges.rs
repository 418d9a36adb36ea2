//! From nodes to what the user wrote: the network in the older form, of bridges.
//!
//! Pure. Which bridges there are is checked here, since it is about this text alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    decode::names,
    model::{Bridge, Bridges},
    node::Node,
    reader::{Fields, Reader, Spanned},
};
use crate::names::NetworkName;

/// The keys of the form.
pub const KEYS: [&str; 3] = ["bridges", "bridge_connections", "external_bridge"];

/// Decodes the three keys where they stand, below `network` or at the top. Nothing when none of them is there.
pub fn bridges(fields: &mut Fields<'_>, reader: &mut Reader) -> Option<Bridges> {
    let first = KEYS.iter().find_map(|key| fields.key_at(key));
    let (list, connections, external) = (fields.get("bridges"), fields.get("bridge_connections"), fields.get("external_bridge"));
    let first = first?;
    if list.is_none() {
        let hint = Some("add `bridges: [{name: br0}]`".to_string());
        reader.error(first, "E004", "a network of bridges needs `bridges`".to_string(), hint);
    }
    let (mut all, mut known): (Vec<Bridge>, BTreeSet<NetworkName>) = (Vec::new(), BTreeSet::new());
    for node in list.and_then(|node| reader.list(node, "`bridges`")).unwrap_or_default() {
        let Some(bridge) = bridge(node, reader) else { continue };
        match known.insert(bridge.name.value.clone()) {
            true => all.push(bridge),
            false => {
                let hint = Some("give it another name".to_string());
                reader.error(bridge.name.at, "E011", format!("there is a bridge `{}` already", bridge.name.value), hint);
            }
        }
    }
    let connections = connections.map(|node| pairs(node, &known, reader)).unwrap_or_default();
    let external = external.and_then(|node| reader.name(node, "`external_bridge`")).filter(|name| find(name, &known, reader));
    Some(Bridges { bridges: all, connections, external })
}

fn bridge(node: &Node, reader: &mut Reader) -> Option<Bridge> {
    // `bridges: [br0, br1]` says all that is needed.
    if node.text().is_some() && !node.is_null() {
        return reader.name(node, "a bridge").map(|name| Bridge { name, protocol: (), controller: (), at: node.at });
    }
    let mut fields = reader.fields(node, "a bridge")?;
    let at = fields.at;
    let name = fields.require(reader, "name").and_then(|node| reader.name(node, "`name`"));
    for key in ["protocol", "controller"] {
        if let Some(value) = fields.get(key)
            && reader.text(value, &format!("`{key}`")).is_some()
        {
            let at = fields.key_at(key).unwrap_or(value.at);
            reader.warning(at, "W003", format!("`{key}` has no effect: OVN programs the switch that a bridge becomes"), None);
        }
    }
    fields.finish(reader);
    Some(Bridge { name: name?, protocol: (), controller: (), at })
}

type Pair = (Spanned<NetworkName>, Spanned<NetworkName>);

fn pairs(node: &Node, known: &BTreeSet<NetworkName>, reader: &mut Reader) -> Vec<Pair> {
    let Some(fields) = reader.fields(node, "`bridge_connections`") else { return Vec::new() };
    let mut pairs: Vec<Pair> = Vec::new();
    let mut seen: BTreeMap<(NetworkName, NetworkName), u32> = BTreeMap::new();
    for (key, value) in fields.entries() {
        let from = reader.name::<NetworkName>(key, "a bridge in `bridge_connections`").filter(|name| find(name, known, reader));
        for to in names::<NetworkName>(value, "`bridge_connections`", reader) {
            let (true, Some(from)) = (find(&to, known, reader), &from) else { continue };
            if from.value == to.value {
                let hint = Some("name the other bridge".to_string());
                reader.error(to.at, "E025", format!("bridge `{}` cannot be connected to itself", to.value), hint);
                continue;
            }
            let pair = if from.value < to.value { (from.value.clone(), to.value.clone()) } else { (to.value.clone(), from.value.clone()) };
            match seen.insert(pair, to.at.line) {
                None => pairs.push((from.clone(), to)),
                Some(line) => {
                    let message = format!("bridges `{}` and `{}` are connected already, on line {line}", from.value, to.value);
                    reader.error(to.at, "E011", message, Some("keep one of the two".to_string()));
                }
            }
        }
    }
    pairs
}

/// True when the bridge is one of the file's; a fault otherwise.
fn find(name: &Spanned<NetworkName>, known: &BTreeSet<NetworkName>, reader: &mut Reader) -> bool {
    let there = known.contains(&name.value);
    // Without any bridge the fault is elsewhere.
    if !there && !known.is_empty() {
        reader.error_with(name.at, "E024", format!("there is no bridge `{}`", name.value), |guesses| {
            Some(guesses.near_or_listed(name.value.as_str(), known.iter().map(NetworkName::as_str), "bridges of this file"))
        });
    }
    there
}
