//! Replies to requests that waited for another shard: each is measured from
//! its own arrival, not from the beginning of the turn that sends it.

use crate::bittorrent::AddressFamily;
use crate::shard::responses::FailureClass;
use crate::shard::stats::{Action, Protocol, ShardStats};
use std::time::Duration;

/// A reply that was made in this turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct LateReply {
    /// When its request came, since the start.
    pub arrived: Duration,
    pub action: Action,
    pub family: AddressFamily,
    /// Why it says no, if it does.
    pub failure: Option<FailureClass>,
}

/// Measures the replies that were made in this turn, and forgets them. `now`
/// is when the last of them was sent.
pub(super) fn measure(
    replies: &mut Vec<LateReply>,
    stats: &ShardStats,
    protocol: Protocol,
    now: Duration,
) {
    let times = stats.response_times(protocol);
    for reply in replies.drain(..) {
        let took = now.saturating_sub(reply.arrived);
        times.measure_late(reply.action, reply.family, reply.failure, took);
    }
}
