//! Where a deployment's testbed file is, and how it gets there.
//!
//! The testbed file that the server was given (PUT `…/yaml`, or an upload) is the one that counts; without one it is
//! `kvm-compose.yaml` in `project_location`. Relative paths lead to `project_location`, or else to the server's own copy.

use std::{
    fs::File,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use kvm_compose::{
    error::{Code, Problem},
    names::DeploymentName,
};

use super::{Operations, driver::Project};
use crate::{data::make_folder, store::atomic};

/// The testbed file's name.
pub const FILE: &str = "kvm-compose.yaml";

/// A larger testbed file is refused.
pub const LARGEST_FILE: u64 = kvm_compose::spec::node::MAX_BYTES as u64;

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
        let text = String::from_utf8(self.yaml(name)?)
            .map_err(|error| Problem::new(Code::InvalidFile, format!("`{FILE}` is not UTF-8 text")).cause(error.utf8_error()))?;
        Ok(Project { deployment: name.clone(), file: FILE.to_string(), text, folder })
    }

    /// Takes the bytes as the deployment's testbed file. They are not read before they are used.
    pub fn put_yaml(&self, name: &DeploymentName, content: &[u8]) -> Result<(), Problem> {
        self.record(name)?;
        if content.len() as u64 > LARGEST_FILE {
            return Err(Problem::new(Code::TooLarge, format!("the testbed file is larger than {LARGEST_FILE} bytes")));
        }
        make_folder(&self.data.deployment(name), 0o711)?;
        make_folder(&self.data.project(name), 0o711)?;
        atomic::write(&self.data.project(name).join(FILE), content)
    }
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
