//! Interfaces of this machine, by ip(8): what they are, and their addresses.
//!
//! Must not know Open vSwitch.

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;
use serde_json::Value;

use crate::{
    addr::Mac,
    backend::files::process::Call,
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

/// How long ip(8) may take.
const LIMIT: Duration = Duration::from_secs(10);

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// It was brought up.
    pub up: bool,
    /// Its MTU.
    pub mtu: Option<u16>,
    /// Its MAC address.
    pub mac: Option<Mac>,
    /// Its addresses, sorted, but for those that hold on the link alone, which the kernel gives.
    pub addresses: Vec<IpNet>,
}

/// All interfaces, by name.
pub fn links(cancel: &Cancel) -> Result<BTreeMap<String, Link>, Problem> {
    let said = run(&["-j", "addr", "show"], "cannot look at this machine's interfaces", cancel)?;
    let links: Value =
        serde_json::from_slice(&said).map_err(|error| Problem::new(Code::Ovn, "what `ip -j addr` says makes no sense").cause(error))?;
    Ok(links.as_array().into_iter().flatten().filter_map(|link| Some((link["ifname"].as_str()?.to_string(), link_of(link)))).collect())
}

fn link_of(link: &Value) -> Link {
    let list = |value: &'static str| link[value].as_array().into_iter().flatten();
    let address = |info: &Value| -> Option<IpNet> {
        let prefix = u8::try_from(info["prefixlen"].as_u64()?).ok()?;
        let is_given = info["scope"] == "link";
        (!is_given).then(|| IpNet::new(info["local"].as_str()?.parse().ok()?, prefix).ok()).flatten()
    };
    let mut addresses: Vec<IpNet> = list("addr_info").filter_map(address).collect();
    addresses.sort();
    Link {
        up: list("flags").any(|flag| flag == "UP"),
        mtu: link["mtu"].as_u64().and_then(|mtu| u16::try_from(mtu).ok()),
        mac: link["address"].as_str().and_then(|mac| mac.parse().ok()),
        addresses,
    }
}

/// An interface beside `name` whose network is the address's, in part at least: the kernel would send to one of them what is
/// meant for the other.
pub fn in_the_way<'l>(links: &'l BTreeMap<String, Link>, name: &str, address: IpNet) -> Option<(&'l str, IpNet)> {
    let overlap = |other: &IpNet| other.contains(&address.network()) || address.contains(&other.network());
    links.iter().filter(|(other, link)| *other != name && link.up).find_map(|(other, link)| {
        let net = link.addresses.iter().find(|net| overlap(net))?;
        Some((other.as_str(), *net))
    })
}

/// Brings an interface up with an address. `alone` takes other addresses off it.
pub fn bring_up(name: &str, address: Option<IpNet>, alone: bool, cancel: &Cancel) -> Result<(), Problem> {
    let doing = |what: &str| format!("cannot {what} the interface `{name}`");
    let there = links(cancel)?.remove(name);
    let there = there.ok_or_else(|| Problem::new(Code::Ovn, format!("Open vSwitch did not make the interface `{name}`")))?;
    for other in there.addresses.iter().filter(|other| alone && Some(**other) != address) {
        run(&["addr", "del", &other.to_string(), "dev", name], &doing("take an address off"), cancel)?;
    }
    if let Some(address) = address.filter(|address| !there.addresses.contains(address)) {
        let address = address.to_string();
        let mut words = vec!["addr", "replace", &address, "dev", name];
        // Nobody else can have the address: the testbed file gives it to the host.
        words.extend(address.contains(':').then_some("nodad"));
        run(&words, &doing("give an address to"), cancel)?;
    }
    if !there.up {
        run(&["link", "set", "dev", name, "up"], &doing("bring up"), cancel)?;
    }
    Ok(())
}

fn run(words: &[&str], doing: &str, cancel: &Cancel) -> Result<Vec<u8>, Problem> {
    let argv = std::iter::once("ip").chain(words.iter().copied());
    let finished = Call::new(argv, LIMIT).run(cancel)?;
    if finished.status.success() {
        return Ok(finished.stdout);
    }
    let words = String::from_utf8_lossy(&finished.stderr).trim().to_string();
    Err(Problem::new(Code::Ovn, doing).cause(format!("`{}`: {words}", finished.argv.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_read_without_what_the_kernel_gives_it() {
        let said = serde_json::json!({"ifname": "br-ex", "flags": ["BROADCAST", "UP"], "mtu": 1500, "address": "02:00:00:00:00:01",
        "addr_info": [
            {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"},
            {"family": "inet", "local": "172.16.1.1", "prefixlen": 24, "scope": "global"},
        ]});
        let link = link_of(&said);
        assert_eq!(link.addresses, ["172.16.1.1/24".parse().expect("valid")]);
        assert!(link.up && link.mtu == Some(1500) && link.mac.is_some());
        let links = BTreeMap::from([("br-ex".to_string(), link.clone())]);
        let net = |text: &str| text.parse::<IpNet>().expect("valid");
        assert_eq!(in_the_way(&links, "br-ex", net("172.16.1.9/24")), None);
        assert_eq!(in_the_way(&links, "br-o", net("172.16.2.1/24")), None);
        for text in ["172.16.1.9/24", "172.16.1.129/25", "172.16.0.1/16"] {
            assert_eq!(in_the_way(&links, "br-o", net(text)), Some(("br-ex", net("172.16.1.1/24"))), "{text}");
        }
        assert_eq!(link_of(&serde_json::json!({})), Link { up: false, mtu: None, mac: None, addresses: Vec::new() });
    }
}
