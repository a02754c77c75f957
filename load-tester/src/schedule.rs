//! When requests of an open loop are due.
//!
//! The schedule does not move when the tracker or the generator falls behind:
//! request k is due at k / rate, and its latency counts from then, so that a
//! stall of the tracker shows in every request that should have been sent
//! meanwhile (no "coordinated omission").

/// A constant rate, divided among threads whose requests interleave.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Requests per second of this thread.
    rate: f64,
    /// Nanoseconds by which this thread's requests lag the first thread's.
    offset: f64,
    next: u64,
    /// Nothing is due from here on, in nanoseconds since the start.
    end: u64,
}

impl Schedule {
    /// The share of thread `thread` of `threads` in `rate` requests per second.
    pub fn new(rate: f64, thread: usize, threads: usize) -> Schedule {
        Schedule {
            rate: rate / threads as f64,
            offset: thread as f64 * 1e9 / rate,
            next: 0,
            end: u64::MAX,
        }
    }

    /// Ends the schedule: what was due before `end` stays due however late the
    /// sender comes, or a stall across the end would be forgotten.
    pub fn end_at(&mut self, end: u64) {
        self.end = end;
    }

    /// Whether everything due before the end has been taken.
    pub fn is_over(&self) -> bool {
        self.due() >= self.end
    }

    /// When the next request is due, in nanoseconds since the start, if that
    /// is not after `now`; moves on to the one after it.
    pub fn take_due(&mut self, now: u64) -> Option<u64> {
        let due = self.due();
        if due > now || due >= self.end {
            return None;
        }
        self.next += 1;
        Some(due)
    }

    fn due(&self) -> u64 {
        (self.offset + self.next as f64 * 1e9 / self.rate) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Latencies;

    #[test]
    fn threads_share_the_rate_evenly() {
        let mut due = Vec::new();
        for thread in 0..4 {
            let mut schedule = Schedule::new(1000.0, thread, 4);
            due.extend(std::iter::from_fn(|| schedule.take_due(1_000_000_000 - 1)));
        }
        due.sort_unstable();
        let expected: Vec<u64> = (0..1000).map(|k| k * 1_000_000).collect();
        assert_eq!(due, expected);
    }

    #[test]
    fn a_stall_across_the_end_forgets_nothing() {
        let mut schedule = Schedule::new(1000.0, 0, 1);
        schedule.end_at(10_000_000);
        assert_eq!(schedule.take_due(0), Some(0));
        assert!(!schedule.is_over());
        let late = std::iter::from_fn(|| schedule.take_due(99_000_000)).count();
        assert_eq!(late, 9);
        assert!(schedule.is_over());
    }

    #[test]
    fn a_stall_shows_in_every_request_it_delayed() {
        // 1000/s for one second; everything is answered at once, but the
        // sender is stuck from 0.5 s to 0.7 s.
        let mut schedule = Schedule::new(1000.0, 0, 1);
        let mut latencies = Latencies::new();
        for now in (0..=500).chain(700..1000).map(|ms| ms * 1_000_000) {
            while let Some(due) = schedule.take_due(now) {
                latencies.record(now - due);
            }
        }
        let summary = latencies.summary();
        assert_eq!(summary.count, 1000);
        // 199 requests waited, for 1 to 199 ms: a fifth of all.
        assert!(summary.p50_us < 2.0, "{summary:?}");
        assert!(
            (90_000.0..110_000.0).contains(&summary.p90_us),
            "{summary:?}"
        );
        assert!(
            (185_000.0..195_000.0).contains(&summary.p99_us),
            "{summary:?}"
        );
        assert!(
            (198_000.0..201_000.0).contains(&summary.max_us),
            "{summary:?}"
        );
    }
}
