//! A guest's serial console, with what it said before anybody looked.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use super::LocalHost;
use crate::{
    backend::hypervisor::console::LibvirtConsole,
    error::{Code, Problem},
    names::{DeploymentName, GuestName, domain_name},
};

/// So much of what a console said before is shown to whoever opens it.
const PAST: u64 = 64 * 1024;
/// So much of it is handed out at most.
const MOST: u64 = 64 << 20;

impl LocalHost {
    /// Opens a guest's serial console. Beside it comes the end of what it said before, from its log.
    pub fn console(&self, deployment: &DeploymentName, guest: &GuestName) -> Result<(LibvirtConsole, Vec<u8>), Problem> {
        self.refuse_console(deployment, guest)?;
        let uuid = self.config.installation.domain_uuid(deployment, guest);
        let name = domain_name(deployment, guest);
        let live = LibvirtConsole::open(&self.config.libvirt_uri, &name, uuid, &self.owner(deployment))?;
        let log = self.deployments().join(deployment.as_str()).join("console").join(format!("{guest}.log"));
        // Read after the console was opened: a few bytes may come twice, none is lost.
        let past = end_of(&log).unwrap_or_else(|error| {
            tracing::debug!(log = %log.display(), %error, "a console's log cannot be read");
            Vec::new()
        });
        Ok((live, past))
    }
}

impl LocalHost {
    /// What a guest has said, or its last lines: a machine on its serial console, a container on its standard output and
    /// standard error.
    pub fn said(&self, deployment: &DeploymentName, guest: &GuestName, last: Option<u32>) -> Result<Vec<u8>, Problem> {
        if let Some(said) = self.said_in_container(deployment, guest, last)? {
            return Ok(said);
        }
        let log = self.deployments().join(deployment.as_str()).join("console").join(format!("{guest}.log"));
        let said = File::open(&log).and_then(|mut file| {
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
            let mut said = Vec::new();
            file.take(MOST).read_to_end(&mut said)?;
            Ok(said)
        });
        match said {
            Ok(said) => Ok(match last {
                Some(last) => last_lines(&said, last),
                None => said,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Problem::new(Code::NotFound, format!("guest `{guest}` of deployment `{deployment}` has said nothing yet"))
                    .hint("`testbed ps` lists the guests; `testbed up` starts them"))
            }
            Err(error) => Err(Problem::io(format!("cannot read the log of guest `{guest}`"), &error)),
        }
    }
}

fn last_lines(text: &[u8], last: u32) -> Vec<u8> {
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    lines[lines.len().saturating_sub(last as usize)..].concat()
}

fn end_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(PAST)))?;
    let mut past = Vec::new();
    file.take(PAST).read_to_end(&mut past)?;
    Ok(past)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_are_whole_lines() {
        for (text, last, expected) in [("a\nb\nc\n", 2, "b\nc\n"), ("a\nb", 1, "b"), ("a\n", 5, "a\n"), ("a\n", 0, ""), ("", 3, "")] {
            assert_eq!(last_lines(text.as_bytes(), last), expected.as_bytes(), "{text:?}");
        }
    }
}
