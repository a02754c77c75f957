//! The clock of a shard's main loop: read once per turn, then passed down.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of the clocks, shared by everything that happens in one turn of
/// a shard's loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic seconds since the process started. Peers and connections
    /// expire by it: it does not jump when the wall clock is set.
    pub seconds: u32,
    /// Monotonic time since the process started.
    pub elapsed: Duration,
    /// Wall-clock seconds since 1970, which instances that share a
    /// connection-id key have in common.
    pub unix_seconds: u64,
}

/// Reads the clocks, relative to one start that all shards share.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads clocks"
    )]
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// One reading.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads clocks"
    )]
    pub fn now(&self) -> Now {
        let elapsed = self.start.elapsed();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Now {
            seconds: u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX),
            elapsed,
            unix_seconds: unix.unwrap_or_default().as_secs(),
        }
    }

    /// Monotonic time since the process started, for measuring spans.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads clocks"
    )]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
