//! The shards' counters as text for Prometheus (OpenMetrics 1.0).
//!
//! Ours begin with `karuta_`; those of Chihaya (`chihaya_`) are told as it tells
//! them, so that its dashboards go on working; what concerns the process
//! (`process_`) is named as Prometheus's own libraries name it.
//!
//! Most series are sums over the shards; those that show how evenly shards are
//! loaded, or how they work together, have a label `shard`. Series are there
//! from the start, with zeros, so that dashboards and alerts see them; only the
//! times of failures appear with the first such failure. Every label has a
//! bounded set of values.
//!
//! How the text is served is `web`'s matter.

mod chihaya;
mod process;
mod shards;
mod writer;

use super::report::{Listener, Report};
use crate::bittorrent::AddressFamily;
use crate::hook::HookKind;
use crate::shard::stats::{
    Action, BATCH_BUCKETS, DropReason, Handshake, Outcome, Protocol, Refusal, ShardStats,
};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::fmt::{Error, Result};
use std::sync::Arc;
use writer::{Label, Writer};

/// The media type of what [`encode`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes everything.
#[must_use]
pub fn encode(report: &Report) -> String {
    let report = Arc::new(report.clone());
    let mut ours = Registry::with_prefix("karuta");
    ours.register_collector(Box::new(Ours(report.clone())));
    ours.register_collector(Box::new(shards::Shards(report.clone())));
    let mut chihaya = Registry::with_prefix("chihaya");
    chihaya.register_collector(Box::new(chihaya::Chihaya(report.clone())));
    let mut process = Registry::with_prefix("process");
    process.register_collector(Box::new(process::Process(report)));
    let mut text = String::new();
    // Writing into a string does not fail.
    for registry in [ours, chihaya, process] {
        let _ = prometheus_client::encoding::text::encode_registry(&mut text, &registry);
    }
    let _ = prometheus_client::encoding::text::encode_eof(&mut text);
    text
}

/// The sums over all shards.
#[derive(Debug)]
struct Ours(Arc<Report>);

impl Collector for Ours {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::result::Result<(), Error> {
        let mut out = Writer(encoder);
        self.program(&mut out)?;
        self.reloads(&mut out)?;
        self.requests(&mut out)?;
        self.hooks(&mut out)?;
        self.swarms(&mut out)?;
        self.connections(&mut out)?;
        self.listeners(&mut out)?;
        self.batches(&mut out)?;
        self.clients(&mut out)?;
        self.sweep(&mut out)?;
        self.state(&mut out)
    }
}

impl Ours {
    /// Adds up one value of every shard.
    fn sum(&self, value: impl Fn(&ShardStats) -> u64) -> u64 {
        self.0.sum(value)
    }

    fn program(&self, out: &mut Writer<'_>) -> Result {
        out.0
            .encode_descriptor("build", "The program.", None, MetricType::Info)?
            .encode_info(&[("version", self.0.version)])?;
        let help = "Time since the program started.";
        let seconds = self.0.uptime.as_secs_f64();
        out.gauge_of("uptime", help, Some(&Unit::Seconds), seconds)?;
        let shards = self.0.shards.len() as u64;
        out.gauge("shards", "Shards that run.", None, shards)
    }

    fn reloads(&self, out: &mut Writer<'_>) -> Result {
        let mut family = out.counters("reloads", "Reloads of the configuration, by result.")?;
        for (result, count) in self.0.reloads.counts() {
            family.counter(&[("result", result)], count)?;
        }
        let help = "When the configuration that runs was read, since 1970.";
        let time = self.0.reloads.last_success_unix_seconds();
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
            let mut family = out.gauges(name, help, None)?;
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
        let help = "When the certificate expires, in Unix time; absent without HTTPS.";
        let name = "tls_certificate_expiry_timestamp";
        let family = out.gauges(name, help, Some(&Unit::Seconds))?;
        match self.sum(|stats| stats.certificate_expiry.get()) {
            0 => Ok(()),
            seconds => family.alone(seconds),
        }
    }

    /// What came and went through each listener.
    fn listeners(&self, out: &mut Writer<'_>) -> Result {
        let listeners = Protocol::ALL.map(|protocol| {
            let listeners = self.0.listeners(protocol).into_iter();
            let named = listeners.map(|listener| (listener.address.clone(), listener));
            named.collect::<Vec<(String, Listener)>>()
        });
        let [udp, http] = &listeners;
        let help = "Datagrams of a UDP listener, received and sent.";
        let mut family = out.counters("listener_datagrams", help)?;
        for (address, listener) in udp {
            let labels = |direction| [("address", address.as_str()), ("direction", direction)];
            family.counter(&labels("in"), listener.arrivals)?;
            family.counter(&labels("out"), listener.departures)?;
        }
        let help = "Datagrams that the kernel dropped as a UDP listener had no room for more.";
        let mut family = out.counters("listener_overflows", help)?;
        for (address, listener) in udp {
            family.counter(&[("address", address)], listener.overflows)?;
        }
        let help = "Connections that an HTTP listener accepted.";
        let mut family = out.counters("listener_connections", help)?;
        for (address, listener) in http {
            family.counter(&[("address", address)], listener.arrivals)?;
        }
        let help = "Requests that came through the connections of an HTTP listener.";
        let mut family = out.counters("listener_requests", help)?;
        for (address, listener) in http {
            family.counter(&[("address", address)], listener.requests)?;
        }
        let help = "Bytes of datagrams, and of requests and replies over HTTP.";
        let mut family = out.counters_in("listener", help, &Unit::Bytes)?;
        for (protocol, listeners) in Protocol::ALL.into_iter().zip(&listeners) {
            for (address, listener) in listeners {
                let labels = |direction| {
                    let address = ("address", address.as_str());
                    [
                        ("protocol", protocol.name()),
                        address,
                        ("direction", direction),
                    ]
                };
                family.counter(&labels("in"), listener.bytes_in)?;
                family.counter(&labels("out"), listener.bytes_out)?;
            }
        }
        Ok(())
    }

    fn clients(&self, out: &mut Writer<'_>) -> Result {
        let help = "Announces with event=started, by the client's id.";
        let mut family = out.counters("client_starts", help)?;
        for (client, starts) in self.0.clients().unwrap_or_default() {
            family.counter(&[("client", &client)], starts)?;
        }
        Ok(())
    }

    fn batches(&self, out: &mut Writer<'_>) -> Result {
        let mut buckets = BATCH_BUCKETS.map(|bound| (bound as f64, 0));
        for stats in &self.0.shards {
            for (bucket, count) in buckets.iter_mut().zip(stats.batches()) {
                bucket.1 += count;
            }
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        let datagrams = self.sum(|stats| stats.datagrams.get());
        let bounds: Vec<_> = buckets.into_iter().chain([(f64::INFINITY, 0)]).collect();
        let help = "Datagrams that one receive brought.";
        out.0
            .encode_descriptor("receive_batch_datagrams", help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(datagrams as f64, count, &bounds, None)
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
        let help = "Time spent in sweeps for expired peers.";
        out.seconds("sweep", help, nanoseconds as f64 / 1e9)
    }

    fn state(&self, out: &mut Writer<'_>) -> Result {
        let seconds = &Unit::Seconds;
        let help = "When the state was saved last, in seconds since 1970; 0: never.";
        let saved = self.0.state.last_saved_unix_seconds();
        out.gauge("state_last_saved_timestamp", help, Some(seconds), saved)?;
        let help = "Time that the last save of the state took.";
        let took = self.0.state.save_duration().as_secs_f64();
        out.gauge_of("state_save", help, Some(seconds), took)?;
        let help = "Saves of the state that failed.";
        let failures = self.0.state.save_failures();
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

fn kind_labels(protocol: Protocol, action: Action, family: AddressFamily) -> [Label<'static>; 3] {
    [
        ("protocol", protocol.name()),
        ("action", action.name()),
        ("address_family", family.name()),
    ]
}
