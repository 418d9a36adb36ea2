//! What is asked of a relay and what it answers: one JSON document a line, over its Unix socket.
//!
//! Pure data. All amounts are whole numbers, so that two conditions can be compared exactly.

use serde::{Deserialize, Serialize};

/// What one direction of a link does to frames. All zero is a link that does nothing to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Condition {
    /// How much later a frame leaves, in microseconds.
    pub delay_us: u64,
    /// By how much the delay varies, up and down, in microseconds.
    pub jitter_us: u64,
    /// Frames of a million that are lost.
    pub loss_ppm: u32,
    /// Frames of a million that arrive twice.
    pub duplicate_ppm: u32,
    /// Frames of a million that overtake the others.
    pub reorder_ppm: u32,
    /// Kilobits of frames per second; 0 is no limit.
    pub rate_kbit: u64,
}

impl Condition {
    /// True when frames pass as they are.
    pub fn is_clear(&self) -> bool {
        *self == Condition::default()
    }
}

/// Both directions of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    /// From the network to the guest.
    pub to_guest: Condition,
    /// From the guest to the network.
    pub from_guest: Condition,
}

impl Shape {
    /// True when frames pass as they are, both ways.
    pub fn is_clear(&self) -> bool {
        self.to_guest.is_clear() && self.from_guest.is_clear()
    }
}

/// A link: what it stands between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The TAP device that is plugged into the bridge; also the link's name.
    pub device: String,
    /// The guest's TAP device, which QEMU holds.
    pub tap: String,
    /// The index of `tap`, which no other device ever gets.
    pub tap_index: u32,
    /// What people call it: `web:eth0`.
    pub label: String,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// Who are you? Answered with [`Reply::Hello`].
    Hello,
    /// Serve this link with this shape. A link of this name between the same devices only gets the shape; one between
    /// others gives way.
    Add {
        /// The link.
        link: Link,
        /// Its shape.
        shape: Shape,
    },
    /// Serve it no more; absent already is success. The relay ends with its last link.
    Remove {
        /// The link's name.
        device: String,
    },
    /// All links, with what was measured on passing frames. Answered with [`Reply::Links`].
    Links,
    /// Send frames of your own through both directions of a link and say what became of them. Answered with
    /// [`Reply::Probed`] a second or two later.
    Probe {
        /// The link's name.
        device: String,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Hello`].
    Hello(Hello),
    /// It is done.
    Done,
    /// To [`Request::Links`].
    Links {
        /// Each link.
        links: Vec<LinkState>,
    },
    /// To [`Request::Probe`].
    Probed(Probed),
    /// It cannot be done.
    Refused {
        /// Why.
        why: String,
        /// The relay ends; a new one will do it.
        ending: bool,
    },
}

/// Whose relay it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The installation that started it.
    pub installation: String,
    /// The deployment it serves.
    pub deployment: String,
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

/// A link as it is served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkState {
    /// The link.
    pub link: Link,
    /// Its shape.
    pub shape: Shape,
    /// Why frames do not pass, if they do not.
    pub fault: Option<String>,
    /// Frames to the guest.
    pub to_guest: Traffic,
    /// Frames from the guest.
    pub from_guest: Traffic,
}

/// Passing frames of one direction, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Since the link is served.
    pub total: Counts,
    /// In the last seconds.
    pub lately: Lately,
}

/// Counts of frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Frames that came in.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that left, second copies included.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames lost by chance.
    pub lost: u64,
    /// Frames dropped because the queue of a slow link was full.
    pub dropped: u64,
    /// Frames that the device did not take.
    pub refused: u64,
    /// Frames that were held.
    pub delayed: u64,
    /// Second copies.
    pub duplicated: u64,
    /// Frames that overtook others.
    pub reordered: u64,
}

/// What passing frames show of a link, over the last seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Lately {
    /// How many seconds.
    pub seconds: u32,
    /// Frames that came in.
    pub frames: u64,
    /// Frames of a hundred that were lost or dropped.
    pub loss_percent: f64,
    /// How long frames were held on average, in milliseconds.
    pub delay_ms: f64,
    /// The longest, in milliseconds.
    pub longest_delay_ms: f64,
    /// Megabits that left in the busiest second.
    pub peak_mbit: f64,
}

/// What became of a probe's frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    /// To the guest.
    pub to_guest: Measured,
    /// From the guest.
    pub from_guest: Measured,
}

/// One direction, measured by the relay's own frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// How many frames it was.
    pub frames: u32,
    /// The average delay in milliseconds.
    pub delay_ms: f64,
    /// How far delays lay from it: half of what lies between the shortest and the longest delay, in milliseconds.
    pub jitter_ms: f64,
    /// Lost frames of a hundred.
    pub loss_percent: f64,
    /// Doubled frames of a hundred.
    pub duplicate_percent: f64,
    /// Frames of a hundred that overtook one that came before them.
    pub reorder_percent: f64,
    /// What a burst of frames left with, in megabits per second; absent where nothing slowed it down.
    pub rate_mbit: Option<f64>,
}
