//! `capture`: listening to ports wherever their guests stand, and writing what passes into one pcapng stream.
//!
//! ```text
//! thread per host: listens, or asks the member to ─► frames ─► here: limits, blocks ─► whoever reads
//! ```
//!
//! Must not know HTTP or who reads.

use std::{
    collections::BTreeMap,
    sync::mpsc::{self, RecvTimeoutError, SyncSender},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use kvm_compose::{
    api::link::LinkReport,
    capture::{self, Counts, Frame, Port},
    error::{Code, Problem},
    names::{DeploymentName, GuestName, HostName},
    orchestrate::host::Cancel,
    topology::Topology,
};
use uuid::Uuid;

use super::{
    driver::{CaptureLimits, Driver as _, Project},
    local::LocalDriver,
};
use crate::cluster::{
    calls::{Patience, Said},
    wire::Call,
};

/// Frames that may wait for who writes; a host that is quicker than that drops some, and counts them.
const WAITING: usize = 4096;
/// How often it looks whether somebody still reads.
const TURN: Duration = Duration::from_millis(50);
/// How long hosts may take to begin.
const BEGIN_LIMIT: Duration = Duration::from_secs(15);
/// Ports of one capture.
const MOST_PORTS: usize = 64;

/// What a host's thread tells.
enum Told {
    /// All its ports are listened to.
    Begun,
    Frame(Frame),
    /// Places of its ports, and their counts.
    Ended(Result<Vec<(usize, Counts)>, Problem>),
}

/// Captures until a limit is reached, or until `write`, which takes whole blocks, says that nobody reads any more. It is also
/// called with nothing, to be asked.
pub fn run(
    driver: &LocalDriver,
    project: &Project,
    wanted: &[(GuestName, Option<String>)],
    limits: &CaptureLimits,
    write: &mut dyn FnMut(Vec<u8>) -> bool,
) -> Result<(), Problem> {
    let is_meant = |guest: &GuestName, interface: &str| wanted.iter().any(|wanted| meant(wanted, guest, interface));
    let links = driver.links(project, &is_meant, false)?;
    if let Some((guest, interface)) = wanted.iter().find(|one| !links.iter().any(|link| meant(one, &link.guest, &link.interface))) {
        let interface = interface.as_ref().map(|interface| format!(":{interface}")).unwrap_or_default();
        return Err(Problem::new(Code::NotFound, format!("the file of `{}` has no interface `{guest}{interface}`", project.deployment))
            .hint("`testbed link show` lists all interfaces"));
    }
    if let Some(off) = links.iter().find(|link| link.carrier.is_none()) {
        return Err(Problem::new(Code::Conflict, format!("guest `{}` does not run, so nothing passes `{}`", off.guest, off.interface))
            .hint("`testbed ps` shows which guests run; `testbed up` starts them"));
    }
    if links.len() > MOST_PORTS {
        return Err(Problem::new(Code::TooLarge, format!("{} ports at once are too many: the limit is {MOST_PORTS}", links.len())));
    }
    let ports = described(&links, &driver.topology(project)?)?;
    let mut hosts: BTreeMap<&HostName, Vec<usize>> = BTreeMap::new();
    for (place, port) in ports.iter().enumerate() {
        hosts.entry(&port.host).or_default().push(place);
    }
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        let (tell, told) = mpsc::sync_channel(WAITING);
        for (host, places) in &hosts {
            let (tell, cancel, links) = (tell.clone(), &cancel, &links);
            let ids: Vec<Uuid> = places.iter().filter_map(|place| links.get(*place)).map(|link| link.port).collect();
            scope.spawn(move || {
                let heard = on_host(driver, (host, &project.deployment, &ids, limits.snap), places, cancel, &tell);
                let ended = heard.map(|counts| places.iter().copied().zip(counts).collect());
                // Whoever listens has ended if it does not hear this.
                let _unheard = tell.send(Told::Ended(ended));
            });
        }
        drop(tell);
        let written = gather(&told, &ports, hosts.len(), limits, &cancel, write);
        cancel.cancel();
        // Those that wait for room go on, and see that it is over.
        drop(told);
        written
    })
}

fn meant((guest, interface): &(GuestName, Option<String>), of: &GuestName, named: &str) -> bool {
    guest == of && interface.as_ref().is_none_or(|interface| interface == named)
}

fn described(links: &[LinkReport], topology: &Topology) -> Result<Vec<Port>, Problem> {
    let comment = |link: &LinkReport| {
        let nics = topology.guests.iter().filter(|guest| guest.name == link.guest).flat_map(|guest| &guest.nics);
        let nic = nics.into_iter().find(|nic| nic.name == link.interface)?;
        let addresses: Vec<String> = nic.addresses.iter().map(|address| address.net.to_string()).collect();
        Some(format!("switch {}, MAC {}, {}", nic.switch, nic.mac, addresses.join(", ")))
    };
    let port = |link: &LinkReport| {
        Ok(Port {
            guest: link.guest.clone(),
            interface: link.interface.clone(),
            host: HostName::new(&link.host)?,
            comment: comment(link).unwrap_or_default(),
        })
    };
    links.iter().map(port).collect()
}

/// Listens on one host; `places` are those of its ports among all.
fn on_host(
    driver: &LocalDriver,
    (host, deployment, ports, snap): (&HostName, &DeploymentName, &[Uuid], usize),
    places: &[usize],
    cancel: &Cancel,
    tell: &SyncSender<Told>,
) -> Result<Vec<Counts>, Problem> {
    let moved = |frame: Frame| places.get(frame.port).map(|place| Told::Frame(Frame { port: *place, ..frame }));
    let Some(cluster) = driver.member(host) else {
        let mut begun = || {
            let _unheard = tell.send(Told::Begun);
        };
        let mut take = |frame| moved(frame).is_none_or(|told| tell.send(told).is_ok());
        return driver.host().capture(deployment, ports, snap, cancel, &mut begun, &mut take);
    };
    let call = Call::Capture { deployment: deployment.clone(), ports: ports.to_vec(), snap };
    cluster.call_and_hear(host, &call, Patience::UntilLost, cancel, &|said| {
        let Said::Output(_, block) = said else { return };
        let told = if block.is_empty() { Some(Told::Begun) } else { capture::read_packet(block).and_then(moved) };
        // When nobody listens any more the call is cancelled as well.
        told.into_iter().for_each(|told| drop(tell.send(told)));
    })
}

fn gather(
    told: &mpsc::Receiver<Told>,
    ports: &[Port],
    hosts: usize,
    limits: &CaptureLimits,
    cancel: &Cancel,
    write: &mut dyn FnMut(Vec<u8>) -> bool,
) -> Result<(), Problem> {
    let begun_at = Instant::now();
    let (mut begun, mut ended) = (0, 0);
    let mut counts = vec![Counts::default(); ports.len()];
    let mut out = Out { limits, write, frames: 0, bytes: 0, is_full: false };
    while ended < hosts {
        // What came until then is still taken: hosts hand it over before they end.
        if out.is_full || limits.end.is_cancelled() || limits.duration.is_some_and(|limit| begun_at.elapsed() >= limit) {
            cancel.cancel();
        }
        // One host that is heard must not hide that another never begins.
        if begun < hosts && begun_at.elapsed() > BEGIN_LIMIT {
            return Err(Problem::new(Code::Timeout, format!("not all hosts listened within {} s", BEGIN_LIMIT.as_secs())));
        }
        match told.recv_timeout(TURN) {
            Ok(Told::Begun) => {
                begun += 1;
                if begun == hosts {
                    out.put(capture::beginning(ports, u32::try_from(limits.snap).unwrap_or(u32::MAX)));
                }
            }
            // The file begins when all are listened to.
            Ok(Told::Frame(_)) if begun < hosts => {}
            Ok(Told::Frame(frame)) => out.frame(&frame),
            Ok(Told::Ended(end)) => {
                ended += 1;
                // One that fails ends all, so that no file looks whole that is not.
                for (place, count) in end.inspect_err(|_| cancel.cancel())? {
                    counts.iter_mut().skip(place).take(1).for_each(|counts| *counts = count);
                }
            }
            Err(RecvTimeoutError::Timeout) => out.put(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    out.put(capture::end(&counts, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()));
    Ok(())
}

/// What is written, up to its limits.
struct Out<'a> {
    limits: &'a CaptureLimits,
    write: &'a mut dyn FnMut(Vec<u8>) -> bool,
    frames: u64,
    bytes: u64,
    /// A limit is reached, or nobody reads.
    is_full: bool,
}

impl Out<'_> {
    fn frame(&mut self, frame: &Frame) {
        let block = capture::packet(frame);
        let too_long = self.limits.bytes.is_some_and(|most| self.bytes + block.len() as u64 > most);
        self.is_full |= too_long;
        if !self.is_full {
            self.frames += 1;
            self.put(block);
            self.is_full |= self.limits.frames.is_some_and(|most| self.frames >= most);
        }
    }

    fn put(&mut self, block: Vec<u8>) {
        self.bytes += block.len() as u64;
        self.is_full |= !(self.write)(block);
    }
}
