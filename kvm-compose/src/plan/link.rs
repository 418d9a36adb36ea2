//! A guest's link: what is wanted of it, what is there, and both in words.
//!
//! Pure data.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::topology::{Conditions, Shape};

/// The link of a guest's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The interface's name in the guest.
    pub interface: String,
    /// The OVN port of the interface.
    pub port: Uuid,
    /// What it does to frames; a plain one does nothing.
    pub shape: Shape,
}

/// A link with our mark: one that was shaped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedLink {
    /// The OVN port of the interface.
    pub port: Uuid,
    /// The device that stands in the bridge in the guest's place.
    pub device: String,
    /// What it does to frames now.
    pub shape: Shape,
    /// Why it does not, if it does not.
    pub fault: Option<String>,
}

/// What a link does to frames, in words: `delay 25 ms, loss 5 % each way`.
pub fn words(shape: &Shape) -> String {
    match (shape.to_guest == shape.from_guest, conditions(&shape.to_guest), conditions(&shape.from_guest)) {
        (_, None, None) => "plain".to_string(),
        (true, Some(both), _) => format!("{both} each way"),
        (false, Some(to), None) => format!("{to} to the guest"),
        (false, None, Some(from)) => format!("{from} from the guest"),
        (false, Some(to), Some(from)) => format!("{to} to the guest; {from} from it"),
        (true, None, Some(_)) => "plain".to_string(),
    }
}

/// One direction in words; nothing when it does nothing.
pub fn conditions(of: &Conditions) -> Option<String> {
    let millis = |micros: u64| micros as f64 / 1000.0;
    let percent = |ppm: u32| f64::from(ppm) / 10_000.0;
    let mut parts = Vec::new();
    match (of.delay_us, of.jitter_us) {
        (0, 0) => {}
        (delay, 0) => parts.push(format!("delay {} ms", millis(delay))),
        (delay, jitter) => parts.push(format!("delay {} ± {} ms", millis(delay), millis(jitter))),
    }
    for (word, ppm) in [("loss", of.loss_ppm), ("duplicate", of.duplicate_ppm), ("reorder", of.reorder_ppm)] {
        if ppm > 0 {
            parts.push(format!("{word} {} %", percent(ppm)));
        }
    }
    parts.extend(of.rate_kbit.map(|kbit| format!("rate {} Mbit/s", kbit as f64 / 1000.0)));
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_in_words() {
        let slow = Conditions { delay_us: 25_000, loss_ppm: 55_000, ..Conditions::default() };
        let narrow = Conditions { rate_kbit: Some(1500), delay_us: 1000, jitter_us: 500, ..Conditions::default() };
        let plain = Conditions::default();
        for (to_guest, from_guest, expected) in [
            (plain, plain, "plain"),
            (slow, slow, "delay 25 ms, loss 5.5 % each way"),
            (narrow, plain, "delay 1 ± 0.5 ms, rate 1.5 Mbit/s to the guest"),
            (plain, slow, "delay 25 ms, loss 5.5 % from the guest"),
            (slow, narrow, "delay 25 ms, loss 5.5 % to the guest; delay 1 ± 0.5 ms, rate 1.5 Mbit/s from it"),
        ] {
            assert_eq!(words(&Shape { to_guest, from_guest }), expected);
        }
    }
}
