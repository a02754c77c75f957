//! What was counted: per thread while running, merged and summarised at the end.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::http::Connections;
use crate::workload::Kind;

/// Different error texts that are kept apart; the rest is counted together.
const MAX_TEXTS: usize = 16;

/// Everything one thread counts. Of the measured requests sent, each ends as
/// exactly one of answered, error reply, bad reply or lost.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Requests sent, by kind.
    pub sent: [u64; 3],
    /// Requests answered as they should be, by kind.
    pub answered: [u64; 3],
    /// Requests answered with an error of the tracker.
    pub error_replies: u64,
    /// Requests answered with something that is no valid answer to them.
    pub bad_replies: u64,
    /// Requests without an answer within the timeout.
    pub lost: u64,
    /// Requests of a fixed rate that were not even sent, because too many
    /// were in flight.
    pub unsent: u64,
    /// Requests sent again (fill only; each is also in `sent`).
    pub retransmitted: u64,
    /// Peers of a fill that were refused for good.
    pub rejected: u64,
    /// The tracker accepted no more peers in the middle of a fill.
    pub stalled: bool,
    /// When the last reply of the run that answers a request came, before the
    /// end of sending, in nanoseconds since the start.
    pub last_answer: u64,
    /// Requests lost since then.
    pub lost_since_answer: u64,
    /// Replies to requests given up before.
    pub late: u64,
    /// Replies to requests answered before.
    pub duplicates: u64,
    /// Replies with a transaction id that no request had.
    pub unknown_ids: u64,
    /// "Port unreachable" messages: nothing listened when a packet arrived.
    pub unreachable: u64,
    /// Connections that failed or ended before the reply was complete (HTTP).
    pub broken_connections: u64,
    /// Why, with counts.
    pub break_reasons: Texts,
    /// What became of the connections (HTTP).
    pub connections: Connections,
    /// Peers in all announce replies.
    pub peers: u64,
    /// Bytes of all replies.
    pub reply_bytes: u64,
    /// Replies that answer a request, as asked for or not, inside the measured
    /// interval, whenever asked.
    pub replies_in_interval: u64,
    /// Time in the measured interval in which the sender had nothing to do.
    pub idle_nanoseconds: u64,
    /// From the intended (fixed rate) or actual (closed loop) sending.
    pub latencies: Latencies,
    /// Texts of error replies and reasons for bad ones, with their counts.
    pub texts: Texts,
}

impl Stats {
    /// All zero.
    pub fn new() -> Stats {
        Stats {
            sent: [0; 3],
            answered: [0; 3],
            error_replies: 0,
            bad_replies: 0,
            lost: 0,
            unsent: 0,
            retransmitted: 0,
            rejected: 0,
            stalled: false,
            last_answer: 0,
            lost_since_answer: 0,
            late: 0,
            duplicates: 0,
            unknown_ids: 0,
            unreachable: 0,
            broken_connections: 0,
            break_reasons: Texts::default(),
            connections: Connections::default(),
            peers: 0,
            reply_bytes: 0,
            replies_in_interval: 0,
            idle_nanoseconds: 0,
            latencies: Latencies::new(),
            texts: Texts::default(),
        }
    }

    /// A measured request got the answer it asked for.
    pub fn answered(&mut self, kind: Kind, latency: u64) {
        self.answered[kind as usize] += 1;
        self.latencies.record(latency);
    }

    /// How long before `end` the tracker stopped answering, in nanoseconds, if
    /// that is longer than `timeout`. One lost packet at the end of a slow run
    /// is no silence.
    pub fn silence(&self, end: u64, timeout: u64) -> Option<u64> {
        let silence = end.saturating_sub(self.last_answer);
        (silence > timeout && self.lost_since_answer > 1).then_some(silence)
    }

    /// Adds another thread's counts.
    pub fn merge(&mut self, other: &Stats) {
        for kind in 0..3 {
            self.sent[kind] += other.sent[kind];
            self.answered[kind] += other.answered[kind];
        }
        let pairs = [
            (&mut self.error_replies, other.error_replies),
            (&mut self.bad_replies, other.bad_replies),
            (&mut self.lost, other.lost),
            (&mut self.unsent, other.unsent),
            (&mut self.retransmitted, other.retransmitted),
            (&mut self.rejected, other.rejected),
            (&mut self.lost_since_answer, other.lost_since_answer),
            (&mut self.late, other.late),
            (&mut self.duplicates, other.duplicates),
            (&mut self.unknown_ids, other.unknown_ids),
            (&mut self.unreachable, other.unreachable),
            (&mut self.broken_connections, other.broken_connections),
            (&mut self.peers, other.peers),
            (&mut self.reply_bytes, other.reply_bytes),
            (&mut self.replies_in_interval, other.replies_in_interval),
            (&mut self.idle_nanoseconds, other.idle_nanoseconds),
        ];
        for (mine, theirs) in pairs {
            *mine += theirs;
        }
        self.stalled |= other.stalled;
        self.last_answer = self.last_answer.max(other.last_answer);
        self.latencies.merge(&other.latencies);
        self.texts.merge(&other.texts);
        self.break_reasons.merge(&other.break_reasons);
        self.connections.merge(&other.connections);
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

/// Latencies from 1 µs to 10 minutes, three digits.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    /// Empty.
    pub fn new() -> Latencies {
        let histogram = Histogram::new_with_bounds(1_000, 600_000_000_000, 3)
            .unwrap_or_else(|_| unreachable!("the bounds are constant and valid"));
        Latencies { histogram }
    }

    /// Counts one latency in nanoseconds.
    pub fn record(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds);
    }

    /// Adds another thread's latencies.
    pub fn merge(&mut self, other: &Latencies) {
        // Equal bounds, so it cannot fail.
        let _ = self.histogram.add(&other.histogram);
    }

    /// The usual percentiles.
    pub fn summary(&self) -> LatencySummary {
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64 / 1e3;
        LatencySummary {
            count: self.histogram.len(),
            mean_us: self.histogram.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.histogram.max() as f64 / 1e3,
        }
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// Percentiles in microseconds; all 0 where nothing was counted.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct LatencySummary {
    /// Latencies counted.
    pub count: u64,
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// Counts of a few different texts.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    counts: Vec<(Vec<u8>, u64)>,
    others: u64,
}

impl Texts {
    /// Counts `text`; the first 200 bytes tell texts apart.
    pub fn count(&mut self, text: &[u8]) {
        let text = &text[..text.len().min(200)];
        let kept = self.counts.len();
        match self.counts.iter_mut().find(|(known, _)| known == text) {
            Some((_, count)) => *count += 1,
            None if kept < MAX_TEXTS => self.counts.push((text.to_vec(), 1)),
            None => self.others += 1,
        }
    }

    /// The texts, most frequent first, unprintable bytes replaced.
    pub fn listed(&self) -> Vec<(String, u64)> {
        let mut listed: Vec<(String, u64)> = self
            .counts
            .iter()
            .map(|(text, count)| {
                let text = String::from_utf8_lossy(text);
                (text.replace(|c: char| c.is_control(), "\u{fffd}"), *count)
            })
            .collect();
        listed.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        if self.others > 0 {
            listed.push(("(other texts)".into(), self.others));
        }
        listed
    }

    fn merge(&mut self, other: &Texts) {
        for (text, count) in &other.counts {
            match self.counts.iter_mut().find(|(known, _)| known == text) {
                Some((_, mine)) => *mine += count,
                None => self.counts.push((text.clone(), *count)),
            }
        }
        self.others += other.others;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_longer_than_the_timeout_and_more_than_one_lost_packet() {
        let mut stats = Stats::new();
        assert_eq!(stats.silence(10, 5), None, "nothing was asked");
        stats.lost_since_answer = 2;
        assert_eq!(stats.silence(10, 5), Some(10));
        assert_eq!(stats.silence(5, 5), None, "a run as short as the timeout");
        let mut other = Stats::new();
        other.last_answer = 6;
        stats.merge(&other);
        assert_eq!(stats.silence(10, 5), None, "another thread was answered");
        assert_eq!(stats.silence(12, 5), Some(6));
        stats.lost_since_answer = 1;
        assert_eq!(stats.silence(12, 5), None, "a slow run");
    }

    #[test]
    fn texts_are_bounded_and_never_lost() {
        let mut texts = Texts::default();
        for n in 0..100u8 {
            texts.count(&[b'a' + n % 20; 3]);
        }
        let listed = texts.listed();
        assert_eq!(listed.len(), MAX_TEXTS + 1);
        assert_eq!(listed.iter().map(|(_, count)| count).sum::<u64>(), 100);
        assert_eq!(listed.last().unwrap(), &("(other texts)".to_string(), 20));
    }
}
