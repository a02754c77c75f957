//! The phases of a run on one clock, shared by all threads of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The clock of a run and where its phases begin.
#[derive(Debug)]
pub struct Timeline {
    start: Instant,
    /// End of the warm-up, in nanoseconds since the start.
    pub measure_from: u64,
    /// End of sending, in nanoseconds since the start; 0 once a thread failed.
    end: AtomicU64,
}

impl Timeline {
    /// Starts now.
    pub fn new(warm_up: Duration, duration: Option<Duration>) -> Timeline {
        let measure_from = nanoseconds(warm_up);
        let end = duration.map_or(u64::MAX, |d| measure_from + nanoseconds(d));
        Timeline {
            start: Instant::now(),
            measure_from,
            end: AtomicU64::new(end),
        }
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        nanoseconds(self.start.elapsed())
    }

    /// End of sending, in nanoseconds since the start.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// Ends sending at `now`, if it has not ended before; what is in flight is
    /// waited for as ever.
    pub fn stop(&self, now: u64) {
        self.end.fetch_min(now.max(1), Ordering::Relaxed);
    }

    /// Ends the run of all threads at once, for nothing comes of it any more.
    pub fn give_up(&self) {
        self.end.store(0, Ordering::Relaxed);
    }

    /// Whether a thread has failed.
    pub fn is_given_up(&self) -> bool {
        self.end() == 0
    }

    /// Whether `now` falls into the measured interval.
    pub fn measures(&self, now: u64) -> bool {
        now >= self.measure_from && now < self.end()
    }
}

/// A duration in nanoseconds, at most 2^64 - 1.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What a running thread tells the progress bar.
#[derive(Debug, Default)]
pub struct Progress {
    /// Requests ended by any kind of reply.
    pub replies: AtomicU64,
    /// Requests given up as lost.
    pub lost: AtomicU64,
    /// Replies that were errors or invalid.
    pub errors: AtomicU64,
}

impl Progress {
    /// Publishes the totals of this thread.
    pub fn publish(&self, replies: u64, lost: u64, errors: u64) {
        self.replies.store(replies, Ordering::Relaxed);
        self.lost.store(lost, Ordering::Relaxed);
        self.errors.store(errors, Ordering::Relaxed);
    }
}
