//! From nodes to what the user wrote: clones of a machine.
//!
//! Pure. Ids and ranges are checked here, since they are about this text alone; switches are the topology's to find.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    decode::{address, mac, path_of},
    model::{CloneScript, Range, ScaledInterface, Scaling},
    node::{Mark, Node, Value},
    reader::{Fields, Reader, Spanned},
};
use crate::{
    addr::Ordinal,
    names::{NetworkName, printable},
};

/// More clones of one machine are a mistake.
const MOST_CLONES: u64 = 10_000;

/// What is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// A virtual machine with a disk that can be cloned.
    Disk,
    /// An installer, which cannot.
    Iso,
    /// A container, which runs no scripts.
    Docker,
}

/// Decodes `scaling`. `wide`: the machine has interfaces of its own.
pub fn scaling(node: &Node, owner: For, wide: bool, reader: &mut Reader) -> Option<Scaling> {
    let mut fields = reader.fields(node, "`scaling`")?;
    let at = fields.at;
    if owner == For::Iso {
        let hint = Some("scale a `cloud_image` or an `existing_disk`".to_string());
        reader.error(at, "E007", "an `iso_guest` has no image that could be cloned".to_string(), hint);
    }
    let count = fields.require(reader, "count").and_then(|node| reader.integer(node, "`count`", 1, MOST_CLONES));
    let clones = count.as_ref().map_or(MOST_CLONES, |count| count.value);
    let interfaces_at = fields.key_at("interfaces");
    let interfaces = fields.get("interfaces").map(|node| interfaces(node, clones, reader)).unwrap_or_default();
    if let (true, Some(second)) = (wide && !interfaces.is_empty(), interfaces_at) {
        let hint = Some("remove the machine's own: each clone has its interfaces from `scaling`".to_string());
        reader.error(second, "E007", "a machine has interfaces of its own or in `scaling`, not both".to_string(), hint);
    } else if wide {
        let hint = Some("write `interfaces:` below `scaling:`, which says for each switch which clones stand on it".to_string());
        reader.error(at, "E007", "the clones of a scaled machine cannot share its interfaces".to_string(), hint);
    }
    if owner == For::Docker {
        for key in ["shared_setup", "clone_setup", "clone_run"] {
            fields.misplaced(reader, key, "a container runs its `command`; build what is shared into the image");
        }
    }
    let shared_setup = path_of(&mut fields, "shared_setup", reader);
    let clone_setup = scripts(&mut fields, "clone_setup", clones, reader);
    let clone_run = scripts(&mut fields, "clone_run", clones, reader);
    // `interfaces:` with the switches beside it instead of below it: one indentation too few.
    if let (Some(_), true) = (interfaces_at, interfaces.is_empty()) {
        let strangers: Vec<&Node> =
            fields.unknown().filter(|(_, value)| matches!(value.value, Value::Map(_))).map(|(key, _)| key).collect();
        for key in strangers {
            let text = key.text().unwrap_or_default();
            let hint = format!("indent `{}` further, so that it stands below `interfaces:`", printable(text));
            fields.misplaced_at(reader, key.at, text, hint);
        }
    }
    fields.finish(reader);
    if !interfaces.is_empty() {
        lonely(&interfaces, &count, reader);
    }
    Some(Scaling { count, interfaces, shared_setup, clone_setup, clone_run, at })
}

/// Clones that no interface names.
fn lonely(interfaces: &[ScaledInterface], count: &Option<Spanned<u64>>, reader: &mut Reader) {
    let Some(count) = count else { return };
    if interfaces.iter().any(|interface| interface.clones.is_none()) {
        return;
    }
    let on: BTreeSet<u64> = interfaces.iter().flat_map(|interface| interface.clones.iter().flatten()).map(|clone| clone.value).collect();
    let without: Vec<String> = (0..count.value).filter(|id| !on.contains(id)).map(|id| id.to_string()).collect();
    if !without.is_empty() {
        let (clones, have) = if without.len() == 1 { ("clone", "has") } else { ("clones", "have") };
        let mut list = without.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
        if without.len() > 10 {
            list.push_str(", …");
        }
        let hint = Some("name them in the `clones` of a switch; ids count from 0".to_string());
        reader.warning(count.at, "W022", format!("{clones} {list} {have} no interface"), hint);
    }
}

fn interfaces(node: &Node, count: u64, reader: &mut Reader) -> Vec<ScaledInterface> {
    match &node.value {
        Value::List(items) => items.iter().filter_map(|item| listed(item, count, reader)).collect(),
        _ => {
            let Some(fields) = reader.fields(node, "`interfaces` of `scaling`") else { return Vec::new() };
            let mut all = Vec::new();
            for (key, value) in fields.entries() {
                let Some(switch) = reader.name::<NetworkName>(key, "a switch in `interfaces`") else { continue };
                let Some(fields) = reader.fields(value, &format!("`{}` in `interfaces`", switch.value)) else { continue };
                all.push(interface(fields, switch, false, count, reader));
            }
            all
        }
    }
}

/// An item of the older form, which names its bridge.
fn listed(node: &Node, count: u64, reader: &mut Reader) -> Option<ScaledInterface> {
    let mut fields = reader.fields(node, "an interface of `scaling`")?;
    let bridge = fields.key_at("switch").is_none();
    let key = if bridge { "bridge" } else { "switch" };
    let name = fields.require(reader, key).and_then(|node| reader.name(node, &format!("`{key}`")));
    let known = name.clone();
    let at = fields.at;
    let decoded = interface(fields, known.unwrap_or(Spanned { value: nowhere()?, at }), bridge, count, reader);
    name.map(|_| decoded)
}

/// Stands for a name whose fault was reported, while the rest beside it is looked at.
fn nowhere() -> Option<NetworkName> {
    NetworkName::new("x").ok()
}

fn interface(mut fields: Fields<'_>, switch: Spanned<NetworkName>, bridge: bool, count: u64, reader: &mut Reader) -> ScaledInterface {
    let at = fields.at;
    let clones = fields.get("clones").and_then(|node| ids(node, count, reader));
    let gateway = fields.get("gateway").and_then(|node| reader.parsed(node, "`gateway`", "E030", address));
    for (key, hint) in [("ip", "write `ip_type: dynamic`, or `ip_range: {from: …, to: …}`"), ("mac", "write `mac_range: {from: …, to: …}`")]
    {
        fields.misplaced(reader, key, hint);
    }
    let from_type = fields.get("ip_type").and_then(|node| ip_type(node, reader));
    let beside = fields.get("ip_range").and_then(|node| range(node, "`ip_range`", "E030", address, reader));
    if let (Some(_), Some(second)) = (&from_type, &beside) {
        reader.error(second.at, "E007", "`ip_range` is given twice".to_string(), Some("keep one of them".to_string()));
    }
    let ip_range = from_type.or(beside);
    let mac_range = fields.get("mac_range").and_then(|node| range(node, "`mac_range`", "E034", mac, reader));
    fields.finish(reader);
    let wanted = clones.as_ref().map_or(count, |clones: &Vec<Spanned<u64>>| clones.len() as u64);
    if let Some(range) = &ip_range {
        fits(range, wanted, "address", "ip_range", reader);
    }
    if let Some(range) = &mac_range {
        fits(range, wanted, "MAC address", "mac_range", reader);
        // Both ends are even in the first octet: what lies between differs there, or is even as well.
        if range.from.value.0[0] < range.to.value.0[0] {
            let hint = Some("keep the first octet even".to_string());
            reader.error(range.at, "E034", "the range holds group addresses, which no interface may have".to_string(), hint);
        }
    }
    ScaledInterface { switch, bridge, clones, gateway, ip_type: (), ip_range, mac_range, at }
}

fn ip_type(node: &Node, reader: &mut Reader) -> Option<Range<std::net::IpAddr>> {
    let form = "write `ip_type: dynamic`, or `ip_type: {ip_range: {from: …, to: …}}`";
    match &node.value {
        Value::Scalar { text, .. } if text == "dynamic" => None,
        Value::Map(_) => {
            let mut fields = reader.fields(node, "`ip_type`")?;
            // A tagged value, `ip_type: !ip_range {from, to}`, is the range itself.
            let tagged = fields.key_at("from").is_some() || fields.key_at("to").is_some();
            let node = if tagged { Some(node) } else { fields.require(reader, "ip_range") };
            if !tagged {
                fields.finish(reader);
            }
            node.and_then(|node| range(node, "`ip_range`", "E030", address, reader))
        }
        _ => {
            let shown = node.text().map_or_else(|| node.kind().to_string(), |_| format!("`{}`", reader.shown(node)));
            reader.error(node.at, "E006", format!("`ip_type` cannot be {shown}"), Some(form.to_string()));
            None
        }
    }
}

fn range<T>(node: &Node, what: &str, code: &str, parse: impl Fn(&str) -> Result<T, String>, reader: &mut Reader) -> Option<Range<T>> {
    let mut fields = reader.fields(node, what)?;
    let from = fields.require(reader, "from").and_then(|node| reader.parsed(node, "`from`", code, &parse));
    let to = fields.require(reader, "to").and_then(|node| reader.parsed(node, "`to`", code, &parse));
    fields.finish(reader);
    Some(Range { from: from?, to: to?, at: node.at })
}

/// A range must be as long as the list of clones.
fn fits<T: Ordinal + std::fmt::Display>(range: &Range<T>, wanted: u64, what: &str, key: &str, reader: &mut Reader) {
    let (from, to) = (&range.from.value, &range.to.value);
    if !from.is_kin(to) {
        reader.error(range.to.at, "E030", format!("`{key}` begins with {from} and ends with {to}, of another IP version"), None);
    } else if from.ordinal() > to.ordinal() {
        let hint = Some("swap `from` and `to`".to_string());
        reader.error(range.from.at, "E039", format!("the range begins with {from} and ends before it, with {to}"), hint);
    } else {
        let has = to.ordinal() - from.ordinal() + 1;
        if has != u128::from(wanted) {
            let last = T::from_ordinal(from, from.ordinal() + u128::from(wanted.max(1)) - 1);
            let hint = last.map(|last| format!("for {wanted} from {from} write `to: \"{last}\"`"));
            let noun = match (has, what) {
                (1, _) => what,
                (_, "address") => "addresses",
                _ => "MAC addresses",
            };
            let clones = if wanted == 1 { "clone" } else { "clones" };
            reader.error(range.to.at, "E027", format!("`{key}` has {has} {noun} for {wanted} {clones}"), hint);
        }
    }
}

/// Ids of clones: numbers below `count`, each once.
fn ids(node: &Node, count: u64, reader: &mut Reader) -> Option<Vec<Spanned<u64>>> {
    let mut ids: Vec<Spanned<u64>> = Vec::new();
    let mut seen: BTreeMap<u64, Mark> = BTreeMap::new();
    for item in reader.list(node, "`clones`")? {
        let Some(id) = reader.integer(item, "a clone's id", 0, u64::from(u32::MAX)) else { continue };
        if id.value >= count {
            let hint = Some(format!("ids count from 0: use 0 to {}, or raise `count`", count - 1));
            reader.error(id.at, "E026", format!("there is no clone {}: `count` is {count}", id.value), hint);
        } else if seen.insert(id.value, id.at).is_some() {
            reader.error(id.at, "E011", format!("clone {} is named twice", id.value), Some("keep one of them".to_string()));
        } else {
            ids.push(id);
        }
    }
    Some(ids)
}

fn scripts(fields: &mut Fields<'_>, key: &'static str, count: u64, reader: &mut Reader) -> Vec<CloneScript> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    if node.text().is_some() && !node.is_null() {
        let shown = reader.shown(node);
        let hint = Some(format!("write `{key}: [{{script: {shown}, clones: [0]}}]`"));
        reader.error(node.at, "E005", format!("`{key}` must be a list, but here is `{shown}`"), hint);
        return Vec::new();
    }
    let items = reader.list(node, &format!("`{key}`")).unwrap_or_default();
    items
        .iter()
        .filter_map(|node| {
            let mut fields = reader.fields(node, &format!("an item of `{key}`"))?;
            let script = fields.require(reader, "script").and_then(|node| super::decode::path(node, "`script`", reader));
            let clones = fields.get("clones").and_then(|node| ids(node, count, reader));
            fields.finish(reader);
            Some(CloneScript { script, clones })
        })
        .collect()
}
