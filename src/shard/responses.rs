//! How long replies took, in histograms that cost a batch, not a request.
//!
//! Replies are counted one by one anyway, in [`super::stats`]. After a batch
//! was sent, [`ResponseTimes::measure`] looks which of those counters have
//! grown since the last look, and files all of the growth under the one time
//! that the batch took: two readings of a clock and about a dozen loads for a
//! whole batch. Replies that have an arrival of their own, because they waited
//! for another shard, are filed by [`ResponseTimes::measure_late`].
//!
//! What the times mean is said there; the metrics made of them have Chihaya's
//! names, labels and buckets.

use super::stats::{Action, Counter, Outcome, label};
use crate::bittorrent::AddressFamily;
use std::time::Duration;

/// Upper bounds of the buckets in milliseconds, those that Chihaya uses:
/// 9.375 * 2^n, n = 0 to 9. One more bucket has no bound.
pub const BUCKETS_MILLISECONDS: [f64; 10] = [
    9.375, 18.75, 37.5, 75.0, 150.0, 300.0, 600.0, 1200.0, 2400.0, 4800.0,
];

/// How many buckets there are, the one without bound included.
pub const BUCKETS: usize = BUCKETS_MILLISECONDS.len() + 1;

/// The bucket of a time.
#[must_use]
#[inline]
pub fn bucket(nanoseconds: u64) -> usize {
    const FIRST_NANOSECONDS: u64 = 9_375_000;
    (0..BUCKETS_MILLISECONDS.len())
        .position(|power| nanoseconds <= FIRST_NANOSECONDS << power)
        .unwrap_or(BUCKETS_MILLISECONDS.len())
}

/// The replies of one shard over one protocol, by the time that they took.
#[derive(Debug, Default)]
pub struct ResponseTimes {
    /// Replies that have been measured, by action, family and outcome. Apart
    /// from the rest because every batch looks at all of them.
    measured: [[[Counter; Outcome::ALL.len()]; AddressFamily::ALL.len()]; Action::ALL.len()],
    kinds: [[Kind; AddressFamily::ALL.len()]; Action::ALL.len()],
}

/// The replies to one action in one family.
#[derive(Debug, Default)]
struct Kind {
    ok: Times,
    failed: [Failed; FailureClass::ALL.len()],
}

#[derive(Debug, Default)]
struct Failed {
    /// Such replies, and how many of them have been measured.
    count: Counter,
    measured: Counter,
    times: Times,
}

/// One histogram.
#[derive(Debug, Default)]
pub struct Times {
    buckets: [Counter; BUCKETS],
    nanoseconds: Counter,
}

impl ResponseTimes {
    /// Says why one reply, which is counted elsewhere, was a failure. Those
    /// that nothing is said of are filed as [`FailureClass::Other`].
    #[inline]
    pub fn failed(&self, action: Action, family: AddressFamily, class: FailureClass) {
        let kind = &self.kinds[action as usize][family.index()];
        kind.failed[class as usize].count.add(1);
    }

    /// Files all replies of a family that were counted since the last call
    /// under one time. `replies` are the counters by action and outcome.
    #[inline]
    pub fn measure(
        &self,
        family: AddressFamily,
        took: Duration,
        replies: impl Fn(Action, Outcome) -> u64,
    ) {
        let nanoseconds = took.as_nanos() as u64;
        for action in Action::ALL {
            let measured = &self.measured[action as usize][family.index()];
            let [ok, error] = Outcome::ALL.map(|outcome| {
                let measured = measured[outcome as usize].get();
                replies(action, outcome).wrapping_sub(measured)
            });
            if ok | error == 0 {
                continue;
            }
            measured[Outcome::Ok as usize].add(ok);
            measured[Outcome::Error as usize].add(error);
            let kind = &self.kinds[action as usize][family.index()];
            if ok > 0 {
                kind.ok.add(ok, nanoseconds);
            }
            if error > 0 {
                kind.measure_failures(error, nanoseconds);
            }
        }
    }

    /// Files one reply, already counted, that arrived before the turn in which
    /// it was answered. To be called before [`ResponseTimes::measure`].
    pub fn measure_late(
        &self,
        action: Action,
        family: AddressFamily,
        failure: Option<FailureClass>,
        took: Duration,
    ) {
        let nanoseconds = took.as_nanos() as u64;
        let kind = &self.kinds[action as usize][family.index()];
        let measured = &self.measured[action as usize][family.index()];
        match failure {
            None => {
                measured[Outcome::Ok as usize].add(1);
                kind.ok.add(1, nanoseconds);
            }
            Some(class) => {
                let failed = &kind.failed[class as usize];
                measured[Outcome::Error as usize].add(1);
                failed.measured.add(1);
                failed.times.add(1, nanoseconds);
            }
        }
    }

    /// The times of successful replies (`None`) or of one kind of failure.
    #[must_use]
    pub fn times(
        &self,
        action: Action,
        family: AddressFamily,
        failure: Option<FailureClass>,
    ) -> &Times {
        let kind = &self.kinds[action as usize][family.index()];
        match failure {
            None => &kind.ok,
            Some(class) => &kind.failed[class as usize].times,
        }
    }
}

impl Kind {
    /// Files this many new failures by their classes.
    #[cold]
    fn measure_failures(&self, count: u64, nanoseconds: u64) {
        let mut unsaid = count;
        for failed in &self.failed {
            let new = failed.count.get().wrapping_sub(failed.measured.get());
            if new > 0 {
                failed.measured.add(new);
                failed.times.add(new, nanoseconds);
                unsaid = unsaid.saturating_sub(new);
            }
        }
        if unsaid > 0 {
            let other = &self.failed[FailureClass::Other as usize];
            other.times.add(unsaid, nanoseconds);
        }
    }
}

impl Times {
    fn add(&self, count: u64, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)].add(count);
        self.nanoseconds.add(nanoseconds.saturating_mul(count));
    }

    /// Replies in each bucket alone (not cumulative); the last has no bound.
    #[must_use]
    pub fn buckets(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|bucket| self.buckets[bucket].get())
    }

    /// Milliseconds that all of them took together.
    #[must_use]
    pub fn milliseconds(&self) -> f64 {
        self.nanoseconds.get() as f64 / 1e6
    }
}

label! {
    /// Why a request failed, in a bounded set: the texts that clients are told,
    /// where they are Chihaya's or our own.
    FailureClass {
        /// A datagram that makes no request (BEP 15).
        MalformedPacket = "malformed packet",
        /// The address field of a datagram.
        MalformedIp = "malformed IP address",
        /// The event field of a datagram.
        MalformedEvent = "malformed event ID",
        /// The action field of a datagram.
        UnknownAction = "unknown action ID",
        /// A connection id that was not issued to this address, or too long ago.
        BadConnectionId = "bad connection ID",
        /// Port 0.
        InvalidPort = "invalid port",
        /// A percent sign without two hexadecimal digits.
        InvalidEscape = "invalid query escape",
        /// An info hash that does not have 20 bytes.
        InvalidInfoHash = "provided invalid infohash",
        /// An unknown event.
        InvalidEvent = "failed to provide valid client event",
        /// No info hash.
        NoInfoHash = "no info_hash parameter supplied",
        /// More than one info hash in an announce.
        MultipleInfoHashes = "multiple info_hash parameters supplied",
        /// The parameter of this name.
        PeerId = "failed to parse parameter: peer_id",
        /// The parameter of this name.
        Left = "failed to parse parameter: left",
        /// The parameter of this name.
        Downloaded = "failed to parse parameter: downloaded",
        /// The parameter of this name.
        Uploaded = "failed to parse parameter: uploaded",
        /// The parameter of this name.
        NumWant = "failed to parse parameter: numwant",
        /// The parameter of this name.
        Port = "failed to parse parameter: port",
        /// A peer id that does not have 20 bytes.
        InvalidPeerId = "failed to provide valid peer_id",
        /// The header in which a proxy tells the address.
        UnparsableIp = "failed to parse peer IP address",
        /// An address that cannot be a peer's.
        InvalidIp = "invalid IP",
        /// Hook `client approval`.
        UnapprovedClient = "unapproved client",
        /// Hook `torrent approval`.
        UnapprovedTorrent = "unapproved torrent",
        /// Hook `ip approval`.
        UnapprovedAddress = "unapproved address",
        /// Hook `port approval`.
        UnapprovedPort = "unapproved port",
        /// Hook `jwt`.
        MissingJwt = "unapproved request: missing jwt",
        /// Hook `jwt`.
        InvalidJwt = "unapproved request: invalid jwt",
        /// Hook `rate limit`.
        TooManyRequests = "too many requests",
        /// Another shard had too much to do.
        Overloaded = "tracker overloaded",
        /// What opentracker's dialect says of what a hook refuses.
        NotAuthorized = "Requested download is not authorized for use with this tracker.",
        /// Anything else, and requests over HTTP that are neither announce nor
        /// scrape.
        Other = "other",
    }
}

impl FailureClass {
    /// The class of the text that a client is told.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let known = Self::ALL.into_iter().find(|class| class.name() == text);
        known.unwrap_or(Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bittorrent::AddressFamily::{V4, V6};

    /// The counters that a shard keeps beside the times.
    #[derive(Default)]
    struct Replies([[Counter; 2]; 4]);

    impl Replies {
        fn get(&self, action: Action, outcome: Outcome) -> u64 {
            self.0[action as usize][outcome as usize].get()
        }

        fn add(&self, action: Action, outcome: Outcome, count: u64) {
            self.0[action as usize][outcome as usize].add(count);
        }
    }

    fn counts(
        times: &ResponseTimes,
        action: Action,
        family: AddressFamily,
        failure: Option<FailureClass>,
    ) -> Vec<(usize, u64)> {
        let buckets = times.times(action, family, failure).buckets();
        let filled = buckets.into_iter().enumerate();
        filled.filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn a_batch_is_filed_under_its_time_and_only_once() {
        let (times, replies) = (ResponseTimes::default(), Replies::default());
        let measure = |milliseconds| {
            let took = Duration::from_millis(milliseconds);
            times.measure(V4, took, |action, outcome| replies.get(action, outcome));
        };
        replies.add(Action::Announce, Outcome::Ok, 64);
        replies.add(Action::Connect, Outcome::Ok, 3);
        measure(1);
        measure(100);
        replies.add(Action::Announce, Outcome::Ok, 2);
        measure(10);
        assert_eq!(
            counts(&times, Action::Announce, V4, None),
            [(0, 64), (1, 2)]
        );
        assert_eq!(counts(&times, Action::Connect, V4, None), [(0, 3)]);
        assert_eq!(counts(&times, Action::Announce, V6, None), []);
        let sum = times.times(Action::Announce, V4, None).milliseconds();
        assert_eq!(sum, 64.0 + 20.0);
    }

    #[test]
    fn failures_are_filed_by_what_was_said_of_them() {
        let (times, replies) = (ResponseTimes::default(), Replies::default());
        replies.add(Action::Announce, Outcome::Error, 5);
        times.failed(Action::Announce, V4, FailureClass::BadConnectionId);
        times.failed(Action::Announce, V4, FailureClass::BadConnectionId);
        times.failed(Action::Announce, V4, FailureClass::InvalidPort);
        let all = |action, outcome| replies.get(action, outcome);
        times.measure(V4, Duration::ZERO, all);
        times.measure(V4, Duration::ZERO, all);
        let count = |class| counts(&times, Action::Announce, V4, Some(class));
        assert_eq!(count(FailureClass::BadConnectionId), [(0, 2)]);
        assert_eq!(count(FailureClass::InvalidPort), [(0, 1)]);
        assert_eq!(count(FailureClass::Other), [(0, 2)]);
        assert_eq!(counts(&times, Action::Announce, V4, None), []);
    }

    #[test]
    fn late_replies_have_their_own_time() {
        let (times, replies) = (ResponseTimes::default(), Replies::default());
        replies.add(Action::Announce, Outcome::Ok, 3);
        replies.add(Action::Announce, Outcome::Error, 1);
        times.failed(Action::Announce, V6, FailureClass::Overloaded);
        let overloaded = Some(FailureClass::Overloaded);
        let late = |failure, seconds| {
            let took = Duration::from_secs(seconds);
            times.measure_late(Action::Announce, V6, failure, took);
        };
        late(None, 1);
        late(overloaded, 60);
        times.measure(V6, Duration::ZERO, |action, outcome| {
            replies.get(action, outcome)
        });
        assert_eq!(counts(&times, Action::Announce, V6, None), [(0, 2), (7, 1)]);
        let failed = counts(&times, Action::Announce, V6, overloaded);
        assert_eq!(failed, [(BUCKETS - 1, 1)]);
    }

    #[test]
    fn the_bounds_of_the_buckets_belong_to_them() {
        for (at, bound) in BUCKETS_MILLISECONDS.into_iter().enumerate() {
            let nanoseconds = (bound * 1e6) as u64;
            assert_eq!(bucket(nanoseconds), at);
            assert_eq!(bucket(nanoseconds + 1), at + 1);
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn every_text_has_a_class_of_its_own() {
        for class in FailureClass::ALL {
            assert_eq!(FailureClass::of(class.name()), class);
        }
        assert_eq!(FailureClass::of("of a later hook"), FailureClass::Other);
    }
}
