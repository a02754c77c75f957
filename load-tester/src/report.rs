//! The outcome of a run, for people and for machines.

use std::fmt::Write;

use serde::Serialize;

use crate::http::Connections;
use crate::process::CpuTime;
use crate::stats::{LatencySummary, Stats};

/// The outcome of a run. Rates are per second, sizes in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whom was asked.
    pub target: String,
    /// Closed loop or fixed rate or fill, in words.
    pub mode: String,
    /// Length of the measured interval, in seconds.
    pub seconds: f64,
    /// Replies that answer a request, as asked for or not, per second of the
    /// measured interval.
    pub replies_per_second: f64,
    /// Such replies inside the measured interval.
    pub replies: u64,
    /// Measured requests sent: connects, announces, scrapes.
    pub sent: Kinds,
    /// Of these, answered as they should be.
    pub answered: Kinds,
    /// Of these, answered with an error.
    pub error_replies: u64,
    /// Of these, answered with an invalid reply.
    pub bad_replies: u64,
    /// Of these, not answered within the timeout.
    pub lost: u64,
    /// `error_replies`, `bad_replies`, `lost` and `unsent` as a fraction of
    /// all requests.
    pub failed_fraction: f64,
    /// Requests of a fixed rate that could not be sent.
    pub unsent: u64,
    /// Peers that a fill was to place, if it was one; those placed are the
    /// answered announces.
    pub to_place: Option<u64>,
    /// Requests of a fill that were sent again.
    pub retransmitted: u64,
    /// Peers of a fill that were given up.
    pub rejected: u64,
    /// Replies after the timeout.
    pub late: u64,
    /// Replies to requests answered before.
    pub duplicates: u64,
    /// Replies with a transaction id that no request had.
    pub unknown_ids: u64,
    /// "Port unreachable" messages.
    pub unreachable: u64,
    /// HTTP connections that failed.
    pub broken_connections: u64,
    /// Why, with counts.
    pub break_reasons: Vec<(String, u64)>,
    /// What became of HTTP connections, in the warm-up too.
    pub connections: Connections,
    /// Share of the measured interval in which the sending threads had nothing
    /// to do: near 0 means that they, not the tracker, are the limit.
    pub idle_fraction: f64,
    /// Mean number of peers in an announce reply.
    pub peers_per_reply: f64,
    /// Mean length of a reply.
    pub bytes_per_reply: f64,
    /// Latencies of the measured requests.
    pub latency: LatencySummary,
    /// Texts of errors and reasons of invalid replies with their counts.
    pub texts: Vec<(String, u64)>,
    /// Processor time of the watched process, if one was.
    pub cpu: Option<CpuUse>,
    /// Resident memory of the watched process at the end, if one was.
    pub resident_bytes: Option<u64>,
    /// Ended by the user before its time.
    pub interrupted: bool,
    /// Why the run is invalid; empty for a valid one.
    pub invalid: Vec<String>,
}

/// A count per kind of request.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Kinds {
    /// Connects.
    pub connects: u64,
    /// Announces.
    pub announces: u64,
    /// Scrapes.
    pub scrapes: u64,
}

/// Processor time of a process over the measured interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CpuUse {
    /// Processor seconds used.
    pub seconds: f64,
    /// Share of one processor.
    pub utilisation: f64,
    /// Microseconds per reply.
    pub us_per_reply: f64,
    /// Share of the interval that its threads waited for a processor: other
    /// load, or threads of its own on one processor.
    pub waiting: f64,
}

impl Kinds {
    /// All kinds together.
    pub fn total(&self) -> u64 {
        self.connects + self.announces + self.scrapes
    }
}

impl From<[u64; 3]> for Kinds {
    fn from([connects, announces, scrapes]: [u64; 3]) -> Kinds {
        Kinds {
            connects,
            announces,
            scrapes,
        }
    }
}

impl Report {
    /// Summarises the merged counts of all threads. `max_loss` is the greatest
    /// fraction of failed requests in a valid run, and `to_place` the number of
    /// peers of a fill, in which requests may fail as long as all get in.
    pub fn new(
        target: String,
        mode: String,
        seconds: f64,
        threads: usize,
        stats: &Stats,
        max_loss: f64,
        to_place: Option<u64>,
    ) -> Report {
        let sent = Kinds::from(stats.sent);
        let answered = Kinds::from(stats.answered);
        let failed = stats.error_replies + stats.bad_replies + stats.lost + stats.unsent;
        let ratio = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
        let mut report = Report {
            target,
            mode,
            seconds,
            replies_per_second: if seconds > 0.0 {
                stats.replies_in_interval as f64 / seconds
            } else {
                0.0
            },
            replies: stats.replies_in_interval,
            sent,
            answered,
            error_replies: stats.error_replies,
            bad_replies: stats.bad_replies,
            lost: stats.lost,
            failed_fraction: ratio(failed, sent.total() + stats.unsent),
            unsent: stats.unsent,
            to_place,
            retransmitted: stats.retransmitted,
            rejected: stats.rejected,
            late: stats.late,
            duplicates: stats.duplicates,
            unknown_ids: stats.unknown_ids,
            unreachable: stats.unreachable,
            broken_connections: stats.broken_connections,
            break_reasons: stats.break_reasons.listed(),
            connections: stats.connections,
            idle_fraction: stats.idle_nanoseconds as f64
                / 1e9
                / (seconds * threads as f64).max(1e-9),
            peers_per_reply: ratio(stats.peers, answered.announces),
            bytes_per_reply: ratio(stats.reply_bytes, stats.replies_in_interval),
            latency: stats.latencies.summary(),
            texts: stats.texts.listed(),
            cpu: None,
            resident_bytes: None,
            interrupted: false,
            invalid: Vec::new(),
        };
        report.invalid = report.faults(max_loss, stats.stalled);
        report
    }

    /// Whether the numbers can be used.
    pub fn is_valid(&self) -> bool {
        self.invalid.is_empty()
    }

    /// Notes the processor time that the watched process used meanwhile.
    pub fn set_cpu(&mut self, used: CpuTime) {
        let seconds = used.nanoseconds as f64 / 1e9;
        let share = |seconds: f64| {
            if self.seconds > 0.0 {
                seconds / self.seconds
            } else {
                0.0
            }
        };
        self.cpu = Some(CpuUse {
            seconds,
            utilisation: share(seconds),
            waiting: share(used.waiting_nanoseconds as f64 / 1e9),
            us_per_reply: if self.replies > 0 {
                seconds * 1e6 / self.replies as f64
            } else {
                0.0
            },
        });
    }

    /// The summary for people, several lines.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<18} {value}");
        };
        line("target", self.target.clone());
        line(
            "mode",
            format!("{}, measured for {:.2} s", self.mode, self.seconds),
        );
        line(
            "replies",
            format!("{:.0} /s ({})", self.replies_per_second, self.replies),
        );
        let kinds = |k: &Kinds| {
            format!(
                "{} announces, {} connects, {} scrapes",
                k.announces, k.connects, k.scrapes
            )
        };
        line("sent", kinds(&self.sent));
        line("answered", kinds(&self.answered));
        line(
            "failed",
            format!(
                "{:.4} % ({} lost, {} error replies, {} invalid replies, {} not sent)",
                self.failed_fraction * 100.0,
                self.lost,
                self.error_replies,
                self.bad_replies,
                self.unsent
            ),
        );
        if let Some(peers) = self.to_place {
            line(
                "placed",
                format!("{} of {peers} peers", self.answered.announces),
            );
        }
        let extras = [
            ("retransmitted", self.retransmitted),
            ("given up", self.rejected),
            ("late replies", self.late),
            ("duplicate replies", self.duplicates),
            ("unknown ids", self.unknown_ids),
            ("port unreachable", self.unreachable),
            ("broken connections", self.broken_connections),
        ];
        for (name, count) in extras.into_iter().filter(|(_, count)| *count > 0) {
            line(name, count.to_string());
        }
        for (reason, count) in &self.break_reasons {
            line("broken because", format!("{count} x {reason}"));
        }
        if self.connections.keep_alive.is_some() {
            line("connections", self.connections.to_string());
        }
        for (reason, count) in &self.texts {
            line("reply said", format!("{count} x {reason}"));
        }
        line(
            "reply size",
            format!(
                "{:.1} peers, {:.0} bytes on average",
                self.peers_per_reply, self.bytes_per_reply
            ),
        );
        let l = &self.latency;
        line(
            "latency (us)",
            format!(
                "p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  max {:.0}",
                l.p50_us, l.p90_us, l.p99_us, l.p999_us, l.max_us
            ),
        );
        let limit = if self.idle_fraction < 0.05 {
            ": the generator may be the limit, try more --threads or fewer --sources"
        } else {
            ""
        };
        line(
            "generator",
            format!("{:.0} % idle{limit}", self.idle_fraction * 100.0),
        );
        if let Some(cpu) = &self.cpu {
            line(
                "server processor",
                format!(
                    "{:.2} s ({:.0} % of one, {:.0} % waiting for one), {:.3} us per reply",
                    cpu.seconds,
                    cpu.utilisation * 100.0,
                    cpu.waiting * 100.0,
                    cpu.us_per_reply
                ),
            );
        }
        if let Some(bytes) = self.resident_bytes {
            line(
                "server memory",
                format!("{:.1} MB resident", bytes as f64 / 1e6),
            );
        }
        for fault in &self.invalid {
            line("INVALID", fault.clone());
        }
        text
    }

    fn faults(&self, max_loss: f64, stalled: bool) -> Vec<String> {
        let mut faults = Vec::new();
        if self.answered.total() == 0 {
            faults.push(match self.unreachable {
                0 => "no request was answered".to_string(),
                _ => "no request was answered: nothing listens on the port any more".to_string(),
            });
        }
        if self.failed_fraction > max_loss && self.to_place.is_none() {
            let width = match self.connections.keep_alive {
                Some(_) => "fewer --connections",
                None => "a smaller --window",
            };
            faults.push(format!(
                "{:.4} % of the requests failed, more than --max-loss {} %; try {width} or a smaller --rate",
                self.failed_fraction * 100.0,
                max_loss * 100.0
            ));
        }
        faults.extend(self.connections.fault());
        if let Some(peers) = self.to_place
            && self.answered.announces < peers
        {
            faults.push(format!(
                "{} of {peers} peers placed",
                self.answered.announces
            ));
        }
        if stalled {
            faults.push("the tracker accepted no peer of the fill for 10 s".into());
        }
        // The network may double a few.
        if self.duplicates as f64 > max_loss * self.sent.total() as f64 {
            faults.push(format!("{} duplicate replies", self.duplicates));
        }
        if self.unknown_ids > 0 {
            faults.push(format!(
                "{} replies had a transaction id that no request had",
                self.unknown_ids
            ));
        }
        if self.rejected > 0 {
            let said = self
                .texts
                .first()
                .map_or("no reply", |(text, _)| text.as_str());
            faults.push(format!(
                "{} peers of the fill were not accepted: {said}",
                self.rejected
            ));
        }
        faults
    }
}
