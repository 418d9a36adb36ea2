//! The libvirt adapter.
//!
//! Every call looks at what is there first and touches only what carries the owner's mark, so all of it may be repeated.
//! Must not know what a deployment wants.

use std::time::{Duration, Instant};

use uuid::Uuid;
use virt::{
    connect::Connect,
    domain::{Domain as Handle, MemoryParameters},
    error::ErrorNumber,
    sys,
};

use super::{
    AgentFault, DomainFact, DomainState, Hypervisor, Listing, Mark, OtherDomain, carrier,
    connections::{Fault, Gate, Room},
    mark,
    pace::Pace,
    words::{agent_fault, changed, gone, is_absent, problem, start_problem, stranger},
};
use crate::{
    backend::Owner,
    error::{Code, Problem},
    orchestrate::host::Cancel,
    plan::blueprint::{Domain, METADATA_NAMESPACE, OPERATION_MARK},
};

/// How long a domain may take from "destroy" to gone.
const GONE_LIMIT: Duration = Duration::from_secs(10);
/// How long states are given to settle.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);
/// The largest agent reply we look at; libvirt passes on about 4 MiB.
const LARGEST_REPLY: usize = 16 << 20;

/// How many agents are spoken to at once. libvirtd has 20 workers (libvirtd.conf `max_workers`) for everybody, and a
/// guest that hangs holds one for as long as the call may take.
const AGENTS_AT_ONCE: usize = 12;

/// How many guests are made at once; more gain nothing (each costs about 130 ms of a core).
const STARTS_AT_ONCE: usize = 4;

/// libvirt, over a room of connections each for looking, for the life of domains and for their agents: an agent that hangs
/// never holds up a start, nor a start a look.
pub struct Libvirt {
    looks: Room,
    pub(super) lives: Room,
    /// For calls that write or read a guest's memory.
    pub(super) saves: Room,
    /// Starts, few at a time.
    pub(super) pace: Pace,
    agents: Room,
    gate: Gate,
}

impl Libvirt {
    /// An adapter for libvirt at `uri`. Connects when first used.
    pub fn new(uri: &str) -> Self {
        Libvirt {
            looks: Room::new(uri, 2),
            lives: Room::new(uri, 2),
            saves: Room::new(uri, 4),
            pace: Pace::new(STARTS_AT_ONCE),
            agents: Room::new(uri, 4),
            gate: Gate::new(AGENTS_AT_ONCE),
        }
    }

    /// libvirt's version, and the emulator driver's, as `11.3.0`.
    pub fn versions(&self) -> Result<(String, String), Problem> {
        let ask = |connect: &Connect| Ok((connect.get_lib_version()?, connect.get_hyp_version()?));
        let (library, emulator) = self.looks.repeatable(ask).map_err(|fault| problem("cannot ask libvirt for its version", fault))?;
        let dotted = |n: u32| format!("{}.{}.{}", n / 1_000_000, n / 1000 % 1000, n % 1000);
        Ok((dotted(library), dotted(emulator)))
    }

    /// User and group that QEMU runs as, when libvirt says so.
    pub fn qemu_ids(&self) -> Result<Option<(u32, u32)>, Problem> {
        let ask = |connect: &Connect| Ok(connect.get_capabilities()?);
        let xml = self.looks.repeatable(ask).map_err(|fault| problem("cannot ask libvirt for its capabilities", fault))?;
        Ok(mark::qemu_ids(&xml))
    }

    /// Virtual CPUs of all domains that have a process, whosever they are.
    pub fn busy_cpus(&self) -> Result<u32, Problem> {
        let count = |connect: &Connect| {
            let mut cpus = 0u32;
            for handle in connect.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE)? {
                // One that has gone meanwhile takes none.
                cpus = cpus.saturating_add(present(handle.get_info().map_err(Into::into))?.map_or(0, |info| info.nr_virt_cpu));
            }
            Ok(cpus)
        };
        self.looks.repeatable(count).map_err(|fault| problem("cannot count libvirt's virtual CPUs", fault))
    }

    /// Name and mark of every domain that carries one.
    pub fn marked(&self) -> Result<Vec<(String, Mark)>, Problem> {
        Ok(self.domains(&|_| true)?.ours.into_iter().map(|domain| (domain.name, domain.mark)).collect())
    }

    fn list(&self, ours: &dyn Fn(&Mark) -> bool) -> Result<Listing, Problem> {
        let list = |connect: &Connect| {
            let mut listing = Listing::default();
            for handle in connect.list_all_domains(0)? {
                let (name, uuid) = (handle.get_name()?, handle.get_uuid()?);
                match present(fact(&handle, &name, uuid, ours))? {
                    None => {}
                    Some(Ok(fact)) => listing.ours.push(fact),
                    Some(Err(mark)) => listing.others.push(OtherDomain { name, uuid, mark }),
                }
            }
            listing.ours.sort_by(|a, b| a.name.cmp(&b.name));
            listing.others.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(listing)
        };
        self.looks.repeatable(list).map_err(|fault| problem("cannot list libvirt's domains", fault))
    }
}

impl Libvirt {
    /// An interface of a domain as it is plugged now; nothing when there is no such domain or interface.
    pub fn interface(&self, uuid: Uuid, port: Uuid) -> Result<Option<carrier::Interface>, Problem> {
        let ask = |connect: &Connect| {
            let Some(handle) = find(connect, uuid)? else { return Ok(None) };
            let xml = handle.get_xml_desc(0)?;
            Ok(carrier::interfaces(&xml).into_iter().find(|interface| interface.port == port))
        };
        self.looks.repeatable(ask).map_err(|fault| problem(format!("cannot look at the interfaces of domain {uuid}"), fault))
    }

    /// Asks a domain's agent to shut it down. Shut off already is success; whether it does is for the caller to wait for.
    pub fn shut_down(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<(), Problem> {
        let ask = |connect: &Connect| {
            let handle = find(connect, uuid)?.ok_or_else(|| gone(name))?;
            owned(&handle, name, owner)?;
            if !state(&handle)?.is_active() {
                return Ok(());
            }
            match handle.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_GUEST_AGENT) {
                // It was faster than its agent's answer.
                Err(_) if !state(&handle)?.is_active() => Ok(()),
                other => Ok(other.map(|_| ())?),
            }
        };
        self.lives.repeatable(ask).map_err(|fault| problem(format!("cannot shut domain `{name}` down"), fault))
    }

    /// Lets a domain's interface see a carrier or none, now and in its definition, where looks find it.
    pub fn set_carrier(&self, name: &str, uuid: Uuid, port: Uuid, up: bool, owner: &Owner) -> Result<(), Problem> {
        let missing = |what: &str| Problem::new(Code::NotFound, format!("domain `{name}` has no {what}"));
        let set = |connect: &Connect| {
            let handle = find(connect, uuid)?.ok_or_else(|| gone(name))?;
            owned(&handle, name, owner)?;
            let mut places = vec![(sys::VIR_DOMAIN_XML_INACTIVE, sys::VIR_DOMAIN_AFFECT_CONFIG)];
            if state(&handle)?.is_active() {
                places.push((0, sys::VIR_DOMAIN_AFFECT_LIVE));
            }
            for (look, affect) in places {
                let xml = handle.get_xml_desc(look)?;
                let interface = carrier::interfaces(&xml).into_iter().find(|interface| interface.port == port);
                let interface = interface.ok_or_else(|| missing("such interface"))?;
                if interface.up != up {
                    let element = interface.with_link(up).ok_or_else(|| missing("interface that can be read"))?;
                    handle.update_device_flags(&element, affect)?;
                }
            }
            Ok(())
        };
        self.lives.repeatable(set).map_err(|fault| problem(format!("cannot change the link of domain `{name}`"), fault))
    }
}

impl Hypervisor for Libvirt {
    fn domains(&self, ours: &dyn Fn(&Mark) -> bool) -> Result<Listing, Problem> {
        let deadline = Instant::now() + SETTLE_LIMIT;
        let pause = Cancel::new();
        let mut listing = self.list(ours)?;
        // While libvirtd takes up its running domains again, states lie; while a domain shuts down, they are about to change.
        while Instant::now() < deadline {
            let may_be_new = self.looks.opened_lately();
            if !may_be_new && !listing.ours.iter().any(|domain| domain.state.is_passing()) {
                break;
            }
            pause.wait(Duration::from_millis(150));
            let again = self.list(ours)?;
            let settled = again == listing && !again.ours.iter().any(|domain| domain.state.is_passing());
            listing = again;
            if settled {
                break;
            }
        }
        Ok(listing)
    }

    fn state(&self, uuid: Uuid) -> Result<Option<DomainState>, Problem> {
        let ask = |connect: &Connect| match find(connect, uuid)? {
            Some(handle) => present(state(&handle)),
            None => Ok(None),
        };
        self.looks.repeatable(ask).map_err(|fault| problem(format!("cannot ask for the state of domain {uuid}"), fault))
    }

    fn start(&self, domain: &Domain, owner: &Owner, operation: Uuid) -> Result<(), Problem> {
        let xml = domain.xml.replace(OPERATION_MARK, &operation.to_string());
        if xml.contains('\0') {
            return Err(Problem::internal(format!("the XML of domain `{}` holds a NUL", domain.name)));
        }
        let make = |connect: &Connect| {
            let handle = match find(connect, domain.uuid)? {
                Some(handle) => {
                    let mark = owned(&handle, &domain.name, owner)?;
                    if mark.digest != domain.digest {
                        return Err(changed(&domain.name).into());
                    }
                    // Its NICs may be others than when it ran last.
                    if state(&handle)?.is_active() { handle } else { Handle::define_xml(connect, &xml)? }
                }
                None => {
                    if is_name_taken(connect, &domain.name)? {
                        return Err(stranger(&domain.name).into());
                    }
                    Handle::define_xml(connect, &xml)?
                }
            };
            if state(&handle)?.is_active() {
                return Ok(());
            }
            // Nothing runs before its limit is set.
            let flags = if domain.paced || domain.memory_max_mb.is_some() { sys::VIR_DOMAIN_START_PAUSED } else { 0 };
            match handle.create_with_flags(flags) {
                // Someone was faster, or libvirtd went away after it had started the domain.
                Err(error) if error.code() == ErrorNumber::OperationInvalid && state(&handle)?.is_active() => Ok(()),
                other => Ok(other.map(|_| ())?),
            }
        };
        // Made paused by us, or paused before: either way it is to run.
        let run = |connect: &Connect| {
            let handle = find(connect, domain.uuid)?.ok_or_else(|| gone(&domain.name))?;
            if let Some(limit) = domain.memory_max_mb {
                let limit =
                    MemoryParameters { hard_limit: Some(limit << 10), soft_limit: None, min_guarantee: None, swap_hard_limit: None };
                handle.set_memory_parameters(limit, sys::VIR_DOMAIN_AFFECT_LIVE)?;
            }
            if state(&handle)? != DomainState::Paused {
                return Ok(());
            }
            match handle.resume() {
                Err(error) if error.code() == ErrorNumber::OperationInvalid && state(&handle)? != DomainState::Paused => Ok(()),
                other => Ok(other.map(|_| ())?),
            }
        };
        self.pace.make(|| self.lives.repeatable(make)).map_err(|fault| start_problem(&domain.name, fault))?;
        if domain.paced {
            self.pace.hold();
        }
        self.lives.repeatable(run).map_err(|fault| start_problem(&domain.name, fault))
    }

    fn stop(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<(), Problem> {
        let stop = |connect: &Connect| match find(connect, uuid)? {
            Some(handle) => {
                owned(&handle, name, owner)?;
                destroy(&handle, name)
            }
            None => Ok(()),
        };
        self.lives.repeatable(stop).map_err(|fault| problem(format!("cannot stop domain `{name}`"), fault))
    }

    fn remove(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<(), Problem> {
        let flags = sys::VIR_DOMAIN_UNDEFINE_NVRAM | sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
        let remove = |connect: &Connect| {
            let Some(handle) = find(connect, uuid)? else { return Ok(()) };
            owned(&handle, name, owner)?;
            destroy(&handle, name)?;
            match handle.undefine_flags(flags) {
                Ok(()) => {}
                Err(error) if is_absent(&error) => {}
                // A domain without a definition vanishes with its process.
                Err(error) if error.code() == ErrorNumber::OperationInvalid && find(connect, uuid)?.is_none() => {}
                Err(error) => return Err(error.into()),
            }
            wait_until(&format!("domain `{name}` is gone"), || Ok(find(connect, uuid)?.is_none().then_some(())))
        };
        self.lives.repeatable(remove).map_err(|fault| problem(format!("cannot remove domain `{name}`"), fault))
    }

    fn agent(&self, uuid: Uuid, command: &str, limit_s: u32) -> Result<String, AgentFault> {
        if command.contains('\0') {
            return Err(AgentFault::Refused("a NUL cannot be passed to a guest".to_string()));
        }
        let ask = |connect: &Connect| {
            let handle = Handle::lookup_by_uuid(connect, uuid)?;
            Ok(handle.qemu_agent_command(command, i32::try_from(limit_s).unwrap_or(i32::MAX), 0)?)
        };
        let reply = self.gate.pass(|| self.agents.once(ask));
        match reply {
            Ok(reply) if reply.len() > LARGEST_REPLY => Err(AgentFault::TooLarge(format!("{} bytes", reply.len()))),
            Ok(reply) => Ok(reply),
            Err(Fault::Ours(problem)) => Err(AgentFault::Broken(problem)),
            Err(Fault::Libvirt(error)) => Err(agent_fault(error)),
        }
    }
}

pub(super) fn find(connect: &Connect, uuid: Uuid) -> Result<Option<Handle>, Fault> {
    match Handle::lookup_by_uuid(connect, uuid) {
        Ok(handle) => Ok(Some(handle)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_name_taken(connect: &Connect, name: &str) -> Result<bool, Fault> {
    match Handle::lookup_by_name(connect, name) {
        Ok(_) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Nothing when the domain went away meanwhile.
fn present<T>(result: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Fault::Libvirt(error)) if is_absent(&error) => Ok(None),
        Err(fault) => Err(fault),
    }
}

pub(super) fn state(handle: &Handle) -> Result<DomainState, Fault> {
    Ok(DomainState::from_number(handle.get_state()?.0))
}

pub(super) fn mark_of(handle: &Handle) -> Result<Option<Mark>, Fault> {
    match handle.get_metadata(sys::VIR_DOMAIN_METADATA_ELEMENT as i32, Some(METADATA_NAMESPACE), 0) {
        Ok(xml) => Ok(Mark::parse(&xml)),
        Err(error) if error.code() == ErrorNumber::NoDomainMetadata => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A domain with an accepted mark, or else the mark that it has.
fn fact(handle: &Handle, name: &str, uuid: Uuid, ours: &dyn Fn(&Mark) -> bool) -> Result<Result<DomainFact, Option<Mark>>, Fault> {
    let mark = match mark_of(handle)? {
        Some(mark) if ours(&mark) => mark,
        other => return Ok(Err(other)),
    };
    let (state, xml) = (state(handle)?, handle.get_xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?);
    let (memory_mb, cpus) = mark::size(&xml);
    let nics = super::nics::nics(handle, &xml, state)?;
    let down = carrier::interfaces(&xml).into_iter().filter(|interface| !interface.up).map(|interface| interface.port).collect();
    Ok(Ok(DomainFact { name: name.to_string(), uuid, mark, state, nics, down, memory_mb, cpus }))
}

/// The mark of a domain that is the owner's; a conflict when it is not.
pub fn owned(handle: &Handle, name: &str, owner: &Owner) -> Result<Mark, Fault> {
    match mark_of(handle)? {
        Some(mark) if mark.is_of(owner) => Ok(mark),
        _ => Err(stranger(name).into()),
    }
}

/// Ends the domain's process and waits until libvirt says so.
fn destroy(handle: &Handle, name: &str) -> Result<(), Fault> {
    let mut last = None;
    let outcome = wait_until(&format!("domain `{name}` is shut off"), || {
        match handle.destroy() {
            Ok(()) => {}
            Err(error) if is_absent(&error) => return Ok(Some(())),
            // Shut off already, or libvirt still waits for the process to vanish: the state decides.
            Err(error) if error.code() == ErrorNumber::OperationInvalid => {}
            Err(error)
                if matches!(error.code(), ErrorNumber::OperationFailed | ErrorNumber::SystemError | ErrorNumber::OperationTimeout) =>
            {
                last = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
        let now = present(state(handle))?;
        Ok((!now.is_some_and(|state| state.is_active())).then_some(()))
    });
    match (outcome, last) {
        (Err(Fault::Ours(problem)), Some(error)) => Err(problem.cause(error.message()).into()),
        (outcome, _) => outcome,
    }
}

/// Waits for a fact about a domain. Not cancelled: a removal is the way to a clean end, and its limit is short.
fn wait_until(fact: &str, mut seen: impl FnMut() -> Result<Option<()>, Fault>) -> Result<(), Fault> {
    let deadline = Instant::now() + GONE_LIMIT;
    let unhurried = Cancel::new();
    let mut pause = Duration::from_millis(5);
    loop {
        if seen()?.is_some() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let limit = GONE_LIMIT.as_secs();
            return Err(Problem::new(Code::Timeout, format!("{fact}: not seen within {limit} s")).into());
        }
        unhurried.wait(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
