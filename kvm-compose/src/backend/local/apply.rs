//! Carrying out one step. Each is safe to repeat and ends soon after the action is cancelled.
//!
//! Says nothing about order: that is the plan's.

use std::{path::Path, time::Duration};

use uuid::Uuid;

use super::LocalHost;
use crate::{
    backend::{
        containers,
        files::{reach, seed, volume},
        hypervisor::Hypervisor,
        link,
    },
    error::{Code, Problem},
    guest::{
        network::{self, Taken},
        ready, script,
    },
    names::GuestName,
    orchestrate::host::{Cancel, Context},
    plan::{
        blueprint::{Base, Domain},
        container::Runtime::Docker,
        link::Link,
        observed::BridgePort,
        step::Work,
    },
};

impl LocalHost {
    /// Carries out one step.
    pub(super) fn carry_out(&self, work: &Work, context: &Context<'_>) -> Result<(), Problem> {
        context.cancel.check()?;
        let owner = self.owner(context.deployment);
        let folder = self.folder(context.deployment);
        match work {
            Work::Network { change } => self.northbound.apply(&owner, context.operation, change, context.cancel, context.say),
            Work::FetchBase { base } => self.fetch(base, context),
            Work::KeepGolden { kept } => self.keep_golden(kept, context),
            Work::CreateVolume { volume } => volume::create(&folder, volume, context.cancel),
            Work::WriteSeed { seed } => seed::write(&folder, seed),
            Work::RemoveFile { path } => folder.remove(path),
            Work::PullImage { image } => self.docker.pull(image, context.cancel, context.say),
            Work::StartDomain { domain } => match &domain.container {
                Some(container) => self.start_container(domain, container, context),
                None => self.start(domain, context),
            },
            Work::LoadDomain { domain, memory } => self.load(domain, memory, context),
            Work::ResumeDomain { guest, name, uuid } => self.resume(guest, name, *uuid, context),
            Work::StopDomain { name, uuid, runtime: Docker } => self.docker.stop(name, *uuid, &owner),
            Work::StopDomain { name, uuid, .. } => self.libvirt.stop(name, *uuid, &owner),
            Work::RemoveDomain { name, uuid, runtime: Docker } => self.remove_container(name, *uuid, context),
            Work::RemoveDomain { name, uuid, .. } => self.libvirt.remove(name, *uuid, &owner),
            Work::AttachNic { name, uuid, nic, runtime: Docker } => self.plug_container(name, *uuid, nic, context),
            Work::AttachNic { name, uuid, nic, .. } => self.libvirt.attach(name, *uuid, nic, &owner),
            Work::DetachNic { name, uuid, nic, runtime: Docker } => self.unplug_container(name, *uuid, nic, context),
            Work::DetachNic { name, uuid, nic, .. } => self.libvirt.detach(name, *uuid, nic, &owner, context.cancel),
            Work::ConfigureNetwork { guest, name, uuid, network, links, agent_s } => {
                let inside = script::Guest { hypervisor: &self.libvirt, guest: guest.as_str(), domain: *uuid, cancel: context.cancel };
                self.configure(&inside, network, links, *agent_s, context)?;
                self.libvirt.note_network(name, *uuid, network, &owner)
            }
            Work::RemoveBridgePort { port } => self.unplug(port, context.cancel),
            Work::ShapeLink { guest, link, .. } => self.shape_link(guest, link, context),
            Work::UnshapeLink { port, .. } => self.links(context.deployment).unshape(*port, context.cancel),
            Work::SetCarrier { port, up, runtime: Docker, .. } => containers::port::set_carrier(*port, *up, context.cancel),
            Work::SetCarrier { domain, uuid, port, up, .. } => self.libvirt.set_carrier(domain, *uuid, *port, *up, &owner),
            Work::SetUpUplink { uplink } => self.set_up_uplink(uplink, context.cancel),
            Work::PlugInternal { port } => self.plug_internal(port, &owner, context),
            Work::UnplugInternal { interface, .. } => self.unplug_internal(interface, &owner, context.cancel),
            Work::AwaitReady { guest, domain, uuid, ready, runtime: Docker, .. } => {
                self.await_container(guest, (domain, *uuid), ready, context)
            }
            Work::AwaitReady { guest, uuid, ready, console_log, .. } => {
                ready::wait(&self.libvirt, guest.as_str(), *uuid, ready, console_log, context.cancel)
            }
            Work::SendContext { guest, uuid, context: wanted } => self.send_context(guest, *uuid, wanted, context),
            Work::RunScript { guest, uuid, script, rerun } => {
                let inside = script::Guest { hypervisor: &self.libvirt, guest: guest.as_str(), domain: *uuid, cancel: context.cancel };
                let when = if *rerun { script::When::Always } else { script::When::Unmarked };
                script::run(&inside, script, when, context.say)
            }
        }
    }

    fn shape_link(&self, guest: &GuestName, link: &Link, context: &Context<'_>) -> Result<(), Problem> {
        let known = self.libvirt.interface(self.config.installation.domain_uuid(context.deployment, guest), link.port)?;
        let wanted = link::Wanted {
            port: link.port,
            label: format!("{guest}:{}", link.interface),
            shape: &link.shape,
            known: known.and_then(|interface| interface.tap.zip(interface.mac)),
        };
        self.links(context.deployment).shape(&wanted, context.cancel)
    }

    fn fetch(&self, base: &Base, context: &Context<'_>) -> Result<(), Problem> {
        let named = || Problem::internal(format!("`{}` cannot be fetched here", base.path.display()));
        let (Some(sum), Some(source)) = (&base.sum, &self.source) else { return Err(named()) };
        source.fetch(sum, &base.path, context.cancel, context.say)
    }

    fn start(&self, domain: &Domain, context: &Context<'_>) -> Result<(), Problem> {
        // libvirt opens the console's log but does not make its folder.
        self.folder(context.deployment).make_room_for(&domain.console_log)?;
        self.libvirt.start(domain, &self.owner(context.deployment), context.operation).map_err(|problem| self.reachable(problem))
    }

    /// A start that was refused a file: the folder that is closed to QEMU, and the command that opens it, in place of a general hint.
    fn reachable(&self, problem: Problem) -> Problem {
        let Some(cause) = problem.causes.iter().find(|cause| cause.contains("Permission denied")) else { return problem };
        // libvirt and QEMU write paths between single quotes.
        let named = cause.split('\'').map(Path::new).find(|path| path.is_absolute());
        let path = named.map_or_else(|| self.deployments(), Path::to_path_buf);
        match reach::fault(&path, self.user_of_qemu().ok().flatten()) {
            Some(closed) => problem.hint(format!("{}: `{}` opens it", closed.words(), closed.command())),
            None => problem,
        }
    }

    /// Lets a guest take up its network, if it runs: one that does not reads its seed when it starts.
    fn configure(
        &self,
        inside: &script::Guest<'_>,
        config: &str,
        links: &[String],
        agent_s: u64,
        context: &Context<'_>,
    ) -> Result<(), Problem> {
        if links.is_empty() || !self.libvirt.state(inside.domain)?.is_some_and(|state| state.is_running()) {
            return Ok(());
        }
        match network::configure(inside, config, links, Duration::from_secs(agent_s), context.say)? {
            Taken::Up => {}
            Taken::NoAgent => (context.say)(&format!(
                "guest `{}` has no agent: its own system must take up the change of {} (DHCP does, in time), or restart it",
                inside.guest,
                links.join(", ")
            )),
        }
        Ok(())
    }

    /// Takes a port off the bridge that its guest left behind; never one whose domain has a process.
    fn unplug(&self, port: &BridgePort, cancel: &Cancel) -> Result<(), Problem> {
        if containers::port::is_ours(&port.name) {
            let ports = Uuid::parse_str(&port.iface_id).into_iter().collect();
            return containers::port::unplug(&self.config.ovs_db, &ports, cancel);
        }
        if let Some(vm) = port.vm_id
            && let Some(state) = self.libvirt.state(vm)?.filter(|state| state.is_active())
        {
            return Err(Problem::new(Code::Conflict, format!("port `{}` of `{}` is in use", port.name, port.bridge))
                .cause(format!("domain {vm} is {state}"))
                .hint("run the command again"));
        }
        self.switch.remove(port)
    }
}
