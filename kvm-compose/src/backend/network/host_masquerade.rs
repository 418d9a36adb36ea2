//! The host as a router for one of its networks: forwarding, and its own addresses over theirs (nft(8), `masquerade`).
//!
//! Everything is in a table of its own, `testbedos`, with a chain for each bridge. Must not know Open vSwitch.

use std::{path::Path, time::Duration};

use ipnet::{IpNet, Ipv4Net};

use crate::{
    backend::files::process::Call,
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

/// How long nft(8) may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Where the kernel is told to forward (Documentation/networking/ip-sysctl).
pub const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// The network behind a bridge, as far as this can hide it.
pub fn network_of(address: Option<IpNet>) -> Option<Ipv4Net> {
    match address {
        Some(IpNet::V4(net)) => Some(net.trunc()),
        _ => None,
    }
}

/// Does the host forward what comes from the network?
pub fn is_on(bridge: &str, net: Ipv4Net, cancel: &Cancel) -> Result<bool, Problem> {
    if !forwards()? {
        return Ok(false);
    }
    let finished = Call::new(["nft", "list", "chain", "ip", "testbedos", &chain(bridge)], LIMIT).run(cancel)?;
    Ok(finished.status.success() && String::from_utf8_lossy(&finished.stdout).contains(&rule(bridge, net)))
}

/// Makes it forward. Done already is success.
pub fn turn_on(bridge: &str, net: Ipv4Net, cancel: &Cancel) -> Result<(), Problem> {
    if !forwards()? {
        std::fs::write(IP_FORWARD, "1\n").map_err(|error| Problem::io(format!("cannot write {IP_FORWARD}"), &error))?;
    }
    let chain = chain(bridge);
    let script = format!(
        "add table ip testbedos; add chain ip testbedos {chain} {{ type nat hook postrouting priority 100; policy accept; }}; \
         flush chain ip testbedos {chain}; add rule ip testbedos {chain} {}",
        rule(bridge, net)
    );
    let finished = Call::new(["nft".to_string(), script], LIMIT).run(cancel)?;
    if finished.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&finished.stderr).trim().to_string();
    Err(Problem::new(Code::Ovn, format!("cannot masquerade {net}"))
        .cause(words)
        .hint("nft is in the package nftables; `ovn.masquerade` in host.json turns this off"))
}

/// Does the kernel forward at all?
pub fn forwards() -> Result<bool, Problem> {
    let text = std::fs::read_to_string(Path::new(IP_FORWARD)).map_err(|error| Problem::io(format!("cannot read {IP_FORWARD}"), &error))?;
    Ok(text.trim() == "1")
}

fn chain(bridge: &str) -> String {
    format!("uplink-{bridge}")
}

/// As nft(8) prints it.
fn rule(bridge: &str, net: Ipv4Net) -> String {
    format!("ip saddr {net} oifname != \"{bridge}\" masquerade")
}
