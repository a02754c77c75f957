//! How long the HTTP frontend's replies took.

use super::HttpFrontend;
use crate::bittorrent::AddressFamily;
use crate::frontend::late::{self, LateReply};
use crate::shard::responses::FailureClass;
use crate::shard::stats::{Action, Outcome, Protocol};
use std::time::Duration;

impl HttpFrontend {
    /// Measures what was answered since the last call to requests that arrived
    /// when the turn began: see [`ShardStats::answered`](crate::shard::stats::ShardStats::answered).
    pub fn measure(&mut self, took: Duration) {
        for family in AddressFamily::ALL {
            self.stats.answered(Protocol::Http, family, took);
        }
    }

    /// Measures what was answered by [`HttpFrontend::answer`], each from its
    /// own arrival. To be called before [`HttpFrontend::measure`].
    pub fn measure_late(&mut self, now: Duration) {
        late::measure(&mut self.late, &self.stats, Protocol::Http, now);
    }

    /// Counts requests of a connection, their bytes and those of answers, for
    /// its listener; as they are inside TLS.
    pub(super) fn note_requests(&self, at: usize, requests: u64, bytes: usize, answers: usize) {
        let number = self.connections[at].listener;
        if let Some(listener) = self.stats.listener(Protocol::Http, number) {
            listener.requests.add(requests);
            listener.bytes_in.add(bytes as u64);
            listener.bytes_out.add(answers as u64);
        }
    }

    /// Counts a reply to a request that waited for another shard.
    pub(super) fn answered_late(
        &mut self,
        arrived: Duration,
        action: Action,
        family: AddressFamily,
        failure: Option<FailureClass>,
    ) {
        match failure {
            None => self
                .stats
                .reply(Protocol::Http, action, family, Outcome::Ok),
            Some(class) => self.stats.refused(Protocol::Http, action, family, class),
        }
        self.late.push(LateReply {
            arrived,
            action,
            family,
            failure,
        });
    }
}
