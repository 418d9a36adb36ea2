//! What the local driver does for snapshots: brings file, blueprint and world together, and decides nothing about the work.

use chrono::Utc;
use kvm_compose::{
    api::{SnapshotInfo, SnapshotRequest, snapshot::GuestReport},
    backend::{
        local::{Purpose, Take},
        snapshots::Restoring,
    },
    error::{Code, Problem},
    names::{DeploymentName, GuestName, HostName},
    orchestrate::{
        Operation,
        event::EventKind,
        host::{Cancel, Context, Host as _},
        restore::{Back, restore},
    },
    plan::{
        self, Taints,
        blueprint::{Blueprint, GuestBlueprint},
        observed::Observed,
        restore::{lives, ports_of},
        snapshot::{Manifest, SavedGuest, SavedLease, SavedLink, SavedPort, SavedTestbed, VERSION, refuse_members},
        step::Work,
    },
};

use super::Kept;
use crate::{
    cluster::calls::Patience,
    operations::{driver::Project, local::LocalDriver},
};

/// What became of each guest, and of the whole.
pub type Ended<T> = (Vec<GuestReport>, Result<T, Problem>);

/// Makes a snapshot; returns how long guests stood still, in milliseconds.
pub fn take(driver: &LocalDriver, project: &Project, request: &SnapshotRequest, operation: &Operation<'_>) -> Ended<u64> {
    let begun = (|| {
        let prepared = driver.prepare_aloud(project, operation, Purpose::Planning(operation.cancel))?;
        let fleet = driver.fleet(Patience::UntilLost, operation.cancel);
        let observed = fleet.observe(&project.deployment, Some(&prepared.blueprint))?;
        Ok((prepared.blueprint, observed))
    })();
    let (blueprint, observed) = match begun {
        Ok(begun) => begun,
        Err(problem) => return (Vec::new(), Err(problem)),
    };
    let chosen = match choose(driver, &blueprint, &observed, &request.guests) {
        Ok(chosen) => chosen,
        Err(problem) => return (Vec::new(), Err(problem)),
    };
    match manifest(driver, project, request, operation, (&blueprint, &observed, &chosen)) {
        Ok(manifest) => {
            let take = Take { manifest, guests: chosen, observed: &observed };
            let (reports, outcome) = driver.host().take_snapshot(take, operation);
            (reports, outcome.map(|manifest| manifest.pause_ms))
        }
        Err(problem) => (Vec::new(), Err(problem)),
    }
}

/// The guests asked for, which must be as the file says.
fn choose<'a>(
    driver: &LocalDriver,
    blueprint: &'a Blueprint,
    observed: &Observed,
    only: &[GuestName],
) -> Result<Vec<&'a GuestBlueprint>, Problem> {
    if let Some(unknown) = only.iter().find(|name| !blueprint.guests.iter().any(|guest| guest.name == **name)) {
        let names: Vec<&str> = blueprint.guests.iter().map(|guest| guest.name.as_str()).collect();
        return Err(
            Problem::new(Code::NotFound, format!("the file has no guest `{unknown}`")).hint(format!("guests: {}", names.join(", ")))
        );
    }
    let chosen: Vec<&GuestBlueprint> = blueprint.guests.iter().filter(|guest| only.is_empty() || only.contains(&guest.name)).collect();
    let here: &HostName = &driver.host().config().host;
    refuse_members(&chosen, here)?;
    let only = (!only.is_empty()).then(|| only.iter().cloned().collect());
    let known = |guest: &GuestName| observed.domains.iter().any(|domain| domain.guest == *guest);
    let plan = plan::diff(blueprint, observed, &Taints::default(), only.as_ref());
    // Who is off or paused is kept so, and so is what was done to links by hand.
    let is_kept = |work: &Work| match work {
        Work::RunScript { .. } | Work::AwaitReady { .. } | Work::PullImage { .. } => true,
        Work::ShapeLink { .. } | Work::UnshapeLink { .. } | Work::SetCarrier { .. } => true,
        Work::StartDomain { domain } => known(&domain.guest),
        _ => false,
    };
    let left: Vec<String> =
        plan.steps.iter().filter(|step| !is_kept(&step.work)).map(|step| format!("{} ({})", step.id, step.reason)).collect();
    if left.is_empty() {
        return Ok(chosen);
    }
    let problem = Problem::new(
        Code::Conflict,
        format!("`{}` is not as its testbed file says, so there is no telling what to keep", blueprint.deployment),
    );
    Err(left.into_iter().take(10).fold(problem, Problem::cause).hint("`testbed up` first; `testbed plan` shows what differs"))
}

fn manifest(
    driver: &LocalDriver,
    project: &Project,
    request: &SnapshotRequest,
    operation: &Operation<'_>,
    (blueprint, observed, chosen): (&Blueprint, &Observed, &[&GuestBlueprint]),
) -> Result<Manifest, Problem> {
    let ports = ports_of(blueprint, &chosen.iter().map(|guest| guest.name.clone()).collect());
    let leases = driver.host().leases(&project.deployment)?;
    let links = observed.links.iter().map(|link| &link.what).filter(|link| link.fault.is_none() && ports.contains(&link.port));
    let down = observed.domains.iter().flat_map(|domain| domain.down.iter().map(|port| (domain.guest.clone(), *port)));
    Ok(Manifest {
        version: VERSION,
        name: request.name.clone(),
        deployment: project.deployment.clone(),
        installation: blueprint.installation,
        operation: operation.uuid,
        created: Utc::now(),
        whole: request.guests.is_empty(),
        memory: request.memory,
        pause_ms: 0,
        testbed: SavedTestbed {
            text: project.sources.text.clone(),
            file: project.sources.file.clone(),
            composition: project.sources.composition.clone(),
        },
        leases: leases.into_iter().map(|((guest, interface), address)| SavedLease { guest, interface, address }).collect(),
        rows: blueprint.rows.clone(),
        links: links.map(|link| SavedLink { port: link.port, shape: link.shape }).collect(),
        down: down.filter(|(_, port)| ports.contains(port)).map(|(guest, port)| SavedPort { guest, port }).collect(),
        guests: Vec::new(),
    })
}

/// Restores a snapshot, or finishes a restore that was begun.
pub fn put_back(
    driver: &LocalDriver,
    deployment: &DeploymentName,
    wanted: &Restoring,
    kept: &dyn Kept,
    operation: &Operation<'_>,
) -> Ended<()> {
    let mut reports = Vec::new();
    let outcome = put_back_with(driver, deployment, wanted, kept, operation, &mut reports);
    (reports, outcome)
}

fn put_back_with(
    driver: &LocalDriver,
    deployment: &DeploymentName,
    wanted: &Restoring,
    kept: &dyn Kept,
    operation: &Operation<'_>,
    reports: &mut Vec<GuestReport>,
) -> Result<(), Problem> {
    let (host, sink) = (driver.host(), operation.sink);
    let shelf = host.shelf(deployment);
    let manifest = shelf.read(&wanted.name)?;
    let chosen = manifest.chosen(&wanted.guests)?;
    let alone = !wanted.guests.is_empty() || !manifest.whole;
    let project = kept.project((!alone).then_some(&manifest.testbed))?;
    let fleet = driver.fleet(Patience::UntilLost, operation.cancel);
    let leases = if alone { host.leases(deployment)? } else { manifest.leases() };
    let hosts = || fleet.hosts(deployment);
    let purpose = Purpose::Doing(operation.cancel);
    let blueprint = host.prepare_with(deployment, &project.sources, &project.folder, purpose, (hosts, &leases))?.blueprint;
    fit(&manifest, &chosen, &blueprint, alone, &host.config().host)?
        .into_iter()
        .try_for_each(|text| sink.emit(EventKind::Warning { text }))?;
    // Until the mark is set, nothing but files beside those that count is touched.
    let checked: Vec<(GuestName, Result<(), Problem>)> = chosen
        .iter()
        .map(|guest| {
            sink.emit(EventKind::Line { guest: Some(guest.name.clone()), text: "what is kept of it is checked".to_string() })?;
            let checked = host
                .check_saved(&shelf, &manifest, guest, operation.cancel)
                .and_then(|()| host.stage_disks(&shelf, &manifest, guest, operation.cancel));
            Ok((guest.name.clone(), checked))
        })
        .collect::<Result<_, Problem>>()?;
    if let Some((_, Err(problem))) = checked.iter().find(|(_, checked)| checked.is_err()) {
        let problem = problem.clone();
        *reports = checked.into_iter().map(|(guest, checked)| GuestReport::of(guest, checked.err())).collect();
        return Err(problem);
    }
    operation.cancel.check()?;
    let begun = host.shelf(deployment).restoring()?.filter(|begun| begun.name == wanted.name && begun.guests == wanted.guests);
    let replaced = match &begun {
        Some(begun) => begun.replaced.clone(),
        None => kept.digest()?,
    };
    host.begin_restoring(deployment, &Restoring { replaced, ..wanted.clone() })?;
    let after_mark = |problem: Problem| {
        problem.hint(format!("the restore of `{}` is not done: `testbed up` tries again, `testbed down` gives it up", wanted.name))
    };
    if !alone {
        put_file(driver, deployment, &manifest, kept).map_err(after_mark)?;
    }
    // What was there is given up from here on, so this goes on to its end whoever asks it to stop.
    let going = Cancel::new();
    let operation = Operation { cancel: &going, ..*operation };
    let say = |text: &str| {
        let _lost = sink.emit(EventKind::Line { guest: None, text: text.to_string() });
    };
    let context = Context { host: &host.config().host, deployment, operation: operation.uuid, cancel: &going, say: &say };
    host.replace_guests(&manifest, &chosen, &context).map_err(after_mark)?;
    let fleet = driver.fleet(Patience::UntilLost, &going);
    fleet.settle(&blueprint).map_err(after_mark)?;
    let folder = shelf.folder(&manifest.name);
    let lives = lives(&chosen, |file| folder.join(file));
    let back = Back { lives: &lives, alone, links: &manifest.links, down: &manifest.down };
    let (told, outcome) = restore(&fleet, &blueprint, &back, &operation);
    *reports = told;
    outcome.map_err(after_mark)?;
    fleet.settled(&blueprint)?;
    shelf.clear_restoring()
}

/// Whether a snapshot fits what it is restored into; what is worth knowing where it does.
fn fit(manifest: &Manifest, chosen: &[&SavedGuest], blueprint: &Blueprint, alone: bool, here: &HostName) -> Result<Vec<String>, Problem> {
    let mut warnings = Vec::new();
    for saved in chosen {
        let Some(guest) = blueprint.guests.iter().find(|guest| guest.name == saved.name) else {
            return Err(Problem::new(Code::Conflict, format!("the testbed file has no guest `{}` any more", saved.name))
                .hint("restore the whole testbed (`--all`), which brings its file back too"));
        };
        refuse_members(&[guest], here)?;
        if guest.domain.digest != saved.digest && alone {
            let message = format!("guest `{}` is defined in another way than when the snapshot `{}` was made", guest.name, manifest.name);
            return Err(Problem::new(Code::Conflict, message).hint("restore the whole testbed (`--all`), which brings its file back too"));
        }
        if guest.domain.digest != saved.digest {
            warnings.push(format!(
                "guest `{}` is not defined as it was, so the next `up` restarts it: a file that it names has changed",
                guest.name
            ));
        }
    }
    if !alone && manifest.rows != blueprint.rows {
        warnings.push("the logical network is not quite as it was: this server makes another of the same file".to_string());
    }
    Ok(warnings)
}

/// The snapshot's testbed file takes the place of the one that is given up, unless somebody put another there since.
fn put_file(driver: &LocalDriver, deployment: &DeploymentName, manifest: &Manifest, kept: &dyn Kept) -> Result<(), Problem> {
    match driver.host().shelf(deployment).restoring()? {
        Some(restoring) if kept.digest()? == restoring.replaced => kept.put(&manifest.testbed),
        _ => Ok(()),
    }
}

/// Before a `down` that gives a restore up: the file is the one that the guests' disks belong to.
pub fn put_restored(driver: &LocalDriver, deployment: &DeploymentName, restoring: &Restoring, kept: &dyn Kept) -> Result<(), Problem> {
    let manifest = match driver.host().shelf(deployment).read(&restoring.name) {
        Ok(manifest) => manifest,
        // A snapshot that is gone has no file to put back, and `down` must not fail for it.
        Err(problem) => {
            tracing::warn!(%deployment, %problem, "the file of a restore that is given up cannot be put back");
            return Ok(());
        }
    };
    if restoring.guests.is_empty() && manifest.whole { put_file(driver, deployment, &manifest, kept) } else { Ok(()) }
}

/// The snapshots of a deployment, by name.
pub fn list(driver: &LocalDriver, deployment: &DeploymentName) -> Result<Vec<SnapshotInfo>, Problem> {
    let shelf = driver.host().shelf(deployment);
    let broken = |name, bytes, problem: &Problem| SnapshotInfo {
        name,
        created: chrono::DateTime::UNIX_EPOCH,
        whole: false,
        memory: false,
        pause_ms: 0,
        bytes,
        guests: Vec::new(),
        fault: Some(problem.to_string()),
    };
    let infos = shelf.list()?.into_iter().map(|(name, manifest)| {
        let bytes = shelf.bytes(&name);
        manifest.map_or_else(|problem| broken(name.clone(), bytes, &problem), |manifest| manifest.info(bytes))
    });
    Ok(infos.collect())
}
