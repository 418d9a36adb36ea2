//! An `up` that cannot work exits 1 within its limits, names guest, condition and limit, and unwinds completely.

mod lab;

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lab::{Lab, running};

const NETWORK: &str = "network: {ovn: {switches: {lan: {subnet: 10.66.0.0/24}}}}\n";

fn blank_disk(folder: &std::path::Path) {
    let file = std::fs::File::create(folder.join("blank.img")).expect("a file");
    file.set_len(1 << 20).expect("one MiB");
}

/// The last action's entry in the log index.
fn last_entry(lab: &Lab, name: &str) -> serde_json::Value {
    let text = std::fs::read(lab.data().join("deployments").join(format!("{name}-logs.json"))).expect("the index");
    let index: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let entries = index.as_object().expect("an object");
    entries.values().max_by_key(|entry| entry["started"].as_str().unwrap_or_default().to_string()).expect("an entry").clone()
}

#[test]
fn a_disk_that_does_not_exist() {
    let mut lab = Lab::start();
    let yaml = format!(
        "machines:\n  - {{name: ok, micro: {{}}, network: [{{switch: lan}}]}}\n  - name: ghost\n    libvirt: {{cpus: 1, memory_mb: 128, libvirt_type: {{existing_disk: {{path: no-such.img}}}}}}\n    network: [{{switch: lan}}]\n{NETWORK}"
    );
    let project = lab.project("fail-image", &yaml);
    let ran = lab.run(&project.args(&["up"]));
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("no-such.img") && ran.stderr.contains("ghost"), "{}", ran.stderr);
    assert_ne!(last_entry(&lab, "fail-image")["error_code"], 0);
    assert_eq!(lab.leftovers("fail-image"), Vec::<String>::new());
}

#[test]
fn a_guest_that_never_becomes_ready() {
    let mut lab = Lab::start();
    let yaml = format!(
        "machines:\n  - {{name: fine, micro: {{}}, network: [{{switch: lan}}]}}\n  - name: mute\n    libvirt: {{cpus: 1, memory_mb: 64, libvirt_type: {{existing_disk: {{path: blank.img}}}}}}\n    network: [{{switch: lan}}]\n    ready: {{agent: true, timeout_s: 12}}\n{NETWORK}"
    );
    let project = lab.project("fail-ready", &yaml);
    blank_disk(&project.folder);
    let began = Instant::now();
    let ran = lab.run(&project.args(&["up"]));
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    assert!(began.elapsed() < Duration::from_secs(60), "it took {:?}", began.elapsed());
    for word in ["mute", "agent answers", "12 s"] {
        assert!(ran.stderr.contains(word), "no `{word}` in: {}", ran.stderr);
    }
    let entry = last_entry(&lab, "fail-ready");
    assert_eq!((entry["state"].as_str(), entry["error_code"].as_u64()), (Some("failed"), Some(70)), "{entry}");
    assert_eq!(lab.leftovers("fail-ready"), Vec::<String>::new());

    // Kept on request, and taken down afterwards.
    assert_eq!(lab.run(&project.args(&["up", "--keep-on-failure"])).status, 1);
    assert_eq!(running("fail-ready").len(), 2);
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.leftovers("fail-ready"), Vec::<String>::new());
}

#[test]
fn a_full_disk() {
    let mut lab = Lab::start();
    let small = lab.folder.path().join("small");
    std::fs::create_dir_all(&small).expect("a folder");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m,mode=755", "tmpfs"]).arg(&small).status().expect("mount");
    assert!(mounted.success());
    // A server of its own on the small disk; base images lie elsewhere.
    let data = small.join("data");
    let socket = lab.folder.path().join("small.sock");
    let mut server = Command::new(lab::testbed_binary().with_file_name("testbedos-server"))
        .args(["master", "--no-tcp", "--data-dir"])
        .arg(&data)
        .arg("--socket")
        .arg(&socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    lab::wait("the server answers", Duration::from_secs(20), || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let yaml = format!(
        "machines:\n  - name: big\n    libvirt: {{cpus: 1, memory_mb: 64, libvirt_type: {{existing_disk: {{path: blank.img, create_deep_copy: true}}}}}}\n    network: [{{switch: lan}}]\n{NETWORK}"
    );
    let project = lab.project("fail-full", &yaml);
    // Random content: a copy of it needs its whole size.
    let filled = Command::new("dd")
        .args(["if=/dev/urandom", "bs=1M", "count=4", &format!("of={}", project.folder.join("blank.img").display())])
        .stderr(Stdio::null())
        .status()
        .expect("dd");
    assert!(filled.success());
    let host = format!("unix:{}", socket.display());
    let output = Command::new(lab::testbed_binary())
        .args(["--host", &host])
        .args(project.args(&["up"]))
        .stdin(Stdio::null())
        .output()
        .expect("testbed runs");
    let ran = lab::Ran::of(output);
    let left: Vec<String> = lab::files_below(&data.join("deployments/fail-full"))
        .into_iter()
        .map(|file| file.display().to_string())
        .filter(|file| !file.contains("/project/"))
        .collect();
    let (domains, rows) = (lab::domains("fail-full"), lab::rows("fail-full"));
    server.kill().expect("it can be killed");
    server.wait().expect("it is gone");
    assert!(Command::new("umount").arg("-l").arg(&small).status().expect("umount").success());
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("big"), "{}", ran.stderr);
    assert!(ran.stderr.to_lowercase().contains("space") || ran.stderr.to_lowercase().contains("full"), "{}", ran.stderr);
    assert_eq!((left, domains, rows), (vec![], vec![], vec![]));
}

#[test]
fn a_name_that_another_installation_holds() {
    let (mut one, mut other) = (Lab::start(), Lab::start());
    let yaml = format!("machines:\n  - {{name: one, micro: {{}}, network: [{{switch: lan}}]}}\n{NETWORK}");
    let theirs = one.project("fail-twice", &yaml);
    one.ok(&theirs.args(&["up"]));
    let ours = other.project("fail-twice", &yaml);
    let ran = other.run(&ours.args(&["up"]));
    let installation = one.json(&["version", "--server"])["server"]["installation"].as_str().expect("an id").to_string();
    assert_eq!(ran.status, 4, "{}", ran.stderr);
    for words in [format!("another installation, {installation}, has it").as_str(), "hint: ", "--project-name"] {
        assert!(ran.stderr.contains(words), "no `{words}` in: {}", ran.stderr);
    }
    other.ok(&ours.args(&["down"]));
    assert_eq!(running("fail-twice").len(), 1, "nothing of theirs was touched");
    one.ok(&theirs.args(&["down"]));
}

/// Writes until nothing more fits.
fn fill_up(path: &std::path::Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).expect("a file");
    for size in [1 << 20, 4096] {
        let piece = vec![b'x'; size];
        while file.write_all(&piece).is_ok() {}
    }
}

#[test]
fn a_disk_without_a_single_byte_left() {
    let mut lab = Lab::start_on_disk(40);
    let project = lab.project("fail-brim", &format!("machines:\n  - {{name: one, micro: {{}}, network: [{{switch: lan}}]}}\n{NETWORK}"));
    lab.ok(&project.args(&["up"]));
    let reserve = |lab: &Lab| {
        let ready: serde_json::Value = serde_json::from_str(&lab.run(&["-o", "json", "doctor"]).stdout).expect("JSON");
        let parts = ready["parts"].as_array().expect("parts").clone();
        parts.into_iter().find(|part| part["part"] == "reserve").expect("the reserve")["ok"] == true
    };
    assert!(reserve(&lab));
    let filler = lab.data().join("filler");
    fill_up(&filler);
    for command in ["up", "plan"] {
        let ran = lab.run(&project.args(&[command]));
        assert_eq!(ran.status, 1, "{command}: {}", ran.stderr);
        assert!(ran.stderr.contains("No space left") && ran.stderr.contains("hint: free some space"), "{command}: {}", ran.stderr);
    }
    assert!(reserve(&lab), "only what removes gets the room");
    // Killed and started again without a byte left.
    lab.kill();
    lab.boot();
    assert!(!reserve(&lab));
    fill_up(&lab.data().join("more"));
    let ran = lab.run(&project.args(&["down"]));
    assert_eq!(ran.status, 1, "the last room was taken: {}", ran.stderr);
    std::fs::remove_file(lab.data().join("more")).expect("removed");
    lab.ok(&project.args(&["up"]));
    std::fs::remove_file(&filler).expect("removed");
    lab::wait("the room is set aside again", Duration::from_secs(30), || reserve(&lab));

    fill_up(&filler);
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.leftovers("fail-brim"), Vec::<String>::new());
    assert_eq!(lab.json(&["list"])[0]["state"], "down");
    assert!(!reserve(&lab));
    assert_eq!(last_entry(&lab, "fail-brim")["command"], "down", "its outcome is on the disk");
}

#[test]
fn libvirt_that_goes_away_in_the_middle_and_comes_back() {
    let relay = Relay::start("/run/libvirt/libvirt-sock");
    let uri = format!("qemu+unix:///system?socket={}", relay.path.display());
    let mut lab = Lab::start_with(&["--libvirt-uri", &uri]);
    // Starts give up after 8 s without libvirt, waits at their own limit: whichever is under way, 20 s are too long.
    let machine = |name: &str| format!("  - {{name: {name}, micro: {{}}, network: [{{switch: lan}}], ready: {{timeout_s: 15}}}}\n");
    let project = lab.project("fail-virt", &format!("machines:\n{}{}{NETWORK}", machine("one"), machine("two")));
    let mut child = lab.command(&project.args(&["up"])).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("testbed runs");
    lab::wait("the first domain runs", Duration::from_secs(60), || !running("fail-virt").is_empty());
    relay.cut(true);
    // Away for longer than a restart takes, which would be sat out; back while unwinding still waits for it.
    std::thread::sleep(Duration::from_secs(20));
    relay.cut(false);
    let began = Instant::now();
    let status = child.wait().expect("it ends");
    assert!(began.elapsed() < Duration::from_secs(120));
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().expect("stderr"), &mut stderr).expect("text");
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("libvirt"), "{stderr}");
    assert_eq!(lab.leftovers("fail-virt"), Vec::<String>::new());
    let entry = last_entry(&lab, "fail-virt");
    assert_ne!(entry["error_code"], 0, "{entry}");
    // And with libvirt away from the start: refused, nothing half-done.
    relay.cut(true);
    let ran = lab.run(&project.args(&["up"]));
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("libvirt") && ran.stderr.contains("hint"), "{}", ran.stderr);
    relay.cut(false);
    lab.ok(&project.args(&["up"]));
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.leftovers("fail-virt"), Vec::<String>::new());
}

/// A Unix socket that passes everything on to another, until it is cut: what a client sees of a daemon that dies.
struct Relay {
    path: std::path::PathBuf,
    folder: tempfile::TempDir,
    cut: std::sync::Arc<std::sync::atomic::AtomicBool>,
    open: std::sync::Arc<std::sync::Mutex<Vec<std::os::unix::net::UnixStream>>>,
}

impl Relay {
    fn start(target: &'static str) -> Relay {
        use std::os::unix::net::{UnixListener, UnixStream};
        let folder = tempfile::Builder::new().prefix("tb-relay").tempdir().expect("a folder");
        let path = folder.path().join("sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let relay = Relay { path, folder, cut: Default::default(), open: Default::default() };
        let (cut, open) = (relay.cut.clone(), relay.open.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if cut.load(std::sync::atomic::Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = UnixStream::connect(target) else { continue };
                open.lock().expect("not poisoned").extend([client.try_clone().expect("cloned"), server.try_clone().expect("cloned")]);
                for (mut from, mut to) in [(client.try_clone().expect("cloned"), server.try_clone().expect("cloned")), (server, client)] {
                    std::thread::spawn(move || {
                        let _ended = std::io::copy(&mut from, &mut to);
                        let _shut = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        relay
    }

    fn cut(&self, cut: bool) {
        self.cut.store(cut, std::sync::atomic::Ordering::SeqCst);
        if cut {
            for stream in self.open.lock().expect("not poisoned").drain(..) {
                let _shut = stream.shutdown(std::net::Shutdown::Both);
            }
        }
        assert!(self.folder.path().exists());
    }
}
