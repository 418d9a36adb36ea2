//! Joining a master's cluster: this machine checks itself, shows its token, and becomes a chassis of the master's OVN.
//!
//! Nothing is kept until the master has said yes.

use std::{net::IpAddr, time::Duration};

use axum::body::Body;
use kvm_compose::{
    api::ErrorBody,
    backend::{files::process::Call, local::LocalHost, network::chassis},
    error::{Code, Problem},
    names::InstallationId,
    orchestrate::host::Cancel,
};

use super::{Invitation, Membership, dial, key_files, tls, tls_files};
use crate::{
    cluster::{
        pki::{self, KeyFiles},
        token::Parts,
        wire::{Join, Joined, PROTOCOL, VERSION},
    },
    config::{Settings, host::HostConfig},
    run,
    store::atomic,
};

/// How long ip(8) may take.
const IP_LIMIT: Duration = Duration::from_secs(10);
/// The largest answer.
const LARGEST: usize = 256 << 10;

/// Joins, and puts on record what this machine is a member of.
pub async fn join(settings: &Settings, config: &HostConfig, invitation: &Invitation) -> Result<Membership, Problem> {
    if invitation.token.is_some() && invitation.master.is_none() {
        return Err(Problem::new(Code::BadRequest, "`--master URL` is missing beside the token")
            .hint("copy the whole line that `testbed cluster token` prints on the master"));
    }
    let (Some(url), Some(token)) = (&invitation.master, &invitation.token) else {
        return Err(Problem::new(Code::BadRequest, "this host is no member of a cluster yet")
            .hint("join with `testbedos-server client --master URL --token T`; `testbed cluster token` on the master prints the line"));
    };
    let master = dial::authority_of(url)?;
    let token = Parts::of(token)?;
    // Everything that can be wrong here is found out before the token is used up.
    let interface = invitation.interface.clone();
    let named = crate::app::blocking(move || interface.as_deref().map(address_of).transpose()).await?;
    let (checked, host) = (settings.clone(), config.clone());
    let chassis = crate::app::blocking(move || check_itself(&checked, &host)).await?;
    let (key, request) = pki::request()?;
    let asked = Join {
        secret: token.secret,
        version: VERSION.to_string(),
        protocol: PROTOCOL,
        host: config.clone(),
        chassis: chassis.clone(),
        request,
    };
    let body = serde_json::to_vec(&asked).map_err(|error| Problem::internal("the request to join cannot be written").cause(error))?;
    let request = dial::request("POST", "/api/cluster/join", Body::from(body))?;
    let asked = dial::ask(&master, tls::stranger(&token.authority)?, request).await;
    let (answer, address) = asked.map_err(|problem| not_the_master(problem, &master))?;
    let accepted = answer.status().is_success();
    let body = dial::whole(answer.into_body(), LARGEST).await?;
    if !accepted {
        let refused: Result<ErrorBody, _> = serde_json::from_slice(&body);
        return Err(refused.map_or_else(
            |_| Problem::new(Code::Unavailable, format!("the master at {master} answers in a way we do not know")),
            |body| body.problem,
        ));
    }
    let joined: Joined =
        serde_json::from_slice(&body).map_err(|error| Problem::internal("the master's answer makes no sense").cause(error))?;
    let encap_ip = named.unwrap_or(address);
    let files = key_files(&settings.data);
    keep(&files, &key, &joined)?;
    let remote = format!("ssl:{}", with_port(&master, joined.southbound_port)?);
    let mut membership = Membership {
        master,
        authority: token.authority,
        master_host: joined.master,
        installation: joined.installation,
        chassis,
        encap_ip,
        southbound: remote,
        before: chassis::Before::new(),
    };
    // On record before Open vSwitch is changed: a client that dies in between goes on from here.
    membership.write(&settings.data)?;
    membership.before = become_chassis(settings, &membership, &files)?;
    membership.write(&settings.data)?;
    tracing::info!(master = membership.master, chassis = membership.chassis, encap_ip = %membership.encap_ip, "joined");
    Ok(membership)
}

/// Makes this machine a chassis of the master's OVN; done already is success.
pub fn become_chassis(settings: &Settings, membership: &Membership, files: &KeyFiles) -> Result<chassis::Before, Problem> {
    let chassis = chassis::Chassis {
        system_id: &membership.chassis,
        remote: &membership.southbound,
        encap_ip: membership.encap_ip,
        files: tls_files(files),
    };
    chassis::join(&settings.ovs_db, &chassis)
}

/// A server that answers and is not the token's master is no matter of firewalls.
fn not_the_master(problem: Problem, master: &str) -> Problem {
    if !problem.causes.iter().any(|cause| cause.contains(tls::ANOTHER_AUTHORITY)) {
        return problem;
    }
    Problem::new(Code::Unauthorized, format!("the server at {master} is {}", tls::ANOTHER_AUTHORITY))
        .cause("its certificate's authority is not the one in the token")
        .hint("copy the token and the URL from the same `testbed cluster token`")
}

/// Whether this machine can carry guests. Returns its name as a chassis.
fn check_itself(settings: &Settings, config: &HostConfig) -> Result<String, Problem> {
    let host = LocalHost::new(run::local_config(settings, config, InstallationId(uuid::Uuid::nil())));
    let failed = host.member_checks().into_iter().filter(|check| check.required && !check.ok);
    let faults: Vec<String> = failed.map(|check| format!("{}: {}", check.part, check.detail)).collect();
    if !faults.is_empty() {
        let mut problem = Problem::new(Code::Unavailable, "this host cannot carry guests, so it does not join")
            .hint("mend it (`./setup.sh services start` starts what does not run), and run the same command again");
        problem.causes = faults;
        return Err(problem);
    }
    Ok(chassis::system_id(&settings.ovs_db)?.unwrap_or_else(|| config.hostname.to_string()))
}

fn keep(files: &KeyFiles, key: &str, joined: &Joined) -> Result<(), Problem> {
    atomic::write(&files.key, key.as_bytes())?;
    atomic::write(&files.certificate, joined.certificate.as_bytes())?;
    atomic::write(&files.authority, joined.authority.as_bytes())
}

fn with_port(master: &str, port: u16) -> Result<String, Problem> {
    let (host, _) = master.rsplit_once(':').ok_or_else(|| Problem::internal("a master without a port"))?;
    Ok(format!("{host}:{port}"))
}

/// The first IPv4 address of an interface, else its first IPv6 address.
fn address_of(interface: &str) -> Result<IpAddr, Problem> {
    let all = addresses(interface)?;
    let best = all.iter().find(|address| address.is_ipv4()).or(all.first());
    best.copied().ok_or_else(|| {
        Problem::new(
            Code::NotFound,
            format!("the interface `{}` does not exist or has no address", kvm_compose::names::printable(interface)),
        )
        .hint("`ip -br address` lists interfaces and their addresses")
    })
}

/// Addresses of an interface, as ip(8) tells them: the only call, once in a host's life.
fn addresses(interface: &str) -> Result<Vec<IpAddr>, Problem> {
    let call = Call::new(["ip", "-j", "address", "show", "dev", interface], IP_LIMIT);
    // An interface that does not exist is told by whoever asked.
    let output = call.run(&Cancel::new())?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let infos = links.as_array().into_iter().flatten().flat_map(|link| link["addr_info"].as_array().into_iter().flatten());
    let parsed = infos.filter(|info| info["scope"] == "global").filter_map(|info| info["local"].as_str()?.parse::<IpAddr>().ok());
    Ok(parsed.collect())
}
