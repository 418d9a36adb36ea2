//! Disks lent to running guests for a while: plugged in, told apart by their serial numbers, and taken back.
//!
//! They are never part of a definition, so a guest that is stopped has none. Must not know what is on them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use uuid::Uuid;
use virt::{connect::Connect, sys};

use super::{
    Libvirt,
    connections::Fault,
    libvirt::{find, owned},
    words::{gone, problem},
};
use crate::{
    backend::Owner,
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

/// What the serial numbers of lent disks begin with.
const PREFIX: &str = "tbc";
/// How long a guest may take to let go of a disk.
const RELEASE_LIMIT: Duration = Duration::from_secs(20);
/// How often it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// Names of disks from the end of the alphabet: a guest's own begin at the other.
const LETTERS: &str = "zyxwvutsrqponmlk";

/// Whom a disk is lent to.
#[derive(Debug, Clone, Copy)]
pub struct To<'a> {
    /// libvirt's name.
    pub name: &'a str,
    /// libvirt's UUID.
    pub uuid: Uuid,
    /// Whose it must be.
    pub owner: &'a Owner,
}

/// A serial number that no other disk has; virtio-blk takes 20 characters.
pub fn serial() -> String {
    format!("{PREFIX}{}", &Uuid::new_v4().simple().to_string()[..16])
}

impl Libvirt {
    /// Plugs a raw file into a running guest as a disk. What an earlier server lent and did not take back goes first.
    pub fn lend(&self, to: To<'_>, file: &Path, serial: &str, read_only: bool, is_lent: &dyn Fn(&str) -> bool) -> Result<(), Problem> {
        let path = file.to_str().ok_or_else(|| Problem::internal(format!("`{}` is not UTF-8", file.display())))?;
        let lend = |connect: &Connect| {
            let handle = find(connect, to.uuid)?.ok_or_else(|| gone(to.name))?;
            owned(&handle, to.name, to.owner)?;
            let xml = handle.get_xml_desc(0)?;
            for left in disks(&xml).filter(|disk| serial_of(disk).is_some_and(|serial| !is_lent(serial))) {
                if let Err(error) = handle.detach_device_flags(left, sys::VIR_DOMAIN_AFFECT_LIVE) {
                    tracing::debug!(domain = to.name, error = error.message(), "a disk of an earlier copy stays");
                }
            }
            if disks(&xml).any(|disk| serial_of(disk) == Some(serial)) {
                return Ok(());
            }
            let target = LETTERS.chars().map(|letter| format!("vd{letter}")).find(|target| !xml.contains(&format!("dev='{target}'")));
            let target = target.ok_or_else(|| Problem::new(Code::Busy, format!("too many copies from and to `{}` at once", to.name)))?;
            handle.attach_device_flags(&element(path, serial, &target, read_only), sys::VIR_DOMAIN_AFFECT_LIVE)?;
            Ok(())
        };
        self.lives.repeatable(lend).map_err(|fault| {
            let found = problem(format!("cannot lend a disk with the files to domain `{}`", to.name), fault);
            match found.causes.first().is_some_and(|cause| cause.contains("PCI")) && found.hint.is_none() {
                true => found.hint("the guest has no PCI slot left for it: restart it, or take a NIC away"),
                false => found,
            }
        })
    }

    /// Takes a lent disk back, and waits until the guest has let go of it. Absent already is success.
    pub fn take_back(&self, to: To<'_>, serial: &str) -> Result<(), Problem> {
        let deadline = Instant::now() + RELEASE_LIMIT;
        let (mut asked, unhurried): (Option<Instant>, _) = (None, Cancel::new());
        let mut pause = Duration::from_millis(20);
        loop {
            let ask = asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN);
            let step = |connect: &Connect| -> Result<bool, Fault> {
                let Some(handle) = find(connect, to.uuid)? else { return Ok(true) };
                let xml = handle.get_xml_desc(0)?;
                let Some(disk) = disks(&xml).find(|disk| serial_of(disk) == Some(serial)) else { return Ok(true) };
                if ask && let Err(error) = handle.detach_device_flags(disk, sys::VIR_DOMAIN_AFFECT_LIVE) {
                    // Under way already, or the guest is not able to yet: what is there decides, until the limit.
                    tracing::debug!(domain = to.name, error = error.message(), "a lent disk is not taken back yet");
                }
                Ok(false)
            };
            let words = || format!("cannot take a lent disk back from domain `{}`", to.name);
            if self.lives.repeatable(step).map_err(|fault| problem(words(), fault))? {
                return Ok(());
            }
            if ask {
                asked = Some(Instant::now());
            }
            if Instant::now() >= deadline {
                return Err(Problem::new(Code::Timeout, words()).cause(format!("waited {} s", RELEASE_LIMIT.as_secs())));
            }
            unhurried.wait(pause);
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}

/// A full disk of the host is the guest's own fault to report, never a reason to hold it.
fn element(path: &str, serial: &str, target: &str, read_only: bool) -> String {
    let (path, flag) = (quick_xml::escape::escape(path), if read_only { "<readonly/>" } else { "" });
    format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='unsafe' error_policy='report'/><source file='{path}'/>\
         <target dev='{target}' bus='virtio'/>{flag}<serial>{serial}</serial></disk>"
    )
}

/// A domain's disks, as libvirt writes them.
fn disks(xml: &str) -> impl Iterator<Item = &str> {
    let starts = xml.match_indices("<disk ").map(|(at, _)| at);
    starts.filter_map(|at| {
        let rest = &xml[at..];
        rest.find("</disk>").map(|end| &rest[..end + "</disk>".len()])
    })
}

/// The serial number of a disk that is lent.
fn serial_of(disk: &str) -> Option<&str> {
    let serial = disk.split("<serial>").nth(1)?.split("</serial>").next()?;
    serial.starts_with(PREFIX).then_some(serial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lent_disks_are_told_apart_from_a_guests_own() {
        let lent = element("/a&b/x", "tbc1", "vdz", true);
        let xml = format!("<devices><disk type='file'><serial>own</serial></disk>{lent}<disk type='x'></disk></devices>");
        let found: Vec<&str> = disks(&xml).filter_map(serial_of).collect();
        assert_eq!((found, disks(&xml).count()), (vec!["tbc1"], 3));
        assert!(lent.contains("/a&amp;b/x") && serial().len() <= 20 && serial() != serial());
    }
}
