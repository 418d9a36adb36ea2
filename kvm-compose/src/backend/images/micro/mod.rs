//! Builds the micro image: the kernel of a distribution package and an initramfs of this machine's own programs.
//!
//! What the guest does is in `guest/`; what is in the image is in [`root`]; where images are kept is in [`store`].

pub mod cpio;
pub mod kernel;
pub mod libraries;
pub mod modules;
pub mod root;
pub mod store;

use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
};

use crate::{
    error::{Code, Problem},
    orchestrate::host::Cancel,
    plan::site::MicroImage,
};

/// The environment variable that names the folder of unpacked packages.
pub const PACKAGES_VARIABLE: &str = "TESTBEDOS_MICRO_PACKAGES";
/// The environment variable that names more programs for the guest, separated by colons.
pub const EXTRA_VARIABLE: &str = "TESTBEDOS_MICRO_EXTRA";
/// Where `./setup.sh` unpacks the kernel package.
pub const PACKAGES_FOLDER: &str = "/var/cache/testbedos/micro-packages";

/// What a micro image is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MicroSources {
    /// Holds `boot/vmlinuz-*` and `lib/modules/<version>` (or `usr/lib/modules/<version>`).
    pub kernel_root: PathBuf,
    /// Holds busybox, dropbear and the guest agent with their libraries, as far as `kernel_root` does not: `/`.
    pub tools_root: PathBuf,
    /// More programs of this machine, each with the libraries it needs: for tests that measure from inside a guest.
    pub extra: Vec<PathBuf>,
}

impl MicroSources {
    /// Looks for a kernel in `$TESTBEDOS_MICRO_PACKAGES`, else where `./setup.sh` unpacks one, else on this machine.
    pub fn find() -> Result<Self, Problem> {
        let extra = std::env::var_os(EXTRA_VARIABLE).unwrap_or_default();
        let extra = std::env::split_paths(&extra).filter(|path| !path.as_os_str().is_empty()).collect();
        let sources = Self::find_in(std::env::var_os(PACKAGES_VARIABLE), Path::new(PACKAGES_FOLDER), Path::new("/"))?;
        Ok(MicroSources { extra, ..sources })
    }

    /// Where programs are looked for: what was unpacked beside the kernel goes before what is installed.
    fn roots(&self) -> [&Path; 2] {
        [&self.kernel_root, &self.tools_root]
    }

    fn find_in(asked: Option<OsString>, unpacked: &Path, machine: &Path) -> Result<Self, Problem> {
        let kernel_root = match asked.filter(|folder| !folder.is_empty()).map(PathBuf::from) {
            Some(folder) => {
                kernel::find(&folder).map_err(|problem| problem.cause(format!("{PACKAGES_VARIABLE} names {}", folder.display())))?;
                folder
            }
            None => match kernel::find(unpacked) {
                Ok(_) => unpacked.to_owned(),
                Err(first) => {
                    kernel::find(machine).map_err(|problem| problem.cause(first))?;
                    machine.to_owned()
                }
            },
        };
        let sources = MicroSources { kernel_root, tools_root: machine.to_owned(), extra: Vec::new() };
        root::check_programs(&sources.roots())?;
        Ok(sources)
    }
}

/// Builds the micro image below `images_dir` and makes it the current one. From the same sources comes the same image, so
/// a second build finds the first and changes nothing.
pub fn build_micro(images_dir: &Path, sources: &MicroSources, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<MicroImage, Problem> {
    let store = store::Store::new(images_dir);
    let lock = store.lock(cancel, say)?;
    let chosen = kernel::find(&sources.kernel_root)?;
    say(&format!("unpacking the kernel {}", chosen.version));
    let packed = std::fs::read(&chosen.image).map_err(|error| Problem::io(format!("reading {}", chosen.image.display()), &error))?;
    let (kernel_form, kernel) = match kernel::unpack(&packed) {
        Ok(elf) => ("elf", elf),
        Err(why) => {
            say(&format!("the kernel is used as it is, which starts more slowly: {why}"));
            ("bzimage", packed)
        }
    };
    cancel.check()?;
    say("collecting programs and modules");
    let initramfs = compress(&root::tree(&chosen, &sources.roots(), &sources.extra, cancel)?.archive())?;
    let digest = store::digest(&kernel, &initramfs);
    if store.holds(&digest) {
        store.make_current(&lock, &digest)?;
        say(&format!("the micro image {} is up to date", &digest[..16]));
    } else {
        cancel.check()?;
        let description = store::Description {
            digest: digest.clone(),
            kernel_version: chosen.version,
            kernel_form: kernel_form.to_owned(),
            kernel_bytes: kernel.len() as u64,
            initramfs_bytes: initramfs.len() as u64,
            created: chrono::Utc::now(),
        };
        store.write(&lock, &description, &kernel, &initramfs)?;
        store.make_current(&lock, &digest)?;
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let (kernel_mib, initramfs_mib) = (mib(description.kernel_bytes), mib(description.initramfs_bytes));
        say(&format!("the micro image {} is built: kernel {kernel_mib} MiB, initramfs {initramfs_mib} MiB", &digest[..16]));
    }
    store.find()?.ok_or_else(|| {
        Problem::new(Code::Storage, format!("the micro image {} is not there after it was built", &digest[..16]))
            .hint(format!("look whether another program changes {}", images_dir.display()))
    })
}

/// Packs the archive; see docs/micro-image.md for what this costs and saves.
fn compress(archive: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut gzip = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::fast());
    gzip.write_all(archive).and_then(|()| gzip.finish()).map_err(|error| Problem::io("packing the micro guest's files", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_sources_say_what_is_missing_and_what_to_do() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let problem = MicroSources::find_in(None, &folder.path().join("none"), folder.path()).expect_err("nothing is there");
        assert!(problem.message.contains("no kernel"), "{problem:?}");
        assert!(problem.hint.as_deref().is_some_and(|hint| hint.contains("./setup.sh")));
        let problem = MicroSources::find_in(Some("/none".into()), folder.path(), folder.path()).expect_err("nothing is there");
        assert!(problem.causes.iter().any(|cause| cause.contains(PACKAGES_VARIABLE)), "{problem:?}");
        std::fs::create_dir_all(folder.path().join("boot")).expect("a folder");
        std::fs::create_dir_all(folder.path().join("lib/modules/6.1")).expect("a folder");
        std::fs::write(folder.path().join("boot/vmlinuz-6.1"), "").expect("a file");
        let problem = MicroSources::find_in(None, folder.path(), folder.path()).expect_err("no programs are there");
        assert!(problem.message.contains("bin/busybox"), "{problem:?}");
    }
}
