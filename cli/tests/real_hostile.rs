//! What hostile text and foreign pages can do in a real browser: nothing.

mod browser;
mod lab;

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    time::Duration,
};

use browser::Browser;
use lab::{Lab, wait};
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);

/// Each tries to run `hacked = 1`, or to change the page.
const PAYLOADS: &[&str] = &[
    "<script>hacked=1</script>",
    "</title><script>hacked=1</script>",
    "\"><script>hacked=1</script>",
    "'><img src=x onerror=hacked=1>",
    "<img src=x onerror=\"hacked=1\">",
    "<svg onload=hacked=1>",
    "<svg><script>hacked=1</script></svg>",
    "<svg><animate onbegin=hacked=1 attributeName=x dur=1s>",
    "</textarea><script>hacked=1</script>",
    "</pre><iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
    "<iframe src=javascript:parent.hacked=1></iframe>",
    "<body onload=hacked=1>",
    "<details open ontoggle=hacked=1>",
    "<a href=javascript:hacked=1 autofocus onfocus=hacked=1>x</a>",
    "<style>*{display:none}</style>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
    "{{7*7}}${7*7}{%raw%}<%=7*7%>",
    "&lt;script&gt;hacked=1&lt;/script&gt;",
    "<!--<script>hacked=1//--></script>",
];

fn log_in(lab: &Lab) -> (String, Browser) {
    let link = lab.ok(&["gui", "--print"]).stdout.trim().to_string();
    let (base, _) = link.split_once("/gui?link=").expect("a link");
    let browser = Browser::start();
    browser.go(&link);
    browser.until_text("h1", "Testbeds", SOON);
    (base.to_string(), browser)
}

/// No script ran, nothing tried to, and no element came out of the text.
#[track_caller]
fn assert_text_only(browser: &Browser) {
    let made = "return [typeof hacked, document.querySelectorAll('main script, main iframe, main img, main svg:not(.picture), main style:not(.xterm style), \
                main base, main meta, [onload], [onerror], [onfocus], [ontoggle], [onbegin]').length]";
    assert_eq!(browser.run(made, json!([])), json!(["undefined", 0]), "at {}", browser.url());
    browser.assert_clean();
}

#[test]
fn hostile_text_in_names_files_logs_and_addresses_is_shown_as_text() {
    let mut lab = Lab::start_with(&["--listen", "127.0.0.1:0"]);
    let one = lab.project(
        "hostile",
        "machines:\n  - {name: web, micro: {}, network: [{switch: s}]}\nnetwork:\n  ovn:\n    switches: {s: {subnet: 10.9.0.0/24}}\n",
    );
    lab.ok(&one.args(&["up"]));
    let (base, browser) = log_in(&lab);
    assert_eq!(PAYLOADS.len(), 20);

    // What a guest prints, in a log.
    let all = PAYLOADS.join("\n");
    lab.ok(&["-p", "hostile", "exec", "web", "--", "sh", "-c", "printf '%s\\n' \"$0\"; printf '%s\\n' \"$0\" > /dev/ttyS0", &all]);
    // The page shows what became of the testbed; what was run in a guest is a click away in its history.
    let index = lab.json(&["-p", "hostile", "logs", "--list"]);
    let index = index.as_object().expect("actions by uuid");
    let (exec, _) = index.iter().find(|(_, entry)| entry["command"] == "exec").expect("the exec");
    browser.go(&format!("{base}/gui/deployments/hostile?action={exec}"));
    for payload in PAYLOADS {
        browser.until_text("#log", payload, SOON);
    }
    assert_text_only(&browser);

    // The same on its console.
    browser.go(&format!("{base}/gui/deployments/hostile/guests/web"));
    browser.until_text(".xterm-rows", PAYLOADS[19], SOON);
    assert_text_only(&browser);

    // Project folders, in the list and on a page of their own.
    for (index, payload) in PAYLOADS.iter().enumerate() {
        let body = json!({ "name": format!("h{index}"), "project_location": format!("/srv/{payload}") });
        browser.run(
            "return fetch('/api/deployments', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: arguments[0]})\
                     .then((answer) => answer.status)",
            json!([body.to_string()]),
        );
    }
    browser.go(&format!("{base}/gui"));
    for payload in PAYLOADS {
        browser.until_text("#list", payload, SOON);
    }
    assert_text_only(&browser);
    browser.go(&format!("{base}/gui/deployments/h3"));
    browser.until_text("#facts", PAYLOADS[3], SOON);
    assert_text_only(&browser);

    // The testbed file: in the editor, in its faults, in the log of an action that refuses it.
    let set =
        "const area = document.querySelector('#yaml'); area.value = arguments[0]; area.dispatchEvent(new Event('input', {bubbles: true}))";
    browser.go(&format!("{base}/gui/deployments/h4/edit"));
    for payload in PAYLOADS {
        let key = payload.replace('\'', "''");
        browser.run(set, json!([format!("'{key}': '{key}'\nmachines:\n  - {{name: '{key}', micro: {{}}, '{key}': 1}}\n")]));
        let shown: String = payload.chars().take(12).filter(|c| *c != '"').collect();
        browser.until("its faults are shown", SOON, || browser.text(".faults").replace(['\\', '"'], "").contains(&shown));
        assert_text_only(&browser);
    }
    browser.click("#save");
    browser.until_text("#saved", "saved, with faults", SOON);
    browser.reload();
    browser.until("the editor has it again", SOON, || {
        browser.run("return document.querySelector('#yaml').value", json!([])).as_str().is_some_and(|text| text.contains("hacked=1//"))
    });
    browser.go(&format!("{base}/gui/deployments/h4"));
    browser.click("#up");
    browser.until_text("#action-head", "failed", SOON);
    assert_text_only(&browser);

    // Names, typed and in addresses.
    browser.go(&format!("{base}/gui"));
    browser.run("document.getElementById('new').open = true", json!([]));
    for payload in PAYLOADS.iter().take(5) {
        browser.run("document.getElementById('name').value = arguments[0]", json!([payload]));
        browser.click("#create button.primary");
        browser.until_text("#notices", "invalid_name", SOON);
    }
    // The notice of one may be taken for the next one's, so the answers are counted.
    let complaints = std::cell::RefCell::new(Vec::new());
    browser.until("all five are refused", SOON, || {
        complaints.borrow_mut().extend(browser.forget_complaints());
        complaints.borrow().len() >= 5
    });
    let complaints = complaints.into_inner();
    assert!(complaints.iter().all(|line| line.contains("400")), "{complaints:?}");
    assert_text_only(&browser);
    for path in [
        "/gui/deployments/%3Cscript%3Ehacked=1%3C%2Fscript%3E",
        "/gui?link=%3Cscript%3Ehacked=1%3C/script%3E",
        "/gui/%22%3E%3Cscript%3Ehacked=1%3C/script%3E",
    ] {
        browser.go(&format!("{base}{path}"));
        browser.forget_complaints();
        assert_text_only(&browser);
    }
    lab.ok(&one.args(&["down"]));
}

/// A page of another server on this machine: for the browser the same site, so it would send its cookies along.
const ATTACK: &str = "<!doctype html><title>attack</title><script>
const base = 'http://' + location.hash.slice(1), results = {};
const socket = (path) => new Promise((done) => {
  const link = new WebSocket(base.replace('http', 'ws') + path);
  link.onopen = () => done('open'); link.onerror = () => done('refused');
});
(async () => {
  results.events = await socket('/api/events');
  results.console = await socket('/api/deployments/lab/guests/web/console');
  results.read = await fetch(base + '/api/deployments', {credentials: 'include'}).then(() => 'read', () => 'refused');
  for (const kind of ['text/plain', 'application/x-www-form-urlencoded']) {
    await fetch(base + '/api/deployments/lab/action', {method: 'POST', mode: 'no-cors', credentials: 'include',
      headers: {'Content-Type': kind}, body: '{\"command\":\"down\"}'}).catch(() => null);
    await fetch(base + '/api/auth/logout', {method: 'POST', mode: 'no-cors', credentials: 'include'}).catch(() => null);
  }
  const frame = document.createElement('iframe');
  frame.src = base + '/gui';
  frame.onload = () => { results.frame = frame.contentWindow.length; document.title = JSON.stringify(results); };
  document.body.append(frame);
})();
</script><body></body>";

#[test]
fn foreign_pages_and_rebound_names_are_refused() {
    let lab = Lab::start_with(&["--listen", "127.0.0.1:0"]);
    lab.ok(&["-p", "lab", "deployment", "create", "--project-location", "/srv"]);
    let (base, browser) = log_in(&lab);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let foreign = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = [0; 4096];
            if stream.read(&mut head).is_ok_and(|count| count > 0) {
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{ATTACK}",
                    ATTACK.len()
                );
                let _sent = stream.write_all(answer.as_bytes());
            }
        }
    });
    browser.go(&format!("http://{foreign}/#{}", base.trim_start_matches("http://")));
    let mut title = String::new();
    wait("the attack is over", SOON, || {
        title = browser.run("return document.title", json!([])).as_str().unwrap_or_default().to_string();
        title.starts_with('{')
    });
    let results: serde_json::Value = serde_json::from_str(&title).expect("results");
    assert_eq!(
        (&results["events"], &results["console"], &results["read"]),
        (&json!("refused"), &json!("refused"), &json!("refused")),
        "{results}"
    );
    let complaints = browser.forget_complaints().join("\n");
    assert!(complaints.contains("403") && complaints.contains("frame-ancestors"), "{complaints}");
    assert_eq!(lab.json(&["-p", "lab", "logs", "--list"]), json!({}), "no action was started");
    // Nor was the session closed.
    browser.go(&format!("{base}/gui"));
    browser.until_text("#list", "lab", SOON);

    let rebound = base.replace("127.0.0.1", "rebound.example");
    for path in ["/gui", "/api/deployments", "/gui/hosts"] {
        browser.go(&format!("{rebound}{path}"));
        browser.until_text("body", "is not this machine", SOON);
    }
}
