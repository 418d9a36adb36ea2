//! The data folder: where everything lies, who may read it, and the lock that keeps a second server off it.
//!
//! Must not know what is in the files beyond the installation's id and the token.

use std::{
    fs::{self, File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use kvm_compose::{
    error::{Code, Problem},
    names::{DeploymentName, InstallationId},
    project,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::store::{atomic, records::to_json, reserve::Reserve};

/// The data folder of one server.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
}

/// Holds the data folder for this process; dropping it lets another server in.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataDir {
    /// A data folder that is not touched yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        DataDir { root: root.into() }
    }

    /// Makes the folders and takes the lock. Fails with `conflict`, naming the other server's process.
    pub fn open(&self) -> Result<DataLock, Problem> {
        // QEMU runs as another user and must reach images and disks: it may pass through, not list. What is secret is ours alone.
        make_folder(&self.root, 0o711)?;
        make_folder(&self.deployments(), 0o711)?;
        for private in [self.config(), self.keys(), self.logs(), self.orchestration(), self.run()] {
            make_folder(&private, 0o700)?;
        }
        self.lock()
    }

    fn lock(&self) -> Result<DataLock, Problem> {
        let path = self.root.join("lock");
        let failed = |error: std::io::Error| Problem::io(format_args!("cannot lock {}", path.display()), &error);
        let mut file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                // A server that cannot start on a full disk could not take anything down either.
                Reserve::of(&self.root).give_up_if_low();
                file.set_len(0).map_err(failed)?;
                file.rewind().map_err(failed)?;
                writeln!(file, "{}", std::process::id()).map_err(failed)?;
                Ok(DataLock { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                file.read_to_string(&mut owner).map_err(failed)?;
                let owner = owner.trim();
                Err(Problem::new(Code::Conflict, format!("another server (process {owner}) uses the data folder {}", self.root.display()))
                    .hint("stop it, or give this one a folder of its own with --data-dir"))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Settings and what the server knows of itself.
    pub fn config(&self) -> PathBuf {
        self.root.join("config")
    }

    /// Files that extend the image catalogue: the machine's, then the server's own.
    pub fn catalogues(&self) -> Vec<PathBuf> {
        let folders = [PathBuf::from(project::MACHINE_CONFIG), self.config()];
        folders.into_iter().map(|folder| folder.join(project::CATALOGUE_FILE)).collect()
    }

    /// Records, and one folder per deployment.
    pub fn deployments(&self) -> PathBuf {
        self.root.join("deployments")
    }

    /// A deployment's own folder.
    pub fn deployment(&self, name: &DeploymentName) -> PathBuf {
        self.deployments().join(name.as_str())
    }

    /// The server's own copy of a deployment's project.
    pub fn project(&self, name: &DeploymentName) -> PathBuf {
        self.deployment(name).join("project")
    }

    /// What a deployment's testbed consists of beside its file; its variables may hold secrets. A new project has it not.
    pub fn composition(&self, name: &DeploymentName) -> PathBuf {
        self.project(name).join(".composition.json")
    }

    /// Keys and the token.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// The server's own log.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Logs and journals of actions.
    pub fn orchestration(&self) -> PathBuf {
        self.logs().join("orchestration")
    }

    /// What holds only while the server runs: where it listens.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// This installation's id, made on first use.
    pub fn installation(&self) -> Result<InstallationId, Problem> {
        #[derive(Serialize, Deserialize)]
        struct Installation {
            id: InstallationId,
        }
        let path = self.config().join("installation.json");
        if let Some(content) = read_if_there(&path)? {
            // Never replaced when it cannot be read: with another id the server would no longer know its own guests.
            let found: Installation = serde_json::from_slice(&content).map_err(|error| {
                Problem::new(Code::Storage, format!("{} cannot be read", path.display()))
                    .cause(error)
                    .hint("restore it from a copy: everything this server made carries the id in it")
            })?;
            return Ok(found.id);
        }
        let made = Installation { id: InstallationId(Uuid::new_v4()) };
        atomic::write(&path, &to_json(&made)?)?;
        Ok(made.id)
    }

    /// The token that TCP clients must show, made on first use: 256 random bits.
    pub fn token(&self) -> Result<String, Problem> {
        let path = self.keys().join("api-token");
        if let Some(content) = read_if_there(&path)? {
            let token = String::from_utf8_lossy(&content).trim().to_string();
            if token.len() >= 32 {
                return Ok(token);
            }
            return Err(Problem::new(Code::Storage, format!("{} holds no token", path.display()))
                .hint("remove it, and the next start makes a new one"));
        }
        let token = format!("tbed_{}", crate::auth::secret::random()?);
        atomic::write(&path, format!("{token}\n").as_bytes())?;
        Ok(token)
    }
}

/// Makes a folder (and those above it) with exactly these permissions, whatever the umask.
pub fn make_folder(path: &Path, mode: u32) -> Result<(), Problem> {
    let failed = |error: std::io::Error| Problem::io(format_args!("cannot make the folder {}", path.display()), &error);
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
}

/// A file's content, or nothing when there is no such file.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, Problem> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Problem::io(format_args!("cannot read {}", path.display()), &error)),
    }
}
