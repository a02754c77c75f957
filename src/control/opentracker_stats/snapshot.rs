//! The numbers of the whole tracker at one moment, as opentracker counts them:
//! plain values, so that rendering needs nothing else.

use crate::bittorrent::AddressFamily;
use crate::shard::opentracker_counters::{HttpError, RENEWAL_MINUTES};
use crate::shard::stats::{Action, DropReason, Outcome, Protocol, ShardStats};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// All that the statistics show, but for walks over every torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Random at each start.
    pub tracker_id: u32,
    /// The program and its version.
    pub version: String,
    /// Since the start.
    pub uptime_seconds: u64,
    /// Torrents, those without peers included; one with peers of both address
    /// families counts once.
    pub torrents: u64,
    /// Peers, seeders included.
    pub peers: u64,
    /// Seeders.
    pub seeds: u64,
    /// Downloads since the start.
    pub completed: u64,
    /// HTTP connections accepted.
    pub tcp_accepts: u64,
    /// Announces answered over HTTP.
    pub tcp_announces: u64,
    /// Scrapes answered over HTTP.
    pub tcp_scrapes: u64,
    /// Datagrams.
    pub udp_packets: u64,
    /// Connects answered.
    pub udp_connects: u64,
    /// Announces answered over UDP.
    pub udp_announces: u64,
    /// Scrapes answered over UDP.
    pub udp_scrapes: u64,
    /// Datagrams with a connection id that is not their source's.
    pub udp_mismatches: u64,
    /// Peers that came from other instances.
    pub livesyncs: u64,
    /// Announces by the minutes since the same peer's last.
    pub renewals: [u64; RENEWAL_MINUTES],
    /// HTTP errors in the order of [`HttpError::ALL`].
    pub http_errors: [u64; HttpError::ALL.len()],
    /// Requests that were dropped because another shard had too much to do:
    /// what comes closest to waiting for a lock.
    pub stalls: u64,
    /// Full scrapes and dumps that were sent to their end.
    pub full_scrapes: u64,
    /// Bytes sent for full scrapes and dumps.
    pub full_scrape_bytes: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            tracker_id: 0,
            version: String::new(),
            uptime_seconds: 0,
            torrents: 0,
            peers: 0,
            seeds: 0,
            completed: 0,
            tcp_accepts: 0,
            tcp_announces: 0,
            tcp_scrapes: 0,
            udp_packets: 0,
            udp_connects: 0,
            udp_announces: 0,
            udp_scrapes: 0,
            udp_mismatches: 0,
            livesyncs: 0,
            renewals: [0; RENEWAL_MINUTES],
            http_errors: [0; HttpError::ALL.len()],
            stalls: 0,
            full_scrapes: 0,
            full_scrape_bytes: 0,
        }
    }
}

impl Snapshot {
    /// Sums over shards and what control threads have counted. The identity
    /// and the time are left to the caller.
    #[must_use]
    pub fn take(shards: &[Arc<ShardStats>], own: &OwnCounters) -> Self {
        let mut taken = Self {
            http_errors: own.http_errors.each_ref().map(|count| count.load(Relaxed)),
            full_scrapes: own.full_scrapes.load(Relaxed),
            full_scrape_bytes: own.full_scrape_bytes.load(Relaxed),
            ..Self::default()
        };
        for stats in shards {
            taken.add(stats);
        }
        taken
    }

    fn add(&mut self, stats: &ShardStats) {
        let counters = &stats.opentracker;
        for family in AddressFamily::ALL {
            let gauges = stats.family(family);
            let (seeders, leechers) = (gauges.seeders.get(), gauges.leechers.get());
            self.torrents += gauges.swarms.get();
            self.seeds += seeders;
            self.peers += seeders + leechers;
            let answered = |protocol, action| {
                let replies = stats.replies(protocol, action, family, Outcome::Ok);
                replies.get()
            };
            self.tcp_announces += answered(Protocol::Http, Action::Announce);
            self.tcp_scrapes += answered(Protocol::Http, Action::Scrape);
            self.udp_connects += answered(Protocol::Udp, Action::Connect);
            self.udp_announces += answered(Protocol::Udp, Action::Announce);
            self.udp_scrapes += answered(Protocol::Udp, Action::Scrape);
            for action in Action::ALL {
                self.udp_packets += stats.requests(Protocol::Udp, action, family).get();
            }
        }
        let twice = counters.swarms_in_both_families.get();
        self.torrents = self.torrents.saturating_sub(twice);
        self.completed += counters.downloads.get();
        self.tcp_accepts += stats.connections_accepted.get();
        self.udp_mismatches += counters.connection_id_mismatches.get();
        for protocol in Protocol::ALL {
            self.stalls += stats.drops(protocol, DropReason::LaneFull).get();
        }
        for (sum, count) in self.renewals.iter_mut().zip(counters.renewals()) {
            *sum += count;
        }
        for (sum, count) in self.http_errors.iter_mut().zip(counters.http_errors()) {
            *sum += count;
        }
    }
}

/// What control threads count themselves; several may at once.
#[derive(Debug, Default)]
pub struct OwnCounters {
    http_errors: [AtomicU64; HttpError::ALL.len()],
    full_scrapes: AtomicU64,
    full_scrape_bytes: AtomicU64,
}

impl OwnCounters {
    /// Counts one answer that was an error.
    pub fn http_error(&self, error: HttpError) {
        self.http_errors[error as usize].fetch_add(1, Relaxed);
    }

    /// Counts one dump and the bytes of it.
    pub fn full_scrape(&self, complete: bool, bytes: u64) {
        self.full_scrapes.fetch_add(u64::from(complete), Relaxed);
        self.full_scrape_bytes.fetch_add(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_shards() {
        let shards: Vec<_> = (0..2).map(|_| Arc::new(ShardStats::default())).collect();
        for (at, stats) in shards.iter().enumerate() {
            let at = at as u64 + 1;
            for family in AddressFamily::ALL {
                stats.family(family).swarms.set(10 * at);
                stats.family(family).seeders.set(2);
                stats.family(family).leechers.set(3);
                stats
                    .replies(Protocol::Udp, Action::Announce, family, Outcome::Ok)
                    .add(5);
                stats.requests(Protocol::Udp, Action::Other, family).add(7);
            }
            stats.opentracker.swarms_in_both_families.set(4);
            stats.opentracker.downloads.set(6);
            stats.opentracker.renewed(61);
            stats.opentracker.http_error(HttpError::NotFound);
            stats.dropped(Protocol::Http, DropReason::LaneFull);
        }
        let own = OwnCounters::default();
        own.http_error(HttpError::NotFound);
        own.full_scrape(true, 100);
        own.full_scrape(false, 10);
        let taken = Snapshot::take(&shards, &own);
        assert_eq!((taken.torrents, taken.peers, taken.seeds), (52, 20, 8));
        assert_eq!((taken.udp_announces, taken.udp_packets), (20, 28));
        assert_eq!((taken.completed, taken.stalls), (12, 2));
        assert_eq!((taken.renewals[1], taken.http_errors[7]), (2, 3));
        assert_eq!((taken.full_scrapes, taken.full_scrape_bytes), (1, 110));
    }
}
