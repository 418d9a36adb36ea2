//! Large texts that somebody might send to keep a server busy: each is answered in time, whatever stands in it.
//!
//! `LARGE=1 cargo test --release -p kvm-compose --test large -- --nocapture --test-threads 1` prints how long each takes in an
//! optimised build; one that is not optimised takes an eighth of each text.

mod hostile;
mod sound;

use std::time::Duration;

use hostile::Row;
use kvm_compose::{
    picture::{self, Format},
    plan::{self, observed::Observed},
    spec::compose,
};

/// What a command may take on the processor.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

/// How long the parts of an answer took.
#[derive(Debug, Default)]
struct Took {
    /// Text to topology, or to faults.
    read: Duration,
    /// `testbed config`.
    print: Duration,
    /// `testbed graph`, the slowest format.
    draw: Duration,
    /// Topology to blueprint, blueprint to plan.
    plan: Duration,
}

impl Took {
    /// The slowest of `validate`, `config`, `graph` and `plan`.
    fn most(&self) -> Duration {
        self.read + self.print.max(self.draw).max(self.plan)
    }
}

fn timed<T>(took: &mut Duration, work: impl FnOnce() -> T) -> T {
    let began = sound::busy();
    let done = work();
    *took = (*took).max(sound::busy() - began);
    done
}

fn answer((what, text, code): &Row) -> Took {
    let mut took = Took::default();
    let sources = sound::sources(text);
    let loaded = timed(&mut took.read, || {
        compose::asked(&sources);
        sound::load(&sources)
    });
    match (loaded, code) {
        (Err(problem), Some(code)) => {
            sound::check_refusal(&problem);
            assert!(problem.diagnostics.iter().any(|fault| fault.code == *code), "{what}: {:?}", problem.diagnostics.first());
        }
        (Ok(loaded), None) => {
            timed(&mut took.print, || loaded.resolved());
            timed(&mut took.draw, || picture::svg(&loaded.topology, &picture::Scene::default()));
            for format in [Format::Svg, Format::Mermaid, Format::Dot, Format::D2] {
                timed(&mut took.draw, || picture::document(&loaded.topology, format));
            }
            timed(&mut took.plan, || {
                let blueprint = sound::lowered(&loaded.topology).unwrap_or_else(|problem| panic!("{what}: {problem:?}"));
                let plan = plan::diff(&blueprint, &Observed::default(), &plan::Taints::default(), None);
                plan::describe::document(&blueprint, &plan, &Observed::default(), true)
            });
        }
        (found, _) => panic!("{what}: {:?}", found.map(|_| "no fault").map_err(|problem| (problem.message, problem.at))),
    }
    took
}

fn check(rows: impl Iterator<Item = Row>) {
    for row in rows {
        let took = answer(&row);
        if std::env::var_os("LARGE").is_some() {
            let [read, print, draw, plan, most] =
                [took.read, took.print, took.draw, took.plan, took.most()].map(|took| format!("{:>4.0} ms", took.as_secs_f64() * 1e3));
            println!("| {} | {} kB | {read} | {print} | {draw} | {plan} | {most} |", row.0, row.1.len() / 1000);
        }
        assert!(took.most() < LIMIT, "{} took {took:?}", row.0);
    }
}

#[test]
fn faults_of_large_texts_are_found_in_time() {
    check(hostile::faults::rows());
}

#[test]
fn references_of_large_texts_are_found_wanting_in_time() {
    check(hostile::references::rows());
}

#[test]
fn large_networks_are_answered_in_time() {
    check(hostile::networks::rows());
}

#[test]
fn many_guests_are_answered_in_time() {
    check(hostile::guests::rows());
}
