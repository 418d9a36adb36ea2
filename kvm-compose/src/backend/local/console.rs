//! A guest's serial console, with what it said before anybody looked.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use super::LocalHost;
use crate::{
    backend::hypervisor::console::LibvirtConsole,
    error::Problem,
    names::{DeploymentName, GuestName, domain_name},
};

/// So much of what a console said before is shown to whoever opens it.
const PAST: u64 = 64 * 1024;

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

fn end_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(PAST)))?;
    let mut past = Vec::new();
    file.take(PAST).read_to_end(&mut past)?;
    Ok(past)
}
