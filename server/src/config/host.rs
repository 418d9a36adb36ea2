//! config/host.json (this host), config/mode.json (master or client), config/kvm-compose-config.json (the cluster).

use kvm_compose::{
    error::{Code, Problem},
    names::{HostName, InstallationId},
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{older, uplinks::OvnHost};
use crate::{
    data::{DataDir, read_if_there},
    store::{atomic, records::to_json},
};

/// GET and POST `/api/config/host`: config/host.json.
///
/// Files of older versions are read as well ([`super::older`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HostConfig {
    /// The host's name, by which plans place guests.
    pub hostname: HostName,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// The processor's architecture, as the kernel names it.
    pub architecture: String,
    /// The kernel's version.
    pub kernel: String,
    /// How OVN's networks reach those of this host.
    #[serde(default)]
    pub ovn: OvnHost,
}

impl<'de> Deserialize<'de> for HostConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            hostname: HostName,
            cpus: u32,
            memory_mb: u64,
            architecture: String,
            kernel: String,
            #[serde(default)]
            ovn: OvnHost,
        }
        let mut value = serde_json::Value::deserialize(deserializer)?;
        older::translate(&mut value).map_err(D::Error::custom)?;
        let File { hostname, cpus, memory_mb, architecture, kernel, ovn } = serde_json::from_value(value).map_err(D::Error::custom)?;
        ovn.check().map_err(D::Error::custom)?;
        Ok(HostConfig { hostname, cpus, memory_mb, architecture, kernel, ovn })
    }
}

/// config/mode.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeFile {
    /// What the server is without a subcommand.
    pub mode: Mode,
}

/// What a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Keeps the records and decides.
    Master,
    /// Lends its machine to a master.
    Client,
}

/// GET `/api/config/cluster`: config/kvm-compose-config.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The hosts, the master first.
    pub hosts: Vec<ClusterHost>,
}

/// A host of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterHost {
    /// Its name.
    pub hostname: HostName,
    /// What it is.
    pub mode: Mode,
    /// The installation that runs on it.
    pub installation: InstallationId,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
}

impl HostConfig {
    /// What this machine is.
    pub fn of_this_machine() -> Result<HostConfig, Problem> {
        let system = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let memory = rustix::system::sysinfo();
        let memory_mb = u64::from(memory.mem_unit).saturating_mul(memory.totalram as u64) / (1024 * 1024);
        Ok(HostConfig {
            hostname: host_name(&text(system.nodename()))?,
            cpus: std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
            memory_mb,
            architecture: text(system.machine()),
            kernel: text(system.release()),
            ovn: OvnHost::default(),
        })
    }

    /// Reads config/host.json, or makes it from what this machine is.
    pub fn load(data: &DataDir) -> Result<HostConfig, Problem> {
        match Self::read(data)? {
            Some(host) => Ok(host),
            None => {
                let host = Self::of_this_machine()?;
                host.write(data)?;
                Ok(host)
            }
        }
    }

    /// Reads config/host.json if it is there.
    pub fn read(data: &DataDir) -> Result<Option<HostConfig>, Problem> {
        read_config(data, "host.json")
    }

    /// Writes config/host.json.
    pub fn write(&self, data: &DataDir) -> Result<(), Problem> {
        atomic::write(&data.config().join("host.json"), &to_json(self)?)
    }
}

impl ClusterConfig {
    /// The cluster that consists of this host alone, put into config/kvm-compose-config.json.
    pub fn write_alone(data: &DataDir, host: &HostConfig, installation: InstallationId) -> Result<ClusterConfig, Problem> {
        let alone =
            ClusterHost { hostname: host.hostname.clone(), mode: Mode::Master, installation, cpus: host.cpus, memory_mb: host.memory_mb };
        let cluster = ClusterConfig { hosts: vec![alone] };
        cluster.write(data)?;
        Ok(cluster)
    }

    /// Puts the cluster into config/kvm-compose-config.json.
    pub fn write(&self, data: &DataDir) -> Result<(), Problem> {
        atomic::write(&data.config().join("kvm-compose-config.json"), &to_json(self)?)
    }

    /// Reads config/kvm-compose-config.json if it is there.
    pub fn read(data: &DataDir) -> Result<Option<ClusterConfig>, Problem> {
        read_config(data, "kvm-compose-config.json")
    }
}

/// What the server is without a subcommand.
pub fn mode(data: &DataDir) -> Result<Mode, Problem> {
    Ok(read_config::<ModeFile>(data, "mode.json")?.map_or(Mode::Master, |file| file.mode))
}

/// Puts the mode on record.
pub fn write_mode(data: &DataDir, mode: Mode) -> Result<(), Problem> {
    atomic::write(&data.config().join("mode.json"), &to_json(&ModeFile { mode })?)
}

fn read_config<T: serde::de::DeserializeOwned>(data: &DataDir, file: &str) -> Result<Option<T>, Problem> {
    let path = data.config().join(file);
    let Some(content) = read_if_there(&path)? else { return Ok(None) };
    serde_json::from_slice(&content).map(Some).map_err(|error| {
        Problem::new(Code::BadRequest, format!("{} is wrong", path.display()))
            .cause(error)
            .hint("`testbedos-server create-config` writes a valid host.json")
    })
}

/// The kernel's name for this machine, as far as it is a host's name.
fn host_name(nodename: &str) -> Result<HostName, Problem> {
    let kept: String = nodename.chars().filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c)).take(63).collect();
    let trimmed = kept.trim_matches(['-', '.']);
    HostName::new(trimmed).or_else(|_| HostName::new("localhost"))
}
