//! The TAP device that stands in the bridge in a guest's place: made, marked, found, removed.
//!
//! Its mark is its alias (ip-link(8)), which says whose it is also when nothing else is left of the link.

use std::{fs, io, time::Duration};

use serde::Deserialize;
use uuid::Uuid;

use crate::{
    backend::{Owner, files::process::Call},
    error::{Code, Problem},
    names::DeploymentName,
    orchestrate::host::Cancel,
};

/// How long ip(8) may take.
const LIMIT: Duration = Duration::from_secs(10);
/// What the names of our devices begin with.
const PREFIX: &str = "tbl";
/// The same, of those that the kernel leads packets through.
const INBOUND: &str = "tbi";
/// What their aliases begin with.
const MARK: &str = "testbedos-link";

/// The device of a port: 13 of the 15 characters that a name may have.
pub fn name_of(port: Uuid) -> String {
    format!("{PREFIX}{}", &port.simple().to_string()[..10])
}

/// The device of a port through which the kernel leads what its guest sends.
pub fn inbound_name_of(port: Uuid) -> String {
    format!("{INBOUND}{}", &port.simple().to_string()[..10])
}

/// True for a name of one of our devices.
pub fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .or(name.strip_prefix(INBOUND))
        .is_some_and(|rest| rest.len() == 10 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The mark of a port's device.
pub fn alias(owner: &Owner, port: Uuid) -> String {
    format!("{MARK} {} {} {port}", owner.installation, owner.deployment)
}

/// A device with a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// Its name.
    pub name: String,
    /// The installation that made it.
    pub installation: String,
    /// The deployment it belongs to.
    pub deployment: DeploymentName,
    /// The port it stands for.
    pub port: Uuid,
}

fn read_alias(name: &str, alias: &str) -> Option<Marked> {
    let mut words = alias.split_whitespace();
    if words.next() != Some(MARK) {
        return None;
    }
    let (installation, deployment, port) = (words.next()?, words.next()?, words.next()?);
    Some(Marked {
        name: name.to_string(),
        installation: installation.to_string(),
        deployment: DeploymentName::new(deployment).ok()?,
        port: Uuid::parse_str(port).ok()?,
    })
}

/// What ip(8) says of a device.
#[derive(Debug, Deserialize)]
struct Shown {
    ifname: String,
    mtu: u32,
    #[serde(default)]
    ifalias: String,
}

/// What ip(8) says of devices. Not read from /sys, which may show another network namespace's.
fn show(which: &[&str], cancel: &Cancel) -> Result<Vec<Shown>, Problem> {
    let finished = Call::new([&["ip", "-j", "link", "show"], which].concat(), LIMIT).run(cancel)?;
    let doing = || Problem::new(Code::Link, "cannot look at this host's network devices");
    if !finished.status.success() {
        return Err(doing().cause(String::from_utf8_lossy(&finished.stderr).trim()));
    }
    serde_json::from_slice(&finished.stdout).map_err(|error| doing().cause(error))
}

/// All our devices on this host, whosever they are.
pub fn all() -> Result<Vec<Marked>, Problem> {
    let text = fs::read_to_string("/proc/net/dev").map_err(|error| Problem::io("cannot list this host's network devices", &error))?;
    if !text.lines().filter_map(|line| line.split(':').next()).any(|name| is_ours(name.trim())) {
        return Ok(Vec::new());
    }
    let shown = show(&[], &Cancel::new())?;
    let mut found: Vec<Marked> =
        shown.iter().filter(|device| is_ours(&device.ifname)).filter_map(|device| read_alias(&device.ifname, &device.ifalias)).collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// A device's index, which no other device ever gets; nothing when there is no such device.
pub fn index_of(name: &str) -> Option<u32> {
    testbedos_relay::port::index_of(name).ok()
}

/// Makes the device, marked, as large as the guest's, and keeps both out of this host's own traffic.
pub fn ensure(name: &str, tap: &str, alias: &str, cancel: &Cancel) -> Result<(), Problem> {
    if index_of(name).is_none() {
        ip(&["tuntap", "add", "dev", name, "mode", "tap"], name, cancel)?;
    }
    let shown = show(&["dev", name], cancel)?;
    if let Some(other) = shown.iter().find(|device| !device.ifalias.is_empty() && device.ifalias != alias) {
        return Err(Problem::new(Code::Conflict, format!("there is a network device `{name}` already"))
            .cause(format!("its alias is `{}`", other.ifalias))
            .hint(format!("`ip link del {name}` removes it, if nobody needs it")));
    }
    let mtu = show(&["dev", tap], cancel)?.first().map_or(1500, |device| device.mtu).to_string();
    // ARP and IPv6 are the guest's business: this host neither answers nor speaks on its wire.
    quiet(name);
    quiet(tap);
    ip(&["link", "set", "dev", name, "alias", alias, "mtu", &mtu, "arp", "off", "up"], name, cancel)?;
    ip(&["link", "set", "dev", tap, "arp", "off"], tap, cancel)
}

/// Removes the device. Absent already is success.
pub fn remove(name: &str, cancel: &Cancel) -> Result<(), Problem> {
    if index_of(name).is_none() {
        return Ok(());
    }
    match ip(&["link", "del", "dev", name], name, cancel) {
        Err(_) if index_of(name).is_none() => Ok(()),
        other => other,
    }
}

fn quiet(name: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    match fs::write(&path, "1") {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%path, %error, "this host's IPv6 stays on a guest's wire"),
    }
}

fn ip(arguments: &[&str], device: &str, cancel: &Cancel) -> Result<(), Problem> {
    let finished = Call::new([&["ip"], arguments].concat(), LIMIT).run(cancel)?;
    if finished.status.success() {
        return Ok(());
    }
    Err(Problem::new(Code::Link, format!("the network device `{device}` cannot be set up"))
        .cause(format!("`{}`: {}", finished.argv.join(" "), String::from_utf8_lossy(&finished.stderr).trim()))
        .hint("the server needs the right to change this host's network (CAP_NET_ADMIN)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::InstallationId;

    #[test]
    fn names_fit_and_aliases_are_read_back() {
        let port = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"port");
        let name = name_of(port);
        assert!(name.len() <= 15 && is_ours(&name), "{name}");
        assert!(!is_ours("tbl") && !is_ours("vnet0") && !is_ours("tblzzzzzzzzzz"));
        let longest = DeploymentName::new(&"a".repeat(63)).expect("valid");
        let owner = Owner { installation: InstallationId(Uuid::from_u128(1)), deployment: longest.clone() };
        let alias = alias(&owner, port);
        assert!(alias.len() < 256, "{}", alias.len());
        let read = read_alias(&name, &format!("{alias}\n")).expect("read");
        assert_eq!((read.deployment, read.port, read.installation), (longest, port, owner.installation.to_string()));
        for other in ["", "testbedos-link", "somebody's", "testbedos-link i ../x 1"] {
            assert_eq!(read_alias(&name, other), None);
        }
    }
}
