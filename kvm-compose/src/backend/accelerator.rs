//! Does KVM work here, or must QEMU translate (TCG)?
//!
//! Capabilities lie: some hosts open `/dev/kvm`, start a guest, and the guest goes nowhere. So KVM is trusted only after it
//! booted the micro image to a sign of life; the answer is kept until the host boots again or QEMU changes.
//! Must not know domains.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::files::process::{Call, Watched};
use crate::{
    error::Problem,
    orchestrate::host::Cancel,
    plan::site::{Accelerator, MicroImage},
};

/// What the micro image prints when its command line asks for it.
const SIGN_OF_LIFE: &[u8] = b"TESTBEDOS-PROBE-OK";
/// A KVM guest prints it within a second; one that goes nowhere never does.
pub const LIMIT: Duration = Duration::from_secs(10);
/// Where QEMU is looked for.
const EMULATORS: &[&str] = &["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"];

/// The emulator of this machine; the first place that is looked at when there is none.
pub fn emulator() -> PathBuf {
    PathBuf::from(EMULATORS.iter().find(|path| Path::new(path).is_file()).unwrap_or(&EMULATORS[0]))
}

/// An answer on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    key: String,
    accelerator: Accelerator,
}

/// What is known without booting anything; `None` when only [`probe`] can tell.
pub fn known(emulator: &Path, micro: Option<&MicroImage>, folder: &Path) -> Option<Accelerator> {
    let tcg = |reason: String| Some(Accelerator::Tcg { reason });
    if let Err(error) = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return tcg(format!("/dev/kvm cannot be opened: {error}"));
    }
    let key = key(emulator);
    if let Some(kept) = read(folder).filter(|kept| kept.key == key) {
        return Some(kept.accelerator);
    }
    match micro {
        Some(_) => None,
        None => tcg("KVM is untested: there is no micro image to boot with it yet".to_string()),
    }
}

/// Finds out, at most [`LIMIT`], or reads what was found out before. `folder` keeps the answer where `/run` cannot.
pub fn probe(emulator: &Path, micro: Option<&MicroImage>, folder: &Path) -> Accelerator {
    let tcg = |reason: String| Accelerator::Tcg { reason };
    let micro = match (known(emulator, micro, folder), micro) {
        (Some(accelerator), _) => return accelerator,
        (None, Some(micro)) => micro,
        (None, None) => return tcg("KVM is untested".to_string()),
    };
    let key = key(emulator);
    let accelerator = match boot(emulator, micro) {
        Ok(Watched::Seen) => Accelerator::Kvm,
        Ok(Watched::Late(_)) => tcg(format!("KVM starts a guest that gives no sign of life within {} s{}", LIMIT.as_secs(), hint())),
        Ok(Watched::Ended(finished)) => {
            let words = String::from_utf8_lossy(&finished.stderr);
            let words = words.lines().find(|line| !line.trim().is_empty()).unwrap_or("without a word").trim().to_string();
            tcg(format!("a guest with KVM ends at once ({words}){}", hint()))
        }
        // Not an answer about KVM, so it is not kept.
        Err(problem) => return tcg(format!("KVM cannot be tested: {problem}")),
    };
    keep(folder, &Kept { key, accelerator: accelerator.clone() });
    accelerator
}

fn boot(emulator: &Path, micro: &MicroImage) -> Result<Watched, Problem> {
    let append = "console=ttyS0 quiet panic=1 testbedos.probe";
    let (kernel, initramfs) = (micro.kernel.to_string_lossy(), micro.initramfs.to_string_lossy());
    let emulator = emulator.to_string_lossy();
    let argv = [
        &*emulator,
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-m",
        "256",
        "-machine",
        "pc",
        "-accel",
        "kvm",
        "-kernel",
        &*kernel,
        "-initrd",
        &*initramfs,
        "-append",
        append,
    ];
    let seen = |text: &[u8]| text.windows(SIGN_OF_LIFE.len()).any(|part| part == SIGN_OF_LIFE);
    Call::new(argv, LIMIT).watch(&Cancel::new(), seen)
}

fn hint() -> &'static str {
    let is_loaded = ["kvm_intel", "kvm_amd"].iter().any(|module| Path::new("/sys/module").join(module).exists());
    if is_loaded { "" } else { "; neither kvm_intel nor kvm_amd is in the kernel" }
}

/// What the answer depends on.
fn key(emulator: &Path) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let version = fs::metadata(emulator).map(|found| format!("{}.{}", found.size(), found.mtime())).unwrap_or_default();
    format!("{} {version}", boot.trim())
}

fn places(folder: &Path) -> [PathBuf; 2] {
    [PathBuf::from("/run/testbedos/kvm-probe.json"), folder.join("kvm-probe.json")]
}

fn read(folder: &Path) -> Option<Kept> {
    places(folder).iter().find_map(|place| serde_json::from_slice(&fs::read(place).ok()?).ok())
}

/// Keeps the answer where it can be kept; without it the next probe costs some seconds, nothing more.
fn keep(folder: &Path, kept: &Kept) {
    let Ok(text) = serde_json::to_vec(kept) else { return };
    for place in places(folder) {
        let Some(parent) = place.parent() else { continue };
        let part = super::files::folder::part_of(&place);
        let kept = fs::create_dir_all(parent).and_then(|()| fs::write(&part, &text)).and_then(|()| fs::rename(&part, &place));
        match kept {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, place = %place.display(), "the answer about KVM was not kept here"),
        }
    }
}
