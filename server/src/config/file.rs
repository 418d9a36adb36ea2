//! config/server.toml, as it is written.

use std::{net::SocketAddr, path::PathBuf};

use kvm_compose::error::{Code, Problem};
use serde::Deserialize;

use crate::data::read_if_there;

/// The file; every key may be left out, none may be misspelt.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerFile {
    /// See `--listen`.
    pub listen: Option<SocketAddr>,
    /// See `--cluster-listen`.
    pub cluster_listen: Option<SocketAddr>,
    /// See `--ovn-sb`.
    pub ovn_sb: Option<PathBuf>,
    /// See `--no-tcp`.
    pub no_tcp: bool,
    /// See `--socket`.
    pub socket: Option<PathBuf>,
    /// See `--reuse-port`.
    pub reuse_port: bool,
    /// See `--images-dir`.
    pub images_dir: Option<PathBuf>,
    /// Folders outside a project from which testbed files may name disks.
    pub allowed_image_dirs: Vec<PathBuf>,
    /// See `--libvirt-uri`.
    pub libvirt_uri: Option<String>,
    /// See `--ovn-nb`.
    pub ovn_nb: Option<PathBuf>,
    /// See `--ovs-db`.
    pub ovs_db: Option<PathBuf>,
    /// See `--bridge`.
    pub bridge: Option<String>,
    /// See `--accelerator`.
    pub accelerator: Option<String>,
    /// See `--log-level`.
    pub log_level: Option<String>,
    /// See `--log-to-stdout`.
    pub log_to_stdout: bool,
    /// Bounds.
    pub limits: LimitsTable,
}

/// The table `[limits]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsTable {
    /// Bytes of log and journal that one action may write; 256 MiB by default.
    pub action_log_bytes: Option<u64>,
    /// Ended actions kept per deployment; 100 by default.
    pub actions_kept: Option<usize>,
    /// Seconds that running actions may take to end when the server stops; 30 by default.
    pub stop_timeout_s: Option<u64>,
}

impl ServerFile {
    /// Reads the file; without one, everything is left out.
    pub fn read(path: &std::path::Path) -> Result<ServerFile, Problem> {
        let wrong = |cause: String| Problem::new(Code::BadRequest, format!("{} is wrong", path.display())).cause(cause);
        let Some(content) = read_if_there(path)? else { return Ok(ServerFile::default()) };
        let text = String::from_utf8(content).map_err(|error| wrong(error.to_string()))?;
        toml::from_str(&text).map_err(|error| wrong(error.to_string()))
    }
}
