//! Pages: the login, sessions, what a browser without one gets, consoles, vendored files.

use sha2::{Digest as _, Sha256};

use crate::{client::Answer, lab::Lab};

const HTML: (&str, &str) = ("Accept", "text/html");

/// The cookie that an answer sets.
fn cookie(answer: &Answer) -> String {
    let set = answer.header("set-cookie").expect("a cookie");
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && set.contains("Path=/"), "{set}");
    set.split(';').next().expect("a pair").to_string()
}

fn log_in(lab: &Lab) -> String {
    let link = lab.client().post("/api/auth/link", "").expect(200).json();
    assert_eq!(link["url"], serde_json::Value::Null, "this server did not announce TCP");
    cookie(&lab.tcp_client(&[HTML]).get(link["path"].as_str().expect("a path")).expect(200))
}

#[test]
fn a_link_logs_in_once_and_a_session_opens_what_the_token_opens_until_it_is_closed() {
    let lab = Lab::start();
    lab.deployment("lab", "steps 1");
    let link = lab.client().post("/api/auth/link", "").expect(200).json();
    let path = link["path"].as_str().expect("a path").to_string();
    let session = cookie(&lab.tcp_client(&[HTML]).get(&path).expect(200));
    assert!(lab.tcp_client(&[HTML]).get(&path).expect(401).text().contains("used already"));

    let origin = format!("http://{}", lab.tcp);
    let browser = lab.tcp_client(&[HTML, ("Cookie", &session)]);
    assert!(browser.get("/gui").expect(200).text().contains("/gui/deployments/lab"));
    assert_eq!(browser.get("/api/deployments").expect(200).json()[0]["name"], "lab");
    // A change needs to come from a page of ours, and a websocket as well.
    let action = "/api/deployments/lab/action";
    assert_eq!(browser.post(action, crate::lab::UP).expect(403).code(), "forbidden");
    let own = lab.tcp_client(&[("Cookie", &session), ("Origin", &origin)]);
    own.post(action, crate::lab::UP).expect(202);
    let foreign = lab.tcp_client(&[("Cookie", &session), ("Origin", "http://127.0.0.1:1")]);
    assert_eq!(foreign.get("/api/deployments").expect(403).code(), "forbidden");

    let out = own.post("/api/auth/logout", "").expect(303);
    assert!(out.header("set-cookie").is_some_and(|set| set.contains("Max-Age=0")));
    assert_eq!(own.get("/api/deployments").expect(401).code(), "unauthorized");
}

#[test]
fn the_form_takes_the_token_leads_inside_and_is_slow_for_guessers() {
    let lab = Lab::start();
    let form = |token: &str, next: &str| {
        let body = format!("token={token}&next={next}");
        lab.tcp_client(&[HTML]).send("POST", "/api/auth/login", "application/x-www-form-urlencoded", &[], body.as_bytes())
    };
    let answer = form(&lab.token(), "%2Fgui%2Fhosts").expect(303);
    assert_eq!(answer.header("location"), Some("/gui/hosts"));
    lab.tcp_client(&[("Cookie", &cookie(&answer))]).get("/api/deployments").expect(200);
    assert_eq!(form(&lab.token(), "%2F%2Fevil.example").expect(303).header("location"), Some("/gui"));
    for _ in 0..10 {
        let refused = form("wrong", "").expect(401);
        assert!(refused.text().contains("the token is wrong") && refused.header("set-cookie").is_none());
    }
    form("wrong", "").expect(429);
    form(&lab.token(), "").expect(429);
}

#[test]
fn without_a_session_every_page_is_the_login_and_failures_are_pages() {
    let lab = Lab::start();
    let stranger = lab.tcp_client(&[HTML]);
    for path in ["/gui/deployments/lab", "/gui/hosts", "/gui/images", "/gui/deployments/lab/edit"] {
        let page = stranger.get(path).expect(401);
        assert!(page.text().contains("testbed gui") && page.text().contains(&format!("value=\"{path}\"")), "{}", page.text());
        assert!(page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    }
    let session = log_in(&lab);
    let browser = lab.tcp_client(&[HTML, ("Cookie", &session)]);
    let missing = browser.get("/gui/deployments/nothing").expect(404);
    assert!(missing.text().contains("does not exist") && missing.text().contains("<!doctype html>"), "{}", missing.text());
    assert!(browser.get("/gui/deployments/%3Cscript%3E").expect(400).text().contains("&#60;script&#62;"));
    for (name, value) in [("Host", "evil.example"), ("Origin", "http://evil.example")] {
        lab.tcp_client(&[HTML, ("Cookie", &session), (name, value)]).get("/gui").expect(403);
    }
}

#[test]
fn a_console_is_shared_and_ends_with_its_last_viewer() {
    let lab = Lab::start();
    lab.deployment("lab", "");
    let open = || lab.client().follow("/api/deployments/lab/guests/web/console");
    let mut first = open();
    assert_eq!(first.bytes().expect("the past"), b"login: ");
    first.type_in(b"root");
    assert_eq!(first.bytes().expect("an echo"), b"root");
    let mut second = open();
    assert_eq!(second.bytes().expect("the past"), b"login: root");
    second.type_in(b"x");
    assert_eq!((first.bytes(), second.bytes()), (Some(b"x".to_vec()), Some(b"x".to_vec())));
    drop(first);
    second.type_in(b"y");
    assert_eq!(second.bytes(), Some(b"y".to_vec()));
    second.type_in(b"exit");
    assert_eq!(second.bytes(), None, "the guest is gone");
    assert_eq!(open().bytes().expect("the past"), b"login: ", "opened anew");
    assert_eq!(lab.client().get("/api/deployments/lab/guests/web/console").expect(400).code(), "bad_request");
}

#[test]
fn what_a_guest_said_is_plain_text() {
    let lab = Lab::start();
    lab.deployment("lab", "");
    let get = |path: &str| lab.get(&format!("/api/deployments/{path}"));
    let said = get("lab/guests/web/log").expect(200);
    assert_eq!((said.text().as_str(), said.header("content-type")), ("one\ntwo\n", Some("text/plain; charset=utf-8")));
    assert_eq!(get("lab/guests/web/log?tail=1").expect(200).text(), "two\n");
    assert_eq!(get("lab/guests/db/log").expect(404).code(), "not_found");
    assert_eq!(get("none/guests/web/log").expect(404).code(), "not_found");
    assert_eq!(get("lab/guests/web/log?tail=all").expect(400).status, 400);
}

#[test]
fn vendored_files_are_those_of_the_manifest() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates/vendor");
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    let mut known = vec!["manifest.json".to_string(), "README.md".to_string()];
    for package in manifest["packages"].as_array().expect("packages") {
        assert!(package["licence"] == "MIT" && package["version"].is_string(), "{package}");
        for (file, sum) in package["files"].as_object().expect("files") {
            let content = std::fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            let found = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            assert_eq!(sum.as_str(), Some(found.as_str()), "{file}");
            known.push(file.clone());
        }
        assert!(package["files"].as_object().expect("files").keys().any(|file| file.starts_with("LICENSE")), "{package}");
    }
    for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(known.contains(&name), "{name} is not in the manifest");
    }
}
