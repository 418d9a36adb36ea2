use std::os::unix::fs::FileExt as _;

use chrono::Utc;

use super::*;
use crate::{
    names::InstallationId,
    orchestrate::host::Cancel,
    plan::snapshot::{SavedGuest, SavedImage, SavedTestbed},
};

fn shelf() -> (tempfile::TempDir, Shelf) {
    let data = tempfile::tempdir().expect("a folder");
    let shelf = Shelf::new(data.path(), &DeploymentName::new("lab").expect("valid"));
    (data, shelf)
}

fn name(text: &str) -> SnapshotName {
    SnapshotName::new(text).expect("valid")
}

fn manifest(named: &str) -> Manifest {
    Manifest {
        version: VERSION,
        name: name(named),
        deployment: DeploymentName::new("lab").expect("valid"),
        installation: InstallationId(Uuid::nil()),
        operation: Uuid::nil(),
        created: Utc::now(),
        whole: true,
        memory: false,
        pause_ms: 7,
        testbed: SavedTestbed { text: "version: 1\n".into(), file: "kvm-compose.yaml".into(), composition: Default::default() },
        leases: Vec::new(),
        rows: Vec::new(),
        links: Vec::new(),
        down: Vec::new(),
        guests: vec![SavedGuest {
            name: GuestName::new("web").expect("valid"),
            runtime: Runtime::Docker,
            state: crate::api::snapshot::SavedState::Running,
            digest: "d".into(),
            memory: None,
            disks: Vec::new(),
            image: Some(SavedImage { name: "testbedos-snapshot:x".into(), id: "sha256:1".into() }),
        }],
    }
}

#[test]
fn a_snapshot_is_there_whole_or_not_at_all() {
    let (data, shelf) = shelf();
    assert_eq!(shelf.read(&name("clean")).expect_err("none").code, Code::NotFound);
    let held = Held { guest: GuestName::new("web").expect("valid"), name: "lab.web".into(), uuid: Uuid::nil(), runtime: Runtime::Libvirt };
    let making = Making { held: vec![held], images: vec!["i".into()] };
    let part = shelf.begin(&name("clean"), &making).expect("begun");
    fs::write(part.join("web.memory"), b"m").expect("written");
    // A death here leaves its mark and no snapshot.
    assert!(shelf.list().expect("listed").is_empty());
    assert_eq!(shelf.left().expect("looked"), [Left::Part(part.clone(), making)]);
    shelf.finish(&manifest("clean")).expect("finished");
    assert!(shelf.left().expect("looked").is_empty());
    assert_eq!(shelf.read(&name("clean")).expect("there"), manifest_at(&shelf, "clean"));
    assert_eq!(shelf.begin(&name("clean"), &Making::default()).expect_err("taken").code, Code::Conflict);
    assert!(shelf.bytes(&name("clean")) > 0);
    // A death while it is deleted leaves what is to be cleared, with its images.
    let gone = shelf.unname(&name("clean")).expect("unnamed");
    assert_eq!(shelf.left().expect("looked"), [Left::Gone(gone.clone(), vec!["testbedos-snapshot:x".into()])]);
    shelf.clear(&gone).expect("cleared");
    shelf.clear(&gone).expect("absent is fine");
    assert!(!data.path().join("lab/snapshots").exists(), "nothing is left");
}

fn manifest_at(shelf: &Shelf, named: &str) -> Manifest {
    let (_, found) = shelf.list().expect("listed").into_iter().find(|(found, _)| *found == name(named)).expect("there");
    found.expect("readable")
}

#[test]
fn what_cannot_be_read_is_told_and_not_lost() {
    let (_data, shelf) = shelf();
    shelf.begin(&name("a"), &Making::default()).expect("begun");
    shelf.finish(&manifest("a")).expect("finished");
    fs::write(shelf.folder(&name("a")).join(MANIFEST), b"{").expect("broken");
    let listed = shelf.list().expect("listed");
    assert_eq!((listed.len(), listed[0].1.as_ref().expect_err("broken").code), (1, Code::Storage));
    fs::write(shelf.folder(&name("a")).join(MANIFEST), serde_json::to_vec(&Manifest { version: 9, ..manifest("a") }).expect("JSON"))
        .expect("newer");
    assert_eq!(shelf.read(&name("a")).expect_err("newer").code, Code::Unsupported);
}

#[test]
fn a_restore_that_began_is_known() {
    let (_data, shelf) = shelf();
    shelf.begin(&name("a"), &Making::default()).expect("begun");
    shelf.finish(&manifest("a")).expect("finished");
    assert_eq!(shelf.restoring().expect("looked"), None);
    let restoring = Restoring { name: name("a"), guests: Vec::new(), replaced: "s".into() };
    shelf.set_restoring(&restoring).expect("marked");
    assert_eq!(shelf.restoring().expect("looked"), Some(restoring));
    shelf.clear_restoring().expect("done");
    shelf.clear_restoring().expect("absent is fine");
    assert_eq!(shelf.restoring().expect("looked"), None);
}

#[test]
fn a_copy_has_the_same_bytes_and_holes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let file = File::create(&from).expect("made");
    file.set_len(64 << 20).expect("long");
    file.write_all_at(b"begin", 0).expect("written");
    file.write_all_at(b"middle", 33 << 20).expect("written");
    copy(&from, &to, &Cancel::new()).expect("copied");
    let cancel = Cancel::new();
    let (one, other) = (sum(&from, false, &cancel).expect("read"), sum(&to, true, &cancel).expect("read"));
    assert_eq!((one.bytes, &one.sha256), (64 << 20, &other.sha256));
    assert!(fs::metadata(&to).expect("there").blocks() * 512 < 1 << 20, "holes stay holes");
    cancel.cancel();
    assert_eq!(sum(&to, false, &cancel).expect_err("cancelled").code, Code::Cancelled);
}
