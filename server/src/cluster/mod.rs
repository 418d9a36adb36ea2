//! The hosts beside the master's own: who has joined, who answers, and asking them.
//!
//! ```text
//! door (TLS) ─► join: token ─► certificate ─► roster
//!            └► link: hello, beats, calls ◄──── calls: blocking questions of operations
//! keeper: the clock; states (member) ─► config/kvm-compose-config.json
//! ```
//!
//! Must not know plans or deployments beyond their names; what a call means is the member's and the driver's.

pub mod calls;
pub mod door;
pub mod join;
pub mod link;
pub mod member;
pub mod pki;
pub mod places;
pub mod roster;
pub mod tls;
pub mod token;
pub mod wire;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use kvm_compose::{
    api::cluster::{Member, MemberState, Members, Role},
    backend::{local::LocalHost, network::southbound},
    error::{Code, Problem},
    names::{DeploymentName, HostName, InstallationId},
};
use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc::UnboundedSender;
use uuid::Uuid;

use crate::{
    config::host::{ClusterConfig, ClusterHost, HostConfig, Mode},
    data::DataDir,
};
use calls::Reply;
use member::{Input, Membership};
use places::PlacesFolder;
use roster::{MemberRecord, RosterFile};
use token::Tokens;
use wire::FromMaster;

/// How long OVN is told again to forget a member that was removed.
const FORGETTING: Duration = Duration::from_secs(15);

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(500);

/// Takes the names of deployments that are to be looked at again.
pub type Stirred = Box<dyn Fn(Vec<DeploymentName>) + Send + Sync>;

/// What the cluster is made of.
pub struct Setup {
    /// The data folder.
    pub data: DataDir,
    /// The installation whose marks everything carries.
    pub installation: InstallationId,
    /// The master's host.
    pub host: HostConfig,
    /// OVN's southbound database.
    pub southbound: PathBuf,
}

/// The cluster, as its master keeps it.
pub struct Cluster {
    setup: Setup,
    authority: pki::Authority,
    tokens: Mutex<Tokens>,
    roster: RosterFile,
    /// Where guests were told to stand.
    pub places: PlacesFolder,
    /// The master's own host: its base files are what members get.
    pub local: Arc<LocalHost>,
    began: Instant,
    state: Mutex<State>,
    /// Told when links or memberships change.
    changed: Condvar,
    /// Where members knock, once it is known.
    door: Mutex<Option<SocketAddr>>,
    /// OVN's southbound database lets members in; until it does, each tick tries again.
    southbound_open: AtomicBool,
    /// Why it does not, as far as that was told.
    southbound_fault: Mutex<Option<Problem>>,
    /// Told which deployments may look different, since a member of theirs came or went.
    stirred: Mutex<Option<Stirred>>,
}

#[derive(Default)]
struct State {
    members: BTreeMap<HostName, Live>,
    /// What kvm-compose-config.json says.
    folded: Option<ClusterConfig>,
    /// Chassis of members that were removed, until when OVN is told to forget them: their ovn-controller comes back to
    /// OVN until its own host has heard.
    leaving: BTreeMap<String, Duration>,
    links: u64,
    /// Members that came or went since the last tick.
    turned: BTreeSet<HostName>,
}

/// A member, as far as the running master knows it.
struct Live {
    record: MemberRecord,
    membership: Membership,
    link: Option<Link>,
    /// Calls that somebody waits for.
    calls: HashMap<Uuid, mpsc::Sender<Reply>>,
    /// Calls that nobody waits for any more and that it may still carry out.
    abandoned: Vec<Uuid>,
    free_memory_mb: Option<u64>,
    address: Option<IpAddr>,
    last_seen: Option<DateTime<Utc>>,
}

/// A connection that a member keeps open.
struct Link {
    number: u64,
    out: UnboundedSender<FromMaster>,
}

impl Live {
    fn new(record: MemberRecord, membership: Membership) -> Self {
        Live {
            record,
            membership,
            link: None,
            calls: HashMap::new(),
            abandoned: Vec::new(),
            free_memory_mb: None,
            address: None,
            last_seen: None,
        }
    }
}

impl Cluster {
    /// Reads who has joined, and keeps kvm-compose-config.json from now on.
    pub fn open(setup: Setup, local: Arc<LocalHost>) -> Result<Arc<Cluster>, Problem> {
        let roster = RosterFile::of(&setup.data);
        let members = roster.read()?.into_iter();
        let state = State {
            members: members.map(|record| (record.name().clone(), Live::new(record, Membership::known(Duration::ZERO)))).collect(),
            ..State::default()
        };
        let cluster = Cluster {
            authority: pki::Authority::open(&setup.data)?,
            tokens: Mutex::new(Tokens::open(setup.data.keys().join("join-tokens.json"))?),
            roster,
            places: PlacesFolder::of(&setup.data),
            local,
            began: Instant::now(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            door: Mutex::new(None),
            southbound_open: AtomicBool::new(false),
            southbound_fault: Mutex::new(None),
            stirred: Mutex::new(None),
            setup,
        };
        cluster.fold()?;
        let cluster = Arc::new(cluster);
        let kept = Arc::downgrade(&cluster);
        std::thread::Builder::new()
            .name("cluster".to_string())
            .spawn(move || keep(&kept))
            .map_err(|error| Problem::io("cannot start the cluster's thread", &error))?;
        Ok(cluster)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The names of the members, and what state each is in.
    pub fn states(&self) -> BTreeMap<HostName, MemberState> {
        self.state.lock().members.iter().map(|(name, live)| (name.clone(), live.membership.state)).collect()
    }

    /// Why a member cannot be counted on.
    pub fn why_away(&self, host: &HostName) -> String {
        match self.state.lock().members.get(host) {
            None => "it is not a member of the cluster".to_string(),
            Some(live) => away(live, self.now()),
        }
    }

    /// All hosts, for people.
    pub fn members(&self) -> Result<Members, Problem> {
        let mut guests: BTreeMap<HostName, u32> = BTreeMap::new();
        let me = &self.setup.host;
        let placed = self.places.all()?.into_iter().flat_map(|(_, placed)| placed.guests.into_values());
        for host in placed.filter(|host| *host != me.hostname) {
            *guests.entry(host).or_default() += 1;
        }
        // Deployments that never left the master are in no record; here libvirt can be asked.
        guests.insert(me.hostname.clone(), self.local.guest_count().unwrap_or(0));
        let count = |name: &HostName| guests.get(name).copied().unwrap_or(0);
        let mut members = vec![Member {
            name: me.hostname.clone(),
            role: Role::Master,
            state: MemberState::Ready,
            address: None,
            cpus: me.cpus,
            memory_mb: me.memory_mb,
            free_memory_mb: self.local.free_memory_mb().ok(),
            version: wire::VERSION.to_string(),
            guests: count(&me.hostname),
            last_seen: None,
        }];
        members.extend(self.state.lock().members.values().map(|live| Member {
            name: live.record.name().clone(),
            role: Role::Client,
            state: live.membership.state,
            address: live.address.map(|address| address.to_string()),
            cpus: live.record.host.cpus,
            memory_mb: live.record.host.memory_mb,
            free_memory_mb: live.free_memory_mb,
            version: wire::VERSION.to_string(),
            guests: count(live.record.name()),
            last_seen: live.last_seen,
        }));
        Ok(Members { members })
    }

    /// Lets a member go. Refused while guests stand there, unless `force`: they are given up then.
    pub fn remove(&self, name: &HostName, force: bool) -> Result<(), Problem> {
        if *name == self.setup.host.hostname || matches!(name.as_str(), "main" | "master") {
            return Err(Problem::new(Code::BadRequest, format!("`{name}` is the master, which cannot be removed")));
        }
        if !self.state.lock().members.contains_key(name) {
            let known: Vec<String> = self.states().keys().map(ToString::to_string).collect();
            return Err(Problem::new(Code::NotFound, format!("the cluster has no member `{name}`")).hint(if known.is_empty() {
                "it has no members".to_string()
            } else {
                format!("members: {}", known.join(", "))
            }));
        }
        let standing = self.places.all()?.into_iter().filter(|(_, placed)| placed.hosts.contains(name));
        let standing: Vec<(DeploymentName, places::Placed)> = standing.collect();
        if !standing.is_empty() && !force {
            let names: Vec<&str> = standing.iter().map(|(deployment, _)| deployment.as_str()).collect();
            return Err(Problem::new(Code::Conflict, format!("`{name}` still has guests of: {}", names.join(", "))).hint(format!(
                "take them down or away first; `testbed cluster remove {name} --force` gives them up: they go on running there, and nobody removes them"
            )));
        }
        let mut removed = None;
        let records = {
            let mut state = self.state.lock();
            if let Some(live) = state.members.get_mut(name) {
                live.membership = live.membership.after(Input::Leave, self.now());
                removed = Some(live.record.clone());
            }
            state.members.values().filter(|live| live.membership.state != MemberState::Left).map(|live| live.record.clone()).collect()
        };
        // On record first: a member that is told to leave and then found on record would be waited for.
        self.roster.write(records)?;
        for (deployment, mut placed) in standing {
            placed.hosts.remove(name);
            placed.guests.retain(|_, host| host != name);
            self.places.write(&deployment, &placed)?;
        }
        if let Some(live) = self.state.lock().members.remove(name)
            && let Some(link) = live.link
        {
            let reason = "it was removed with `testbed cluster remove`".to_string();
            // One that is not there to hear it finds out at its next knock.
            let _unheard = link.out.send(FromMaster::Leave { code: Code::Unauthorized, reason });
        }
        self.changed.notify_all();
        self.fold()?;
        if let Some(record) = removed {
            self.state.lock().leaving.insert(record.chassis, self.now() + FORGETTING);
            self.forget_chassis();
        }
        Ok(())
    }

    /// Moves a member's state, and tells whoever waits.
    fn step(&self, name: &HostName, input: Input) {
        let now = self.now();
        let mut state = self.state.lock();
        if let Some(live) = state.members.get_mut(name) {
            let before = live.membership.state;
            live.membership = live.membership.after(input, now);
            if live.membership.state != before {
                tracing::info!(member = %name, from = before.word(), to = live.membership.state.word(), "a member's state");
                if matches!(live.membership.state, MemberState::Ready | MemberState::Lost) {
                    state.turned.insert(name.clone());
                }
                self.changed.notify_all();
            }
        }
    }

    /// From now on `stirred` is told which deployments may look different.
    pub fn on_change(&self, stirred: Stirred) {
        *self.stirred.lock() = Some(stirred);
    }

    /// Tells whoever looks at deployments about members that came or went.
    fn stir(&self) -> Result<(), Problem> {
        let turned = std::mem::take(&mut self.state.lock().turned);
        if turned.is_empty() {
            return Ok(());
        }
        let touched = self.places.all()?.into_iter().filter(|(_, placed)| placed.hosts.iter().any(|host| turned.contains(host)));
        let names: Vec<DeploymentName> = touched.map(|(deployment, _)| deployment).collect();
        if let Some(stirred) = &*self.stirred.lock()
            && !names.is_empty()
        {
            stirred(names);
        }
        Ok(())
    }

    /// Has OVN forget the chassis of members that were removed.
    fn forget_chassis(&self) {
        let leaving: Vec<(String, Duration)> = self.state.lock().leaving.clone().into_iter().collect();
        for (chassis, until) in leaving {
            let forgotten = southbound::forget(&self.setup.southbound, &chassis);
            if self.now() < until {
                continue;
            }
            self.state.lock().leaving.remove(&chassis);
            if let Err(problem) = forgotten {
                tracing::warn!(chassis, %problem, "OVN may still know the chassis; `ovn-sbctl chassis-del` removes it");
            }
        }
    }

    /// Has OVN's southbound database let members in. One that is down now is opened when it is back.
    fn open_southbound(&self) {
        if self.southbound_open.load(Ordering::Relaxed) || self.door.lock().is_none() {
            return;
        }
        let files = &self.authority.files;
        let files = southbound::TlsFiles { key: &files.key, certificate: &files.certificate, authority: &files.authority };
        match southbound::open(&self.setup.southbound, files, join::SOUTHBOUND_PORT) {
            Ok(()) => {
                self.southbound_open.store(true, Ordering::Relaxed);
                *self.southbound_fault.lock() = None;
            }
            Err(problem) => {
                // Once for each reason, not twice a second.
                let mut told = self.southbound_fault.lock();
                if told.as_ref() != Some(&problem) {
                    tracing::warn!(%problem, causes = ?problem.causes, "members cannot reach OVN yet; trying again");
                    *told = Some(problem);
                }
            }
        }
    }

    /// Looks at the clock once.
    fn tick(&self) {
        self.open_southbound();
        self.forget_chassis();
        let names: Vec<HostName> = self.state.lock().members.keys().cloned().collect();
        for name in names {
            self.step(&name, Input::Tick);
        }
        if let Err(problem) = self.stir() {
            tracing::warn!(%problem, "deployments are not looked at again");
        }
        if let Err(problem) = self.fold() {
            tracing::warn!(%problem, "kvm-compose-config.json is not up to date");
        }
    }

    /// Nobody waits for the chassis of a member that does not answer.
    fn tell_network(&self) {
        let state = self.state.lock();
        let away = state.members.values().filter(|live| live.membership.state != MemberState::Ready);
        self.local.set_away(away.map(|live| live.record.chassis.clone()).collect());
    }

    /// Brings kvm-compose-config.json up to date.
    fn fold(&self) -> Result<(), Problem> {
        let me = &self.setup.host;
        let own = ClusterHost {
            hostname: me.hostname.clone(),
            mode: Mode::Master,
            installation: self.setup.installation,
            cpus: me.cpus,
            memory_mb: me.memory_mb,
        };
        self.tell_network();
        // Held while the file is written, so that an older state never overwrites a newer one.
        let mut state = self.state.lock();
        let counted = state.members.values().filter(|live| member::is_counted(live.membership.state));
        let members = counted.map(|live| ClusterHost {
            hostname: live.record.name().clone(),
            mode: Mode::Client,
            installation: self.setup.installation,
            cpus: live.record.host.cpus,
            memory_mb: live.record.host.memory_mb,
        });
        let config = ClusterConfig { hosts: std::iter::once(own).chain(members).collect() };
        if state.folded.as_ref() != Some(&config) {
            config.write(&self.setup.data)?;
            state.folded = Some(config);
        }
        Ok(())
    }
}

/// In words, when a member was last heard of.
fn away(live: &Live, now: Duration) -> String {
    let silent = now.saturating_sub(live.membership.heard).as_secs();
    match live.membership.state {
        MemberState::Joining => "it has joined and has not come yet".to_string(),
        MemberState::Lost | MemberState::Suspect => format!("nothing was heard of it for {silent} s"),
        MemberState::Left => "it was removed from the cluster".to_string(),
        MemberState::Ready => "it answers".to_string(),
    }
}

/// Keeps the clock until the cluster is gone.
fn keep(cluster: &Weak<Cluster>) {
    while let Some(cluster) = cluster.upgrade() {
        cluster.tick();
        let mut state = cluster.state.lock();
        cluster.changed.wait_for(&mut state, TICK);
    }
}
