//! Who may join and who may not; and that a master may die and come back while guests talk across hosts.

mod cluster;

use std::{
    io::Write,
    process::{Output, Stdio},
    time::Duration,
};

use cluster::{Cluster, SIX, SOON};

/// What the members' door answers to one request over TLS, with or without a certificate.
fn knock(cluster: &Cluster, path: &str) -> String {
    let address = cluster.lab.host("m").expect("a host").management;
    let argv = ["openssl", "s_client", "-quiet", "-connect", &format!("{address}:3356")];
    let mut child =
        cluster.lab.command("h1", &argv).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("openssl runs");
    let request = format!("GET {path} HTTP/1.1\r\nHost: testbedos-master\r\nConnection: close\r\n\r\n");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(request.as_bytes()).expect("asked");
    let output: Output = child.wait_with_output().expect("an answer");
    drop(stdin);
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_string()
}

/// Runs a client that is to be refused; returns what it says.
fn refused(cluster: &mut Cluster, host: &str, words: &[String]) -> String {
    cluster.start_client(host, &words.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.ended(host)
}

#[test]
fn only_a_good_token_and_a_certificate_let_a_host_in() {
    let mut cluster = Cluster::alone(2);
    let words = cluster.invitation();
    let token = words.last().expect("a token").clone();
    let with = |token: String| -> Vec<String> { words[..words.len() - 1].iter().cloned().chain([token]).collect() };

    // A token of which the last characters are others, one of another master's authority, and what is no token.
    let wrong = format!("{}0000", &token[..token.len() - 4]);
    let said = refused(&mut cluster, "h1", &with(wrong));
    assert!(said.contains("the join token is wrong"), "{said}");
    let foreign = format!("tbj_{}_{}", "0".repeat(64), &token[token.len() - 64..]);
    let said = refused(&mut cluster, "h1", &with(foreign));
    assert!(said.contains("not the master that made the token"), "{said}");
    let said = refused(&mut cluster, "h1", &with("nonsense".to_string()));
    assert!(said.contains("this is not a join token"), "{said}");
    assert_eq!(cluster.counted(), ["m"]);
    for path in ["/api/cluster/link", &format!("/api/cluster/bases/{}", "0".repeat(64))] {
        let answer = knock(&cluster, path);
        assert!(answer.contains(" 401 ") || answer.contains(" 400 "), "{path}: {answer}");
    }
    assert!(knock(&cluster, "/api/deployments").contains(" 404 "));
    assert!(!cluster.lab.ok("m", &["ovn-sbctl", "--bare", "--columns=name", "list", "Chassis"]).expect("ovn-sbctl").contains("h1"));

    // The good one, once.
    cluster.join("h1");
    assert_eq!(cluster.counted(), ["m", "h1"]);
    let used = cluster.invitation();
    cluster.start_client("h2", &used.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.until_state("h2", "ready", SOON);
    cluster.ok(&["cluster", "remove", "h2"]);
    assert!(cluster.ended("h2").contains("the master has let this host go"));
    let said = refused(&mut cluster, "h2", &used);
    assert!(said.contains("the join token was used already, by `h2`"), "{said}");

    // A name that is taken: by a member, and by the master.
    for name in ["h1", "m", "master"] {
        let file = cluster.data("h2", "config/host.json");
        let host = std::fs::read_to_string(&file).expect("host.json");
        let old = serde_json::from_str::<serde_json::Value>(&host).expect("JSON")["hostname"].as_str().expect("a name").to_string();
        std::fs::write(&file, host.replace(&format!("\"{old}\""), &format!("\"{name}\""))).expect("written");
        let words = cluster.invitation();
        let said = refused(&mut cluster, "h2", &words);
        assert!(said.contains(&format!("the name `{name}` is taken")), "{said}");
    }
    // A member whose server dies comes back by itself, without a token.
    cluster.kill("h1");
    cluster.until_state("h1", "suspect", SOON);
    cluster.start_client("h1", &[]);
    cluster.until_state("h1", "ready", SOON);
}

#[test]
fn a_ping_across_hosts_outlives_the_master() {
    let mut cluster = Cluster::up(1);
    let words = cluster.project("six", SIX);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let with = |args: &[&'static str]| -> Vec<&str> { words.iter().copied().chain(args.iter().copied()).collect() };
    cluster.ok(&with(&["up"]));
    cluster.ok(&with(&["exec", "a", "--", "ping", "-c", "3", "-W", "5", "10.7.1.12"]));
    cluster.ok(&with(&["exec", "a", "--", "sh", "-c", "ping -c 25 10.7.1.12 > /tmp/ping 2>&1 &"]));
    cluster.kill("m");
    cluster.start_master();
    cluster.until_state("h1", "ready", Duration::from_secs(15));
    assert_eq!(cluster.counted(), ["m", "h1"]);
    let report = cluster::until("the ping ends", Duration::from_secs(60), || {
        let said = cluster.ok(&with(&["exec", "a", "--", "cat", "/tmp/ping"])).stdout;
        said.contains("packet loss").then_some(said)
    });
    assert!(report.as_ref().is_ok_and(|report| report.contains(" 0% packet loss")), "{report:?}");
    assert_eq!(cluster.json(&with(&["plan", "-o", "json"]))["steps"].as_array().map(Vec::len), Some(0));
    cluster.ok(&with(&["down"]));
    assert_eq!(cluster.leftovers(), [""; 0]);
}
