//! Two hosts: a testbed over both works through real Geneve, and nothing of it is left.

mod cluster;

use cluster::{Cluster, SIX, SOON};

#[test]
fn six_guests_over_two_hosts_reach_each_other_and_leave_nothing() {
    let cluster = Cluster::up(1);
    assert_eq!(cluster.counted(), ["m", "h1"]);
    let words = cluster.project("six", SIX);
    let with = |args: &[&str]| -> Vec<String> { words.iter().cloned().chain(args.iter().map(ToString::to_string)).collect() };
    let ok = |args: &[&str]| cluster.ok(&with(args).iter().map(String::as_str).collect::<Vec<_>>());

    let plan = ok(&["plan"]).stdout;
    assert!(plan.contains("h1") && plan.contains("the file asks for it"), "{plan}");
    ok(&["up"]);
    assert_eq!(cluster.domains("m"), ["six.a", "six.d", "six.f"]);
    assert_eq!(cluster.domains("h1"), ["six.b", "six.c", "six.e"]);
    let ps = ok(&["ps"]).stdout;
    assert!(ps.lines().filter(|line| line.contains(" h1 ")).count() == 3, "{ps}");

    for guest in ["a", "b", "c", "d", "e", "f"] {
        assert_eq!(ok(&["exec", guest, "--", "hostname"]).stdout.trim(), guest);
    }
    // The serial console of a guest on each host.
    for guest in ["a", "b"] {
        cluster.console("six", guest, "echo $((6*7))-$(hostname)", &format!("42-{guest}"));
    }
    // One switch, two hosts; then through the router, both ways.
    for (from, to) in
        [("a", "10.7.1.12"), ("b", "10.7.1.11"), ("d", "10.7.2.13"), ("a", "10.7.2.13"), ("c", "10.7.1.11"), ("e", "10.7.2.14")]
    {
        let ping = ok(&["exec", from, "--", "ping", "-c", "4", "-W", "5", to]).stdout;
        assert!(ping.contains("bytes from"), "{from} → {to}: {ping}");
    }
    // The link of a guest on the member is shaped and measured there, and taken back to the file.
    ok(&["link", "set", "b:eth0", "delay_ms=20"]);
    let shown: serde_json::Value = serde_json::from_str(&ok(&["-o", "json", "link", "show", "b"]).stdout).expect("JSON");
    let delay = shown[0]["to_guest"]["probed"]["delay_ms"].as_f64();
    assert!(shown[0]["host"] == "h1" && delay.is_some_and(|delay| (20.0..25.0).contains(&delay)), "{shown}");
    let ping = ok(&["exec", "a", "--", "ping", "-c", "4", "-W", "5", "10.7.1.12"]).stdout;
    let times: Vec<f64> = ping.split("time=").skip(1).filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).collect();
    assert!(!times.is_empty() && times.iter().all(|time| *time > 40.0), "{ping}");
    ok(&["up"]);
    assert!(ok(&["plan"]).stdout.contains("nothing to do"));
    // 20 MB by TCP, on one switch and through the router, checked at the other end.
    for (server, client, address) in [("a", "b", "10.7.1.11"), ("c", "a", "10.7.2.13")] {
        ok(&["exec", server, "--", "sh", "-c", "dd if=/dev/urandom of=/srv/www/big bs=1M count=20 2>/dev/null"]);
        let sum = ok(&["exec", server, "--", "sh", "-c", "md5sum < /srv/www/big"]).stdout;
        let got = ok(&["exec", client, "--", "sh", "-c", &format!("wget -q -O - http://{address}/big | md5sum")]).stdout;
        assert_eq!(got, sum, "{client} gets 20 MB from {server}");
    }

    // One file with what passes on both hosts: the same echo leaves `a` here and comes to `b` there.
    ok(&["exec", "a", "--", "sh", "-c", "ping -i 0.1 -s 333 10.7.1.12 >/dev/null 2>&1 </dev/null &"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("two.pcapng");
    ok(&["capture", "a", "b:eth0", "--duration", "4", "-w", file.to_str().expect("UTF-8")]);
    let read = |port: &str| {
        let filter = format!("frame.interface_name == \"{port}\" && icmp.type == 8 && data.len == 333");
        let tshark = std::process::Command::new("tshark").args(["-n", "-r"]).arg(&file).args(["-Y", &filter]).output().expect("tshark");
        String::from_utf8_lossy(&tshark.stdout).lines().count()
    };
    let (left, came) = (read("a:eth0"), read("b:eth0"));
    assert!(left > 20 && came > 20, "{left} left a, {came} came to b");
    ok(&["exec", "a", "--", "killall", "ping"]);

    // A file that names a host which does not exist hinders `up`, not a look.
    let moon = SIX.replacen("placement: {host: h1}", "placement: {host: moon}", 1);
    cluster.project("six", &moon);
    let refused = cluster.run(&with(&["up"]).iter().map(String::as_str).collect::<Vec<_>>());
    assert!(refused.status == 1 && refused.stderr.contains("there is no host `moon`"), "{refused:?}");
    let ps = ok(&["ps"]).stdout;
    assert_eq!(ps.matches("10.7.").count(), 6, "every guest keeps its facts: {ps}");
    cluster.project("six", SIX);

    // Nothing to do the second time; one guest moves to the other host; then all goes.
    assert_eq!(ok(&["plan", "-o", "json"]).stdout.matches("\"id\"").count(), 0);
    let moved = SIX.replace(
        "{name: b, micro: {}, network: [{switch: lan, ip: 10.7.1.12, gateway: 10.7.1.1}], placement: {host: h1}}",
        "{name: b, micro: {}, network: [{switch: lan, ip: 10.7.1.12, gateway: 10.7.1.1}], placement: {host: master}}",
    );
    assert_ne!(moved, SIX);
    cluster.project("six", &moved);
    ok(&["up"]);
    assert_eq!(cluster.domains("h1"), ["six.c", "six.e"]);
    let ping = ok(&["exec", "b", "--", "ping", "-c", "4", "-W", "5", "10.7.2.13"]).stdout;
    assert!(ping.contains("bytes from"), "{ping}");
    let refused = cluster.run(&["cluster", "remove", "h1"]);
    assert_eq!(refused.status, 4, "{refused:?}");
    assert!(refused.stderr.contains("still has guests of: six"), "{refused:?}");
    ok(&["down"]);
    assert_eq!(cluster.leftovers(), [""; 0]);

    cluster.ok(&["cluster", "remove", "h1"]);
    assert_eq!(cluster.counted(), ["m"]);
    let chassis = || cluster.lab.ok("m", &["ovn-sbctl", "--bare", "--columns=name", "list", "Chassis"]).expect("ovn-sbctl");
    cluster::until("OVN forgets h1", SOON, || (!chassis().contains("h1")).then_some(())).expect("forgotten");
}
