//! Followers: late, from an offset, many, stalled.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::{
    child::Server,
    lab::{DOWN, Lab, UP},
};

#[test]
fn a_late_follower_sees_every_line_once_in_order_and_an_offset_resumes() {
    let lab = Lab::start();
    let gate = lab.gate("go");
    lab.deployment("lab", &format!("lines 500\nwait {}\nlines 500\nfail", gate.display()));
    let uuid = lab.act("lab", UP);
    let stream = format!("/api/deployments/lab/logs/{uuid}/stream");
    let mut early = lab.client().follow(&stream);
    let mut seen = vec![early.line().expect("a line")];
    while seen.len() < 501 {
        seen.push(early.line().expect("a line"));
    }
    // Half of it is written: one joins now, one comes back with an offset, one from beyond what is there.
    let late = lab.client().follow(&stream);
    let offset: usize = seen[..101].iter().map(|line| line.len() + 1).sum();
    let resumed = lab.client().follow(&format!("{stream}?from={offset}"));
    let inside = lab.client().follow(&format!("{stream}?from={}", offset + 5));
    let beyond = lab.client().follow(&format!("{stream}?from=100000000"));
    std::fs::write(gate, b"").expect("opened");
    let (rest, why) = early.until_end();
    assert_eq!(why, "state=failed error_code=70");
    seen.extend(rest);

    let log = lab.get(&format!("/api/deployments/lab/logs/{uuid}?text")).expect(200).text();
    assert_eq!(seen.join("\n") + "\n", log);
    assert_eq!(late.until_end(), (seen.clone(), why.clone()));
    assert_eq!(resumed.until_end().0, seen[101..]);
    let (lines, _) = inside.until_end();
    assert_eq!((lines[0].as_str(), &lines[1..]), (&seen[101][5..], &seen[102..]), "the rest of the line, then whole lines");
    assert_eq!(beyond.until_end(), (Vec::new(), why.clone()));
    assert_eq!(lab.client().follow(&stream).until_end(), (seen.clone(), why.clone()), "and after the end as well");
    let (events, _) = lab.client().follow(&format!("{stream}?format=events")).until_end();
    assert_eq!(events.len(), seen.len());
    assert!(events.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));

    let ranged = lab.client().send(
        "GET",
        &format!("/api/deployments/lab/logs/{uuid}"),
        "",
        &[("Accept", "text/plain"), ("Range", "bytes=10-19")],
        b"",
    );
    assert_eq!(ranged.expect(206).text(), log[10..20]);
}

#[test]
fn everything_that_happens_is_told_live_to_those_who_ask_for_it() {
    let lab = Lab::start();
    lab.deployment("one", "steps 1");
    lab.deployment("two", "steps 1");
    let mut all = lab.client().follow("/api/events");
    let mut only = lab.client().follow("/api/events?deployment=two");
    lab.finish("one", UP);
    lab.finish("two", UP);
    let mut next = |of: &str| -> serde_json::Value {
        let line = if of == "all" { all.line() } else { only.line() };
        serde_json::from_str(&line.expect("an event")).expect("JSON")
    };
    assert_eq!(next("all")["deployment"], "one");
    let mut last = next("only");
    assert_eq!((&last["deployment"], &last["event"]["kind"]), (&"two".into(), &"started".into()));
    while last["event"]["kind"] != "finished" {
        last = next("only");
    }
}

#[test]
fn a_damaged_log_is_followed_as_far_as_it_goes() {
    let lab = Lab::start();
    lab.deployment("lab", "");
    let (_, entry) = lab.finish("lab", UP);
    let uuid = lab.show("lab")["last_action"]["uuid"].as_str().expect("text").to_string();
    let path = entry["log_path"].as_str().expect("a path");
    let stream = format!("/api/deployments/lab/logs/{uuid}/stream");
    std::fs::write(path, b"caf\xe9\nno line break").expect("written");
    assert_eq!(lab.client().follow(&stream).until_end().0, ["caf\u{fffd}", "no line break"]);
    let long = "x".repeat(20 * 1024 * 1024);
    std::fs::write(path, &long).expect("written");
    let (pieces, _) = lab.client().follow(&stream).until_end();
    assert!(pieces.len() == 3 && pieces.concat() == long, "{}", pieces.len());
    std::fs::write(path, b"").expect("written");
    assert_eq!(lab.client().follow(&stream).until_end().0, Vec::<String>::new());
    std::fs::remove_file(path).expect("removed");
    assert_eq!(lab.get(&stream.replace("/stream", "?text")).expect(404).code(), "not_found");
}

/// What an action of `LINES` lines takes with no follower, and with 200 of which 50 do not read.
#[test]
fn two_hundred_followers_fifty_of_them_stalled_slow_nobody_down() {
    const FOLLOWERS: usize = 150;
    const STALLED: usize = 50;
    const LINES: usize = 20_000;
    const MOST_KIB: u64 = 20 * 1024;
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let server = Server::start(folder.clone());
    let client = server.client();
    let gate = folder.path().join("go");
    client.post("/api/deployments", r#"{"name":"lab"}"#).expect(201);
    client.put("/api/deployments/lab/yaml", &format!("wait {}\nlines {LINES}", gate.display())).expect(204);
    let act = || {
        let answer = client.post("/api/deployments/lab/action", UP).expect(202);
        answer.json()["uuid"].as_str().expect("text").to_string()
    };
    // From the first line to the last, as the journal has it.
    let took = |uuid: &str| {
        let events = client.get(&format!("/api/deployments/lab/logs/{uuid}?format=events")).expect(200).text();
        let at = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).expect("an event");
            event["at"].as_str().expect("a time").parse::<chrono::DateTime<chrono::Utc>>().expect("a time")
        };
        let mut lines = events.lines();
        (at(lines.nth_back(1).expect("the last line")) - at(lines.nth(1).expect("the first line"))).to_std().expect("a while")
    };
    let end = |uuid: &str| client.follow(&format!("/api/deployments/lab/logs/{uuid}/stream")).until_end().1;
    std::fs::write(&gate, b"").expect("opened");
    let alone = (0..3)
        .map(|_| act())
        .map(|uuid| {
            end(&uuid);
            took(&uuid)
        })
        .min()
        .expect("a time");
    std::fs::remove_file(&gate).expect("closed");

    let before = server.resident();
    let uuid = act();
    let path = format!("/api/deployments/lab/logs/{uuid}/stream");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let connect = || {
        let (request, socket) = (client.upgrade(&path), server.socket());
        async move {
            let stream = tokio::net::UnixStream::connect(socket).await.expect("connected");
            client_async(request, stream).await.expect("a websocket").0
        }
    };
    let stalled: Vec<_> = (0..STALLED).map(|_| runtime.block_on(connect())).collect();
    let readers: Vec<_> = (0..FOLLOWERS)
        .map(|_| {
            let mut socket = runtime.block_on(connect());
            runtime.spawn(async move {
                let (mut count, mut digest) = (0usize, 0u64);
                loop {
                    match socket.next().await.expect("it goes on").expect("a message") {
                        Message::Text(text) => {
                            count += 1;
                            digest = text.bytes().fold(digest, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
                        }
                        Message::Close(frame) => return (count, digest, frame.expect("a reason").reason.to_string()),
                        _ => {}
                    }
                }
            })
        })
        .collect();
    let connected = server.resident();
    std::fs::write(&gate, b"").expect("opened");
    let began = Instant::now();
    let ends: Vec<_> = readers.into_iter().map(|reader| runtime.block_on(reader).expect("no panic")).collect();
    let all = began.elapsed();
    let grown = server.peak().saturating_sub(before);
    let crowded = took(&uuid);
    println!(
        "{LINES} lines alone {alone:?}; with {FOLLOWERS} readers and {STALLED} stalled {crowded:?}, the last reader done after {all:?}; memory {before} KiB, {connected} KiB when all were connected, {grown} KiB more at the peak"
    );
    assert!(ends.iter().all(|end| *end == ends[0]), "all saw the same");
    assert_eq!((ends[0].0, ends[0].2.as_str()), (LINES + 2, "state=succeeded error_code=0"));
    assert!(grown <= MOST_KIB, "grew by {grown} KiB");
    // The readers share this machine's two processors with the action; what they must not do is hold it up.
    assert!(crowded < alone * 5 + Duration::from_secs(2), "{crowded:?} instead of {alone:?}");
    let began = Instant::now();
    let uuid = {
        let answer = client.post("/api/deployments/lab/action", DOWN).expect(202);
        answer.json()["uuid"].as_str().expect("text").to_string()
    };
    assert_eq!(end(&uuid), "state=succeeded error_code=0");
    assert!(began.elapsed() < Duration::from_secs(5), "the stalled ones hold up nobody");
    drop(stalled);
}
