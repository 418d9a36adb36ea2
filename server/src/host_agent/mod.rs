//! Client mode: this machine lent to a master.
//!
//! ```text
//! join (once): check itself ─► token ─► certificate, config/member.json ─► chassis of the master's OVN
//! session (for ever): dial ─► hello ─► calls, each in a thread of its own ─► cut ─► dial again
//! ```
//!
//! Guests belong to libvirt and go on without us. Must not know plans: it does what it is told, step by step.

pub mod bases;
pub mod calls;
pub mod capture;
mod console;
mod copy;
pub mod dial;
pub mod join;
pub mod session;
pub mod tls;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use kvm_compose::{
    backend::{
        local::LocalHost,
        network::{chassis, southbound::TlsFiles},
    },
    error::{Code, Problem},
    names::{HostName, InstallationId},
};
use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};

use crate::{
    args::Flags,
    cluster::pki::KeyFiles,
    config::{
        Settings,
        host::{self, HostConfig, Mode},
    },
    data::{DataDir, DataLock, read_if_there},
    logging, run,
    signals::{self, Signals},
    store::{atomic, records::to_json},
};

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Invitation {
    /// The master's URL.
    pub master: Option<String>,
    /// The join token.
    pub token: Option<String>,
    /// The interface for traffic between hosts.
    pub interface: Option<String>,
}

/// config/member.json: what this machine is a member of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// The master's `host:port`.
    pub master: String,
    /// SHA-256 of the authority's certificate.
    pub authority: String,
    /// The master's host.
    pub master_host: HostName,
    /// Whose marks everything that is made here carries.
    pub installation: InstallationId,
    /// This machine's name in OVN.
    pub chassis: String,
    /// The address of its tunnels.
    pub encap_ip: IpAddr,
    /// OVN's southbound database.
    pub southbound: String,
    /// What OVN's set-up was before.
    pub before: chassis::Before,
}

impl Membership {
    fn file(data: &DataDir) -> PathBuf {
        data.config().join("member.json")
    }

    /// Reads config/member.json if it is there.
    pub fn read(data: &DataDir) -> Result<Option<Membership>, Problem> {
        let file = Self::file(data);
        let Some(content) = read_if_there(&file)? else { return Ok(None) };
        serde_json::from_slice(&content).map(Some).map_err(|error| {
            Problem::new(Code::Storage, format!("{} cannot be read", file.display()))
                .cause(error)
                .hint("remove it, run `testbed cluster remove` for this host on the master, and join anew")
        })
    }

    fn write(&self, data: &DataDir) -> Result<(), Problem> {
        atomic::write(&Self::file(data), &to_json(self)?)
    }
}

/// Files of this member's TLS.
fn key_files(data: &DataDir) -> KeyFiles {
    KeyFiles::of(data, "member")
}

fn tls_files(files: &KeyFiles) -> TlsFiles<'_> {
    TlsFiles { key: &files.key, certificate: &files.certificate, authority: &files.authority }
}

/// Lends this machine to the master until a signal asks to stop, or the master lets it go.
pub fn client(settings: &Settings, flags: &Flags, invitation: &Invitation) -> Result<(), Problem> {
    let lock = settings.data.open()?;
    let logging = logging::start(settings)?;
    let config = HostConfig::load(&settings.data)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::io("cannot start the runtime", &error))?;
    let ended = runtime.block_on(live(settings, flags, invitation, config, &logging));
    if let Err(problem) = &ended {
        tracing::error!(%problem, causes = ?problem.causes, "the client ends");
    }
    // Calls that hang in libvirt do not keep the client from ending.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop::<DataLock>(lock);
    ended
}

async fn live(
    settings: &Settings,
    flags: &Flags,
    invitation: &Invitation,
    config: HostConfig,
    logging: &logging::Logging,
) -> Result<(), Problem> {
    let mut signals = Signals::listen().map_err(|error| Problem::io("cannot listen to signals", &error))?;
    let data = &settings.data;
    let membership = match Membership::read(data)? {
        Some(known) => known_master(known, invitation)?,
        None => join::join(settings, &config, invitation).await?,
    };
    host::write_mode(data, Mode::Client)?;
    let files = key_files(data);
    let source = bases::FromMaster::new(&membership, &files);
    let local = LocalHost::member(run::local_config(settings, &config, membership.installation), Box::new(source));
    let calls = calls::Calls::new(local);
    let mut session = Box::pin(session::run(membership.clone(), files.clone(), settings.clone(), config, calls.clone()));
    signals::feed_watchdog();
    signals::tell(&[NotifyState::Ready]);
    let left = tokio::select! {
        left = &mut session => Some(left),
        () = signals.until_told(flags, logging) => None,
    };
    signals::tell(&[NotifyState::Stopping]);
    calls.stop();
    match left {
        None => {
            tracing::info!("stopped; guests go on running");
            Ok(())
        }
        Some(reason) => Err(part(settings, &membership, &files, reason)),
    }
}

/// The master that this machine belongs to already; an invitation to the same one is not needed any more.
fn known_master(known: Membership, invitation: &Invitation) -> Result<Membership, Problem> {
    let token = invitation.token.as_deref().map(crate::cluster::token::Parts::of).transpose()?;
    if let Some(token) = token.filter(|token| token.authority != known.authority) {
        return Err(Problem::new(
            Code::Conflict,
            format!("this host is a member of the cluster of `{}` ({}) already", known.master_host, known.master),
        )
        .cause(format!("the token is from another master, with the authority {}…", &token.authority[..12]))
        .hint("let the old master run `testbed cluster remove` for this host first"));
    }
    Ok(known)
}

/// The master has let this machine go: OVN's set-up is put back, keys are removed.
fn part(settings: &Settings, membership: &Membership, files: &KeyFiles, reason: String) -> Problem {
    let mut problem = Problem::new(Code::Forbidden, format!("the master has let this host go: {reason}"))
        .hint("`testbed cluster token` on a master prints the line that lets it join again");
    if let Err(left) = chassis::leave(&settings.ovs_db, tls_files(files), &membership.before) {
        problem = problem.cause(format!("Open vSwitch could not be set back: {left}"));
    }
    for file in [&files.key, &files.certificate, &files.authority, &Membership::file(&settings.data)] {
        if let Err(error) = std::fs::remove_file(file)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            problem = problem.cause(format!("{}: {error}", file.display()));
        }
    }
    problem
}
