//! A host is cut off at random moments, idle, in mid-`up` and in mid-`down`, and healed after 5 and after 40 seconds.

mod cluster;

use std::time::{Duration, Instant};

use cluster::{Cluster, Plane, SIX, SOON};

const ALL: [&str; 6] = ["six.a", "six.b", "six.c", "six.d", "six.e", "six.f"];

/// What an action is cut in the middle of.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    Idle,
    Up,
    Down,
}

/// What is really there: all, nothing, or something between.
fn truth(cluster: &Cluster) -> &'static str {
    let mut domains = [cluster.domains("m"), cluster.domains("h1")].concat();
    domains.sort();
    if domains == ALL {
        "up"
    } else if cluster.leftovers().is_empty() {
        "down"
    } else {
        "partial"
    }
}

fn random(below: u64) -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0 % below
}

#[test]
fn a_host_that_is_cut_off_at_any_moment_leaves_no_orphan_and_no_double() {
    let cluster = Cluster::up(1);
    let words = cluster.project("six", SIX);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let with = |args: &[&'static str]| -> Vec<&str> { words.iter().copied().chain(args.iter().copied()).collect() };
    let begun = Instant::now();
    cluster.ok(&with(&["up"]));
    let up_takes = begun.elapsed().as_millis() as u64;
    let begun = Instant::now();
    cluster.ok(&with(&["down"]));
    let down_takes = begun.elapsed().as_millis() as u64;

    for run in 0..12 {
        let when = [When::Idle, When::Up, When::Down][run % 3];
        let heal = Duration::from_secs(if run < 6 { 5 } else { 40 });
        let told = format!("run {run}: cut while {when:?} for {heal:?}");
        if when != When::Up {
            cluster.ok(&with(&["up"]));
        }
        let (verb, takes) = if when == When::Up { ("up", up_takes) } else { ("down", down_takes) };
        let mut action = (when != When::Idle).then(|| {
            cluster
                .command(&with(&[verb]))
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("testbed")
        });
        std::thread::sleep(Duration::from_millis(random(takes)));
        cluster.lab.cut("h1", Plane::All).expect("cut");
        let cut = Instant::now();
        if heal > Duration::from_secs(30) {
            cluster.until_state("h1", "lost", Duration::from_secs(30));
            assert_eq!(cluster.counted(), ["m"], "{told}");
            if when == When::Idle {
                let ps = cluster.run(&with(&["ps"]));
                assert_eq!(ps.stdout.matches("unknown").count(), 3, "{told}: {ps:?}");
            }
        }
        std::thread::sleep(heal.saturating_sub(cut.elapsed()));
        cluster.lab.heal("h1", Plane::All).expect("healed");
        cluster.until_state("h1", "ready", Duration::from_secs(15));
        assert_eq!(cluster.counted(), ["m", "h1"], "{told}");
        if let Some(action) = &mut action {
            let ended = cluster::until("the action ends", Duration::from_secs(150), || action.try_wait().expect("waited for"));
            assert!(ended.is_ok(), "{told}: the action goes on\n{}", cluster.logs());
        }
        let phase = || cluster.json(&with(&["info", "-o", "json"]))["phase"].as_str().unwrap_or("?").to_string();
        let seen = cluster::until("the phase is true", Duration::from_secs(15), || (phase() == truth(&cluster)).then_some(()));
        assert!(seen.is_ok(), "{told}: the phase reads {}, and it is {}\n{}", phase(), truth(&cluster), cluster.logs());

        // The same command again completes it.
        let again = if when == When::Idle { "up" } else { verb };
        cluster.ok(&with(&[again]));
        if again == "up" {
            assert_eq!(truth(&cluster), "up", "{told}");
            let ping = || cluster.run(&with(&["exec", "a", "--", "ping", "-c", "1", "-W", "2", "10.7.2.13"])).status == 0;
            assert!(cluster::until("guests reach each other", SOON, || ping().then_some(())).is_ok(), "{told}");
            cluster.ok(&with(&["down"]));
        }
        assert_eq!(cluster.leftovers(), [""; 0], "{told}");
    }
}
