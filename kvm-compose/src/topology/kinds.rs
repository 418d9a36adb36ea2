//! What each kind of guest means: defaults filled in, what has no effect said, what cannot act yet named.
//!
//! Pure. Interfaces are resolved already, in `guests`; whom a guest names is resolved later, in `relations`.

use std::collections::BTreeMap;

use super::model::{
    Android, CloneOf, Container, Device, DiskDevice, DiskFormat, FileRef, Guest, GuestKind, HostRef, Mount, Nic, Placement, Readiness,
    ReadyCondition, Resources,
};
use crate::spec::{
    model as wrote,
    reader::{Reader, Spanned},
};

/// The memory of a micro guest that asks for none, in MiB.
const MICRO_MEMORY_MB: u64 = 128;
/// The readiness limit of a guest that asks for none, in seconds. Fifty guests that boot at once on two cores without
/// KVM take almost three minutes.
const READY_S: u64 = 300;
/// The disk that an installer gets where the file names no size, in GiB.
const ISO_DISK_GB: u64 = 20;

/// A kind with what comes with it.
struct Parts {
    kind: GuestKind,
    cpus: u32,
    memory_mb: u64,
    environment: BTreeMap<String, String>,
    setup_script: Option<FileRef>,
    run_script: Option<FileRef>,
    context: Option<FileRef>,
    /// What is waited for where the file says nothing.
    ready: ReadyCondition,
}

/// A guest, but for whom it names.
pub fn guest(machine: &wrote::Machine, nics: Vec<Nic>, reader: &mut Reader) -> Option<Guest> {
    let name = machine.name.value.clone();
    let hostname = name.hostname();
    // Of a scaled machine it is said once.
    let first = machine.clone_of.as_ref().is_none_or(|clone| clone.id == 0);
    if hostname != name.as_str() && first {
        let hint = Some(format!("its hostname is `{hostname}` (RFC 1123)"));
        reader.warning(machine.name.at, "W001", format!("`{name}` is not a DNS label"), hint);
    }
    let parts = parts(machine, first, reader)?;
    if first {
        not_yet(machine, &parts, reader);
    }
    let ready = machine.ready.as_ref();
    let asked = ready.and_then(|ready| ready.condition.as_ref()).map(|condition| condition.value.clone());
    let all = |own: Option<FileRef>, clones: Option<&Vec<Spanned<String>>>, reader: &Reader| match clones {
        Some(scripts) => scripts.iter().map(|script| file(script, reader)).collect(),
        None => Vec::from_iter(own),
    };
    let clone = machine.clone_of.as_ref();
    let setup_scripts: Vec<FileRef> = all(parts.setup_script, clone.map(|clone| &clone.setup), reader);
    let run_scripts: Vec<FileRef> = all(parts.run_script, clone.map(|clone| &clone.run), reader);
    // An image is only known to have an agent when the file says so or wants scripts run through it.
    let scripted =
        !setup_scripts.is_empty() || !run_scripts.is_empty() || parts.context.is_some() || clone.is_some_and(|clone| clone.shared);
    let usual = if scripted && parts.ready == ReadyCondition::Running { ReadyCondition::Agent } else { parts.ready };
    let written = machine.placement.as_ref();
    let placement = Placement {
        host: written.and_then(|it| it.host.as_ref()).map(|host| HostRef { name: host.value.clone(), at: reader.place(host.at) }),
        weight: written.and_then(|it| it.weight.as_ref()).map(|weight| weight.value as u32),
        ..Placement::default()
    };
    let condition = asked.unwrap_or(usual);
    // Whoever is asked through the agent can be asked for cloud-init, too.
    let by_agent = !matches!(condition, ReadyCondition::Running | ReadyCondition::Log(_));
    let set_up = by_agent && matches!(parts.kind, GuestKind::CloudImage { .. });
    Some(Guest {
        name,
        hostname,
        resources: resources(machine, parts.memory_mb, &parts.kind, reader),
        kind: parts.kind,
        cpus: parts.cpus,
        memory_mb: parts.memory_mb,
        nics,
        placement,
        depends_on: Vec::new(),
        ready: Readiness {
            condition,
            timeout_s: ready.and_then(|ready| ready.timeout_s.as_ref()).map_or(READY_S, |limit| limit.value),
            set_up,
        },
        environment: parts.environment,
        setup_scripts,
        run_scripts,
        context: parts.context,
        labels: machine.labels.iter().map(|(key, value)| (key.clone(), value.value.clone())).collect(),
        clone_of: clone.map(|clone| CloneOf { machine: clone.machine.value.clone(), id: clone.id }),
    })
}

/// Names every key that the file may have and this version cannot act on.
fn not_yet(machine: &wrote::Machine, parts: &Parts, reader: &mut Reader) {
    let (at, name) = (machine.kind_at, machine.clone_of.as_ref().map_or(&machine.name.value, |clone| &clone.machine.value));
    if let GuestKind::Android(_) = &parts.kind {
        reader.not_yet(at, format!("`android`: this version cannot start machine `{name}`, an Android emulator"));
    }
    let Some(iops) = machine.resources.as_ref().and_then(|resources| resources.disk_iops.as_ref()) else { return };
    match &parts.kind {
        GuestKind::Docker(_) => {
            reader.not_yet(iops.at, format!("`disk_iops`: this version cannot limit the disks of machine `{name}`, a container"));
        }
        GuestKind::Micro { .. } => {
            reader.warning(iops.at, "W003", format!("`disk_iops` has no effect on `{name}`: a `micro` guest has no disk"), None);
        }
        _ => {}
    }
}

fn file(path: &Spanned<String>, reader: &Reader) -> FileRef {
    FileRef { path: path.value.clone(), at: reader.place(path.at), source: reader.source(path.at) }
}

fn texts(map: &BTreeMap<String, Spanned<String>>) -> BTreeMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.value.clone())).collect()
}

fn parts(machine: &wrote::Machine, first: bool, reader: &mut Reader) -> Option<Parts> {
    if let Some(micro) = &machine.micro {
        return Some(Parts {
            kind: GuestKind::Micro { services: micro.services.iter().map(|(name, port)| (name.clone(), port.value as u16)).collect() },
            cpus: micro.cpus.as_ref().map_or(1, |cpus| cpus.value as u32),
            memory_mb: micro.memory_mb.as_ref().map_or(MICRO_MEMORY_MB, |memory| memory.value),
            environment: texts(&micro.environment),
            setup_script: micro.setup_script.as_ref().map(|path| file(path, reader)),
            run_script: micro.run_script.as_ref().map(|path| file(path, reader)),
            context: None,
            ready: ReadyCondition::Agent,
        });
    }
    if let Some(libvirt) = &machine.libvirt {
        return libvirt_parts(libvirt, first, reader);
    }
    if let Some(docker) = &machine.docker {
        return container(docker, reader);
    }
    android(machine.android.as_ref()?, reader)
}

fn libvirt_parts(libvirt: &wrote::Libvirt, first: bool, reader: &mut Reader) -> Option<Parts> {
    let kind = &libvirt.libvirt_type;
    let graphics = libvirt.extended_graphics_support.as_ref().is_some_and(|graphics| graphics.value);
    let shell = Parts {
        kind: GuestKind::Micro { services: BTreeMap::new() },
        cpus: libvirt.cpus.as_ref()?.value as u32,
        memory_mb: libvirt.memory_mb.as_ref()?.value,
        environment: BTreeMap::new(),
        setup_script: None,
        run_script: None,
        context: None,
        ready: ReadyCondition::Running,
    };
    if let Some(cloud) = &kind.cloud_image {
        if let (Some(password), None) = (&libvirt.password, &libvirt.username)
            && first
        {
            let hint = Some("add `username:` to say whose it is, or leave both out".to_string());
            reader.warning(password.at, "W023", "`password` without `username` is the password of the image's own user".to_string(), hint);
        }
        let text = |value: &Option<Spanned<String>>| value.as_ref().map(|value| value.value.clone());
        return Some(Parts {
            kind: GuestKind::CloudImage {
                image: file(&cloud.name, reader),
                expand_gb: cloud.expand_gigabytes.as_ref().map_or(0, |size| size.value),
                username: text(&libvirt.username),
                password: text(&libvirt.password),
                graphics,
            },
            environment: texts(&cloud.environment),
            setup_script: cloud.setup_script.as_ref().map(|path| file(path, reader)),
            run_script: cloud.run_script.as_ref().map(|path| file(path, reader)),
            context: cloud.context.as_ref().map(|path| file(path, reader)),
            ready: ReadyCondition::Agent,
            ..shell
        });
    }
    let named = if kind.iso_guest.is_some() { "iso_guest" } else { "existing_disk" };
    for (key, given) in [("username", &libvirt.username), ("password", &libvirt.password)] {
        if let Some(given) = given.as_ref().filter(|_| first) {
            let hint = Some(format!("`{named}` boots the image as it is; log in with what the image knows"));
            reader.warning(given.at, "W003", format!("`{key}` has no effect on an `{named}`"), hint);
        }
    }
    if let Some(iso) = &kind.iso_guest {
        let disk_gb = iso.expand_gigabytes.as_ref().map_or(ISO_DISK_GB, |size| size.value);
        return Some(Parts { kind: GuestKind::IsoGuest { iso: file(&iso.path, reader), disk_gb, graphics }, ..shell });
    }
    let disk = kind.existing_disk.as_ref()?;
    let device = disk.device_type.as_ref().map_or(DiskDevice::Disk, |device| device.value);
    if let (DiskDevice::Cdrom, Some(copy)) = (device, disk.create_deep_copy.as_ref().filter(|copy| copy.value && first)) {
        reader.error(
            copy.at,
            "E007",
            "a CD-ROM is never written to, so `create_deep_copy` makes no sense".to_string(),
            Some("remove it".to_string()),
        );
    }
    Some(Parts {
        kind: GuestKind::ExistingDisk {
            disk: file(&disk.path, reader),
            format: disk.driver_type.as_ref().map_or(DiskFormat::Raw, |format| format.value),
            device,
            readonly: disk.readonly.as_ref().is_some_and(|readonly| readonly.value) || device == DiskDevice::Cdrom,
            deep_copy: disk.create_deep_copy.as_ref().is_some_and(|copy| copy.value),
            graphics,
        },
        setup_script: disk.setup_script.as_ref().map(|path| file(path, reader)),
        run_script: disk.run_script.as_ref().map(|path| file(path, reader)),
        context: disk.context.as_ref().map(|path| file(path, reader)),
        ..shell
    })
}

fn container(docker: &wrote::Docker, reader: &Reader) -> Option<Parts> {
    let mount = |volume: &wrote::DockerVolume| {
        Some(Mount {
            source: file(volume.source.as_ref()?, reader),
            target: volume.target.as_ref()?.value.clone(),
            read_only: volume.read_only.as_ref().is_some_and(|it| it.value),
        })
    };
    let device = |device: &wrote::DockerDevice| Device {
        source: device.source.value.clone(),
        target: device.target.clone(),
        permissions: device.permissions.clone(),
    };
    let words = |words: &Option<Spanned<Vec<String>>>| words.as_ref().map(|words| words.value.clone());
    Some(Parts {
        kind: GuestKind::Docker(Box::new(Container {
            image: docker.image.as_ref()?.value.clone(),
            command: words(&docker.command),
            entrypoint: words(&docker.entrypoint),
            env_file: docker.env_file.as_ref().map(|path| file(path, reader)),
            volumes: docker.volumes.iter().filter_map(mount).collect(),
            privileged: docker.privileged.as_ref().is_some_and(|it| it.value),
            user: docker.user.as_ref().map(|user| user.value.clone()),
            devices: docker.device.iter().map(device).collect(),
        })),
        cpus: 0,
        memory_mb: 0,
        environment: texts(&docker.environment),
        setup_script: None,
        run_script: None,
        context: None,
        ready: ReadyCondition::Running,
    })
}

fn android(android: &wrote::Android, reader: &Reader) -> Option<Parts> {
    let (kind, scripts) = match (&android.avd, &android.existing_avd) {
        (Some(avd), _) => {
            let api_version = avd.android_api_version.as_ref()?.value as u32;
            let playstore = avd.playstore_enabled.as_ref().is_some_and(|it| it.value);
            (Android::Made { api_version, playstore }, (avd.setup_script.as_ref(), avd.run_script.as_ref()))
        }
        (None, existing) => (Android::Existing { path: file(&existing.as_ref()?.path, reader) }, (None, None)),
    };
    Some(Parts {
        kind: GuestKind::Android(kind),
        cpus: ANDROID_CPUS,
        memory_mb: ANDROID_MEMORY_MB,
        environment: BTreeMap::new(),
        setup_script: scripts.0.map(|path| file(path, reader)),
        run_script: scripts.1.map(|path| file(path, reader)),
        context: None,
        ready: ReadyCondition::Agent,
    })
}

/// What the emulator takes where nothing else is said.
const ANDROID_CPUS: u32 = 2;
/// The same, in MiB.
const ANDROID_MEMORY_MB: u64 = 2048;

fn resources(machine: &wrote::Machine, memory_mb: u64, kind: &GuestKind, reader: &mut Reader) -> Resources {
    let Some(wrote) = &machine.resources else { return Resources::default() };
    if let Some(most) = wrote.memory_max_mb.as_ref().filter(|most| most.value < memory_mb)
        && machine.clone_of.as_ref().is_none_or(|clone| clone.id == 0)
        && !matches!(kind, GuestKind::Docker(_))
    {
        let hint = Some(format!("use at least {memory_mb}, and some more for the emulator"));
        reader.error(most.at, "E006", format!("`memory_max_mb` is {}, less than the guest's own memory", most.value), hint);
    }
    let value = |number: &Option<Spanned<u64>>| number.as_ref().map(|number| number.value);
    Resources {
        cpu_shares: value(&wrote.cpu_shares),
        memory_low_mb: value(&wrote.memory_low_mb),
        memory_max_mb: value(&wrote.memory_max_mb),
        disk_iops: value(&wrote.disk_iops),
    }
}
