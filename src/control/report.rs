//! What is told of a running tracker at one moment: the source of the metrics,
//! of `/stats.json`, of the page and of the health checks.
//!
//! Made from what shards have published and what the kernel tells of the
//! process; nothing here asks a shard anything.

use super::reloads::Reloads;
use crate::runtime::clock::Clock;
use crate::shard::clients::{ClientId, MAX_CLIENTS};
use crate::shard::stats::{Gauge, Protocol, ShardStats};
use crate::state::StateStats;
use crate::sys::process::{ProcessFiles, ProcessReport};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long ago a shard's last tick may be before it counts as one that does
/// not answer. It ticks ten times a second.
pub const TICK_PATIENCE: Duration = Duration::from_secs(2);

/// Makes reports.
#[derive(Debug)]
pub struct Reporter {
    shards: Vec<Arc<ShardStats>>,
    reloads: Arc<Reloads>,
    state: Arc<StateStats>,
    clock: Clock,
    process: Option<ProcessFiles>,
}

impl Reporter {
    /// On these shards, by their clock, and on the reloads and saves of state
    /// that are counted here.
    #[must_use]
    pub fn new(
        process: io::Result<ProcessFiles>,
        shards: Vec<Arc<ShardStats>>,
        reloads: Arc<Reloads>,
        state: Arc<StateStats>,
        clock: Clock,
    ) -> Self {
        if let Err(error) = &process {
            log::warn!("/proc cannot be read ({error}): metrics of the process are left out");
        }
        Self {
            shards,
            reloads,
            state,
            clock,
            process: process.ok(),
        }
    }

    /// A report on this moment.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            uptime: self.clock.elapsed(),
            shards: self.shards.clone(),
            reloads: self.reloads.clone(),
            state: self.state.clone(),
            process: self.process.as_ref().and_then(|files| files.read().ok()),
        }
    }
}

/// What is known at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// This program's version.
    pub version: &'static str,
    /// Time since it started.
    pub uptime: Duration,
    /// What each shard has published.
    pub shards: Vec<Arc<ShardStats>>,
    /// Reloads of the configuration.
    pub reloads: Arc<Reloads>,
    /// Saves of the swarms to a file.
    pub state: Arc<StateStats>,
    /// What the kernel tells; `None` without `/proc`.
    pub process: Option<ProcessReport>,
}

impl Report {
    /// Adds up one value of every shard.
    pub fn sum(&self, value: impl Fn(&ShardStats) -> u64) -> u64 {
        self.shards.iter().map(|stats| value(stats)).sum()
    }

    /// The numbers of the shards that do not answer: whose last tick is older
    /// than [`TICK_PATIENCE`], or which have not ticked yet.
    #[must_use]
    pub fn silent_shards(&self) -> Vec<usize> {
        let shards = self.shards.iter().enumerate();
        let silent = shards.filter(|(_, stats)| {
            let (since, ever) = stats.since_tick(self.uptime);
            !ever || since > TICK_PATIENCE
        });
        silent.map(|(shard, _)| shard).collect()
    }

    /// How often each client has started, by its id, the most frequent first;
    /// at most [`MAX_CLIENTS`], the rest and those without an id as `other` at
    /// the end. `None` if clients never were counted.
    #[must_use]
    pub fn clients(&self) -> Option<Vec<(String, u64)>> {
        let mut sums = BTreeMap::<ClientId, u64>::new();
        let mut other = 0;
        let mut any = false;
        for table in self.shards.iter().filter_map(|stats| stats.known_clients()) {
            any = true;
            other += table.other();
            for (id, count) in table.counts() {
                *sums.entry(id).or_default() += count;
            }
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|&(_, count)| Reverse(count));
        let rest = sums.split_off(sums.len().min(MAX_CLIENTS));
        other += rest.iter().map(|(_, count)| count).sum::<u64>();
        let named = sums.into_iter().map(|(id, count)| (id.to_string(), count));
        let other = ("other".to_owned(), other);
        any.then(|| named.chain([other]).collect())
    }

    /// The listeners of a protocol with what their sockets on all shards have
    /// counted together.
    #[must_use]
    pub fn listeners(&self, protocol: Protocol) -> Vec<Listener> {
        let first = self.shards.first();
        let numbers = 0..first.map_or(0, |stats| stats.listeners(protocol).len());
        let listener = |number| {
            let all = self
                .shards
                .iter()
                .filter_map(|stats| stats.listener(protocol, number));
            let address = all.clone().next()?.address.clone();
            Some(all.fold(Listener::new(address), |mut sum, stats| {
                sum.arrivals += stats.arrivals.get();
                sum.departures += stats.departures.get();
                sum.overflows += stats.overflows.get();
                sum.requests += stats.requests.get();
                sum.bytes_in += stats.bytes_in.get();
                sum.bytes_out += stats.bytes_out.get();
                sum
            }))
        };
        numbers.filter_map(listener).collect()
    }
}

/// What one listener has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens: an address, or the name of a network interface.
    pub address: String,
    /// Datagrams received, or connections accepted.
    pub arrivals: u64,
    /// Datagrams sent (UDP).
    pub departures: u64,
    /// Datagrams that the kernel had no room for (UDP).
    pub overflows: u64,
    /// Requests that came through the connections (HTTP).
    pub requests: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
}

impl Listener {
    const fn new(address: String) -> Self {
        Self {
            address,
            arrivals: 0,
            departures: 0,
            overflows: 0,
            requests: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }
}

/// How much a shard may hold; `None` without a cap.
#[must_use]
pub fn cap(most: &Gauge) -> Option<u64> {
    Some(most.get()).filter(|&most| most < u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_whose_tick_is_old_is_named() {
        let shards: Vec<Arc<ShardStats>> = (0..3).map(|_| Arc::default()).collect();
        let mut report = Report {
            version: "1.2.3",
            uptime: Duration::from_secs(100),
            shards,
            process: None,
            reloads: Arc::default(),
            state: Arc::default(),
        };
        assert_eq!(report.silent_shards(), [0, 1, 2], "none has ticked yet");
        for stats in &report.shards {
            stats.ticked(report.uptime);
        }
        assert!(report.silent_shards().is_empty());
        report.uptime += TICK_PATIENCE;
        assert!(report.silent_shards().is_empty());
        report.shards[0].ticked(report.uptime);
        report.shards[2].ticked(report.uptime);
        report.uptime += Duration::from_millis(1);
        assert_eq!(report.silent_shards(), [1]);
    }

    #[test]
    fn the_sockets_of_an_address_make_one_listener() {
        let [first, second] = ["127.0.0.1:1", "eth0"];
        let stats = || ShardStats::new::<_, &str>(&[first, second], &[]);
        let shards: Vec<_> = (0..2).map(|_| Arc::new(stats())).collect();
        for (number, stats) in shards.iter().enumerate() {
            let listener = stats.listener(Protocol::Udp, 1).expect("a listener");
            listener.arrivals.add(1 + number as u64);
            listener.bytes_out.add(10);
        }
        let report = Report {
            version: "1.2.3",
            uptime: Duration::ZERO,
            shards,
            process: None,
            reloads: Arc::default(),
            state: Arc::default(),
        };
        let expected = Listener {
            arrivals: 3,
            bytes_out: 20,
            ..Listener::new(second.to_owned())
        };
        let listeners = report.listeners(Protocol::Udp);
        assert_eq!(listeners, [Listener::new(first.to_owned()), expected]);
        assert_eq!(report.listeners(Protocol::Http), []);
    }
}
