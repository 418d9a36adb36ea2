//! The loop: frames in, frames out when their time has come, and what is asked meanwhile.
//!
//! One thread, one epoll set. Sleeps until a frame comes, one is to leave, or something is asked; an idle relay does nothing.
//! Must not know how requests come in.

use std::{collections::BTreeMap, io, os::fd::OwnedFd, sync::mpsc, time::Instant};

use rustix::{
    event::epoll,
    io::Errno,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec},
};

use crate::{
    line::{Line, Nanos, Parcel},
    port::{self, Buffers, Ends},
    probe::{self, Probe},
    wire::{Condition, Link, LinkState, Probed, Reply, Request, Shape},
};

/// A request and where its answer goes.
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// Takes the answer; a probe's comes later.
    pub answer: mpsc::Sender<Reply>,
}

/// How requests reach the engine.
#[derive(Clone)]
pub struct Door {
    asked: mpsc::Sender<Asked>,
    bell: std::sync::Arc<OwnedFd>,
}

impl Door {
    /// Passes a request on. False when the engine has ended.
    pub fn ask(&self, asked: Asked) -> bool {
        // A bell that cannot be rung is ringing.
        self.asked.send(asked).is_ok()
            && rustix::io::write(&*self.bell, &1u64.to_ne_bytes()).map_or_else(|error| error == Errno::AGAIN, |_| true)
    }
}

/// All links.
pub struct Engine {
    links: BTreeMap<u64, Served>,
    next: u64,
    epoll: OwnedFd,
    /// Wakes the loop when the next frame is to leave, to the microsecond: epoll's own limit knows milliseconds only.
    timer: OwnedFd,
    asked: mpsc::Receiver<Asked>,
    bell: std::sync::Arc<OwnedFd>,
    begun: Instant,
    buffers: Buffers,
    /// It had a link, so it ends with the last one.
    served: bool,
}

struct Served {
    link: Link,
    ends: Ends,
    to_guest: Line<Item>,
    from_guest: Line<Item>,
    probe: Option<Probing>,
}

struct Probing {
    to_guest: Probe,
    from_guest: Probe,
    answer: mpsc::Sender<Reply>,
}

#[derive(Clone)]
enum Item {
    Frame(Vec<u8>),
    Probe(probe::Frame),
}

impl Parcel for Item {
    fn bytes(&self) -> usize {
        match self {
            Item::Frame(frame) => frame.len(),
            Item::Probe(frame) => frame.bytes,
        }
    }

    fn is_probe(&self) -> bool {
        matches!(self, Item::Probe(_))
    }
}

/// The bell's place in the epoll set; links have two each from 2 on.
const BELL: u64 = 0;
/// The timer's.
const TIMER: u64 = 1;
/// How long a relay without any link stays.
const UNUSED: Nanos = 30_000_000_000;

impl Engine {
    /// An engine without links, and the door to it.
    pub fn new() -> io::Result<(Engine, Door)> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = rustix::event::EventfdFlags::NONBLOCK | rustix::event::EventfdFlags::CLOEXEC;
        let bell = std::sync::Arc::new(rustix::event::eventfd(0, flags)?);
        epoll::add(&epoll, &*bell, epoll::EventData::new_u64(BELL), epoll::EventFlags::IN)?;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        let (door, asked) = mpsc::channel();
        let engine = Engine {
            links: BTreeMap::new(),
            next: 1,
            epoll,
            timer,
            asked,
            bell: bell.clone(),
            begun: Instant::now(),
            buffers: Buffers::default(),
            served: false,
        };
        Ok((engine, Door { asked: door, bell }))
    }

    /// Serves until the last link is removed, or until none has come for half a minute.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(64);
        loop {
            if !self.answer() {
                return Ok(());
            }
            self.probe();
            let next = self.send();
            let now = self.now();
            let until = match (next, self.served) {
                (Some(at), _) => Some(at),
                (None, false) => Some(UNUSED),
                (None, true) => None,
            };
            if !self.served && now >= UNUSED {
                return Ok(());
            }
            self.wake_in(until.map(|at| at.saturating_sub(now)))?;
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    // Rung or not, what is asked and what is due are looked for in any case.
                    BELL => drop(rustix::io::read(&*self.bell, &mut [0; 8])),
                    TIMER => drop(rustix::io::read(&self.timer, &mut [0; 8])),
                    token => self.read(token),
                }
            }
        }
    }

    fn now(&self) -> Nanos {
        self.begun.elapsed().as_nanos() as Nanos
    }

    /// Sets the timer; without a time it rests.
    fn wake_in(&self, nanos: Option<Nanos>) -> io::Result<()> {
        let rest = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would let it rest.
        let value =
            nanos.map_or(rest, |nanos| Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos.max(1) % 1_000_000_000) as _ });
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: rest, it_value: value })?;
        Ok(())
    }

    /// Reads frames of one end of one link.
    fn read(&mut self, token: u64) {
        let now = self.now();
        let Some(served) = self.links.get_mut(&(token / 2)) else { return };
        let Served { ends, to_guest, from_guest, .. } = served;
        if token.is_multiple_of(2) {
            ends.from_guest(&mut self.buffers, |frame| {
                from_guest.offer(now, Item::Frame(frame));
            });
        } else {
            ends.to_guest(&mut self.buffers, |frame| {
                to_guest.offer(now, Item::Frame(frame));
            });
        }
    }

    /// Sends the frames of probes whose time has come.
    fn probe(&mut self) {
        let now = self.now();
        for served in self.links.values_mut() {
            let Served { to_guest, from_guest, probe: Some(probing), .. } = served else { continue };
            for (line, probe) in [(to_guest, &mut probing.to_guest), (from_guest, &mut probing.from_guest)] {
                for frame in probe.wanted(now) {
                    let fate = line.offer(now, Item::Probe(frame));
                    probe.offered(frame, fate);
                }
            }
            if probing.to_guest.is_over() && probing.from_guest.is_over() {
                let probed = Probed { to_guest: probing.to_guest.measured(), from_guest: probing.from_guest.measured() };
                // Whoever asked may have gone.
                let _unheard = probing.answer.send(Reply::Probed(probed));
                served.probe = None;
            }
        }
    }

    /// Sends what is due; says when the next frame is.
    fn send(&mut self) -> Option<Nanos> {
        let now = self.now();
        let mut next: Option<Nanos> = None;
        let mut out: Vec<(Vec<u8>, Nanos)> = Vec::new();
        for served in self.links.values_mut() {
            let Served { ends, to_guest, from_guest, probe, .. } = served;
            while let Some(left) = from_guest.due(now) {
                let held = left.held;
                match left.parcel {
                    Item::Frame(frame) => {
                        if ends.send_to_bridge(&frame) {
                            from_guest.meter.sent(now, frame.len() as u64, held);
                        } else {
                            from_guest.meter.refused(now);
                        }
                        self.buffers.recycle(frame);
                    }
                    Item::Probe(frame) => probe.iter_mut().for_each(|probing| probing.from_guest.arrived(now, frame, held, left.jumps)),
                }
            }
            while let Some(left) = to_guest.due(now) {
                match left.parcel {
                    Item::Frame(frame) => out.push((frame, left.held)),
                    Item::Probe(frame) => probe.iter_mut().for_each(|probing| probing.to_guest.arrived(now, frame, left.held, left.jumps)),
                }
            }
            if !out.is_empty() {
                let frames: Vec<&[u8]> = out.iter().map(|(frame, _)| frame.as_slice()).collect();
                let taken = ends.send_to_guest(&frames);
                for (place, (frame, held)) in out.drain(..).enumerate() {
                    match place < taken {
                        true => to_guest.meter.sent(now, frame.len() as u64, held),
                        false => to_guest.meter.refused(now),
                    }
                    self.buffers.recycle(frame);
                }
            }
            let probes = probe.iter().flat_map(|probing| [probing.to_guest.next(), probing.from_guest.next()]).flatten();
            let over = probe.as_ref().is_some_and(|probing| probing.to_guest.is_over() && probing.from_guest.is_over());
            let soonest = [to_guest.next(), from_guest.next(), over.then_some(now)].into_iter().flatten().chain(probes).min();
            next = next.into_iter().chain(soonest).min();
        }
        next
    }

    /// Answers all that was asked. False when the last link went.
    fn answer(&mut self) -> bool {
        while let Ok(Asked { request, answer }) = self.asked.try_recv() {
            let reply = match request {
                Request::Hello => continue,
                Request::Add { link, shape } => match self.add(link, shape) {
                    Ok(()) => Reply::Done,
                    Err(error) => Reply::Refused { why: error.to_string(), ending: false },
                },
                Request::Remove { device } => {
                    self.remove(&device);
                    Reply::Done
                }
                Request::Links => Reply::Links { links: self.links.values().map(|served| self.state(served)).collect() },
                Request::Probe { device } => {
                    let now = self.now();
                    match self.links.values_mut().find(|served| served.link.device == device) {
                        None => Reply::Refused { why: format!("there is no link `{device}`"), ending: false },
                        Some(Served { probe: Some(_), .. }) => {
                            Reply::Refused { why: "the link is being probed already".to_string(), ending: false }
                        }
                        Some(served) => {
                            let (to_guest, from_guest) =
                                (Probe::new(now, served.to_guest.condition()), Probe::new(now, served.from_guest.condition()));
                            served.probe = Some(Probing { to_guest, from_guest, answer });
                            continue;
                        }
                    }
                }
            };
            let ends = self.served && self.links.is_empty();
            // Whoever asked may have gone.
            let _unheard = answer.send(reply);
            if ends {
                return false;
            }
        }
        true
    }

    fn add(&mut self, link: Link, shape: Shape) -> io::Result<()> {
        if let Some(served) = self.links.values_mut().find(|served| served.link.device == link.device) {
            let same = Link { label: link.label.clone(), ..served.link.clone() } == link;
            if same && fault(&served.link).is_none() {
                served.to_guest.change(shape.to_guest);
                served.from_guest.change(shape.from_guest);
                return Ok(());
            }
            let device = link.device.clone();
            self.remove(&device);
        }
        let ends = Ends::open(&link.tap, link.tap_index, &link.device)?;
        let number = self.next;
        self.next += 1;
        epoll::add(&self.epoll, ends.guest(), epoll::EventData::new_u64(number * 2), epoll::EventFlags::IN)?;
        epoll::add(&self.epoll, ends.bridge(), epoll::EventData::new_u64(number * 2 + 1), epoll::EventFlags::IN)?;
        let line = |condition: Condition| Line::new(condition, fastrand::u64(..));
        self.links.insert(number, Served { link, ends, to_guest: line(shape.to_guest), from_guest: line(shape.from_guest), probe: None });
        self.served = true;
        Ok(())
    }

    fn remove(&mut self, device: &str) {
        // Closing an end takes it out of the epoll set.
        self.links.retain(|_, served| served.link.device != device);
    }

    fn state(&self, served: &Served) -> LinkState {
        let now = self.now();
        LinkState {
            link: served.link.clone(),
            shape: Shape { to_guest: *served.to_guest.condition(), from_guest: *served.from_guest.condition() },
            fault: fault(&served.link),
            to_guest: served.to_guest.meter.traffic(now),
            from_guest: served.from_guest.meter.traffic(now),
        }
    }
}

/// Why frames do not pass: one of the devices is not the one that was opened.
fn fault(link: &Link) -> Option<String> {
    match port::index_of(&link.tap) {
        Ok(index) if index == link.tap_index => {}
        Ok(_) => return Some(format!("`{}` is another device now", link.tap)),
        Err(error) => return Some(error.to_string()),
    }
    port::index_of(&link.device).err().map(|error| error.to_string())
}
