//! The driver over the real parts of this machine.
//!
//! Translates between the server's questions and the library's answers; decides nothing about the work itself.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use kvm_compose::{
    api::{
        CatalogueEntry, CheckResult, ExecRequest, ImageInfo, PlanDocument, RemovedImages, SnapshotInfo, SnapshotRequest, UpOptions,
        WhyAnswer, WhyRequest,
        copy::{GuestPath, PathSeen},
        link::{Carrier, LinkReport, SetLink},
    },
    backend::accelerator::LIMIT,
    backend::hypervisor::console::LibvirtConsole,
    backend::images::disks::{Import, spool::Spool},
    backend::local::{CopySpool, ExecCall, ExecResult, LocalConfig, LocalHost, Prepared, Purpose},
    backend::snapshots::Restoring,
    error::{Code, Problem},
    guest::output::Say,
    names::{DeploymentName, GuestName, HostName, InstallationId, SnapshotName},
    orchestrate::{
        self, Operation, Sink,
        event::{EventKind, PlannedStep},
        host::{Cancel, Host as _},
    },
    plan::{self, lifecycle::Wish},
    topology::{self, Topology},
};

use super::{
    captures,
    driver::{CaptureLimits, Console, Driver, Project, View},
    far_console::FarConsole,
    fleet::{Fleet, LOOK},
    snapshots::{
        Kept,
        driver::{self as shots, Ended as Shot},
    },
    view::view,
    why,
};
use crate::cluster::{
    Cluster,
    calls::{Patience, Said},
    wire::{Call, Ended},
};

/// How long a command in a guest may take when the request does not say.
const EXEC_TIMEOUT_S: u64 = 3600;

/// The real parts of this machine, and of the cluster's members, as the server's driver.
pub struct LocalDriver {
    host: Arc<LocalHost>,
    cluster: Option<Arc<Cluster>>,
    installation: InstallationId,
    host_name: HostName,
}

impl LocalDriver {
    /// A driver over this machine. Connects on first use.
    pub fn new(config: LocalConfig) -> Self {
        let (installation, host_name) = (config.installation, config.host.clone());
        LocalDriver { host: Arc::new(LocalHost::new(config)), cluster: None, installation, host_name }
    }

    /// The host itself.
    pub fn host(&self) -> &Arc<LocalHost> {
        &self.host
    }

    /// The same, with members.
    pub fn with_cluster(self, cluster: Arc<Cluster>) -> Self {
        LocalDriver { cluster: Some(cluster), ..self }
    }

    pub(super) fn fleet<'a>(&'a self, patience: Patience, cancel: &'a Cancel) -> Fleet<'a> {
        Fleet { local: &self.host, cluster: self.cluster.as_deref(), patience, cancel }
    }

    /// The cluster, when the host is one of its members and not this one.
    pub(super) fn member(&self, host: &HostName) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref().filter(|_| *host != self.host_name)
    }

    /// The member that a guest stands on; nothing when it stands here.
    pub(super) fn standing_far(
        &self,
        deployment: &DeploymentName,
        guest: &GuestName,
        cancel: &Cancel,
    ) -> Result<Option<(&Arc<Cluster>, HostName)>, Problem> {
        let Some(cluster) = &self.cluster else { return Ok(None) };
        let host = self.fleet(Patience::UntilLost, cancel).member_of(deployment, guest)?;
        Ok(host.map(|host| (cluster, host)))
    }

    /// Finds out whether KVM works, so that the first `up` need not wait for it.
    pub fn test_kvm(&self) {
        self.host.test_kvm();
    }

    fn prepare_to_look(&self, project: &Project, fleet: &Fleet<'_>) -> Result<Prepared, Problem> {
        let Project { deployment, sources, folder } = project;
        self.host.prepare(deployment, sources, folder, Purpose::Looking, || fleet.hosts_at_a_glance(deployment))
    }

    pub(super) fn prepare_aloud(&self, project: &Project, operation: &Operation<'_>, purpose: Purpose<'_>) -> Result<Prepared, Problem> {
        if self.host.must_test_kvm() {
            let text = format!("testing whether KVM works on this machine, {} s at most; done once after each boot", LIMIT.as_secs());
            operation.sink.emit(EventKind::Line { guest: None, text })?;
        }
        let fleet = self.fleet(Patience::UntilLost, operation.cancel);
        let hosts = || fleet.hosts(&project.deployment);
        let Project { deployment, sources, folder } = project;
        let prepared = self.host.prepare(deployment, sources, folder, purpose, hosts)?;
        for fault in &prepared.loaded.warnings {
            operation.sink.emit(EventKind::Warning { text: format!("{}: {}", fault.at, fault.message) })?;
        }
        Ok(prepared)
    }
}

impl Console for LibvirtConsole {
    fn read(&self, buffer: &mut [u8]) -> usize {
        LibvirtConsole::read(self, buffer)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Problem> {
        LibvirtConsole::write(self, bytes)
    }

    fn close(&self) {
        LibvirtConsole::close(self);
    }
}

/// Passes events on. What the place has to say about running guests (no KVM) follows a plan that starts some, and is
/// not repeated where there is nothing to do.
struct WithPlace<'a> {
    sink: &'a dyn Sink,
    warnings: &'a [String],
}

impl Sink for WithPlace<'_> {
    fn emit(&self, event: EventKind) -> Result<(), Problem> {
        let starts = matches!(&event, EventKind::Planned { steps } if starts_guests(steps));
        self.sink.emit(event)?;
        let said = if starts { self.warnings } else { &[] };
        said.iter().try_for_each(|text| self.sink.emit(EventKind::Warning { text: text.clone() }))
    }
}

fn starts_guests(steps: &[PlannedStep]) -> bool {
    steps.iter().any(|step| step.id.starts_with("start/"))
}

impl Driver for LocalDriver {
    fn up(&self, project: &Project, options: &UpOptions, operation: &Operation<'_>) -> Result<(), Problem> {
        self.host.pull_missing(&project.deployment, &project.sources, operation)?;
        let prepared = self.prepare_aloud(project, operation, Purpose::Doing(operation.cancel))?;
        let fleet = self.fleet(Patience::UntilLost, operation.cancel);
        fleet.settle(&prepared.blueprint)?;
        let sink = WithPlace { sink: operation.sink, warnings: &prepared.warnings };
        orchestrate::up(&fleet, &prepared.blueprint, options, &Operation { sink: &sink, ..*operation })?;
        fleet.settled(&prepared.blueprint)
    }

    fn down(&self, deployment: &DeploymentName, operation: &Operation<'_>) -> Result<(), Problem> {
        let nothing = plan::nothing(self.installation, deployment, &self.host_name);
        orchestrate::down(&self.fleet(Patience::UntilLost, operation.cancel), &nothing, operation)
    }

    fn lifecycle(
        &self,
        deployment: &DeploymentName,
        project: Result<Project, Problem>,
        wish: Wish,
        guests: &[GuestName],
        operation: &Operation<'_>,
    ) -> Result<(), Problem> {
        let fleet = self.fleet(Patience::UntilLost, operation.cancel);
        let prepared = match wish {
            Wish::Start | Wish::Restart(_) => Some(self.prepare_aloud(&project?, operation, Purpose::Planning(operation.cancel))?),
            // A file with a fault keeps nobody from stopping what runs.
            Wish::Stop(_) | Wish::Pause | Wish::Resume => project.and_then(|project| self.prepare_to_look(&project, &fleet)).ok(),
        };
        let blueprint = prepared.as_ref().map(|prepared| &prepared.blueprint);
        orchestrate::lifecycle::fulfil(&fleet, (deployment, blueprint), wish, guests, operation)
    }

    fn plan(&self, project: &Project, options: &UpOptions, operation: &Operation<'_>) -> Result<PlanDocument, Problem> {
        let prepared = self.prepare_aloud(project, operation, Purpose::Planning(operation.cancel))?;
        let document = orchestrate::plan(&self.fleet(Patience::UntilLost, operation.cancel), &prepared.blueprint, options)?;
        if starts_guests(&document.steps) {
            prepared.warnings.iter().try_for_each(|text| operation.sink.emit(EventKind::Warning { text: text.clone() }))?;
        }
        Ok(document)
    }

    fn exec(
        &self,
        deployment: &DeploymentName,
        request: &ExecRequest,
        stdin: &[u8],
        cancel: &Cancel,
        say: Say<'_>,
    ) -> Result<ExecResult, Problem> {
        let fleet = self.fleet(Patience::UntilLost, cancel);
        if let (Some(cluster), Some(host)) = (&self.cluster, fleet.member_of(deployment, &request.guest)?) {
            return exec_there(cluster, &host, deployment, request, (stdin, cancel, say));
        }
        let call = ExecCall {
            guest: &request.guest,
            argv: &request.argv,
            environment: &request.environment,
            stdin,
            timeout_s: request.timeout_s.unwrap_or(EXEC_TIMEOUT_S),
        };
        self.host.exec(deployment, &call, cancel, say)
    }

    fn set_link(&self, project: &Project, request: &SetLink, operation: &Operation<'_>) -> Result<(), Problem> {
        let fleet = self.fleet(Patience::UntilLost, operation.cancel);
        let prepared = self.prepare_to_look(project, &fleet)?;
        orchestrate::link::set_link(&fleet, &prepared.blueprint, request, operation)
    }

    fn links(&self, project: &Project, only: &dyn Fn(&GuestName, &str) -> bool, probe: bool) -> Result<Vec<LinkReport>, Problem> {
        let never = Cancel::new();
        let fleet = self.fleet(LOOK, &never);
        let prepared = self.prepare_to_look(project, &fleet)?;
        let observed = fleet.observe(&project.deployment, Some(&prepared.blueprint))?;
        let mut links = plan::link_report::reports(&prepared.blueprint, &observed);
        links.retain(|link| only(&link.guest, &link.interface));
        let shaped: BTreeSet<_> = observed.links.iter().filter(|link| link.what.fault.is_none()).map(|link| link.what.port).collect();
        // Past a cable that is pulled the relay's own frames would still go, and the guest's do not.
        let (passing, pulled): (Vec<_>, Vec<_>) =
            links.iter_mut().filter(|link| shaped.contains(&link.port)).partition(|link| link.carrier != Some(Carrier::Down));
        fleet.measure(&project.deployment, passing, probe)?;
        fleet.measure(&project.deployment, pulled, false)?;
        Ok(links)
    }

    fn topology(&self, project: &Project) -> Result<Topology, Problem> {
        let leases = self.host.leases(&project.deployment)?;
        Ok(topology::load_all(&project.sources, &project.deployment, &leases)?.topology)
    }

    fn why(&self, project: &Project, request: &WhyRequest, operation: &Operation<'_>) -> Result<WhyAnswer, Problem> {
        why::answer(self, project, request, operation)
    }

    fn capture(
        &self,
        project: &Project,
        wanted: &[(GuestName, Option<String>)],
        limits: &CaptureLimits,
        write: &mut dyn FnMut(Vec<u8>) -> bool,
    ) -> Result<(), Problem> {
        captures::run(self, project, wanted, limits, write)
    }

    fn console(&self, deployment: &DeploymentName, guest: &GuestName) -> Result<(Arc<dyn Console>, Vec<u8>), Problem> {
        let never = Cancel::new();
        if let (Some(cluster), Some(host)) = (&self.cluster, self.fleet(LOOK, &never).member_of(deployment, guest)?) {
            let (console, past) = FarConsole::open(cluster, &host, deployment, guest)?;
            return Ok((Arc::new(console), past));
        }
        let (console, past) = self.host.console(deployment, guest)?;
        Ok((Arc::new(console), past))
    }

    fn said(&self, deployment: &DeploymentName, guest: &GuestName, last: Option<u32>) -> Result<Vec<u8>, Problem> {
        let never = Cancel::new();
        if let Some(host) = self.fleet(LOOK, &never).member_of(deployment, guest)? {
            let message = format!("guest `{guest}` stands on host `{host}`, whose logs this version does not fetch");
            return Err(Problem::new(Code::Unsupported, message).hint("its console shows what it said last"));
        }
        self.host.said(deployment, guest, last)
    }

    fn look_at_path(&self, deployment: &DeploymentName, guest: &GuestName, path: &GuestPath) -> Result<PathSeen, Problem> {
        self.look_at_path_anywhere(deployment, guest, path)
    }

    fn copy_spool(&self, deployment: &DeploymentName) -> Result<CopySpool, Problem> {
        self.host.copy_spool(deployment)
    }

    fn put_files(
        &self,
        deployment: &DeploymentName,
        guest: &GuestName,
        folder: &GuestPath,
        archive: &CopySpool,
        cancel: &Cancel,
    ) -> Result<(), Problem> {
        self.put_anywhere(deployment, guest, folder, archive, cancel)
    }

    fn get_files(
        &self,
        deployment: &DeploymentName,
        guest: &GuestName,
        path: &GuestPath,
        cancel: &Cancel,
        write: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), Problem> {
        self.get_anywhere(deployment, guest, path, cancel, write)
    }

    fn observe(&self, deployment: &DeploymentName, project: Result<Project, Problem>) -> View {
        let never = Cancel::new();
        let fleet = self.fleet(LOOK, &never);
        let hosts = || fleet.hosts_at_a_glance(deployment);
        let prepared = project.and_then(|p| self.host.prepare(&p.deployment, &p.sources, &p.folder, Purpose::Looking, hosts));
        let observed = fleet.observe(deployment, prepared.as_ref().ok().map(|prepared| &prepared.blueprint));
        view(deployment, self.installation, prepared, observed)
    }

    fn take_snapshot(&self, project: &Project, request: &SnapshotRequest, operation: &Operation<'_>) -> Shot<u64> {
        shots::take(self, project, request, operation)
    }

    fn restore_snapshot(&self, deployment: &DeploymentName, wanted: &Restoring, kept: &dyn Kept, operation: &Operation<'_>) -> Shot<()> {
        shots::put_back(self, deployment, wanted, kept, operation)
    }

    fn restoring(&self, deployment: &DeploymentName) -> Result<Option<Restoring>, Problem> {
        self.host.shelf(deployment).restoring()
    }

    fn put_restored(&self, deployment: &DeploymentName, restoring: &Restoring, kept: &dyn Kept) -> Result<(), Problem> {
        shots::put_restored(self, deployment, restoring, kept)
    }

    fn forget_restore(&self, deployment: &DeploymentName) -> Result<(), Problem> {
        self.host.shelf(deployment).clear_restoring()
    }

    fn delete_snapshot(&self, deployment: &DeploymentName, name: &SnapshotName) -> Result<(), Problem> {
        self.host.delete_snapshot(deployment, name)
    }

    fn snapshots(&self, deployment: &DeploymentName) -> Result<Vec<SnapshotInfo>, Problem> {
        shots::list(self, deployment)
    }

    fn sweep_snapshots(&self, deployment: &DeploymentName) -> Result<Vec<String>, Problem> {
        self.host.sweep_snapshots(deployment)
    }

    fn checks(&self) -> Vec<CheckResult> {
        self.host.checks()
    }

    fn marked(&self) -> Result<Vec<(String, DeploymentName)>, Problem> {
        self.fleet(LOOK, &Cancel::new()).marked()
    }

    fn images(&self) -> Result<Vec<ImageInfo>, Problem> {
        self.host.images()
    }

    fn catalogue(&self) -> Result<Vec<CatalogueEntry>, Problem> {
        self.host.catalogue()
    }

    fn pull_image(&self, name: &str, operation: &Operation<'_>) -> Result<String, Problem> {
        self.host.pull_image(name, operation).map(|image| image.digest)
    }

    fn spool_image(&self) -> Result<Spool, Problem> {
        self.host.spool_image()
    }

    fn import_image(&self, import: &Import, operation: &Operation<'_>) -> Result<String, Problem> {
        self.host.import_image(import, operation).map(|image| image.digest)
    }

    fn remove_image(&self, name: &str) -> Result<RemovedImages, Problem> {
        self.host.remove_image(name)
    }

    fn prune_images(&self, goldens_stay: bool) -> Result<RemovedImages, Problem> {
        self.host.prune_images(goldens_stay)
    }

    fn build_micro(&self, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<String, Problem> {
        self.host.build_micro(cancel, say).map(|image| image.digest)
    }
}

/// Runs a command in a guest on another host.
fn exec_there(
    cluster: &Cluster,
    host: &HostName,
    deployment: &DeploymentName,
    request: &ExecRequest,
    (stdin, cancel, say): (&[u8], &Cancel, Say<'_>),
) -> Result<ExecResult, Problem> {
    let call = Call::Exec {
        deployment: deployment.clone(),
        guest: request.guest.clone(),
        argv: request.argv.clone(),
        environment: request.environment.clone(),
        stdin: STANDARD.encode(stdin),
        timeout_s: request.timeout_s.unwrap_or(EXEC_TIMEOUT_S),
    };
    let ended: Ended = cluster.call_and_hear(host, &call, Patience::UntilLost, cancel, &|said| match said {
        Said::Output(stream, bytes) => say(stream, bytes),
        Said::Line(_) => {}
    })?;
    let bytes = |text: &str| STANDARD.decode(text).map_err(|error| Problem::internal("a member's output is not base64").cause(error));
    Ok(ExecResult { status: ended.status, stdout: bytes(&ended.stdout)?, stderr: bytes(&ended.stderr)?, truncated: ended.truncated })
}
