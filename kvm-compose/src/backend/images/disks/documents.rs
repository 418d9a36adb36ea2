//! Folders and small documents of the store: either the old or the new is there.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::error::Problem;

/// The files in a folder; none when there is no folder.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let doing = |error: &std::io::Error| Problem::io(format!("reading the folder {}", folder.display()), error);
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(|error| doing(&error))).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(doing(&error)),
    }
}

/// A document of ours; one that does not parse is as good as none, and said in the server's log.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Problem> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Problem::io(format!("reading {}", path.display()), &error)),
    };
    Ok(serde_json::from_slice(&text)
        .inspect_err(|error| tracing::warn!(file = %path.display(), %error, "not what this program writes"))
        .ok())
}

/// Replaces a document: either the old or the new is there.
pub fn write_json(path: &Path, content: &impl Serialize) -> Result<(), Problem> {
    let doing = |error: std::io::Error| Problem::io(format!("writing {}", path.display()), &error);
    let json = serde_json::to_vec_pretty(content).map_err(|error| Problem::internal("a description is not JSON").cause(error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder).map_err(doing)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(doing)?;
    file.write_all(&json).and_then(|()| file.as_file().sync_all()).map_err(doing)?;
    file.persist(path).map_err(|error| doing(error.error))?;
    sync(folder)
}

/// Makes the names in a folder durable.
pub fn sync(folder: &Path) -> Result<(), Problem> {
    fs::File::open(folder).and_then(|file| file.sync_all()).map_err(|error| Problem::io(format!("writing {}", folder.display()), &error))
}
