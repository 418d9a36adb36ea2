//! What the user wrote, key by key: containers and Android emulators.
//!
//! Pure data.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{model_scaling::Scaling, reader::Spanned};

/// A value that is taken as text, however it is written: `80`, `true` and `"80"` alike.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Text {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// A boolean.
    Flag(bool),
    /// Nothing: the empty text.
    Nothing(()),
}

/// Words of a command line: a text that is split as a shell splits words, or a list.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Words {
    /// Split as a shell splits words.
    Line(String),
    /// Each is a word.
    List(Vec<Text>),
}

/// A container.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Docker {
    /// The image, as `docker pull` names it.
    #[schemars(required)]
    pub image: Option<Spanned<String>>,
    /// Takes the place of the image's command.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Words>")]
    pub command: Option<Spanned<Vec<String>>>,
    /// Takes the place of the image's entry point.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Words>")]
    pub entrypoint: Option<Spanned<Vec<String>>>,
    /// Variables; they go before those of `env_file`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    #[schemars(with = "BTreeMap<String, Text>")]
    pub environment: BTreeMap<String, Spanned<String>>,
    /// A file of `KEY=value` lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_file: Option<Spanned<String>>,
    /// Files and folders of the host that are in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<DockerVolume>,
    /// Give it every right on its host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<Spanned<bool>>,
    /// The user, or user and group, that it runs as: `name`, `1000` or `1000:1000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Text>")]
    pub user: Option<Spanned<String>>,
    /// Devices of the host that are in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<DeviceForm>")]
    pub device: Vec<DockerDevice>,
    /// Make several of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
}

/// A file or folder of the host that is in the container.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DockerVolume {
    /// The file or folder; `${PWD}` is the project folder, and relative ones are relative to it.
    #[schemars(required)]
    pub source: Option<Spanned<String>>,
    /// Where it is in the container, absolute.
    #[schemars(required)]
    pub target: Option<Spanned<String>>,
    /// The container may not write to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<Spanned<bool>>,
}

/// A device of the host that is in the container.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DockerDevice {
    /// The device on the host, below `/dev`.
    pub source: Spanned<String>,
    /// Where it is in the container.
    pub target: String,
    /// Any of `r`, `w` and `m` (mknod).
    pub permissions: String,
}

/// `/dev/source`, `/dev/source:/dev/target:rwm`, or the same in keys.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum DeviceForm {
    /// `/dev/source` or `/dev/source:/dev/target:rwm`.
    Line(String),
    /// In keys.
    Keys(DeviceKeys),
}

/// A device in keys.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes a shape to the JSON Schema alone")]
pub struct DeviceKeys {
    /// The device on the host, below `/dev`.
    source: String,
    /// Where it is in the container; as on the host when absent.
    target: Option<String>,
    /// Any of `r`, `w` and `m` (mknod); `rwm` when absent.
    permissions: Option<String>,
}

/// An Android emulator: exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Android {
    /// A device that the testbed makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avd: Option<Avd>,
    /// A device that exists already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_avd: Option<ExistingAvd>,
}

/// An Android virtual device that the testbed makes.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Avd {
    /// The version of Android's programming interface, such as 28.
    #[schemars(required, with = "super::model_docker::Text")]
    pub android_api_version: Option<Spanned<u64>>,
    /// With Google's store and services; they keep programs from the rights of root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub playstore_enabled: Option<Spanned<bool>>,
    /// A script that runs once, after the first boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_script: Option<Spanned<String>>,
    /// A script that runs at the end of every `up`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_script: Option<Spanned<String>>,
}

/// An Android virtual device that exists already.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ExistingAvd {
    /// Its folder (`….avd`).
    pub path: Spanned<String>,
}
