//! How often the configuration was reloaded, and how it went: for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts reloads.
#[derive(Debug, Default)]
pub struct Reloads {
    ok: AtomicU64,
    failed: AtomicU64,
    last_success: AtomicU64,
}

impl Reloads {
    /// None so far; what runs was read at this time (seconds since 1970).
    #[must_use]
    pub const fn started_at(unix_seconds: u64) -> Self {
        Self {
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_success: AtomicU64::new(unix_seconds),
        }
    }

    /// Counts one that was applied, at this time (seconds since 1970).
    pub fn succeeded_at(&self, unix_seconds: u64) {
        self.ok.fetch_add(1, Ordering::Relaxed);
        self.last_success.store(unix_seconds, Ordering::Relaxed);
    }

    /// Counts one that changed nothing.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were, by how they went.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 2] {
        [
            ("ok", self.ok.load(Ordering::Relaxed)),
            ("failed", self.failed.load(Ordering::Relaxed)),
        ]
    }

    /// When the configuration that runs was read, in seconds since 1970.
    #[must_use]
    pub fn last_success_unix_seconds(&self) -> u64 {
        self.last_success.load(Ordering::Relaxed)
    }
}
