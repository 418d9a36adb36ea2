//! The conformance of a provider, and what the file provider does with damaged files.

use std::{fs, path::Path};

use chrono::Utc;
use kvm_compose::{api::Phase, error::Code, names::DeploymentName};
use testbedos_server::store::{DeploymentRecord, Expected, Records, Store, file::FileRecords};

fn name(text: &str) -> DeploymentName {
    DeploymentName::new(text).expect("a name")
}

fn record(text: &str) -> DeploymentRecord {
    DeploymentRecord {
        name: name(text),
        project_location: None,
        created: Utc::now(),
        phase: Phase::Down,
        last_action: None,
        last_change: None,
        forgiven: None,
        file: None,
    }
}

/// What every provider must do. `open` opens the same store again.
fn conforms<R: Records<DeploymentRecord>>(open: impl Fn() -> R) {
    let records = open();
    assert!(records.list().expect("a list").is_empty());
    let a = name("a");
    assert!(records.get(&a).expect("an answer").is_none());
    let code = |result: Result<_, kvm_compose::error::Problem>| result.map(|_: ()| ()).expect_err("refused").code;
    assert_eq!(code(records.put(&a, record("a"), Expected::Revision(1)).map(|_| ())), Code::Conflict);
    assert_eq!(code(records.delete(&a, 1)), Code::NotFound);

    let first = records.put(&a, record("a"), Expected::Absent).expect("created");
    assert_eq!(code(records.put(&a, record("a"), Expected::Absent).map(|_| ())), Code::Conflict);
    let changed = DeploymentRecord { phase: Phase::Up, ..record("a") };
    let second = records.put(&a, changed.clone(), Expected::Revision(first.revision)).expect("changed");
    assert!(second.revision > first.revision);
    assert_eq!(code(records.put(&a, record("a"), Expected::Revision(first.revision)).map(|_| ())), Code::Conflict);
    assert_eq!(code(records.delete(&a, first.revision)), Code::Conflict);
    records.put(&name("b"), record("b"), Expected::Absent).expect("created");
    drop(records);

    let again = open();
    let names: Vec<_> = again.list().expect("a list").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [a.clone(), name("b")]);
    let found = again.get(&a).expect("an answer").expect("it is there");
    assert_eq!((&*found.value, found.revision), (&changed, second.revision));
    again.delete(&a, found.revision).expect("removed");
    assert!(open().get(&a).expect("an answer").is_none());

    // Of many that change one record at once, each revision has one winner.
    let records = open();
    let won: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut won = 0;
                    for _ in 0..20 {
                        let seen = records.get(&name("b")).expect("an answer").expect("it is there").revision;
                        won += usize::from(records.put(&name("b"), record("b"), Expected::Revision(seen)).is_ok());
                    }
                    won
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    let last = records.get(&name("b")).expect("an answer").expect("it is there").revision;
    assert_eq!(last, 1 + won as u64);
}

#[test]
fn files_conform() {
    let folder = tempfile::tempdir().expect("a folder");
    conforms(|| FileRecords::open(folder.path()).expect("a store"));
    let modes = fs::metadata(folder.path().join("b.json")).expect("a file").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&modes) & 0o777, 0o600);
}

fn damaged(folder: &Path, damage: impl Fn(&Path)) -> Store {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { fs::remove_dir_all(path).expect("removed") } else { fs::remove_file(path).expect("removed") }
    }
    let store = Store::open_files(folder).expect("a store");
    for text in ["good", "torn"] {
        store.deployments.put(&name(text), record(text), Expected::Absent).expect("created");
    }
    drop(store);
    damage(&folder.join("torn.json"));
    Store::open_files(folder).expect("a store that serves the rest")
}

#[test]
fn a_damaged_record_is_set_aside_and_the_rest_serve() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = {
        let store = Store::open_files(folder.path()).expect("a store");
        store.deployments.put(&name("torn"), record("torn"), Expected::Absent).expect("created");
        fs::read(folder.path().join("torn.json")).expect("a file")
    };
    let check = |what: &str, damage: &dyn Fn(&Path)| {
        let store = damaged(folder.path(), damage);
        assert!(store.deployments.get(&name("good")).expect("an answer").is_some(), "{what}");
        assert!(store.deployments.get(&name("torn")).expect("an answer").is_none(), "{what}");
        let aside = store.set_aside();
        assert_eq!(aside.len(), 1, "{what}: {aside:?}");
        assert!(aside[0].contains("torn.json.corrupt-"), "{what}: {aside:?}");
        store.deployments.put(&name("torn"), record("torn"), Expected::Absent).expect("its name is free again");
        // It is still reported after the next start.
        assert_eq!(Store::open_files(folder.path()).expect("a store").set_aside().len(), 1, "{what}");
    };
    for cut in 0..whole.len() - 2 {
        check(&format!("cut to {cut} bytes"), &|path| fs::write(path, &whole[..cut]).expect("written"));
    }
    check("zeros", &|path| fs::write(path, vec![0; whole.len()]).expect("written"));
    check("another's record", &|path| {
        fs::copy(path.with_file_name("good.json"), path).expect("copied");
    });
    check("a folder", &|path| {
        fs::remove_file(path).expect("removed");
        fs::create_dir(path).expect("made");
    });
    check("a link", &|path| {
        fs::remove_file(path).expect("removed");
        std::os::unix::fs::symlink("good.json", path).expect("linked");
    });
}

#[test]
fn stray_temporary_files_are_swept_and_a_newer_format_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(".tmp-abc"), b"half").expect("written");
    let store = Store::open_files(folder.path()).expect("a store");
    assert!(!folder.path().join(".tmp-abc").exists());
    store.deployments.put(&name("a"), record("a"), Expected::Absent).expect("created");
    let path = folder.path().join("a.json");
    let newer = fs::read_to_string(&path).expect("a file").replace("\"format\": 1", "\"format\": 2");
    fs::write(&path, &newer).expect("written");
    let refused = Store::open_files(folder.path()).err().expect("refused");
    assert_eq!(refused.code, Code::Unsupported);
    assert_eq!(fs::read_to_string(&path).expect("a file"), newer, "and it is not touched");
    let reserved = store.deployments.put(&name("a-logs"), record("a-logs"), Expected::Absent).expect_err("refused");
    assert_eq!(reserved.code, Code::InvalidName);
}
