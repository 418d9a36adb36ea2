//! Frames of the relay's own, sent through a line like any other and counted where they would leave it.
//!
//! First a thin stream, one small frame every other millisecond, which shows delay, jitter, loss, copies and order; then a
//! burst of large ones, which shows the rate: they leave one behind the other, as fast as the line lets them. The burst
//! fills a slow link for 40 ms, so a probe is all but unseen by those who use it. Pure.

use crate::{
    count::rounded,
    line::{Fate, Nanos},
    wire::{Condition, Measured},
};

/// Frames of the stream.
pub const STREAM: u32 = 600;
/// The time between two of them.
pub const GAP: Nanos = 2_000_000;
/// The length of a frame of the stream.
const SMALL: usize = 64;
/// The length of a frame of the burst.
const LARGE: usize = 1250;
/// How long a burst lasts on the link it measures.
const BURST: Nanos = 40_000_000;
/// A burst of more frames says no more.
const MOST_BURST: u64 = 800;

/// A frame of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Its number in the stream; none in the burst.
    pub number: Option<u32>,
    /// Its place in the burst.
    pub place: u32,
    /// Its length.
    pub bytes: usize,
}

/// One direction being measured.
#[derive(Debug, Default)]
pub struct Probe {
    begun: Nanos,
    burst: u64,
    asked: u32,
    lost: u32,
    dropped: u32,
    copies: u32,
    /// The stream's numbers in the order in which they arrived.
    arrived: Vec<u32>,
    delay: Nanos,
    shortest: Nanos,
    longest: Nanos,
    /// The turn on the line of each frame of the burst: a lost one takes none, a doubled one takes two.
    turns: Vec<u32>,
    /// The next turn.
    turn: u32,
    /// Turns of the burst, and when what had them arrived.
    large: Vec<(u32, Nanos)>,
    /// Copies that are on their way.
    pending: u32,
    burst_sent: bool,
}

impl Probe {
    /// A probe that begins now on a line under this condition.
    pub fn new(now: Nanos, condition: &Condition) -> Self {
        let fill = condition.rate_kbit * (BURST / 1_000_000) / 8 / LARGE as u64;
        // Without a rate there is nothing to measure, and jitter would look like one.
        let burst = if condition.rate_kbit == 0 { 0 } else { fill.clamp(3, MOST_BURST) };
        Probe { begun: now, burst, shortest: Nanos::MAX, ..Probe::default() }
    }

    /// Frames to be sent by now.
    pub fn wanted(&mut self, now: Nanos) -> Vec<Frame> {
        let mut frames = Vec::new();
        // A loop that was late makes up for it one frame at a time, so that frames never bunch.
        if self.asked < STREAM && self.begun + u64::from(self.asked) * GAP <= now {
            frames.push(Frame { number: Some(self.asked), place: 0, bytes: SMALL });
            self.asked += 1;
        }
        // The burst comes once the stream has left, so that it holds none of it up.
        if self.asked == STREAM && self.pending == 0 && frames.is_empty() && !self.burst_sent {
            self.burst_sent = true;
            frames.extend((0..self.burst).map(|place| Frame { number: None, place: place as u32, bytes: LARGE }));
        }
        frames
    }

    /// When the next frame is to be sent, if one is.
    pub fn next(&self) -> Option<Nanos> {
        match self.asked {
            STREAM if self.burst_sent || self.pending > 0 => None,
            asked => Some(self.begun + u64::from(asked) * GAP),
        }
    }

    /// What the line did with a frame.
    pub fn offered(&mut self, frame: Frame, fate: Fate) {
        if frame.number.is_none() {
            self.turns.push(self.turn);
            self.turn += if let Fate::Taken(copies) = fate { copies } else { 0 };
        }
        match fate {
            Fate::Taken(copies) => {
                self.pending += copies;
                self.copies += if frame.number.is_some() { copies - 1 } else { 0 };
            }
            Fate::Lost if frame.number.is_some() => self.lost += 1,
            Fate::Dropped if frame.number.is_some() => self.dropped += 1,
            Fate::Lost | Fate::Dropped => {}
        }
    }

    /// A frame has come through, after it was held so long.
    pub fn arrived(&mut self, now: Nanos, frame: Frame, held: Nanos) {
        self.pending -= 1;
        let Some(number) = frame.number else {
            if let Some(turn) = self.turns.get_mut(frame.place as usize) {
                self.large.push((*turn, now));
                // Its copy had the turn after.
                *turn += 1;
            }
            return;
        };
        self.arrived.push(number);
        self.delay += held;
        self.shortest = self.shortest.min(held);
        self.longest = self.longest.max(held);
    }

    /// True when every frame was sent and none is on its way.
    pub fn is_over(&self) -> bool {
        self.burst_sent && self.pending == 0
    }

    /// How many left their place: those that came before a lower number, or those that came after a higher one, whichever
    /// are fewer (one that jumps ahead overtakes many; one that is held back is overtaken by many).
    fn reordered(&self) -> u32 {
        let (mut highest, mut behind) = (0, 0);
        for &number in &self.arrived {
            behind += u32::from(number < highest);
            highest = highest.max(number);
        }
        let (mut lowest, mut ahead) = (u32::MAX, 0);
        for &number in self.arrived.iter().rev() {
            ahead += u32::from(number > lowest);
            lowest = lowest.min(number);
        }
        ahead.min(behind)
    }

    /// Megabits per second of the burst: the median of the slopes between any two of its arrivals (Theil and Sen), since
    /// jitter moves each of them and those that overtook others came far too early.
    fn rate(&self) -> Option<f64> {
        let mut slopes: Vec<f64> = Vec::new();
        for (n, &(turn, at)) in self.large.iter().enumerate() {
            let later = self.large[n + 1..].iter().filter(|(other, _)| *other != turn);
            slopes.extend(later.map(|&(other, then)| (then as f64 - at as f64) / (f64::from(other) - f64::from(turn))));
        }
        slopes.sort_by(f64::total_cmp);
        let median = slopes.get(slopes.len() / 2).copied().filter(|slope| self.large.len() > 2 && *slope > 0.0)?;
        Some(rounded(LARGE as f64 * 8.0 * 1000.0 / median))
    }

    /// What was found.
    pub fn measured(&self) -> Measured {
        let share = |count: u32| rounded(100.0 * f64::from(count) / f64::from(self.asked.max(1)));
        let millis = |nanos: f64| rounded(nanos / 1e6);
        Measured {
            frames: self.asked,
            delay_ms: if self.arrived.is_empty() { 0.0 } else { millis(self.delay as f64 / self.arrived.len() as f64) },
            jitter_ms: if self.arrived.is_empty() { 0.0 } else { millis((self.longest - self.shortest) as f64 / 2.0) },
            loss_percent: share(self.lost + self.dropped),
            duplicate_percent: share(self.copies),
            reorder_percent: share(self.reordered()),
            rate_mbit: self.rate(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{Line, Parcel};

    #[derive(Clone)]
    struct Own(Frame);

    impl Parcel for Own {
        fn bytes(&self) -> usize {
            self.0.bytes
        }
        fn is_probe(&self) -> bool {
            true
        }
    }

    /// Runs a probe over a line on a clock that knows no delay of its own.
    fn measure(condition: Condition) -> Measured {
        let mut line = Line::new(condition, 3);
        let mut probe = Probe::new(0, &condition);
        let mut now = 0;
        while !probe.is_over() {
            for frame in probe.wanted(now) {
                let fate = line.offer(now, Own(frame));
                probe.offered(frame, fate);
            }
            while let Some((Own(frame), held)) = line.due(now) {
                probe.arrived(now, frame, held);
            }
            now = probe.next().into_iter().chain(line.next()).min().unwrap_or(now).max(now);
            assert!(now < 10_000_000_000, "it ends");
        }
        assert_eq!(line.meter.traffic(now).total.frames, 0, "nobody's traffic");
        probe.measured()
    }

    #[test]
    fn a_clear_line_measures_as_nothing() {
        let clear = measure(Condition::default());
        assert_eq!(clear, Measured { frames: STREAM, ..Measured::default() });
    }

    #[test]
    fn what_is_asked_is_measured() {
        let found = measure(Condition { delay_us: 25_000, jitter_us: 3_000, loss_ppm: 50_000, ..Default::default() });
        assert!((24.0..=27.0).contains(&found.delay_ms) && (2.0..=3.0).contains(&found.jitter_ms), "{found:?}");
        assert!((3.0..=7.0).contains(&found.loss_percent) && found.rate_mbit.is_none(), "{found:?}");
        let found = measure(Condition { delay_us: 10_000, duplicate_ppm: 100_000, reorder_ppm: 100_000, ..Default::default() });
        assert!((7.0..=13.0).contains(&found.duplicate_percent) && (7.0..=13.0).contains(&found.reorder_percent), "{found:?}");
    }

    #[test]
    fn rates_from_slow_to_fast_are_measured() {
        for mbit in [0.256, 1.0, 10.0, 100.0, 1000.0] {
            let found = measure(Condition { rate_kbit: (mbit * 1000.0) as u64, ..Default::default() });
            let rate = found.rate_mbit.expect("a rate");
            assert!((rate / mbit - 1.0).abs() < 0.05, "{mbit}: {found:?}");
        }
        let all = Condition { delay_us: 20_000, jitter_us: 3_000, loss_ppm: 20_000, rate_kbit: 10_000, ..Default::default() };
        let rate = measure(all).rate_mbit.expect("a rate");
        assert!((rate / 10.0 - 1.0).abs() < 0.1, "{rate}");
        let worst =
            Condition { loss_ppm: 100_000, duplicate_ppm: 100_000, reorder_ppm: 100_000, jitter_us: 4_000, rate_kbit: 4_000, ..all };
        let rate = measure(worst).rate_mbit.expect("a rate");
        assert!((rate / 4.0 - 1.0).abs() < 0.15, "{rate}");
    }

    #[test]
    fn a_line_that_loses_everything_ends_too() {
        let found = measure(Condition { loss_ppm: 1_000_000, ..Default::default() });
        assert_eq!((found.loss_percent, found.rate_mbit), (100.0, None));
    }
}
