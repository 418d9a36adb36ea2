//! Finds the kernel and unpacks it: a bzImage (Linux, `Documentation/arch/x86/boot.rst`) holds a packed ELF, and an
//! emulator that starts the ELF itself spares the guest the unpacking.
//!
//! Knows the file formats. What cannot be unpacked is used as it is: QEMU starts a bzImage as well.

use std::{
    cmp::Ordering,
    io::Read,
    path::{Path, PathBuf},
};

use crate::error::{Code, Problem};

/// No kernel is larger; a length in a damaged file must not take all memory.
const LARGEST: usize = 512 << 20;

/// The kernel that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its version, such as `6.1.0-56-cloud-amd64`, which is also the folder of its modules.
    pub version: String,
    /// The bzImage.
    pub image: PathBuf,
    /// The folder of its modules.
    pub modules: PathBuf,
}

/// The most suitable kernel below `root`: one made for virtual machines if there is one, then the newest.
pub fn find(root: &Path) -> Result<Kernel, Problem> {
    let missing = |what: String| {
        Problem::new(Code::ImageMissing, what)
            .hint("run `./setup.sh`, which fetches a kernel for the micro guest (it installs none on this machine)")
    };
    let boot = root.join("boot");
    let entries = std::fs::read_dir(&boot).map_err(|error| missing(format!("there is no kernel in {}", boot.display())).cause(error))?;
    let mut found = Vec::new();
    let mut without_modules = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Problem::io(format!("reading {}", boot.display()), &error))?;
        let name = entry.file_name();
        let Some(version) = name.to_str().and_then(|name| name.strip_prefix("vmlinuz-")) else { continue };
        let modules = ["lib/modules", "usr/lib/modules"].iter().map(|folder| root.join(folder).join(version)).find(|path| path.is_dir());
        match modules {
            Some(modules) => found.push(Kernel { version: version.to_owned(), image: entry.path(), modules }),
            None => without_modules.push(version.to_owned()),
        }
    }
    found.sort_by(|a, b| flavour(&a.version).cmp(&flavour(&b.version)).then_with(|| compare_versions(&a.version, &b.version)));
    found.pop().ok_or_else(|| match without_modules.as_slice() {
        [] => missing(format!("there is no vmlinuz-* in {}", boot.display())),
        versions => missing(format!("{} has no modules for the kernels {}", root.display(), versions.join(", "))),
    })
}

/// How well a kernel's flavour suits a guest; more is better.
fn flavour(version: &str) -> u8 {
    ["generic", "virt", "kvm", "cloud"].iter().rposition(|word| version.contains(word)).map_or(0, |at| at as u8 + 1)
}

/// Compares versions by their numbers: 6.9 comes before 6.12.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u64> { text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect() };
    numbers(a).cmp(&numbers(b)).then_with(|| a.cmp(b))
}

/// The ELF kernel inside a bzImage, when it is packed in a way known here and can be started through PVH.
/// Otherwise why not, in words.
pub fn unpack(image: &[u8]) -> Result<Vec<u8>, String> {
    if image.get(0x202..0x206) != Some(b"HdrS") {
        return Err("it is not a bzImage".into());
    }
    let word = |at: usize| image.get(at..at + 4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize);
    let sectors = match image.get(0x1f1) {
        Some(0) | None => 4,
        Some(sectors) => usize::from(*sectors),
    };
    let start = (sectors + 1) * 512 + word(0x248).ok_or("its header is cut")?;
    let length = word(0x24c).ok_or("its header is cut")?;
    let payload = start.checked_add(length).and_then(|end| image.get(start..end)).ok_or("its payload is cut")?;
    let (packed, size) = payload.split_last_chunk::<4>().ok_or("its payload is cut")?;
    let size = u32::from_le_bytes(*size) as usize;
    if size > LARGEST {
        return Err(format!("its payload claims to be {size} bytes"));
    }
    let kernel = match packed {
        // The size that follows is gzip's own trailer.
        [0x1f, 0x8b, ..] => read_all(flate2::read::GzDecoder::new(payload), size)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(packed).map_err(|error| format!("zstd: {error}"))?;
            read_all(decoder, size)?
        }
        [0x02, 0x21, 0x4c, 0x18, blocks @ ..] => lz4_legacy(blocks, size)?,
        _ => return Err("it is packed in a way not known here".into()),
    };
    if kernel.len() != size {
        return Err(format!("it unpacks to {} bytes instead of {size}", kernel.len()));
    }
    if !has_pvh_entry(&kernel) {
        return Err("it has no entry point for PVH".into());
    }
    Ok(kernel)
}

fn read_all(reader: impl Read, size: usize) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(size);
    reader.take(size as u64 + 1).read_to_end(&mut out).map_err(|error| error.to_string())?;
    Ok(out)
}

/// LZ4's legacy frame: blocks of a length and data, each up to 8 MiB when unpacked (lz4, `doc/lz4_Frame_format.md`).
fn lz4_legacy(mut blocks: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let mut out = vec![0; size];
    let mut filled = 0;
    while let Some((length, rest)) = blocks.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let block = rest.get(..length).ok_or("an LZ4 block is cut")?;
        filled += lz4_flex::block::decompress_into(block, &mut out[filled..]).map_err(|error| format!("LZ4: {error}"))?;
        blocks = &rest[length..];
    }
    out.truncate(filled);
    Ok(out)
}

/// True for an ELF with the note that names its 32-bit entry point (Xen, `xen/include/public/elfnote.h`, PHYS32_ENTRY).
fn has_pvh_entry(kernel: &[u8]) -> bool {
    const PHYS32_ENTRY: u32 = 18;
    let Ok(elf) = goblin::elf::Elf::parse(kernel) else { return false };
    let Some(notes) = elf.iter_note_headers(kernel) else { return false };
    notes.flatten().any(|note| note.name.trim_end_matches('\0') == "Xen" && note.n_type == PHYS32_ENTRY)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A minimal ELF64 with one PT_NOTE that holds a PHYS32_ENTRY note of owner Xen.
    fn pvh_elf() -> Vec<u8> {
        let mut elf = vec![0_u8; 64];
        elf[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        elf[16..20].copy_from_slice(&[2, 0, 62, 0]);
        elf[20] = 1;
        elf[32] = 64; // program headers follow
        elf[52] = 64;
        elf[54] = 56;
        elf[56] = 1;
        let mut header = vec![0_u8; 56];
        header[0] = 4; // PT_NOTE
        header[8] = 120;
        header[32] = 20;
        header[40] = 20;
        header[48] = 4;
        elf.extend(header);
        elf.extend([4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
        elf.extend(b"Xen\0");
        elf.extend([0, 0, 0, 1]);
        elf.resize(4096, 0);
        elf
    }

    fn bzimage(packed: &[u8], size: Option<usize>) -> Vec<u8> {
        let mut image = vec![0_u8; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        let mut payload = packed.to_vec();
        if let Some(size) = size {
            payload.extend((size as u32).to_le_bytes());
        }
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend([0; 16]);
        image.extend(payload);
        image.extend([0xee; 100]);
        image
    }

    fn lz4(content: &[u8], block: usize) -> Vec<u8> {
        let mut out = vec![0x02, 0x21, 0x4c, 0x18];
        for part in content.chunks(block) {
            let packed = lz4_flex::block::compress(part);
            out.extend((packed.len() as u32).to_le_bytes());
            out.extend(packed);
        }
        out
    }

    #[test]
    fn micro_kernel_unpacks_lz4_in_several_blocks() {
        let elf = pvh_elf();
        assert_eq!(unpack(&bzimage(&lz4(&elf, 1000), Some(elf.len()))), Ok(elf));
    }

    #[test]
    fn micro_kernel_unpacks_gzip_and_zstd() {
        let elf = pvh_elf();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&elf).expect("memory takes it");
        assert_eq!(unpack(&bzimage(&gzip.finish().expect("memory takes it"), None)).as_ref(), Ok(&elf));
        let zstd = ruzstd::encoding::compress_to_vec(elf.as_slice(), ruzstd::encoding::CompressionLevel::Fastest);
        assert_eq!(unpack(&bzimage(&zstd, Some(elf.len()))).as_ref(), Ok(&elf));
    }

    #[test]
    fn micro_kernel_says_why_it_is_not_unpacked() {
        let elf = pvh_elf();
        assert!(unpack(b"short").is_err());
        assert!(unpack(&bzimage(b"\xfd7zXZ\0 and so on", Some(100))).is_err_and(|why| why.contains("not known")));
        assert!(unpack(&bzimage(&lz4(&elf, 1000), Some(elf.len() + 1))).is_err());
        assert!(unpack(&bzimage(&lz4(&elf, 1000), Some(usize::MAX >> 33))).is_err());
        assert!(unpack(&bzimage(&lz4(&[7; 5000], 5000), Some(5000))).is_err_and(|why| why.contains("PVH")));
        let whole = bzimage(&lz4(&elf, 1000), Some(elf.len()));
        for cut in (0..whole.len() - 100).step_by(13) {
            assert!(unpack(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn micro_kernel_choice_is_the_newest_made_for_guests() {
        let root = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(root.path().join("boot")).expect("a folder");
        assert!(find(root.path()).is_err_and(|problem| problem.message.contains("no vmlinuz") && problem.hint.is_some()));
        for version in ["6.9.0-1-cloud-amd64", "6.12.0-3-cloud-amd64", "6.12.0-9-cloud-amd64", "7.0.0-1-amd64", "6.14.0-2-generic"] {
            std::fs::write(root.path().join("boot").join(format!("vmlinuz-{version}")), "").expect("a file");
            if version != "6.12.0-9-cloud-amd64" {
                std::fs::create_dir_all(root.path().join("usr/lib/modules").join(version)).expect("a folder");
            }
        }
        assert_eq!(find(root.path()).expect("a kernel").version, "6.12.0-3-cloud-amd64");
        assert!(find(&root.path().join("nowhere")).is_err());
    }
}
