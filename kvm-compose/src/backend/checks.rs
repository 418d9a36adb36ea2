//! Does each real part do what it is for? For `testbed doctor` and `/api/ready`.
//!
//! Asks, never mends. Must not know deployments.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use super::{
    containers::Engine,
    files::reach,
    hypervisor::Libvirt,
    network::{Northbound, Switch},
};
use crate::{api::CheckResult, error::Problem, plan::site::Accelerator, plan::site::MicroImage};

/// Less is too little for a single guest's disk.
const LEAST_FREE: u64 = 1 << 30;
/// KVM's device.
pub const KVM_DEVICE: &str = "/dev/kvm";
const START: &str = "start it with `./setup.sh services start`";

/// libvirt answers.
pub fn libvirt(libvirt: &Libvirt) -> CheckResult {
    let found = libvirt.versions().map(|(library, emulator)| format!("libvirt {library}, QEMU {emulator}"));
    required("libvirt", found, START)
}

/// KVM works; `device` is what [`kvm_device`] says of its device.
pub fn kvm(accelerator: &Accelerator, device: Result<(), String>) -> CheckResult {
    if let Err(fault) = device {
        let fix = format!("chgrp kvm {KVM_DEVICE}; chmod g+rw {KVM_DEVICE}; then restart libvirtd");
        return optional("kvm", Err(fault), &fix);
    }
    match accelerator {
        Accelerator::Kvm => optional("kvm", Ok("guests run with KVM".to_string()), ""),
        Accelerator::Tcg { reason } => optional(
            "kvm",
            Err(format!("guests run without KVM, some ten times slower: {reason}")),
            "turn on virtualisation in the firmware (or nested virtualisation of the machine above), then load kvm_intel or kvm_amd",
        ),
    }
}

/// Can the user that QEMU runs as open KVM's device, where there is one? Where it cannot, libvirt takes what it knows of QEMU for
/// outdated and asks it anew at every start, some seconds each (`virQEMUCapsIsValid`).
pub fn kvm_device(path: &Path, qemu: Option<(u32, u32)>) -> Result<(), String> {
    let (Ok(found), Some((user, group))) = (std::fs::metadata(path), qemu) else { return Ok(()) };
    let bits = if user == 0 {
        return Ok(());
    } else if found.uid() == user {
        found.mode() >> 6
    } else if found.gid() == group {
        found.mode() >> 3
    } else {
        found.mode()
    };
    if bits & 0o6 == 0o6 {
        return Ok(());
    }
    let (owner, mode) = (found.gid(), found.mode() & 0o777);
    Err(format!(
        "{} is not open to the user that QEMU runs as (uid {user}, gid {group}; the device: gid {owner}, mode {mode:o}): every start takes seconds longer",
        path.display()
    ))
}

/// The northbound database answers.
pub fn ovn(northbound: &Northbound) -> CheckResult {
    required("ovn", northbound.check(), START)
}

/// Open vSwitch answers.
pub fn open_vswitch(switch: &Switch, bridge: &str) -> CheckResult {
    required("ovs", switch.check(bridge).and_then(|_| running(switch)).map(|()| "Open vSwitch answers".to_string()), START)
}

/// Open vSwitch answers, is registered as a chassis and has the integration bridge.
pub fn ovs(switch: &Switch, bridge: &str) -> CheckResult {
    match switch.check(bridge) {
        Ok((Some(id), true)) => required("ovs", running(switch).map(|()| format!("bridge `{bridge}`, system id `{id}`")), START),
        Ok((None, _)) => {
            let fault = Problem::new(crate::error::Code::Ovn, "Open vSwitch has no `external-ids:system-id`, so this host is no chassis");
            required("ovs", Err(fault), "`./setup.sh services start` sets it")
        }
        Ok((Some(_), false)) => {
            let fault = Problem::new(crate::error::Code::Ovn, format!("there is no bridge `{bridge}`"));
            required("ovs", Err(fault), "ovn-controller makes it: `./setup.sh services start`")
        }
        Err(problem) => required("ovs", Err(problem), START),
    }
}

fn running(switch: &Switch) -> Result<(), Problem> {
    switch.runs().map_err(|why| Problem::new(crate::error::Code::Ovn, format!("Open vSwitch's database answers, but {why}")))
}

/// Docker answers. Only containers need it.
pub fn docker(engine: &Engine) -> CheckResult {
    let said = engine.check().map_err(|problem| problem.causes.iter().fold(problem.to_string(), |text, cause| format!("{text}: {cause}")));
    optional(
        "docker",
        said.map(|version| format!("Docker {version} answers")),
        "install Docker, then `./setup.sh services start`; only containers need it",
    )
}

/// The data folder has room, and QEMU, which runs as this user and group, can get to what lies in it.
pub fn disk(data_dir: &Path, qemu: Option<(u32, u32)>) -> CheckResult {
    if let Some(closed) = reach::fault(data_dir, qemu) {
        let fault = Problem::new(crate::error::Code::Storage, format!("{}, where guests' disks and seeds lie", closed.words()));
        return required("disk", Err(fault), &closed.command());
    }
    let found = match rustix::fs::statvfs(data_dir) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let text = format!("{:.1} GiB free in `{}`", free as f64 / (1u64 << 30) as f64, data_dir.display());
            if free >= LEAST_FREE { Ok(text) } else { Err(Problem::new(crate::error::Code::DiskFull, text)) }
        }
        Err(error) => Err(Problem::io(format!("cannot look at `{}`", data_dir.display()), &std::io::Error::from(error))),
    };
    required("disk", found, "free at least 1 GiB, or move the data folder with `--data-dir`")
}

/// The micro image is there.
pub fn micro(found: Result<Option<MicroImage>, Problem>) -> CheckResult {
    let found = found.and_then(|image| match image {
        Some(image) => Ok(format!("image {}", image.digest.chars().take(12).collect::<String>())),
        None => Err(Problem::new(crate::error::Code::ImageMissing, "there is no micro image yet")),
    });
    required("micro", found, "make it with `testbed image build micro`")
}

fn required(part: &str, found: Result<String, Problem>, fix: &str) -> CheckResult {
    let result = found.map_err(|problem| match problem.causes.first() {
        Some(cause) => format!("{problem}: {cause}"),
        None => problem.to_string(),
    });
    CheckResult { required: true, ..optional(part, result, fix) }
}

fn optional(part: &str, found: Result<String, String>, fix: &str) -> CheckResult {
    let ok = found.is_ok();
    let (Ok(detail) | Err(detail)) = found;
    CheckResult { part: part.to_string(), ok, required: false, detail, fix: (!ok).then(|| fix.to_string()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_data_folder_that_qemus_user_cannot_enter_is_told_with_the_command() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).expect("set");
        let found = disk(folder.path(), Some((64055, 64055)));
        assert!(!found.ok && found.required && found.detail.contains("cannot enter the folder"), "{found:?}");
        assert!(found.fix.is_some_and(|fix| fix.starts_with("chmod o+x ") && fix.contains(&folder.path().display().to_string())));
        assert!(disk(folder.path(), Some((0, 0))).ok);
    }

    #[test]
    fn a_device_that_qemus_user_cannot_open_is_told() {
        let device = tempfile::NamedTempFile::new().expect("a file");
        let found = device.as_file().metadata().expect("there");
        let with = |mode, qemu| {
            std::fs::set_permissions(device.path(), std::fs::Permissions::from_mode(mode)).expect("set");
            kvm_device(device.path(), qemu).is_ok()
        };
        let (other, own_group) = (Some((64055, 64055)), Some((64055, found.gid())));
        assert!(with(0o660, own_group) && with(0o666, other) && with(0o600, Some((0, 0))) && with(0o600, None));
        assert!(!with(0o660, other) && !with(0o640, own_group) && !with(0o600, own_group));
        assert!(kvm_device(Path::new("/nonexistent"), other).is_ok(), "where there is none, there is nothing to open");
    }
}
