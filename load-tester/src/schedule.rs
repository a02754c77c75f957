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
    /// When request `next` is due, in nanoseconds since the start.
    due: u64,
    /// Nothing is due from here on, in nanoseconds since the start.
    end: u64,
}

impl Schedule {
    /// The share of thread `thread` of `threads` in `rate` requests per second.
    pub fn new(rate: f64, thread: usize, threads: usize) -> Schedule {
        let mut schedule = Schedule {
            rate: rate / threads as f64,
            offset: thread as f64 * 1e9 / rate,
            next: 0,
            due: 0,
            end: u64::MAX,
        };
        schedule.due = schedule.due_of(0);
        schedule
    }

    /// Ends the schedule: what was due before `end` stays due however late the
    /// sender comes, or a stall across the end would be forgotten.
    pub fn end_at(&mut self, end: u64) {
        self.end = end;
    }

    /// Whether everything due before the end has been taken.
    pub fn is_over(&self) -> bool {
        self.due >= self.end
    }

    /// When the next request is due, in nanoseconds since the start, if that
    /// is not after `now`.
    pub fn due(&self, now: u64) -> Option<u64> {
        (self.due <= now && self.due < self.end).then_some(self.due)
    }

    /// Moves on to the next request.
    pub fn advance(&mut self) {
        self.next += 1;
        self.due = self.due_of(self.next);
    }

    /// How many requests of `from` and later are still to be taken.
    pub fn left_over(&self, from: u64) -> u64 {
        let first = self.next.max(self.first_from(from));
        self.first_from(self.end).saturating_sub(first)
    }

    fn due_of(&self, number: u64) -> u64 {
        (self.offset + number as f64 * 1e9 / self.rate) as u64
    }

    /// The first request that is due at `time` or later.
    fn first_from(&self, time: u64) -> u64 {
        let mut number = ((time as f64 - self.offset) * self.rate / 1e9).max(0.0) as u64;
        // The division may have missed it by one.
        while number > 0 && self.due_of(number - 1) >= time {
            number -= 1;
        }
        while self.due_of(number) < time {
            number += 1;
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Latencies;

    impl Schedule {
        fn take_due(&mut self, now: u64) -> Option<u64> {
            let due = self.due(now)?;
            self.advance();
            Some(due)
        }
    }

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
    fn what_is_left_over_is_what_would_still_be_taken() {
        for (rate, thread) in [(1000.0, 0), (1000.0, 2), (777.7, 1), (3.0, 2)] {
            for from in [0, 1, 1_000_000, 2_345_678_901, 3_000_000_000] {
                for taken in [0, 1, 100, 5000] {
                    let mut schedule = Schedule::new(rate, thread, 3);
                    schedule.end_at(3_000_000_000);
                    for _ in 0..taken {
                        let _ = schedule.take_due(u64::MAX);
                    }
                    let left_over = schedule.left_over(from);
                    let rest = std::iter::from_fn(|| schedule.take_due(u64::MAX));
                    let rest = rest.filter(|due| *due >= from).count() as u64;
                    assert_eq!(left_over, rest, "{rate} {thread} {from} {taken}");
                }
            }
        }
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
