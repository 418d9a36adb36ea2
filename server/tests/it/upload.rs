//! Projects as archives, friendly and hostile.

use tar::{Builder, EntryType, Header};

use crate::lab::{Lab, UP};

fn entry(builder: &mut Builder<Vec<u8>>, path: &str, kind: EntryType, link: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    // Written as bytes, since the library would refuse what a stranger would not.
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o4777);
    header.set_size(content.len() as u64);
    header.set_cksum();
    builder.append(&header, content).expect("appended");
}

fn archive(fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    fill(&mut builder);
    builder.into_inner().expect("an archive")
}

#[test]
fn a_project_is_unpacked_used_and_replaced() {
    let lab = Lab::start();
    let send = |method: &str, path: &str, body: &[u8]| lab.client().send(method, path, "application/x-tar", &[], body);
    let first = archive(|builder| {
        entry(builder, "./", EntryType::Directory, "", b"");
        entry(builder, "kvm-compose.yaml", EntryType::Regular, "", b"steps 2");
        entry(builder, "scripts/setup.sh", EntryType::Regular, "", b"true");
    });
    send("POST", "/api/deployments?name=lab", &first).expect(201);
    let project = lab.settings.data.root().join("deployments/lab/project");
    assert_eq!(std::fs::read_to_string(project.join("scripts/setup.sh")).expect("text"), "true");
    let mode = std::fs::metadata(project.join("scripts/setup.sh")).expect("a file").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o7777, 0o644, "no setuid");
    assert_eq!(lab.finish("lab", UP).1["error_code"], 0);
    assert_eq!(send("POST", "/api/deployments?name=lab", &first).expect(409).code(), "conflict");
    let second = archive(|builder| entry(builder, "kvm-compose.yaml", EntryType::Regular, "", b"steps 3"));
    send("PUT", "/api/deployments/lab", &second).expect(200);
    assert!(!project.join("scripts").exists(), "the old project is gone as a whole");
    assert_eq!(lab.get("/api/deployments/lab/yaml").expect(200).text(), "steps 3");
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let lab = Lab::start();
    let secret = lab.gate("secret");
    std::fs::write(&secret, b"secret").expect("written");
    let outside = secret.to_string_lossy().into_owned();
    let file = |path: &'static str| archive(move |builder| entry(builder, path, EntryType::Regular, "", b"x"));
    let link = |kind| archive(|builder| entry(builder, "link", kind, &outside, b""));
    for (what, body) in [
        ("out of it", file("../evil")),
        ("out of it in the middle", file("a/../../evil")),
        ("absolute", file("/tmp/testbedos-evil")),
        ("a symbolic link", link(EntryType::Symlink)),
        ("a hard link", link(EntryType::Link)),
        ("a device", link(EntryType::Char)),
        ("a pipe", link(EntryType::Fifo)),
        ("nothing", Vec::new()),
        ("no archive", vec![b'x'; 4096]),
        ("cut short", file("kvm-compose.yaml")[..600].to_vec()),
        ("twice", archive(|builder| (0..2).for_each(|_| entry(builder, "a", EntryType::Regular, "", b"x")))),
    ] {
        let answer = lab.client().send("POST", "/api/deployments?name=lab", "application/x-tar", &[], &body);
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{what}: {}", answer.text());
        let left = std::fs::read_dir(lab.settings.data.root().join("deployments/lab")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{what}");
    }
    let mut huge = Header::new_gnu();
    huge.set_path("huge").expect("a path");
    huge.set_size(3 << 30);
    huge.set_cksum();
    let answer = lab.client().send("POST", "/api/deployments?name=lab", "application/x-tar", &[], huge.as_bytes());
    assert_eq!(answer.expect(413).code(), "too_large");
    assert_eq!(lab.get("/api/deployments").expect(200).json(), serde_json::json!([]));
}
