//! Joining: a token and a request become a certificate and a place on the roster.
//!
//! Must not know sockets.

use chrono::{DateTime, Utc};
use kvm_compose::{
    api::cluster::JoinToken,
    error::{Code, Problem},
    names::HostName,
};

use super::{
    Cluster, Live,
    member::Membership,
    roster::MemberRecord,
    wire::{Join, Joined, check_version},
};

/// The port of OVN's southbound database over TLS (the one that ovn-sbctl(8) uses).
pub const SOUTHBOUND_PORT: u16 = 6642;

impl Cluster {
    /// Makes a token for one host.
    pub fn make_token(&self) -> Result<JoinToken, Problem> {
        let door = *self.door.lock();
        let Some(door) = door else {
            return Err(Problem::new(Code::Unsupported, "this server does not listen for members")
                .hint("start it with --cluster-listen ADDRESS:3356 (or `cluster_listen` in config/server.toml), ADDRESS being one that the other hosts reach"));
        };
        let (token, expires) = self.tokens.lock().make(&self.authority.digest, Utc::now())?;
        let url = format!("https://{door}");
        let command = format!("testbedos-server client --master {url} --token {token}");
        Ok(JoinToken { token, url, command, expires })
    }

    /// Lets a host in.
    pub fn join(&self, join: &Join, now: DateTime<Utc>) -> Result<Joined, Problem> {
        check_version(&join.version, join.protocol, "the client")?;
        self.tokens.lock().check(&join.secret, now)?;
        let name = &join.host.hostname;
        self.check_name(name)?;
        check_chassis(&join.chassis)?;
        let (certificate, digest) = self.authority.sign(&join.request, &join.chassis)?;
        let record = MemberRecord { host: join.host.clone(), certificate: digest, chassis: join.chassis.clone(), joined: now };
        let own_chassis = self.local.chassis()?;
        let mut state = self.state.lock();
        // Looked at again under the lock: two hosts may come with one name.
        if state.members.contains_key(name) {
            return Err(taken(name, "a member of the cluster"));
        }
        if own_chassis.as_deref() == Some(&*join.chassis) || state.members.values().any(|live| live.record.chassis == join.chassis) {
            return Err(Problem::new(Code::Conflict, format!("another host is chassis `{}` in OVN already", join.chassis))
                .hint("give this one a `system-id` of its own: ovs-vsctl set Open_vSwitch . external-ids:system-id=NAME"));
        }
        self.tokens.lock().take(&join.secret, name, now)?;
        let records = state.members.values().map(|live| live.record.clone()).chain([record.clone()]).collect();
        self.roster.write(records)?;
        state.leaving.remove(&join.chassis);
        state.members.insert(name.clone(), Live::new(record, Membership::joining(self.now())));
        tracing::info!(member = %name, chassis = join.chassis, "a host has joined");
        Ok(Joined {
            certificate,
            authority: self.authority.certificate.clone(),
            master: self.setup.host.hostname.clone(),
            installation: self.setup.installation,
            southbound_port: SOUTHBOUND_PORT,
        })
    }

    fn check_name(&self, name: &HostName) -> Result<(), Problem> {
        if matches!(name.as_str(), "main" | "master") {
            return Err(taken(name, "the master, by a name that every testbed file may use"));
        }
        if *name == self.setup.host.hostname {
            return Err(taken(name, "the master itself"));
        }
        match self.state.lock().members.get(name) {
            Some(live) => Err(taken(name, &format!("a member of the cluster, which is {}", live.membership.state.word()))),
            None => Ok(()),
        }
    }
}

fn taken(name: &HostName, by: &str) -> Problem {
    Problem::new(Code::Conflict, format!("the name `{name}` is taken by {by}")).hint(format!(
        "set another `hostname` in config/host.json on this host, or, if it is the same host that lost its keys, run `testbed cluster remove {name}` on the master first"
    ))
}

/// A chassis' name goes into a certificate and into OVN's tables.
fn check_chassis(name: &str) -> Result<(), Problem> {
    let good = (1..=63).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if good {
        return Ok(());
    }
    Err(Problem::new(Code::InvalidName, format!("`{}` is not a name for a chassis", kvm_compose::names::printable(name)))
        .hint("use 1 to 63 letters, digits, `-`, `_` and `.` in external-ids:system-id"))
}
