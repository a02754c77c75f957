//! What one shard has done and holds, published for whoever reads metrics.
//!
//! Every value has a single writer, the shard's own thread, and any number of
//! readers. So a write is a relaxed load and a relaxed store, which costs what
//! a plain addition costs, and no read-modify-write. The writer must be alone:
//! two of them would lose counts (nothing worse). Readers see each value whole
//! but not all values at one instant.
//!
//! Counters only grow, and wrap at 2^64. Sums over shards, names and labels
//! are left to `control::metrics`.

use super::clients::ClientTable;
use super::listener::ListenerStats;
use super::opentracker_counters::OpentrackerCounters;
use super::responses::{FailureClass, ResponseTimes};
use super::sweep::SweepStats;
use crate::bittorrent::AddressFamily;
use crate::hook::{HookKind, Refused};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the buckets of batch sizes, in datagrams. The last is the
/// most that one receive can bring.
pub const BATCH_BUCKETS: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];

/// The published counters of one shard. Aligned so that shards do not share
/// cache lines (128: lines are fetched in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShardStats {
    requests: [[[Counter; AddressFamily::ALL.len()]; Action::ALL.len()]; Protocol::ALL.len()],
    replies: [[[[Counter; Outcome::ALL.len()]; AddressFamily::ALL.len()]; Action::ALL.len()];
        Protocol::ALL.len()],
    drops: [[Counter; DropReason::ALL.len()]; Protocol::ALL.len()],
    cross_shard_requests: [Counter; Protocol::ALL.len()],
    families: [FamilyStats; AddressFamily::ALL.len()],
    hook_refusals: [[Counter; Refusal::ALL.len()]; HookKind::COUNT],
    responses: [ResponseTimes; Protocol::ALL.len()],
    listeners: [Box<[ListenerStats]>; Protocol::ALL.len()],
    batches: [Counter; BATCH_BUCKETS.len()],
    last_tick_milliseconds: Gauge,
    clients: OnceLock<ClientTable>,

    /// Datagrams received since the start.
    pub datagrams: Counter,
    /// Announces answered without keeping the peer: no room (`max_peers`).
    pub peers_not_stored: Counter,
    /// Announces answered without keeping the swarm: no room (`max_swarms`).
    pub swarms_not_stored: Counter,
    /// Events that posthooks have lost for want of room.
    pub hook_events_lost: Gauge,
    /// HTTP connections accepted since the start.
    pub connections_accepted: Counter,
    /// HTTP connections open now.
    pub connections_open: Gauge,
    handshakes: [Counter; Handshake::ALL.len()],
    /// When the certificate of HTTPS expires, in Unix seconds; 0 without one.
    /// The whole process has one: it is kept with the first shard's values, and
    /// written by the thread that reads certificates, not by the shard.
    pub certificate_expiry: Gauge,
    /// Bytes of memory that the swarm store holds now.
    pub store_bytes: Gauge,
    /// Peers that may be stored, `u64::MAX` without a cap (`max_peers`).
    pub max_peers: Gauge,
    /// Swarms that may be stored, `u64::MAX` without a cap (`max_swarms`).
    pub max_swarms: Gauge,
    /// Requests that wait for this shard in the lanes of the others, at the
    /// last drain.
    pub lane_depth: Gauge,
    /// The most that `lane_depth` has been since the start.
    pub lane_depth_max: Gauge,
    /// Bells that this shard rang to wake another.
    pub wakeups: Counter,
    /// Its sweeps for expired peers.
    pub sweep: SweepStats,
    /// What only opentracker's statistics show.
    pub opentracker: OpentrackerCounters,
}

/// What is counted per address family.
#[derive(Debug, Default)]
pub struct FamilyStats {
    /// Swarms known now.
    pub swarms: Gauge,
    /// Seeders known now.
    pub seeders: Gauge,
    /// Leechers known now.
    pub leechers: Gauge,
}

impl ShardStats {
    /// Counters for a shard that listens at these places (addresses, network
    /// interfaces), in their order.
    #[must_use]
    pub fn new<U: ToString, H: ToString>(udp: &[U], http: &[H]) -> Self {
        fn listeners<P: ToString>(places: &[P]) -> Box<[ListenerStats]> {
            let names = places.iter().map(ToString::to_string);
            names.map(ListenerStats::new).collect()
        }
        Self {
            listeners: [listeners(udp), listeners(http)],
            ..Self::default()
        }
    }

    /// Counts one request that was understood.
    #[inline]
    pub fn request(&self, protocol: Protocol, action: Action, family: AddressFamily) {
        self.requests(protocol, action, family).add(1);
    }

    /// The counter of such requests, to add a whole batch at once.
    #[must_use]
    #[inline]
    pub fn requests(&self, protocol: Protocol, action: Action, family: AddressFamily) -> &Counter {
        &self.requests[protocol as usize][action as usize][family.index()]
    }

    /// All requests that this shard's own sockets brought.
    #[must_use]
    pub fn all_requests(&self) -> u64 {
        let kinds = self.requests.as_flattened().as_flattened();
        kinds.iter().map(Counter::get).sum()
    }

    /// Counts one reply that was handed to the kernel.
    #[inline]
    pub fn reply(
        &self,
        protocol: Protocol,
        action: Action,
        family: AddressFamily,
        outcome: Outcome,
    ) {
        self.replies(protocol, action, family, outcome).add(1);
    }

    /// The counter of such replies, to add a whole batch at once.
    #[must_use]
    #[inline]
    pub fn replies(
        &self,
        protocol: Protocol,
        action: Action,
        family: AddressFamily,
        outcome: Outcome,
    ) -> &Counter {
        &self.replies[protocol as usize][action as usize][family.index()][outcome as usize]
    }

    /// Counts one reply that said no, with the reason.
    #[inline]
    pub fn refused(
        &self,
        protocol: Protocol,
        action: Action,
        family: AddressFamily,
        class: FailureClass,
    ) {
        self.reply(protocol, action, family, Outcome::Error);
        self.response_times(protocol).failed(action, family, class);
    }

    /// Files the replies counted since the last call under the time from the
    /// arrival of their requests until they were sent.
    ///
    /// A request arrives when the shard's loop finds its socket ready; what it
    /// waits in the kernel before that is not known. Replies are sent when the
    /// kernel has taken them, or what it takes of them at once. All requests
    /// of one turn of the loop count as having arrived when the turn began.
    #[inline]
    pub fn answered(&self, protocol: Protocol, family: AddressFamily, took: Duration) {
        self.response_times(protocol)
            .measure(family, took, |action, outcome| {
                self.replies(protocol, action, family, outcome).get()
            });
    }

    /// The replies over a protocol by the time that they took.
    #[must_use]
    #[inline]
    pub fn response_times(&self, protocol: Protocol) -> &ResponseTimes {
        &self.responses[protocol as usize]
    }

    /// The counters of the listener of this number.
    #[must_use]
    #[inline]
    pub fn listener(&self, protocol: Protocol, number: usize) -> Option<&ListenerStats> {
        self.listeners(protocol).get(number)
    }

    /// The counters of all listeners of a protocol, in their order.
    #[must_use]
    #[inline]
    pub fn listeners(&self, protocol: Protocol) -> &[ListenerStats] {
        &self.listeners[protocol as usize]
    }

    /// Counts one receive that brought this many datagrams, at least one.
    #[inline]
    pub fn batch(&self, datagrams: usize) {
        let bound = |&bound: &u64| datagrams as u64 <= bound;
        let last = BATCH_BUCKETS.len() - 1;
        let bucket = BATCH_BUCKETS.iter().position(bound).unwrap_or(last);
        self.batches[bucket].add(1);
        self.datagrams.add(datagrams as u64);
    }

    /// Receives in each bucket alone (not cumulative).
    #[must_use]
    pub fn batches(&self) -> [u64; BATCH_BUCKETS.len()] {
        std::array::from_fn(|bucket| self.batches[bucket].get())
    }

    /// The table of clients, made at the first call. For the shard's own
    /// thread.
    #[must_use]
    pub fn clients(&self) -> &ClientTable {
        self.clients.get_or_init(ClientTable::default)
    }

    /// The table of clients if there is one.
    #[must_use]
    pub fn known_clients(&self) -> Option<&ClientTable> {
        self.clients.get()
    }

    /// Says that the shard's loop ticks, at this time since the start.
    #[inline]
    pub fn ticked(&self, elapsed: Duration) {
        // 0 stands for never.
        let milliseconds = (elapsed.as_millis() as u64).max(1);
        self.last_tick_milliseconds.set(milliseconds);
    }

    /// When the shard's loop last ticked, in milliseconds since the start; 0 for
    /// never. It is alive while this changes.
    #[must_use]
    pub fn last_tick_milliseconds(&self) -> u64 {
        self.last_tick_milliseconds.get()
    }

    /// The time since the shard's loop last ticked; since the start when it
    /// never did, and whether it did.
    #[must_use]
    pub fn since_tick(&self, elapsed: Duration) -> (Duration, bool) {
        let last = self.last_tick_milliseconds.get();
        let since = elapsed.saturating_sub(Duration::from_millis(last));
        (since, last > 0)
    }

    /// Counts one request or reply that was given up without an answer.
    #[inline]
    pub fn dropped(&self, protocol: Protocol, reason: DropReason) {
        self.drops(protocol, reason).add(1);
    }

    /// The counter of such drops, to add a whole batch at once.
    #[must_use]
    #[inline]
    pub fn drops(&self, protocol: Protocol, reason: DropReason) -> &Counter {
        &self.drops[protocol as usize][reason as usize]
    }

    /// Counts one request that this shard handed on to the owner of its hash.
    #[inline]
    pub fn cross_shard_request(&self, protocol: Protocol) {
        self.cross_shard_requests(protocol).add(1);
    }

    /// The counter of such requests, to add a whole batch at once.
    #[must_use]
    #[inline]
    pub fn cross_shard_requests(&self, protocol: Protocol) -> &Counter {
        &self.cross_shard_requests[protocol as usize]
    }

    /// Counts one request that a hook refused.
    #[inline]
    pub fn hook_refusal(&self, refused: &Refused) {
        let refusal = match refused.failure {
            Some(_) => Refusal::Fail,
            None => Refusal::Drop,
        };
        self.hook_refusals(refused.by, refusal).add(1);
    }

    /// The counter of such refusals.
    #[must_use]
    #[inline]
    pub fn hook_refusals(&self, by: HookKind, refusal: Refusal) -> &Counter {
        &self.hook_refusals[by as usize][refusal as usize]
    }

    /// Counts one TLS handshake that is over.
    #[inline]
    pub fn handshake(&self, handshake: Handshake) {
        self.handshakes(handshake).add(1);
    }

    /// The counter of such handshakes.
    #[must_use]
    #[inline]
    pub fn handshakes(&self, handshake: Handshake) -> &Counter {
        &self.handshakes[handshake as usize]
    }

    /// What is counted per address family.
    #[must_use]
    #[inline]
    pub fn family(&self, family: AddressFamily) -> &FamilyStats {
        &self.families[family.index()]
    }

    /// Publishes how many requests waited in the lanes at a drain.
    #[inline]
    pub fn lane_depth(&self, depth: u64) {
        self.lane_depth.set(depth);
        if depth > self.lane_depth_max.get() {
            self.lane_depth_max.set(depth);
        }
    }
}

/// A number that only grows. One writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. Only the shard's own thread may.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0
            .store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Begins anew at this count, for something else. Only the shard's own
    /// thread may.
    pub(super) fn restart(&self, count: u64) {
        self.0.store(count, Relaxed);
    }

    /// Reads it. Anybody may.
    #[must_use]
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down. One writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Publishes a value. Only the shard's own thread may.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Adds to it. Only the shard's own thread may.
    #[inline]
    pub fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    /// Takes from it, down to 0. Only the shard's own thread may.
    #[inline]
    pub fn sub(&self, count: u64) {
        self.set(self.get().saturating_sub(count));
    }

    /// Reads it. Anybody may.
    #[must_use]
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Defines a label: an enum whose variants have a name in metrics.
macro_rules! label {
    (
        $(#[$doc:meta])* $label:ident {
            $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $label {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $label {
            /// All of them, in order.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name in metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}
pub(super) use label;

label! {
    /// How a request came.
    Protocol {
        /// In a datagram (BEP 15).
        Udp = "udp",
        /// Over HTTP (BEP 3).
        Http = "http",
    }
}

label! {
    /// What a request asked for.
    Action {
        /// A connection id (UDP only).
        Connect = "connect",
        /// An announce.
        Announce = "announce",
        /// A scrape.
        Scrape = "scrape",
        /// Something else: an unknown action, an unknown path.
        Other = "other",
    }
}

label! {
    /// How a request was answered.
    Outcome {
        /// With what it asked for.
        Ok = "ok",
        /// With an error or a failure reason.
        Error = "error",
    }
}

label! {
    /// How a hook refused a request.
    Refusal {
        /// With a failure reason.
        Fail = "fail",
        /// Without an answer.
        Drop = "drop",
    }
}

label! {
    /// How a TLS handshake ended.
    Handshake {
        /// With certificate and signature.
        Full = "full",
        /// By a ticket from an earlier connection, at a fraction of the cost.
        Resumed = "resumed",
        /// Not at all: the client gave up, took too long, or did not speak TLS.
        Failed = "failed",
    }
}

label! {
    /// Why a request was given up without an answer.
    DropReason {
        /// Fewer bytes than any request has.
        TooShort = "too_short",
        /// Bytes that make no request and that no error can answer.
        Malformed = "malformed",
        /// A connect without the protocol's magic number (BEP 15).
        BadMagic = "bad_magic",
        /// A connection id that was not issued to this address, or too long ago,
        /// on a datagram too short to be told so.
        BadConnectionId = "bad_connection_id",
        /// A datagram longer than the receive buffer.
        Truncated = "truncated",
        /// A datagram from port 0 or from an address that cannot be answered.
        BadSource = "bad_source",
        /// A frame of AF_XDP with a wrong checksum or from an address that nobody
        /// has.
        BadFrame = "bad_frame",
        /// A hook said so.
        Hook = "hook",
        /// The lane to the shard that owns the hash was full.
        LaneFull = "lane_full",
        /// The kernel did not take the reply.
        SendFailed = "send_failed",
        /// The connection was gone when the reply came from the owner.
        ConnectionGone = "connection_gone",
        /// A connection was closed because there were `max_connections`.
        ConnectionLimit = "connection_limit",
        /// The client was too slow to send its request or take its reply.
        Timeout = "timeout",
        /// The connection failed under a request.
        ConnectionFailed = "connection_failed",
        /// Accepting a connection failed (out of file descriptors).
        AcceptFailed = "accept_failed",
        /// A connection that is not from a trusted proxy, where only those are
        /// served (PROXY protocol).
        UntrustedProxy = "untrusted_proxy",
        /// A connection that does not begin as the PROXY protocol wants.
        BadProxyHeader = "bad_proxy_header",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_has_a_counter_of_its_own() {
        let stats = ShardStats::default();
        let mut next = 1;
        let mut counters = Vec::new();
        for protocol in Protocol::ALL {
            for action in Action::ALL {
                for family in AddressFamily::ALL {
                    counters.push(stats.requests(protocol, action, family));
                    for outcome in Outcome::ALL {
                        counters.push(stats.replies(protocol, action, family, outcome));
                    }
                }
            }
            for reason in DropReason::ALL {
                counters.push(stats.drops(protocol, reason));
            }
            counters.push(stats.cross_shard_requests(protocol));
        }
        for counter in &counters {
            counter.add(next);
            next += 1;
        }
        let read: Vec<u64> = counters.iter().map(|counter| counter.get()).collect();
        let expected: Vec<u64> = (1..next).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn gauges_stop_at_zero_and_remember_their_greatest() {
        let stats = ShardStats::default();
        stats.connections_open.add(2);
        stats.connections_open.sub(3);
        assert_eq!(stats.connections_open.get(), 0);
        stats.lane_depth(7);
        stats.lane_depth(3);
        assert_eq!((stats.lane_depth.get(), stats.lane_depth_max.get()), (3, 7));
    }

    #[test]
    fn shards_do_not_share_cache_lines() {
        assert_eq!(align_of::<ShardStats>(), 128);
    }
}
