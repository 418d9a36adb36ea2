//! Snapshots of guests on this host: made while all stand still, checked, put back.
//!
//! ```text
//! mark on disk ─► all pause ─► memory and disks are written, in parallel ─► all go on ─► sums, manifest, name
//! ```
//!
//! Whatever fails, whoever was paused goes on; whoever dies leaves the mark. Must not know the testbed file.

mod back;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use parking_lot::Mutex;
use uuid::Uuid;

use super::LocalHost;
use crate::{
    api::snapshot::{GuestReport, SavedState},
    backend::{
        Owner,
        containers::commit::REPOSITORY,
        snapshots::{self, Held, Making, Shelf},
    },
    error::{Code, Problem},
    names::{DeploymentName, GuestName},
    orchestrate::{Operation, event::EventKind, host::Cancel},
    plan::{
        blueprint::GuestBlueprint,
        container::Runtime,
        observed::Observed,
        snapshot::{Manifest, SavedDisk, SavedGuest, SavedImage},
    },
};

/// How many guests' files are written at once; more gain nothing from one disk.
const WRITERS: usize = 4;
/// How many guests are paused or resumed at once.
const HANDS: usize = 16;

/// What is to be made.
pub struct Take<'a> {
    /// All but the guests and the pause.
    pub manifest: Manifest,
    /// The guests, as they are wanted.
    pub guests: Vec<&'a GuestBlueprint>,
    /// As they are.
    pub observed: &'a Observed,
}

/// A guest of a snapshot in the making.
struct Subject<'a> {
    guest: &'a GuestBlueprint,
    state: SavedState,
    /// The tag of the image that takes its files.
    tag: Option<String>,
}

/// Guests that stand still, until this is dropped.
struct Still<'a> {
    host: &'a LocalHost,
    owner: &'a Owner,
    held: &'a [Held],
    done: bool,
}

impl Still<'_> {
    fn end(&mut self) -> Result<(), Problem> {
        self.done = true;
        self.host.release_all(self.held, self.owner)
    }
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        if !self.done
            && let Err(problem) = self.end()
        {
            tracing::error!(%problem, causes = ?problem.causes, "a guest still stands still after its snapshot failed");
        }
    }
}

impl LocalHost {
    /// The snapshots of a deployment.
    pub fn shelf(&self, deployment: &DeploymentName) -> Shelf {
        Shelf::new(&self.deployments(), deployment)
    }

    /// Makes a snapshot. Returns what became of each guest beside what became of the whole.
    pub fn take_snapshot(&self, take: Take<'_>, operation: &Operation<'_>) -> (Vec<GuestReport>, Result<Manifest, Problem>) {
        let deployment = take.manifest.deployment.clone();
        let (shelf, owner) = (self.shelf(&deployment), self.owner(&deployment));
        let subjects: Vec<Subject<'_>> = take.guests.iter().map(|guest| subject(guest, take.observed, operation.uuid)).collect();
        let making = making(&subjects);
        let unharmed = |subjects: &[Subject<'_>]| subjects.iter().map(|one| GuestReport::of(one.guest.name.clone(), None)).collect();
        let part = match self.room(&subjects, take.manifest.memory).and_then(|()| shelf.begin(&take.manifest.name, &making)) {
            Ok(part) => part,
            Err(problem) => return (unharmed(&subjects), Err(problem)),
        };
        let faults = Mutex::new(Vec::new());
        let outcome = self.fill(&part, take.manifest, &subjects, &making, &owner, operation, &faults);
        let faults = faults.into_inner();
        let problem_of =
            |guest: &GuestName| faults.iter().find(|(name, _)| name == guest).map(|(_, problem): &(_, Problem)| problem.clone());
        let reports = subjects.iter().map(|one| GuestReport::of(one.guest.name.clone(), problem_of(&one.guest.name))).collect();
        let outcome = outcome.and_then(|manifest| shelf.finish(&manifest).map(|()| manifest)).inspect_err(|_| {
            // What could not be cleared is cleared before the next action.
            let cleared = self.drop_images(&making.images).and_then(|()| shelf.clear(&part));
            if let Err(problem) = cleared {
                tracing::warn!(%problem, "half a snapshot is left until the next action");
            }
        });
        (reports, outcome)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one snapshot in the making")]
    fn fill(
        &self,
        part: &Path,
        manifest: Manifest,
        subjects: &[Subject<'_>],
        making: &Making,
        owner: &Owner,
        operation: &Operation<'_>,
        faults: &Mutex<Vec<(GuestName, Problem)>>,
    ) -> Result<Manifest, Problem> {
        let (sink, cancel) = (operation.sink, operation.cancel);
        let step = |one: &Subject<'_>| format!("save/{}", one.guest.name);
        subjects.iter().try_for_each(|one| sink.emit(EventKind::StepStarted { step: step(one) }))?;
        cancel.check()?;
        let began = Instant::now();
        let mut still = Still { host: self, owner, held: &making.held, done: false };
        let pause = |held: &Held| match held.runtime {
            Runtime::Docker => self.docker.freeze(&held.name, held.uuid, owner),
            Runtime::Libvirt => self.libvirt.freeze(&held.name, held.uuid, owner),
        };
        let note = |guest: &GuestName, result: Result<(), Problem>| {
            result.inspect_err(|problem| faults.lock().push((guest.clone(), problem.clone())))
        };
        each(&making.held, HANDS, |held| note(&held.guest, pause(held)))?;
        let paused_ms = began.elapsed().as_millis();
        let written = each(subjects, WRITERS, |one| note(&one.guest.name, self.write_guest(part, one, manifest.memory, owner, cancel)));
        let released = still.end();
        let pause_ms = if making.held.is_empty() { 0 } else { began.elapsed().as_millis() as u64 };
        written.and(released)?;
        if !making.held.is_empty() {
            let text = format!("guests stood still for {pause_ms} ms (all of them after {paused_ms} ms)");
            sink.emit(EventKind::Line { guest: None, text })?;
        }
        let saved = Mutex::new(Vec::new());
        each(subjects, WRITERS, |one| {
            let counted = self.saved(part, one, manifest.memory, cancel).map(|guest| saved.lock().push(guest));
            note(&one.guest.name, counted)?;
            sink.emit(EventKind::StepDone { step: step(one), millis: began.elapsed().as_millis() as u64 })
        })?;
        let mut guests = saved.into_inner();
        guests.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Manifest { guests, pause_ms, ..manifest })
    }

    /// Writes what is kept of one guest, which stands still or is off.
    fn write_guest(&self, part: &Path, one: &Subject<'_>, memory: bool, owner: &Owner, cancel: &Cancel) -> Result<(), Problem> {
        let domain = &one.guest.domain;
        if let Some(tag) = &one.tag {
            return self.docker.commit(&domain.name, tag).map(|_| ());
        }
        if one.has_memory(memory) {
            self.libvirt.save_memory(&domain.name, domain.uuid, owner, &part.join(memory_file(&one.guest.name)))?;
        }
        // A machine that stands still has flushed its disks.
        one.guest.volumes.iter().try_for_each(|volume| snapshots::copy(&volume.path, &part.join(disk_file(&volume.path)?), cancel))
    }

    /// What was written of one guest, counted and on the disk for good.
    fn saved(&self, part: &Path, one: &Subject<'_>, memory: bool, cancel: &Cancel) -> Result<SavedGuest, Problem> {
        let sum = |file: &Path| snapshots::sum(&part.join(file), true, cancel);
        let mut disks = Vec::new();
        for volume in &one.guest.volumes {
            let file = disk_file(&volume.path)?;
            disks.push(SavedDisk { disk: file.clone(), content: sum(&file)? });
        }
        let image = match &one.tag {
            Some(tag) => {
                let name = format!("{REPOSITORY}:{tag}");
                let id = self.docker.image(&name)?.ok_or_else(|| Problem::new(Code::Docker, format!("the image `{name}` is gone")))?;
                Some(SavedImage { name, id })
            }
            None => None,
        };
        Ok(SavedGuest {
            name: one.guest.name.clone(),
            runtime: one.guest.domain.runtime(),
            state: one.state,
            digest: one.guest.domain.digest.clone(),
            memory: if one.has_memory(memory) { Some(sum(&memory_file(&one.guest.name))?) } else { None },
            disks,
            image,
        })
    }

    /// Refuses, with numbers, what the disk cannot hold.
    fn room(&self, subjects: &[Subject<'_>], memory: bool) -> Result<(), Problem> {
        use std::os::unix::fs::MetadataExt as _;
        let disks = |one: &Subject<'_>| -> u64 {
            let found = one.guest.volumes.iter().filter_map(|volume| std::fs::metadata(&volume.path).ok());
            found.map(|found| found.blocks() * 512).sum()
        };
        let memory = |one: &Subject<'_>| if one.has_memory(memory) { one.guest.domain.memory_mb << 20 } else { 0 };
        let needed: u64 = subjects.iter().map(|one| disks(one) + memory(one)).sum();
        self.refuse_full(needed)
    }

    fn refuse_full(&self, needed: u64) -> Result<(), Problem> {
        let folder = self.deployments();
        let found = rustix::fs::statvfs(&folder)
            .map_err(|error| Problem::io(format!("cannot look at `{}`", folder.display()), &std::io::Error::from(error)))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if needed < free {
            return Ok(());
        }
        let message = format!("it may take {} MiB, and the server's disk has {} MiB free", needed.div_ceil(1 << 20), free >> 20);
        Err(Problem::new(Code::DiskFull, message).hint("free some space, or delete a snapshot that is not needed"))
    }

    fn release_all(&self, held: &[Held], owner: &Owner) -> Result<(), Problem> {
        each(held, HANDS, |held| match held.runtime {
            Runtime::Docker => self.docker.release(&held.name, held.uuid, owner),
            Runtime::Libvirt => self.libvirt.release(&held.name, held.uuid, owner),
        })
    }

    fn drop_images(&self, images: &[String]) -> Result<(), Problem> {
        images.iter().try_for_each(|image| self.docker.remove_image(image))
    }
}

impl Subject<'_> {
    fn has_memory(&self, memory: bool) -> bool {
        memory && self.state != SavedState::Off && self.guest.domain.runtime() == Runtime::Libvirt
    }
}

fn subject<'a>(guest: &'a GuestBlueprint, observed: &Observed, operation: Uuid) -> Subject<'a> {
    let there = observed.domains.iter().find(|domain| domain.guest == guest.name);
    let state = match there {
        Some(domain) if domain.active && domain.state == "paused" => SavedState::Paused,
        Some(domain) if domain.active => SavedState::Running,
        _ => SavedState::Off,
    };
    let tag = (guest.domain.runtime() == Runtime::Docker && there.is_some()).then(|| format!("{operation}-{}", guest.name));
    Subject { guest, state, tag }
}

fn making(subjects: &[Subject<'_>]) -> Making {
    let held = |one: &Subject<'_>| Held {
        guest: one.guest.name.clone(),
        name: one.guest.domain.name.clone(),
        uuid: one.guest.domain.uuid,
        runtime: one.guest.domain.runtime(),
    };
    Making {
        held: subjects.iter().filter(|one| one.state == SavedState::Running).map(held).collect(),
        images: subjects.iter().filter_map(|one| one.tag.as_ref()).map(|tag| format!("{REPOSITORY}:{tag}")).collect(),
    }
}

fn memory_file(guest: &GuestName) -> PathBuf {
    PathBuf::from(format!("{guest}.memory"))
}

fn disk_file(volume: &Path) -> Result<PathBuf, Problem> {
    let name = volume.file_name().ok_or_else(|| Problem::internal(format!("the disk `{}` has no name", volume.display())))?;
    Ok(PathBuf::from(name))
}

/// Does something with each, so many at once, past failures; fails with the first failure.
fn each<T: Sync>(all: &[T], at_once: usize, work: impl Fn(&T) -> Result<(), Problem> + Sync) -> Result<(), Problem> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let hand = || {
        while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(problem) = work(one) {
                failed.lock().get_or_insert(problem);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..at_once.min(all.len()) {
            scope.spawn(hand);
        }
        hand();
    });
    failed.into_inner().map_or(Ok(()), Err)
}
