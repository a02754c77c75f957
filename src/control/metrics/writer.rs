//! Writes metrics through the encoder of prometheus-client, whose registry
//! makes room for what is gathered only when it is asked for.

use crate::shard::responses::{BUCKETS, BUCKETS_MILLISECONDS};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt::{Error, Result};

/// A label's name and value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// Writes metrics that have one value, and begins those that have more.
pub(super) struct Writer<'a>(pub DescriptorEncoder<'a>);

impl Writer<'_> {
    pub fn counters<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
    ) -> std::result::Result<Family<'s>, Error> {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        Ok(Family(encoder))
    }

    /// Begins a counter with labels and a unit.
    pub fn counters_in<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: &'s Unit,
    ) -> std::result::Result<Family<'s>, Error> {
        let encoder = self
            .0
            .encode_descriptor(name, help, Some(unit), MetricType::Counter)?;
        Ok(Family(encoder))
    }

    /// Begins a gauge with labels.
    pub fn gauges<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
    ) -> std::result::Result<Family<'s>, Error> {
        let encoder = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        Ok(Family(encoder))
    }

    /// A gauge with a fraction.
    pub fn gauge_of(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    /// A counter of seconds.
    pub fn seconds(&mut self, name: &str, help: &str, value: f64) -> Result {
        let unit = Some(&Unit::Seconds);
        let encoder = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    pub fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    pub fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(as_gauge(value)).encode(encoder)
    }
}

/// Writes the values of one metric.
pub(super) struct Family<'a>(pub MetricEncoder<'a>);

impl Family<'_> {
    /// The only value, without labels.
    pub fn alone(self, value: u64) -> Result {
        ConstGauge::new(as_gauge(value)).encode(self.0)
    }

    pub fn counter(&mut self, labels: &[Label<'_>], value: u64) -> Result {
        ConstCounter::new(value).encode(self.0.encode_family(&labels)?)
    }

    pub fn gauge_of(&mut self, labels: &[Label<'_>], value: f64) -> Result {
        ConstGauge::new(value).encode(self.0.encode_family(&labels)?)
    }

    pub fn gauge(&mut self, labels: &[Label<'_>], value: u64) -> Result {
        ConstGauge::new(as_gauge(value)).encode(self.0.encode_family(&labels)?)
    }
}

/// The encoder has no unsigned gauge.
fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The unit of Chihaya's histograms.
pub(super) fn milliseconds() -> Unit {
    Unit::Other("milliseconds".to_owned())
}

/// Counts by bucket with the bounds of the buckets.
pub(super) fn bounded(counts: [u64; BUCKETS]) -> [(f64, u64); BUCKETS] {
    let bound = |at| BUCKETS_MILLISECONDS.get(at).copied();
    std::array::from_fn(|at| (bound(at).unwrap_or(f64::INFINITY), counts[at]))
}
