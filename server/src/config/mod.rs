//! What holds: flag > environment > config/server.toml > default.
//!
//! Must not know what the settings are used for.

pub mod file;
pub mod host;
pub mod older;
pub mod uplinks;

use std::{net::SocketAddr, path::PathBuf};

use kvm_compose::{
    backend::{images::disks, local::AcceleratorChoice},
    error::{Code, Problem},
};

use crate::{args::Flags, data::DataDir, operations::Limits};
use file::ServerFile;

/// The settings that hold.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Everything the server keeps.
    pub data: DataDir,
    /// Where TCP listens, if it does.
    pub listen: Option<SocketAddr>,
    /// Where members of the cluster are let in, if they are.
    pub cluster_listen: Option<SocketAddr>,
    /// The southbound database's socket.
    pub ovn_sb: PathBuf,
    /// The Unix socket.
    pub socket: PathBuf,
    /// SO_REUSEPORT on TCP.
    pub reuse_port: bool,
    /// Base images.
    pub images_dir: PathBuf,
    /// How images are downloaded.
    pub images: disks::Settings,
    /// Folders outside a project from which testbed files may name disks.
    pub allowed_image_dirs: Vec<PathBuf>,
    /// libvirt's URI.
    pub libvirt_uri: String,
    /// The northbound database's socket.
    pub ovn_nb: PathBuf,
    /// Open vSwitch's database socket.
    pub ovs_db: PathBuf,
    /// The integration bridge.
    pub bridge: String,
    /// How guests' instructions run.
    pub accelerator: AcceleratorChoice,
    /// The log filter.
    pub log_level: String,
    /// Log to standard output as well.
    pub log_to_stdout: bool,
    /// Bounds of actions.
    pub limits: Limits,
    /// How long running actions may take to end when the server stops, in seconds.
    pub stop_timeout_s: u64,
}

impl Settings {
    /// Reads config/server.toml and lays flags and environment over it.
    pub fn load(flags: &Flags) -> Result<Settings, Problem> {
        let data_dir = flags.data_dir.clone().unwrap_or_else(|| PathBuf::from("/var/lib/testbedos"));
        let data_dir = std::path::absolute(&data_dir)
            .map_err(|error| Problem::io(format_args!("cannot make sense of the data folder {}", data_dir.display()), &error))?;
        let data = DataDir::new(data_dir);
        let file = ServerFile::read(&data.config().join("server.toml"))?;
        let choice = flags.accelerator.clone().or(file.accelerator);
        let tcp = !(flags.no_tcp || file.no_tcp);
        let ovn_nb = flags.ovn_nb.clone().or(file.ovn_nb).unwrap_or_else(|| "/var/run/ovn/ovnnb_db.sock".into());
        Ok(Settings {
            listen: tcp.then(|| flags.listen.or(file.listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 3355)))),
            socket: flags.socket.clone().or(file.socket).unwrap_or_else(|| "/run/testbedos/testbedos.sock".into()),
            reuse_port: flags.reuse_port || file.reuse_port,
            images_dir: flags.images_dir.clone().or(file.images_dir).unwrap_or_else(|| data.root().join("images")),
            images: file.images.settings()?,
            allowed_image_dirs: file.allowed_image_dirs,
            libvirt_uri: flags.libvirt_uri.clone().or(file.libvirt_uri).unwrap_or_else(|| "qemu:///system".into()),
            cluster_listen: flags.cluster_listen.or(file.cluster_listen),
            ovn_sb: flags.ovn_sb.clone().or(file.ovn_sb).unwrap_or_else(|| ovn_nb.with_file_name("ovnsb_db.sock")),
            ovn_nb,
            ovs_db: flags.ovs_db.clone().or(file.ovs_db).unwrap_or_else(|| "/var/run/openvswitch/db.sock".into()),
            bridge: flags.bridge.clone().or(file.bridge).unwrap_or_else(|| "br-int".into()),
            accelerator: accelerator(choice.as_deref())?,
            log_level: flags.log_level.clone().or(file.log_level).unwrap_or_else(|| default_level().into()),
            log_to_stdout: flags.log_to_stdout || file.log_to_stdout,
            limits: Limits {
                log_bytes: file.limits.action_log_bytes.unwrap_or(256 * 1024 * 1024),
                log_entries: file.limits.actions_kept.unwrap_or(100).max(1),
            },
            stop_timeout_s: file.limits.stop_timeout_s.unwrap_or(30),
            data,
        })
    }
}

fn default_level() -> &'static str {
    if cfg!(debug_assertions) { "testbedos_server=debug,kvm_compose=debug,info" } else { "info" }
}

fn accelerator(choice: Option<&str>) -> Result<AcceleratorChoice, Problem> {
    match choice.unwrap_or("auto") {
        "auto" => Ok(AcceleratorChoice::Auto),
        "kvm" => Ok(AcceleratorChoice::Kvm),
        "tcg" => Ok(AcceleratorChoice::Tcg),
        other => Err(Problem::new(Code::BadRequest, format!("`{}` is not an accelerator", kvm_compose::names::printable(other)))
            .hint("use `auto`, `kvm` or `tcg`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let flags = Flags { data_dir: Some(folder.path().into()), ..Flags::default() };
        let settings = Settings::load(&flags).expect("defaults");
        assert_eq!(settings.bridge, "br-int");
        assert_eq!(settings.listen, Some(SocketAddr::from(([127, 0, 0, 1], 3355))));
        assert_eq!(settings.images_dir, folder.path().join("images"));

        std::fs::create_dir_all(folder.path().join("config")).expect("a folder");
        let file = folder.path().join("config/server.toml");
        std::fs::write(&file, "bridge = 'br-file'\naccelerator = 'tcg'\n[limits]\nactions_kept = 7\n").expect("a file");
        let settings = Settings::load(&flags).expect("a good file");
        assert_eq!((settings.bridge.as_str(), settings.accelerator), ("br-file", AcceleratorChoice::Tcg));
        assert_eq!(settings.limits.log_entries, 7);
        let flags = Flags { bridge: Some("br-flag".into()), no_tcp: true, ..flags };
        let settings = Settings::load(&flags).expect("a good file");
        assert_eq!((settings.bridge.as_str(), settings.listen), ("br-flag", None));

        std::fs::write(&file, "[images]\nproxy = 'http://p:3128'\nlargest_gib = 1\n[images.mirrors]\n'https://a/' = 'http://m/'\n")
            .expect("a file");
        let images = Settings::load(&flags).expect("a good file").images;
        assert_eq!((images.largest_bytes, images.proxy.as_deref()), (1 << 30, Some("http://p:3128")));
        assert_eq!(images.mirrors.get("https://a/").map(String::as_str), Some("http://m/"));

        for (wrong, named) in [
            ("brigde = 'x'", "brigde"),
            ("bridge = 3", "bridge"),
            ("accelerator = 'fast'", "fast"),
            ("[images.mirrors]\n'https://a/' = '/srv'", "https://a/"),
            ("[images]\nstall_s = 0", "stall_s"),
        ] {
            std::fs::write(&file, wrong).expect("a file");
            let problem = Settings::load(&flags).expect_err(wrong);
            let said = format!("{problem} {}", problem.causes.join(" "));
            assert!(said.contains(named), "{wrong}: {said}");
        }
    }
}
