//! `testbedos-server`: knows HTTP, sockets, pages, time and disk.
//!
//! ```text
//! main ─► args, config ─► data, store ─► operations ─► driver (the library; a fake in tests)
//!                                            ▲
//! http (connections, trace) ─► auth ─► router ─► api, ws, pages
//! ```
//!
//! Handlers reach libvirt and OVN only through `operations`; what a testbed is, is known by `kvm-compose` alone.

pub mod api;
pub mod app;
pub mod args;
pub mod auth;
pub mod cluster;
pub mod config;
pub mod data;
pub mod error;
pub mod host_agent;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod openapi;
pub mod operations;
pub mod pages;
pub mod router;
pub mod run;
pub mod signals;
pub mod store;
pub mod ws;

use std::process::ExitCode;

use clap::Parser as _;
use kvm_compose::error::Problem;

use args::{Arguments, Buildable, Subcommands};
use host_agent::Invitation;

use config::{
    Settings,
    host::{HostConfig, Mode},
};

/// The program: reads the command line and does what it says.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            problem.causes.iter().for_each(|cause| eprintln!("  because: {cause}"));
            if let Some(hint) = &problem.hint {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(problem.code.exit_status())
        }
    }
}

fn dispatch(arguments: &Arguments) -> Result<(), Problem> {
    let settings = Settings::load(&arguments.settings)?;
    match &arguments.command {
        Some(Subcommands::Master) => run::master(&settings, &arguments.settings),
        Some(Subcommands::Client { master, token, interface }) => {
            let (master, token, interface) = (master.clone(), token.clone(), interface.clone());
            host_agent::client(&settings, &arguments.settings, &Invitation { master, token, interface })
        }
        Some(Subcommands::CreateConfig) => create_config(&settings),
        Some(Subcommands::CheckConfig) => check_config(&settings),
        Some(Subcommands::BuildImage { image: Buildable::Micro }) => run::build_micro(&settings),
        None => match config::host::mode(&settings.data)? {
            Mode::Master => run::master(&settings, &arguments.settings),
            Mode::Client => host_agent::client(&settings, &arguments.settings, &Invitation::default()),
        },
    }
}

fn create_config(settings: &Settings) -> Result<(), Problem> {
    data::make_folder(settings.data.root(), 0o711)?;
    data::make_folder(&settings.data.config(), 0o700)?;
    HostConfig::of_this_machine()?.write(&settings.data)?;
    println!("{}", settings.data.config().join("host.json").display());
    Ok(())
}

fn check_config(settings: &Settings) -> Result<(), Problem> {
    let host = HostConfig::read(&settings.data)?;
    let mode = config::host::mode(&settings.data)?;
    config::host::ClusterConfig::read(&settings.data)?;
    logging::check_level(&settings.log_level)?;
    println!("data folder:  {}", settings.data.root().display());
    println!("mode:         {}", if mode == Mode::Master { "master" } else { "client" });
    println!(
        "host:         {}",
        host.as_ref().map_or("not written yet; made at the first start".to_string(), |host| host.hostname.to_string())
    );
    for mapping in host.iter().flat_map(|host| &host.ovn.bridge_mappings) {
        println!("network:      {mapping}");
    }
    if host.as_ref().is_some_and(|host| host.ovn.masquerade) {
        println!("masquerade:   on: this host forwards what comes from its networks");
    }
    let unused = config::older::unused(&settings.data)?;
    if !unused.is_empty() {
        println!("no effect:    {} (keys of older versions in host.json)", unused.join(", "));
    }
    println!("socket:       {}", settings.socket.display());
    println!("listen:       {}", settings.listen.map_or("no TCP".to_string(), |address| address.to_string()));
    println!("images:       {}", settings.images_dir.display());
    println!("libvirt:      {}", settings.libvirt_uri);
    println!("OVN:          {}", settings.ovn_nb.display());
    println!("Open vSwitch: {} ({})", settings.ovs_db.display(), settings.bridge);
    println!("the configuration is valid");
    Ok(())
}
