//! The pages in a real browser, over a real server with real guests.

mod browser;
mod lab;

use std::time::Duration;

use browser::{Browser, View};
use lab::{Lab, QUICKSTART};
use serde_json::json;

/// A page is up to date within this.
const SOON: Duration = Duration::from_secs(30);
/// Guests boot within this, on a machine that does other things too.
const BOOT: Duration = Duration::from_secs(300);

fn lab() -> Lab {
    Lab::start_with(&["--listen", "127.0.0.1:0"])
}

/// The server's address, and a browser that is logged in.
fn log_in(lab: &Lab) -> (String, Browser) {
    let link = lab.ok(&["gui", "--print"]).stdout.trim().to_string();
    let (base, _) = link.split_once("/gui?link=").expect("a link");
    let browser = Browser::start();
    browser.go(&link);
    browser.until_text("h1", "Testbeds", SOON);
    assert_eq!(browser.url(), format!("{base}/gui"), "the link's secret is not left in the address");
    (base.to_string(), browser)
}

/// Replaces the editor's text as typing does.
fn set_yaml(browser: &Browser, yaml: &str) {
    let script =
        "const area = document.querySelector('#yaml'); area.value = arguments[0]; area.dispatchEvent(new Event('input', {bubbles: true}))";
    browser.run(script, json!([yaml]));
}

/// The log as the page shows it, line by line.
fn shown_log(browser: &Browser) -> Vec<String> {
    let text = browser.run("return document.getElementById('log').textContent", json!([]));
    text.as_str().unwrap_or_default().lines().map(String::from).collect()
}

fn last_action(lab: &Lab, name: &str) -> serde_json::Value {
    lab.json(&["-p", name, "info"])["last_action"].clone()
}

#[test]
fn a_testbed_is_made_brought_up_used_and_taken_down_in_the_browser() {
    let mut lab = lab();
    lab.project("qs-gui", QUICKSTART);
    let (base, browser) = log_in(&lab);

    // A mistake is shown at its line while it is typed; the form begins with the quickstart.
    browser.until_text("#faults-summary", "no faults", SOON);
    let broken = QUICKSTART.replace("subnet: 10.0.2.0/24", "subnet: 10.0.2.0/240");
    let line = 1 + broken.lines().position(|line| line.contains("/240")).expect("the mistake");
    set_yaml(&browser, &broken);
    browser.until_text("#faults-summary", "1 fault", SOON);
    assert_eq!(browser.text(".gutter .error"), line.to_string());
    assert_eq!(browser.count(&format!(".faults li[data-line='{line}']")), 1, "{}", browser.text(".faults"));
    set_yaml(&browser, QUICKSTART);
    browser.until_text("#faults-summary", "no faults", SOON);
    browser.type_in("#name", "qs-gui");
    browser.click("#create button.primary");
    browser.until_text("h1", "qs-gui", SOON);
    browser.until_text("#state", "down", SOON);
    assert_eq!((browser.count("#topology .guest.absent"), browser.count("#topology .router")), (2, 1));
    browser.assert_clean();

    // Up, with a reload in the middle: the log goes on, complete.
    browser.click("#up");
    browser.until_text("#log", "started", SOON);
    browser.until("steps are shown", SOON, || browser.count("#steps li") >= 5);
    browser.reload();
    browser.until_text("#state", "working", SOON);
    browser.until_text("#state", "up", BOOT);
    browser.until_text("#log", "succeeded in", SOON);
    let uuid = last_action(&lab, "qs-gui")["uuid"].as_str().expect("an action").to_string();
    let whole: Vec<String> = lab.ok(&["-p", "qs-gui", "logs", &uuid]).stdout.lines().map(String::from).collect();
    assert_eq!(shown_log(&browser), whole);
    browser.until("both guests are ready in the picture", SOON, || browser.count("#topology .guest.ready") == 2);
    assert!(browser.text("#guests").contains("10.0.2.10"), "{}", browser.text("#guests"));
    assert!(browser.text("#count").contains("steps"));
    browser.assert_clean();

    // The serial console answers what is typed.
    browser.go(&format!("{base}/gui/deployments/qs-gui/guests/client"));
    browser.until_text("#link", "connected", SOON);
    browser.until_text(".xterm-rows", "ready", SOON);
    browser.type_in(".xterm-helper-textarea", "echo answer=$((6*7))\n");
    browser.until_text(".xterm-rows", "answer=42", SOON);
    browser.reload();
    browser.until_text(".xterm-rows", "answer=42", SOON);
    browser.assert_clean();

    // Nothing to do; then an edit brings a guest more, and is cancelled: it goes again, the rest stays.
    browser.go(&format!("{base}/gui/deployments/qs-gui/edit"));
    browser.until_text("#faults-summary", "no faults", SOON);
    set_yaml(
        &browser,
        &QUICKSTART.replace("network:\n  ovn:", "  - {name: extra, micro: {}, network: [{switch: clients}]}\nnetwork:\n  ovn:"),
    );
    browser.until_text("#saved", "not saved", SOON);
    browser.reload();
    browser.until_text("#saved", "not saved", SOON);
    browser.click("#save-up");
    browser.click("#cancel");
    browser.until_text("#action-head", "cancelled", BOOT);
    browser.until_text("#state", "up failed", SOON);
    browser.until("the rest stays", SOON, || browser.count("#topology .guest.ready") == 2 && browser.count("#topology .guest.absent") == 1);
    browser.assert_clean();

    // Down, and gone.
    browser.go(&format!("{base}/gui/deployments/qs-gui"));
    browser.click("#down");
    browser.click("dialog button[value=yes]");
    browser.until_text("#state", "down", BOOT);
    assert_eq!(last_action(&lab, "qs-gui")["command"], "down");
    browser.until("history has all", SOON, || browser.count("#history tbody tr") == 3);
    browser.click("#delete");
    browser.click("dialog button[value=yes]");
    browser.until_text("h1", "Testbeds", SOON);
    browser.until_text("#list", "No testbeds yet", SOON);
    browser.assert_clean();
    assert_eq!(lab.leftovers("qs-gui"), Vec::<String>::new());
}

#[test]
fn every_page_fits_its_window_and_breaks_no_policy() {
    let mut lab = lab();
    let project = lab.project("quickstart", QUICKSTART);
    lab.ok(&project.args(&["up"]));
    let faulty = "machines:\n  - {name: a, mikro: {}}\n  - name: b!\n    micro: {memory_mb: lots}\n    network: [{switch: none}]\n";
    for (name, yaml) in [("fifty", fifty().as_str()), ("broken", faulty)] {
        let folder = lab.project(name, yaml).folder.display().to_string();
        lab.ok(&["-p", name, "deployment", "create", "--project-location", &folder]);
    }
    let (base, browser) = log_in(&lab);
    let folder = std::env::var_os("TESTBEDOS_SCREENSHOTS").map(std::path::PathBuf::from);
    if let Some(folder) = &folder {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    for (page, path, shown) in [
        ("testbeds", "/gui", "quickstart"),
        ("testbed", "/gui/deployments/quickstart", "succeeded"),
        ("large", "/gui/deployments/fifty", "guest-49"),
        ("edit", "/gui/deployments/quickstart/edit", "no faults"),
        ("faults", "/gui/deployments/broken/edit", "mikro"),
        ("guest", "/gui/deployments/quickstart/guests/client", "connected"),
        ("hosts", "/gui/hosts", "master"),
        ("images", "/gui/images", "micro"),
        ("missing", "/gui/deployments/nothing", "does not exist"),
        ("api", "/api/docs", "invalid_name"),
        ("front", "/", "testbed gui"),
        ("login", "", "server's token"),
    ] {
        for (width, height) in [(1440, 900), (390, 844)] {
            for scheme in ["light", "dark"] {
                browser.look(View { width, height, scheme });
                if page == "login" {
                    browser.run("return fetch('/api/auth/logout', {method: 'POST'}).then(() => null)", json!([]));
                    browser.go(&format!("{base}/gui"));
                } else {
                    browser.go(&format!("{base}{path}"));
                }
                browser.until_text("main", shown, SOON);
                let wide = browser.run("return document.documentElement.scrollWidth", json!([])).as_u64().expect("a width");
                assert!(wide <= u64::from(width), "{page} is {wide} wide in a window of {width}");
                let unlabelled = "return [...document.querySelectorAll('input:not([type=hidden]), textarea, select')].filter((field) => \
                                  !field.labels?.length && !field.ariaLabel && !field.closest('.xterm')).map((field) => field.outerHTML)";
                assert_eq!(browser.run(unlabelled, json!([])), json!([]), "{page}");
                if let Some(folder) = &folder {
                    browser.screenshot(&folder.join(format!("{page}-{width}-{scheme}.png")));
                }
                let complaints = browser.forget_complaints();
                let expected = page == "missing" || page == "login";
                assert!(
                    expected || complaints.iter().all(|line| !line.contains("Error") && !line.contains("error")),
                    "{page}: {complaints:?}"
                );
                assert_eq!(browser.run("return window.violations", json!([])), json!([]), "{page}");
            }
        }
    }
    lab.ok(&project.args(&["down"]));
}

/// A testbed of fifty guests on three switches.
fn fifty() -> String {
    let mut yaml = String::from("machines:\n");
    for index in 0..50 {
        let switch = ["dmz", "lab", "office"][index % 3];
        yaml.push_str(&format!("  - {{name: guest-{index:02}, micro: {{}}, network: [{{switch: {switch}}}]}}\n"));
    }
    yaml.push_str(
        "network:\n  ovn:\n    switches: {dmz: {subnet: 10.1.0.0/24}, lab: {subnet: 10.2.0.0/24}, office: {subnet: 10.3.0.0/24}}\n",
    );
    yaml.push_str("    routers:\n      edge:\n        ports:\n");
    for (index, switch) in ["dmz", "lab", "office"].iter().enumerate() {
        yaml.push_str(&format!("          - {{name: edge-{switch}, gateway_ip: 10.{}.0.1/24, switch: {switch}}}\n", index + 1));
    }
    yaml
}

#[test]
fn an_edited_template_shows_in_the_open_page_by_itself() {
    let copy = tempfile::tempdir().expect("a folder");
    let templates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates");
    for entry in std::fs::read_dir(&templates).expect("templates").flatten().filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copied");
    }
    let place = copy.path().display().to_string();
    let lab = Lab::start_in(&["--listen", "127.0.0.1:0"], &[("TESTBEDOS_TEMPLATES", &place)]);
    let (_, browser) = log_in(&lab);
    let file = copy.path().join("deployments.html");
    let text = std::fs::read_to_string(&file).expect("a template");
    std::fs::write(&file, text.replace("<h1>Testbeds</h1>", "<h1>Edited just now</h1>")).expect("written");
    browser.until_text("h1", "Edited just now", Duration::from_secs(5));
    // A wrong one says what is wrong with it, and a mended one shows again.
    std::fs::write(&file, text.replace("{% endblock %}", "{% endblok %}")).expect("written");
    browser.until_text("body", "deployments.html", Duration::from_secs(5));
    std::fs::write(&file, &text).expect("written");
    browser.until_text("h1", "Testbeds", Duration::from_secs(5));
}
