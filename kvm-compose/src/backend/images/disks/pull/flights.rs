//! One download for all who wait for the same image: the first one does it, the others watch. When the first one is told to
//! stop, the next one goes on from where it was.
//!
//! Knows neither HTTP nor files.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use crate::{
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

/// How far a download has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Far {
    /// Bytes that are there.
    pub done: u64,
    /// Bytes in all, when that is known.
    pub total: Option<u64>,
}

/// All downloads at work, by what they download.
#[derive(Debug)]
pub struct Flights<T> {
    going: Mutex<HashMap<String, Weak<Flight<T>>>>,
}

/// One download.
#[derive(Debug)]
pub struct Flight<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
enum State<T> {
    Going(Far),
    Landed(Result<T, Problem>),
    /// Whoever did it was told to stop.
    Abandoned,
}

/// Tells those who watch, whatever becomes of the work: a panic abandons it.
struct Pilot<'a, T> {
    flights: &'a Flights<T>,
    key: &'a str,
    flight: Arc<Flight<T>>,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Flights { going: Mutex::default() }
    }
}

impl<T: Clone> Flights<T> {
    /// Does the work, or waits for whoever does it. `work` is given a place to say how far it has come; `watch` hears it.
    pub fn join(
        &self,
        key: &str,
        cancel: &Cancel,
        watch: &dyn Fn(Far) -> Result<(), Problem>,
        work: impl Fn(&dyn Fn(Far)) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        loop {
            cancel.check()?;
            let (flight, is_first) = self.board(key);
            if is_first {
                let pilot = Pilot { flights: self, key, flight };
                let result = work(&|far| pilot.flight.tell(State::Going(far)));
                if !matches!(&result, Err(problem) if problem.code == Code::Cancelled) {
                    pilot.flight.tell(State::Landed(result.clone()));
                }
                return result;
            }
            if let Some(result) = flight.wait(cancel, watch)? {
                return result;
            }
        }
    }

    fn board(&self, key: &str) -> (Arc<Flight<T>>, bool) {
        let mut going = self.going.lock();
        if let Some(flight) = going.get(key).and_then(Weak::upgrade) {
            return (flight, false);
        }
        let flight = Arc::new(Flight { state: Mutex::new(State::Going(Far::default())), changed: Condvar::new() });
        going.insert(key.to_owned(), Arc::downgrade(&flight));
        (flight, true)
    }
}

impl<T> Drop for Pilot<'_, T> {
    fn drop(&mut self) {
        // Off the list first: whoever comes now begins anew, and finds what is there.
        self.flights.going.lock().remove(self.key);
        let mut state = self.flight.state.lock();
        if matches!(*state, State::Going(_)) {
            *state = State::Abandoned;
        }
        self.flight.changed.notify_all();
    }
}

impl<T> Flight<T> {
    fn tell(&self, now: State<T>) {
        *self.state.lock() = now;
        self.changed.notify_all();
    }
}

impl<T: Clone> Flight<T> {
    /// Waits for the end; nothing when the work was abandoned.
    fn wait(&self, cancel: &Cancel, watch: &dyn Fn(Far) -> Result<(), Problem>) -> Result<Option<Result<T, Problem>>, Problem> {
        loop {
            let far = {
                let mut state = self.state.lock();
                self.changed.wait_for(&mut state, Duration::from_millis(100));
                match &*state {
                    State::Going(far) => *far,
                    State::Landed(result) => return Ok(Some(result.clone())),
                    State::Abandoned => return Ok(None),
                }
            };
            cancel.check()?;
            watch(far)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Barrier,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
        thread,
    };

    use super::*;

    #[test]
    fn many_waiters_are_one_piece_of_work_and_all_hear_its_end() {
        for fails in [false, true] {
            let (flights, works, watchers) = (Flights::default(), AtomicUsize::new(0), AtomicUsize::new(0));
            let results: Vec<Result<u8, Problem>> = thread::scope(|scope| {
                let one = || {
                    let watches = AtomicBool::new(false);
                    let watch = |_: Far| {
                        watchers.fetch_add(usize::from(!watches.swap(true, Ordering::SeqCst)), Ordering::SeqCst);
                        Ok(())
                    };
                    flights.join("image", &Cancel::new(), &watch, |tell| {
                        works.fetch_add(1, Ordering::SeqCst);
                        // Until all the others watch.
                        while watchers.load(Ordering::SeqCst) < 7 {
                            tell(Far { done: 1, total: Some(2) });
                            thread::yield_now();
                        }
                        if fails { Err(Problem::new(Code::DownloadFailed, "no")) } else { Ok(7) }
                    })
                };
                let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
                all.into_iter().map(|one| one.join().expect("no panic")).collect()
            });
            assert!(results.iter().all(|result| result.is_err() == fails), "{results:?}");
            assert_eq!(works.load(Ordering::SeqCst), 1);
        }
    }

    #[test]
    fn when_the_first_is_told_to_stop_the_next_goes_on() {
        let flights = Flights::default();
        let (stop, begun, works) = (Cancel::new(), Barrier::new(2), AtomicUsize::new(0));
        thread::scope(|scope| {
            let first = scope.spawn(|| {
                flights.join("image", &stop, &|_| Ok(()), |_| {
                    works.fetch_add(1, Ordering::SeqCst);
                    begun.wait();
                    stop.wait(Duration::from_secs(60));
                    stop.check().map(|()| 1)
                })
            });
            begun.wait();
            let second = scope.spawn(|| {
                flights.join(
                    "image",
                    &Cancel::new(),
                    &|_| {
                        stop.cancel();
                        Ok(())
                    },
                    |_| {
                        works.fetch_add(1, Ordering::SeqCst);
                        Ok(2)
                    },
                )
            });
            assert_eq!(first.join().expect("no panic").map_err(|problem| problem.code), Err(Code::Cancelled));
            assert_eq!(second.join().expect("no panic"), Ok(2));
        });
        assert_eq!(works.load(Ordering::SeqCst), 2);
    }
}
