//! Who may come in, and what names may be, at every path of the router's table.

use std::time::{Duration, Instant};

use testbedos_server::{openapi::Endpoint, router::endpoints};

use crate::lab::{DOWN, Lab};

const UUID: &str = "01890000-0000-7000-8000-000000000000";

/// Hostile names as they stand in a path. Those with a bare `/` fall into other paths and are refused there.
fn hostile() -> Vec<String> {
    let mut names: Vec<String> = [
        "..%2Fx",
        "..%2f..%2fconfig%2fmode",
        "a;b",
        "a%3Bb",
        "%3Cx%2F%3E",
        "a%00b",
        "%F0%9F%98%80",
        "%252e%252e",
        "%2e%2e",
        "..",
        "%20",
        "a b",
        "<x>",
        "A",
        "-a",
        "a-",
        "a.b",
        "%ff",
        "a%0ab",
        "$(id)",
        "a\0b",
        "😀",
        "a\"b",
        "a|b",
        "{n}",
        "%",
        "a%2",
        "../x",
        "<x/>",
        "./x",
    ]
    .map(String::from)
    .to_vec();
    names.push("a".repeat(10_000));
    names
}

fn body(endpoint: &Endpoint) -> (&'static str, &'static str) {
    match endpoint.path.rsplit('/').next() {
        Some("action") => ("application/json", DOWN),
        Some("yaml" | "validate") => ("application/yaml", "x"),
        _ if endpoint.method == "put" => ("application/json", r#"{"name":"x"}"#),
        _ => ("", ""),
    }
}

const UPGRADE: &[(&str, &str)] = &[
    ("Upgrade", "websocket"),
    ("Connection", "close, Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

#[test]
fn hostile_names_are_refused_as_such_at_every_path() {
    let lab = Lab::start();
    let client = lab.client();
    let mut tried = 0;
    for endpoint in endpoints().iter().filter(|endpoint| endpoint.path.contains('{')) {
        for name in hostile() {
            for parameter in endpoint.path_parameters() {
                // A file may have a dot, and a guest a capital.
                let is_fine = matches!(
                    (parameter, name.as_str()),
                    ("file" | "image", "a.b") | ("guest" | "image" | "snapshot", "A") | ("image", "a-")
                );
                if is_fine || (parameter == "uuid" && name.contains('/')) {
                    continue;
                }
                // A host may be called so, a deployment not.
                if parameter == "host" && matches!(name.as_str(), "A" | "a.b") {
                    continue;
                }
                // The image paths with a bare slash in their uuid are other paths, which do not exist.
                let path = endpoint.path.replace(&format!("{{{parameter}}}"), &name).replace("{name}", "x").replace("{uuid}", UUID);
                if parameter == "uuid" && matches!(name.as_str(), ".." | "%2e%2e") {
                    continue;
                }
                let (kind, body) = body(endpoint);
                let extra = if path.ends_with("/stream") || path.ends_with("/console") { UPGRADE } else { &[] };
                let answer = client.send(&endpoint.method.to_uppercase(), &path, kind, extra, body.as_bytes());
                let shown: String = path.chars().take(80).collect();
                assert_eq!(answer.status, 400, "{} {shown:?}: {}", endpoint.method, answer.text());
                assert_eq!(answer.code(), "invalid_name", "{} {shown:?}", endpoint.method);
                assert!(answer.text().len() < 1000 && !answer.text().contains('\0'));
                tried += 1;
            }
        }
    }
    println!("{tried} refused");
    assert_eq!(lab.get("/api/deployments").expect(200).json(), serde_json::json!([]));
}

#[test]
fn hostile_names_are_refused_as_such_in_every_body_and_query() {
    let lab = Lab::start();
    lab.deployment("lab", "");
    let long = "a".repeat(10_000);
    for name in ["../x", "a;b", "<x/>", "a\0b", "😀", "", "a b", "..", long.as_str()] {
        let refused = |path: &str, body: serde_json::Value| {
            let answer = lab.client().post(path, &body.to_string());
            assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_name"), "{path} {body:.80}: {}", answer.text());
        };
        refused("/api/deployments", serde_json::json!({ "name": name }));
        refused("/api/deployments/lab/action", serde_json::json!({ "command": "exec", "guest": name, "argv": ["true"] }));
        refused("/api/deployments/lab/action", serde_json::json!({ "command": "up", "guests": ["web", name] }));
        refused("/api/config/host", serde_json::json!({ "hostname": name }));
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let archive = lab.client().send("POST", &format!("/api/deployments?name={encoded}"), "application/x-tar", &[], b"");
        assert_eq!(archive.expect(400).code(), "invalid_name");
        let events = lab.client().send("GET", &format!("/api/events?deployment={encoded}"), "", UPGRADE, b"");
        assert_eq!(events.expect(400).code(), "invalid_name");
    }
    let reserved = lab.client().post("/api/deployments", r#"{"name":"lab-logs"}"#).expect(400);
    assert_eq!(reserved.code(), "invalid_name", "its record would be the log index of `lab`");
}

#[test]
fn over_tcp_every_path_but_the_open_ones_needs_the_token() {
    let lab = Lab::start();
    let open = ["/", "/gui", "/api/health", "/api/docs", "/api/openapi.json"];
    let bearer = format!("Bearer {}", lab.token());
    let token = lab.token();
    let (rest, last) = token.split_at(token.len() - 1);
    let wrong = format!("Bearer {rest}{}", if last == "0" { "1" } else { "0" });
    for endpoint in endpoints() {
        let path = endpoint.path.replace("{name}", "x").replace("{uuid}", UUID);
        let extra = if path.ends_with("/stream") || path == "/api/events" { UPGRADE } else { &[] };
        let method = endpoint.method.to_uppercase();
        let (kind, body) = body(&endpoint);
        for headers in [vec![], vec![("Authorization", "Bearer "), ("X", "y")], vec![("Authorization", wrong.as_str())]] {
            let answer = lab.tcp_client(&headers).send(&method, &path, kind, extra, body.as_bytes());
            if path.starts_with("/assets/") || path == "/api/auth/login" {
                // Open, but `{file}` is no file's name, and an empty form no login.
                assert_eq!(answer.status, 400, "{path}");
            } else if open.contains(&path.as_str()) {
                assert_eq!(answer.status, 200, "{path}");
            } else {
                assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{method} {path} {headers:?}");
                assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
            }
        }
        for (headers, what) in [
            (vec![("Host", "evil.example"), ("Authorization", bearer.as_str())], "a foreign host"),
            (vec![("Origin", "http://evil.example"), ("Authorization", bearer.as_str())], "a foreign page"),
            (vec![("Origin", "null"), ("Authorization", bearer.as_str())], "a page of nobody"),
        ] {
            let answer = lab.tcp_client(&headers).send(&method, &path, kind, extra, body.as_bytes());
            assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{method} {path}: {what}");
        }
    }
    let foreign = lab.client().send("GET", "/api/events", "", &[UPGRADE, &[("Origin", "http://evil.example")]].concat(), b"");
    assert_eq!(foreign.expect(403).code(), "forbidden", "through the Unix socket as well");
    let right = lab.tcp_client(&[("Authorization", bearer.as_str())]);
    assert_eq!(right.get("/api/version").expect(200).json()["mode"], "master");
    lab.deployment("lab", "steps 1");
    let uuid = lab.act("lab", DOWN);
    assert_eq!(right.follow(&format!("/api/deployments/lab/logs/{uuid}/stream")).until_end().1, "state=succeeded error_code=0");
}

#[test]
fn a_socket_that_is_answered_is_left_alone_and_a_stale_one_replaced() {
    let lab = Lab::start();
    let mode = std::fs::metadata(&lab.settings.socket).expect("a socket").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o660);
    let refused = testbedos_server::http::listen::open(&lab.settings).err().expect("refused");
    assert_eq!(refused.code.name(), "conflict");
    let stale = lab.gate("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("bound"));
    let mut settings = lab.settings.clone();
    settings.socket = stale;
    assert_eq!(testbedos_server::http::listen::open(&settings).expect("listeners").len(), 2);
    settings.socket = lab.gate("file");
    std::fs::write(&settings.socket, b"precious").expect("written");
    assert!(testbedos_server::http::listen::open(&settings).is_err());
    assert_eq!(std::fs::read(&settings.socket).expect("still there"), b"precious");
}

#[test]
fn connections_that_say_nothing_or_half_are_let_go() {
    use std::io::{Read as _, Write as _};
    let lab = Lab::start();
    let mut silent = std::net::TcpStream::connect(lab.tcp).expect("connected");
    let mut half = std::net::TcpStream::connect(lab.tcp).expect("connected");
    half.write_all(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n").expect("sent");
    let mut idle = std::net::TcpStream::connect(lab.tcp).expect("connected");
    idle.write_all(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let began = Instant::now();
    for stream in [&mut silent, &mut half, &mut idle] {
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("closed by the server, not by our limit");
    }
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
}

#[test]
fn a_refused_client_that_is_still_sending_hears_why() {
    use std::io::{Read as _, Write as _};
    let lab = Lab::start();
    for mut stream in [lab.client().connect(), lab.tcp_client(&[]).connect()] {
        stream
            .write_all(
                b"POST /api/deployments/a;b/action HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n",
            )
            .expect("sent");
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).expect("answered");
        // The answer is there, and the body only comes now.
        stream.write_all(&[b'x'; 100_000]).expect("sent");
        stream.read_to_end(&mut answer).expect("the whole answer");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 4") && answer.contains("\"request_id\""), "{answer}");
    }
}
