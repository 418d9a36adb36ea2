//! From what the user wrote to what it means: the `checks` section.
//!
//! Pure. Guests' names become addresses here, so that who asks needs to know no file; what a guest cannot be asked is a fault.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::model::{Guest, GuestKind, Nic, ReadyCondition};
pub use crate::spec::checks::Expect;
use crate::{
    error::Place,
    names::{GuestName, printable},
    spec::{
        checks as wrote,
        decode_checks::host_name,
        node::Mark,
        reader::{Reader, Spanned},
    },
};

/// How long a check may take that does not say, in seconds.
const TIMEOUT_S: u64 = 10;
/// How many echo requests a check sends that does not say.
const COUNT: u32 = 3;

/// An expectation, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its name, unique in the file.
    pub name: String,
    /// The guest that is asked.
    pub guest: GuestName,
    /// What it is asked.
    pub probe: Probe,
    /// What is expected of the answer.
    pub expect: Expect,
    /// How long it may take, in seconds.
    pub timeout_s: u64,
    /// Where it stands in the file.
    pub at: Place,
}

/// What a guest is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Probe {
    /// Who answers echo requests.
    Ping {
        /// Who should.
        to: Target,
        /// How many are sent.
        count: u32,
    },
    /// Who takes TCP connections.
    Tcp {
        /// Who should.
        to: Target,
        /// On this port.
        port: u16,
    },
    /// What a web server answers.
    Http {
        /// What it is asked for.
        url: Url,
        /// Whom the guest connects to.
        to: Target,
        /// The status; none means 200 to 299.
        status: Option<u16>,
        /// A text in the answer.
        contains: Option<String>,
    },
    /// Which address a name has.
    Dns {
        /// The name.
        name: String,
        /// An address it has; none means any.
        address: Option<IpAddr>,
    },
    /// What a command ends with.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
        /// The status.
        status: i32,
        /// A text on its standard output.
        stdout_contains: Option<String>,
    },
}

impl Probe {
    /// The key in the testbed file.
    pub fn word(&self) -> &'static str {
        match self {
            Probe::Ping { .. } => "ping",
            Probe::Tcp { .. } => "tcp",
            Probe::Http { .. } => "http",
            Probe::Dns { .. } => "dns",
            Probe::Exec { .. } => "exec",
        }
    }
}

/// Whom a guest talks to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// As the file has it.
    pub wrote: String,
    /// An address, or a DNS name that the guest itself looks up.
    pub address: String,
}

impl std::fmt::Display for Target {
    /// `b (10.0.0.6)`, or the address alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.wrote == self.address { f.write_str(&self.wrote) } else { write!(f, "{} ({})", self.wrote, self.address) }
    }
}

/// What a web server is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Url {
    /// As the file has it.
    pub wrote: String,
    /// TLS.
    pub secure: bool,
    /// The host and, unless it is the scheme's own, the port: the header `Host`.
    pub authority: String,
    /// The port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

/// All checks, in the file's order.
pub fn checks(wrote: &[wrote::Check], guests: &[Guest], partly: &BTreeSet<GuestName>, reader: &mut Reader) -> Vec<Check> {
    let mut known = Known { guests: guests.iter().map(|guest| (guest.name.as_str(), guest)).collect(), partly, reader };
    let mut resolved: Vec<(Option<&Spanned<String>>, Check)> = Vec::new();
    for check in wrote {
        let Some((guest, probe)) = known.probe(check) else { continue };
        let expect = check.expect.as_ref().map_or(Expect::Pass, |expect| expect.value);
        let timeout_s = check.timeout_s.as_ref().map_or(TIMEOUT_S, |limit| limit.value);
        let name = check.name.as_ref().map_or_else(|| generated(&guest, &probe), |name| name.value.clone());
        resolved.push((check.name.as_ref(), Check { name, guest, probe, expect, timeout_s, at: known.reader.place(check.at) }));
    }
    let mut taken: BTreeMap<String, u32> = BTreeMap::new();
    for name in resolved.iter().filter_map(|(name, _)| *name) {
        if taken.insert(name.value.clone(), 1).is_some() {
            let message = format!("there is a check `{}` already", printable(&name.value));
            known.reader.error(name.at, "E011", message, Some("give it another name".to_string()));
        }
    }
    for (_, check) in resolved.iter_mut().filter(|(name, _)| name.is_none()) {
        let first = check.name.clone();
        let mut number = taken.get(&first).copied().unwrap_or(0);
        loop {
            number += 1;
            let candidate = if number == 1 { first.clone() } else { format!("{first}-{number}") };
            if number == 1 || !taken.contains_key(&candidate) {
                taken.insert(first, number);
                taken.entry(candidate.clone()).or_insert(1);
                check.name = candidate;
                break;
            }
        }
    }
    resolved.into_iter().map(|(_, check)| check).collect()
}

/// A name for a check that has none.
fn generated(guest: &GuestName, probe: &Probe) -> String {
    let rest = match probe {
        Probe::Ping { to, .. } => to.wrote.clone(),
        Probe::Tcp { to, port } => format!("{}-{port}", to.wrote),
        Probe::Http { url, .. } => format!("{}{}", url.authority, url.path.split('?').next().unwrap_or_default().trim_end_matches('/')),
        Probe::Dns { name, .. } => name.clone(),
        Probe::Exec { command, .. } => {
            command.first().map(|program| program.rsplit('/').next().unwrap_or_default()).unwrap_or_default().to_string()
        }
    };
    let rest: String = printable(&rest).chars().map(|c| if c.is_whitespace() { '-' } else { c }).take(60).collect();
    format!("{}-{guest}-{rest}", probe.word())
}

/// What references are looked up in.
struct Known<'a> {
    guests: BTreeMap<&'a str, &'a Guest>,
    /// Guests that are faulty, or have faulty interfaces: what they lack is a fault already.
    partly: &'a BTreeSet<GuestName>,
    reader: &'a mut Reader,
}

impl<'a> Known<'a> {
    fn probe(&mut self, check: &wrote::Check) -> Option<(GuestName, Probe)> {
        // Each of a file's several kinds is looked at, though only one is allowed: its faults are faults.
        let ping = check.ping.as_ref().and_then(|ping| {
            let (from, to) = self.pair(&ping.from, &ping.to);
            let count = ping.count.as_ref().map_or(COUNT, |count| count.value as u32);
            Some((from?, Probe::Ping { to: to?, count }))
        });
        let tcp = check.tcp.as_ref().and_then(|tcp| {
            let (from, to) = self.pair(&tcp.from, &tcp.to);
            Some((from?, Probe::Tcp { to: to?, port: tcp.port.as_ref()?.value as u16 }))
        });
        let http = check.http.as_ref().and_then(|http| self.http(http));
        let dns = check.dns.as_ref().and_then(|dns| {
            let from = dns.from.as_ref().and_then(|from| self.asker(from, true))?;
            let address = dns.address.as_ref().map(|address| address.value);
            Some((from.name.clone(), Probe::Dns { name: dns.name.as_ref()?.value.clone(), address }))
        });
        let exec = check.exec.as_ref().and_then(|exec| {
            let guest = exec.guest.as_ref().and_then(|guest| self.asker(guest, false))?;
            let command = exec.command.as_ref()?.iter().map(|word| word.value.clone()).collect();
            let status = exec.status.as_ref().map_or(0, |status| status.value as i32);
            let stdout_contains = exec.stdout_contains.as_ref().map(|text| text.value.clone());
            Some((guest.name.clone(), Probe::Exec { command, status, stdout_contains }))
        });
        ping.or(tcp).or(http).or(dns).or(exec)
    }

    fn http(&mut self, http: &wrote::Http) -> Option<(GuestName, Probe)> {
        let asker = http.from.as_ref().and_then(|from| self.asker(from, true));
        let wrote = http.url.as_ref()?;
        let (url, host) = match url(&wrote.value) {
            Ok(parsed) => parsed,
            Err(hint) => {
                let message = format!("`url` cannot be `{}`", printable(&wrote.value));
                self.reader.error(wrote.at, "E062", message, Some(hint));
                return None;
            }
        };
        let to = self.target(asker, &Spanned { value: host, at: wrote.at })?;
        let asker = asker?;
        if url.secure && matches!(asker.kind, GuestKind::Micro { .. }) {
            let message = format!("micro guest `{}` has no program that speaks TLS", asker.name);
            self.reader.error(wrote.at, "E061", message, Some("ask for `http://`, or from a guest of another kind".to_string()));
            return None;
        }
        let status = http.status.as_ref().map(|status| status.value as u16);
        let contains = http.contains.as_ref().map(|text| text.value.clone());
        Some((asker.name.clone(), Probe::Http { url, to, status, contains }))
    }

    /// Both ends, so that the faults of both are told.
    fn pair(&mut self, from: &Option<Spanned<GuestName>>, to: &Option<Spanned<String>>) -> (Option<GuestName>, Option<Target>) {
        let from = from.as_ref().and_then(|from| self.asker(from, true));
        let to = to.as_ref().and_then(|to| self.target(from, to));
        (from.map(|guest| guest.name.clone()), to)
    }

    /// A guest that is to be asked, or a fault: E060 when there is none, E061 when it cannot be asked.
    fn asker(&mut self, name: &Spanned<GuestName>, through_network: bool) -> Option<&'a Guest> {
        let Some(guest) = self.guests.get(name.value.as_str()).copied() else {
            self.unknown(name.value.as_str(), name.at);
            return None;
        };
        // A container is asked through Docker.
        let agent = !matches!(guest.ready.condition, ReadyCondition::Running | ReadyCondition::Log(_));
        if !agent && !matches!(guest.kind, GuestKind::Docker(_)) {
            let hint = "checks run through the guest agent: when the image has it, say `ready: {agent: true}`".to_string();
            self.reader.error(name.at, "E061", format!("guest `{}` is not known to have a guest agent", guest.name), Some(hint));
            return None;
        }
        if through_network && guest.nics.is_empty() {
            if self.partly.contains(&guest.name) {
                return None;
            }
            let hint = "give it an interface, or ask another guest".to_string();
            self.reader.error(name.at, "E061", format!("guest `{}` has no interface to ask from", guest.name), Some(hint));
            return None;
        }
        Some(guest)
    }

    fn target(&mut self, from: Option<&Guest>, to: &Spanned<String>) -> Option<Target> {
        let wrote = to.value.clone();
        if let Ok(address) = wrote.parse::<IpAddr>() {
            return Some(Target { address: address.to_string(), wrote });
        }
        let (name, nic) = wrote.split_once(':').map_or((wrote.as_str(), None), |(name, nic)| (name, Some(nic)));
        let Some(guest) = self.guests.get(name).copied() else {
            // A name with a dot is one of the DNS; the guest will look it up.
            if nic.is_none() && name.contains('.') && host_name(name).is_ok() {
                return Some(Target { address: wrote.clone(), wrote });
            }
            self.unknown(name, to.at);
            return None;
        };
        let chosen: Vec<&Nic> = guest.nics.iter().filter(|one| nic.is_none_or(|nic| one.name == nic)).collect();
        let shares = |nic: &&&Nic| from.is_some_and(|from| from.nics.iter().any(|own| own.switch == nic.switch));
        let speaks = |nic: &&&Nic| {
            from.is_none_or(|from| {
                nic.addresses.iter().any(|one| from.nics.iter().any(|own| own.address_of(one.net.addr().is_ipv4()).is_some()))
            })
        };
        let address = |nic: &&Nic| from.map_or_else(|| nic.address(), |from| nic.address_for(from));
        let near = chosen.iter().filter(shares).chain(&chosen);
        let best = near.clone().filter(speaks).chain(near).find_map(address);
        match (best, nic) {
            (Some(address), _) => Some(Target { address: address.to_string(), wrote }),
            (None, _) if self.partly.contains(&guest.name) => None,
            (None, Some(nic)) if chosen.is_empty() => {
                let names: Vec<&str> = guest.nics.iter().map(|nic| nic.name.as_str()).collect();
                let hint = format!("interfaces of `{name}`: {}", if names.is_empty() { "none".to_string() } else { names.join(", ") });
                self.reader.error(to.at, "E060", format!("guest `{name}` has no interface `{}`", printable(nic)), Some(hint));
                None
            }
            (None, _) => {
                let hint = "give it an address, or name another guest".to_string();
                self.reader.error(to.at, "E061", format!("guest `{name}` has no address to talk to"), Some(hint));
                None
            }
        }
    }

    fn unknown(&mut self, name: &str, at: Mark) {
        if self.partly.iter().any(|known| known.as_str() == name) {
            return;
        }
        let names = self.guests.keys().copied();
        self.reader.error_with(at, "E060", format!("there is no guest `{}`", printable(name)), |guesses| {
            Some(match names.len() {
                0 => "the file has no guests".to_string(),
                _ => guesses.near_or_listed(name, names, "guests of this file"),
            })
        });
    }
}

/// Reads an `http` or `https` URL (RFC 3986); returns it with its host. The error is a hint.
fn url(text: &str) -> Result<(Url, String), String> {
    let example = || "write a URL such as http://web/ or http://10.0.0.5:8080/page?x=1".to_string();
    let uri: http::Uri = text.parse().map_err(|_| example())?;
    let secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(example()),
    };
    let authority = uri.authority().ok_or_else(example)?;
    if authority.as_str().contains('@') {
        return Err("a URL with a user's name is not supported: leave out what stands before the `@`".to_string());
    }
    let host = authority.host().to_string();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(|host| host.parse::<Ipv6Addr>());
    let host = match bare {
        Some(address) => address.map_err(|_| example())?.to_string(),
        None if host.parse::<IpAddr>().is_ok() || host_name(&host).is_ok() => host,
        None => return Err(example()),
    };
    let rest = &authority.as_str()[authority.host().len()..];
    let port = match rest.strip_prefix(':') {
        None => {
            if secure {
                443
            } else {
                80
            }
        }
        Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| "use a port from 1 to 65535".to_string())?,
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
    Ok((Url { wrote: text.to_string(), secure, authority: authority.as_str().to_string(), port, path }, host))
}

/// A check as an item of the language, with every default filled in.
pub fn document(check: &Check) -> Value {
    let guest = check.guest.as_str();
    let put = |mut map: Map<String, Value>, key: &str, value: Option<Value>| {
        map.extend(value.map(|value| (key.to_string(), value)));
        map
    };
    let start = |value: Value| match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let asked = match &check.probe {
        Probe::Ping { to, count } => start(json!({"from": guest, "to": to.wrote, "count": count})),
        Probe::Tcp { to, port } => start(json!({"from": guest, "to": to.wrote, "port": port})),
        Probe::Http { url, status, contains, .. } => {
            let map = put(start(json!({"from": guest, "url": url.wrote})), "status", status.map(Value::from));
            put(map, "contains", contains.clone().map(Value::from))
        }
        Probe::Dns { name, address } => {
            put(start(json!({"from": guest, "name": name})), "address", address.map(|address| json!(address.to_string())))
        }
        Probe::Exec { command, status, stdout_contains } => put(
            start(json!({"guest": guest, "command": command, "status": status})),
            "stdout_contains",
            stdout_contains.clone().map(Value::from),
        ),
    };
    json!({"name": check.name, check.probe.word(): asked, "expect": check.expect, "timeout_s": check.timeout_s})
}
