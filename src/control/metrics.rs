//! The shards' counters as text for Prometheus (OpenMetrics 1.0).
//!
//! Most series are sums over the shards; those that show how evenly shards are
//! loaded, or how they work together, have a label `shard`. Series are there
//! from the start, with zeros, so that dashboards and alerts see them. Every
//! label has a fixed set of values: nothing a client sends becomes a label.
//!
//! How the text is served is `metrics_server`'s matter.

use super::reloads::Reloads;
use crate::bittorrent::AddressFamily;
use crate::hook::HookKind;
use crate::shard::stats::{
    Action, DropReason, Handshake, Outcome, Protocol, Refusal, SWEEP_BUCKETS_MILLISECONDS,
    ShardStats,
};
use crate::state::StateStats;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// The media type of what [`encode`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes everything, with names that begin with `karuta_`.
///
/// `version` is this program's, `uptime` the time since it started.
#[must_use]
pub fn encode(
    stats: &[Arc<ShardStats>],
    reloads: &Arc<Reloads>,
    state: &Arc<StateStats>,
    version: &'static str,
    uptime: Duration,
) -> String {
    let mut registry = Registry::with_prefix("karuta");
    registry.register_collector(Box::new(Snapshot {
        shards: stats.to_vec(),
        reloads: reloads.clone(),
        state: state.clone(),
        version,
        uptime,
    }));
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

/// What one scrape reports on.
#[derive(Debug)]
struct Snapshot {
    shards: Vec<Arc<ShardStats>>,
    reloads: Arc<Reloads>,
    state: Arc<StateStats>,
    version: &'static str,
    uptime: Duration,
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::result::Result<(), Error> {
        let mut out = Writer(encoder);
        self.process(&mut out)?;
        self.reloads(&mut out)?;
        self.requests(&mut out)?;
        self.hooks(&mut out)?;
        self.swarms(&mut out)?;
        self.connections(&mut out)?;
        self.shards(&mut out)?;
        self.sweep(&mut out)?;
        self.state(&mut out)
    }
}

impl Snapshot {
    /// Adds up one value of every shard.
    fn sum(&self, value: impl Fn(&ShardStats) -> u64) -> u64 {
        self.shards.iter().map(|stats| value(stats)).sum()
    }

    fn process(&self, out: &mut Writer<'_>) -> Result {
        out.0
            .encode_descriptor("build", "The program.", None, MetricType::Info)?
            .encode_info(&[("version", self.version)])?;
        let mut uptime = out.0.encode_descriptor(
            "uptime",
            "Time since the program started.",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        uptime.encode_gauge(&self.uptime.as_secs_f64())?;
        out.gauge("shards", "Shards that run.", None, self.shards.len() as u64)
    }

    fn reloads(&self, out: &mut Writer<'_>) -> Result {
        let mut family = out.counters("reloads", "Reloads of the configuration, by result.")?;
        for (result, count) in self.reloads.counts() {
            family.counter(&[("result", result)], count)?;
        }
        let help = "When the configuration that runs was read, since 1970.";
        let time = self.reloads.last_success_unix_seconds();
        let name = "last_reload_success_timestamp";
        out.gauge(name, help, Some(&Unit::Seconds), time)
    }

    fn requests(&self, out: &mut Writer<'_>) -> Result {
        let mut family = out.counters("requests", "Requests that were understood.")?;
        for (protocol, action, address_family) in kinds() {
            let labels = kind_labels(protocol, action, address_family);
            let value = self.sum(|stats| stats.requests(protocol, action, address_family).get());
            family.counter(&labels, value)?;
        }
        let mut family = out.counters("replies", "Replies that were sent, by outcome.")?;
        for (protocol, action, address_family) in kinds() {
            for outcome in Outcome::ALL {
                let [a, b, c] = kind_labels(protocol, action, address_family);
                let labels = [a, b, c, ("outcome", outcome.name())];
                let value = self.sum(|stats| {
                    stats
                        .replies(protocol, action, address_family, outcome)
                        .get()
                });
                family.counter(&labels, value)?;
            }
        }
        let help = "Requests, replies and connections given up, by reason.";
        let mut family = out.counters("drops", help)?;
        for protocol in Protocol::ALL {
            for reason in DropReason::ALL {
                let labels = [("protocol", protocol.name()), ("reason", reason.name())];
                let value = self.sum(|stats| stats.drops(protocol, reason).get());
                family.counter(&labels, value)?;
            }
        }
        Ok(())
    }

    fn hooks(&self, out: &mut Writer<'_>) -> Result {
        let mut family = out.counters("hook_refusals", "Requests that a hook refused.")?;
        for hook in HookKind::ALL {
            for refusal in Refusal::ALL {
                let labels = [("hook", hook.name()), ("refusal", refusal.name())];
                let value = self.sum(|stats| stats.hook_refusals(*hook, refusal).get());
                family.counter(&labels, value)?;
            }
        }
        let lost = self.sum(|stats| stats.hook_events_lost.get());
        let help = "Events for posthooks that were lost for want of room.";
        out.counter("hook_events_lost", help, None, lost)
    }

    fn swarms(&self, out: &mut Writer<'_>) -> Result {
        type Read = fn(&ShardStats, AddressFamily) -> u64;
        let gauges: [(&str, &str, Read); 3] = [
            ("swarms", "Swarms known now.", |stats, family| {
                stats.family(family).swarms.get()
            }),
            ("seeders", "Seeders known now.", |stats, family| {
                stats.family(family).seeders.get()
            }),
            ("leechers", "Leechers known now.", |stats, family| {
                stats.family(family).leechers.get()
            }),
        ];
        for (name, help, read) in gauges {
            let encoder = out
                .0
                .encode_descriptor(name, help, None, MetricType::Gauge)?;
            let mut family = Family(encoder);
            for address_family in AddressFamily::ALL {
                let labels = [("address_family", address_family.name())];
                family.gauge(&labels, self.sum(|stats| read(stats, address_family)))?;
            }
        }
        let bytes = self.sum(|stats| stats.store_bytes.get());
        out.gauge(
            "store",
            "Memory that swarms take now.",
            Some(&Unit::Bytes),
            bytes,
        )?;
        let peers = self.sum(|stats| stats.peers_not_stored.get());
        let help = "Announces whose peer was not kept: storage is full.";
        out.counter("peers_not_stored", help, None, peers)?;
        let swarms = self.sum(|stats| stats.swarms_not_stored.get());
        let help = "Announces whose swarm was not kept: storage is full.";
        out.counter("swarms_not_stored", help, None, swarms)
    }

    fn connections(&self, out: &mut Writer<'_>) -> Result {
        let open = self.sum(|stats| stats.connections_open.get());
        out.gauge("connections_open", "HTTP connections open now.", None, open)?;
        let accepted = self.sum(|stats| stats.connections_accepted.get());
        out.counter(
            "connections_accepted",
            "HTTP connections accepted.",
            None,
            accepted,
        )?;
        let mut family = out.counters("tls_handshakes", "TLS handshakes, by result.")?;
        for result in Handshake::ALL {
            let value = self.sum(|stats| stats.handshakes(result).get());
            family.counter(&[("result", result.name())], value)?;
        }
        let mut expiry = out.0.encode_descriptor(
            "tls_certificate_expiry_timestamp",
            "When the certificate expires, in Unix time; absent without HTTPS.",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        match self.sum(|stats| stats.certificate_expiry.get()) {
            0 => Ok(()),
            seconds => expiry.encode_gauge(&as_gauge(seconds)),
        }
    }

    /// What is told shard by shard.
    fn shards(&self, out: &mut Writer<'_>) -> Result {
        let names: Vec<String> = (0..self.shards.len())
            .map(|shard| shard.to_string())
            .collect();
        let named = || names.iter().map(String::as_str).zip(&self.shards);

        let help = "Requests that a shard's own sockets received.";
        let mut family = out.counters("shard_requests", help)?;
        for (name, stats) in named() {
            let requests = kinds().map(|(protocol, action, address_family)| {
                stats.requests(protocol, action, address_family).get()
            });
            family.counter(&[("shard", name)], requests.sum())?;
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
        let encoder = out
            .0
            .encode_descriptor("lane_depth", help, None, MetricType::Gauge)?;
        let mut family = Family(encoder);
        for (name, stats) in named() {
            family.gauge(&[("shard", name)], stats.lane_depth.get())?;
        }
        let help = "The most requests of other shards that ever waited at a drain.";
        let encoder = out
            .0
            .encode_descriptor("lane_depth_max", help, None, MetricType::Gauge)?;
        let mut family = Family(encoder);
        for (name, stats) in named() {
            family.gauge(&[("shard", name)], stats.lane_depth_max.get())?;
        }
        Ok(())
    }

    fn sweep(&self, out: &mut Writer<'_>) -> Result {
        let expired = self.sum(|stats| stats.sweep.expired_peers.get());
        let help = "Peers removed because they were silent for too long.";
        out.counter("expired_peers", help, None, expired)?;
        let slices = self.sum(|stats| stats.sweep.slices.get());
        out.counter(
            "sweep_slices",
            "Slices of sweeps for expired peers.",
            None,
            slices,
        )?;
        let nanoseconds = self.sum(|stats| stats.sweep.nanoseconds.get());
        let seconds = out.0.encode_descriptor(
            "sweep",
            "Time spent in sweeps for expired peers.",
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?;
        ConstCounter::new(nanoseconds as f64 / 1e9).encode(seconds)?;

        let bounds = SWEEP_BUCKETS_MILLISECONDS
            .into_iter()
            .chain([f64::INFINITY]);
        let mut buckets: Vec<(f64, u64)> = bounds.map(|bound| (bound, 0)).collect();
        let mut milliseconds = 0.0;
        for stats in &self.shards {
            milliseconds += stats.sweep.pass_milliseconds();
            for (bucket, passes) in buckets.iter_mut().zip(stats.sweep.passes()) {
                bucket.1 += passes;
            }
        }
        let count = buckets.iter().map(|(_, passes)| passes).sum();
        let unit = Unit::Other("milliseconds".to_owned());
        let mut histogram = out.0.encode_descriptor(
            "sweep_duration",
            "Time that one sweep over everything a shard holds took, without its pauses.",
            Some(&unit),
            MetricType::Histogram,
        )?;
        histogram.encode_histogram::<NoLabelSet>(milliseconds, count, &buckets, None)
    }

    fn state(&self, out: &mut Writer<'_>) -> Result {
        let seconds = &Unit::Seconds;
        let help = "When the state was saved last, in seconds since 1970; 0: never.";
        let saved = self.state.last_saved_unix_seconds();
        out.gauge("state_last_saved_timestamp", help, Some(seconds), saved)?;
        let help = "Time that the last save of the state took.";
        let mut took =
            out.0
                .encode_descriptor("state_save", help, Some(seconds), MetricType::Gauge)?;
        took.encode_gauge(&self.state.save_duration().as_secs_f64())?;
        let help = "Saves of the state that failed.";
        let failures = self.state.save_failures();
        out.counter("state_save_failures", help, None, failures)
    }
}

/// Every combination of labels that a request can have.
fn kinds() -> impl Iterator<Item = (Protocol, Action, AddressFamily)> {
    Protocol::ALL
        .into_iter()
        .flat_map(|protocol| Action::ALL.map(|action| (protocol, action)))
        // HTTP has no connect.
        .filter(|kind| *kind != (Protocol::Http, Action::Connect))
        .flat_map(|(protocol, action)| AddressFamily::ALL.map(|family| (protocol, action, family)))
}

/// A label's name and value.
type Label<'a> = (&'static str, &'a str);

fn kind_labels(protocol: Protocol, action: Action, family: AddressFamily) -> [Label<'static>; 3] {
    [
        ("protocol", protocol.name()),
        ("action", action.name()),
        ("address_family", family.name()),
    ]
}

/// Writes metrics that have one value, and begins those that have more.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn counters<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
    ) -> std::result::Result<Family<'s>, Error> {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        Ok(Family(encoder))
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(as_gauge(value)).encode(encoder)
    }
}

/// Writes the values of one metric.
struct Family<'a>(MetricEncoder<'a>);

impl Family<'_> {
    fn counter(&mut self, labels: &[Label<'_>], value: u64) -> Result {
        ConstCounter::new(value).encode(self.0.encode_family(&labels)?)
    }

    fn gauge(&mut self, labels: &[Label<'_>], value: u64) -> Result {
        ConstGauge::new(as_gauge(value)).encode(self.0.encode_family(&labels)?)
    }
}

/// The encoder has no unsigned gauge.
fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
