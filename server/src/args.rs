//! The command line: flags, their environment variables, subcommands.
//!
//! Knows only what may be said; what holds in the end is decided in [`crate::config`].

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The TestbedOS orchestration server.
///
/// Every setting is taken from the flag, else from the environment, else from config/server.toml below the data folder,
/// else from the default.
#[derive(Debug, Parser)]
#[command(name = "testbedos-server", version, disable_help_subcommand = true)]
pub struct Arguments {
    /// The settings.
    #[command(flatten)]
    pub settings: Flags,
    /// What to do; without one, what config/mode.json says, else `master`.
    #[command(subcommand)]
    pub command: Option<Subcommands>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Subcommands {
    /// Serve testbeds on this machine.
    #[command(alias = "main")]
    Master,
    /// Lend this machine to a master.
    Client {
        /// The master's URL; needed once, to join.
        #[arg(long, env = "TESTBEDOS_MASTER")]
        master: Option<String>,
        /// The join token that `testbed cluster token` made on the master; needed once, to join.
        #[arg(long, env = "TESTBEDOS_TOKEN", hide_env_values = true)]
        token: Option<String>,
        /// The network interface that carries guests' traffic between hosts; else the one that reaches the master.
        #[arg(long, env = "TESTBEDOS_INTERFACE")]
        interface: Option<String>,
    },
    /// Write config/host.json from what this machine is.
    CreateConfig,
    /// Read every configuration file and say what holds.
    CheckConfig,
    /// Make a base image without a server.
    #[command(hide = true)]
    BuildImage {
        /// Which one.
        image: Buildable,
    },
}

/// Base images that can be made.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Buildable {
    /// The built-in image of `micro` guests.
    Micro,
}

/// The settings as flags and environment variables.
#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// Everything the server keeps [default: /var/lib/testbedos]
    #[arg(long, global = true, value_name = "DIR", env = "TESTBEDOS_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Loopback TCP address; port 0 takes a free one, logs it and writes it to run/listen [default: 127.0.0.1:3355]
    #[arg(long, global = true, value_name = "ADDRESS:PORT", env = "TESTBEDOS_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Address on which hosts of a cluster reach this master, over TLS [default: none, no cluster]
    #[arg(long, global = true, value_name = "ADDRESS:PORT", env = "TESTBEDOS_CLUSTER_LISTEN")]
    pub cluster_listen: Option<SocketAddr>,
    /// Socket of OVN's southbound database [default: beside that of the northbound one]
    #[arg(long, global = true, value_name = "PATH", env = "TESTBEDOS_OVN_SB")]
    pub ovn_sb: Option<PathBuf>,
    /// Unix socket [default: /run/testbedos/testbedos.sock]
    #[arg(long, global = true, value_name = "PATH", env = "TESTBEDOS_SOCKET")]
    pub socket: Option<PathBuf>,
    /// Base images [default: images below the data folder]
    #[arg(long, global = true, value_name = "DIR", env = "TESTBEDOS_IMAGES_DIR")]
    pub images_dir: Option<PathBuf>,
    /// libvirt's URI [default: qemu:///system]
    #[arg(long, global = true, value_name = "URI", env = "TESTBEDOS_LIBVIRT_URI")]
    pub libvirt_uri: Option<String>,
    /// Socket of OVN's northbound database [default: /var/run/ovn/ovnnb_db.sock]
    #[arg(long, global = true, value_name = "PATH", env = "TESTBEDOS_OVN_NB")]
    pub ovn_nb: Option<PathBuf>,
    /// Socket of Open vSwitch's database [default: /var/run/openvswitch/db.sock]
    #[arg(long, global = true, value_name = "PATH", env = "TESTBEDOS_OVS_DB")]
    pub ovs_db: Option<PathBuf>,
    /// OVN's integration bridge [default: br-int]
    #[arg(long, global = true, value_name = "NAME", env = "TESTBEDOS_BRIDGE")]
    pub bridge: Option<String>,
    /// How guests' instructions run: auto, kvm or tcg [default: auto]
    #[arg(long, global = true, value_name = "WHICH", env = "TESTBEDOS_ACCELERATOR")]
    pub accelerator: Option<String>,
    /// What to log: error, warn, info, debug, trace, or a tracing filter [default: info; debug in debug builds]
    #[arg(long, global = true, value_name = "LEVEL", env = "TESTBEDOS_LOG_LEVEL")]
    pub log_level: Option<String>,
    /// Log to standard output as well as to logs/
    #[arg(long, global = true, env = "TESTBEDOS_LOG_TO_STDOUT")]
    pub log_to_stdout: bool,
    /// Listen on the Unix socket alone
    #[arg(long, global = true, env = "TESTBEDOS_NO_TCP")]
    pub no_tcp: bool,
    /// Set SO_REUSEPORT on the TCP socket, so that a successor can listen before this server ends
    #[arg(long, global = true, env = "TESTBEDOS_REUSE_PORT")]
    pub reuse_port: bool,
}
