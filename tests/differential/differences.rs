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

/// opentracker's refusal is half a datagram.
pub const REFUSED_DATAGRAM: &str = "a refusal over UDP";

/// opentracker answers with more than it was sent.
pub const SHORT_WITH_WRONG_ID: &str = "a short datagram with a wrong connection id";

/// opentracker reads the rest of a hash from what was in its buffer.
pub const HALF_A_HASH: &str = "half a hash in a scrape over UDP";

/// opentracker does not ask for the version of HTTP.
pub const NO_VERSION: &str = "a request without a version of HTTP";

/// All of them.
pub const DIFFERENCES: &[&str] = &[
    OWN,
    SEEDERS,
    EMPTY_PEERS,
    NO_PORT,
    NEGATIVE_PORT,
    LATE_COMPLETED,
    REFUSED_DATAGRAM,
    SHORT_WITH_WRONG_ID,
    HALF_A_HASH,
    NO_VERSION,
];

/// Which of them an aspect is, if any.
pub fn explain(step: &Step, aspect: &Aspect) -> Option<&'static str> {
    match aspect.what.as_str() {
        OWN_ADDRESS => Some(OWN),
        PEERS_OF_SEEDER => Some(SEEDERS),
        NO_PEERS => Some(EMPTY_PEERS),
        _ => step.difference,
    }
}
