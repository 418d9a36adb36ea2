//! Containers of this host: Docker and the integration bridge put together.
//!
//! Puts the parts together and decides nothing. Docker is asked only where a container is wanted or was made, so that a
//! testbed without containers needs no Docker.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use uuid::Uuid;

use super::{ExecCall, ExecResult, LocalHost};
use crate::{
    backend::Owner,
    backend::containers::{
        Listed, Seen,
        exec::Command,
        port::{self, Of, Port},
        ready::Awaited,
    },
    error::{Code, Problem},
    guest::{exec::Ended, output::Say},
    names::{DeploymentName, GuestName, domain_name},
    orchestrate::host::{Cancel, Context},
    plan::{
        blueprint::{CONTAINER_NOTE, Domain, GuestBlueprint, NicDevice, Readiness},
        container::{Container, Interface, Runtime},
        observed::{BridgePort, ObservedDomain, ObservedNic, OnHost, SeenImage, Stranger},
    },
};

/// What is there of a deployment's containers on this host.
#[derive(Debug, Default)]
pub(super) struct Contained {
    /// The containers.
    pub domains: Vec<ObservedDomain>,
    /// Images that wanted ones need.
    pub images: Vec<OnHost<SeenImage>>,
    /// Containers of others that hold a name that is needed.
    pub strangers: Vec<Stranger>,
    /// Ports of containers in the integration bridge.
    pub ports: Vec<OnHost<BridgePort>>,
}

/// What is plugged where.
struct Plugged {
    ports: Vec<Port>,
    /// Our ends of pairs, and whether they are up.
    devices: BTreeMap<String, bool>,
    /// Docker's id → the process.
    processes: BTreeMap<String, i32>,
}

/// Does a deployment's folder say that a container was made?
pub(super) fn is_noted(files: &BTreeSet<PathBuf>) -> bool {
    files.iter().any(|file| file.to_str().is_some_and(|file| file.ends_with(CONTAINER_NOTE)))
}

impl LocalHost {
    /// The deployment's containers here. Nobody is asked when none is wanted and none was made.
    pub(super) fn look_at_containers(
        &self,
        deployment: &DeploymentName,
        wanted: &[&GuestBlueprint],
        files: &BTreeSet<PathBuf>,
    ) -> Result<Contained, Problem> {
        let wanted: Vec<(&GuestBlueprint, &Container)> =
            wanted.iter().filter_map(|guest| Some((*guest, guest.domain.container.as_deref()?))).collect();
        if wanted.is_empty() && !is_noted(files) {
            return Ok(Contained::default());
        }
        let (owner, host, never) = (self.owner(deployment), &self.config.host, Cancel::new());
        let (ours, others): (Vec<Listed>, Vec<Listed>) = self.docker.list()?.into_iter().partition(|listed| listed.is_of(&owner));
        let ports = port::all(&self.config.ovs_db, &owner)?;
        let devices = if ports.is_empty() { BTreeMap::new() } else { port::devices(&never)? };
        // One that was started again by itself has lost its interfaces, though they may still be about to go.
        let plugged: BTreeSet<&str> = ports.iter().map(|port| port.container.as_str()).collect();
        let active: Vec<&str> =
            ours.iter().filter(|listed| listed.active && plugged.contains(listed.id.as_str())).map(|listed| listed.id.as_str()).collect();
        let processes = if active.is_empty() { BTreeMap::new() } else { self.docker.processes(&active)? };
        let seen = Plugged { ports, devices, processes };
        let names: BTreeSet<&String> = wanted.iter().map(|(_, container)| &container.image).collect();
        let mut images = Vec::new();
        for name in names {
            if let Some(id) = self.docker.image(name)? {
                images.push(OnHost { host: host.clone(), what: SeenImage { name: name.clone(), id } });
            }
        }
        let in_the_way = others.iter().filter(|other| wanted.iter().any(|(guest, _)| guest.domain.name == other.name));
        let plain = seen.ports.iter().filter(|port| port.is_plain()).map(|port| BridgePort {
            bridge: self.config.bridge.clone(),
            name: port.name.clone(),
            iface_id: port.port.to_string(),
            vm_id: None,
        });
        Ok(Contained {
            strangers: in_the_way.map(stranger).collect(),
            ports: plain.map(|what| OnHost { host: host.clone(), what }).collect(),
            domains: ours.iter().filter_map(|listed| self.contained(listed, &seen)).collect(),
            images,
        })
    }

    fn contained(&self, listed: &Listed, seen: &Plugged) -> Option<ObservedDomain> {
        let guest = GuestName::new(listed.guest()?).ok()?;
        let process = seen.processes.get(&listed.id).copied();
        let own: Vec<&Port> = seen.ports.iter().filter(|port| port.guest == guest).collect();
        let nic = |port: &&Port| ObservedNic {
            alias: port.nic.clone(),
            mac: port.mac.clone(),
            port: Some(port.port),
            live: process.is_some() && port.pid == process && seen.devices.contains_key(&port::device_of(port.port)),
            defined: true,
            xml: port.interface.clone(),
        };
        let down = own.iter().map(|port| port.port).filter(|port| seen.devices.get(&port::device_of(*port)) == Some(&false));
        Some(ObservedDomain {
            name: listed.name.clone(),
            uuid: listed.uuid()?,
            guest,
            host: self.config.host.clone(),
            digest: listed.digest().to_string(),
            active: listed.active,
            state: listed.state.clone(),
            // What is asked of an agent is asked of Docker.
            agent: listed.state == "running",
            scripts: BTreeSet::new(),
            memory_mb: 0,
            cpus: 0,
            network: String::new(),
            nics: own.iter().map(nic).collect(),
            down: down.collect(),
            runtime: Runtime::Docker,
            image: listed.image.clone(),
        })
    }

    /// Starts a container and plugs its interfaces.
    pub(super) fn start_container(&self, domain: &Domain, container: &Container, context: &Context<'_>) -> Result<(), Problem> {
        // First the note: whatever happens from here on, Docker is asked by the next look.
        self.folder(context.deployment).write(&domain.console_log, domain.name.as_bytes())?;
        let owner = self.owner(context.deployment);
        self.docker.start(domain, container, &owner, context.operation)?;
        domain.nics.iter().try_for_each(|nic| self.plug_container(&domain.name, domain.uuid, nic, context))
    }

    /// Plugs one interface into a container that runs.
    pub(super) fn plug_container(&self, name: &str, uuid: Uuid, nic: &NicDevice, context: &Context<'_>) -> Result<(), Problem> {
        let owner = self.owner(context.deployment);
        let seen = self.docker.look_at_ours(name, uuid, &owner)?;
        let Some(seen) = seen else {
            return Err(Problem::new(Code::Docker, format!("there is no container `{name}` to plug {} into", nic.name)));
        };
        let Some(pid) = seen.state.pid else {
            // One that does not run gets it when it starts; one that ended at once is seen by whoever waits for it.
            (context.say)(&format!("{name} is {}: {} is not plugged", seen.state.words(), nic.name));
            return Ok(());
        };
        let guest = self.guest_of(context.deployment, name)?;
        let of = Of { owner: &owner, guest: &guest, container: &seen.id, pid };
        // Before the port's marks say that all of it is done: a server that dies in between would leave a guest without names for
        // good. And after, since another interface of the same container may have been plugged meanwhile.
        let plugged = self
            .tell_name_servers(&guest, &seen, &owner, Some(nic))
            .and_then(|()| port::plug(&self.config.ovs_db, &self.config.bridge, of, nic, context.cancel))
            .and_then(|()| self.tell_name_servers(&guest, &seen, &owner, None));
        match plugged {
            // Its command has ended meanwhile, and its namespace with it.
            Err(problem) if problem.code == Code::Docker => match self.docker.look_at_ours(name, uuid, &owner)? {
                Some(now) if now.state.pid == Some(pid) => Err(problem),
                now => {
                    let state = now.map_or_else(|| "gone".to_string(), |now| now.state.words());
                    (context.say)(&format!("{name} is {state}: {} is not plugged", nic.name));
                    Ok(())
                }
            },
            other => other,
        }
    }

    fn guest_of(&self, deployment: &DeploymentName, name: &str) -> Result<GuestName, Problem> {
        let guest = name.strip_prefix(deployment.as_str()).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name);
        GuestName::new(guest)
    }

    /// Takes one interface out of a container.
    pub(super) fn unplug_container(&self, name: &str, uuid: Uuid, nic: &NicDevice, context: &Context<'_>) -> Result<(), Problem> {
        port::unplug(&self.config.ovs_db, &BTreeSet::from([nic.port]), context.cancel)?;
        let owner = self.owner(context.deployment);
        match self.docker.look_at_ours(name, uuid, &owner)?.filter(|seen| seen.state.pid.is_some()) {
            Some(seen) => self.tell_name_servers(&self.guest_of(context.deployment, name)?, &seen, &owner, None),
            None => Ok(()),
        }
    }

    /// Lets a container know whom to ask for names: all that its interfaces name, and one that it is about to get, in their order.
    fn tell_name_servers(&self, guest: &GuestName, seen: &Seen, owner: &Owner, coming: Option<&NicDevice>) -> Result<(), Problem> {
        let Some(file) = &seen.resolver else { return Ok(()) };
        let there = port::all(&self.config.ovs_db, owner)?.into_iter().filter(|port| &port.guest == guest);
        let mut own: BTreeMap<String, String> = there.map(|port| (port.nic, port.interface)).collect();
        own.extend(coming.map(|nic| (nic.alias.clone(), nic.xml.clone())));
        let mut servers = Vec::new();
        for interface in own.values() {
            let interface: Option<Interface> = serde_json::from_str(interface).ok();
            let named = interface.into_iter().flat_map(|interface| interface.name_servers);
            servers.extend(named.filter(|server| !servers.contains(server)).collect::<Vec<_>>());
        }
        if servers.is_empty() {
            return Ok(());
        }
        let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        // Written in place: the file itself stands in the container.
        std::fs::write(file, text).map_err(|error| Problem::io(format!("cannot tell guest `{guest}` whom to ask for names"), &error))
    }

    /// Takes a container's interfaces away, then the container.
    pub(super) fn remove_container(&self, name: &str, uuid: Uuid, context: &Context<'_>) -> Result<(), Problem> {
        let owner = self.owner(context.deployment);
        // A stranger's is left alone, and so are ports under its guest's name.
        self.docker.look_at_ours(name, uuid, &owner)?;
        let guest = self.guest_of(context.deployment, name)?;
        let ports = port::all(&self.config.ovs_db, &owner)?;
        let own: BTreeSet<Uuid> = ports.iter().filter(|port| port.guest == guest).map(|port| port.port).collect();
        port::unplug(&self.config.ovs_db, &own, context.cancel)?;
        self.docker.remove(name, uuid, &owner, context.cancel)
    }

    /// Waits until a container is ready.
    pub(super) fn await_container(
        &self,
        guest: &GuestName,
        (name, uuid): (&str, Uuid),
        ready: &Readiness,
        context: &Context<'_>,
    ) -> Result<(), Problem> {
        let owner = self.owner(context.deployment);
        self.docker.await_ready(Awaited { guest: guest.as_str(), name, uuid, owner: &owner }, ready, context.cancel)
    }

    /// True when a guest is a container of ours here. Only where one was made is Docker asked.
    fn is_container(&self, deployment: &DeploymentName, guest: &GuestName) -> Result<bool, Problem> {
        let uuid = self.config.installation.domain_uuid(deployment, guest);
        let note = self.deployments().join(deployment.as_str()).join("console").join(format!("{guest}{CONTAINER_NOTE}"));
        if !note.exists() {
            return Ok(false);
        }
        Ok(self.docker.look_at_ours(&domain_name(deployment, guest), uuid, &self.owner(deployment))?.is_some())
    }

    /// The name of a guest's container, if it is one; refused when it does not run.
    pub(super) fn running_container(&self, deployment: &DeploymentName, guest: &GuestName) -> Result<Option<String>, Problem> {
        if !self.is_container(deployment, guest)? {
            return Ok(None);
        }
        let name = domain_name(deployment, guest);
        let seen = self.docker.look_at_ours(&name, self.config.installation.domain_uuid(deployment, guest), &self.owner(deployment))?;
        match seen.map(|seen| seen.state).filter(|state| state.pid.is_none() || state.paused) {
            Some(state) => {
                let verb = if state.paused { "resume" } else { "start" };
                Err(Problem::new(Code::AgentUnavailable, format!("guest `{guest}` is {}, so it cannot be asked anything", state.words()))
                    .hint(format!("`testbed {verb} {guest}` makes it run")))
            }
            None => Ok(Some(name)),
        }
    }

    /// Runs a command in a container; nothing when the guest is none.
    pub(super) fn exec_in_container(
        &self,
        deployment: &DeploymentName,
        call: &ExecCall<'_>,
        cancel: &Cancel,
        say: Say<'_>,
    ) -> Result<Option<ExecResult>, Problem> {
        let Some(name) = self.running_container(deployment, call.guest)? else { return Ok(None) };
        let command = Command {
            guest: call.guest.as_str(),
            container: &name,
            argv: call.argv,
            environment: call.environment,
            stdin: call.stdin,
            limit: Duration::from_secs(call.timeout_s),
        };
        let Ended { status, stdout, stderr, truncated } = self.docker.exec(command, cancel, say)?;
        Ok(Some(ExecResult { status, stdout, stderr, truncated }))
    }

    /// What a guest's container has said, its last lines; nothing when the guest is none.
    pub(super) fn said_in_container(
        &self,
        deployment: &DeploymentName,
        guest: &GuestName,
        last: Option<u32>,
    ) -> Result<Option<Vec<u8>>, Problem> {
        if !self.is_container(deployment, guest)? {
            return Ok(None);
        }
        self.docker.said(&domain_name(deployment, guest), last).map(Some)
    }

    /// Refuses what only a machine has.
    pub(super) fn refuse_console(&self, deployment: &DeploymentName, guest: &GuestName) -> Result<(), Problem> {
        if !self.is_container(deployment, guest)? {
            return Ok(());
        }
        Err(Problem::new(Code::Unsupported, format!("guest `{guest}` is a container, which has no serial console"))
            .hint(format!("`testbed logs {guest}` shows what it prints, `testbed exec {guest} -- sh` runs a command in it")))
    }

    /// Names of this installation's containers, with their deployments; none where there is no Docker.
    pub(super) fn marked_containers(&self) -> Vec<(String, DeploymentName)> {
        let installation = self.config.installation.to_string();
        let listed = self.docker.list().unwrap_or_else(|problem| {
            tracing::debug!(%problem, "no containers are looked for");
            Vec::new()
        });
        let ours = listed.into_iter().filter(|listed| listed.installation() == Some(&installation));
        ours.filter_map(|listed| Some((format!("container {}", listed.name), DeploymentName::new(listed.deployment()?).ok()?))).collect()
    }
}

fn stranger(other: &Listed) -> Stranger {
    match (other.installation(), other.deployment()) {
        (Some(installation), Some(deployment)) => Stranger::of_installation("container", &other.name, installation, deployment),
        _ => Stranger {
            kind: "container".to_string(),
            name: other.name.clone(),
            hint: format!("it carries no mark of ours; look at it with `docker inspect {}`", other.name),
            installation: None,
            deployment: None,
        },
    }
}
