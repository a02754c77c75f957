//! What the UDP frontend counts and measures besides each request.

use super::link::Link;
use super::{UdpClient, UdpFrontend};
use crate::bittorrent::AddressFamily;
use crate::frontend::late::{self, LateReply};
use crate::shard::stats::{Action, Outcome, Protocol, ShardStats};
use std::time::Duration;

impl UdpFrontend {
    /// Measures what [`UdpFrontend::serve`] has answered on this endpoint since
    /// the last call: see [`ShardStats::answered`].
    #[inline]
    pub fn measure(&mut self, endpoint: usize, took: Duration) {
        match &self.endpoints[endpoint].link {
            Link::Socket { family, .. } => self.stats.answered(Protocol::Udp, *family, took),
            Link::Frames(_) => {
                for family in AddressFamily::ALL {
                    self.stats.answered(Protocol::Udp, family, took);
                }
            }
        }
    }

    /// Measures what [`UdpFrontend::answer`] has answered and
    /// [`UdpFrontend::flush_all`] has sent, each from its own arrival.
    pub fn measure_late(&mut self, now: Duration) {
        late::measure(&mut self.late, &self.stats, Protocol::Udp, now);
    }

    /// Counts a reply to a request that waited for another shard.
    pub(super) fn answered_late(
        &mut self,
        client: &UdpClient,
        action: Action,
        family: AddressFamily,
    ) {
        self.stats.reply(Protocol::Udp, action, family, Outcome::Ok);
        self.late.push(LateReply {
            arrived: client.arrived,
            action,
            family,
            failure: None,
        });
    }
}

/// Counts a batch that was received.
#[inline]
pub(super) fn note_batch(stats: &ShardStats, listener: usize, count: usize, bytes: u64) {
    stats.batch(count);
    if let Some(listener) = stats.listener(Protocol::Udp, listener) {
        listener.arrivals.add(count as u64);
        listener.bytes_in.add(bytes);
    }
}
