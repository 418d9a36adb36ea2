//! A relay between two network namespaces on this machine's kernel: real frames, real time. Needs root.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use testbedos_relay::{
    client::Client,
    wire::{Condition, Link, Reply, Request, Shape},
};

/// Two namespaces: the network's, with the relay and its TAP device (10.9.0.1), and the guest's (10.9.0.2).
struct Bench {
    network: String,
    guest: String,
    folder: tempfile::TempDir,
    relay: Option<Child>,
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split_whitespace()).output().expect("ip(8) runs");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Bench {
    fn new(name: &str) -> Bench {
        let unique = format!("{name}{}", std::process::id());
        let (network, guest) = (format!("tbr-n-{unique}"), format!("tbr-g-{unique}"));
        for namespace in [&network, &guest] {
            ip(&format!("netns add {namespace}"));
            ip(&format!("-n {namespace} link set lo up"));
        }
        // What stands for the guest's TAP device takes no part in the network's own traffic.
        ip(&format!("-n {network} link add tap0 type veth peer name eth0 netns {guest}"));
        ip(&format!("-n {network} link set tap0 arp off up"));
        ip(&format!("-n {guest} addr add 10.9.0.2/24 dev eth0"));
        ip(&format!("-n {guest} link set eth0 up"));
        ip(&format!("-n {network} tuntap add dev tbl0 mode tap"));
        ip(&format!("-n {network} addr add 10.9.0.1/24 dev tbl0"));
        ip(&format!("-n {network} link set tbl0 up"));
        let bench = Bench { network, guest, folder: tempfile::tempdir().expect("a folder"), relay: None };
        // Unfinished checksums are nobody's to finish here, and frames leave as they would leave a guest.
        let off = ["ethtool", "-K", "eth0", "tx", "off", "gso", "off", "tso", "off"];
        assert!(bench.inside(&bench.guest, &off).output().expect("ethtool(8)").status.success());
        bench
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().join("relay")
    }

    fn inside(&self, namespace: &str, argv: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).args(argv).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&mut self) -> Client {
        let folder = self.folder();
        let argv = [env!("CARGO_BIN_EXE_testbedos-relay"), "run", "--installation", "i", "--deployment", "d", "--folder"];
        self.relay = Some(self.inside(&self.network, &argv).arg(&folder).spawn().expect("it starts"));
        connected(&folder)
    }

    fn link(&self) -> Link {
        let argv = ["cat", "/sys/class/net/tap0/ifindex"];
        let output = self.inside(&self.network, &argv).output().expect("cat(1)");
        let tap_index = String::from_utf8_lossy(&output.stdout).trim().parse().expect("an index");
        Link { device: "tbl0".into(), tap: "tap0".into(), tap_index, label: "g:eth0".into() }
    }

    fn add(&self, client: &mut Client, shape: Shape) {
        let reply = client.ask(&Request::Add { link: self.link(), shape }).expect("an answer");
        assert_eq!(reply, Reply::Done);
    }

    /// Pings from the guest; (replies of a hundred, average round trip in milliseconds).
    fn ping(&self, count: u32, gap: &str) -> (f64, f64) {
        let count = count.to_string();
        let argv = ["busybox", "ping", "-q", "-W", "2", "-i", gap, "-c", &count, "10.9.0.1"];
        let output = self.inside(&self.guest, &argv).output().expect("busybox runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = |before: &str| -> f64 {
            let word = text.split(before).next().and_then(|text| text.split_whitespace().last());
            word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no number in {text:?}"))
        };
        let (sent, came) = (number(" packets transmitted"), number(" packets received"));
        let average = text.split(" = ").nth(1).and_then(|times| times.split('/').nth(1)).and_then(|word| word.parse().ok());
        (100.0 * came / sent, average.unwrap_or(f64::NAN))
    }
}

fn connected(folder: &Path) -> Client {
    let began = Instant::now();
    loop {
        if let Ok(Some(mut client)) = Client::connect(folder)
            && client.hello().is_ok()
        {
            return client;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "the relay does not answer");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(relay) = &mut self.relay {
            let _gone = relay.kill();
            let _gone = relay.wait();
        }
        for namespace in [&self.network, &self.guest] {
            let _gone = Command::new("ip").args(["netns", "del", namespace]).output();
        }
    }
}

fn both(condition: Condition) -> Shape {
    Shape { to_guest: condition, from_guest: condition }
}

#[test]
fn frames_pass_are_delayed_and_lost_as_asked_and_measured() {
    let mut bench = Bench::new("pass");
    let mut client = bench.run();
    bench.add(&mut client, Shape::default());
    let (came, clear) = bench.ping(100, "0.01");
    assert_eq!(came, 100.0);
    bench.add(&mut client, both(Condition { delay_us: 25_000, ..Condition::default() }));
    // On a busy machine ping itself may get its turn late: what is to be seen is seen in one of five looks.
    let looks = (0..5).map(|_| bench.ping(40, "0.05"));
    let (came, slow) = looks.inspect(|look| println!("{look:?}")).min_by(|one, other| one.1.total_cmp(&other.1)).expect("a look");
    println!("round trip: {clear} ms through a clear link, {slow} ms with 25 ms each way");
    assert_eq!(came, 100.0);
    assert!((47.0..53.0).contains(&slow), "{slow}");
    let probed = client.probe("tbl0").expect("probed");
    println!("probe: {probed:?}");
    for found in [probed.to_guest, probed.from_guest] {
        assert!((25.0..28.0).contains(&found.delay_ms) && found.loss_percent == 0.0, "{found:?}");
    }
    // One direction alone.
    bench.add(&mut client, Shape { to_guest: Condition { loss_ppm: 1_000_000, ..Condition::default() }, ..Shape::default() });
    assert_eq!(bench.ping(5, "0.01").0, 0.0);
    bench.add(&mut client, Shape { from_guest: Condition { loss_ppm: 50_000, ..Condition::default() }, ..Shape::default() });
    let (came, _) = bench.ping(2000, "0.002");
    println!("{came} % came through a link that loses 5 %");
    assert!((93.0..=97.0).contains(&came), "{came}");
    let links = client.links().expect("links");
    assert!(links.len() == 1 && links[0].fault.is_none() && links[0].from_guest.total.lost > 50, "{links:?}");
}

#[test]
fn a_rate_is_what_tcp_gets() {
    let mut bench = Bench::new("rate");
    let mut client = bench.run();
    bench.add(&mut client, both(Condition { rate_kbit: 20_000, ..Condition::default() }));
    let probed = client.probe("tbl0").expect("probed");
    println!("probe: {probed:?}");
    let rate = probed.to_guest.rate_mbit.expect("a rate");
    assert!((18.0..22.0).contains(&rate), "{rate}");
    let mut server = bench.inside(&bench.guest, &["iperf3", "-s", "-1"]).spawn().expect("iperf3 runs");
    let mut results = Vec::new();
    let began = Instant::now();
    while results.is_empty() {
        // Until the server listens.
        let output = bench.inside(&bench.network, &["iperf3", "-J", "-t", "4", "-O", "1", "-c", "10.9.0.2"]).output().expect("iperf3 runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let received = text.split("\"sum_received\"").nth(1).and_then(|part| part.split("\"bits_per_second\":").nth(1));
        results.extend(received.and_then(|part| part.split([',', '\n']).next()).and_then(|word| word.trim().parse::<f64>().ok()));
        assert!(began.elapsed() < Duration::from_secs(30), "{text}");
    }
    server.kill().ok();
    server.wait().ok();
    let mbit = results[0] / 1e6;
    println!("TCP gets {mbit:.2} Mbit/s of 20");
    assert!((17.0..=23.0).contains(&mbit), "{mbit}");
}

#[test]
fn one_relay_a_folder_and_it_ends_with_its_last_link() {
    let mut bench = Bench::new("life");
    let mut client = bench.run();
    let hello = client.hello().expect("hello");
    assert_eq!((hello.installation.as_str(), hello.deployment.as_str()), ("i", "d"));
    let argv = [env!("CARGO_BIN_EXE_testbedos-relay"), "run", "--installation", "i", "--deployment", "d", "--folder"];
    let second = bench.inside(&bench.network, &argv).arg(bench.folder()).output().expect("it runs");
    assert!(!second.status.success(), "the folder is taken");
    // A device that is not there, and one that is another by now, are refused with a reason.
    for wrong in
        [Link { tap: "tap9".into(), ..bench.link() }, Link { tap_index: 1, ..bench.link() }, Link { device: "lo".into(), ..bench.link() }]
    {
        let reply = client.ask(&Request::Add { link: wrong, shape: Shape::default() }).expect("an answer");
        assert!(matches!(&reply, Reply::Refused { why, ending: false } if !why.is_empty()), "{reply:?}");
    }
    bench.add(&mut client, Shape::default());
    // The guest's device goes: the link says so, and does not spin.
    ip(&format!("-n {} link del tap0", bench.network));
    let links = client.links().expect("links");
    assert!(links[0].fault.as_ref().is_some_and(|fault| fault.contains("tap0")), "{links:?}");
    assert_eq!(client.ask(&Request::Remove { device: "tbl0".into() }).expect("an answer"), Reply::Done);
    let relay = bench.relay.as_mut().expect("it runs");
    let began = Instant::now();
    while relay.try_wait().expect("a child").is_none() {
        assert!(began.elapsed() < Duration::from_secs(10), "it ends with its last link");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!bench.folder().exists(), "nothing is left of it");
}
