//! What a running guest takes up without a restart: NICs plugged and unplugged, its network configured anew.
//!
//! Pure. The configuration is compared link by link, so that links which stay as they are go on undisturbed.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{
    blueprint::{GuestBlueprint, NETWORK_CONFIG, NIC_ALIAS, NicDevice, Seed},
    container::Runtime,
    observed::{ObservedDomain, ObservedNic},
    render,
};

/// How a running guest differs from what is wanted, as far as it can be changed while it runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// NICs that go.
    pub unplug: Vec<NicDevice>,
    /// NICs that come.
    pub plug: Vec<NicDevice>,
    /// Before NICs go, the guest lets go of them.
    pub release: Option<Change>,
    /// After NICs came, the guest takes up the rest.
    pub configure: Option<Change>,
}

/// A change of a guest's network configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// The configuration before.
    pub from: String,
    /// The configuration after.
    pub to: String,
    /// The interfaces that it concerns.
    pub links: Vec<String>,
}

/// What is to be done in a running guest whose definition is as wanted otherwise. `lost` are ports of its NICs that stand in no
/// bridge of its host: such a NIC is unplugged and plugged again, which makes libvirt put it there.
pub fn live(guest: &GuestBlueprint, domain: &ObservedDomain, lost: &BTreeSet<Uuid>) -> Live {
    let (wanted, before) = (&guest.domain, links(&domain.network));
    let gone = |alias: &str| alias.starts_with(NIC_ALIAS) && !wanted.nics.iter().any(|nic| nic.alias == alias);
    let is_lost = |nic: &ObservedNic| nic.live && nic.alias.starts_with(NIC_ALIAS) && nic.port.is_some_and(|port| lost.contains(&port));
    let unplug: Vec<NicDevice> = domain
        .nics
        .iter()
        .filter(|nic| gone(&nic.alias) || is_lost(nic))
        .map(|nic| {
            let name = before.iter().find(|(_, section)| section.contains(&format!("macaddress: \"{}\"", nic.mac)));
            NicDevice {
                alias: nic.alias.clone(),
                name: name.map_or_else(|| named(domain, nic), |(name, _)| name.clone()),
                mac: nic.mac.clone(),
                port: nic.port.unwrap_or(Uuid::nil()),
                xml: nic.xml.clone(),
            }
        })
        .collect();
    let is_there =
        |nic: &&NicDevice| domain.nics.iter().any(|there| there.alias == nic.alias && there.live && there.defined && !is_lost(there));
    let plug: Vec<NicDevice> = wanted.nics.iter().filter(|nic| !is_there(nic)).cloned().collect();
    let going: BTreeSet<&String> = unplug.iter().map(|nic| &nic.name).filter(|name| before.contains_key(*name)).collect();
    let released = without(&domain.network, &going);
    let release = (!going.is_empty()).then(|| Change {
        from: domain.network.clone(),
        to: released.clone(),
        links: going.iter().map(ToString::to_string).collect(),
    });
    let (from, to) = (links(&released), links(&wanted.network));
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let differs = |name: &&&String| from.get(**name) != to.get(**name) || plug.iter().any(|nic| &nic.name == **name);
    let changed: Vec<String> = names.iter().filter(differs).map(ToString::to_string).collect();
    let configure =
        (!changed.is_empty() || released != wanted.network).then(|| Change { from: released, to: wanted.network.clone(), links: changed });
    Live { unplug, plug, release, configure }
}

/// The name of an interface that no network configuration names: a container's stands in its alias.
fn named(domain: &ObservedDomain, nic: &ObservedNic) -> String {
    let of_container = nic.alias.strip_prefix(NIC_ALIAS).and_then(|rest| rest.rsplit_once('-')).map(|(name, _)| name);
    of_container.filter(|_| domain.runtime == Runtime::Docker).unwrap_or(&nic.mac).to_string()
}

impl Live {
    /// True when the guest has all it should have.
    pub fn is_nothing(&self) -> bool {
        *self == Live::default()
    }
}

/// The seed as it was when the guest had another network configuration; nothing when the digest says that it was not so.
pub fn seed_before(seed: &Seed, network: &str, digest: &str) -> Option<Seed> {
    let mut files = seed.files.clone();
    files.insert(NETWORK_CONFIG.to_string(), network.to_string());
    let before = Seed { path: seed.path.clone(), digest: render::files_digest(files.iter()), files };
    (before.digest == digest).then_some(before)
}

/// The parts of a network configuration by the interface's name: its entry, and remarks (`# eth0: …`) at the end.
pub fn links(network: &str) -> BTreeMap<String, String> {
    let mut links: BTreeMap<String, String> = BTreeMap::new();
    let mut current = None;
    for line in network.lines() {
        current = link_of(line, current);
        if let Some(name) = &current {
            let part = links.entry(name.clone()).or_default();
            part.push_str(line);
            part.push('\n');
        }
    }
    links
}

/// A network configuration without some interfaces.
fn without(network: &str, names: &BTreeSet<&String>) -> String {
    let mut current = None;
    let kept = network.lines().filter(|line| {
        current = link_of(line, current.take());
        !current.as_ref().is_some_and(|name| names.contains(name))
    });
    kept.map(|line| format!("{line}\n")).collect()
}

/// The interface that a line is about; `current` is that of the line before.
fn link_of(line: &str, current: Option<String>) -> Option<String> {
    if let Some(remark) = line.strip_prefix("# ") {
        return remark.split_once(": ").map(|(name, _)| name.to_string());
    }
    match line.strip_prefix("  ") {
        Some(entry) if entry.starts_with(' ') => current,
        Some(entry) => entry.strip_suffix(':').map(str::to_string),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "version: 2\nethernets:\n  eth0:\n    match:\n      macaddress: \"02:00:00:00:00:01\"\n    mtu: 1442\n  eth1:\n    \
                       dhcp4: true\n# eth1: lease 10.0.0.7\n";

    #[test]
    fn a_configuration_is_told_apart_by_links() {
        let parts = links(TWO);
        assert_eq!(parts.keys().collect::<Vec<_>>(), ["eth0", "eth1"]);
        assert_eq!(parts["eth1"], "  eth1:\n    dhcp4: true\n# eth1: lease 10.0.0.7\n");
        assert!(parts["eth0"].ends_with("    mtu: 1442\n"));
        let rest = without(TWO, &BTreeSet::from([&"eth1".to_string()]));
        assert_eq!(rest, "version: 2\nethernets:\n  eth0:\n    match:\n      macaddress: \"02:00:00:00:00:01\"\n    mtu: 1442\n");
        assert_eq!(without(&rest, &BTreeSet::from([&"eth0".to_string()])), "version: 2\nethernets:\n");
    }

    #[test]
    fn a_seed_is_known_again_by_its_digest() {
        let files = BTreeMap::from([("meta-data".to_string(), "a".to_string()), (NETWORK_CONFIG.to_string(), TWO.to_string())]);
        let seed = Seed { path: "s".into(), digest: render::files_digest(files.iter()), files };
        let other = seed_before(&seed, "version: 2\n", "").map(|seed| seed.digest);
        assert_eq!(other, None);
        assert_eq!(seed_before(&seed, TWO, &seed.digest), Some(seed));
    }
}
