//! Times `testbed up`, a second `up` and `down` of N micro guests against a plain parallel program that defines and
//! starts the same domains with the same memory and NICs, alternating in one run, and prints the ratios.
//!
//! Needs libvirt, OVN, the two release binaries beside this one, and the micro image in `TESTBEDOS_IMAGES_DIR`.

mod plain;
mod testbed;

use std::time::Duration;

use anyhow::Result;
use clap::Parser;

/// Times `testbed up` against a plain parallel libvirt program.
#[derive(Parser)]
struct Args {
    /// How many guests, each number in turn.
    #[arg(long, value_delimiter = ',', default_value = "1,5,20,50")]
    guests: Vec<usize>,
    /// How often each is timed; the median is shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many domains the plain program starts at once.
    #[arg(long, default_value_t = 8)]
    threads: usize,
}

/// The times of one round, in seconds.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// `testbed up` until every domain runs.
    running: f64,
    /// `testbed up` until it returns: every guest is ready.
    ready: f64,
    /// A second `testbed up`.
    noop: f64,
    /// `testbed down`.
    down: f64,
    /// The plain program until every domain runs.
    plain_running: f64,
    /// The plain program's destroy and undefine.
    plain_down: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    println!(
        "| guests | up, all running | plain, all running | ratio | up, all ready | no-op up | no-op / first | down | plain down | ratio |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let server = testbed::Server::start()?;
    for guests in args.guests {
        let mut rounds = Vec::new();
        for _ in 0..args.rounds {
            rounds.push(round(&server, guests, args.threads)?);
        }
        let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value).collect());
        let (running, plain) = (of(|r| r.running), of(|r| r.plain_running));
        let (ready, noop) = (of(|r| r.ready), of(|r| r.noop));
        let (down, plain_down) = (of(|r| r.down), of(|r| r.plain_down));
        println!(
            "| {guests} | {running:.2} s | {plain:.2} s | {:.2} | {ready:.2} s | {noop:.2} s | {:.3} | {down:.2} s | {plain_down:.2} s | {:.2} |",
            running / plain,
            noop / ready,
            down / plain_down
        );
    }
    Ok(())
}

fn round(server: &testbed::Server, guests: usize, threads: usize) -> Result<Round> {
    let project = server.project(guests)?;
    let up = project.up()?;
    let noop = project.timed(&["up"])?;
    // The plain program starts what the testbed started: the same XML under other names, with the same files.
    let copies = plain::copy_domains(project.name())?;
    let down = project.timed(&["down"])?;
    settle();
    let (plain_running, plain_down) = plain::run(&copies, threads)?;
    settle();
    Ok(Round { running: up.running, ready: up.ready, noop, down, plain_running, plain_down })
}

/// Lets the kernel take back what the last guests had before the next timing begins.
fn settle() {
    std::thread::sleep(Duration::from_secs(1));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
