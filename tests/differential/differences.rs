//! In what karuta means to differ: each name is a row of a table in
//! `docs/replacing-opentracker.md`, which says why.

use super::answers::{Aspect, NO_PEERS, OWN_ADDRESS, PEERS_OF_SEEDER};
use super::script::Step;

/// opentracker hands a requester its own address.
pub const OWN: &str = "the requester among its peers";

/// opentracker hands seeders to seeders.
pub const SEEDERS: &str = "seeders for seeders";

/// Debian's version sends `peers` even if there are none; 1.0 does not.
pub const EMPTY_PEERS: &str = "`peers` without a peer";

/// opentracker keeps peers that cannot be reached.
pub const NO_PORT: &str = "a peer without a port";

/// opentracker reads it as another port.
pub const NEGATIVE_PORT: &str = "a negative port";

/// opentracker counts a download although the peer had it before.
pub const LATE_COMPLETED: &str = "`completed` of a seeder";

/// opentracker keeps it, with nobody in it.
pub const LEFT_BEHIND: &str = "a torrent that all have left";

/// opentracker's refusal is half a datagram.
pub const REFUSED_DATAGRAM: &str = "a refusal over UDP";

/// opentracker answers with more than it was sent.
pub const SHORT_WITH_WRONG_ID: &str = "a short datagram with a wrong connection id";

/// opentracker reads the rest of a hash from what was in its buffer.
pub const HALF_A_HASH: &str = "half a hash in a scrape over UDP";

/// Debian's version says HTTP/1.0 before some statistics; 1.0 says 1.1.
pub const STATISTICS_HEAD: &str = "the version of HTTP before statistics";

/// Debian's version ignores it; 1.0 does not.
pub const STATISTICS_WITH_HASH: &str = "an `info_hash` at the statistics";

/// Debian's version sends it in one piece, 1.0 in chunks.
pub const FULL_SCRAPE: &str = "the head of a full scrape";

/// All of them.
pub const DIFFERENCES: &[&str] = &[
    OWN,
    SEEDERS,
    EMPTY_PEERS,
    NO_PORT,
    NEGATIVE_PORT,
    LATE_COMPLETED,
    LEFT_BEHIND,
    REFUSED_DATAGRAM,
    SHORT_WITH_WRONG_ID,
    HALF_A_HASH,
    STATISTICS_HEAD,
    STATISTICS_WITH_HASH,
    FULL_SCRAPE,
];

/// Which of them an aspect is, if any.
pub fn explain(step: &Step, aspect: &Aspect) -> Option<&'static str> {
    match aspect.what.as_str() {
        OWN_ADDRESS => Some(OWN),
        PEERS_OF_SEEDER => Some(SEEDERS),
        NO_PEERS => Some(EMPTY_PEERS),
        what => step.difference.filter(|difference| match *difference {
            // What follows is the same.
            STATISTICS_HEAD => what == "status",
            FULL_SCRAPE => ["status", "headers"].contains(&what),
            _ => true,
        }),
    }
}
