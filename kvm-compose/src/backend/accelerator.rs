//! Does KVM work here, or must QEMU translate (TCG)?
//!
//! Capabilities lie: some hosts open `/dev/kvm`, start a guest, and the guest goes nowhere. So KVM is trusted only after it
//! booted the micro image to a sign of life; the answer is kept until the host boots again or QEMU or the image changes.
//! Must not know domains.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::files::process::{Call, Watched};
use crate::{
    error::Problem,
    orchestrate::host::Cancel,
    plan::site::{Accelerator, MicroImage},
};

/// What the micro image prints when its command line asks for it.
const SIGN_OF_LIFE: &[u8] = b"TESTBEDOS-PROBE-OK";
/// A KVM guest prints it within a second; one that goes nowhere never does.
const LIMIT: Duration = Duration::from_secs(10);
/// Where QEMU is looked for.
const EMULATORS: &[&str] = &["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"];

/// The emulator of this machine; the first place that is looked at when there is none.
pub fn emulator() -> PathBuf {
    PathBuf::from(EMULATORS.iter().find(|path| Path::new(path).is_file()).unwrap_or(&EMULATORS[0]))
}

/// Answers on disk, by what each depends on: two servers may use two images.
type Kept = BTreeMap<String, Accelerator>;

/// Finds out, or reads what was found out before. `folder` keeps the answer where `/run` cannot.
pub fn probe(emulator: &Path, micro: Option<&MicroImage>, folder: &Path) -> Accelerator {
    let tcg = |reason: String| Accelerator::Tcg { reason };
    if let Err(error) = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return tcg(format!("/dev/kvm cannot be opened: {error}"));
    }
    let Some(micro) = micro else {
        return tcg("KVM is untested: there is no micro image to boot with it yet".to_string());
    };
    let key = key(emulator, micro);
    if let Some(known) = places(folder).iter().find_map(|place| read(place).remove(&key)) {
        return known;
    }
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
    keep(folder, &key, &accelerator);
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
fn key(emulator: &Path, micro: &MicroImage) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let version = fs::metadata(emulator).map(|found| format!("{}.{}", found.size(), found.mtime())).unwrap_or_default();
    format!("{} {version} {}", boot.trim(), micro.digest)
}

fn places(folder: &Path) -> [PathBuf; 2] {
    [PathBuf::from("/run/testbedos/kvm-probe.json"), folder.join("kvm-probe.json")]
}

fn read(place: &Path) -> Kept {
    fs::read(place).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Keeps the answer where it can be kept; without it the next probe costs some seconds, nothing more.
fn keep(folder: &Path, key: &str, accelerator: &Accelerator) {
    let this_boot = key.split(' ').next().unwrap_or_default();
    for place in places(folder) {
        let mut kept = read(&place);
        kept.retain(|other, _| other.starts_with(this_boot));
        kept.insert(key.to_string(), accelerator.clone());
        let (Some(parent), Ok(text)) = (place.parent(), serde_json::to_vec(&kept)) else { continue };
        let part = super::files::folder::part_of(&place);
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&part, &text)).and_then(|()| fs::rename(&part, &place));
        match written {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, place = %place.display(), "the answer about KVM was not kept here"),
        }
    }
}
