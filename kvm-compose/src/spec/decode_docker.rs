//! From nodes to what the user wrote: containers and Android emulators.
//!
//! Pure.

use std::collections::BTreeSet;

use super::{
    decode::{environment, only, path, path_of},
    decode_scaling::{self, For},
    model::{Android, Avd, Docker, DockerDevice, DockerVolume, ExistingAvd},
    node::{Node, Value},
    reader::{Reader, Spanned},
};
use crate::names::printable;

/// Decodes `docker`. `wide`: the machine has interfaces of its own.
pub fn docker(node: &Node, wide: bool, reader: &mut Reader) -> Option<Docker> {
    let mut fields = reader.fields(node, "`docker`")?;
    for (key, hint) in [
        ("ports", "a container is a guest of the network: it is reached by its address, and no port is published"),
        ("networks", "name switches in the machine's `network:`"),
        ("build", "build the image with `docker build` and name it in `image:`"),
        ("restart", "remove it; `testbed up` starts what is not there"),
        ("depends_on", "move it beside `docker:`"),
        ("devices", "the key is called `device`"),
    ] {
        fields.misplaced(reader, key, hint);
    }
    let docker = Docker {
        image: fields.require(reader, "image").and_then(|node| reader.parsed(node, "`image`", "E010", image)),
        command: fields.get("command").and_then(|node| words(node, "`command`", reader)),
        entrypoint: fields.get("entrypoint").and_then(|node| words(node, "`entrypoint`", reader)),
        environment: fields.get("environment").map(|node| environment(node, reader)).unwrap_or_default(),
        env_file: path_of(&mut fields, "env_file", reader),
        volumes: fields.get("volumes").map(|node| volumes(node, reader)).unwrap_or_default(),
        privileged: fields.get("privileged").and_then(|node| reader.boolean(node, "`privileged`")),
        user: fields.get("user").and_then(|node| reader.parsed(node, "`user`", "E010", user)),
        device: fields.get("device").map(|node| devices(node, reader)).unwrap_or_default(),
        scaling: fields.get("scaling").and_then(|node| decode_scaling::scaling(node, For::Docker, wide, reader)),
    };
    fields.finish(reader);
    Some(docker)
}

/// A reference of the distribution specification, as far as its characters go.
fn image(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-._/:@".contains(c);
    match (1..=500).contains(&text.len()) && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(good) {
        true => Ok(text.to_string()),
        false => Err("write an image as `docker pull` takes it, such as `nginx:stable`".to_string()),
    }
}

fn user(text: &str) -> Result<String, String> {
    let part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    match text.len() <= 100 && text.splitn(2, ':').all(part) {
        true => Ok(text.to_string()),
        false => Err("write a user, or user and group: `name`, `1000` or `1000:1000`".to_string()),
    }
}

/// A command line: split as a shell splits words, or word by word.
fn words(node: &Node, what: &str, reader: &mut Reader) -> Option<Spanned<Vec<String>>> {
    let words = match &node.value {
        Value::List(items) => items.iter().map(|item| reader.text(item, &format!("a word of {what}")).map(|text| text.value)).collect(),
        _ => {
            let line = reader.text(node, what)?;
            let split = shlex::split(&line.value);
            if split.is_none() {
                let hint = Some("close the quote, or write the words as a list: `[sh, -c, \"…\"]`".to_string());
                reader.error(node.at, "E028", format!("a quote in {what} is never closed"), hint);
            }
            split
        }
    };
    let words: Vec<String> = words?;
    if words.is_empty() {
        let hint = Some("remove it to have what the image says".to_string());
        reader.error(node.at, "E006", format!("{what} has no words"), hint);
        return None;
    }
    Some(Spanned { value: words, at: node.at })
}

fn volumes(node: &Node, reader: &mut Reader) -> Vec<DockerVolume> {
    let items = reader.list(node, "`volumes`").unwrap_or_default();
    let mut targets = BTreeSet::new();
    let mut volumes = Vec::new();
    for item in items {
        if item.text().is_some() && !item.is_null() {
            let text = reader.shown(item);
            let mut parts = text.splitn(3, ':');
            let (source, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or("/path/in/the/container"));
            let read_only =
                if parts.next().is_some_and(|mode| mode.split(',').any(|word| word == "ro")) { ", read_only: true" } else { "" };
            let hint = Some(format!("write `{{source: {}, target: {}{read_only}}}`", printable(source), printable(target)));
            reader.error(item.at, "E005", format!("a volume must be a map of keys and values, but here is `{text}`"), hint);
            continue;
        }
        let Some(volume) = volume(item, reader) else { continue };
        if let Some(target) = &volume.target
            && !targets.insert(target.value.clone())
        {
            let hint = Some("give one of them another target".to_string());
            reader.error(target.at, "E011", format!("two volumes have the target `{}`", printable(&target.value)), hint);
        }
        volumes.push(volume);
    }
    volumes
}

fn volume(node: &Node, reader: &mut Reader) -> Option<DockerVolume> {
    let mut fields = reader.fields(node, "a volume")?;
    let volume = DockerVolume {
        source: fields.require(reader, "source").and_then(|node| path(node, "`source`", reader)),
        target: fields.require(reader, "target").and_then(|node| reader.parsed(node, "`target`", "E006", target)),
        read_only: fields.get("read_only").and_then(|node| reader.boolean(node, "`read_only`")),
    };
    fields.finish(reader);
    Some(volume)
}

/// A path in a container: absolute, and not the root itself.
fn target(text: &str) -> Result<String, String> {
    let plain =
        text.starts_with('/') && text.len() <= 4096 && !text.chars().any(char::is_control) && !text.split('/').any(|part| part == "..");
    match plain && !text.trim_matches('/').is_empty() {
        true => Ok(text.to_string()),
        false => Err("write an absolute path in the container, such as /srv".to_string()),
    }
}

fn devices(node: &Node, reader: &mut Reader) -> Vec<DockerDevice> {
    reader.list(node, "`device`").unwrap_or_default().iter().filter_map(|item| device(item, reader)).collect()
}

fn device(node: &Node, reader: &mut Reader) -> Option<DockerDevice> {
    let (source, target, permissions) = match &node.value {
        Value::Map(_) => {
            let mut fields = reader.fields(node, "a device")?;
            let source = fields.require(reader, "source").and_then(|node| reader.text(node, "`source`"));
            let target = fields.get("target").and_then(|node| reader.parsed(node, "`target`", "E006", target)).map(|target| target.value);
            let permissions = fields.get("permissions").and_then(|node| reader.text(node, "`permissions`")).map(|text| text.value);
            fields.finish(reader);
            (source?, target, permissions)
        }
        _ => {
            let text = reader.text(node, "a device")?;
            let mut parts = text.value.split(':').map(String::from);
            let source = parts.next().unwrap_or_default();
            let (target, permissions) = match (parts.next(), parts.next()) {
                (Some(mode), None) if !mode.starts_with('/') => (None, Some(mode)),
                other => other,
            };
            (Spanned { value: source, at: text.at }, target, permissions)
        }
    };
    let permissions = permissions.unwrap_or_else(|| "rwm".to_string());
    let target = target.unwrap_or_else(|| source.value.clone());
    let is_device = |path: &str| path.starts_with("/dev/") && self::target(path).is_ok();
    let known = !permissions.is_empty() && permissions.len() <= 3 && permissions.chars().all(|c| "rwm".contains(c));
    if !is_device(&source.value) || self::target(&target).is_err() || !known {
        let hint = Some("write `/dev/NAME`, `/dev/NAME:/dev/OTHER` or `/dev/NAME:/dev/OTHER:rwm`".to_string());
        let shown = if node.text().is_some() { reader.shown(node) } else { printable(&source.value) };
        reader.error(source.at, "E006", format!("a device cannot be `{shown}`"), hint);
        return None;
    }
    Some(DockerDevice { source, target, permissions })
}

/// Decodes `android`.
pub fn android(node: &Node, reader: &mut Reader) -> Option<Android> {
    let mut fields = reader.fields(node, "`android`")?;
    for key in ["android_api_version", "playstore_enabled", "setup_script", "run_script"] {
        fields.misplaced(reader, key, "move it below `avd:`");
    }
    only(&fields, "`android`", &["avd", "existing_avd"], "add `avd: {android_api_version: 28}`", reader);
    let android = Android {
        avd: fields.require_if(reader, "avd").and_then(|node| avd(node, reader)),
        existing_avd: fields.require_if(reader, "existing_avd").and_then(|node| existing_avd(node, reader)),
    };
    fields.misplaced(reader, "scaling", "only `libvirt` and `docker` machines are scaled");
    fields.finish(reader);
    Some(android)
}

fn avd(node: &Node, reader: &mut Reader) -> Option<Avd> {
    let mut fields = reader.fields(node, "`avd`")?;
    let avd = Avd {
        android_api_version: fields.require(reader, "android_api_version").and_then(|node| {
            // Written with quotes in many files; it is a number all the same.
            reader.parsed(node, "`android_api_version`", "E006", |text| match text.parse::<u64>() {
                Ok(version) if (1..=1000).contains(&version) => Ok(version),
                _ => Err("write the version of Android's programming interface, a number such as 28".to_string()),
            })
        }),
        playstore_enabled: fields.get("playstore_enabled").and_then(|node| reader.boolean(node, "`playstore_enabled`")),
        setup_script: path_of(&mut fields, "setup_script", reader),
        run_script: path_of(&mut fields, "run_script", reader),
    };
    fields.finish(reader);
    Some(avd)
}

fn existing_avd(node: &Node, reader: &mut Reader) -> Option<ExistingAvd> {
    let mut fields = reader.fields(node, "`existing_avd`")?;
    let file = fields.require(reader, "path").and_then(|node| path(node, "`path`", reader));
    fields.finish(reader);
    Some(ExistingAvd { path: file? })
}
