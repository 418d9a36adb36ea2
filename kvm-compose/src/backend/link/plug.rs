//! Who stands in the bridge: one transaction puts our device in the place of the guest's, one puts the guest's back.
//!
//! Both have the same `iface-id`, and never stand there together: OVN would take either. Operations are made by pure
//! functions from what was seen. Must not know devices beyond their names, nor the relay.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::device;
use crate::{
    backend::{
        Owner,
        containers::port::keeps,
        network::{ovsdb::Session, seen, value},
    },
    error::{Code, Problem},
    topology::Shape,
};

/// `external_ids` of our interface: the guest's device whose place it has, and that device's index.
const TAP: &str = "testbedos-tap";
const TAP_INDEX: &str = "testbedos-tap-index";
/// `external_ids` of a guest's own interface whose link the kernel impairs: what it does, as JSON.
const SHAPE: &str = "testbedos-shape";
/// What OVN writes once the flows are there (ovn-controller(8)).
const INSTALLED: &str = "ovn-installed";
/// The guest's MAC address, as libvirt marks ports.
const MAC: &str = "attached-mac";

/// What the kernel is told to do to a link.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Noted {
    /// The conditions.
    pub shape: Shape,
    /// All commands have succeeded. Before, what is in force is not known.
    pub done: bool,
}

/// A guest's TAP device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tap {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// What its port says beside.
    ids: BTreeMap<String, String>,
}

impl Tap {
    /// A device that libvirt names, and the MAC address of its guest's interface.
    pub fn named(name: &str, mac: &str) -> Result<Tap, Problem> {
        let ids = BTreeMap::from([(MAC.to_string(), mac.to_string()), ("iface-status".to_string(), "active".to_string())]);
        Ok(Tap { index: index(name)?, name: name.to_string(), ids })
    }
}

fn index(name: &str) -> Result<u32, Problem> {
    device::index_of(name).ok_or_else(|| Problem::new(Code::Link, format!("there is no network device `{name}`")))
}

/// An interface in the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plug {
    /// The device's name.
    pub name: String,
    ids: BTreeMap<String, String>,
    port_row: Uuid,
    interface_row: Uuid,
}

impl Plug {
    /// The port it is for OVN.
    pub fn iface_id(&self) -> Option<Uuid> {
        Uuid::parse_str(self.ids.get("iface-id")?).ok()
    }

    /// True when it carries this owner's mark.
    pub fn is_of(&self, owner: &Owner) -> bool {
        self.ids.get(seen::INSTALLATION) == Some(&owner.installation.to_string())
            && self.ids.get(seen::DEPLOYMENT).is_some_and(|deployment| deployment == owner.deployment.as_str())
    }

    /// Of the guest's own device: what the kernel was told to do, and whether that was finished.
    pub fn noted(&self) -> Option<Noted> {
        serde_json::from_str(self.ids.get(SHAPE)?).ok()
    }

    /// Of the guest's own device: what is needed to put ours in its place.
    pub fn as_tap(&self) -> Result<Tap, Problem> {
        Ok(Tap { index: index(&self.name)?, name: self.name.clone(), ids: plain(&self.ids) })
    }

    /// Of our device: the guest's, if it is still the one whose place was taken.
    pub fn live_tap(&self) -> Option<Tap> {
        let (name, noted) = (self.ids.get(TAP)?, self.ids.get(TAP_INDEX)?.parse::<u32>().ok()?);
        (device::index_of(name)? == noted).then(|| Tap { name: name.clone(), index: noted, ids: plain(&self.ids) })
    }
}

/// `external_ids` as libvirt wrote them, or as a container's port has them: without our marks and without what OVN notes.
fn plain(ids: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_libvirts = |name: &str| (!name.starts_with("testbedos-") || keeps(name, ids)) && !name.starts_with("ovn-");
    ids.iter().filter(|(name, _)| is_libvirts(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The bridge and who stands in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    bridge: String,
    bridge_row: Uuid,
    /// Interfaces with `external_ids`.
    pub plugs: Vec<Plug>,
}

impl Seen {
    /// Our device, where it stands.
    pub fn ours(&self, device: &str) -> Option<&Plug> {
        self.plugs.iter().find(|plug| plug.name == device)
    }

    /// The guest's own device, where it stands.
    pub fn plugged(&self, port: Uuid, device: &str) -> Option<&Plug> {
        self.plugs.iter().find(|plug| plug.iface_id() == Some(port) && plug.name != device)
    }
}

/// Looks at the bridge.
pub fn look(session: &mut Session, bridge: &str) -> Result<Seen, Problem> {
    let results = session.read(vec![
        json!({"op": "select", "table": "Bridge", "where": [["name", "==", bridge]], "columns": ["_uuid", "ports"]}),
        json!({"op": "select", "table": "Port", "where": [], "columns": ["_uuid", "interfaces"]}),
        json!({"op": "select", "table": "Interface", "where": [], "columns": ["_uuid", "name", "external_ids"]}),
    ])?;
    let rows = |n: usize| -> &[Value] { results[n]["rows"].as_array().map_or(&[], Vec::as_slice) };
    let missing = || Problem::new(Code::Ovn, format!("there is no bridge `{bridge}`")).hint("`testbed doctor` says what is missing");
    let row = rows(0).first().ok_or_else(missing)?;
    let bridge_row = value::read_uuid(&row["_uuid"]).ok_or_else(missing)?;
    let ports = value::read_refs(&row["ports"]);
    let port_of: BTreeMap<Uuid, Uuid> = rows(1)
        .iter()
        .filter_map(|row| Some((value::read_uuid(&row["_uuid"])?, row)))
        .filter(|(port, _)| ports.contains(port))
        .flat_map(|(port, row)| value::read_refs(&row["interfaces"]).into_iter().map(move |interface| (interface, port)))
        .collect();
    let plug = |row: &Value| {
        let interface_row = value::read_uuid(&row["_uuid"])?;
        let ids = value::read_map(&row["external_ids"]).filter(|ids| !ids.is_empty())?;
        Some(Plug { name: row["name"].as_str()?.to_string(), ids, port_row: *port_of.get(&interface_row)?, interface_row })
    };
    Ok(Seen { bridge: bridge.to_string(), bridge_row, plugs: rows(2).iter().filter_map(plug).collect() })
}

/// Does the kernel switch this bridge's packets, or a program?
pub fn is_kernels(session: &mut Session, bridge: &str) -> Result<bool, Problem> {
    let select = json!({"op": "select", "table": "Bridge", "where": [["name", "==", bridge]], "columns": ["datapath_type"]});
    let results = session.read(vec![select])?;
    Ok(matches!(results[0]["rows"][0]["datapath_type"].as_str(), Some("" | "system")))
}

/// Notes what the kernel is told to do to the guest's own interface, or that it is told nothing.
pub fn note(session: &mut Session, plug: &Plug, owner: &Owner, noted: Option<&Noted>) -> Result<(), Problem> {
    let mut ids: BTreeMap<String, String> = plug.ids.clone();
    ids.retain(|name, _| !name.starts_with("testbedos-") || keeps(name, &plug.ids));
    if let Some(noted) = noted {
        let text = serde_json::to_string(noted).map_err(|error| Problem::internal("a link's conditions cannot be written").cause(error))?;
        ids.insert(SHAPE.to_string(), text);
        ids.insert(seen::INSTALLATION.to_string(), owner.installation.to_string());
        ids.insert(seen::DEPLOYMENT.to_string(), owner.deployment.to_string());
    }
    let row = json!({"external_ids": value::write_map(&ids)});
    let update = json!({"op": "update", "table": "Interface", "where": is(plug.interface_row), "row": row});
    transact(session, vec![still(plug), update], &plug.name)
}

/// Has OVN made the flows of this interface?
pub fn is_claimed(session: &mut Session, device: &str) -> Result<bool, Problem> {
    let select = json!({"op": "select", "table": "Interface", "where": [["name", "==", device]], "columns": ["external_ids"]});
    let results = session.read(vec![select])?;
    let ids = value::read_map(&results[0]["rows"][0]["external_ids"]).unwrap_or_default();
    Ok(ids.get(INSTALLED).is_some_and(|installed| installed == "true"))
}

/// Puts our device in the place of the guest's. False when it stands there already.
pub fn insert(session: &mut Session, seen: &Seen, owner: &Owner, port: Uuid, device: &str, tap: &Tap) -> Result<bool, Problem> {
    let operations = insertion(seen, owner, port, device, tap);
    if operations.is_empty() {
        return Ok(false);
    }
    transact(session, operations, device)?;
    Ok(true)
}

/// Takes our device out of the bridge, and puts the guest's there if it lives. Returns the device that was put back.
pub fn remove(session: &mut Session, seen: &Seen, owner: &Owner, port: Uuid, device: &str) -> Result<Option<String>, Problem> {
    let Some(ours) = seen.ours(device) else { return Ok(None) };
    if !ours.is_of(owner) {
        return Err(Problem::new(Code::Conflict, format!("the port `{device}` of `{}` is not ours", seen.bridge))
            .hint("it carries no mark of this deployment; look at it with `ovs-vsctl list Interface`"));
    }
    let back = ours.live_tap().filter(|_| seen.plugged(port, device).is_none());
    transact(session, removal(seen, ours, back.as_ref()), device)?;
    Ok(back.map(|tap| tap.name))
}

fn transact(session: &mut Session, operations: Vec<Value>, device: &str) -> Result<(), Problem> {
    match session.transact(operations)? {
        Ok(_) => Ok(()),
        Err(refusal) => Err(Problem::new(Code::Ovn, format!("Open vSwitch refused to change the port `{device}`"))
            .cause(refusal)
            .hint("something else changed it meanwhile; run the command again")),
    }
}

fn is(row: Uuid) -> Value {
    json!([["_uuid", "==", ["uuid", row.to_string()]]])
}

/// Nothing happens unless the interface is still there.
fn still(plug: &Plug) -> Value {
    let row = json!(["uuid", plug.interface_row.to_string()]);
    json!({"op": "wait", "timeout": 0, "table": "Interface", "columns": ["_uuid"], "until": "==", "rows": [{"_uuid": row}],
        "where": [["_uuid", "==", row], ["name", "==", plug.name]]})
}

fn unplug(seen: &Seen, plug: &Plug) -> Value {
    json!({"op": "mutate", "table": "Bridge", "where": is(seen.bridge_row),
        "mutations": [["ports", "delete", ["set", [["uuid", plug.port_row.to_string()]]]]]})
}

fn plug_in(seen: &Seen, name: &str, ids: &BTreeMap<String, String>) -> [Value; 3] {
    [
        json!({"op": "insert", "table": "Interface", "uuid-name": "interface", "row": {"name": name, "external_ids": value::write_map(ids)}}),
        json!({"op": "insert", "table": "Port", "uuid-name": "port", "row": {"name": name, "interfaces": ["named-uuid", "interface"]}}),
        json!({"op": "mutate", "table": "Bridge", "where": is(seen.bridge_row),
            "mutations": [["ports", "insert", ["set", [["named-uuid", "port"]]]]]}),
    ]
}

fn insertion(seen: &Seen, owner: &Owner, port: Uuid, device: &str, tap: &Tap) -> Vec<Value> {
    let mut ids = tap.ids.clone();
    ids.insert("iface-id".to_string(), port.to_string());
    ids.insert(TAP.to_string(), tap.name.clone());
    ids.insert(TAP_INDEX.to_string(), tap.index.to_string());
    ids.insert(seen::INSTALLATION.to_string(), owner.installation.to_string());
    ids.insert(seen::DEPLOYMENT.to_string(), owner.deployment.to_string());
    let mut operations = Vec::new();
    if let Some(plug) = seen.plugged(port, device) {
        operations.extend([still(plug), unplug(seen, plug)]);
    }
    match seen.ours(device) {
        Some(ours) if operations.is_empty() && with_notes(&ids, &ours.ids) == ours.ids => {}
        Some(ours) => {
            let row = json!({"external_ids": value::write_map(&with_notes(&ids, &ours.ids))});
            operations.push(json!({"op": "update", "table": "Interface", "where": is(ours.interface_row), "row": row}));
        }
        None => operations.extend(plug_in(seen, device, &ids)),
    }
    operations
}

/// What OVN notes in an interface stays.
fn with_notes(ids: &BTreeMap<String, String>, there: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let notes = there.iter().filter(|(name, _)| name.starts_with("ovn-"));
    ids.iter().chain(notes).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn removal(seen: &Seen, ours: &Plug, back: Option<&Tap>) -> Vec<Value> {
    let mut operations = vec![still(ours), unplug(seen, ours)];
    if let Some(tap) = back {
        operations.extend(plug_in(seen, &tap.name, &tap.ids));
    }
    operations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{DeploymentName, InstallationId};

    const DEVICE: &str = "tbl0123456789";

    fn owner() -> Owner {
        Owner { installation: InstallationId(Uuid::from_u128(1)), deployment: DeploymentName::new("d").expect("valid") }
    }

    fn plug(name: &str, row: u128, ids: &[(&str, &str)]) -> Plug {
        let ids = ids.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Plug { name: name.to_string(), ids, port_row: Uuid::from_u128(row), interface_row: Uuid::from_u128(row + 100) }
    }

    fn seen(plugs: Vec<Plug>) -> Seen {
        Seen { bridge: "br-int".to_string(), bridge_row: Uuid::from_u128(9), plugs }
    }

    fn words(operations: &[Value]) -> Vec<String> {
        let word = |op: &Value| format!("{} {}", op["op"].as_str().unwrap_or("?"), op["table"].as_str().unwrap_or("?"));
        operations.iter().map(word).collect()
    }

    fn libvirts(port: &str) -> [(&str, &str); 4] {
        [("iface-id", port), ("vm-id", "v"), (MAC, "02:00"), ("ovn-installed", "true")]
    }

    #[test]
    fn the_guests_device_gives_way_to_ours_in_one_transaction() {
        let port = Uuid::from_u128(7);
        let text = port.to_string();
        let there = seen(vec![plug("vnet3", 20, &libvirts(&text)), plug("vnet4", 21, &libvirts("other"))]);
        let tap = Tap { name: "vnet3".to_string(), index: 5, ids: plain(&there.plugs[0].ids) };
        let operations = insertion(&there, &owner(), port, DEVICE, &tap);
        assert_eq!(words(&operations), ["wait Interface", "mutate Bridge", "insert Interface", "insert Port", "mutate Bridge"]);
        let ids = value::read_map(&operations[2]["row"]["external_ids"]).expect("a map");
        assert_eq!((ids["iface-id"].as_str(), ids["vm-id"].as_str(), ids[TAP].as_str()), (text.as_str(), "v", "vnet3"));
        assert!(!ids.contains_key(INSTALLED), "OVN says itself when it has taken it up");
        // Repeated after it was done: nothing.
        let ids: Vec<(&str, &str)> = ids.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain([(INSTALLED, "true")]).collect();
        let done = seen(vec![plug(DEVICE, 30, &ids)]);
        assert!(insertion(&done, &owner(), port, DEVICE, &tap).is_empty());
        assert!(done.plugs[0].is_of(&owner()));
        // The guest was started anew behind our back: its new device goes, ours stays and learns of it.
        let both = seen(vec![plug(DEVICE, 30, &ids), plug("vnet8", 22, &libvirts(&text))]);
        let tap = Tap { name: "vnet8".to_string(), index: 9, ids: plain(&both.plugs[1].ids) };
        let operations = insertion(&both, &owner(), port, DEVICE, &tap);
        assert_eq!(words(&operations), ["wait Interface", "mutate Bridge", "update Interface"]);
        assert_eq!(value::read_map(&operations[2]["row"]["external_ids"]).expect("a map")[TAP], "vnet8");
    }

    #[test]
    fn the_guests_device_goes_back_with_what_libvirt_wrote() {
        let port = Uuid::from_u128(7).to_string();
        let mut ids = libvirts(&port).to_vec();
        ids.extend([(TAP, "vnet3"), (TAP_INDEX, "5"), (seen::DEPLOYMENT, "d")]);
        let there = seen(vec![plug(DEVICE, 30, &ids)]);
        let tap = Tap { name: "vnet3".to_string(), index: 5, ids: plain(&there.plugs[0].ids) };
        let operations = removal(&there, &there.plugs[0], Some(&tap));
        assert_eq!(words(&operations), ["wait Interface", "mutate Bridge", "insert Interface", "insert Port", "mutate Bridge"]);
        let ids = value::read_map(&operations[2]["row"]["external_ids"]).expect("a map");
        assert_eq!(ids.into_keys().collect::<Vec<_>>(), [MAC, "iface-id", "vm-id"]);
        assert_eq!(words(&removal(&there, &there.plugs[0], None)), ["wait Interface", "mutate Bridge"]);
    }
}
