//! The metrics of Chihaya, with its names, labels and buckets.
//!
//! As there, `error` is what the client was told, empty for success, from a
//! bounded set; a swarm that has IPv4 and IPv6 peers counts twice; a collection
//! of garbage is one round over everything that a shard holds. Of the times of
//! responses, [`ShardStats::answered`] says what they begin and end with.

use super::Report;
use super::writer::{Writer, bounded, milliseconds};
use crate::bittorrent::AddressFamily;
use crate::shard::responses::{BUCKETS, FailureClass, Times};
use crate::shard::stats::{Action, Protocol, ShardStats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt::{Error, Result};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Chihaya(pub Arc<Report>);

impl Collector for Chihaya {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::result::Result<(), Error> {
        let mut out = Writer(encoder);
        self.responses(&mut out, Protocol::Http)?;
        self.responses(&mut out, Protocol::Udp)?;
        self.collections(&mut out)?;
        self.storage(&mut out)
    }
}

impl Chihaya {
    fn responses(&self, out: &mut Writer<'_>, protocol: Protocol) -> Result {
        let (name, help) = match protocol {
            Protocol::Http => (
                "http_response_duration",
                "Time from a request over HTTP to its response.",
            ),
            Protocol::Udp => (
                "udp_response_duration",
                "Time from a request over UDP to its response.",
            ),
        };
        let unit = milliseconds();
        let mut encoder =
            out.0
                .encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
        let kinds = super::kinds().filter(|kind| kind.0 == protocol);
        for (_, action, family) in kinds {
            let failures = FailureClass::ALL.into_iter().map(Some);
            for failure in [None].into_iter().chain(failures) {
                let (milliseconds, counts) = self.times(protocol, action, family, failure);
                let count: u64 = counts.iter().sum();
                if failure.is_some() && count == 0 {
                    continue;
                }
                let labels = [
                    ("action", action.name()),
                    ("address_family", family.name()),
                    ("error", failure.map_or("", FailureClass::name)),
                ];
                encoder
                    .encode_family(&labels)?
                    .encode_histogram::<NoLabelSet>(milliseconds, count, &bounded(counts), None)?;
            }
        }
        Ok(())
    }

    /// One histogram, of all shards together.
    fn times(
        &self,
        protocol: Protocol,
        action: Action,
        family: AddressFamily,
        failure: Option<FailureClass>,
    ) -> (f64, [u64; BUCKETS]) {
        let times = self.0.shards.iter().map(|stats| {
            let times = stats.response_times(protocol);
            times.times(action, family, failure)
        });
        add_up(times.map(|times: &Times| (times.milliseconds(), times.buckets())))
    }

    fn collections(&self, out: &mut Writer<'_>) -> Result {
        let passes = self.0.shards.iter().map(|stats| {
            let sweep = &stats.sweep;
            (sweep.pass_milliseconds(), sweep.passes())
        });
        let (milliseconds, counts) = add_up(passes);
        let help = "Time that one sweep for expired peers over everything a shard holds took, \
                    without its pauses.";
        let unit = super::writer::milliseconds();
        out.0
            .encode_descriptor(
                "storage_gc_duration",
                help,
                Some(&unit),
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(
                milliseconds,
                counts.iter().sum(),
                &bounded(counts),
                None,
            )
    }

    fn storage(&self, out: &mut Writer<'_>) -> Result {
        type Read = fn(&ShardStats, AddressFamily) -> u64;
        let gauges: [(&str, &str, Read); 3] = [
            (
                "storage_infohashes_count",
                "Swarms known now, those of IPv4 and of IPv6 apart.",
                |stats, family| stats.family(family).swarms.get(),
            ),
            (
                "storage_seeders_count",
                "Seeders known now.",
                |stats, family| stats.family(family).seeders.get(),
            ),
            (
                "storage_leechers_count",
                "Leechers known now.",
                |stats, family| stats.family(family).leechers.get(),
            ),
        ];
        for (name, help, read) in gauges {
            let families = AddressFamily::ALL.into_iter();
            let values = families.map(|family| self.0.sum(|stats| read(stats, family)));
            out.gauge(name, help, None, values.sum())?;
        }
        Ok(())
    }
}

/// Sums and buckets, each added up.
fn add_up(times: impl Iterator<Item = (f64, [u64; BUCKETS])>) -> (f64, [u64; BUCKETS]) {
    times.fold((0.0, [0; BUCKETS]), |(sum, counts), (more, buckets)| {
        (
            sum + more,
            std::array::from_fn(|at| counts[at] + buckets[at]),
        )
    })
}
