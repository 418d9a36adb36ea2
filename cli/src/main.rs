//! `testbed`: the TestbedOS command line.
//!
//! Knows a terminal and the server's API. Must not know libvirt, OVN, or how anything is carried out.

mod action;
mod args;
mod client;
mod command;
mod copy;
mod exit;
mod follow;
mod host;
mod output;
mod progress;
mod project;
mod session;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let outcome = command::run(&args.global, args.command);
    exit::end(&args.global, outcome)
}
