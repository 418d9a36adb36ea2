//! Who ends the lab: a shell of its own, which waits for the end of a pipe that only this process holds. So the lab ends
//! with its owner even where that is killed.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use crate::{LabError, script};

#[derive(Debug)]
pub(crate) struct Owner {
    folder: PathBuf,
    shell: Child,
}

impl Owner {
    /// Before the first host is started: whatever happens then, somebody ends it.
    pub(crate) fn of(folder: PathBuf) -> Result<Owner, LabError> {
        // What comes through the pipe are arguments of `down`. A session of its own: a test runner kills whole groups.
        let shell = Command::new("setsid")
            .args(["sh", "-c", "words=$(cat); exec \"$0\" down $words"])
            .arg(script())
            .env("LAB_DIR", &folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Owner { folder, shell })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let keep = thread::panicking();
        if let Some(mut pipe) = self.shell.stdin.take()
            && keep
            && pipe.write_all(b"--keep").is_ok()
        {
            eprintln!("the hosts' files and logs are kept in {}", self.folder.display());
        }
        // The pipe is closed now, and the script's waits are bounded.
        match self.shell.wait() {
            Ok(status) if status.success() => {}
            outcome => eprintln!("the lab in {} may not have ended: {outcome:?}", self.folder.display()),
        }
    }
}
