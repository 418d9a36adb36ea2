//! The resolved file: what `testbed config` prints, in the language itself. Machines are in `config_guest`.
//!
//! Pure. What it gives can be read again and means the same.

use serde_json::{Map, Value, json};

use super::{config_guest, model::Topology};

/// The topology as a document of the language, with every default filled in.
pub fn document(topology: &Topology) -> Value {
    let switches: Map<String, Value> =
        topology.switches.iter().map(|s| (s.name.to_string(), json!({"subnet": s.subnet.to_string()}))).collect();
    let mut routers = Map::new();
    for router in &topology.routers {
        let ports: Vec<Value> = router
            .ports
            .iter()
            .map(|p| json!({"name": p.name.as_str(), "mac": p.mac.to_string(), "gateway_ip": p.address.to_string(), "switch": p.switch.as_str()}))
            .collect();
        let routes: Vec<Value> =
            router.routes.iter().map(|r| json!({"prefix": r.prefix.to_string(), "nexthop": r.nexthop.to_string()})).collect();
        let rules: Vec<Value> = topology
            .switches
            .iter()
            .filter(|switch| switch.dhcp.as_ref().is_some_and(|dhcp| dhcp.router == router.name))
            .map(|switch| match switch.dhcp.as_ref().and_then(|dhcp| dhcp.excluded) {
                None => json!({"switch": switch.name.as_str()}),
                Some((from, to)) => {
                    json!({"switch": switch.name.as_str(), "exclude_ips": {"from": from.to_string(), "to": to.to_string()}})
                }
            })
            .collect();
        let mut value = Map::from_iter([("ports".to_string(), Value::Array(ports))]);
        for (key, list) in [("static_routes", routes), ("dhcp", rules)] {
            if !list.is_empty() {
                value.insert(key.to_string(), Value::Array(list));
            }
        }
        routers.insert(router.name.to_string(), Value::Object(value));
    }
    let mut ovn = Map::from_iter([("switches".to_string(), Value::Object(switches))]);
    if !routers.is_empty() {
        ovn.insert("routers".to_string(), Value::Object(routers));
    }
    let mut document = Map::from_iter([
        ("version".to_string(), json!(1)),
        ("machines".to_string(), Value::Array(config_guest::machines(topology))),
        ("network".to_string(), json!({"ovn": ovn})),
    ]);
    if !topology.labels.is_empty() {
        document.insert("labels".to_string(), json!(topology.labels));
    }
    Value::Object(document)
}
