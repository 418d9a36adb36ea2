//! What the user wrote, key by key: clones of a machine.
//!
//! Pure data. Clones are told apart by their id, which counts from 0.

use std::{collections::BTreeMap, net::IpAddr};

use schemars::JsonSchema;
use serde::Serialize;

use super::{node::Mark, reader::Spanned};
use crate::{addr::Mac, names::NetworkName};

/// Clones of a machine, called `<machine>-<id>`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Scaling {
    /// How many.
    #[schemars(required, range(min = 1, max = 10000))]
    pub count: Option<Spanned<u64>>,
    /// Which clone stands on which switch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "InterfacesForm")]
    pub interfaces: Vec<ScaledInterface>,
    /// A script that runs once in the image that the clones are made from; not for `docker`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_setup: Option<Spanned<String>>,
    /// Scripts that run once in clones; not for `docker`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clone_setup: Vec<CloneScript>,
    /// Scripts that run in clones at the end of every `up`; not for `docker`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clone_run: Vec<CloneScript>,
    /// Where it stands in the file.
    #[serde(skip)]
    #[schemars(skip)]
    pub at: Mark,
}

/// By switch, or as a list.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum InterfacesForm {
    /// Switch → clones on it.
    BySwitch(BTreeMap<String, ScaledInterface>),
    /// As in the older form, where each names its `bridge` or `switch`.
    List(Vec<ListedInterface>),
}

/// Clones on a switch or bridge that is named beside them.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes a shape to the JSON Schema alone")]
pub struct ListedInterface {
    /// The switch.
    switch: Option<String>,
    /// The bridge, in the older form.
    bridge: Option<String>,
    /// Ids of clones.
    clones: Option<Vec<u32>>,
    /// The default gateway.
    gateway: Option<String>,
    /// Where the addresses come from.
    ip_type: Option<IpTypeForm>,
    /// As below `ip_type`.
    ip_range: Option<RangeForm>,
    /// MAC addresses.
    mac_range: Option<RangeForm>,
}

/// Clones on a switch.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ScaledInterface {
    /// The switch, the key in the file.
    #[serde(skip)]
    #[schemars(skip)]
    pub switch: Spanned<NetworkName>,
    /// It was called a bridge.
    #[serde(skip)]
    #[schemars(skip)]
    pub bridge: bool,
    /// Ids of clones; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<u32>>")]
    pub clones: Option<Vec<Spanned<u64>>>,
    /// The default gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub gateway: Option<Spanned<IpAddr>>,
    /// `dynamic` (when absent), or `ip_range: {from, to}`: one address for each clone of `clones`, in that order.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<IpTypeForm>")]
    pub ip_type: (),
    /// As below `ip_type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<RangeForm>")]
    pub ip_range: Option<Range<IpAddr>>,
    /// MAC addresses: one for each clone of `clones`, in that order; generated when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<RangeForm>")]
    pub mac_range: Option<Range<Mac>>,
    /// Where it stands in the file.
    #[serde(skip)]
    #[schemars(skip)]
    pub at: Mark,
}

/// `dynamic`, or a range.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum IpTypeForm {
    /// `dynamic`.
    Word(Dynamic),
    /// A range.
    Range(IpRangeForm),
}

/// A range below its key.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes a shape to the JSON Schema alone")]
pub struct IpRangeForm {
    /// The range.
    ip_range: RangeForm,
}

/// The one word.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Dynamic {
    /// From the switch's DHCP rule, or else chosen by the testbed.
    Dynamic,
}

/// From one to another, both included.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes a shape to the JSON Schema alone")]
pub struct RangeForm {
    /// The first.
    from: String,
    /// The last.
    to: String,
}

/// From one to another, both included.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Range<T> {
    /// The first.
    pub from: Spanned<T>,
    /// The last.
    pub to: Spanned<T>,
    /// Where the key stands.
    #[serde(skip)]
    pub at: Mark,
}

/// A script, and the clones it runs in.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CloneScript {
    /// The script.
    #[schemars(required)]
    pub script: Option<Spanned<String>>,
    /// Ids of clones; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<u32>>")]
    pub clones: Option<Vec<Spanned<u64>>>,
}
