//! The field's own terms: info hash, peer id, event, announce, scrape.
//!
//! Plain values without behaviour of their own; every other layer speaks in
//! them. Nothing here does I/O, reads a clock or allocates per request.

mod announce;
mod hash;

pub use announce::{AddressFamily, Announce, AnnounceCounts, Event, ScrapeCounts};
pub use hash::{InfoHash, ParseInfoHashError, PeerId};
