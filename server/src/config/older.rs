//! host.json as older versions of TestbedOS wrote it: what it says is taken over, and what has no effect here is told.

use kvm_compose::error::Problem;
use serde_json::{Map, Value};

use super::host::HostConfig;
use crate::data::{DataDir, read_if_there};

/// Keys that say what this server finds out itself, or is told elsewhere.
const TOP: [&str; 6] = ["ip", "user", "identity_file", "testbed_nic", "main_interface", "is_main_host"];
/// The same, below `ovn`.
const OVN: [&str; 6] = ["chassis_name", "bridge", "encap_type", "encap_ip", "main_ovn_remote", "client_ovn_remote"];

fn is_older(file: &Map<String, Value>) -> bool {
    TOP.iter().any(|key| file.contains_key(*key))
}

/// Takes the older keys out. In a file that has them, what it does not say of this machine is filled in.
pub fn translate(file: &mut Value) -> Result<(), String> {
    let Some(top) = file.as_object_mut() else { return Ok(()) };
    if let Some(ovn) = top.get_mut("ovn").and_then(Value::as_object_mut) {
        ovn.retain(|key, _| !OVN.contains(&key.as_str()));
    }
    if is_older(top) {
        top.retain(|key, _| !TOP.contains(&key.as_str()));
        let here = HostConfig::of_this_machine().and_then(|here| {
            serde_json::to_value(here).map_err(|error| Problem::internal("a host's configuration is not JSON").cause(error))
        });
        if let Value::Object(here) = here.map_err(|problem| problem.to_string())? {
            for (key, value) in here {
                top.entry(key).or_insert(value);
            }
        }
    }
    Ok(())
}

/// Keys of config/host.json that have no effect here.
pub fn unused(data: &DataDir) -> Result<Vec<String>, Problem> {
    let file: Value =
        read_if_there(&data.config().join("host.json"))?.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let top = TOP.iter().filter(|key| file.get(**key).is_some()).map(ToString::to_string);
    let ovn = OVN.iter().filter(|key| file["ovn"].get(**key).is_some()).map(|key| format!("ovn.{key}"));
    Ok(top.chain(ovn).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"{"ip": "10.50.0.1", "user": "root", "identity_file": "/root/.ssh/id", "testbed_nic": "eth0",
        "main_interface": "eth0", "is_main_host": true, "ovn": {"chassis_name": "main", "bridge": "br-int",
        "encap_type": "geneve", "encap_ip": "10.50.0.1", "main_ovn_remote": "unix:/run/ovnsb_db.sock",
        "client_ovn_remote": null, "bridge_mappings": [["lab", "br-lab", null]]}}"#;

    #[test]
    fn an_older_file_is_read_and_what_has_no_effect_is_told() {
        let host: HostConfig = serde_json::from_str(OLD).expect("read");
        assert_eq!(HostConfig { ovn: Default::default(), ..host.clone() }, HostConfig::of_this_machine().expect("this machine"));
        assert_eq!(host.ovn.mappings()[0].bridge, "br-lab");

        let folder = tempfile::tempdir().expect("a folder");
        let data = DataDir::new(folder.path());
        assert_eq!(unused(&data), Ok(Vec::new()));
        std::fs::create_dir_all(data.config()).expect("a folder");
        std::fs::write(data.config().join("host.json"), OLD).expect("written");
        assert_eq!(unused(&data).expect("read").len(), 12);
        assert_eq!(HostConfig::read(&data).expect("read"), Some(host));
    }

    #[test]
    fn a_new_file_says_all_that_it_must() {
        let text = serde_json::to_string(&HostConfig::of_this_machine().expect("this machine")).expect("JSON");
        assert!(serde_json::from_str::<HostConfig>(&text).is_ok());
        for wrong in [text.replace("\"kernel\"", "\"kernle\""), text.replace("\"ovn\":{", "\"ovn\":{\"chassis\":1,"), "{}".to_string()] {
            assert!(serde_json::from_str::<HostConfig>(&wrong).is_err(), "{wrong}");
        }
    }
}
