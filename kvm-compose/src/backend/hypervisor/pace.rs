//! Guests that start together begin to run together.
//!
//! Where QEMU translates, a guest that boots takes a whole core, and starts beside it take ten times as long: twenty
//! guests that each ran at once were all running after 17 s on two cores, the same twenty held until the last had its
//! process after 4 s. So such guests are made paused, few at a time, and run when no other start is under way, at the
//! latest [`HOLD`] after they were made. Must not know libvirt.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// How long a guest that is made waits for others, at most.
const HOLD: Duration = Duration::from_secs(10);

/// Starts of one host.
pub struct Pace {
    starts: Mutex<Starts>,
    changed: Condvar,
    at_once: usize,
}

#[derive(Default)]
struct Starts {
    /// Asked for and not made yet.
    open: usize,
    /// Being made now.
    making: usize,
}

impl Pace {
    /// Starts of which so many are made at once.
    pub fn new(at_once: usize) -> Self {
        Pace { starts: Mutex::new(Starts::default()), changed: Condvar::new(), at_once }
    }

    /// Makes a guest when it is its turn. Whatever becomes of it, the next ones get theirs.
    pub fn make<T>(&self, make: impl FnOnce() -> T) -> T {
        let mut starts = self.starts.lock();
        starts.open += 1;
        // Each start is bounded by libvirt's own limits, so this wait is too.
        while starts.making >= self.at_once {
            self.changed.wait(&mut starts);
        }
        starts.making += 1;
        drop(starts);
        let _turn = Turn(self);
        make()
    }

    /// Waits until no start is under way, at most [`HOLD`].
    pub fn hold(&self) {
        let deadline = Instant::now() + HOLD;
        let mut starts = self.starts.lock();
        while starts.open > 0 {
            if self.changed.wait_until(&mut starts, deadline).timed_out() {
                return;
            }
        }
    }
}

/// A turn, given back also when making panics.
struct Turn<'a>(&'a Pace);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut starts = self.0.starts.lock();
        starts.making -= 1;
        starts.open -= 1;
        drop(starts);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn few_are_made_at_once_and_none_runs_before_the_last_is_made() {
        let (pace, made, making, asked) = (Pace::new(2), AtomicUsize::new(0), AtomicUsize::new(0), Barrier::new(6));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    pace.make(|| {
                        assert!(making.fetch_add(1, Ordering::SeqCst) < 2);
                        // Long enough for the other threads to have asked.
                        std::thread::sleep(Duration::from_millis(50));
                        making.fetch_sub(1, Ordering::SeqCst);
                        made.fetch_add(1, Ordering::SeqCst);
                    });
                    pace.hold();
                    assert_eq!(made.load(Ordering::SeqCst), 6);
                    asked.wait();
                });
            }
        });
    }

    #[test]
    fn a_start_that_panics_gives_its_turn_back() {
        let pace = Pace::new(1);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pace.make(|| panic!("no"))));
        assert!(result.is_err());
        assert_eq!(pace.make(|| 7), 7);
        pace.hold();
    }
}
