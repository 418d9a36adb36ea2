//! What the user wrote about links: wires between guests, and conditions of links. The JSON Schema is generated from these
//! types.
//!
//! Pure data. Names are checked, references are not: that is the topology's work.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Serialize;

use super::{model_network::Labels, node::Mark, reader::Spanned};
use crate::names::GuestName;

/// Conditions of a link. Keys beside `to_guest` and `from_guest` hold for each direction that names none of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Impairment {
    /// For each direction.
    #[serde(flatten)]
    pub both: Conditions,
    /// Towards the guest; of a wire: `backward`, towards its first end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_guest: Option<Conditions>,
    /// From the guest; of a wire: `forward`, towards its second end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_guest: Option<Conditions>,
}

/// Conditions of a link of its own: as of an interface, but the directions are `forward` (to the second end) and `backward`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LinkImpairment {
    /// For each direction.
    #[serde(flatten)]
    pub both: Conditions,
    /// From the first end to the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward: Option<Conditions>,
    /// From the second end to the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backward: Option<Conditions>,
}

/// Conditions of one direction of a link (as of tc-netem(8)).
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Conditions {
    /// How long each packet is held, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 60000))]
    pub delay_ms: Option<Spanned<f64>>,
    /// By how much the delay varies, to either side, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 60000))]
    pub jitter_ms: Option<Spanned<f64>>,
    /// How many packets are lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub loss_percent: Option<Spanned<f64>>,
    /// How many packets come twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub duplicate_percent: Option<Spanned<f64>>,
    /// How many packets overtake those that are held.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub reorder_percent: Option<Spanned<f64>>,
    /// The most that passes, in megabits (10⁶ bits) per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.008, max = 100000))]
    pub rate_mbit: Option<Spanned<f64>>,
}

/// A wire between two guests. A list alone is its ends.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Link {
    /// Its two ends, as `guest:eth1`.
    #[schemars(with = "Vec<String>", length(equal = 2))]
    pub ends: Vec<Spanned<LinkEnd>>,
    /// A subnet, whose first two addresses the ends get; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub subnet: Option<Spanned<IpNet>>,
    /// Its conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impairment: Option<LinkImpairment>,
    /// Free words about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: Labels,
    /// Where it stands in the file.
    #[serde(skip)]
    #[schemars(skip)]
    pub at: Mark,
}

/// The forms of a wire, for the schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum LinkForm {
    /// Its two ends alone.
    Ends(#[schemars(length(equal = 2))] Vec<String>),
    /// A map.
    Whole(Box<Link>),
}

/// An end of a wire: an interface of a guest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkEnd {
    /// The guest.
    pub guest: GuestName,
    /// The interface's index: 1 is `eth1`.
    pub nic: usize,
}

impl std::fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:eth{}", self.guest, self.nic)
    }
}

impl Serialize for LinkEnd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::str::FromStr for LinkEnd {
    type Err = String;

    /// `guest:eth<n>`; the error is a hint.
    fn from_str(text: &str) -> Result<Self, String> {
        let hint = || "write `machine:ethN`, such as `web:eth1`".to_string();
        let (guest, nic) = text.split_once(':').ok_or_else(hint)?;
        let digits = nic.strip_prefix("eth").ok_or_else(hint)?;
        let plain = !digits.is_empty() && digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let nic = digits.parse().ok().filter(|_| plain).ok_or_else(hint)?;
        let guest = GuestName::new(guest).map_err(|problem| problem.hint.unwrap_or(problem.message))?;
        Ok(LinkEnd { guest, nic })
    }
}
