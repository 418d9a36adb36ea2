//! `kill -9` of the server at random moments of `up` and of `down`: the deployment reads as interrupted with its true
//! phase, the same command completes, and at the end nothing is orphaned.

mod lab;

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use lab::{Lab, QUICKSTART, running};

/// Kills per command. The moments spread evenly over the time that the command takes undisturbed, with jitter.
const KILLS: u32 = 50;

/// A small generator (xorshift): a seed makes a run repeatable.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

/// Starts a command, kills the server after a while, starts it again; true when the action was open.
fn interrupted(lab: &mut Lab, args: &[&str], after: Duration) -> bool {
    let mut child = lab.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("testbed runs");
    std::thread::sleep(after);
    lab.kill();
    // The command gives up or waits for the server; either way it is not what is tested here.
    let _killed = child.kill();
    child.wait().expect("it is gone");
    lab.boot();
    let info = lab.json(&["-p", "kill-real", "info"]);
    let state = info["last_action"]["state"].as_str().unwrap_or("none").to_string();
    assert_ne!(state, "running", "{info}");
    if state == "interrupted" {
        assert_eq!(info["state"], "failed", "{info}");
        let ps = lab.json(&["-p", "kill-real", "info"]);
        let truth = running("kill-real").len();
        let said = ps["guests"].as_array().expect("guests").iter().filter(|guest| guest["state"] == "running").count();
        assert_eq!(said, truth, "{ps}");
        let phase = ps["phase"].as_str().expect("a phase");
        let nothing = lab.leftovers("kill-real").is_empty() && truth == 0;
        assert_eq!(phase == "down", nothing, "{ps}\nleft: {:?}", lab.leftovers("kill-real"));
    }
    state == "interrupted"
}

#[test]
fn killed_at_fifty_moments_of_up_and_of_down_it_recovers_by_the_same_command() {
    let mut lab = Lab::start();
    let project = lab.project("kill-real", QUICKSTART);
    let args: Vec<String> = project.args(&[]).into_iter().map(String::from).collect();
    let with = |command: &'static str| args.iter().map(String::as_str).chain([command]).collect::<Vec<_>>();

    let timed = |lab: &Lab, command: &'static str| {
        let began = Instant::now();
        lab.ok(&with(command));
        began.elapsed()
    };
    // The first up of a host finds out whether KVM works, which the others need not.
    let (_first, _) = (timed(&lab, "up"), timed(&lab, "down"));
    let (up, down) = (timed(&lab, "up"), timed(&lab, "down"));
    println!("undisturbed: up {up:?}, down {down:?}");

    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64 | 1);
    println!("seed {seed}");
    let mut random = Random(seed);
    let (mut ups, mut downs) = (0, 0);
    for round in 0..KILLS {
        let moment = |random: &mut Random, whole: Duration| {
            let slice = whole.as_micros() as u64 / u64::from(KILLS);
            Duration::from_micros(u64::from(round) * slice + random.below(slice))
        };
        let after = moment(&mut random, up);
        let open = interrupted(&mut lab, &with("up"), after);
        ups += u32::from(open);
        lab.ok(&with("up"));
        assert_eq!(running("kill-real").len(), 2, "round {round}, up killed after {after:?}");
        let after = moment(&mut random, down);
        let open = interrupted(&mut lab, &with("down"), after);
        downs += u32::from(open);
        lab.ok(&with("down"));
        assert_eq!(lab.leftovers("kill-real"), Vec::<String>::new(), "round {round}, down killed after {after:?}");
    }
    println!("{KILLS} kills of up, {ups} of them in mid-action; {KILLS} of down, {downs} in mid-action");
    assert!(ups > KILLS / 2, "only {ups} kills hit a running up");
    let orphans = lab.json(&["doctor", "--orphans"]);
    assert!(!orphans.to_string().contains("kill-real"), "{orphans}");
}
