//! Images as actions: pulled, handed over, listed, removed; over the library's own store and a publisher on loopback.

use serde_json::{Value, json};

use crate::{
    lab::Lab,
    publisher::{Deed, Publisher},
};

/// A small disk: noise, so that it is what it is byte for byte.
fn disk() -> Vec<u8> {
    (0..1u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn sum(content: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A publisher of the name `mine`.
fn publisher(lab: &Lab) -> Publisher {
    let publisher = Publisher::start();
    publisher.put("/mine.img", &disk());
    publisher.put("/SUMS", format!("{}  mine.img\n", sum(&disk())).as_bytes());
    let (url, sums) = (publisher.url("/mine.img"), publisher.url("/SUMS"));
    let text = format!("[mine]\nurl = \"{url}\"\nchecksums = \"{sums}\"\nuser = \"me\"\n");
    std::fs::write(lab.gate("images.toml"), text).expect("written");
    publisher
}

fn pull(lab: &Lab) -> String {
    let answer = lab.client().post("/api/images", r#"{"pull":"mine"}"#).expect(202).json();
    answer["uuid"].as_str().expect("text").to_string()
}

fn ended(lab: &Lab, uuid: &str) -> (Vec<String>, Value) {
    let (lines, _) = lab.client().follow(&format!("/api/images/logs/{uuid}/stream")).until_end();
    (lines, lab.get(&format!("/api/images/logs/{uuid}")).expect(200).json()["entry"].clone())
}

fn names(lab: &Lab) -> Vec<String> {
    let images = lab.get("/api/images").expect(200).json();
    images.as_array().expect("a list").iter().map(|image| image["name"].as_str().expect("text").to_string()).collect()
}

fn import(lab: &Lab, query: &str, body: &[u8]) -> crate::client::Answer {
    lab.client().send("POST", &format!("/api/images/import?{query}"), "application/octet-stream", &[], body)
}

#[test]
fn many_pulls_of_one_image_are_actions_of_their_own_and_one_download() {
    let lab = Lab::start();
    let publisher = publisher(&lab);
    publisher.then("/mine.img", &[Deed::Stall(100_000)]);
    let uuids: Vec<String> = (0..5).map(|_| pull(&lab)).collect();
    for uuid in &uuids {
        let (lines, entry) = ended(&lab, uuid);
        assert_eq!((entry["error_code"].clone(), entry["command"].clone()), (json!(0), json!("pull_image")), "{lines:?}");
        assert_eq!(entry["result"]["name"], "mine");
    }
    // The stalled one and the one that went on.
    assert_eq!(publisher.asked("/mine.img").len(), 2);
    assert_eq!(names(&lab), ["mine"]);
    let catalogue = lab.get("/api/images/catalogue").expect(200).json();
    let mine = catalogue.as_array().expect("a list").iter().find(|entry| entry["name"] == "mine").expect("listed").clone();
    assert_eq!((mine["present"].clone(), mine["user"].clone()), (json!(true), json!("me")));
    let image = &lab.get("/api/images").expect(200).json()[0];
    assert_eq!(image["source"]["sum"], format!("sha256:{}", sum(&disk())));
    assert_eq!(lab.client().delete("/api/images/mine").expect(200).json()["removed"], json!(["mine"]));
    assert_eq!(lab.client().delete("/api/images/mine").expect(404).code(), "not_found");
    assert_eq!(lab.client().delete("/api/images/..%2Fmine").expect(400).code(), "invalid_name");
}

#[test]
fn a_pull_tells_how_far_it_is_and_can_be_stopped_alone() {
    let lab = Lab::start();
    let publisher = publisher(&lab);
    publisher.then("/mine.img", &[Deed::Cut(100_000), Deed::Gate]);
    let (first, second) = (pull(&lab), pull(&lab));
    while publisher.asked("/mine.img").len() < 2 {
        std::thread::yield_now();
    }
    lab.client().delete(&format!("/api/images/action/{first}")).expect(202);
    assert_eq!(ended(&lab, &first).1["state"], "cancelled");
    publisher.open_gate();
    let (_, entry) = ended(&lab, &second);
    assert_eq!(entry["error_code"], 0, "{entry}");
    let (events, _) = lab.client().follow(&format!("/api/images/logs/{second}/stream?format=events")).until_end();
    let events: Vec<Value> = events.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let last = events.iter().rev().find(|event| event["event"]["kind"] == "progress").expect("progress");
    assert_eq!((last["event"]["done"].clone(), last["event"]["total"].clone()), (json!(1 << 20), json!(1 << 20)));
}

#[test]
fn what_cannot_be_pulled_is_refused_before_there_is_an_action() {
    let lab = Lab::start();
    publisher(&lab);
    let refused = lab.client().post("/api/images", r#"{"pull":"mien"}"#).expect(404);
    assert!(refused.code() == "not_found" && refused.text().contains("did you mean `mine`?"), "{}", refused.text());
    assert_eq!(lab.client().post("/api/images", r#"{"pull":"micro"}"#).expect(422).code(), "unsupported");
    assert_eq!(lab.client().post("/api/images", r#"{"pull":"../x"}"#).expect(400).code(), "invalid_name");
    assert_eq!(lab.client().post("/api/images", r#"{"push":"x"}"#).expect(400).code(), "bad_request");
    assert_eq!(lab.get("/api/images/logs").expect(200).json(), json!({}));
}

#[test]
fn an_image_is_handed_over_checked_and_pruned() {
    let lab = Lab::with(|settings| settings.images.largest_bytes = 4 << 20);
    let uuid = import(&lab, "name=box&file=box.raw", &disk()).expect(202).json()["uuid"].as_str().expect("text").to_string();
    let (lines, entry) = ended(&lab, &uuid);
    assert_eq!((entry["error_code"].clone(), entry["command"].clone()), (json!(0), json!("import_image")), "{lines:?}");
    assert_eq!(names(&lab), ["box"]);
    let uuid = import(&lab, "name=page", b"<html>").expect(202).json()["uuid"].as_str().expect("text").to_string();
    assert_eq!(ended(&lab, &uuid).1["problem"]["code"], "image_refused");
    assert_eq!(import(&lab, "file=x", &disk()).expect(400).code(), "bad_request");
    assert_eq!(import(&lab, "name=a/b", &disk()).expect(400).code(), "invalid_name");
    assert_eq!(import(&lab, "name=large", &vec![0; 5 << 20]).expect(413).code(), "too_large");
    assert_eq!(lab.client().post("/api/images/prune", "").expect(200).json(), json!({ "removed": [], "freed_bytes": 0 }));
    let parts = std::fs::read_dir(lab.gate("images/disks/parts")).expect("a folder");
    assert_eq!(parts.count(), 0, "nothing that was handed over is left");
}
