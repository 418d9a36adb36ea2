//! Picks kernel modules and what they depend on.
//!
//! Dependencies come from the modules themselves (`depends=` in their `.modinfo` section, as depmod reads them), because
//! an unpacked kernel package has no `modules.dep` yet. Knows the modules' folder; knows nothing of the guest.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::error::{Code, Problem};

/// A module on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its path below the modules' folder, without the ending of a compression.
    pub path: String,
    /// The unpacked file.
    pub content: Vec<u8>,
    /// Names of the modules it needs.
    pub needs: Vec<String>,
}

/// The modules of one kernel.
#[derive(Debug)]
pub struct Modules {
    folder: PathBuf,
    busybox: PathBuf,
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
    taken: BTreeMap<String, Module>,
}

impl Modules {
    /// Lists the modules in a folder such as `/lib/modules/6.1.0`. `busybox` unpacks those that are packed with xz.
    pub fn list(folder: &Path, busybox: &Path) -> Result<Self, Problem> {
        let mut files = BTreeMap::new();
        let mut folders = vec![folder.join("kernel")];
        while let Some(next) = folders.pop() {
            let doing = |error| Problem::io(format!("reading the kernel's modules in {}", next.display()), &error);
            for entry in std::fs::read_dir(&next).map_err(doing)? {
                let entry = entry.map_err(doing)?;
                if entry.file_type().map_err(doing)?.is_dir() {
                    folders.push(entry.path());
                } else if let Some(name) = entry.file_name().to_str().and_then(module_name) {
                    files.insert(name, entry.path());
                }
            }
        }
        let builtin = match std::fs::read_to_string(folder.join("modules.builtin")) {
            Ok(text) => text.lines().filter_map(|line| module_name(line.rsplit('/').next()?)).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(Problem::io(format!("reading modules.builtin in {}", folder.display()), &error)),
        };
        Ok(Modules { folder: folder.to_owned(), busybox: busybox.to_owned(), files, builtin, taken: BTreeMap::new() })
    }

    /// Takes a module with all that it needs. False when there is no such module; one built into the kernel is there.
    pub fn take(&mut self, name: &str) -> Result<bool, Problem> {
        let name = name.replace('-', "_");
        if self.taken.contains_key(&name) || self.builtin.contains(&name) {
            return Ok(true);
        }
        let Some(file) = self.files.get(&name).cloned() else { return Ok(false) };
        let content = self.read(&file)?;
        let needs = needs(&content).ok_or_else(|| {
            Problem::new(Code::ImageMissing, format!("{} is not a kernel module", file.display()))
                .hint("fetch the kernel package again with `./setup.sh`")
        })?;
        let path = file.strip_prefix(&self.folder).unwrap_or(&file).to_string_lossy().into_owned();
        let path = path.split_once(".ko").map_or(path.clone(), |(stem, _)| format!("{stem}.ko"));
        self.taken.insert(name.clone(), Module { path, content, needs: needs.clone() });
        for need in needs {
            if !self.take(&need)? {
                return Err(Problem::new(
                    Code::ImageMissing,
                    format!("the kernel module {name} needs {need}, which is missing in {}", self.folder.display()),
                )
                .hint("fetch the kernel package again with `./setup.sh`"));
            }
        }
        Ok(true)
    }

    /// True when the module was taken as a file; one built into the kernel needs no loading.
    pub fn is_file(&self, name: &str) -> bool {
        self.taken.contains_key(&name.replace('-', "_"))
    }

    /// The files that were taken.
    pub fn taken(&self) -> impl Iterator<Item = &Module> {
        self.taken.values()
    }

    /// A `modules.dep` for the files that were taken (modules.dep(5)).
    pub fn dependencies(&self) -> String {
        let mut text = String::new();
        for (name, module) in &self.taken {
            let mut all = Vec::new();
            self.collect(name, &mut all);
            text.push_str(&module.path);
            text.push(':');
            // Nearest first: modprobe loads from the right. The module itself, the last of `all`, is not named again.
            for need in all.iter().rev().skip(1) {
                text.push(' ');
                text.push_str(&self.taken[*need].path);
            }
            text.push('\n');
        }
        text
    }

    /// What a module needs, deepest first, then itself.
    fn collect<'a>(&'a self, name: &'a str, all: &mut Vec<&'a str>) {
        let Some(module) = self.taken.get(name) else { return };
        for need in &module.needs {
            if !all.contains(&need.as_str()) {
                self.collect(need, all);
            }
        }
        all.push(name);
    }

    fn read(&self, file: &Path) -> Result<Vec<u8>, Problem> {
        let doing = |error| Problem::io(format!("reading the kernel module {}", file.display()), &error);
        let content = std::fs::read(file).map_err(doing)?;
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("gz") => all(flate2::read::GzDecoder::new(content.as_slice())).map_err(doing),
            Some("zst") => {
                let decoder =
                    ruzstd::decoding::StreamingDecoder::new(content.as_slice()).map_err(|error| doing(std::io::Error::other(error)))?;
                all(decoder).map_err(doing)
            }
            Some("xz") => {
                let output = Command::new(&self.busybox).arg("unxz").arg("-c").arg(file).stdin(Stdio::null()).output().map_err(doing)?;
                if output.status.success() {
                    Ok(output.stdout)
                } else {
                    Err(doing(std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())))
                }
            }
            _ => Ok(content),
        }
    }
}

fn all(mut reader: impl Read) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.read_to_end(&mut out)?;
    Ok(out)
}

/// The module in a file of this name, with `_` for `-` as the kernel has it.
fn module_name(file: &str) -> Option<String> {
    let (stem, ending) = file.split_once(".ko")?;
    matches!(ending, "" | ".gz" | ".xz" | ".zst").then(|| stem.replace('-', "_"))
}

/// What a module says it needs; nothing when it is not a module.
fn needs(content: &[u8]) -> Option<Vec<String>> {
    let elf = goblin::elf::Elf::parse(content).ok()?;
    let section = elf.section_headers.iter().find(|section| elf.shdr_strtab.get_at(section.sh_name) == Some(".modinfo"))?;
    let info = content.get(section.file_range()?)?;
    let line = info.split(|byte| *byte == 0).find_map(|line| line.strip_prefix(b"depends="))?;
    let line = std::str::from_utf8(line).ok()?;
    Some(line.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A relocatable ELF64 with a `.modinfo` section.
    fn module(depends: &str) -> Vec<u8> {
        let info = format!("license=GPL\0depends={depends}\0name=x\0");
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut elf = vec![0_u8; 64];
        elf[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        elf[16..20].copy_from_slice(&[1, 0, 62, 0]);
        elf[20] = 1;
        elf[52] = 64;
        elf[58] = 64;
        elf[60] = 3;
        elf[62] = 2;
        let (info_at, names_at) = (elf.len(), elf.len() + info.len());
        elf.extend(info.as_bytes());
        elf.extend(names);
        elf.resize(elf.len().next_multiple_of(8), 0);
        let headers = elf.len() as u64;
        elf[40..48].copy_from_slice(&headers.to_le_bytes());
        for (name, kind, at, size) in [(0_u32, 0_u32, 0, 0), (1, 1, info_at, info.len()), (10, 3, names_at, names.len())] {
            let mut header = vec![0_u8; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            header[24..32].copy_from_slice(&(at as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
            elf.extend(header);
        }
        elf
    }

    #[test]
    fn micro_modules_come_with_what_they_need() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let folder = root.path().join("kernel/drivers/net");
        std::fs::create_dir_all(&folder).expect("a folder");
        let gzip = |content: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(content).expect("memory takes it");
            gzip.finish().expect("memory takes it")
        };
        let zstd = |content: Vec<u8>| ruzstd::encoding::compress_to_vec(content.as_slice(), ruzstd::encoding::CompressionLevel::Fastest);
        std::fs::write(folder.join("virtio_net.ko.gz"), gzip(&module("net_failover,virtio"))).expect("a file");
        std::fs::write(folder.join("net-failover.ko.zst"), zstd(module("failover"))).expect("a file");
        std::fs::write(folder.join("failover.ko"), module("")).expect("a file");
        std::fs::write(folder.join("other.ko"), module("nowhere")).expect("a file");
        std::fs::write(folder.join("notes.txt"), "").expect("a file");
        std::fs::write(root.path().join("modules.builtin"), "kernel/drivers/virtio/virtio.ko\n").expect("a file");
        let mut modules = Modules::list(root.path(), Path::new("/bin/busybox")).expect("a list");
        assert_eq!(modules.take("virtio-net"), Ok(true));
        assert_eq!(modules.take("virtio"), Ok(true));
        assert!(modules.is_file("virtio-net") && !modules.is_file("virtio"));
        assert_eq!(modules.take("missing"), Ok(false));
        assert_eq!(
            modules.dependencies(),
            "kernel/drivers/net/failover.ko:\n\
             kernel/drivers/net/net-failover.ko: kernel/drivers/net/failover.ko\n\
             kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net-failover.ko kernel/drivers/net/failover.ko\n"
        );
        assert_eq!(modules.taken().map(|module| module.content.clone()).next(), Some(module("")));
        assert!(modules.take("other").is_err_and(|problem| problem.message.contains("nowhere")));
    }

    #[test]
    fn micro_modules_damaged_files_are_told() {
        let root = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(root.path().join("kernel")).expect("a folder");
        std::fs::write(root.path().join("kernel/bad.ko"), "no ELF").expect("a file");
        let mut modules = Modules::list(root.path(), Path::new("/bin/busybox")).expect("a list");
        assert!(modules.take("bad").is_err_and(|problem| problem.hint.is_some()));
        assert!(Modules::list(&root.path().join("nowhere"), Path::new("/bin/busybox")).is_err());
        assert_eq!(needs(&module("a-b,c")), Some(vec!["a_b".to_owned(), "c".to_owned()]));
        let whole = module("a");
        for cut in 0..whole.len() {
            assert_eq!(needs(&whole[..cut]), None);
        }
    }
}
