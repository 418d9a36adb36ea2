//! What passing frames show of a line: totals, and the last seconds.
//!
//! Pure: time comes in.

use crate::{
    line::Nanos,
    wire::{Counts, Lately, Traffic},
};

/// How many seconds "lately" is.
const SECONDS: usize = 10;
const SECOND: Nanos = 1_000_000_000;

/// Counts the frames of one direction.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    total: Counts,
    seconds: [Second; SECONDS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    number: u64,
    came: u64,
    missing: u64,
    sent: u64,
    sent_bytes: u64,
    held: Nanos,
    longest: Nanos,
}

impl Meter {
    fn now(&mut self, now: Nanos) -> &mut Second {
        let number = now / SECOND;
        let second = &mut self.seconds[(number % SECONDS as u64) as usize];
        if second.number != number {
            *second = Second { number, ..Second::default() };
        }
        second
    }

    /// A frame came in.
    pub fn came(&mut self, now: Nanos, bytes: u64) {
        self.total.frames += 1;
        self.total.bytes += bytes;
        self.now(now).came += 1;
    }

    /// It is lost by chance.
    pub fn lost(&mut self, now: Nanos) {
        self.total.lost += 1;
        self.now(now).missing += 1;
    }

    /// There was no room for it.
    pub fn dropped(&mut self, now: Nanos) {
        self.total.dropped += 1;
        self.now(now).missing += 1;
    }

    /// It will arrive twice.
    pub fn duplicated(&mut self) {
        self.total.duplicated += 1;
    }

    /// It overtakes others.
    pub fn reordered(&mut self) {
        self.total.reordered += 1;
    }

    /// A frame left after it was held so long.
    pub fn sent(&mut self, now: Nanos, bytes: u64, held: Nanos) {
        self.total.sent += 1;
        self.total.sent_bytes += bytes;
        // Less is the loop's own time, not the line's.
        self.total.delayed += u64::from(held >= 500_000);
        let second = self.now(now);
        second.sent += 1;
        second.sent_bytes += bytes;
        second.held += held;
        second.longest = second.longest.max(held);
    }

    /// The device did not take a frame.
    pub fn refused(&mut self, now: Nanos) {
        self.total.refused += 1;
        self.now(now).missing += 1;
    }

    /// Everything counted.
    pub fn traffic(&self, now: Nanos) -> Traffic {
        let number = now / SECOND;
        // The running second is not whole, and would lower its peak.
        let recent: Vec<&Second> =
            self.seconds.iter().filter(|second| second.sent + second.came > 0 && second.number + SECONDS as u64 > number).collect();
        let sum = |of: fn(&Second) -> u64| recent.iter().map(|second| of(second)).sum::<u64>();
        let (came, missing, sent, held) = (sum(|s| s.came), sum(|s| s.missing), sum(|s| s.sent), sum(|s| s.held));
        let peak = recent.iter().map(|second| second.sent_bytes).max().unwrap_or(0);
        let longest = recent.iter().map(|second| second.longest).max().unwrap_or(0);
        let ratio = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let lately = Lately {
            seconds: SECONDS as u32,
            frames: came,
            loss_percent: rounded(100.0 * ratio(missing, came)),
            delay_ms: rounded(ratio(held, sent) / 1e6),
            longest_delay_ms: rounded(longest as f64 / 1e6),
            peak_mbit: rounded(peak as f64 * 8.0 / 1e6),
        };
        Traffic { total: self.total, lately }
    }
}

/// Three digits behind the point: more would be noise.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lately_is_the_last_ten_seconds() {
        let mut meter = Meter::default();
        for n in 0..100 {
            meter.came(n * SECOND / 10, 1000);
            if n % 20 == 0 { meter.lost(n * SECOND / 10) } else { meter.sent(n * SECOND / 10, 1000, 25_000_000) }
        }
        let traffic = meter.traffic(10 * SECOND - 1);
        assert_eq!((traffic.total.frames, traffic.total.lost, traffic.total.delayed), (100, 5, 95));
        assert_eq!((traffic.lately.frames, traffic.lately.loss_percent, traffic.lately.delay_ms), (100, 5.0, 25.0));
        assert_eq!(traffic.lately.peak_mbit, 0.08);
        let later = meter.traffic(14 * SECOND);
        assert_eq!((later.total.frames, later.lately.frames), (100, 50));
        assert_eq!(meter.traffic(60 * SECOND).lately.frames, 0);
    }
}
