//! State that outlives the process: our own snapshot with all peers, and
//! opentracker's file of download counts.
//!
//! A snapshot is written at the stop and every `state_interval`, through
//! surveys of the shards, into a file beside the old one that then takes its
//! place: whatever happens meanwhile, there is a whole file. It is read before
//! the tracker serves. A file that is torn, damaged or somebody else's is set
//! aside whole, and the tracker starts empty.
//!
//! # The file
//!
//! Numbers are little-endian, but for ports, which are in network order.
//!
//! ```text
//! header   32 bytes  magic 89 6b 61 72 75 74 61 0a ("karuta" in lines)
//!                    u32 version, 1
//!                    u32 flags: bit 0, each peer has its id
//!                    u64 seconds since 1970 when it was saved
//!                    u32 0
//!                    u32 CRC-32 of the 28 bytes before
//! blocks   any number, numbered from 0:
//!            u32 CRC-32 of: the header's CRC-32, u64 the block's number, and
//!                what follows here of the block
//!            u32 bytes of the payload
//!            u32 records in it
//!            u32 peers in it
//!            payload: records, back to back
//! trailer  a block with ffffffff records, whose payload is
//!            u64 records of the file
//!            u64 peers of the file
//! end      nothing follows
//!
//! record   u8 family: 0 IPv4, 1 IPv6
//!          20 bytes info hash
//!          u32 downloads
//!          u16 peers, at most 1024
//!          u16 seeders among them
//!          u32 seconds for which it has been empty, only if it has no peers
//!          the peers, seeders first:
//!            4 or 16 bytes address, u16 port
//!            u16: bit 15 paused (BEP 21), bits 0 to 14 the time since its last
//!                 announce, in units of 4 seconds
//!            20 bytes peer id, only if the header says so
//! ```
//!
//! A swarm with more than 1024 peers has several records. Records are in no
//! order. The checksums bind each block to its file and place, so a file that
//! was put together of parts of two is found out.
//!
//! Times are ages when saved; to those the loader adds the time since, by the
//! wall clock. Should that have been set back, the time away counts as none.

mod format;
mod keeper;
mod load;
mod place;
mod save;
pub mod statedump;

pub use format::{
    Block, BlockHeader, Checked, FormatError, HEADER_BYTES, Header, MAGIC, MAX_PAYLOAD_BYTES,
    Record, Salt, VERSION,
};
pub use keeper::{IntervalSetter, Keeper, KeeperSettings};
pub use load::{LoadError, Loaded, load};
pub use place::{Place, Replacement};
pub use save::{FileWriter, SaveError, Saved, probe, save};

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What is published of saves.
#[derive(Debug, Default)]
pub struct StateStats {
    last_saved_unix_seconds: AtomicU64,
    save_milliseconds: AtomicU64,
    save_failures: AtomicU64,
}

impl StateStats {
    /// Takes note of a save that began at this time and took so long.
    pub fn saved(&self, unix_seconds: u64, took: Duration) {
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.save_milliseconds.store(milliseconds, Relaxed);
        self.last_saved_unix_seconds.store(unix_seconds, Relaxed);
    }

    /// Takes note of what was loaded: it is as good as saved then.
    pub fn loaded(&self, saved_unix_seconds: u64) {
        self.last_saved_unix_seconds
            .store(saved_unix_seconds, Relaxed);
    }

    /// Takes note of a save that failed.
    pub fn failed(&self) {
        self.save_failures.fetch_add(1, Relaxed);
    }

    /// When the state was saved last, in seconds since 1970; 0: not yet.
    #[must_use]
    pub fn last_saved_unix_seconds(&self) -> u64 {
        self.last_saved_unix_seconds.load(Relaxed)
    }

    /// How long the last save took.
    #[must_use]
    pub fn save_duration(&self) -> Duration {
        Duration::from_millis(self.save_milliseconds.load(Relaxed))
    }

    /// How many saves failed.
    #[must_use]
    pub fn save_failures(&self) -> u64 {
        self.save_failures.load(Relaxed)
    }
}
