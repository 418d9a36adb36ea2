//! Snapshots of a whole testbed on the real libvirt, OVN and Docker: what ran goes on, what was comes back, and a server that is
//! killed in between leaves the old or the new.

mod containers;
mod lab;

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use containers::{IMAGE, container, image, inspected};
use lab::{Lab, Project, running, wait};

const GUESTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Six guests on a switch; `b` stands behind a slow link.
fn six() -> String {
    let guest = |(index, name): (usize, &&str)| {
        let link = if *name == "b" { ", impairment: {delay_ms: 5}" } else { "" };
        format!("  - {{name: {name}, micro: {{}}, network: [{{switch: lan, ip: 10.81.0.{}{link}}}]}}\n", 10 + index)
    };
    let guests: String = GUESTS.iter().enumerate().map(guest).collect();
    format!("machines:\n{guests}network: {{ovn: {{switches: {{lan: {{subnet: 10.81.0.0/24}}}}}}}}\n")
}

/// Counts in a guest ten times a second, past everything that is said to its shell.
const COUNT: &str =
    "setsid sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/n; mv /tmp/n /tmp/count; sleep 0.1; done' </dev/null >/dev/null 2>&1 &";
/// One end of a stream of numbers over TCP, and the other, which begins as soon as somebody listens.
const LISTEN: &str = "mkfifo /tmp/never; setsid sh -c 'nc -l -p 7000 <>/tmp/never >/tmp/heard' </dev/null >/dev/null 2>&1 &";
const TALK: &str = "setsid sh -c 'while :; do (i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done) | nc 10.81.0.10 7000; sleep 0.2; done' </dev/null >/dev/null 2>&1 &";

struct Six {
    lab: Lab,
    project: Project,
}

impl Six {
    fn sh(&self, guest: &str, command: &str) -> String {
        self.lab.ok(&self.project.args(&["exec", guest, "--", "sh", "-c", command])).stdout
    }

    fn count(&self, guest: &str) -> u64 {
        self.sh(guest, "cat /tmp/count").trim().parse().expect("a number")
    }

    /// The same of all guests at once.
    fn all<T: Send>(&self, ask: impl Fn(&str) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = GUESTS.iter().map(|guest| scope.spawn(|| ask(guest))).collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
        })
    }

    /// By how much the guest's own time (which stands still with it) is behind that of the machine, in seconds.
    fn behind(&self, guest: &str) -> f64 {
        let host = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs_f64();
        let once = || {
            let (before, own) = (host(), self.sh(guest, "cat /proc/uptime"));
            let own: f64 = own.split_whitespace().next().expect("a word").parse().expect("a number");
            (host() - before, f64::midpoint(host(), before) - own)
        };
        // The quickest answer is the truest.
        let answers = [once(), once()];
        answers.into_iter().min_by(|one, other| one.0.total_cmp(&other.0)).expect("two").1
    }

    /// The stream is whole: every number once, in order. Returns the last.
    fn heard(&self) -> u64 {
        let text = self.sh("a", "cat /tmp/heard");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let numbers: Vec<u64> = whole.lines().map(|line| line.parse().expect("a number")).collect();
        let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, expected);
        numbers.len() as u64
    }

    fn goes_on(&self) {
        let (counts, heard) = (self.all(|guest| self.count(guest)), self.heard());
        wait("all count on", Duration::from_secs(20), || {
            self.all(|guest| self.count(guest)).iter().zip(&counts).all(|(now, before)| now > before)
        });
        wait("the stream goes on", Duration::from_secs(30), || self.heard() > heard);
    }

    /// The entry of the snapshot that was asked for last.
    fn result(&self) -> serde_json::Value {
        let path = self.lab.data().join("deployments").join(format!("{}-logs.json", self.project.name));
        let index: serde_json::Value = serde_json::from_slice(&fs::read(path).expect("an index")).expect("JSON");
        let all = index.as_object().expect("entries").values().filter(|entry| entry["command"] == "snapshot");
        all.max_by_key(|entry| entry["started"].as_str().map(str::to_string)).expect("an entry").clone()
    }

    fn shelf(&self) -> std::path::PathBuf {
        self.lab.data().join("deployments").join(&self.project.name).join("snapshots")
    }
}

#[test]
fn six_guests_their_counters_and_a_stream_survive_and_a_killed_server_leaves_the_old_or_the_new() {
    let mut lab = Lab::start();
    let project = lab.project("snap-real", &six());
    lab.ok(&project.args(&["up"]));
    let mut six = Six { lab, project };
    six.all(|guest| drop(six.sh(guest, COUNT)));
    six.sh("a", LISTEN);
    six.sh("b", TALK);
    wait("the stream begins", Duration::from_secs(20), || six.heard() > 3);
    six.lab.ok(&six.project.args(&["link", "set", "b:eth0", "delay_ms=20"]));
    six.lab.ok(&six.project.args(&["link", "set", "f:eth0", "down"]));

    // Made while all of it runs; it goes on.
    let behind = six.all(|guest| six.behind(guest));
    let before = six.all(|guest| six.count(guest));
    six.lab.ok(&six.project.args(&["snapshot", "create", "clean", "--all", "--memory"]));
    assert_eq!(running("snap-real").len(), 6);
    six.goes_on();
    let listed = six.lab.json(&six.project.args(&["snapshot", "info", "clean"]));
    let pause = listed["pause_ms"].as_f64().expect("a pause") / 1000.0;
    assert!(listed["whole"] == true && listed["guests"].as_array().expect("guests").len() == 6, "{listed}");
    println!("pause of 6 guests: {pause:.2} s, {} MiB", listed["bytes"].as_u64().unwrap_or_default() >> 20);
    let entry = six.result();
    assert_eq!((&entry["command"], &entry["error_code"]), (&"snapshot".into(), &0.into()), "{entry}");
    assert!(entry["result"]["guests"].as_array().is_some_and(|guests| guests.iter().all(|guest| guest["error_code"] == 0)), "{entry}");
    assert_eq!(six.lab.run(&six.project.args(&["snapshot", "create", "clean", "--all"])).status, 4, "the name is taken");

    // What is damaged is refused by name, and nothing is touched.
    let memory = six.shelf().join("clean/c.memory");
    let whole = fs::read(&memory).expect("readable");
    let mut broken = whole.clone();
    broken[whole.len() / 2] ^= 1;
    fs::write(&memory, &broken).expect("written");
    let ids = running("snap-real");
    let refused = six.lab.run(&six.project.args(&["snapshot", "restore", "clean"]));
    assert!(refused.status == 1 && refused.stderr.contains("guest `c`: error 54"), "{}", refused.stderr);
    assert_eq!(running("snap-real"), ids);
    fs::write(&memory, &whole).expect("written");

    // Another file since: another guest, no slow link. All of it is put back.
    let more = self::six()
        .replace(", impairment: {delay_ms: 5}", "")
        .replace("network: {ovn", "  - {name: g, micro: {}, network: [{switch: lan, ip: 10.81.0.20}]}\nnetwork: {ovn");
    fs::write(&six.project.file, &more).expect("written");
    six.lab.ok(&six.project.args(&["up"]));
    let began = Instant::now();
    six.lab.ok(&six.project.args(&["snapshot", "restore", "clean"]));
    println!("restore of 6 guests: {:.2} s", began.elapsed().as_secs_f64());
    assert_eq!(running("snap-real").len(), 6, "{:?}", running("snap-real"));
    let links = six.lab.json(&six.project.args(&["link", "show", "--no-probe"]));
    let link = |name: &str| links.as_array().expect("links").iter().find(|link| link["guest"] == *name).expect("a link").clone();
    assert_eq!((&link("b")["to_guest"]["set"]["delay_ms"], &link("f")["carrier"]), (&20.0.into(), &"down".into()), "{links}");
    // All were cut at one moment and run again at one moment: by how much each is behind is the same.
    let lost: Vec<f64> = six.all(|guest| six.behind(guest)).iter().zip(behind).map(|(now, behind)| now - behind).collect();
    let spread = lost.iter().copied().fold(f64::MIN, f64::max) - lost.iter().copied().fold(f64::MAX, f64::min);
    println!("time that each guest lost: {lost:.2?}, spread {spread:.2} s");
    assert!(spread <= pause + 0.5, "the guests' time differs by {spread} s, and the pause was {pause} s: {lost:?}");
    for ((guest, now), before) in GUESTS.iter().zip(six.all(|guest| six.count(guest))).zip(before) {
        assert!(now >= before && now < before + 400, "{guest}: {before} when it was made, {now} now");
    }
    six.goes_on();
    fs::write(&six.project.file, self::six()).expect("written");

    // Killed while it makes one: there is none, or a whole one, and everybody runs.
    let mut child = six
        .lab
        .command(&six.project.args(&["snapshot", "create", "second", "--memory"]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let part = six.shelf().join("second.part");
    wait("it is in the making", Duration::from_secs(20), || part.join("a.memory").exists());
    six.lab.kill();
    child.kill().ok();
    child.wait().expect("it is gone");
    six.lab.boot();
    wait("everybody runs again", Duration::from_secs(30), || running("snap-real").len() == 6 && !part.exists());
    let names = six.lab.ok(&six.project.args(&["-q", "snapshot", "list"])).stdout;
    assert_eq!(names, "clean\n");
    six.goes_on();

    // Killed while it restores: the next server finishes it.
    let far = six.count("a");
    let mut child = six
        .lab
        .command(&six.project.args(&["snapshot", "restore", "clean"]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let mark = six.shelf().join("restoring.json");
    wait("it gives up what was there", Duration::from_secs(20), || mark.exists());
    wait("the first is gone", Duration::from_secs(20), || running("snap-real").len() < 6);
    six.lab.kill();
    child.kill().ok();
    child.wait().expect("it is gone");
    six.lab.boot();
    wait("it is finished", Duration::from_secs(60), || !mark.exists());
    assert_eq!(running("snap-real").len(), 6);
    assert!(six.count("a") < far, "it counts from where the snapshot was");
    six.goes_on();

    // `down` keeps it, and from nothing all of it comes back.
    six.lab.ok(&six.project.args(&["down"]));
    assert!(six.lab.leftovers("snap-real").iter().all(|left| left.contains("/snapshots/clean/")), "{:?}", six.lab.leftovers("snap-real"));
    let kept = six.lab.run(&six.project.args(&["deployment", "destroy"]));
    assert!(kept.status == 4 && kept.stderr.contains("clean"), "{}", kept.stderr);
    six.lab.ok(&six.project.args(&["snapshot", "restore", "clean"]));
    six.goes_on();
    six.lab.ok(&six.project.args(&["down"]));
    six.lab.ok(&six.project.args(&["snapshot", "delete", "clean"]));
    assert_eq!(six.lab.leftovers("snap-real"), Vec::<String>::new());
}

#[test]
fn containers_and_disks_of_stopped_guests_come_back_alone_or_together() {
    image();
    let mut lab = Lab::start();
    let yaml = format!(
        "machines:
  - {{name: box, docker: {{image: {IMAGE}, command: sleep 1000000}}, network: [{{switch: lan, ip: 10.82.0.10}}]}}
  - {{name: vm, micro: {{}}, network: [{{switch: lan, ip: 10.82.0.11}}]}}
  - name: disk
    libvirt: {{cpus: 1, memory_mb: 64, libvirt_type: {{existing_disk: {{path: blank.img}}}}}}
    network: [{{switch: lan, ip: 10.82.0.12}}]
network: {{ovn: {{switches: {{lan: {{subnet: 10.82.0.0/24}}}}}}}}
"
    );
    let project = lab.project("mixed-snap-real", &yaml);
    fs::File::create(project.folder.join("blank.img")).expect("made").set_len(8 << 20).expect("long");
    lab.ok(&project.args(&["up"]));
    let sh = |guest: &str, command: &str| lab.run(&project.args(&["exec", guest, "--", "sh", "-c", command])).stdout;
    let disks = lab.data().join("deployments/mixed-snap-real/disks");
    let disk = fs::read_dir(&disks).expect("disks").next().expect("a disk").expect("an entry").path();
    let write = |pattern: &str| {
        lab::lines("qemu-io", &["-f", "qcow2", "-c", &format!("write -P {pattern} 1M 64k"), disk.to_str().expect("UTF-8")]);
    };
    let holds = |pattern: &str| {
        let asked =
            lab::lines("qemu-io", &["-r", "-U", "-f", "qcow2", "-c", &format!("read -P {pattern} 1M 64k"), disk.to_str().expect("UTF-8")]);
        !asked.join(" ").contains("verification failed")
    };
    sh("box", "echo one >/root/file; echo kept >/root/other");
    lab::lines("virsh", &["-q", "destroy", "mixed-snap-real.disk"]);
    write("1");
    lab.ok(&project.args(&["snapshot", "create", "one", "--all"]));
    let info = lab.json(&project.args(&["snapshot", "info", "one"]));
    let states: Vec<&str> = info["guests"].as_array().expect("guests").iter().filter_map(|guest| guest["state"].as_str()).collect();
    assert_eq!(states, ["running", "off", "running"], "{info}");

    // One guest alone; the others are as they were.
    sh("box", "echo two >/root/file; rm /root/other");
    write("2");
    let vm = running("mixed-snap-real");
    lab.ok(&project.args(&["snapshot", "restore", "one", "box"]));
    assert_eq!(sh("box", "cat /root/file /root/other"), "one\nkept\n");
    assert_eq!(running("mixed-snap-real"), vm);
    assert!(holds("2"));
    assert_eq!(sh("vm", "ping -c 2 -W 2 10.82.0.10 >/dev/null && echo there"), "there\n");
    lab.ok(&project.args(&["snapshot", "restore", "one", "disk"]));
    assert!(holds("1"), "the disk is what it was");

    // Together: who was off stays off, and `up` takes what came back for what it made.
    sh("box", "rm /root/file");
    write("3");
    lab.ok(&project.args(&["snapshot", "restore", "one", "--all"]));
    assert!(holds("1"));
    assert_eq!(sh("box", "cat /root/file"), "one\n");
    let plan = lab.json(&project.args(&["plan"]));
    let steps: Vec<&str> = plan["steps"].as_array().expect("steps").iter().filter_map(|step| step["id"].as_str()).collect();
    assert!(steps.iter().all(|step| step.contains("disk")), "{steps:?}");
    lab.ok(&project.args(&["up"]));
    assert_eq!(sh("box", "cat /root/file"), "one\n", "an `up` leaves it alone");

    // While it runs too, and by force all goes with the deployment.
    lab.ok(&project.args(&["snapshot", "create", "two", "disk", "--memory"]));
    lab.ok(&project.args(&["snapshot", "restore", "two"]));
    assert_eq!(running("mixed-snap-real").len(), 2);
    let images = || lab::lines("docker", &["images", "-q", "testbedos-snapshot"]).len();
    assert!(images() >= 1 && inspected(&container("mixed-snap-real", "box"), "{{.Config.Image}}").starts_with("testbedos-snapshot:"));
    let before = images();
    lab.ok(&project.args(&["deployment", "destroy", "--force"]));
    assert_eq!(images(), before - 1);
    assert_eq!(containers::left(&lab, "mixed-snap-real"), Vec::<String>::new());
}
