//! A domain held still, its memory written to a file, and started from such a file.
//!
//! libvirt writes the file as for an external snapshot of the memory alone (`virDomainSnapshotCreateXML`), of which it keeps no
//! record: the process goes on, and the file is one that `virDomainRestore` takes. Disks are none of its business: whoever holds
//! the domain still copies them. Must not know snapshots of a testbed.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use quick_xml::{Reader, escape::escape, events::Event};
use uuid::Uuid;
use virt::{connect::Connect, domain::Domain as Handle, domain_snapshot::DomainSnapshot, error::ErrorNumber, sys};

use super::{
    DomainState, Libvirt,
    connections::Fault,
    libvirt::{find, owned, state},
    words::{gone, problem},
};
use crate::{
    backend::Owner,
    error::{Code, Problem},
    orchestrate::host::Cancel,
    plan::blueprint::{Domain, OPERATION_MARK},
};

/// A call whose caller was killed goes on in libvirt, and nothing else is done to the domain before it ends.
const JOB_LIMIT: Duration = Duration::from_secs(180);

/// libvirt's words where another call still works on the domain.
const BUSY: &str = "cannot acquire state change lock";

impl Libvirt {
    /// Makes a domain stand still.
    pub fn freeze(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<(), Problem> {
        let hold = |connect: &Connect| {
            let handle = ours(connect, name, uuid, owner)?;
            if state(&handle)? == DomainState::Paused {
                return Ok(());
            }
            Ok(handle.suspend().map(|_| ())?)
        };
        self.saves.repeatable(hold).map_err(|fault| problem(format!("cannot pause domain `{name}`"), fault))
    }

    /// Lets a domain run that stands still. One that is off, gone, or runs already is left as it is.
    pub fn release(&self, name: &str, uuid: Uuid, owner: &Owner) -> Result<(), Problem> {
        let deadline = Instant::now() + JOB_LIMIT;
        let pause = Cancel::new();
        let release = |connect: &Connect| {
            let Some(handle) = find(connect, uuid)? else { return Ok(true) };
            owned(&handle, name, owner)?;
            if state(&handle)? != DomainState::Paused {
                return Ok(true);
            }
            match handle.resume() {
                Ok(_) => Ok(true),
                Err(error) if error.code() == ErrorNumber::OperationTimeout || error.message().contains(BUSY) => Ok(false),
                Err(error) if error.code() == ErrorNumber::OperationInvalid && state(&handle)? != DomainState::Paused => Ok(true),
                Err(error) => Err(error.into()),
            }
        };
        loop {
            let released = self.saves.repeatable(release).map_err(|fault| problem(format!("cannot resume domain `{name}`"), fault))?;
            if released {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let message = format!("domain `{name}` stands still: another call has been at work on it for {} s", JOB_LIMIT.as_secs());
                return Err(Problem::new(Code::Timeout, message).hint(format!("`virsh domjobinfo {name}` shows it")));
            }
            pause.wait(Duration::from_millis(100));
        }
    }

    /// Writes the memory of a domain that stands still to a new file, and leaves it so.
    pub fn save_memory(&self, name: &str, uuid: Uuid, owner: &Owner, to: &Path) -> Result<(), Problem> {
        let save = |connect: &Connect| {
            let handle = ours(connect, name, uuid, owner)?;
            let xml = snapshot_xml(to, &disks(&handle.get_xml_desc(0)?));
            DomainSnapshot::create_xml(&handle, &xml, sys::VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA)?;
            Ok(())
        };
        self.saves.once(save).map_err(|fault| full(problem(format!("cannot save the memory of domain `{name}`"), fault)))
    }

    /// Defines a domain and starts it from a file that [`Libvirt::save_memory`] wrote; it stands still. One that has a process
    /// already, as the same call made it, is success.
    pub fn load(&self, domain: &Domain, owner: &Owner, operation: Uuid, from: &Path) -> Result<(), Problem> {
        let xml = domain.xml.replace(OPERATION_MARK, &operation.to_string());
        let path = from.to_str().ok_or_else(|| Problem::internal(format!("the path `{}` is not UTF-8", from.display())))?;
        let load = |connect: &Connect| {
            if let Some(handle) = find(connect, domain.uuid)? {
                owned(&handle, &domain.name, owner)?;
                if state(&handle)?.is_active() {
                    return Ok(());
                }
            }
            Handle::define_xml(connect, &xml)?;
            Ok(Handle::domain_restore_flags(connect, path, None, sys::VIR_DOMAIN_SAVE_PAUSED)?)
        };
        let refused = |fault| {
            problem(format!("domain `{}` does not start from its saved memory", domain.name), fault)
                .hint("its log below /var/log/libvirt/qemu says more")
        };
        self.pace.make(|| self.saves.repeatable(load)).map_err(refused)
    }
}

fn ours(connect: &Connect, name: &str, uuid: Uuid, owner: &Owner) -> Result<Handle, Fault> {
    let handle = find(connect, uuid)?.ok_or_else(|| gone(name))?;
    owned(&handle, name, owner)?;
    Ok(handle)
}

fn full(problem: Problem) -> Problem {
    if problem.causes.iter().any(|cause| cause.contains("No space left")) {
        return Problem { code: Code::DiskFull, ..problem }.hint("free some space on the server's disk, or delete another snapshot");
    }
    problem
}

/// What libvirt is told: the memory goes into a file, and no disk is touched (it would put layers on all that it may write to).
fn snapshot_xml(memory: &Path, disks: &[String]) -> String {
    let memory = memory.display().to_string();
    let mut xml = format!("<domainsnapshot><memory snapshot='external' file='{}'/><disks>", escape(memory.as_str()));
    for disk in disks {
        xml.push_str(&format!("<disk name='{}' snapshot='no'/>", escape(disk.as_str())));
    }
    xml.push_str("</disks></domainsnapshot>");
    xml
}

/// The names of a domain's disks, such as `vda`.
fn disks(xml: &str) -> Vec<String> {
    let (mut reader, mut within, mut found) = (Reader::from_str(xml), false, Vec::new());
    loop {
        match reader.read_event() {
            Ok(Event::Start(element)) if element.local_name().as_ref() == "disk" => within = true,
            Ok(Event::End(element)) if element.local_name().as_ref() == "disk" => within = false,
            Ok(Event::Start(element) | Event::Empty(element)) if within && element.local_name().as_ref() == "target" => {
                let named = element.try_get_attribute("dev").ok().flatten();
                found.extend(named.map(|name| name.value.into_owned()));
            }
            Ok(Event::Eof) | Err(_) => return found,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_disk_is_touched() {
        let xml = "<domain><devices><disk type='file'><target dev='vda' bus='virtio'/></disk>
          <disk type='file' device='cdrom'><source file='/x'/><target dev='hda'/></disk>
          <interface><target dev='vnet0'/></interface></devices></domain>";
        assert_eq!(disks(xml), ["vda", "hda"]);
        let told = snapshot_xml(Path::new("/a/it's.memory"), &disks(xml));
        assert!(told.contains("file='/a/it&apos;s.memory'"), "{told}");
        assert_eq!(told.matches("snapshot='no'").count(), 2, "{told}");
        assert_eq!(told.matches("snapshot='external'").count(), 1, "{told}");
    }
}
