//! From nodes to what the user wrote: the network in the older form, of bridges.
//!
//! Pure. Which bridges there are is checked here, since it is about this text alone.

use std::collections::BTreeMap;

use super::{
    decode::names,
    model::{Bridge, Bridges},
    node::Node,
    reader::{Fields, Reader, Spanned, suggestion},
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
    let mut all: Vec<Bridge> = Vec::new();
    for node in list.and_then(|node| reader.list(node, "`bridges`")).unwrap_or_default() {
        let Some(bridge) = bridge(node, reader) else { continue };
        match all.iter().any(|known| known.name.value == bridge.name.value) {
            true => {
                let hint = Some("give it another name".to_string());
                reader.error(bridge.name.at, "E011", format!("there is a bridge `{}` already", bridge.name.value), hint);
            }
            false => all.push(bridge),
        }
    }
    let known: Vec<NetworkName> = all.iter().map(|bridge| bridge.name.value.clone()).collect();
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

fn pairs(node: &Node, known: &[NetworkName], reader: &mut Reader) -> Vec<Pair> {
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
fn find(name: &Spanned<NetworkName>, known: &[NetworkName], reader: &mut Reader) -> bool {
    let there = known.contains(&name.value);
    // Without any bridge the fault is elsewhere.
    if !there && !known.is_empty() {
        reader.error(name.at, "E024", format!("there is no bridge `{}`", name.value), Some(bridge_hint(&name.value, known)));
    }
    there
}

/// What to write instead of a bridge that is not there.
pub fn bridge_hint(name: &NetworkName, known: &[NetworkName]) -> String {
    let words: Vec<&str> = known.iter().map(NetworkName::as_str).collect();
    suggestion(name.as_str(), &words).unwrap_or_else(|| format!("bridges of this file: {}", words.join(", ")))
}
