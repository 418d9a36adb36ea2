//! One direction of a link: what becomes of each frame, and when it leaves.
//!
//! ```text
//! frame ─► lost? ─► twice? ─► its turn at the link's rate (or the queue is full) ─► + delay ± jitter ─► leaves
//!                                                              └─ reordered: overtakes those that are held
//! ```
//!
//! Pure: time comes in as nanoseconds, chance from a seeded generator. Frames keep their order unless they are reordered:
//! jitter alone never makes one overtake another.

use std::collections::BinaryHeap;

use crate::{count::Meter, wire::Condition};

/// Nanoseconds on the relay's own clock.
pub type Nanos = u64;

/// A frame that would wait longer than this for its turn at the link's rate is dropped: the buffer of a slow link.
pub const LONGEST_QUEUE: Nanos = 100_000_000;
/// Every slow link has room for this many bytes, however slow it is.
pub const LEAST_QUEUE_BYTES: u64 = 32 << 10;
/// Bytes that a line holds at most, whatever its delay.
const MOST_BYTES: usize = 64 << 20;
/// Where there is no delay, a reordered frame cannot overtake: it is held so long, and those behind overtake it.
const HELD_BACK: Nanos = 10_000_000;

/// What travels along a line.
pub trait Parcel: Clone {
    /// Its length on the wire.
    fn bytes(&self) -> usize;
    /// True for a frame of the relay's own, which counts as nobody's traffic.
    fn is_probe(&self) -> bool;
}

/// What became of a parcel that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It leaves, in so many copies.
    Taken(u32),
    /// It is lost by chance.
    Lost,
    /// The queue was full.
    Dropped,
}

/// A direction of a link.
pub struct Line<P> {
    condition: Condition,
    chance: fastrand::Rng,
    held: BinaryHeap<Held<P>>,
    held_bytes: usize,
    /// When the link's rate has room again.
    free_at: Nanos,
    /// When the last frame leaves that keeps its place.
    last_leaves: Nanos,
    order: u64,
    /// What was seen of passing frames.
    pub meter: Meter,
}

struct Held<P> {
    leaves: Nanos,
    order: u64,
    came: Nanos,
    parcel: P,
    jumps: bool,
}

/// A parcel that leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left<P> {
    /// The parcel.
    pub parcel: P,
    /// How long ago it came.
    pub held: Nanos,
    /// It was reordered: it had none of the line's delay, past all that have, or was held back where there is none.
    pub jumps: bool,
}

impl<P> PartialEq for Held<P> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl<P> Eq for Held<P> {}

impl<P> PartialOrd for Held<P> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> Ord for Held<P> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // The greatest is the one that leaves first.
        (other.leaves, other.order).cmp(&(self.leaves, self.order))
    }
}

impl<P: Parcel> Line<P> {
    /// A line under a condition; `seed` decides its chances.
    pub fn new(condition: Condition, seed: u64) -> Self {
        Line {
            condition,
            chance: fastrand::Rng::with_seed(seed),
            held: BinaryHeap::new(),
            held_bytes: 0,
            free_at: 0,
            last_leaves: 0,
            order: 0,
            meter: Meter::default(),
        }
    }

    /// What it does to frames.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// From now on it does this. Frames that are held leave when they were to leave, and none overtakes them.
    pub fn change(&mut self, condition: Condition) {
        self.condition = condition;
    }

    /// Takes a parcel.
    pub fn offer(&mut self, now: Nanos, parcel: P) -> Fate {
        let (bytes, counts) = (parcel.bytes() as u64, !parcel.is_probe());
        if counts {
            self.meter.came(now, bytes);
        }
        if self.happens(self.condition.loss_ppm) {
            if counts {
                self.meter.lost(now);
            }
            return Fate::Lost;
        }
        let twice = self.happens(self.condition.duplicate_ppm);
        if !self.queue(now, &parcel) {
            if counts {
                self.meter.dropped(now);
            }
            return Fate::Dropped;
        }
        if !twice || !self.queue(now, &parcel) {
            return Fate::Taken(1);
        }
        if counts {
            self.meter.duplicated();
        }
        Fate::Taken(2)
    }

    /// Decides when one copy leaves; false when there is no room for it.
    fn queue(&mut self, now: Nanos, parcel: &P) -> bool {
        let bytes = parcel.bytes();
        if self.held_bytes + bytes > MOST_BYTES {
            return false;
        }
        let mut leaves = now;
        if self.condition.rate_kbit > 0 {
            let begins = self.free_at.max(now);
            let room = LONGEST_QUEUE.max(self.time_for(LEAST_QUEUE_BYTES));
            if begins - now > room {
                return false;
            }
            self.free_at = begins + self.time_for(bytes as u64);
            leaves = self.free_at;
        }
        let (delay, jitter) = (self.condition.delay_us.saturating_mul(1000), self.condition.jitter_us.saturating_mul(1000));
        let reordered = self.happens(self.condition.reorder_ppm);
        if reordered && !parcel.is_probe() {
            self.meter.reordered();
        }
        match (reordered, delay > 0 || jitter > 0) {
            // It leaves at once, past all that are held.
            (true, true) => {}
            (true, false) => leaves += HELD_BACK,
            (false, _) => {
                let late = if jitter > 0 { self.chance.u64(0..=jitter.saturating_mul(2)) } else { 0 };
                leaves = leaves.saturating_add(delay.saturating_add(late).saturating_sub(jitter)).max(self.last_leaves);
                self.last_leaves = leaves;
            }
        }
        self.order += 1;
        self.held_bytes += bytes;
        self.held.push(Held { leaves, order: self.order, came: now, parcel: parcel.clone(), jumps: reordered });
        true
    }

    /// The next parcel that is to leave by now.
    pub fn due(&mut self, now: Nanos) -> Option<Left<P>> {
        if self.held.peek().is_none_or(|held| held.leaves > now) {
            return None;
        }
        let Held { came, parcel, jumps, .. } = self.held.pop()?;
        self.held_bytes -= parcel.bytes();
        Some(Left { parcel, held: now.saturating_sub(came), jumps })
    }

    /// When the next parcel leaves.
    pub fn next(&self) -> Option<Nanos> {
        self.held.peek().map(|held| held.leaves)
    }

    fn happens(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.chance.u32(0..1_000_000) < ppm
    }

    /// How long the link's rate takes for so many bytes.
    fn time_for(&self, bytes: u64) -> Nanos {
        bytes * 8 * 1_000_000 / self.condition.rate_kbit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Numbered(u32, usize);

    impl Parcel for Numbered {
        fn bytes(&self) -> usize {
            self.1
        }
        fn is_probe(&self) -> bool {
            false
        }
    }

    const MS: Nanos = 1_000_000;

    /// Offers `count` frames of `bytes`, `gap` apart; returns (number, when it left) of those that left.
    fn pass(condition: Condition, count: u32, bytes: usize, gap: Nanos) -> (Vec<(u32, Nanos)>, Line<Numbered>) {
        let mut line = Line::new(condition, 7);
        for n in 0..count {
            line.offer(u64::from(n) * gap, Numbered(n, bytes));
        }
        let mut left = Vec::new();
        while let Some(at) = line.next() {
            let Left { parcel, held: waited, .. } = line.due(at).expect("due");
            assert!(waited <= at);
            left.push((parcel.0, at));
        }
        (left, line)
    }

    fn share(count: usize, of: u32) -> f64 {
        100.0 * count as f64 / f64::from(of)
    }

    #[test]
    fn a_clear_line_lets_everything_pass_at_once() {
        let (left, _) = pass(Condition::default(), 100, 1500, MS);
        assert!(left.iter().enumerate().all(|(n, (number, at))| n as u32 == *number && *at == n as u64 * MS));
    }

    #[test]
    fn delay_is_exact_and_keeps_the_order() {
        let (left, _) = pass(Condition { delay_us: 25_000, ..Default::default() }, 50, 100, MS);
        assert!(left.iter().all(|(n, at)| *at == u64::from(*n) * MS + 25 * MS));
        assert!(left.is_sorted());
    }

    #[test]
    fn jitter_spreads_around_the_delay_and_keeps_the_order() {
        let (left, _) = pass(Condition { delay_us: 20_000, jitter_us: 5_000, ..Default::default() }, 2000, 100, 50 * MS);
        let delays: Vec<u64> = left.iter().map(|(n, at)| at - u64::from(*n) * 50 * MS).collect();
        let mean = delays.iter().sum::<u64>() / 2000;
        assert!(delays.iter().all(|delay| (15 * MS..=25 * MS).contains(delay)), "{delays:?}");
        assert!((19_800_000..20_200_000).contains(&mean), "{mean}");
        // Frames close behind each other never change places.
        let (dense, _) = pass(Condition { delay_us: 20_000, jitter_us: 5_000, ..Default::default() }, 2000, 100, MS / 10);
        assert!(dense.iter().map(|(n, _)| n).is_sorted());
    }

    #[test]
    fn loss_and_duplication_are_near_what_was_asked() {
        let (left, line) = pass(Condition { loss_ppm: 50_000, ..Default::default() }, 20_000, 100, MS);
        let lost = share(20_000 - left.len(), 20_000);
        assert!((4.5..5.5).contains(&lost), "{lost}");
        assert_eq!(line.meter.traffic(0).total.lost, 20_000 - left.len() as u64);
        let (left, _) = pass(Condition { duplicate_ppm: 30_000, ..Default::default() }, 20_000, 100, MS);
        let doubled = share(left.len() - 20_000, 20_000);
        assert!((2.5..3.5).contains(&doubled), "{doubled}");
        assert!(pass(Condition { loss_ppm: 1_000_000, ..Default::default() }, 100, 100, MS).0.is_empty());
    }

    #[test]
    fn a_reordered_frame_overtakes_those_that_are_held() {
        for condition in [
            Condition { delay_us: 10_000, reorder_ppm: 100_000, ..Default::default() },
            Condition { reorder_ppm: 100_000, ..Default::default() },
        ] {
            let (left, line) = pass(condition, 10_000, 100, MS);
            assert_eq!(left.len(), 10_000);
            let backwards = left.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
            assert!((500..1500).contains(&backwards), "{backwards}");
            let counted = line.meter.traffic(0).total.reordered;
            assert!((800..1200).contains(&counted), "{counted}");
        }
    }

    #[test]
    fn a_rate_spaces_frames_and_drops_what_its_queue_cannot_hold() {
        let condition = Condition { rate_kbit: 10_000, ..Default::default() };
        let (left, _) = pass(condition, 20, 1250, 0);
        assert!(left.iter().enumerate().all(|(n, (_, at))| *at == (n as u64 + 1) * MS), "{left:?}");
        // 1000 frames at once: 100 ms of them are taken, and the one whose turn is just then.
        let (left, line) = pass(condition, 1000, 1250, 0);
        assert_eq!(left.len(), 101);
        assert_eq!(line.meter.traffic(0).total.dropped, 899);
        // A very slow link still holds 32 KiB.
        let (left, _) = pass(Condition { rate_kbit: 64, ..Default::default() }, 100, 1024, 0);
        assert_eq!(left.len(), 33);
    }

    #[test]
    fn all_together_on_one_line() {
        let condition = Condition {
            delay_us: 25_000,
            jitter_us: 2_000,
            loss_ppm: 50_000,
            duplicate_ppm: 20_000,
            reorder_ppm: 10_000,
            rate_kbit: 8_000,
        };
        let (left, line) = pass(condition, 10_000, 500, MS);
        let total = line.meter.traffic(0).total;
        assert_eq!(total.frames, 10_000);
        assert_eq!(left.len() as u64, total.frames - total.lost - total.dropped + total.duplicated);
        assert!(total.lost > 0 && total.duplicated > 0 && total.reordered > 0 && total.dropped == 0, "{total:?}");
        let held = left.iter().map(|(n, at)| at - u64::from(*n) * MS).collect::<Vec<_>>();
        let mean = held.iter().sum::<u64>() / held.len() as u64;
        assert!((24 * MS..27 * MS).contains(&mean), "{mean}");
    }

    #[test]
    fn a_change_lets_no_frame_overtake() {
        let mut line = Line::new(Condition { delay_us: 50_000, ..Default::default() }, 1);
        line.offer(0, Numbered(0, 100));
        line.change(Condition::default());
        line.offer(MS, Numbered(1, 100));
        assert_eq!(line.next(), Some(50 * MS));
        let order: Vec<u32> = std::iter::from_fn(|| line.due(50 * MS)).map(|left| left.parcel.0).collect();
        assert_eq!(order, [0, 1]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut line = Line::new(Condition { delay_us: 4_000_000, ..Default::default() }, 1);
        let fates: Vec<Fate> = (0..1200).map(|n| line.offer(0, Numbered(n, 64 << 10))).collect();
        assert_eq!(fates.iter().filter(|fate| **fate == Fate::Taken(1)).count(), 1024);
        assert_eq!(fates.last(), Some(&Fate::Dropped));
    }
}
