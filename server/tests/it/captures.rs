//! Captures over HTTP: limits, faults before the first byte, and an end when nobody reads.

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use kvm_compose::capture::whole_blocks;

use crate::lab::Lab;

#[test]
fn a_capture_is_whole_blocks_until_its_limit() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 1");
    let get = |query: &str| lab.get(&format!("/api/deployments/lab/capture{query}"));
    let answer = get("?ports=web:eth0,db&count=3").expect(200);
    assert_eq!(answer.header("content-type"), Some("application/x-pcapng"));
    assert_eq!(answer.header("content-length"), None, "nobody knows how long it gets");
    assert_eq!(get("?ports=off&count=3").expect(409).code(), "conflict");
    for query in ["", "?ports=", "?ports=../x", "?ports=web&count=many"] {
        assert_eq!(get(query).expect(400).status, 400, "{query}");
    }
    assert_eq!(lab.get("/api/deployments/none/capture?ports=web").expect(404).code(), "not_found");
}

#[test]
fn a_capture_ends_when_nobody_reads_it() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 1");
    let ended = lab.folder.path().join("world/capture-ended");
    std::fs::create_dir_all(lab.folder.path().join("world")).expect("a world");
    let mut stream = lab.client().connect();
    stream.write_all(b"GET /api/deployments/lab/capture?ports=web HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut some = vec![0; 1 << 20];
    stream.read_exact(&mut some).expect("it goes on and on");
    // In chunks (RFC 9112 section 7.1), the first of them whole blocks.
    let at = some.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let line = some[at..].iter().position(|byte| *byte == b'\n').expect("a chunk") + 1;
    let length = usize::from_str_radix(std::str::from_utf8(&some[at..at + line - 2]).expect("digits"), 16).expect("a length");
    let (whole, _) = whole_blocks(&some[at + line..at + line + length]).expect("blocks");
    assert_eq!(whole, length);
    assert!(!ended.exists());
    drop(stream);
    let begun = Instant::now();
    while !ended.exists() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it goes on although nobody reads");
        std::thread::sleep(Duration::from_millis(10));
    }
}
