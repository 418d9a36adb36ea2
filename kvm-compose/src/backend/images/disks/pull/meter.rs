//! How far a download has come, told often enough for people and seldom enough for a log.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::flights::Far;
use crate::{api::event::EventKind, error::Problem, orchestrate::Sink};

/// Not told more often.
const OFTEN: Duration = Duration::from_millis(500);
/// Told at least so often, however little has come.
const SELDOM: Duration = Duration::from_secs(5);

/// Tells how far a download has come.
pub struct Meter<'a> {
    what: &'a str,
    sink: &'a dyn Sink,
    told: Mutex<Told>,
}

struct Told {
    at: Instant,
    far: Far,
}

impl<'a> Meter<'a> {
    /// Tells nothing yet.
    pub fn new(what: &'a str, sink: &'a dyn Sink) -> Self {
        Meter { what, sink, told: Mutex::new(Told { at: Instant::now(), far: Far::default() }) }
    }

    /// Takes note, and tells when it is time.
    pub fn note(&self, far: Far) -> Result<(), Problem> {
        let mut told = self.told.lock();
        let passed = told.at.elapsed();
        let more = far.done.saturating_sub(told.far.done);
        let enough = far.total.is_none_or(|total| more.saturating_mul(100) >= total);
        let is_end = far.total == Some(far.done) && far != told.far;
        if !is_end && (passed < OFTEN || (!enough && passed < SELDOM)) {
            return Ok(());
        }
        let rate = (more as f64 / passed.as_secs_f64().max(0.001)) as u64;
        *told = Told { at: Instant::now(), far };
        self.sink.emit(EventKind::Progress { what: self.what.to_owned(), done: far.done, total: far.total, rate })
    }
}
