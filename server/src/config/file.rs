//! config/server.toml, as it is written.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use kvm_compose::{
    backend::images::disks,
    error::{Code, Problem},
};
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
    /// How images are downloaded.
    pub images: ImagesTable,
}

/// The table `[images]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImagesTable {
    /// Where to ask instead, by the beginning of the URL.
    pub mirrors: BTreeMap<String, String>,
    /// The proxy's URL; empty for none, whatever the environment says.
    pub proxy: Option<String>,
    /// Hosts that are asked without the proxy, separated by commas.
    pub no_proxy: Option<String>,
    /// More certificates to trust: a file in PEM.
    pub ca_file: Option<PathBuf>,
    /// A larger image is refused; 64 by default.
    pub largest_gib: Option<u64>,
    /// Seconds in which nothing comes before the download is tried again; 60 by default.
    pub stall_s: Option<u64>,
}

impl ImagesTable {
    /// What holds.
    pub fn settings(self) -> Result<disks::Settings, Problem> {
        let usual = disks::Settings::default();
        let web = |url: &str| url.starts_with("http://") || url.starts_with("https://");
        let wrong = |what: String, hint: &str| Err(Problem::new(Code::BadRequest, what).hint(hint));
        if let Some((from, to)) = self.mirrors.iter().find(|(from, to)| !web(from) || !web(to) || from.ends_with('/') != to.ends_with('/'))
        {
            let hint = "both are beginnings of URLs, and either both end in `/` or none: \"https://cloud.debian.org/\" = \"http://mirror.lan/debian/\"";
            return wrong(format!("the mirror `{from}` = `{to}` in the table `[images]` is wrong"), hint);
        }
        if self.largest_gib == Some(0) || self.stall_s == Some(0) {
            return wrong(
                "`largest_gib` and `stall_s` in the table `[images]` must be at least 1".to_string(),
                "leave them out for the default",
            );
        }
        Ok(disks::Settings {
            mirrors: self.mirrors,
            proxy: self.proxy,
            no_proxy: self.no_proxy,
            ca_file: self.ca_file,
            largest_bytes: self.largest_gib.map_or(usual.largest_bytes, |gib| gib.saturating_mul(1 << 30)),
            stall: self.stall_s.map_or(usual.stall, Duration::from_secs),
        })
    }
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
