//! A guest's NoCloud seed (cloud-init, data source NoCloud), and two files of ours for micro guests.
//!
//! Pure. The network configuration is version 2 in one fixed layout, which the micro image's reader relies on.

use std::{collections::BTreeMap, net::IpAddr};

use uuid::Uuid;

use super::{
    cloud,
    routed::Routed,
    services::{RESOLVER, needs_resolver},
};
use crate::topology::{Assignment, Guest, GuestKind, Nic, NicAddress};

/// File name → content. `key` is the public SSH key that may log in.
pub fn files(guest: &Guest, routed: &Routed<'_>, instance: Uuid, mtu: u16, key: Option<&str>) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    files.insert("meta-data".to_string(), format!("instance-id: {instance}\nlocal-hostname: {}\n", guest.hostname));
    files.insert("network-config".to_string(), network_config(guest, routed, mtu));
    let variables = (!guest.environment.is_empty()).then(|| environment(&guest.environment));
    let user_data = match &guest.kind {
        GuestKind::CloudImage { username, password, .. } => {
            let aside = guest.nics.iter().filter_map(|nic| Some((nic.name.as_str(), server(nic, routed).filter(is_aside)?)));
            let login = cloud::Login { username: username.as_deref(), password: password.as_deref(), key };
            cloud::user_data(variables.as_deref(), &login, &aside.collect::<Vec<_>>())
        }
        // Clones of one disk have keys of their own.
        _ if guest.clone_of.is_some() => "#cloud-config\nssh_deletekeys: true\npreserve_hostname: false\n".to_string(),
        // Keys and passwords of an image that exists already stay as they are.
        _ => "#cloud-config\nssh_deletekeys: false\npreserve_hostname: false\n".to_string(),
    };
    files.insert("user-data".to_string(), user_data);
    files.extend(variables.map(|variables| ("environment".to_string(), variables)));
    if let GuestKind::Micro { services } = &guest.kind
        && !services.is_empty()
    {
        files.insert("services".to_string(), services.iter().map(|(name, port)| format!("{name} {port}\n")).collect());
    }
    files
}

/// Names and addresses hold no character that YAML would take for something else; they are quoted all the same.
fn network_config(guest: &Guest, routed: &Routed<'_>, mtu: u16) -> String {
    let mut text = "version: 2\nethernets:\n".to_string();
    if guest.nics.is_empty() {
        return "version: 2\nethernets: {}\n".to_string();
    }
    for nic in &guest.nics {
        text += &format!("  {0}:\n    match:\n      macaddress: \"{1}\"\n    set-name: {0}\n    mtu: {mtu}\n", nic.name, nic.mac);
        let has = |assignment, ipv4| nic.addresses.iter().any(|a| a.assignment == assignment && a.net.addr().is_ipv4() == ipv4);
        if has(Assignment::Dhcp, true) {
            text.push_str("    dhcp4: true\n");
        }
        if has(Assignment::Dhcp, false) {
            // The default route comes from the router's advertisement alone: DHCPv6 has none (RFC 8415).
            text.push_str("    dhcp6: true\n    accept-ra: true\n");
        } else if has(Assignment::Slaac, false) {
            // The address that OVN expects is the one made of the MAC address (RFC 4291 appendix A).
            text.push_str("    accept-ra: true\n    ipv6-address-generation: eui64\n");
        } else if nic.addresses.iter().any(|a| a.net.addr().is_ipv6()) {
            // An address that the guest made beside its own would not pass OVN's port security.
            text.push_str("    accept-ra: false\n");
        }
        let fixed: Vec<&NicAddress> =
            nic.addresses.iter().filter(|a| matches!(a.assignment, Assignment::Static | Assignment::Assigned)).collect();
        if !fixed.is_empty() {
            text.push_str("    addresses:\n");
            text.extend(fixed.iter().map(|address| format!("      - \"{}\"\n", address.net)));
        }
        let gateways: Vec<IpAddr> = fixed.iter().filter_map(|address| address.gateway).collect();
        let server = server(nic, routed);
        // cloud-init before 23.1 knows neither routes without a gateway nor the word `default` (its writer for ifupdown).
        let by_cloud_init = matches!(guest.kind, GuestKind::CloudImage { .. });
        let aside = server.filter(is_aside).filter(|_| !by_cloud_init);
        if !gateways.is_empty() || aside.is_some() {
            text.push_str("    routes:\n");
        }
        for gateway in gateways {
            // With both IP versions the word `default` would be ambiguous.
            let to = match (gateway.is_ipv4(), by_cloud_init) {
                (true, false) => "default",
                (true, true) => "0.0.0.0/0",
                (false, _) => "::/0",
            };
            text += &format!("      - to: \"{to}\"\n        via: \"{gateway}\"\n");
        }
        if let Some(server) = aside {
            text += &format!("      - to: \"{server}/32\"\n        scope: link\n");
        }
        if let Some(server) = server {
            text += &format!("    nameservers:\n      addresses:\n        - \"{server}\"\n");
        }
    }
    text
}

/// Who the guest is told to ask for names on an interface, where DHCP does not say it.
fn server(nic: &Nic, routed: &Routed<'_>) -> Option<IpAddr> {
    let told = nic.addresses.iter().any(|address| address.assignment == Assignment::Dhcp);
    let fixed: Vec<&NicAddress> =
        nic.addresses.iter().filter(|a| matches!(a.assignment, Assignment::Static | Assignment::Assigned)).collect();
    name_server(nic, &fixed, routed).filter(|_| !told)
}

/// It stands beside the segment's subnets, so a route must lead there.
fn is_aside(server: &IpAddr) -> bool {
    *server == IpAddr::V4(RESOLVER)
}

/// Who is asked for names on an interface that no DHCP server tells: the router of its segment, in whose place OVN answers,
/// or where there is none, a port that is there for this alone.
pub(super) fn name_server(nic: &Nic, fixed: &[&NicAddress], routed: &Routed<'_>) -> Option<IpAddr> {
    if !routed.topology.dns {
        return None;
    }
    if routed.topology.switch(&nic.switch).is_some_and(|switch| needs_resolver(routed, switch)) {
        return Some(IpAddr::V4(RESOLVER));
    }
    let mut routers = routed.ports(&nic.switch).flat_map(|port| port.addresses()).map(|address| address.addr());
    let same = |router: &IpAddr| nic.addresses.iter().any(|own| own.net.addr().is_ipv4() == router.is_ipv4());
    fixed.iter().find_map(|address| address.gateway).or_else(|| routers.find(same))
}

/// Lines a shell can read: single quotes keep everything, a quote itself is `'\''` (POSIX.1-2017 XCU 2.2.2).
fn environment(variables: &BTreeMap<String, String>) -> String {
    variables.iter().map(|(key, value)| format!("{key}='{}'\n", value.replace('\'', r"'\''"))).collect()
}
