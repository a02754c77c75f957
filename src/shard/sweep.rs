//! What a shard publishes of its sweeps for expired peers.

use super::responses::{BUCKETS, bucket};
use super::stats::Counter;

/// Sweeps are done slice by slice; a pass is one round over everything.
#[derive(Debug, Default)]
pub struct SweepStats {
    /// Slices done since the start.
    pub slices: Counter,
    /// Time spent in slices since the start.
    pub nanoseconds: Counter,
    /// Peers removed because they were silent for too long.
    pub expired_peers: Counter,
    /// Finished passes by the time spent in their slices.
    passes: [Counter; BUCKETS],
    /// Sum of the same times.
    pass_microseconds: Counter,
}

impl SweepStats {
    /// Counts one slice, the nanoseconds it took and the peers it removed.
    #[inline]
    pub fn slice(&self, nanoseconds: u64, expired_peers: u64) {
        self.slices.add(1);
        self.nanoseconds.add(nanoseconds);
        self.expired_peers.add(expired_peers);
    }

    /// Counts one finished pass and the nanoseconds spent in its slices.
    pub fn pass(&self, nanoseconds: u64) {
        self.passes[bucket(nanoseconds)].add(1);
        self.pass_microseconds.add(nanoseconds / 1000);
    }

    /// Passes in each bucket alone (not cumulative); the last has no bound.
    #[must_use]
    pub fn passes(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|bucket| self.passes[bucket].get())
    }

    /// Milliseconds that all finished passes took together.
    #[must_use]
    pub fn pass_milliseconds(&self) -> f64 {
        self.pass_microseconds.get() as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_fall_into_the_bucket_that_bounds_them() {
        let sweep = SweepStats::default();
        for nanoseconds in [0, 9_375_000, 9_375_001, 4_800_000_000, 4_800_001_000] {
            sweep.pass(nanoseconds);
        }
        assert_eq!(sweep.passes(), [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(sweep.pass_milliseconds(), 9618.751);
    }
}
