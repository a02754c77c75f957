//! What the UDP frontend counts and measures besides each request.

use super::{UdpClient, UdpFrontend};
use crate::bittorrent::AddressFamily;
use crate::frontend::late::{self, LateReply};
use crate::shard::stats::{Action, Outcome, Protocol};
use std::time::Duration;

impl UdpFrontend {
    /// Measures what [`UdpFrontend::serve`] has answered on this socket since
    /// the last call: see [`ShardStats::answered`](crate::shard::stats::ShardStats::answered).
    #[inline]
    pub fn measure(&mut self, endpoint: usize, took: Duration) {
        let family = self.endpoints[endpoint].family;
        self.stats.answered(Protocol::Udp, family, took);
    }

    /// Measures what [`UdpFrontend::answer`] has answered and
    /// [`UdpFrontend::flush_all`] has sent, each from its own arrival.
    pub fn measure_late(&mut self, now: Duration) {
        late::measure(&mut self.late, &self.stats, Protocol::Udp, now);
    }

    /// Counts a batch that was received.
    #[inline]
    pub(super) fn note_batch(&self, endpoint: usize, count: usize) {
        self.stats.batch(count);
        if let Some(listener) = self.stats.listener(Protocol::Udp, endpoint) {
            listener.arrivals.add(count as u64);
            listener.bytes_in.add(self.inbox.bytes());
        }
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
