//! Images of users: what is taken, what is refused, what is removed.

use std::fs;

use kvm_compose::{api::ImageSource, error::Code, orchestrate::host::Cancel};

use crate::{
    lab::{Lab, noise, qemu_img, sha256, text},
    publisher::{Deed, Publisher},
};

/// An archive with these files; a name may be anything.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // `set_path` refuses what an attacker writes.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, *content).expect("appended");
    }
    archive.into_inner().expect("an archive")
}

/// The same disk as raw, qcow2 and VMDK.
fn made(lab: &Lab, format: &str, options: &[&str]) -> Vec<u8> {
    let (raw, made) = (lab.path("made.raw"), lab.path(&format!("made.{format}")));
    fs::write(&raw, noise(3)).expect("a disk");
    qemu_img(&[&["convert", "-f", "raw", "-O", format], options, &[text(&raw), text(&made)]].concat());
    fs::read(&made).expect("an image")
}

#[test]
fn every_format_becomes_the_same_disk() {
    let lab = Lab::start();
    let vmdk = made(&lab, "vmdk", &["-o", "subformat=streamOptimized"]);
    let manifest = format!("SHA256(box.ovf)= {}\nSHA256(box-disk1.vmdk)= {}\n", "0".repeat(64), sha256(&vmdk));
    let ova = archive(&[("box.ovf", b"<Envelope/>"), ("box.mf", manifest.as_bytes()), ("box-disk1.vmdk", &vmdk)]);
    for (name, content) in [
        ("as_raw", noise(3)),
        ("as_qcow2", made(&lab, "qcow2", &[])),
        ("as_vmdk", made(&lab, "vmdk", &[])),
        ("as_stream", vmdk.clone()),
        ("as_ova", ova),
    ] {
        let (taken, said) = lab.import(name, &content);
        let taken = taken.unwrap_or_else(|problem| panic!("{name}: {problem:?}"));
        assert_eq!(taken.source, ImageSource::Imported { file: format!("{name}.file"), sha256: sha256(&content) });
        assert_eq!(taken.digest, sha256(&fs::read(lab.disks.path(&taken)).expect("the content")), "{}", said.text());
        let back = lab.path("back.raw");
        qemu_img(&["convert", "-f", "qcow2", "-O", "raw", text(&lab.disks.path(&taken)), text(&back)]);
        assert!(fs::read(&back).expect("a disk") == noise(3), "{name} is another disk");
    }
    assert!(lab.parts().is_empty(), "{:?}", lab.parts());
    assert_eq!(lab.list().len(), 5);
}

#[test]
fn what_reaches_for_other_files_or_is_no_disk_is_refused_and_leaves_nothing() {
    let lab = Lab::start();
    let secret = lab.path("secret");
    fs::write(&secret, noise(5)).expect("a secret");
    let qcow2 = made(&lab, "qcow2", &[]);
    let vmdk = made(&lab, "vmdk", &[]);
    let image = |name: &str, arguments: &[&str]| {
        let path = lab.path(name);
        qemu_img(&[&["create", "-q"], arguments, &[text(&path), "1M"]].concat());
        fs::read(&path).expect("an image")
    };
    let backed = image("backed.qcow2", &["-f", "qcow2", "-F", "raw", "-b", text(&secret)]);
    let far = image("far.qcow2", &["-f", "qcow2", "-o", &format!("data_file={},data_file_raw=on", text(&secret))]);
    let child = {
        let (parent, child) = (lab.path("parent.vmdk"), lab.path("child.vmdk"));
        qemu_img(&["create", "-q", "-f", "vmdk", text(&parent), "1M"]);
        qemu_img(&["create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", text(&parent), text(&child)]);
        fs::read(&child).expect("an image")
    };
    let descriptor = format!("# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\nRW 2048 FLAT \"{}\" 0\n", text(&secret));
    let inside = archive(&[("box.ovf", b"<Envelope/>"), ("disk.vmdk", descriptor.as_bytes())]);
    let wrong = archive(&[("disk.vmdk", &vmdk), ("box.mf", format!("SHA256(disk.vmdk)= {}\n", "a".repeat(64)).as_bytes())]);
    let linked = {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, "disk.vmdk", text(&secret)).expect("a link");
        archive.into_inner().expect("an archive")
    };
    for (name, content, said) in [
        ("backed", backed, "backing file"),
        ("far", far, "in another file"),
        ("child", child, "difference to another file"),
        ("descriptor", descriptor.clone().into_bytes(), "names other files"),
        ("inside", inside, "names other files"),
        ("short", qcow2[..qcow2.len() / 2].to_vec(), "cut off"),
        ("wrong", wrong, "not what the archive's manifest says"),
        ("linked", linked, "no regular file"),
        ("climbs", archive(&[("../../disk.vmdk", &vmdk)]), "leads out of the archive"),
        ("rooted", archive(&[("/etc/disk.vmdk", &vmdk)]), "leads out of the archive"),
        ("nested", archive(&[("disk.vmdk", &archive(&[("disk.vmdk", &vmdk)]))]), "archive again"),
        ("two", archive(&[("one.vmdk", &vmdk), ("two.vmdk", &vmdk)]), "two disks: `one.vmdk` and `two.vmdk`"),
        ("none", archive(&[("readme", b"hello")]), "no disk"),
        ("torn", archive(&[("disk.vmdk", &vmdk)])[..vmdk.len() / 2].to_vec(), "to its end"),
        ("page", b"<html>404</html>".to_vec(), "text"),
        ("empty", Vec::new(), "empty"),
    ] {
        let problem = lab.import(name, &content).0.expect_err(name);
        assert!(problem.code == Code::ImageRefused && problem.message.contains(said), "{name}: {problem:?}");
    }
    assert!(lab.list().is_empty() && lab.parts().is_empty(), "{:?}", lab.parts());
    assert_eq!(lab.import("../x", &qcow2).0.map_err(|problem| problem.code), Err(Code::InvalidName));
}

#[test]
fn an_image_in_use_stays_and_what_nobody_uses_is_pruned() {
    let lab = Lab::start();
    let disks = lab.deployments().join("lab/disks");
    fs::create_dir_all(&disks).expect("a deployment");
    let first = lab.import("box", &made(&lab, "qcow2", &[])).0.expect("taken");
    let overlay = disks.join("web-0.qcow2");
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", text(&lab.disks.path(&first)), text(&overlay)]);
    let users: Vec<_> = lab.list().into_iter().flat_map(|image| image.used_by).map(|name| name.to_string()).collect();
    assert_eq!(users, ["lab"]);
    let never = Cancel::new();
    let problem = lab.disks.remove("box", &lab.deployments(), &never).expect_err("in use");
    assert!(problem.code == Code::Conflict && problem.message.contains("`lab`") && problem.hint.is_some(), "{problem:?}");
    // Another image takes the name; the old content stays, for the guest's sake, and is called by its digest.
    let second = lab.import("box", &lab.qcow2(8)).0.expect("taken");
    let nameless = format!("box@{}", &first.digest[..16]);
    assert_eq!(lab.list().iter().map(|image| image.name.clone()).collect::<Vec<_>>(), ["box".to_string(), nameless.clone()]);
    assert_eq!(lab.disks.prune(&lab.deployments(), &never).expect("pruned").removed, Vec::<String>::new());
    fs::remove_file(&overlay).expect("down");

    // Beside it a download that came to nothing, what a killed server was taking in, and content without a description.
    let publisher = Publisher::start();
    publisher.put("/disk.qcow2", &noise(6));
    publisher.put("/SUMS", sha256(&noise(6)).as_bytes());
    publisher.then("/disk.qcow2", &[Deed::Cut(5000), Deed::Cut(0), Deed::Cut(0), Deed::Cut(0)]);
    lab.pull("other", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS")).0.expect_err("cut");
    fs::write(lab.path("images/disks/parts/taking-x"), b"half").expect("left over");
    fs::write(lab.path("images/disks/content").join("a".repeat(64)), b"lost").expect("left over");
    let removed = lab.disks.prune(&lab.deployments(), &never).expect("pruned");
    assert_eq!(removed.removed, [nameless, format!("{} (half-finished)", publisher.url("/disk.qcow2"))]);
    assert_eq!(removed.freed_bytes, first.size_bytes + 5000 + 8);
    assert!(lab.parts().is_empty() && !lab.disks.path(&first).exists() && lab.disks.path(&second).exists());

    let removed = lab.disks.remove("box", &lab.deployments(), &never).expect("removed");
    assert_eq!((removed.removed, removed.freed_bytes), (vec!["box".to_string()], second.size_bytes));
    let problem = lab.disks.remove("box", &lab.deployments(), &never).expect_err("gone");
    assert_eq!(problem.code, Code::NotFound);
    assert_eq!(fs::read_dir(lab.path("images/disks/content")).expect("a folder").count(), 0);
}

#[test]
fn a_name_without_its_content_is_no_image() {
    let lab = Lab::start();
    let taken = lab.import("box", &made(&lab, "qcow2", &[])).0.expect("taken");
    fs::remove_file(lab.disks.path(&taken)).expect("removed");
    assert_eq!(lab.disks.find("box"), Ok(None));
    assert!(lab.list().is_empty());
    fs::write(lab.path("images/disks/names/box.json"), "{\"digest\":\"../../../etc\"}").expect("damaged");
    assert_eq!(lab.disks.find("box"), Ok(None));
    assert!(lab.import("box", &made(&lab, "qcow2", &[])).0.is_ok() && lab.disks.find("box").is_ok_and(|found| found.is_some()));
}
