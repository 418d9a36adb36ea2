//! From nodes to what the user wrote: the file itself, and values that occur in several rooms.
//!
//! Pure. Reports every fault and goes on; what could not be read is left out, and then the file has errors. Machines are
//! in `decode_machine`, the network is in `decode_network` and `decode_bridges`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    decode_bridges, decode_checks, decode_machine, decode_network,
    model::{Labels, Machine, Network, Spec},
    node::Node,
    reader::{Fields, Reader, Spanned},
};
use crate::{addr::Mac, names::printable};

/// Decodes a whole file.
pub fn spec(root: &Node, reader: &mut Reader) -> Option<Spec> {
    let mut fields = reader.fields(root, "the file")?;
    let version = fields.get("version").and_then(|node| version(node, reader));
    let machines = fields.require(reader, "machines").and_then(|node| reader.list(node, "`machines`")).unwrap_or_default();
    let machines: Vec<Machine> = machines.iter().filter_map(|node| decode_machine::machine(node, reader)).collect();
    let network = network(&mut fields, reader);
    let labels = fields.get("labels").map(|node| labels(node, reader)).unwrap_or_default();
    for key in ["tooling", "testbed_options"] {
        if let Some(node) = fields.get(key)
            && reader.fields(node, &format!("`{key}`")).is_some()
        {
            let at = fields.key_at(key).unwrap_or(node.at);
            reader.warning(at, "W003", format!("`{key}` is reserved and has no effect"), None);
        }
    }
    let checks = fields.get("checks").map(|node| decode_checks::checks(node, reader)).unwrap_or_default();
    fields.refuse(reader, &["scenario"]);
    fields.own_words();
    fields.also(&["include", "extends"]);
    fields.finish(reader);
    Some(Spec {
        version,
        machines,
        network,
        bridges: (),
        bridge_connections: (),
        external_bridge: (),
        labels,
        checks,
        tooling: None,
        testbed_options: None,
    })
}

/// The network, which the oldest files have at the top, as bridges.
fn network(fields: &mut Fields<'_>, reader: &mut Reader) -> Network {
    let oldest = decode_bridges::bridges(fields, reader);
    match (oldest, fields.key_at("network")) {
        (Some(bridges), None) => Network { bridges: Some(bridges), ..Network::default() },
        (oldest, at) => {
            if let (Some(_), Some(at)) = (oldest, at) {
                let hint = Some("keep one: move the bridges below `network:`, or describe all of it below `network: ovn:`".to_string());
                reader.error(at, "E007", "the network is described twice: by bridges and by `network`".to_string(), hint);
            }
            fields.require(reader, "network").map(|node| decode_network::network(node, reader)).unwrap_or_default()
        }
    }
}

fn version(node: &Node, reader: &mut Reader) -> Option<Spanned<u64>> {
    let version = reader.integer(node, "`version`", 0, u64::MAX)?;
    if version.value != 1 {
        reader.error(
            node.at,
            "E091",
            format!("version {} of the language is not known", version.value),
            Some("write `version: 1`".to_string()),
        );
        return None;
    }
    Some(version)
}

/// Parses an address without a mask; the error is a hint.
pub fn address(text: &str) -> Result<IpAddr, String> {
    if let Some((address, _)) = text.split_once('/') {
        return Err(format!("write the address without a mask: `{}`", printable(address)));
    }
    text.parse().map_err(|_| "write an IPv4 or IPv6 address, such as 10.0.0.10, or `dynamic` where that is allowed".to_string())
}

/// Parses a MAC address that an interface may have; the error is a hint.
pub fn mac(text: &str) -> Result<Mac, String> {
    let mac: Mac = text.parse()?;
    if mac.is_multicast() {
        return Err("this is a group address; the first octet of an interface's own address is even".to_string());
    }
    if mac.is_zero() {
        return Err("an interface cannot have the address of all zeros".to_string());
    }
    Ok(mac)
}

/// Variables and their values; a value may be empty.
pub fn environment(node: &Node, reader: &mut Reader) -> BTreeMap<String, Spanned<String>> {
    let mut map = reader.text_map(node, "`environment`");
    map.retain(|key, value| {
        let valid = crate::names::is_variable(key);
        if !valid {
            let hint = Some(crate::names::VARIABLE_RULE.to_string());
            reader.error(value.at, "E010", format!("`{}` is not a variable's name", printable(key)), hint);
        }
        valid
    });
    map
}

/// A path as written: not empty, no NUL (which the tree refuses), at most 4096 bytes.
pub fn path(node: &Node, what: &str, reader: &mut Reader) -> Option<Spanned<String>> {
    reader.parsed(node, what, "E006", |text| {
        if text.is_empty() || text.len() > 4096 {
            return Err("write a path of 1 to 4096 bytes".to_string());
        }
        if text.starts_with("~/") {
            return Err("`~` means nothing here: write the whole path, or one relative to the project folder".to_string());
        }
        Ok(text.to_string())
    })
}

/// The path below a key, if it is there.
pub fn path_of(fields: &mut Fields<'_>, key: &'static str, reader: &mut Reader) -> Option<Spanned<String>> {
    fields.get(key).and_then(|node| path(node, &format!("`{key}`"), reader))
}

/// Labels: words for the keys, one line of text for the values.
pub fn labels(node: &Node, reader: &mut Reader) -> Labels {
    let mut map = reader.text_map(node, "`labels`");
    map.retain(|key, value| {
        let edge = |c: char| c.is_ascii_alphanumeric();
        let inner = |c: char| edge(c) || "-_./".contains(c);
        let word = key.len() <= 100 && key.starts_with(edge) && key.ends_with(edge) && key.chars().all(inner);
        let line = value.value.chars().count() <= 255 && !value.value.chars().any(char::is_control);
        if !word {
            let hint = Some("use 1 to 100 letters, digits, `-`, `_`, `.` and `/`, starting and ending with a letter or digit".to_string());
            reader.error(value.at, "E010", format!("`{}` is not a label's name", printable(key)), hint);
        } else if !line {
            let hint = Some("use at most 255 characters and no control character".to_string());
            reader.error(value.at, "E006", format!("label `{key}` cannot be `{}`", printable(&value.value)), hint);
        }
        word && line
    });
    map
}

/// One name, or a list of them; no name twice.
pub fn names<T>(node: &Node, what: &str, reader: &mut Reader) -> Vec<Spanned<T>>
where
    T: std::str::FromStr<Err = crate::error::Problem> + Ord + Clone + std::fmt::Display,
{
    let nodes = match &node.value {
        super::node::Value::Scalar { .. } => std::slice::from_ref(node),
        _ => reader.list(node, &format!("{what} must be a name or a list of names, and this")).unwrap_or_default(),
    };
    let (mut names, mut seen, item) = (Vec::new(), BTreeSet::new(), format!("a name in {what}"));
    for node in nodes {
        let Some(name) = reader.name::<T>(node, &item) else { continue };
        if seen.insert(name.value.clone()) {
            names.push(name);
        } else {
            reader.error(name.at, "E011", format!("{what} names `{}` twice", name.value), Some("keep one of them".to_string()));
        }
    }
    names
}

/// Which of several keys, exactly one of which is needed, is there. Says what is wrong unless a misspelt key already does.
pub fn only<'k>(fields: &Fields<'_>, what: &str, keys: &[&'k str], hint: &str, reader: &mut Reader) -> Option<&'k str> {
    let mut given: Vec<&str> = keys.iter().copied().filter(|key| fields.key_at(key).is_some()).collect();
    given.sort_by_key(|key| fields.key_at(key));
    let list = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    match given.as_slice() {
        [] if fields.is_misspelt(keys) => None,
        [] => {
            reader.error(fields.at, "E007", format!("{what} needs one of {list}"), Some(hint.to_string()));
            None
        }
        [one] => keys.iter().copied().find(|key| key == one),
        [first, second, ..] => {
            let at = fields.key_at(second).unwrap_or(fields.at);
            reader.error(at, "E007", format!("{what} is one of {list}, not several"), Some(format!("keep `{first}` or `{second}`")));
            None
        }
    }
}
