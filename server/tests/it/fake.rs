//! A driver without a machine: the testbed file is a little script of what it does, the world is a folder of files.
//!
//! `steps N` make N things · `lines N` say N lines · `wait FILE` until that file is there (or the action is cancelled) ·
//! `fail` · `panic` · `slow MS` for each step.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use kvm_compose::{
    api::{
        CatalogueEntry, CheckResult, ExecRequest, ImageInfo, Phase, PlanDocument, RemovedImages, SnapshotInfo, SnapshotRequest, UpOptions,
        WhyAnswer, WhyRequest,
        link::{LinkDirection, LinkReport, SetLink},
        snapshot::GuestReport,
    },
    backend::{
        images::disks::{Disks, Import, Settings, spool::Spool},
        local::ExecResult,
        snapshots::Restoring,
    },
    capture::{self, Frame},
    catalogue::{Catalogue, Image},
    error::{Code, Problem},
    guest::output::Say,
    names::{DeploymentName, GuestName, SnapshotName},
    orchestrate::{
        Operation,
        event::{EventKind, OutputStream},
        host::Cancel,
    },
    plan::snapshot::SavedTestbed,
    topology::{self, Topology},
};
use testbedos_server::operations::{
    driver::{CaptureLimits, Console, Driver, Project, View},
    snapshots::{Kept, driver::Ended},
};

pub struct Fake {
    pub world: PathBuf,
    /// Images are real ones: the store is the library's own, below the world's folder.
    disks: Disks,
}

impl Fake {
    pub fn over(world: PathBuf) -> Arc<dyn Driver> {
        let settings = Settings { stall: Duration::from_millis(700), largest_bytes: 8 << 20, ..Settings::default() };
        let disks = Disks::new(&world.with_file_name("images"), settings);
        Arc::new(Fake { world, disks })
    }

    /// What `images.toml` beside the world says.
    fn catalogue_of_tests(&self) -> Result<Catalogue, Problem> {
        let text = fs::read_to_string(self.world.with_file_name("images.toml")).unwrap_or_default();
        Catalogue::built_in()?.extended(&text, "images.toml")
    }

    fn snapshots_of(&self, name: &DeploymentName) -> PathBuf {
        self.world.join(format!("{name}.snapshots"))
    }

    fn folder(&self, name: &DeploymentName) -> PathBuf {
        self.world.join(name.as_str())
    }
}

/// A console that says what it is told, until it is told `exit`.
struct Echo {
    says: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    said: Mutex<mpsc::Receiver<Vec<u8>>>,
}

impl Console for Echo {
    fn read(&self, buffer: &mut [u8]) -> usize {
        let said = self.said.lock().expect("one reader").recv().unwrap_or_default();
        if said == b"exit" {
            return 0;
        }
        buffer[..said.len()].copy_from_slice(&said);
        said.len()
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Problem> {
        let says = self.says.lock().expect("one writer");
        says.as_ref().and_then(|says| says.send(bytes.to_vec()).ok()).ok_or_else(|| Problem::internal("closed"))
    }

    fn close(&self) {
        self.says.lock().expect("closed once").take();
    }
}

fn words(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().map(|line| line.split_once(' ').unwrap_or((line, "")))
}

fn number(text: &str, word: &str) -> u64 {
    words(text).find(|(found, _)| *found == word).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

pub fn await_file(file: &str, cancel: &Cancel) -> Result<(), Problem> {
    while !std::path::Path::new(file).exists() {
        if cancel.wait(Duration::from_millis(2)) {
            return cancel.check();
        }
    }
    Ok(())
}

impl Driver for Fake {
    fn up(&self, project: &Project, _options: &UpOptions, operation: &Operation<'_>) -> Result<(), Problem> {
        let folder = self.folder(&project.deployment);
        fs::create_dir_all(&folder).expect("a world");
        let slow = Duration::from_millis(number(&project.sources.text, "slow"));
        for (word, value) in words(&project.sources.text) {
            operation.cancel.check()?;
            match word {
                "steps" => {
                    for step in 0..value.parse::<u64>().expect("a number") {
                        let step = format!("make-{step}");
                        operation.sink.emit(EventKind::StepStarted { step: step.clone() })?;
                        if operation.cancel.wait(slow) {
                            operation.cancel.check()?;
                        }
                        fs::write(folder.join(&step), b"").expect("a thing");
                        operation.sink.emit(EventKind::StepDone { step, millis: 0 })?;
                    }
                }
                "lines" => {
                    for line in 0..value.parse::<u64>().expect("a number") {
                        let text = format!("line {line} of what a script says, about a hundred characters long, as they often are in life");
                        operation.sink.emit(EventKind::Line { guest: None, text })?;
                    }
                }
                "wait" => await_file(value, operation.cancel)?,
                "fail" => return Err(Problem::new(Code::GuestNotReady, "it did not become ready")),
                "panic" => panic!("the driver panics as it was told"),
                _ => {}
            }
        }
        Ok(())
    }

    fn set_link(&self, _project: &Project, request: &SetLink, operation: &Operation<'_>) -> Result<(), Problem> {
        operation.sink.emit(EventKind::Line { guest: Some(request.guest.clone()), text: format!("{:?}", request.carrier) })
    }

    fn links(&self, _project: &Project, only: &dyn Fn(&GuestName, &str) -> bool, _probe: bool) -> Result<Vec<LinkReport>, Problem> {
        let link = |guest: &str, interface: &str| LinkReport {
            guest: GuestName::new(guest).expect("valid"),
            interface: interface.to_string(),
            host: "here".to_string(),
            port: uuid::Uuid::nil(),
            carrier: None,
            deviates: false,
            fault: None,
            to_guest: LinkDirection::default(),
            from_guest: LinkDirection::default(),
        };
        let links = [link("web", "eth0"), link("web", "eth1"), link("db", "eth0")];
        Ok(links.into_iter().filter(|link| only(&link.guest, &link.interface)).collect())
    }

    fn down(&self, deployment: &DeploymentName, operation: &Operation<'_>) -> Result<(), Problem> {
        let folder = self.folder(deployment);
        let Ok(things) = fs::read_dir(&folder) else { return Ok(()) };
        for thing in things {
            let path = thing.expect("a thing").path();
            let step = format!("remove-{}", path.file_name().expect("a name").to_string_lossy());
            operation.sink.emit(EventKind::StepStarted { step: step.clone() })?;
            fs::remove_file(path).expect("removed");
            operation.sink.emit(EventKind::StepDone { step, millis: 0 })?;
        }
        Ok(())
    }

    fn plan(&self, project: &Project, _options: &UpOptions, operation: &Operation<'_>) -> Result<PlanDocument, Problem> {
        for (word, value) in words(&project.sources.text) {
            match word {
                "wait" => await_file(value, operation.cancel)?,
                "fail" => return Err(Problem::new(Code::InvalidFile, "the file has faults")),
                _ => {}
            }
        }
        let deployment = project.deployment.clone();
        let seen = format!("{} in {}: {}", project.sources.file, project.folder.display(), project.sources.text);
        Ok(PlanDocument {
            deployment,
            offline: false,
            steps: Vec::new(),
            placement: Vec::new(),
            network: vec![seen],
            changes: Vec::new(),
            summary: String::new(),
        })
    }

    fn exec(&self, _: &DeploymentName, request: &ExecRequest, stdin: &[u8], cancel: &Cancel, say: Say<'_>) -> Result<ExecResult, Problem> {
        let word = |index: usize| request.argv.get(index).map_or("", String::as_str);
        let done = |status, stdout: Vec<u8>, stderr: &[u8]| {
            say(OutputStream::Stdout, &stdout);
            say(OutputStream::Stderr, stderr);
            Ok(ExecResult { status, stdout, stderr: stderr.to_vec(), truncated: false })
        };
        match word(0) {
            "wait" => {
                say(OutputStream::Stdout, b"first\nhalf");
                await_file(word(1), cancel)?;
                return done(0, b" a line\n".to_vec(), b"");
            }
            "big" => return done(0, vec![b'x'; word(1).parse().expect("a number")], b""),
            _ => {}
        }
        let status = if word(0) == "exit" { word(1).parse().expect("a status") } else { 0 };
        done(status, stdin.to_vec(), b"a warning\n")
    }

    fn topology(&self, project: &Project) -> Result<Topology, Problem> {
        Ok(topology::load_all(&project.sources, &project.deployment, &topology::Leases::new())?.topology)
    }

    fn why(&self, project: &Project, _: &WhyRequest, _: &Operation<'_>) -> Result<WhyAnswer, Problem> {
        Err(Problem::new(Code::Unsupported, format!("`{}` has no network", project.deployment)))
    }

    fn capture(
        &self,
        _project: &Project,
        wanted: &[(GuestName, Option<String>)],
        limits: &CaptureLimits,
        write: &mut dyn FnMut(Vec<u8>) -> bool,
    ) -> Result<(), Problem> {
        if wanted.iter().any(|(guest, _)| guest.as_str() == "off") {
            return Err(Problem::new(Code::Conflict, "guest `off` does not run"));
        }
        write(capture::beginning(&[], 100));
        let frame = Frame { port: 0, at: Duration::from_secs(1), length: 4, bytes: vec![1, 2, 3, 4] };
        for _ in 0..limits.frames.unwrap_or(u64::MAX) {
            if !write(capture::packet(&frame)) {
                fs::write(self.world.join("capture-ended"), b"").expect("a mark");
                return Ok(());
            }
        }
        write(capture::end(&[], frame.at));
        Ok(())
    }

    fn console(&self, _: &DeploymentName, guest: &GuestName) -> Result<(Arc<dyn Console>, Vec<u8>), Problem> {
        if guest.as_str() != "web" {
            return Err(Problem::new(Code::NotFound, "there is no such guest"));
        }
        let (says, said) = mpsc::channel();
        Ok((Arc::new(Echo { says: Mutex::new(Some(says)), said: Mutex::new(said) }), b"login: ".to_vec()))
    }

    fn said(&self, _: &DeploymentName, guest: &GuestName, last: Option<u32>) -> Result<Vec<u8>, Problem> {
        match (guest.as_str(), last) {
            ("web", Some(1)) => Ok(b"two\n".to_vec()),
            ("web", _) => Ok(b"one\ntwo\n".to_vec()),
            _ => Err(Problem::new(Code::NotFound, "there is no such guest")),
        }
    }

    fn observe(&self, deployment: &DeploymentName, project: Result<Project, Problem>) -> View {
        let wanted = project.as_ref().map_or(0, |project| number(&project.sources.text, "steps")) as usize;
        let there = fs::read_dir(self.folder(deployment)).map_or(0, Iterator::count);
        let phase = match there {
            0 => Phase::Down,
            _ if there == wanted => Phase::Up,
            _ => Phase::Partial,
        };
        let warnings = project.err().map(|problem| problem.to_string()).into_iter().collect();
        View { phase, guests: Vec::new(), rows_wanted: wanted, rows_observed: there, warnings }
    }

    fn take_snapshot(&self, project: &Project, request: &SnapshotRequest, _: &Operation<'_>) -> Ended<u64> {
        let folder = self.snapshots_of(&project.deployment);
        fs::create_dir_all(&folder).expect("a shelf");
        let guest = |problem| vec![GuestReport::of(GuestName::new("web").expect("valid"), problem)];
        if project.sources.text.contains("fail") {
            let problem = Problem::new(Code::DiskFull, "there is no room");
            return (guest(Some(problem.clone())), Err(problem));
        }
        fs::write(folder.join(request.name.as_str()), &project.sources.text).expect("kept");
        (guest(None), Ok(7))
    }

    /// A restore puts the file back and dies where it is told to, as a killed server does.
    fn restore_snapshot(&self, name: &DeploymentName, wanted: &Restoring, kept: &dyn Kept, _: &Operation<'_>) -> Ended<()> {
        let work = || -> Result<(), Problem> {
            let missing = |_| Problem::new(Code::NotFound, "there is no such snapshot");
            let text = fs::read_to_string(self.snapshots_of(name).join(wanted.name.as_str())).map_err(missing)?;
            let mark = self.world.join(format!("{name}.restoring"));
            let first = !mark.exists();
            fs::write(&mark, serde_json::to_vec(wanted).expect("JSON")).expect("a mark");
            let saved = SavedTestbed { text, file: "kvm-compose.yaml".to_string(), composition: Default::default() };
            kept.project(Some(&saved))?;
            kept.digest()?;
            kept.put(&saved)?;
            if first && wanted.name.as_str() == "stuck" {
                return Err(Problem::new(Code::Libvirt, "libvirt went away"));
            }
            fs::remove_file(&mark).expect("done");
            Ok(())
        };
        (Vec::new(), work())
    }

    fn restoring(&self, deployment: &DeploymentName) -> Result<Option<Restoring>, Problem> {
        let mark = fs::read(self.world.join(format!("{deployment}.restoring"))).ok();
        Ok(mark.map(|mark| serde_json::from_slice(&mark).expect("a mark")))
    }

    fn put_restored(&self, _: &DeploymentName, _: &Restoring, _: &dyn Kept) -> Result<(), Problem> {
        Ok(())
    }

    fn forget_restore(&self, deployment: &DeploymentName) -> Result<(), Problem> {
        fs::remove_file(self.world.join(format!("{deployment}.restoring"))).ok();
        Ok(())
    }

    fn delete_snapshot(&self, deployment: &DeploymentName, name: &SnapshotName) -> Result<(), Problem> {
        let missing = |_| Problem::new(Code::NotFound, format!("there is no snapshot `{name}`"));
        fs::remove_file(self.snapshots_of(deployment).join(name.as_str())).map_err(missing)
    }

    fn snapshots(&self, deployment: &DeploymentName) -> Result<Vec<SnapshotInfo>, Problem> {
        let files = fs::read_dir(self.snapshots_of(deployment)).into_iter().flatten().flatten();
        let mut names: Vec<String> = files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        let info = |name: String| SnapshotInfo {
            name: SnapshotName::new(&name).expect("valid"),
            created: chrono::DateTime::UNIX_EPOCH,
            whole: true,
            memory: true,
            pause_ms: 7,
            bytes: 1,
            guests: Vec::new(),
            fault: None,
        };
        Ok(names.into_iter().map(info).collect())
    }

    fn sweep_snapshots(&self, deployment: &DeploymentName) -> Result<Vec<String>, Problem> {
        let swept = fs::remove_file(self.world.join(format!("{deployment}.part"))).is_ok();
        Ok(swept.then(|| "a snapshot that was not finished is given up".to_string()).into_iter().collect())
    }

    fn checks(&self) -> Vec<CheckResult> {
        vec![CheckResult { part: "fake".into(), ok: true, required: true, detail: "as ever".into(), fix: None }]
    }

    fn marked(&self) -> Result<Vec<(String, DeploymentName)>, Problem> {
        let folders = fs::read_dir(&self.world).into_iter().flatten().filter_map(Result::ok);
        let names = folders.filter_map(|folder| DeploymentName::new(&folder.file_name().to_string_lossy()).ok());
        Ok(names.map(|name| (format!("folder {name}"), name)).collect())
    }

    fn images(&self) -> Result<Vec<ImageInfo>, Problem> {
        self.disks.list(&self.world)
    }

    fn catalogue(&self) -> Result<Vec<CatalogueEntry>, Problem> {
        let catalogue = self.catalogue_of_tests()?;
        let entry = |name: &str| match catalogue.find(name) {
            Some(Image::Published { url, user, .. }) => (Some(url.clone()), Some(user.clone())),
            _ => (None, None),
        };
        let entries = catalogue.names().into_iter().map(|name| {
            let (url, user) = entry(name);
            Ok(CatalogueEntry { name: name.to_string(), url, user, present: self.disks.find(name)?.is_some() })
        });
        entries.collect()
    }

    fn pull_image(&self, name: &str, operation: &Operation<'_>) -> Result<String, Problem> {
        let catalogue = self.catalogue_of_tests()?;
        self.disks.pull(name, catalogue.find(name).expect("asked before"), operation).map(|image| image.digest)
    }

    fn spool_image(&self) -> Result<Spool, Problem> {
        self.disks.spool()
    }

    fn import_image(&self, import: &Import, operation: &Operation<'_>) -> Result<String, Problem> {
        self.disks.import(import, operation).map(|image| image.digest)
    }

    fn remove_image(&self, name: &str) -> Result<RemovedImages, Problem> {
        self.disks.remove(name, &self.world, &Cancel::new())
    }

    fn prune_images(&self, _goldens_stay: bool) -> Result<RemovedImages, Problem> {
        self.disks.prune(&self.world, &Cancel::new())
    }

    fn build_micro(&self, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<String, Problem> {
        say("building");
        cancel.check()?;
        Ok("0".repeat(64))
    }
}
