//! A guest's libvirt domain as XML (<https://libvirt.org/formatdomain.html>).
//!
//! Pure. Written by an XML writer, so no name can break out of its element.

use std::{io::Cursor, path::Path};

use quick_xml::{
    Writer,
    events::{BytesText, Event},
};
use uuid::Uuid;

use crate::{
    names::{DeploymentName, domain_name},
    plan::{
        blueprint::{DiskFormat, Domain, METADATA_NAMESPACE, NIC_ALIAS, NicDevice, OPERATION_MARK},
        site::{Accelerator, MicroImage, Site},
    },
    topology::{DiskDevice, Guest, Nic, Resources},
};

/// What a domain boots and holds, paths decided.
pub struct Drives<'a> {
    /// Kernel and initramfs instead of a disk.
    pub kernel: Option<&'a MicroImage>,
    /// The disk.
    pub disk: Option<Drive<'a>>,
    /// The seed.
    pub seed: Option<&'a Path>,
    /// An installer that the disk beside it is empty for.
    pub cdrom: Option<&'a Path>,
    /// Virtual graphics with VNC.
    pub graphics: bool,
}

/// A disk of a domain.
pub struct Drive<'a> {
    /// The image.
    pub path: &'a Path,
    /// Its format.
    pub format: DiskFormat,
    /// Disk or CD-ROM.
    pub device: DiskDevice,
    /// The guest may not write to it.
    pub readonly: bool,
}

/// The kernel's command line of a micro guest. `panic=1`: a guest that cannot boot resets instead of burning a core.
const MICRO_CMDLINE: &str = "console=ttyS0 quiet panic=1 mitigations=off cryptomgr.notests";

/// How the digest's place looks before it is known.
const NO_DIGEST: &str = " digest=\"\"";
/// How the network configuration's place looks before it is put in.
const NO_NETWORK: &str = "<testbedos:network/>";
/// NICs are put before this.
const NO_NICS: &str = "<serial ";

type Xml = Writer<Cursor<Vec<u8>>>;

/// What else goes into a domain.
pub struct Parts<'a> {
    /// Its NICs' OVN ports.
    pub ports: &'a [Uuid],
    /// What takes its serial console's output.
    pub console_log: &'a Path,
    /// The network configuration of its seed.
    pub network: &'a str,
    /// A digest of the rest of its seed.
    pub seed: &'a str,
}

/// Renders a guest's domain.
pub fn domain(
    guest: &Guest,
    deployment: &DeploymentName,
    site: &Site,
    drives: &Drives<'_>,
    parts: &Parts<'_>,
) -> Result<Domain, std::io::Error> {
    let uuid = site.installation.domain_uuid(deployment, &guest.name);
    let name = domain_name(deployment, &guest.name);
    let nics: Result<Vec<NicDevice>, std::io::Error> =
        guest.nics.iter().zip(parts.ports).map(|(nic, port)| device(nic, port, site)).collect();
    let nics = nics?;
    let render = || -> Result<String, std::io::Error> {
        let mut xml = Writer::new_with_indent(Cursor::new(Vec::with_capacity(4096)), b' ', 2);
        let kind = if site.accelerator == Accelerator::Kvm { "kvm" } else { "qemu" };
        xml.create_element("domain").with_attribute(("type", kind)).write_inner_content(|xml| {
            text(xml, "name", &name)?;
            text(xml, "uuid", &uuid.to_string())?;
            metadata(xml, guest, deployment, site)?;
            xml.create_element("memory")
                .with_attribute(("unit", "MiB"))
                .write_text_content(BytesText::new(&guest.memory_mb.to_string()))?;
            text(xml, "vcpu", &guest.cpus.to_string())?;
            limits(xml, &guest.resources, site)?;
            os(xml, drives)?;
            xml.create_element("features").write_inner_content(|xml| empty(xml, "acpi", &[]))?;
            cpu(xml, site, drives)?;
            empty(xml, "clock", &[("offset", "utc")])?;
            text(xml, "on_poweroff", "destroy")?;
            text(xml, "on_reboot", "restart")?;
            text(xml, "on_crash", "destroy")?;
            devices(xml, site, drives, guest.resources.disk_iops, parts.console_log)
        })?;
        String::from_utf8(xml.into_inner().into_inner()).map_err(std::io::Error::other)
    };
    // Digest, network and NICs stand in the XML; the digest is taken over the XML without what a running guest can take up.
    let without = render()?;
    let limit = guest.resources.memory_max_mb.map(|limit| limit.to_string());
    let said: Vec<&str> = [without.as_str(), parts.seed].into_iter().chain(limit.as_deref()).collect();
    let digest = super::digest(&said);
    let place = |text: &'static str| without.find(text).ok_or_else(|| std::io::Error::other("the XML has no place for its parts"));
    let (of_digest, of_network, of_nics) = (place(NO_DIGEST)?, place(NO_NETWORK)?, place(NO_NICS)?);
    let devices: Vec<&str> = nics.iter().flat_map(|nic| [nic.xml.as_str(), "\n    "]).collect();
    let xml = [
        &without[..of_digest],
        " digest=\"",
        &digest,
        "\"",
        &without[of_digest + NO_DIGEST.len()..of_network],
        "<testbedos:network>",
        &quick_xml::escape::escape(parts.network),
        "</testbedos:network>",
        &without[of_network + NO_NETWORK.len()..of_nics],
        &devices.concat(),
        &without[of_nics..],
    ]
    .concat();
    Ok(Domain {
        name,
        uuid,
        guest: guest.name.clone(),
        xml,
        digest,
        nics,
        network: parts.network.to_string(),
        console_log: parts.console_log.to_path_buf(),
        memory_mb: guest.memory_mb,
        cpus: guest.cpus,
        memory_max_mb: guest.resources.memory_max_mb,
        paced: site.accelerator != Accelerator::Kvm,
        container: None,
    })
}

fn metadata(xml: &mut Xml, guest: &Guest, deployment: &DeploymentName, site: &Site) -> std::io::Result<()> {
    let installation = site.installation.to_string();
    xml.create_element("metadata").write_inner_content(|xml| {
        xml.create_element("testbedos:guest")
            .with_attributes([
                ("xmlns:testbedos", METADATA_NAMESPACE),
                ("installation", &installation),
                ("deployment", deployment.as_str()),
                ("guest", guest.name.as_str()),
                ("digest", ""),
                ("operation", OPERATION_MARK),
            ])
            .write_inner_content(|xml| empty(xml, "testbedos:network", &[]))?;
        Ok(())
    })?;
    Ok(())
}

fn os(xml: &mut Xml, drives: &Drives<'_>) -> std::io::Result<()> {
    xml.create_element("os").write_inner_content(|xml| {
        xml.create_element("type").with_attributes([("arch", "x86_64"), ("machine", "pc")]).write_text_content(BytesText::new("hvm"))?;
        match (drives.kernel, &drives.disk) {
            (Some(image), _) => {
                text(xml, "kernel", &image.kernel.to_string_lossy())?;
                text(xml, "initrd", &image.initramfs.to_string_lossy())?;
                text(xml, "cmdline", MICRO_CMDLINE)
            }
            (None, Some(drive)) if drive.device == DiskDevice::Cdrom => empty(xml, "boot", &[("dev", "cdrom")]),
            (None, _) => {
                empty(xml, "boot", &[("dev", "hd")])?;
                // An empty disk boots nothing, so the installer's turn comes.
                if drives.cdrom.is_some() { empty(xml, "boot", &[("dev", "cdrom")]) } else { Ok(()) }
            }
        }
    })?;
    Ok(())
}

/// What the guest may use of its host (formatdomain, "CPU Tuning" and "Memory Tuning").
fn limits(xml: &mut Xml, resources: &Resources, site: &Site) -> std::io::Result<()> {
    if let Some(shares) = resources.cpu_shares {
        // As container runtimes turn shares into the weights of version 2: 2 to 262144 into 1 to 10000.
        let shares = if site.unified_cgroups { 1 + shares.saturating_sub(2).min(262_142) * 9999 / 262_142 } else { shares };
        xml.create_element("cputune").write_inner_content(|xml| text(xml, "shares", &shares.to_string()))?;
    }
    if let Some(low) = resources.memory_low_mb {
        xml.create_element("memtune").write_inner_content(|xml| {
            xml.create_element("soft_limit").with_attribute(("unit", "MiB")).write_text_content(BytesText::new(&low.to_string()))?;
            Ok(())
        })?;
    }
    Ok(())
}

fn cpu(xml: &mut Xml, site: &Site, drives: &Drives<'_>) -> std::io::Result<()> {
    match (&site.accelerator, drives.kernel) {
        (Accelerator::Kvm, _) => empty(xml, "cpu", &[("mode", "host-passthrough")]),
        // The plainest model: what TCG need not translate costs nothing.
        (Accelerator::Tcg { .. }, Some(_)) => {
            xml.create_element("cpu").with_attribute(("mode", "custom")).write_inner_content(|xml| text(xml, "model", "qemu64"))?;
            Ok(())
        }
        // Distributions built for x86-64-v2 and later need more than the plainest model has.
        (Accelerator::Tcg { .. }, None) => empty(xml, "cpu", &[("mode", "maximum")]),
    }
}

fn devices(xml: &mut Xml, site: &Site, drives: &Drives<'_>, iops: Option<u64>, console_log: &Path) -> std::io::Result<()> {
    let emulator = site.emulator.to_string_lossy().into_owned();
    let console_log = console_log.to_string_lossy().into_owned();
    xml.create_element("devices").write_inner_content(|xml| {
        text(xml, "emulator", &emulator)?;
        let mut virtio = ["vda", "vdb"].into_iter();
        if let Some(drive) = &drives.disk {
            let (target, bus) = match drive.device {
                DiskDevice::Disk => (virtio.next().unwrap_or("vda"), "virtio"),
                // Installers' kernels know IDE; not all know virtio-scsi.
                DiskDevice::Cdrom => ("hda", "ide"),
            };
            disk(xml, drive, target, bus, iops)?;
        }
        if let Some(path) = drives.cdrom {
            let drive = Drive { path, format: DiskFormat::Raw, device: DiskDevice::Cdrom, readonly: true };
            disk(xml, &drive, "hda", "ide", None)?;
        }
        if let Some(seed) = drives.seed {
            let seed = Drive { path: seed, format: DiskFormat::Raw, device: DiskDevice::Disk, readonly: true };
            disk(xml, &seed, virtio.next().unwrap_or("vdb"), "virtio", None)?;
        }
        // A lean machine starts 1.3 times as fast.
        empty(xml, "controller", &[("type", "usb"), ("model", "none")])?;
        xml.create_element("serial").with_attribute(("type", "pty")).write_inner_content(|xml| {
            empty(xml, "log", &[("file", &console_log), ("append", "on")])?;
            empty(xml, "target", &[("port", "0")])
        })?;
        xml.create_element("console")
            .with_attribute(("type", "pty"))
            .write_inner_content(|xml| empty(xml, "target", &[("type", "serial"), ("port", "0")]))?;
        xml.create_element("channel")
            .with_attribute(("type", "unix"))
            .write_inner_content(|xml| empty(xml, "target", &[("type", "virtio"), ("name", "org.qemu.guest_agent.0")]))?;
        xml.create_element("rng").with_attribute(("model", "virtio")).write_inner_content(|xml| {
            xml.create_element("backend").with_attribute(("model", "random")).write_text_content(BytesText::new("/dev/urandom"))?;
            Ok(())
        })?;
        if drives.graphics {
            empty(xml, "graphics", &[("type", "vnc"), ("autoport", "yes"), ("websocket", "-1"), ("listen", "127.0.0.1")])?;
            xml.create_element("video").write_inner_content(|xml| empty(xml, "model", &[("type", "vga")]))?;
        }
        empty(xml, "memballoon", &[("model", "none")])
    })?;
    Ok(())
}

fn disk(xml: &mut Xml, drive: &Drive<'_>, target: &str, bus: &str, iops: Option<u64>) -> std::io::Result<()> {
    let device = if drive.device == DiskDevice::Cdrom { "cdrom" } else { "disk" };
    xml.create_element("disk").with_attributes([("type", "file"), ("device", device)]).write_inner_content(|xml| {
        let mut driver = vec![("name", "qemu"), ("type", drive.format.name())];
        if !drive.readonly {
            driver.push(("discard", "unmap"));
        }
        empty(xml, "driver", &driver)?;
        empty(xml, "source", &[("file", &drive.path.to_string_lossy())])?;
        empty(xml, "target", &[("dev", target), ("bus", bus)])?;
        if let Some(iops) = iops {
            xml.create_element("iotune").write_inner_content(|xml| text(xml, "total_iops_sec", &iops.to_string()))?;
        }
        if drive.readonly { empty(xml, "readonly", &[]) } else { Ok(()) }
    })?;
    Ok(())
}

/// A NIC as a device of its own, its alias made from what it says.
fn device(nic: &Nic, port: &Uuid, site: &Site) -> std::io::Result<NicDevice> {
    let render = |alias: &str| -> std::io::Result<String> {
        let mut xml = Writer::new(Cursor::new(Vec::new()));
        interface(&mut xml, nic, port, site, alias)?;
        String::from_utf8(xml.into_inner().into_inner()).map_err(std::io::Error::other)
    };
    let digest = super::digest(&[&render("")?]);
    let alias = format!("{NIC_ALIAS}{port}-{}", &digest[..12]);
    Ok(NicDevice { name: nic.name.clone(), mac: nic.mac.to_string(), port: *port, xml: render(&alias)?, alias })
}

/// libvirt plugs the port itself. Offloads are off: the userspace datapath does not finish checksums, and TCP would not
/// even connect while ping works.
fn interface(xml: &mut Xml, nic: &Nic, port: &Uuid, site: &Site, alias: &str) -> std::io::Result<()> {
    let (port, mac, mtu) = (port.to_string(), nic.mac.to_string(), site.mtu.to_string());
    xml.create_element("interface").with_attribute(("type", "bridge")).write_inner_content(|xml| {
        empty(xml, "mac", &[("address", &mac)])?;
        empty(xml, "source", &[("bridge", &site.bridge)])?;
        xml.create_element("virtualport")
            .with_attribute(("type", "openvswitch"))
            .write_inner_content(|xml| empty(xml, "parameters", &[("interfaceid", &port)]))?;
        empty(xml, "model", &[("type", "virtio")])?;
        xml.create_element("driver").with_attribute(("name", "qemu")).write_inner_content(|xml| {
            empty(xml, "host", &[("csum", "off"), ("gso", "off"), ("tso4", "off"), ("tso6", "off"), ("ecn", "off"), ("ufo", "off")])?;
            empty(xml, "guest", &[("csum", "off"), ("tso4", "off"), ("tso6", "off"), ("ecn", "off"), ("ufo", "off")])
        })?;
        empty(xml, "mtu", &[("size", &mtu)])?;
        empty(xml, "alias", &[("name", alias)])?;
        empty(xml, "rom", &[("enabled", "no")])
    })?;
    Ok(())
}

fn text(xml: &mut Xml, name: &str, content: &str) -> std::io::Result<()> {
    xml.create_element(name).write_text_content(BytesText::new(content)).map(|_| ())
}

fn empty(xml: &mut Xml, name: &str, attributes: &[(&str, &str)]) -> std::io::Result<()> {
    let mut element = quick_xml::events::BytesStart::new(name);
    for attribute in attributes {
        element.push_attribute(*attribute);
    }
    xml.write_event(Event::Empty(element))
}
