//! What Docker is told of a container (<https://docs.docker.com/reference/api/engine/>).
//!
//! Pure. What the testbed file does not ask for is not given: no network of Docker's, no published port, no restart.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, DeviceMapping, HostConfig, HostConfigLogConfig, Mount, MountType};
use uuid::Uuid;

use crate::{
    backend::Owner,
    plan::{blueprint::Domain, container::Container},
};

/// Label: the installation.
pub const INSTALLATION: &str = "dev.testbedos.installation";
/// Label: the deployment.
pub const DEPLOYMENT: &str = "dev.testbedos.deployment";
/// Label: the guest.
pub const GUEST: &str = "dev.testbedos.guest";
/// Label: the guest's id.
pub const UUID: &str = "dev.testbedos.uuid";
/// Label: the digest of what the container was made from.
pub const DIGEST: &str = "dev.testbedos.digest";
/// Label: the image that its name led to, of a container that a snapshot's image stands in for: `up` compares with this one.
pub const IMAGE: &str = "dev.testbedos.image";
/// Label: the operation that made it.
pub const OPERATION: &str = "dev.testbedos.operation";

/// What a container may do that is not privileged: what Docker gives by itself, but for making devices. Written out, so that
/// no setting of the daemon's gives more (capabilities(7)).
const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// What a container writes is kept by Docker, as much as this.
const LOG_FILES: [(&str, &str); 2] = [("max-size", "10m"), ("max-file", "3")];

/// A container as it is created.
pub fn body(domain: &Domain, container: &Container, owner: &Owner, operation: Uuid) -> ContainerCreateBody {
    let text = ToString::to_string;
    let labels = [
        (INSTALLATION, owner.installation.to_string()),
        (DEPLOYMENT, owner.deployment.to_string()),
        (GUEST, domain.guest.to_string()),
        (UUID, domain.uuid.to_string()),
        (DIGEST, domain.digest.clone()),
        (OPERATION, operation.to_string()),
    ];
    let mut labels: HashMap<String, String> = labels.map(|(name, value)| (name.to_string(), value)).into();
    let named = container.image_id.clone().unwrap_or_else(|| container.image.clone());
    if container.restored.is_some() {
        labels.insert(IMAGE.to_string(), named.clone());
    }
    ContainerCreateBody {
        hostname: Some(container.hostname.clone()),
        user: container.user.clone(),
        env: Some(container.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        cmd: container.command.clone(),
        entrypoint: container.entrypoint.clone(),
        image: Some(container.restored.clone().unwrap_or(named)),
        labels: Some(labels),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_string()),
            privileged: Some(container.privileged),
            cap_drop: (!container.privileged).then(|| vec!["ALL".to_string()]),
            cap_add: (!container.privileged).then(|| CAPABILITIES.iter().map(text).collect()),
            mounts: Some(container.mounts.iter().map(mount).collect()),
            devices: Some(container.devices.iter().map(device).collect()),
            cpu_shares: container.cpu_shares.map(|shares| i64::try_from(shares).unwrap_or(i64::MAX)),
            memory: container.memory_max_mb.map(bytes),
            memory_reservation: container.memory_low_mb.map(bytes),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_string()),
                config: Some(HashMap::from(LOG_FILES.map(|(name, value)| (name.to_string(), value.to_string())))),
            }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

fn bytes(mebibytes: u64) -> i64 {
    i64::try_from(mebibytes.saturating_mul(1 << 20)).unwrap_or(i64::MAX)
}

fn mount(bind: &crate::plan::container::Bind) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(bind.source.display().to_string()),
        target: Some(bind.target.clone()),
        read_only: Some(bind.read_only),
        ..Mount::default()
    }
}

fn device(device: &crate::plan::container::HostDevice) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(device.source.clone()),
        path_in_container: Some(device.target.clone()),
        cgroup_permissions: Some(device.permissions.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::names::{DeploymentName, GuestName, InstallationId};

    fn told(privileged: bool) -> ContainerCreateBody {
        let container = Container {
            image: "web:1".to_string(),
            image_id: Some("sha256:abc".to_string()),
            restored: None,
            hostname: "web".to_string(),
            command: None,
            entrypoint: None,
            environment: BTreeMap::from([("A".to_string(), " 'x' \"$y\"\n".to_string())]),
            mounts: Vec::new(),
            privileged,
            user: None,
            devices: Vec::new(),
            cpu_shares: None,
            memory_low_mb: None,
            memory_max_mb: Some(64),
        };
        let domain = Domain {
            name: "lab.web".to_string(),
            uuid: Uuid::from_u128(2),
            guest: GuestName::new("web").expect("valid"),
            xml: String::new(),
            digest: "d".to_string(),
            nics: Vec::new(),
            network: String::new(),
            console_log: "n".into(),
            memory_mb: 0,
            cpus: 0,
            memory_max_mb: None,
            paced: false,
            container: None,
        };
        let owner = Owner { installation: InstallationId(Uuid::from_u128(1)), deployment: DeploymentName::new("lab").expect("valid") };
        body(&domain, &container, &owner, Uuid::nil())
    }

    #[test]
    fn what_is_not_privileged_has_few_rights_and_no_network_of_dockers() {
        let (plain, privileged) = (told(false), told(true));
        let rights = |body: &ContainerCreateBody| {
            let config = body.host_config.clone().expect("told");
            (config.privileged, config.cap_drop, config.cap_add.map(|added| added.len()), config.network_mode)
        };
        let none = Some("none".to_string());
        assert_eq!(rights(&plain), (Some(false), Some(vec!["ALL".to_string()]), Some(CAPABILITIES.len()), none.clone()));
        assert_eq!(rights(&privileged), (Some(true), None, None, none));
        assert_eq!(plain.image.as_deref(), Some("sha256:abc"), "the image that was planned, whatever its name leads to since");
        assert_eq!(plain.env, Some(vec!["A= 'x' \"$y\"\n".to_string()]));
        assert_eq!(plain.host_config.and_then(|config| config.memory), Some(64 << 20));
    }
}
