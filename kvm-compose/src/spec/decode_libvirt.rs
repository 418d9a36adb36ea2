//! From nodes to what the user wrote: virtual machines with a disk.
//!
//! Pure.

use super::{
    decode::{environment, only, path, path_of},
    decode_scaling::{self, For},
    model::{CloudImage, DiskDevice, DiskFormat, ExistingDisk, IsoGuest, Libvirt, LibvirtType},
    node::Node,
    reader::{Reader, Spanned},
};

/// What a virtual machine boots.
const TYPES: [&str; 3] = ["cloud_image", "existing_disk", "iso_guest"];

/// Decodes `libvirt`. `wide`: the machine has interfaces of its own.
pub fn libvirt(node: &Node, wide: bool, reader: &mut Reader) -> Option<Libvirt> {
    let mut fields = reader.fields(node, "`libvirt`")?;
    let cpus = fields.require(reader, "cpus").and_then(|node| reader.integer(node, "`cpus`", 1, 512));
    let memory_mb = fields.require(reader, "memory_mb").and_then(|node| reader.integer(node, "`memory_mb`", 16, 4 << 20));
    let extended_graphics_support =
        fields.get("extended_graphics_support").and_then(|node| reader.boolean(node, "`extended_graphics_support`"));
    let username = fields.get("username").and_then(|node| reader.parsed(node, "`username`", "E010", user));
    let password = fields.get("password").and_then(|node| reader.parsed(node, "`password`", "E006", password));
    for key in TYPES {
        fields.misplaced(reader, key, &format!("write `libvirt_type: {{{key}: {{…}}}}`"));
    }
    for key in ["name", "expand_gigabytes", "setup_script", "run_script", "context", "environment", "path"] {
        fields.misplaced(reader, key, "move it below the type in `libvirt_type:`, such as `cloud_image:`");
    }
    let typed = match TYPES.iter().any(|key| fields.key_at(key).is_some()) {
        true => fields.get("libvirt_type"),
        false => fields.require(reader, "libvirt_type"),
    };
    let libvirt_type = typed.map(|node| libvirt_type(node, reader)).unwrap_or_default();
    let owner = if libvirt_type.iso_guest.is_some() { For::Iso } else { For::Disk };
    let scaling = fields.get("scaling").and_then(|node| decode_scaling::scaling(node, owner, wide, reader));
    if scaling.is_some() {
        own_scripts(&libvirt_type, reader);
    }
    fields.finish(reader);
    Some(Libvirt { cpus, memory_mb, extended_graphics_support, username, password, libvirt_type, scaling })
}

/// Clones have scripts of their own, named in `scaling`.
fn own_scripts(kind: &LibvirtType, reader: &mut Reader) {
    let cloud = kind.cloud_image.iter().flat_map(|cloud| [("setup_script", &cloud.setup_script), ("run_script", &cloud.run_script)]);
    let disk = kind.existing_disk.iter().flat_map(|disk| [("setup_script", &disk.setup_script), ("run_script", &disk.run_script)]);
    for (key, script) in cloud.chain(disk) {
        let Some(script) = script else { continue };
        let instead = if key == "setup_script" { "`shared_setup` or `clone_setup`" } else { "`clone_run`" };
        let hint = Some(format!("name it in {instead} below `scaling:`"));
        reader.error(script.at, "E007", format!("the clones of a scaled machine do not run its `{key}`"), hint);
    }
}

/// What useradd(8) takes.
fn user(text: &str) -> Result<String, String> {
    let first = |c: char| c.is_ascii_lowercase() || c == '_';
    let rest = |c: char| first(c) || c.is_ascii_digit() || c == '-';
    match (1..=32).contains(&text.len()) && text.starts_with(first) && text.chars().all(rest) {
        true => Ok(text.to_string()),
        false => Err("use 1 to 32 lower-case letters, digits, `_` and `-`, starting with a letter or `_`".to_string()),
    }
}

fn password(text: &str) -> Result<String, String> {
    match (1..=128).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        true => Ok(text.to_string()),
        false => Err("use 1 to 128 characters and no control character".to_string()),
    }
}

fn libvirt_type(node: &Node, reader: &mut Reader) -> LibvirtType {
    // `libvirt_type: cloud_image` says which, and not what.
    if let Some(word) = node.text().filter(|word| TYPES.contains(word)) {
        let hint = Some(format!("write `libvirt_type:` and below it, indented, `{word}:` with its keys"));
        reader.error(node.at, "E005", format!("`libvirt_type` must be a map, but here is `{word}` alone"), hint);
        return LibvirtType::default();
    }
    let Some(mut fields) = reader.fields(node, "`libvirt_type`") else { return LibvirtType::default() };
    only(&fields, "`libvirt_type`", &TYPES, "add `cloud_image: {name: …}` or `existing_disk: {path: …}`", reader);
    let kind = LibvirtType {
        cloud_image: fields.require_if(reader, "cloud_image").and_then(|node| cloud_image(node, reader)),
        existing_disk: fields.require_if(reader, "existing_disk").and_then(|node| existing_disk(node, reader)),
        iso_guest: fields.require_if(reader, "iso_guest").and_then(|node| iso_guest(node, reader)),
    };
    fields.finish(reader);
    kind
}

fn cloud_image(node: &Node, reader: &mut Reader) -> Option<CloudImage> {
    let mut fields = reader.fields(node, "`cloud_image`")?;
    fields.misplaced(reader, "path", "an image file of yours is an `existing_disk`; a cloud image is named by `name`");
    let name = match fields.key_at("path") {
        Some(_) => fields.get("name"),
        None => fields.require(reader, "name"),
    };
    let image = CloudImage {
        name: name.and_then(|node| reader.parsed(node, "`name`", "E010", image_name)).unwrap_or_else(|| nameless(node)),
        expand_gigabytes: fields.get("expand_gigabytes").and_then(|node| reader.integer(node, "`expand_gigabytes`", 0, 65_535)),
        setup_script: path_of(&mut fields, "setup_script", reader),
        run_script: path_of(&mut fields, "run_script", reader),
        context: path_of(&mut fields, "context", reader),
        environment: fields.get("environment").map(|node| environment(node, reader)).unwrap_or_default(),
    };
    fields.finish(reader);
    Some(image)
}

/// A fault was reported; the rest of the machine is still looked at.
fn nameless(node: &Node) -> Spanned<String> {
    Spanned { value: String::new(), at: node.at }
}

/// Parses a name of the image catalogue; the error is a hint.
fn image_name(text: &str) -> Result<String, String> {
    match crate::names::is_image(text) {
        true => Ok(text.to_string()),
        false => Err(crate::names::IMAGE_RULE.to_string()),
    }
}

fn existing_disk(node: &Node, reader: &mut Reader) -> Option<ExistingDisk> {
    let mut fields = reader.fields(node, "`existing_disk`")?;
    let file = fields.require(reader, "path").and_then(|node| path(node, "`path`", reader));
    let formats = [("raw", DiskFormat::Raw), ("qcow2", DiskFormat::Qcow2)];
    let devices = [("disk", DiskDevice::Disk), ("cdrom", DiskDevice::Cdrom)];
    fields.misplaced(reader, "expand_gigabytes", "a disk that exists keeps its size; grow it with `qemu-img resize`");
    let disk = ExistingDisk {
        path: file.unwrap_or_else(|| nameless(node)),
        driver_type: fields.get("driver_type").and_then(|node| reader.word(node, "`driver_type`", &formats)),
        device_type: fields.get("device_type").and_then(|node| reader.word(node, "`device_type`", &devices)),
        readonly: fields.get("readonly").and_then(|node| reader.boolean(node, "`readonly`")),
        create_deep_copy: fields.get("create_deep_copy").and_then(|node| reader.boolean(node, "`create_deep_copy`")),
        setup_script: path_of(&mut fields, "setup_script", reader),
        run_script: path_of(&mut fields, "run_script", reader),
        context: path_of(&mut fields, "context", reader),
    };
    fields.finish(reader);
    Some(disk).filter(|disk| !disk.path.value.is_empty())
}

fn iso_guest(node: &Node, reader: &mut Reader) -> Option<IsoGuest> {
    let mut fields = reader.fields(node, "`iso_guest`")?;
    let file = fields.require(reader, "path").and_then(|node| path(node, "`path`", reader));
    for key in ["setup_script", "run_script"] {
        fields.misplaced(reader, key, "an installer runs no scripts; install it once, then use its disk as an `existing_disk`");
    }
    let expand_gigabytes = fields.get("expand_gigabytes").and_then(|node| reader.integer(node, "`expand_gigabytes`", 1, 65_535));
    fields.finish(reader);
    Some(IsoGuest { path: file?, expand_gigabytes })
}
