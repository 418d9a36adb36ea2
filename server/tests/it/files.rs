//! Archives into guests and out of them over HTTP: streamed, refused where they should be, ended when nobody reads.

use std::{
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use crate::lab::Lab;

fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o640);
    builder.append_data(&mut header, name, content).expect("appended");
    builder.into_inner().expect("whole")
}

fn at(guest: &str, what: &str, path: &str) -> String {
    format!("/api/deployments/lab/guests/{guest}/{what}?path={path}")
}

fn wait(what: &str, mut seen: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !seen() {
        assert!(Instant::now() < until, "{what}: not seen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn archives_go_in_and_out_and_paths_are_checked_at_the_door() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 1");
    std::fs::create_dir_all(lab.gate("lab-web/srv")).expect("made");
    let seen = lab.get(&at("web", "path", "/srv/site")).expect(200).json();
    assert_eq!((&seen["kind"], &seen["has_parent"]), (&"none".into(), &true.into()));
    let content: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let put = |body: &[u8]| lab.client().send("PUT", &at("web", "files", "/srv"), "application/x-tar", &[], body);
    put(&archive("site", &content)).expect(204);
    assert_eq!(lab.get(&at("web", "path", "/srv/site")).expect(200).json()["kind"], "file");
    let back = lab.get(&at("web", "files", "/srv/site")).expect(200);
    assert_eq!(back.header("content-type"), Some("application/x-tar"));
    let mut unpacked = tar::Archive::new(back.body.as_slice());
    let mut entry = unpacked.entries().expect("an archive").next().expect("an entry").expect("whole");
    let mut found = Vec::new();
    entry.read_to_end(&mut found).expect("whole");
    assert!(found == content, "{} bytes", found.len());
    // What the guest does not take is told; nothing of either stays on the server.
    assert_eq!(put(&archive("site", &content)[..100_000]).expect(500).code(), "command_failed");
    let copies = lab.gate("world/lab/copies");
    wait("nothing is left", || std::fs::read_dir(&copies).expect("readable").next().is_none());
    for path in ["", "srv", "/srv/../etc/passwd", "/%00"] {
        for what in ["files", "path"] {
            assert_eq!(lab.get(&at("web", what, path)).expect(400).code(), "bad_request", "{path}");
        }
    }
    assert_eq!(lab.get(&at("web", "files", "/none")).expect(404).code(), "not_found");
    assert_eq!(lab.get(&at("-", "files", "/srv")).expect(400).code(), "invalid_name");
    assert_eq!(lab.get("/api/deployments/nobody/guests/web/files?path=/srv").expect(404).code(), "not_found");
}

#[test]
fn a_copy_ends_when_nobody_reads_it_or_sends_it() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 1");
    std::fs::create_dir_all(lab.gate("lab-web/srv")).expect("made");
    std::fs::create_dir_all(lab.gate("world/lab")).expect("made");
    let mut stream = lab.client().connect();
    write!(stream, "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", at("web", "files", "/endless")).expect("sent");
    let mut some = [0; 100_000];
    stream.read_exact(&mut some).expect("it comes");
    drop(stream);
    wait("the guest is told", || lab.gate("world/lab/ended").exists());
    // One that breaks off half-way is not unpacked.
    let whole = archive("site", &[1; 100_000]);
    let mut stream = lab.client().connect();
    let head = format!("PUT {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-tar\r\n", at("web", "files", "/srv"));
    write!(stream, "{head}Content-Length: {}\r\n\r\n", whole.len()).expect("sent");
    stream.write_all(&whole[..50_000]).expect("sent");
    drop(stream);
    let copies = lab.gate("world/lab/copies");
    wait("it came and is gone", || std::fs::read_dir(&copies).is_ok_and(|mut left| left.next().is_none()));
    assert!(!lab.gate("lab-web/srv/site").exists());
}
