//! Where a deployment's testbed file is, and how it gets there.
//!
//! The testbed file that the server was given (PUT `…/yaml`, or an upload) is the one that counts; without one it is
//! `kvm-compose.yaml` in `project_location`. Relative paths lead to `project_location`, or else to the server's own copy.
//! What came with the file (included files, variables, `--set`) is kept beside it; other files that it names are read in the
//! project's folder, and other variables are looked up in its `.env`, never in the server's own environment.

use std::{
    fs::File,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use kvm_compose::{
    api::{Composition, Draft},
    error::{Code, Problem},
    gather::{From, gather},
    names::{DeploymentName, GuestName},
    spec::{Sources, reader::suggestion},
    topology,
};

use super::{Operations, driver::Project};
use crate::{
    data::{make_folder, read_if_there},
    store::{self, atomic, records::to_json},
};

/// The testbed file's name.
pub const FILE: &str = "kvm-compose.yaml";

/// A larger testbed file is refused.
pub const LARGEST_FILE: u64 = kvm_compose::spec::node::MAX_BYTES as u64;

/// Larger files, variables and options together are refused.
pub const LARGEST_COMPOSITION: u64 = 2 * LARGEST_FILE;

impl Operations {
    /// The folder that relative paths of a deployment's testbed file lead to.
    pub fn project_folder(&self, name: &DeploymentName) -> Result<PathBuf, Problem> {
        let location = self.record(name)?.value.project_location.clone();
        Ok(location.map_or_else(|| self.data.project(name), PathBuf::from))
    }

    /// A deployment's testbed file, byte for byte. Fails with `not_found` when there is none yet.
    pub fn yaml(&self, name: &DeploymentName) -> Result<Vec<u8>, Problem> {
        let folder = self.project_folder(name)?;
        let own = self.data.project(name).join(FILE);
        if let Some(content) = read_testbed_file(&own)? {
            return Ok(content);
        }
        read_testbed_file(&folder.join(FILE))?.ok_or_else(|| {
            Problem::new(Code::NotFound, format!("deployment `{name}` has no testbed file"))
                .hint(format!("PUT it to /api/deployments/{name}/yaml (`testbed up` does), or put {FILE} into {}", folder.display()))
        })
    }

    /// A deployment's testbed file as text, and where it stands.
    pub fn project(&self, name: &DeploymentName) -> Result<Project, Problem> {
        let folder = self.project_folder(name)?;
        let file = self.file_name(name)?;
        let text = String::from_utf8(self.yaml(name)?)
            .map_err(|error| Problem::new(Code::InvalidFile, format!("`{file}` is not UTF-8 text")).cause(error.utf8_error()))?;
        Ok(whole(name, Sources { composition: self.composition(name)?, ..Sources::alone(&file, &text) }, folder))
    }

    /// A text as if it were the deployment's testbed file.
    pub fn project_with(&self, name: &DeploymentName, text: &str) -> Result<Project, Problem> {
        let folder = self.project_folder(name)?;
        let sources = Sources { composition: self.composition(name)?, ..Sources::alone(&self.file_name(name)?, text) };
        Ok(whole(name, sources, folder))
    }

    /// What messages call the testbed file.
    fn file_name(&self, name: &DeploymentName) -> Result<String, Problem> {
        Ok(self.record(name)?.value.file.clone().unwrap_or_else(|| FILE.to_string()))
    }

    /// What the testbed consists of beside its file.
    pub fn composition(&self, name: &DeploymentName) -> Result<Composition, Problem> {
        let path = self.data.composition(name);
        let Some(content) = read_if_there(&path)? else { return Ok(Composition::default()) };
        serde_json::from_slice(&content).map_err(|error| {
            Problem::new(Code::Storage, format!("{} cannot be read", path.display()))
                .cause(error)
                .hint("`testbed up` in the project's folder writes it anew")
        })
    }

    /// Keeps what the testbed consists of beside its file.
    pub fn keep_composition(&self, name: &DeploymentName, composition: &Composition) -> Result<(), Problem> {
        let path = self.data.composition(name);
        if !composition.is_empty() {
            make_folder(&self.data.deployment(name), 0o711)?;
            make_folder(&self.data.project(name), 0o711)?;
            return atomic::write(&path, &to_json(composition)?);
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Problem::io(format_args!("cannot remove {}", path.display()), &error))
            }
            _ => Ok(()),
        }
    }

    /// Refuses guests that the file does not have, before an `up` is on record as failed. What the file itself is worth is
    /// the action's to say.
    pub fn check_guests(&self, name: &DeploymentName, guests: &[GuestName]) -> Result<(), Problem> {
        if guests.is_empty() {
            return Ok(());
        }
        let Ok(project) = self.project(name) else { return Ok(()) };
        let Some(topology) = topology::understood(&project.sources, name) else { return Ok(()) };
        let known: Vec<&str> = topology.guests.iter().map(|guest| guest.name.as_str()).collect();
        match guests.iter().find(|guest| !known.contains(&guest.as_str())) {
            None => Ok(()),
            Some(unknown) => {
                let near = suggestion(unknown.as_str(), &known).map_or_else(String::new, |near| format!("{near} "));
                Err(Problem::new(Code::NotFound, format!("`{}` has no guest `{unknown}`", project.sources.file))
                    .hint(format!("{near}guests: {}", known.join(", "))))
            }
        }
    }

    /// A testbed file that is only looked at, as if it were the deployment's, which need not exist.
    pub fn draft_project(&self, name: &DeploymentName, draft: &Draft) -> Result<Project, Problem> {
        let folder = match (&draft.project_location, self.project_folder(name)) {
            (Some(location), _) => PathBuf::from(location),
            (None, Err(problem)) if problem.code == Code::NotFound => self.data.project(name),
            (None, folder) => folder?,
        };
        let file = draft.file.as_deref().unwrap_or(FILE);
        Ok(whole(name, Sources { composition: draft.composition.clone(), ..Sources::alone(file, &draft.text) }, folder))
    }

    /// Refuses bytes that cannot be a deployment's testbed file, or a deployment that is not there.
    pub fn check_yaml(&self, name: &DeploymentName, content: &[u8]) -> Result<(), Problem> {
        self.record(name)?;
        if content.len() as u64 > LARGEST_FILE {
            return Err(Problem::new(Code::TooLarge, format!("the testbed file is larger than {LARGEST_FILE} bytes")));
        }
        Ok(())
    }

    /// Takes the bytes as the deployment's testbed file, which messages call `file`. They are not read before they are used.
    pub fn put_yaml(&self, name: &DeploymentName, content: &[u8], file: Option<String>) -> Result<(), Problem> {
        self.check_yaml(name, content)?;
        make_folder(&self.data.deployment(name), 0o711)?;
        make_folder(&self.data.project(name), 0o711)?;
        atomic::write(&self.data.project(name).join(FILE), content)?;
        self.name_file(name, file)
    }

    /// Takes note of what messages call the testbed file.
    pub fn name_file(&self, name: &DeploymentName, file: Option<String>) -> Result<(), Problem> {
        let file = file.filter(|file| file != FILE);
        if self.record(name)?.value.file == file {
            return Ok(());
        }
        store::update(&*self.store.deployments, name, |record| record.file.clone_from(&file)).map(|_| ())
    }
}

/// The project with everything that its files name.
pub(super) fn whole(name: &DeploymentName, sources: Sources, folder: PathBuf) -> Project {
    // The server's own environment is nobody's business.
    let sources = gather(sources, &From { folder: &folder, environment: &|_| None });
    Project { deployment: name.clone(), sources, folder }
}

/// Refuses a draft that cannot be used, whatever its text says.
pub fn check_draft(draft: &Draft) -> Result<(), Problem> {
    check_location(draft.project_location.as_deref())?;
    check_file_name(draft.file.as_deref())?;
    if draft.text.len() as u64 > LARGEST_FILE {
        return Err(Problem::new(Code::TooLarge, format!("the testbed file is larger than {LARGEST_FILE} bytes")));
    }
    if draft.composition.size() as u64 > LARGEST_COMPOSITION {
        let message = format!("what the testbed consists of beside its file is larger than {LARGEST_COMPOSITION} bytes");
        return Err(Problem::new(Code::TooLarge, message));
    }
    Ok(())
}

/// Refuses a testbed file's name that does not fit into a message. It is shown, never opened.
pub fn check_file_name(name: Option<&str>) -> Result<(), Problem> {
    let good = |name: &str| (1..=4096).contains(&name.len()) && !name.contains(char::is_control);
    if name.is_none_or(good) {
        return Ok(());
    }
    Err(Problem::new(Code::BadRequest, "`file` must be the testbed file's name: 1 to 4096 bytes, no control characters"))
}

/// Refuses a project's folder that is not a plain absolute path.
pub fn check_location(location: Option<&str>) -> Result<(), Problem> {
    let Some(location) = location else { return Ok(()) };
    let path = Path::new(location);
    let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    if path.is_absolute() && plain && !location.contains(|c: char| c.is_control()) {
        return Ok(());
    }
    Err(Problem::new(Code::BadRequest, "`project_location` must be an absolute path without `..`"))
}

/// A testbed file's content, or nothing when it is not there.
fn read_testbed_file(path: &Path) -> Result<Option<Vec<u8>>, Problem> {
    let failed = |error: std::io::Error| Problem::io(format_args!("cannot read {}", path.display()), &error);
    // Opening a pipe must not wait for its writer.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = match File::options().read(true).custom_flags(nonblocking).open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Problem::new(Code::InvalidFile, format!("{} is not a regular file", path.display())));
    }
    let mut content = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > LARGEST_FILE {
        return Err(Problem::new(Code::InvalidFile, format!("{} is larger than {LARGEST_FILE} bytes", path.display())));
    }
    Ok(Some(content))
}
