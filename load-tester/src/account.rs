//! What became of the requests of one thread, the same for both protocols.
//!
//! Invariant: of the measured requests that were [`Account::sent`], each ends
//! exactly once, as [`Account::answered`] or as [`Account::lost`]. A fill's
//! request that got no good answer goes back to its source.

use std::cmp::Ordering;

use crate::config::RunConfig;
use crate::inflight::Entry;
use crate::pace::{Progress, Timeline};
use crate::source::{FILL_PATIENCE, Gate, Source};
use crate::stats::Stats;
use crate::workload::Kind;

/// One thread's requests, when they may be sent, and what was counted.
pub struct Account {
    /// Where requests come from.
    pub source: Source,
    /// When they may be sent.
    pub gate: Gate,
    /// What was counted.
    pub stats: Stats,
    /// When an announce was last accepted, in nanoseconds since the start.
    last_accepted: u64,
    /// When sending ends, in nanoseconds since the start.
    end: u64,
    /// Of the whole run: replies, lost requests, errors.
    totals: [u64; 3],
}

/// What a reply means for the request it answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// As asked for, with so many peers.
    Good {
        /// Peers handed out.
        peers: usize,
    },
    /// The tracker's own words for why not.
    Failure(&'a [u8]),
    /// No valid answer, and why.
    Bad(&'static str),
}

impl Verdict<'_> {
    /// Of an announce reply with so many peers. `numwant` 0 and below leaves
    /// their number to the tracker.
    pub fn of_peers(peers: usize, numwant: i32) -> Self {
        match usize::try_from(numwant) {
            Ok(most @ 1..) if peers > most => Verdict::Bad("(more peers than asked for)"),
            _ => Verdict::Good { peers },
        }
    }

    /// Of a reply with `given` swarms to a scrape that asked for `asked`;
    /// `fewer` says what is wrong with one that has fewer.
    pub fn of_swarms(given: usize, asked: usize, fewer: &'static str) -> Self {
        match given.cmp(&asked) {
            Ordering::Less => Verdict::Bad(fewer),
            Ordering::Equal => Verdict::Good { peers: 0 },
            Ordering::Greater => Verdict::Bad("(more swarms than asked for)"),
        }
    }
}

impl Account {
    /// The account of thread `thread` of a run.
    pub fn new(config: &RunConfig, thread: usize) -> Account {
        Account {
            source: Source::new(config, thread),
            gate: Gate::new(config, thread),
            stats: Stats::new(),
            last_accepted: 0,
            end: u64::MAX,
            totals: [0; 3],
        }
    }

    /// Sending ends at `end`.
    pub fn end_at(&mut self, end: u64) {
        self.end = end;
        self.gate.end_at(end);
    }

    /// A request leaves.
    pub fn sent(&mut self, entry: &Entry) {
        if entry.measured {
            self.stats.sent[entry.request.kind as usize] += 1;
        }
        if entry.attempts > 0 {
            self.stats.retransmitted += 1;
        }
    }

    /// A reply of so many bytes to a request arrived; strays do not count.
    pub fn arrived(&mut self, bytes: usize, now: u64, timeline: &Timeline) {
        if timeline.measures(now) {
            self.stats.replies_in_interval += 1;
            self.stats.reply_bytes += bytes as u64;
        }
    }

    /// A request got a reply.
    pub fn answered(&mut self, entry: &Entry, verdict: &Verdict<'_>, now: u64) {
        self.count(entry, verdict, now);
        if !matches!(verdict, Verdict::Good { .. }) {
            self.take_back(entry, true);
        }
    }

    /// An announce of a fill was refused for its connection id, which says
    /// nothing of its peer.
    pub fn refused_id(&mut self, entry: &Entry, reason: &[u8], now: u64) {
        self.count(entry, &Verdict::Failure(reason), now);
        self.source.put_back(entry.request, entry.attempts);
    }

    fn count(&mut self, entry: &Entry, verdict: &Verdict<'_>, now: u64) {
        self.totals[0] += 1;
        if now < self.end {
            self.stats.last_answer = now;
            self.stats.lost_since_answer = 0;
        }
        if entry.measured {
            match verdict {
                Verdict::Good { peers } => {
                    self.stats.peers += *peers as u64;
                    let latency = now - entry.intended.min(now);
                    self.stats.answered(entry.request.kind, latency);
                }
                Verdict::Failure(reason) => {
                    self.stats.error_replies += 1;
                    self.stats.texts.count(reason);
                }
                Verdict::Bad(why) => {
                    self.stats.bad_replies += 1;
                    self.stats.texts.count(why.as_bytes());
                }
            }
        }
        if !matches!(verdict, Verdict::Good { .. }) {
            self.totals[2] += 1;
        } else if entry.request.kind == Kind::Announce {
            self.last_accepted = now;
        }
    }

    /// A request was given up.
    pub fn lost(&mut self, entry: &Entry) {
        self.totals[1] += 1;
        self.stats.lost_since_answer += 1;
        if entry.measured {
            self.stats.lost += 1;
        }
        self.take_back(entry, false);
    }

    /// Whether this is a fill of which nothing was accepted for too long,
    /// whatever else the server says meanwhile.
    pub fn has_stalled(&mut self, now: u64) -> bool {
        let stalled =
            self.source.is_fill() && now.saturating_sub(self.last_accepted) > FILL_PATIENCE;
        self.stats.stalled |= stalled;
        stalled
    }

    /// Tells the progress bar.
    pub fn publish(&self, progress: &Progress) {
        let [replies, lost, errors] = self.totals;
        progress.publish(replies, lost, errors);
    }

    /// Fills send again what got no good answer.
    fn take_back(&mut self, entry: &Entry, refused: bool) {
        if entry.request.kind != Kind::Announce || !self.source.is_fill() {
            return;
        }
        if !self.source.failed(entry.request, entry.attempts, refused) {
            self.stats.rejected += 1;
        }
    }
}
