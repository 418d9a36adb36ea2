//! A guest's NoCloud seed (cloud-init, data source NoCloud), and two files of ours for micro guests.
//!
//! Pure. The network configuration is version 2 in one fixed layout, which the micro image's reader relies on.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::topology::{Assignment, Guest, GuestKind};

/// File name → content.
pub fn files(guest: &Guest, instance: Uuid, mtu: u16) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    files.insert("meta-data".to_string(), format!("instance-id: {instance}\nlocal-hostname: {}\n", guest.hostname));
    files.insert("network-config".to_string(), network_config(guest, mtu));
    // Keys and passwords of an image that exists already stay as they are.
    files.insert("user-data".to_string(), "#cloud-config\nssh_deletekeys: false\npreserve_hostname: false\n".to_string());
    if !guest.environment.is_empty() {
        files.insert("environment".to_string(), environment(&guest.environment));
    }
    if let GuestKind::Micro { services } = &guest.kind
        && !services.is_empty()
    {
        files.insert("services".to_string(), services.iter().map(|(name, port)| format!("{name} {port}\n")).collect());
    }
    files
}

/// Names and addresses hold no character that YAML would take for something else; they are quoted all the same.
fn network_config(guest: &Guest, mtu: u16) -> String {
    let mut text = "version: 2\nethernets:\n".to_string();
    if guest.nics.is_empty() {
        return "version: 2\nethernets: {}\n".to_string();
    }
    for nic in &guest.nics {
        text += &format!("  {0}:\n    match:\n      macaddress: \"{1}\"\n    set-name: {0}\n    mtu: {mtu}\n", nic.name, nic.mac);
        if nic.assignment == Assignment::Dhcp {
            text.push_str("    dhcp4: true\n");
            continue;
        }
        text += &format!("    addresses:\n      - \"{}\"\n", nic.address);
        if let Some(gateway) = nic.gateway {
            text += &format!("    routes:\n      - to: \"default\"\n        via: \"{gateway}\"\n");
        }
    }
    text
}

/// Lines a shell can read: single quotes keep everything, a quote itself is `'\''` (POSIX.1-2017 XCU 2.2.2).
fn environment(variables: &BTreeMap<String, String>) -> String {
    variables.iter().map(|(key, value)| format!("{key}='{}'\n", value.replace('\'', r"'\''"))).collect()
}
