//! Links of guests: what the file asks for, what is in force, and what was measured.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::names::GuestName;

/// Changes the link of a guest's interface while the guest runs. What is changed lasts until the next `up`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetLink {
    /// The guest.
    pub guest: GuestName,
    /// The interface's name in it, such as `eth0`.
    pub interface: String,
    /// Plug the cable in, or pull it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Carrier>,
    /// First take away all that the link does to frames.
    #[serde(default)]
    pub clear: bool,
    /// Conditions towards the guest.
    #[serde(default)]
    pub to_guest: LinkChange,
    /// Conditions from the guest.
    #[serde(default)]
    pub from_guest: LinkChange,
}

/// Whether a cable is plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// The guest sees a carrier.
    Up,
    /// It sees none.
    Down,
}

/// New conditions of one direction; what is absent stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LinkChange {
    /// How long each packet is held, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<f64>,
    /// By how much the delay varies to either side, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<f64>,
    /// How many packets of a hundred are lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_percent: Option<f64>,
    /// How many packets of a hundred come twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_percent: Option<f64>,
    /// How many packets of a hundred overtake those that are held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reorder_percent: Option<f64>,
    /// The most that passes, in megabits per second; 0 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_mbit: Option<f64>,
}

/// Conditions of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkConditions {
    /// How long each packet is held, in milliseconds.
    pub delay_ms: f64,
    /// By how much the delay varies to either side, in milliseconds.
    pub jitter_ms: f64,
    /// How many packets of a hundred are lost.
    pub loss_percent: f64,
    /// How many packets of a hundred come twice.
    pub duplicate_percent: f64,
    /// How many packets of a hundred overtake those that are held.
    pub reorder_percent: f64,
    /// The most that passes, in megabits per second; absent is no limit.
    pub rate_mbit: Option<f64>,
}

/// GET `/api/deployments/{name}/links`: each interface of each guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkReport {
    /// The guest.
    pub guest: GuestName,
    /// The interface's name in it.
    pub interface: String,
    /// The host that the guest stands on.
    pub host: String,
    /// The OVN port.
    pub port: Uuid,
    /// Whether the guest sees a carrier; absent when the guest does not run or is unknown.
    pub carrier: Option<Carrier>,
    /// What is in force differs from what the file asks for: the next `up` takes it back.
    pub deviates: bool,
    /// Why the link does not pass frames, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Packets to the guest.
    pub to_guest: LinkDirection,
    /// Packets from the guest.
    pub from_guest: LinkDirection,
}

/// One direction of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkDirection {
    /// What the testbed file asks for.
    pub file: LinkConditions,
    /// What is asked of the link now: the file's, unless `set_link` changed it.
    pub set: LinkConditions,
    /// What frames of the relay's own met on their way, sent just now; absent for a plain link, one without a carrier, or without `?probe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probed: Option<LinkProbe>,
    /// What the guest's own packets met; absent for a plain link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<LinkTraffic>,
}

/// What was measured of a link.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LinkMeasured {
    /// Packets to the guest.
    pub to_guest: LinkMeasuredDirection,
    /// Packets from the guest.
    pub from_guest: LinkMeasuredDirection,
}

/// One direction of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LinkMeasuredDirection {
    /// What the relay's own frames met, when they were sent.
    pub probed: Option<LinkProbe>,
    /// What the guest's packets met.
    pub traffic: LinkTraffic,
}

/// What a probe met.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkProbe {
    /// How many frames it was.
    pub frames: u32,
    /// The average delay, in milliseconds.
    pub delay_ms: f64,
    /// Half of what lies between the shortest and the longest delay, in milliseconds.
    pub jitter_ms: f64,
    /// Lost frames of a hundred.
    pub loss_percent: f64,
    /// Doubled frames of a hundred.
    pub duplicate_percent: f64,
    /// Frames of a hundred that left their place.
    pub reorder_percent: f64,
    /// What a burst of frames left with, in megabits per second; absent where no rate is asked for.
    pub rate_mbit: Option<f64>,
}

/// The guest's own packets, counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkTraffic {
    /// Packets since the link is shaped.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets lost by chance.
    pub lost: u64,
    /// Packets dropped because the queue of a slow link was full.
    pub dropped: u64,
    /// How many seconds the following is about.
    pub seconds: u32,
    /// Packets of a hundred that were lost or dropped in these seconds.
    pub loss_percent: f64,
    /// How long packets were held on average, in milliseconds; absent where the kernel holds them, which does not tell.
    pub delay_ms: Option<f64>,
    /// Megabits that passed in the busiest of these seconds.
    pub peak_mbit: f64,
}
