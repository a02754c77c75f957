//! What is told shard by shard: how evenly they are loaded, how they work
//! together, how much room each has, and whether each answers.

use super::Report;
use super::writer::Writer;
use crate::bittorrent::AddressFamily;
use crate::control::report::cap;
use crate::shard::stats::{Protocol, ShardStats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use std::fmt::{Error, Result};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Shards(pub Arc<Report>);

impl Collector for Shards {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::result::Result<(), Error> {
        let mut out = Writer(encoder);
        self.lanes(&mut out)?;
        self.room(&mut out)?;
        let names = self.names();
        let help = "Time since the shard's loop last ticked, which it does ten times a second.";
        let mut family = out.gauges("shard_tick_age", help, Some(&Unit::Seconds))?;
        for (name, stats) in names.iter().zip(&self.0.shards) {
            let (since, _) = stats.since_tick(self.0.uptime);
            family.gauge_of(&[("shard", name)], since.as_secs_f64())?;
        }
        Ok(())
    }
}

impl Shards {
    fn names(&self) -> Vec<String> {
        let numbers = 0..self.0.shards.len();
        numbers.map(|shard| shard.to_string()).collect()
    }

    /// How shards work together.
    fn lanes(&self, out: &mut Writer<'_>) -> Result {
        let names = self.names();
        let named = || names.iter().map(String::as_str).zip(&self.0.shards);
        let help = "Requests that a shard's own sockets received.";
        let mut family = out.counters("shard_requests", help)?;
        for (name, stats) in named() {
            family.counter(&[("shard", name)], stats.all_requests())?;
        }
        let help = "Requests that a shard handed on to the owner of their info hash.";
        let mut family = out.counters("cross_shard_requests", help)?;
        for protocol in Protocol::ALL {
            for (name, stats) in named() {
                let labels = [("protocol", protocol.name()), ("shard", name)];
                family.counter(&labels, stats.cross_shard_requests(protocol).get())?;
            }
        }
        let mut family = out.counters("wakeups", "Times a shard woke another that slept.")?;
        for (name, stats) in named() {
            family.counter(&[("shard", name)], stats.wakeups.get())?;
        }
        let help = "Requests of other shards that waited at the last drain.";
        let mut family = out.gauges("lane_depth", help, None)?;
        for (name, stats) in named() {
            family.gauge(&[("shard", name)], stats.lane_depth.get())?;
        }
        let help = "The most requests of other shards that ever waited at a drain.";
        let mut family = out.gauges("lane_depth_max", help, None)?;
        for (name, stats) in named() {
            family.gauge(&[("shard", name)], stats.lane_depth_max.get())?;
        }
        Ok(())
    }

    /// What each shard holds, and what it may hold.
    fn room(&self, out: &mut Writer<'_>) -> Result {
        type Read = fn(&ShardStats) -> u64;
        let gauges: [(&str, &str, Option<&Unit>, Read); 5] = [
            ("shard_peers", "Peers that a shard stores now.", None, peers),
            (
                "shard_peers_max",
                "Peers that a shard may store, its part of max_peers; 0 without a cap.",
                None,
                |stats| cap(&stats.max_peers).unwrap_or(0),
            ),
            (
                "shard_swarms",
                "Swarms that a shard stores now.",
                None,
                swarms,
            ),
            (
                "shard_swarms_max",
                "Swarms that a shard may store, its part of max_swarms; 0 without a cap.",
                None,
                |stats| cap(&stats.max_swarms).unwrap_or(0),
            ),
            (
                "shard_store",
                "Memory that a shard's swarms take now.",
                Some(&Unit::Bytes),
                |stats| stats.store_bytes.get(),
            ),
        ];
        let names = self.names();
        for (name, help, unit, read) in gauges {
            let mut family = out.gauges(name, help, unit)?;
            for (name, stats) in names.iter().zip(&self.0.shards) {
                family.gauge(&[("shard", name)], read(stats))?;
            }
        }
        Ok(())
    }
}

fn peers(stats: &ShardStats) -> u64 {
    let families = AddressFamily::ALL.into_iter();
    let peers = families.map(|family| {
        let counts = stats.family(family);
        counts.seeders.get() + counts.leechers.get()
    });
    peers.sum()
}

fn swarms(stats: &ShardStats) -> u64 {
    let families = AddressFamily::ALL.into_iter();
    families
        .map(|family| stats.family(family).swarms.get())
        .sum()
}
