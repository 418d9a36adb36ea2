//! A real browser, headless, spoken to through its driver (W3C WebDriver and Chromium's DevTools): JSON over HTTP, which
//! the command's own HTTP client speaks. Each browser has a fresh profile and goes away at its end.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};

/// Chromium must not look for anything outside, nor need a screen or a user of its own.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--password-store=basic",
    "--force-color-profile=srgb",
    // A name of somebody else that leads here, as after DNS rebinding.
    "--host-resolver-rules=MAP rebound.example 127.0.0.1",
];

/// How an element is named in answers (WebDriver, section 12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Runs in every page before anything of it does, and keeps what breaks the policy.
const WATCH: &str = "window.violations = []; document.addEventListener('securitypolicyviolation', (event) => \
                     window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));";

/// What a page looks like to whom.
#[derive(Debug, Clone, Copy)]
pub struct View {
    pub width: u32,
    pub height: u32,
    pub scheme: &'static str,
}

pub struct Browser {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    session: String,
    driver: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub fn start() -> Browser {
        let profile = tempfile::tempdir().expect("a folder");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts: `./setup.sh test` installs chromium-driver");
        let lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("started successfully on port ")?;
            rest.trim_end_matches('.').parse::<u16>().ok()
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        // The library asks for a provider of TLS, though nothing here speaks it.
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(180)).build().expect("a client");
        let base = format!("http://127.0.0.1:{}/session", port.expect("a port"));
        let mut browser = Browser { runtime, http, session: base, driver, _profile: profile };
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let flags: Vec<&str> = FLAGS.iter().copied().chain([profile.as_str()]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let made = browser.ask(Method::POST, "", wanted);
        browser.session = format!("{}/{}", browser.session, made["sessionId"].as_str().expect("a session"));
        browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": WATCH }));
        browser.look(View { width: 1440, height: 900, scheme: "light" });
        browser
    }

    fn request(&self, method: Method, path: &str, body: Value) -> Result<Value, String> {
        let request = self.http.request(method.clone(), format!("{}{path}", self.session));
        let request = if method == Method::POST { request.json(&body) } else { request };
        let answered = self.runtime.block_on(async { request.send().await?.json::<Value>().await });
        let answer = answered.map_err(|error| format!("{path}: {error}"))?;
        match answer["value"]["error"].as_str() {
            Some(error) => Err(format!("{path} {body}: {error}: {}", answer["value"]["message"])),
            None => Ok(answer["value"].clone()),
        }
    }

    #[track_caller]
    fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        self.request(method, path, body).unwrap_or_else(|error| panic!("{error}"))
    }

    fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.ask(Method::POST, "/goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    /// Looks through a window of this size, in this colour scheme.
    pub fn look(&self, view: View) {
        let View { width, height, scheme } = view;
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 }),
        );
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }));
    }

    #[track_caller]
    pub fn go(&self, url: &str) {
        self.ask(Method::POST, "/url", json!({ "url": url }));
    }

    pub fn url(&self) -> String {
        self.ask(Method::GET, "/url", Value::Null).as_str().unwrap_or_default().to_string()
    }

    pub fn reload(&self) {
        self.ask(Method::POST, "/refresh", json!({}));
    }

    /// What a script in the page returns.
    #[track_caller]
    pub fn run(&self, script: &str, arguments: Value) -> Value {
        self.ask(Method::POST, "/execute/sync", json!({ "script": script, "args": arguments }))
    }

    fn find(&self, css: &str) -> Result<String, String> {
        let found = self.request(Method::POST, "/element", json!({ "using": "css selector", "value": css }))?;
        Ok(found[ELEMENT].as_str().unwrap_or_default().to_string())
    }

    /// Clicks as a user does: what is hidden or covered cannot be clicked. Waits for it, since pages renew their parts.
    #[track_caller]
    pub fn click(&self, css: &str) {
        self.until_ok(&format!("{css} is clicked"), || {
            let element = self.find(css)?;
            self.request(Method::POST, &format!("/element/{element}/click"), json!({}))
        });
    }

    /// Types into an element.
    #[track_caller]
    pub fn type_in(&self, css: &str, text: &str) {
        self.until_ok(&format!("{css} takes text"), || {
            let element = self.find(css)?;
            self.request(Method::POST, &format!("/element/{element}/value"), json!({ "text": text }))
        });
    }

    #[track_caller]
    fn until_ok(&self, what: &str, mut attempt: impl FnMut() -> Result<Value, String>) {
        let mut last = String::new();
        self.until(what, Duration::from_secs(20), || match attempt() {
            Ok(_) => true,
            Err(error) => {
                last = error;
                eprintln!("{last}");
                false
            }
        });
    }

    /// The visible text of an element; empty when it is not there.
    pub fn text(&self, css: &str) -> String {
        let text = self.run("const found = document.querySelector(arguments[0]); return found ? found.innerText : ''", json!([css]));
        text.as_str().unwrap_or_default().to_string()
    }

    /// How many elements there are.
    pub fn count(&self, css: &str) -> u64 {
        self.run("return document.querySelectorAll(arguments[0]).length", json!([css])).as_u64().unwrap_or_default()
    }

    /// Waits until an element shows a text.
    #[track_caller]
    pub fn until_text(&self, css: &str, text: &str, limit: Duration) {
        let began = Instant::now();
        loop {
            let shown = self.text(css);
            if shown.contains(text) {
                return;
            }
            assert!(began.elapsed() < limit, "{css} did not show {text:?} within {limit:?}, but {shown:?} at {}", self.url());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    pub fn until(&self, what: &str, limit: Duration, mut fact: impl FnMut() -> bool) {
        let began = Instant::now();
        while !fact() {
            assert!(began.elapsed() < limit, "waited {limit:?} in vain: {what} at {}: {}", self.url(), self.text("main"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Nothing broke the policy in this page, and the browser complained of nothing.
    #[track_caller]
    pub fn assert_clean(&self) {
        let violations = self.run("return window.violations", json!([]));
        assert_eq!(violations, json!([]), "at {}", self.url());
        let log = self.ask(Method::POST, "/se/log", json!({ "type": "browser" }));
        let bad: Vec<&Value> = log.as_array().into_iter().flatten().filter(|entry| entry["level"] == "SEVERE").collect();
        assert!(bad.is_empty(), "at {}: {bad:?}", self.url());
    }

    /// Takes what the browser complained of so far out of the way.
    pub fn forget_complaints(&self) -> Vec<String> {
        let log = self.ask(Method::POST, "/se/log", json!({ "type": "browser" }));
        log.as_array().into_iter().flatten().filter_map(|entry| entry["message"].as_str().map(String::from)).collect()
    }

    /// A picture of the whole page.
    pub fn screenshot(&self, file: &Path) {
        let size = self.devtools("Page.getLayoutMetrics", json!({}))["cssContentSize"].clone();
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let shot = self.devtools("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true, "clip": clip }));
        let png = STANDARD.decode(shot["data"].as_str().unwrap_or_default()).expect("base64");
        std::fs::write(file, png).expect("written");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Err(error) = self.request(Method::DELETE, "", Value::Null) {
            eprintln!("the browser did not close: {error}");
        }
        let _killed = self.driver.kill();
        let _ended = self.driver.wait();
    }
}
