//! Asking a member something: a call is sent, sent again over the next connection when the first breaks, and ends with
//! its answer, with a request to stop, or when the member is lost.
//!
//! Blocks. Must not know what a call means.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kvm_compose::{
    api::{cluster::MemberState, event::OutputStream},
    error::{Code, Problem},
    names::HostName,
    orchestrate::host::Cancel,
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    Cluster,
    wire::{Call, FromMaster, Outcome},
};

/// How often a request to stop is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// How long a member may take to stop what it does.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// What a waiting caller is told.
#[derive(Debug)]
pub enum Reply {
    /// A line for the action's log.
    Line(String),
    /// What a command printed.
    Output(OutputStream, Vec<u8>),
    /// The end.
    Done(Outcome),
    /// The member has come back over another connection.
    Linked,
}

/// What a member says while it carries out a call.
#[derive(Debug, Clone, Copy)]
pub enum Said<'a> {
    /// A line for the action's log.
    Line(&'a str),
    /// What a command printed.
    Output(OutputStream, &'a [u8]),
}

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As long as the member is not lost: a cut is sat out.
    UntilLost,
    /// This long, and not at all when it does not answer now.
    Look(Duration),
}

/// Takes the caller off the books, however it ends.
struct Waiting<'c> {
    cluster: &'c Cluster,
    host: &'c HostName,
    id: Uuid,
    sent: bool,
    ended: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(live) = self.cluster.state.lock().members.get_mut(self.host) {
            live.calls.remove(&self.id);
            if self.sent && !self.ended {
                live.abandoned.push(self.id);
            }
        }
    }
}

impl Cluster {
    /// Asks a member. `say` takes lines that it has for the action's log.
    pub fn call<T: DeserializeOwned>(
        &self,
        host: &HostName,
        call: &Call,
        patience: Patience,
        cancel: &Cancel,
        say: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<T, Problem> {
        self.call_and_hear(host, call, patience, cancel, &|said| {
            if let Said::Line(text) = said {
                say(text);
            }
        })
    }

    /// Asks a member, and hears all that it says meanwhile.
    pub fn call_and_hear<T: DeserializeOwned>(
        &self,
        host: &HostName,
        call: &Call,
        patience: Patience,
        cancel: &Cancel,
        hear: &dyn Fn(Said<'_>),
    ) -> Result<T, Problem> {
        self.call_as(Uuid::now_v7(), host, call, patience, cancel, hear)
    }

    /// The same, under an id that is known before.
    pub fn call_as<T: DeserializeOwned>(
        &self,
        id: Uuid,
        host: &HostName,
        call: &Call,
        patience: Patience,
        cancel: &Cancel,
        hear: &dyn Fn(Said<'_>),
    ) -> Result<T, Problem> {
        let (tell, told) = mpsc::channel();
        // The lock is given back before anything else is asked of the state.
        let known = self.state.lock().members.get_mut(host).map(|live| live.calls.insert(id, tell)).is_some();
        if !known {
            return Err(self.gone(host));
        }
        let mut waiting = Waiting { cluster: self, host, id, sent: false, ended: false };
        let begun = Instant::now();
        let mut stopping: Option<Instant> = None;
        let mut link = None;
        let mut told_cut = false;
        loop {
            let now = self.send(host, link, || FromMaster::Call { id, call: Box::new(call.clone()) })?;
            if now != link {
                waiting.sent |= now.is_some();
                if let (Some(_), None, false) = (link, now, told_cut) {
                    hear(Said::Line(&format!("host `{host}` does not answer; waiting until it does or is lost")));
                    told_cut = true;
                }
                link = now;
            }
            match patience {
                Patience::Look(_) if link.is_none() => return Err(self.gone(host)),
                Patience::Look(limit) if begun.elapsed() >= limit => {
                    return Err(self.gone(host).cause(format!("no answer within {} s", limit.as_secs())));
                }
                _ => {}
            }
            if cancel.is_cancelled() {
                match stopping {
                    None => {
                        stopping = Some(Instant::now());
                        self.tell(host, FromMaster::Cancel { id });
                    }
                    // What it may still do is undone or observed later; whoever asked is not kept waiting.
                    Some(since) if link.is_none() || since.elapsed() >= STOP_LIMIT => cancel.check()?,
                    Some(_) => {}
                }
            }
            match told.recv_timeout(LOOK) {
                Ok(Reply::Line(text)) => hear(Said::Line(&text)),
                Ok(Reply::Output(stream, bytes)) => hear(Said::Output(stream, &bytes)),
                Ok(Reply::Done(outcome)) => {
                    waiting.ended = true;
                    return answer(host, outcome);
                }
                Ok(Reply::Linked) => link = None,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.gone(host)),
            }
        }
    }

    /// Sends a call over the link there is, unless it went over that one already. Returns the link's number.
    fn send(&self, host: &HostName, over: Option<u64>, message: impl FnOnce() -> FromMaster) -> Result<Option<u64>, Problem> {
        let state = self.state.lock();
        let live = state.members.get(host).filter(|live| live.membership.state != MemberState::Lost);
        let Some(live) = live else {
            drop(state);
            return Err(self.gone(host));
        };
        let Some(link) = &live.link else { return Ok(None) };
        if over != Some(link.number) && link.out.send(message()).is_err() {
            return Ok(None);
        }
        Ok(Some(link.number))
    }

    fn tell(&self, host: &HostName, message: FromMaster) {
        if let Some(link) = self.state.lock().members.get(host).and_then(|live| live.link.as_ref()) {
            // A link that has ended is noticed by the caller's next look.
            let _unheard = link.out.send(message);
        }
    }

    /// Types into the console that a call opened.
    pub fn type_in(&self, host: &HostName, id: Uuid, bytes: &[u8]) -> Result<(), Problem> {
        let message = FromMaster::Input { id, bytes: STANDARD.encode(bytes) };
        let state = self.state.lock();
        let link = state.members.get(host).and_then(|live| live.link.as_ref());
        let sent = link.is_some_and(|link| link.out.send(message).is_ok());
        drop(state);
        if sent { Ok(()) } else { Err(self.gone(host)) }
    }

    /// The member does not answer.
    pub fn gone(&self, host: &HostName) -> Problem {
        Problem::new(Code::HostAway, format!("host `{host}` does not answer"))
            .cause(self.why_away(host))
            .hint("`testbed cluster list` says which hosts answer; the same command completes the work once it is back")
    }
}

fn answer<T: DeserializeOwned>(host: &HostName, outcome: Outcome) -> Result<T, Problem> {
    match outcome {
        Outcome::Problem(problem) => Err(problem),
        Outcome::Answer(value) => serde_json::from_value(value)
            .map_err(|error| Problem::internal(format!("the answer of host `{host}` makes no sense")).cause(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, sync::Arc};

    use kvm_compose::{
        backend::local::{AcceleratorChoice, LocalConfig, LocalHost},
        names::InstallationId,
    };

    use super::*;
    use crate::{
        cluster::{Setup, wire},
        config::host::HostConfig,
        data::DataDir,
    };

    #[test]
    fn who_is_no_member_is_told_at_once_and_the_configuration_holds_the_master() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataDir::new(folder.path());
        let _lock = data.open().expect("opened");
        let host = HostConfig::of_this_machine().expect("this machine");
        let installation = InstallationId(Uuid::new_v4());
        // Nothing is connected to before it is asked.
        let nowhere = PathBuf::from("/nonexistent");
        let local = LocalHost::new(LocalConfig {
            installation,
            host: host.hostname.clone(),
            data_dir: folder.path().to_path_buf(),
            images_dir: folder.path().join("images"),
            allowed_image_dirs: Vec::new(),
            catalogues: Vec::new(),
            images: Default::default(),
            libvirt_uri: "qemu:///system".to_string(),
            ovn_nb: nowhere.clone(),
            ovs_db: nowhere.clone(),
            bridge: "br-int".to_string(),
            accelerator: AcceleratorChoice::Tcg,
            mappings: Vec::new(),
            masquerade: false,
        });
        let setup = Setup { data: data.clone(), installation, host: host.clone(), southbound: nowhere };
        let cluster = Cluster::open(setup, Arc::new(local)).expect("a cluster");
        let stranger = HostName::new("stranger").expect("valid");
        for patience in [Patience::UntilLost, Patience::Look(Duration::from_secs(1))] {
            let asked = cluster.call::<()>(&stranger, &Call::Marked, patience, &Cancel::new(), &|_| {});
            assert_eq!(asked.expect_err("no member").code, Code::HostAway);
        }
        assert_eq!(cluster.remove(&stranger, false).expect_err("no member").code, Code::NotFound);
        assert_eq!(cluster.remove(&host.hostname, true).expect_err("the master").code, Code::BadRequest);
        let join = |version: &str, protocol| wire::Join {
            secret: "0".repeat(64),
            version: version.to_string(),
            protocol,
            host: HostConfig { hostname: stranger.clone(), ..host.clone() },
            chassis: "stranger".to_string(),
            request: String::new(),
        };
        let refused = |join| cluster.join(&join, chrono::Utc::now()).expect_err("refused");
        for other in [join("0.0.1", wire::PROTOCOL), join(wire::VERSION, wire::PROTOCOL + 1)] {
            let problem = refused(other);
            assert!(problem.code == Code::Unsupported && problem.message.contains("this server is"), "{problem:?}");
        }
        assert_eq!(refused(join(wire::VERSION, wire::PROTOCOL)).code, Code::Unauthorized);
        assert_eq!(cluster.make_token().expect_err("no door").code, Code::Unsupported);
        let config = crate::config::host::ClusterConfig::read(&data).expect("read").expect("written");
        assert_eq!(config.hosts.iter().map(|host| &host.hostname).collect::<Vec<_>>(), [&host.hostname]);
    }
}
