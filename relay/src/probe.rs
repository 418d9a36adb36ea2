//! Frames of the relay's own, sent through a line like any other and counted where they would leave it.
//!
//! First a thin stream, one small frame every other millisecond, which shows delay, jitter, loss, copies and order; then a
//! burst of large ones, which shows the rate: they leave one behind the other, as fast as the line lets them. A burst
//! fills a slow link for 40 ms, so a probe is all but unseen by those who use it; a link with jitter, which blurs when they
//! leave, is asked longer and more often. Pure.

use crate::{
    count::rounded,
    line::{Fate, LEAST_QUEUE_BYTES, LONGEST_QUEUE, Nanos},
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
/// How long it lasts where there is jitter: as long as a line lets frames wait for their turn.
const LONG_BURST: Nanos = LONGEST_QUEUE * 9 / 10;
/// How many frames it has there at least: what every line has room for.
const LEAST_LONG_BURST: u64 = LEAST_QUEUE_BYTES / LARGE as u64;
/// How much longer than the jitter all bursts last together, so that not one measure in a thousand is 10 % off.
const TIMES_JITTER: u64 = 50;
/// More bursts would keep people waiting.
const MOST_BURSTS: u64 = 12;
/// A burst of more frames says no more.
const MOST_BURST: u64 = 800;

/// Of so many arrivals of a burst each is held against each.
const MOST_COMPARED: usize = 64;

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
    /// Frames of a burst.
    burst: u64,
    /// Bursts still to be sent.
    bursts: u64,
    asked: u32,
    lost: u32,
    dropped: u32,
    copies: u32,
    /// The stream's numbers in the order in which they arrived.
    arrived: Vec<u32>,
    /// How many of them kept their place, and what these were held in all, at least and at most.
    in_place: u32,
    delay: Nanos,
    shortest: Nanos,
    longest: Nanos,
    /// The turn on the line of each frame of the burst: a lost one takes none, a doubled one takes two.
    turns: Vec<u32>,
    /// The next turn.
    turn: u32,
    /// Of each burst that was sent: turns, and when what had them arrived.
    large: Vec<Vec<(u32, Nanos)>>,
    /// Copies that are on their way.
    pending: u32,
}

impl Probe {
    /// A probe that begins now on a line under this condition.
    pub fn new(now: Nanos, condition: &Condition) -> Self {
        let fill = |nanos: Nanos| condition.rate_kbit * (nanos / 1_000_000) / 8 / LARGE as u64;
        let (burst, bursts) = match (condition.rate_kbit, condition.jitter_us) {
            // Without a rate there is nothing to measure, and jitter would look like one.
            (0, _) => (0, 0),
            (_, 0) => (fill(BURST).clamp(3, MOST_BURST), 1),
            (rate, jitter) => {
                let burst = fill(LONG_BURST).clamp(LEAST_LONG_BURST, MOST_BURST);
                let lasts_us = burst * LARGE as u64 * 8 * 1000 / rate;
                (burst, (jitter * TIMES_JITTER).div_ceil(lasts_us.max(1)).clamp(1, MOST_BURSTS))
            }
        };
        Probe { begun: now, burst, bursts, shortest: Nanos::MAX, ..Probe::default() }
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
        if self.asked == STREAM && self.pending == 0 && frames.is_empty() && self.bursts > 0 {
            self.bursts -= 1;
            self.large.push(Vec::new());
            self.turns.clear();
            self.turn = 0;
            frames.extend((0..self.burst).map(|place| Frame { number: None, place: place as u32, bytes: LARGE }));
        }
        frames
    }

    /// When the next frame is to be sent, if one is.
    pub fn next(&self) -> Option<Nanos> {
        match self.asked {
            STREAM if self.bursts == 0 || self.pending > 0 => None,
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

    /// A frame has come through, after it was held so long. One that jumped ahead says nothing of delay and jitter.
    pub fn arrived(&mut self, now: Nanos, frame: Frame, held: Nanos, jumps: bool) {
        self.pending -= 1;
        let Some(number) = frame.number else {
            if let (Some(turn), Some(burst)) = (self.turns.get_mut(frame.place as usize), self.large.last_mut()) {
                burst.push((*turn, now));
                // Its copy had the turn after.
                *turn += 1;
            }
            return;
        };
        self.arrived.push(number);
        if jumps {
            return;
        }
        self.in_place += 1;
        self.delay += held;
        self.shortest = self.shortest.min(held);
        self.longest = self.longest.max(held);
    }

    /// True when every frame was sent and none is on its way.
    pub fn is_over(&self) -> bool {
        self.asked == STREAM && self.bursts == 0 && self.pending == 0
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

    /// Megabits per second of the bursts: the median of the slopes between any two arrivals of one (Theil and Sen), since
    /// jitter moves each of them and those that overtook others came far too early. Those far apart say more (each slope
    /// counts by its turns), and the shift of an end matters less to them.
    fn rate(&self) -> Option<f64> {
        let mut slopes: Vec<(f64, u32)> = Vec::new();
        for burst in &self.large {
            // Frames of others wait while this is worked out.
            let burst: Vec<_> = burst.iter().copied().step_by(burst.len().div_ceil(MOST_COMPARED).max(1)).collect();
            for (n, &(turn, at)) in burst.iter().enumerate() {
                let later = burst[n + 1..].iter().filter(|(other, _)| *other != turn);
                slopes.extend(
                    later.map(|&(other, then)| ((then as f64 - at as f64) / (f64::from(other) - f64::from(turn)), other.abs_diff(turn))),
                );
            }
        }
        slopes.sort_by(|one, other| one.0.total_cmp(&other.0));
        let whole: u64 = slopes.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut left = whole / 2;
        let median = slopes.iter().find(|(_, weight)| {
            let is_here = left < u64::from(*weight);
            left = left.saturating_sub(u64::from(*weight));
            is_here
        });
        let arrivals: usize = self.large.iter().map(Vec::len).sum();
        let slope = median.map(|(slope, _)| *slope).filter(|slope| arrivals > 2 && *slope > 0.0)?;
        Some(rounded(LARGE as f64 * 8.0 * 1000.0 / slope))
    }

    /// What was found.
    pub fn measured(&self) -> Measured {
        let share = |count: u32| rounded(100.0 * f64::from(count) / f64::from(self.asked.max(1)));
        let millis = |nanos: f64| rounded(nanos / 1e6);
        Measured {
            frames: self.asked,
            delay_ms: if self.in_place == 0 { 0.0 } else { millis(self.delay as f64 / f64::from(self.in_place)) },
            jitter_ms: if self.in_place == 0 { 0.0 } else { millis((self.longest - self.shortest) as f64 / 2.0) },
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
    use crate::line::{Left, Line, Parcel};

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
        by_chance(condition, 3)
    }

    fn by_chance(condition: Condition, seed: u64) -> Measured {
        let mut line = Line::new(condition, seed);
        let mut probe = Probe::new(0, &condition);
        let mut now = 0;
        while !probe.is_over() {
            for frame in probe.wanted(now) {
                let fate = line.offer(now, Own(frame));
                probe.offered(frame, fate);
            }
            while let Some(Left { parcel: Own(frame), held, jumps }) = line.due(now) {
                probe.arrived(now, frame, held, jumps);
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
    fn frames_that_jump_ahead_say_nothing_of_the_jitter() {
        let asked = Condition { delay_us: 40_000, jitter_us: 10_000, reorder_ppm: 250_000, ..Default::default() };
        for seed in 0..20 {
            let found = by_chance(asked, seed);
            assert!((37.0..=46.0).contains(&found.delay_ms) && (8.0..=10.5).contains(&found.jitter_ms), "{seed}: {found:?}");
            assert!((18.0..=32.0).contains(&found.reorder_percent), "{seed}: {found:?}");
        }
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
        for seed in 0..100 {
            let rate = by_chance(worst, seed).rate_mbit.expect("a rate");
            assert!((rate / 4.0 - 1.0).abs() < 0.1, "{rate} by {seed}");
        }
    }

    #[test]
    fn a_line_that_loses_everything_ends_too() {
        let found = measure(Condition { loss_ppm: 1_000_000, ..Default::default() });
        assert_eq!((found.loss_percent, found.rate_mbit), (100.0, None));
    }
}
