//! Links between real guests: what is asked of them is what the guests themselves measure, and nobody else notices.

mod lab;

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use lab::{Lab, Project};
use serde_json::Value;

fn yaml(impairment: &str) -> String {
    let machine = |name: &str, last: u8, more: &str| {
        format!("  - {{name: {name}, micro: {{}}, network: [{{switch: lan, ip: 10.71.0.{last}{more}}}]}}\n")
    };
    let impaired = if impairment.is_empty() { String::new() } else { format!(", impairment: {{{impairment}}}") };
    format!(
        "machines:\n{}{}{}{}network: {{ovn: {{switches: {{lan: {{subnet: 10.71.0.0/24}}}}}}}}\n",
        machine("a", 1, &impaired),
        machine("b", 2, ""),
        machine("c", 3, ""),
        machine("d", 4, "")
    )
}

/// A guest's ping: how many went out and came back, and the round trips in milliseconds, shortest first.
struct Pings {
    sent: usize,
    came: usize,
    times: Vec<f64>,
}

impl Pings {
    fn read(text: &str) -> Pings {
        let number = |before: &str| -> usize {
            let word = text.split(before).next().and_then(|text| text.split_whitespace().last());
            word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no number before {before:?} in {text}"))
        };
        let mut times: Vec<f64> = text.split("time=").skip(1).filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).collect();
        times.sort_by(f64::total_cmp);
        // A doubled reply counts once here: busybox counts it apart.
        Pings { sent: number(" packets transmitted"), came: number(" packets received"), times }
    }

    fn lost_percent(&self) -> f64 {
        100.0 * (self.sent - self.came) as f64 / self.sent as f64
    }

    /// What a quarter of the round trips stay under: where guests are emulated on a busy machine, the others show how long
    /// a guest waited for its turn.
    fn quick(&self) -> f64 {
        self.times.get(self.times.len() / 4).copied().unwrap_or(f64::INFINITY)
    }
}

struct Testbed {
    lab: Lab,
    project: Project,
}

impl Testbed {
    fn up(name: &str, impairment: &str) -> Testbed {
        let mut lab = Lab::start();
        let project = lab.project(name, &yaml(impairment));
        lab.ok(&project.args(&["up"]));
        Testbed { lab, project }
    }

    fn ok(&self, args: &[&str]) -> String {
        self.lab.ok(&self.project.args(args)).stdout
    }

    fn inside(&self, guest: &str, argv: &[&str]) -> String {
        self.ok(&[&["exec", guest, "--"], argv].concat())
    }

    fn ping(&self, from: &str, to: u8, count: u32, gap: &str) -> Pings {
        let (count, to) = (count.to_string(), format!("10.71.0.{to}"));
        let ran = self.lab.run(&self.project.args(&["exec", from, "--", "ping", "-W", "2", "-c", &count, "-i", gap, &to]));
        Pings::read(&ran.stdout)
    }

    fn json(&self, args: &[&str]) -> Value {
        self.lab.json(&self.project.args(args))
    }

    fn link(&self, name: &str) -> Value {
        self.json(&["link", "show", name])[0].take()
    }

    /// The steps of the plan: id, impact, guests.
    fn plan(&self) -> Vec<(String, String, String)> {
        let plan = self.json(&["plan"]);
        let steps = plan["steps"].as_array().expect("steps");
        let word = |value: &Value| value.as_str().unwrap_or_default().to_string();
        steps.iter().map(|step| (word(&step["id"]), word(&step["impact"]), step["guests"].to_string())).collect()
    }

    fn write(&self, impairment: &str) {
        std::fs::write(&self.project.file, yaml(impairment)).expect("written");
    }

    /// Megabits per second that TCP gets from one guest to another.
    fn iperf(&self, from: &str, to: &str, address: &str) -> f64 {
        self.inside(to, &["sh", "-c", "iperf3 -s -1 -D && sleep 0.3"]);
        let text = self.inside(from, &["iperf3", "-J", "-t", "5", "-O", "1", "-c", address]);
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or_else(|| panic!("no rate in {text}")) / 1e6
    }

    /// Expects that TCP gets what a link lets through, within 15 %. Emulated guests that wait for a processor leave the link
    /// idle meanwhile and get less, so it is seen once in six looks; more than it lets through is never seen.
    fn gets(&self, wanted: f64, from: &str, to: &str, address: &str) {
        let mut seen = Vec::new();
        for _ in 0..6 {
            let rate = self.iperf(from, to, address);
            println!("{wanted} Mbit/s from {from} to {to}: iperf3 gets {rate:.2}");
            assert!(rate <= 1.15 * wanted, "{rate} of {wanted}");
            seen.push(rate);
            if rate >= 0.85 * wanted {
                return;
            }
        }
        panic!("{seen:?} of {wanted}");
    }

    fn down(self) {
        self.ok(&["down"]);
        assert_eq!(self.lab.leftovers(&self.project.name), Vec::<String>::new());
    }
}

fn near(value: &Value, wanted: f64, by: f64) -> bool {
    value.as_f64().is_some_and(|value| (value - wanted).abs() <= by)
}

/// A ping between two guests that nothing happens to, for as long as it runs.
struct Bystanders(Child);

impl Bystanders {
    fn start(testbed: &Testbed, count: u32) -> Bystanders {
        let count = count.to_string();
        let args = ["exec", "c", "--", "ping", "-c", &count, "-i", "0.1", "-W", "5", "10.71.0.4"];
        let child = testbed.lab.command(&testbed.project.args(&args)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Bystanders(child.expect("testbed runs"))
    }

    fn end(self) -> Pings {
        Pings::read(&String::from_utf8_lossy(&self.0.wait_with_output().expect("it ends").stdout))
    }
}

#[test]
fn guests_measure_what_their_links_are_asked_and_bystanders_notice_nothing() {
    let testbed = Testbed::up("links-real", "");
    assert!(testbed.plan().is_empty());
    let plain = testbed.ping("a", 2, 40, "0.05");
    assert_eq!(plain.came, plain.sent);
    let bystanders = Bystanders::start(&testbed, 400);

    // 25 ms each way, by the file, in place.
    testbed.write("delay_ms: 25");
    assert_eq!(testbed.plan(), [("link/a:eth0".into(), "in_place".into(), "[\"a\"]".into())]);
    testbed.ok(&["up"]);
    assert!(testbed.plan().is_empty());
    let added: Vec<f64> = (0..5).map(|_| testbed.ping("a", 2, 40, "0.05").quick() - plain.quick()).collect();
    println!("25 ms each way: plain {:.1} ms, added {added:.1?} ms", plain.quick());
    assert!(added.iter().any(|added| (47.0..=53.0).contains(added)), "{added:?}");
    let link = testbed.link("a:eth0");
    for direction in ["to_guest", "from_guest"] {
        assert!(near(&link[direction]["probed"]["delay_ms"], 25.0, 2.0), "{link}");
        assert!(near(&link[direction]["traffic"]["delay_ms"], 25.0, 3.0), "{link}");
        assert_eq!(link[direction]["file"], link[direction]["set"]);
    }
    assert_eq!((&link["carrier"], &link["deviates"]), (&Value::from("up"), &Value::from(false)));

    // 5 % loss in one direction, live; the next plan shows it, and `up` takes it back.
    testbed.ok(&["link", "set", "a:eth0", "clear", "loss_percent=5", "--from-guest"]);
    assert_eq!(testbed.plan(), [("link/a:eth0".into(), "in_place".into(), "[\"a\"]".into())]);
    let lossy = testbed.ping("a", 2, 2000, "0.004");
    println!("5 % loss: {} of {} came, {:.2} % lost", lossy.came, lossy.sent, lossy.lost_percent());
    assert!((3.0..=7.0).contains(&lossy.lost_percent()), "{}", lossy.lost_percent());
    let link = testbed.link("a:eth0");
    assert!(
        near(&link["from_guest"]["probed"]["loss_percent"], 5.0, 3.0) && near(&link["to_guest"]["probed"]["loss_percent"], 0.0, 0.0),
        "{link}"
    );
    assert_eq!(link["deviates"], true);
    testbed.ok(&["up"]);
    assert!(testbed.plan().is_empty());

    // The cable out and in again: the guest sees its carrier go.
    let carrier = || testbed.inside("a", &["cat", "/sys/class/net/eth0/carrier"]).trim().to_string();
    assert_eq!(carrier(), "1");
    testbed.ok(&["link", "set", "a:eth0", "down"]);
    assert_eq!(carrier(), "0");
    assert_eq!(testbed.ping("b", 1, 3, "0.1").came, 0);
    let pulled = testbed.link("a");
    assert!(pulled["carrier"] == "down" && pulled["to_guest"]["probed"].is_null() && pulled["to_guest"]["traffic"].is_object(), "{pulled}");
    let shown = testbed.ok(&["link", "show", "a"]);
    assert!(shown.contains("a:eth0 passes nothing: its carrier is down") && !shown.contains("probe"), "{shown}");
    assert_eq!(testbed.plan(), [("carrier/a:eth0".into(), "in_place".into(), "[\"a\"]".into())]);
    testbed.ok(&["link", "set", "a:eth0", "up"]);
    assert_eq!(carrier(), "1");
    assert!(testbed.plan().is_empty());
    lab::wait("a answers again", Duration::from_secs(10), || testbed.ping("b", 1, 1, "0.1").came == 1);
    testbed.ok(&["link", "set", "a:eth0", "down"]);
    testbed.ok(&["up"]);
    assert_eq!(carrier(), "1");

    // Plain again, by the file.
    testbed.write("");
    assert_eq!(testbed.plan(), [("unlink/a:eth0".into(), "in_place".into(), "[\"a\"]".into())]);
    testbed.ok(&["up"]);
    assert_eq!(lab::links("links-real"), Vec::<String>::new());
    assert_eq!(testbed.ping("a", 2, 5, "0.1").came, 5);
    let unseen = bystanders.end();
    println!("bystanders: {} of {} came", unseen.came, unseen.sent);
    assert_eq!((unseen.came, unseen.sent), (400, 400));

    // What cannot be is refused with what to do.
    for (args, status) in [
        (&["link", "set", "a:eth9", "up"][..], 3),
        (&["link", "set", "nobody:eth0", "up"][..], 3),
        (&["link", "set", "a:eth0", "loss_percent=101"][..], 2),
        (&["link", "set", "a:eth0", "reorder_percent=1"][..], 2),
        (&["link", "show", "a:eth9"][..], 3),
    ] {
        let ran = testbed.lab.run(&testbed.project.args(args));
        assert_eq!(ran.status, status, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("hint:"), "{args:?}: {}", ran.stderr);
    }
    testbed.down();
}

#[test]
fn rates_are_what_iperf3_gets_and_all_conditions_act_together() {
    let testbed = Testbed::up("rates-real", "rate_mbit: 2");
    testbed.gets(2.0, "a", "b", "10.71.0.2");
    testbed.gets(2.0, "b", "a", "10.71.0.1");
    // Changed live, one way.
    testbed.ok(&["link", "set", "a:eth0", "rate_mbit=1", "--to-guest"]);
    testbed.gets(1.0, "b", "a", "10.71.0.1");
    assert!(near(&testbed.link("a:eth0")["to_guest"]["probed"]["rate_mbit"], 1.0, 0.15));

    // A rate alone towards the guest is the kernel's: no relay, and the guest's own device in its place.
    testbed.ok(&["link", "set", "a:eth0", "clear", "rate_mbit=2", "--to-guest"]);
    assert_eq!(lab::links("rates-real"), Vec::<String>::new());
    testbed.gets(2.0, "b", "a", "10.71.0.1");
    let link = testbed.link("a:eth0");
    assert!(link["to_guest"]["set"]["rate_mbit"] == 2.0 && link["to_guest"]["traffic"]["packets"].as_u64() > Some(300), "{link}");
    assert!(link["fault"].is_null() && link["to_guest"]["probed"].is_null(), "{link}");

    // Everything at once.
    let all = ["delay_ms=20", "jitter_ms=4", "loss_percent=10", "duplicate_percent=10", "reorder_percent=10", "rate_mbit=4"];
    testbed.ok(&[&["link", "set", "a:eth0"][..], &all].concat());
    let pings = testbed.ping("a", 2, 300, "0.03");
    println!("all at once: {} of {} came, quick {:.1} ms", pings.came, pings.sent, pings.quick());
    // Lost there, or on the way back: 19 % of them.
    assert!((12.0..=27.0).contains(&pings.lost_percent()), "{}", pings.lost_percent());
    assert!(pings.times.len() > pings.came, "some came twice");
    let link = testbed.link("a:eth0");
    println!("{link:#}");
    for direction in ["to_guest", "from_guest"] {
        let found = &link[direction]["probed"];
        // Those that are out of order are not held, so the average is less than 20 ms.
        assert!(near(&found["delay_ms"], 18.5, 3.0) && near(&found["loss_percent"], 10.0, 5.0), "{found}");
        assert!(near(&found["duplicate_percent"], 9.0, 5.0) && near(&found["reorder_percent"], 9.0, 5.0), "{found}");
        assert!(near(&found["rate_mbit"], 4.0, 0.6), "{found}");
    }
    testbed.down();
}

/// The relay's process; there is one.
fn relay(name: &str) -> String {
    let pids: Vec<String> = lab::links(name).into_iter().filter_map(|link| Some(link.strip_prefix("relay ")?.to_string())).collect();
    assert_eq!(pids.len(), 1, "{pids:?}");
    pids[0].clone()
}

#[test]
fn links_outlive_the_server_and_are_mended_after_any_death() {
    let mut testbed = Testbed::up("mended-real", "delay_ms: 10");
    let quick = |testbed: &Testbed| testbed.ping("b", 1, 10, "0.05");
    assert!(quick(&testbed).quick() > 20.0);
    // The server dies: the relay is nobody's child, and passes frames on.
    let before = relay("mended-real");
    testbed.lab.kill();
    testbed.lab.boot();
    assert_eq!(relay("mended-real"), before);
    assert!(testbed.plan().is_empty());
    assert_eq!(quick(&testbed).came, 10);

    // The relay dies: that is seen, told, and mended in place.
    lab::lines("kill", &["-9", &before]);
    lab::wait("the relay is gone", Duration::from_secs(10), || !std::path::Path::new(&format!("/proc/{before}/cmdline")).exists());
    assert!(testbed.link("a:eth0")["fault"].as_str().is_some_and(|fault| fault.contains("relay")));
    assert_eq!(testbed.plan(), [("link/a:eth0".into(), "in_place".into(), "[\"a\"]".into())]);
    testbed.ok(&["up"]);
    assert_ne!(relay("mended-real"), before);
    assert_eq!(quick(&testbed).came, 10);

    // The guest dies, and is started by us; then behind our back.
    lab::lines("virsh", &["-q", "destroy", "mended-real.a"]);
    testbed.ok(&["up"]);
    assert!(testbed.plan().is_empty());
    assert!(quick(&testbed).quick() > 20.0);
    lab::lines("virsh", &["-q", "destroy", "mended-real.a"]);
    lab::lines("virsh", &["-q", "start", "mended-real.a"]);
    testbed.ok(&["up"]);
    assert!(testbed.plan().is_empty());
    assert!(quick(&testbed).quick() > 20.0);

    // The server dies at any moment of a change: the next `up` makes what the file says.
    for millis in [1, 20, 40, 60, 80, 100, 130, 160, 200] {
        let change = if millis % 40 == 20 { "clear" } else { "delay_ms=30" };
        let mut child = testbed
            .lab
            .command(&testbed.project.args(&["link", "set", "a:eth0", change]))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("testbed runs");
        std::thread::sleep(Duration::from_millis(millis));
        testbed.lab.kill();
        child.wait().expect("it ends");
        testbed.lab.boot();
        testbed.ok(&["up"]);
        assert!(testbed.plan().is_empty(), "killed after {millis} ms: {:?}", testbed.plan());
        let pings = quick(&testbed);
        assert!(pings.came == 10 && pings.quick() > 20.0, "killed after {millis} ms: {} came, {} ms", pings.came, pings.quick());
    }
    testbed.lab.kill();
    testbed.lab.boot();
    testbed.down();
}
