//! What a file is, by its first bytes, and whether it stands alone: an image that names other files would let whoever hands it
//! over read any file of the host.
//!
//! Pure: bytes in, a verdict out. The formats: docs/interop/qcow2.txt of QEMU; VMware's "Virtual Disk Format 5.0".

use crate::error::{Code, Problem};

/// So many bytes from the start are looked at.
pub const HEAD: usize = 1024;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// QEMU's own format, standing alone.
    Qcow2,
    /// A VMware disk in one file. Its descriptor has still to be looked at ([`check_descriptor`]).
    Vmdk,
    /// An archive of a description and disks.
    Ova,
    /// The disk byte for byte.
    Raw,
}

impl Form {
    /// How qemu-img(1) calls it.
    pub fn name(self) -> &'static str {
        match self {
            Form::Qcow2 => "qcow2",
            Form::Vmdk => "vmdk",
            Form::Ova => "tar",
            Form::Raw => "raw",
        }
    }
}

/// Where a VMDK file says who its parent is: offset and length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// From the start of the file.
    pub offset: u64,
    /// In bytes.
    pub length: usize,
}

/// Formats that are not taken, by how they begin, with what to do.
const FOREIGN: &[(&[u8], &str, &str)] = &[
    (b"vhdxfile", "a VHDX image", CONVERT),
    (b"conectix", "a VHD image", CONVERT),
    (b"QED\0", "a QED image", CONVERT),
    (b"<<< ", "a VirtualBox image", CONVERT),
    (b"COWD", "a VMDK image of the old form", CONVERT),
    (b"# Disk DescriptorFile", "a VMDK descriptor, which names other files", "import the file with the data, beside it"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it first: gunzip FILE"),
    (b"\xfd7zXZ\0", "compressed by xz", "unpack it first: xz -d FILE"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it first: zstd -d FILE"),
    (b"BZh", "compressed by bzip2", "unpack it first: bunzip2 FILE"),
    (b"PK\x03\x04", "a ZIP archive", "unpack it first: unzip FILE"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first: 7z x FILE"),
];

const CONVERT: &str = "convert it first: qemu-img convert -O qcow2 FILE disk.qcow2";

/// What a file is that begins with `head` ([`HEAD`] bytes, or all it has).
pub fn form(head: &[u8]) -> Result<Form, Problem> {
    if head.is_empty() {
        return Err(refused("it is empty"));
    }
    if let Some((_, what, hint)) = FOREIGN.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return Err(refused(format_args!("it is {what}")).hint(*hint));
    }
    if head.starts_with(b"QFI\xfb") {
        return check_qcow2(head).map(|()| Form::Qcow2);
    }
    if head.starts_with(b"KDMV") {
        return descriptor(head).map(|_| Form::Vmdk);
    }
    if head.get(257..262) == Some(b"ustar") {
        return Ok(Form::Ova);
    }
    let start = head.get(..512).unwrap_or(head);
    if std::str::from_utf8(start).is_ok_and(|text| !text.contains('\0') && text.chars().all(|c| !c.is_control() || c.is_whitespace())) {
        return Err(refused("it is text, not a disk").hint("look into it: a page that says why a download failed is text too"));
    }
    Ok(Form::Raw)
}

/// Refuses what reaches for other files, and what QEMU could not use as a base.
fn check_qcow2(head: &[u8]) -> Result<(), Problem> {
    let version = number(head, 4, 4)?;
    let features = if version >= 3 { number(head, 72, 8)? } else { 0 };
    let alone = "make it stand alone: qemu-img convert -O qcow2 FILE alone.qcow2";
    match version {
        2 | 3 => {}
        other => return Err(refused(format_args!("it is of version {other} of the qcow2 format, not 2 or 3"))),
    }
    if number(head, 8, 8)? != 0 {
        return Err(refused("it rests on a backing file").hint(alone));
    }
    if features & 0b100 != 0 {
        return Err(refused("it has its data in another file").hint(alone));
    }
    if number(head, 32, 4)? != 0 {
        return Err(refused("it is encrypted").hint("decrypt it while you convert it, with qemu-img convert"));
    }
    if features & 0b11 != 0 {
        return Err(refused("it was not closed well, or is damaged").hint("try to mend it: qemu-img check -r all FILE"));
    }
    if features & !0b1_1111 != 0 {
        return Err(refused(format_args!("it uses features of qcow2 that nobody here knows ({features:#x})")));
    }
    Ok(())
}

/// Where a VMDK's descriptor is. `header` is the one at the file's start, or the copy in its footer.
pub fn descriptor(header: &[u8]) -> Result<Option<Descriptor>, Problem> {
    let little = |at: usize| {
        let bytes: Option<[u8; 8]> = header.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_le_bytes).ok_or_else(|| refused("it ends in the middle of its header"))
    };
    // QEMU takes a disk without size for a list of other files.
    if little(12)? == 0 {
        return Err(refused("it has no data of its own").hint("import the file with the data, beside it"));
    }
    let offset = little(28)?.checked_mul(512).ok_or_else(|| refused("its header is damaged"))?;
    // QEMU reads twenty sectors, whatever the header says.
    Ok((offset != 0).then_some(Descriptor { offset, length: 20 * 512 }))
}

/// True when the header says that what counts is the copy at the file's end.
pub fn has_footer(header: &[u8]) -> bool {
    header.get(56..64) == Some(&[0xff; 8])
}

/// Refuses a VMDK that is the difference to another file.
pub fn check_descriptor(text: &[u8]) -> Result<(), Problem> {
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    if text.contains("parentfilenamehint") {
        return Err(refused("it is the difference to another file").hint("consolidate it where it comes from, then export it again"));
    }
    Ok(())
}

fn number(head: &[u8], at: usize, length: usize) -> Result<u64, Problem> {
    let bytes = head.get(at..at + length).ok_or_else(|| refused("it ends in the middle of its header"))?;
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// A file that is no image for us.
pub fn refused(why: impl std::fmt::Display) -> Problem {
    Problem::new(Code::ImageRefused, format!("the file is refused: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qcow2(version: u32, changes: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[..4].copy_from_slice(b"QFI\xfb");
        head[4..8].copy_from_slice(&version.to_be_bytes());
        for (at, bytes) in changes {
            head[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        head
    }

    fn vmdk(capacity: u64, descriptor: u64) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[..4].copy_from_slice(b"KDMV");
        head[12..20].copy_from_slice(&capacity.to_le_bytes());
        head[28..36].copy_from_slice(&descriptor.to_le_bytes());
        head
    }

    #[test]
    fn an_image_that_stands_alone_is_taken_and_one_that_does_not_is_refused() {
        assert_eq!(form(&qcow2(2, &[])).map_err(|problem| problem.message), Ok(Form::Qcow2));
        assert_eq!(form(&qcow2(3, &[(79, &[0b1_1000])])).map_err(|problem| problem.message), Ok(Form::Qcow2));
        for (head, said) in [
            (qcow2(3, &[(15, &[1])]), "backing file"),
            (qcow2(3, &[(79, &[0b100])]), "in another file"),
            (qcow2(2, &[(35, &[1])]), "encrypted"),
            (qcow2(3, &[(79, &[0b10])]), "damaged"),
            (qcow2(3, &[(72, &[0x80])]), "nobody here knows"),
            (qcow2(1, &[]), "version 1"),
            (qcow2(3, &[])[..40].to_vec(), "middle of its header"),
            (vmdk(0, 1), "no data of its own"),
            (b"KDMV\x01".to_vec(), "middle of its header"),
            (b"# Disk DescriptorFile\nRW 1 FLAT \"/etc/shadow\" 0".to_vec(), "names other files"),
            (b"<!DOCTYPE html><p>not here".to_vec(), "text"),
            (b"\x1f\x8b\x08\0\0\0".to_vec(), "gzip"),
            (Vec::new(), "empty"),
        ] {
            let problem = form(&head).expect_err(said);
            assert!(problem.code == Code::ImageRefused && problem.message.contains(said), "{said}: {problem}");
        }
    }

    #[test]
    fn a_vmdk_says_where_its_parent_is_named() {
        assert_eq!(form(&vmdk(8, 1)).map_err(|problem| problem.message), Ok(Form::Vmdk));
        assert_eq!(descriptor(&vmdk(8, 1)).expect("read"), Some(Descriptor { offset: 512, length: 10240 }));
        assert_eq!(descriptor(&vmdk(8, 0)).expect("read"), None);
        assert!(descriptor(&vmdk(8, u64::MAX)).is_err());
        check_descriptor(b"parentCID=ffffffff\nRW 4192256 SPARSE \"disk.vmdk\"").expect("alone");
        assert!(check_descriptor(b"ParentFileNameHint=\"/etc/shadow\"").is_err());
    }

    #[test]
    fn what_is_neither_is_a_raw_disk_or_an_archive() {
        let mut archive = vec![0; HEAD];
        archive[257..262].copy_from_slice(b"ustar");
        assert_eq!(form(&archive).map_err(|problem| problem.message), Ok(Form::Ova));
        let mut disk = vec![0; HEAD];
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(form(&disk).map_err(|problem| problem.message), Ok(Form::Raw));
    }
}
