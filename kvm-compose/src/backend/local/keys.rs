//! A deployment's own SSH key: `ssh/id_ed25519` and `ssh/id_ed25519.pub` below its folder, made once, gone with the deployment.
//!
//! Must not know who logs in with it.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use super::LocalHost;
use crate::{
    error::{Code, Problem},
    names::DeploymentName,
    orchestrate::host::Cancel,
    process::Call,
};

/// What OpenSSH calls such a key.
const NAME: &str = "id_ed25519";
/// What stands in a plan where no key has been made yet.
const NONE_YET: &str = "ssh-ed25519 (made with the first up)";

impl LocalHost {
    /// The public key of a deployment, made now when there is none.
    pub(super) fn make_key(&self, deployment: &DeploymentName, cancel: &Cancel) -> Result<String, Problem> {
        make(&self.keys(deployment), deployment, cancel)
    }

    /// The public key of a deployment, or words in its place.
    pub(super) fn known_key(&self, deployment: &DeploymentName) -> Result<String, Problem> {
        Ok(read(&self.keys(deployment))?.unwrap_or_else(|| NONE_YET.to_string()))
    }

    fn keys(&self, deployment: &DeploymentName) -> PathBuf {
        self.deployments().join(deployment.as_str()).join("ssh")
    }
}

/// The public key, which is put in place after the private one: where it is, both are.
fn read(folder: &Path) -> Result<Option<String>, Problem> {
    let path = folder.join(NAME).with_extension("pub");
    match fs::read_to_string(&path) {
        Ok(text) if text.starts_with("ssh-ed25519 ") => Ok(Some(text.trim().to_string())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Problem::io(format!("reading {}", path.display()), &error)),
    }
}

fn make(folder: &Path, deployment: &DeploymentName, cancel: &Cancel) -> Result<String, Problem> {
    if let Some(key) = read(folder)? {
        return Ok(key);
    }
    let doing = |error: io::Error| Problem::io(format!("making the SSH key below {}", folder.display()), &error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(doing)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(doing)?;
    let new = tempfile::Builder::new().prefix(".new-").tempdir_in(folder).map_err(doing)?;
    let (private, public) = (new.path().join(NAME), new.path().join(NAME).with_extension("pub"));
    let file = private.to_str().ok_or_else(|| Problem::internal("a path that is not UTF-8"))?;
    let comment = format!("testbedos {deployment}");
    let argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", &comment, "-f", file];
    Call::new(argv, Duration::from_secs(30)).succeed("cannot make the deployment's SSH key", cancel).map_err(|problem| {
        match problem.code {
            Code::Cancelled => problem,
            _ => problem.hint("install OpenSSH's client programs on the server (`openssh-client`)"),
        }
    })?;
    for path in [&private, &public] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(doing)?;
        File::open(path).and_then(|file| file.sync_all()).map_err(doing)?;
        let name = path.file_name().map(|name| folder.join(name)).unwrap_or_default();
        fs::rename(path, name).map_err(doing)?;
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(doing)?;
    read(folder)?.ok_or_else(|| Problem::internal("ssh-keygen made no key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_half_a_pair_is_none() {
        let data = tempfile::tempdir().expect("a folder");
        let (folder, name, cancel) = (data.path().join("lab/ssh"), DeploymentName::new("lab").expect("valid"), Cancel::new());
        assert_eq!(read(&folder).expect("readable"), None);
        let key = make(&folder, &name, &cancel).expect("made");
        assert!(key.starts_with("ssh-ed25519 AAAA") && key.ends_with(" testbedos lab"), "{key}");
        assert_eq!(make(&folder, &name, &cancel).expect("there"), key);
        let mode = |name: &str| fs::metadata(folder.join(name)).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode("id_ed25519"), mode("id_ed25519.pub"), mode(".")), (0o600, 0o600, 0o700));
        assert_eq!(fs::read_dir(&folder).expect("readable").count(), 2);
        // The server died between the two.
        fs::remove_file(folder.join("id_ed25519.pub")).expect("removed");
        let other = make(&folder, &name, &cancel).expect("made anew");
        let argv = ["ssh-keygen", "-y", "-f", folder.join("id_ed25519").to_str().expect("text")].map(str::to_string);
        let said = Call::new(argv, Duration::from_secs(30)).succeed("its public half", &cancel).expect("a key");
        let said = String::from_utf8_lossy(&said.stdout).split_whitespace().nth(1).map(str::to_string).expect("a key");
        assert!(other.contains(&said) && other != key);
    }
}
