//! One core's state: the swarms whose info hashes fall to it.
//!
//! Everything here is synchronous and takes the time as an argument: no borrow
//! crosses an await, and a tracker of many shards runs deterministically in a
//! test. A shard never calls another; [`exchange::Exchange`]s travel.

pub mod clients;
pub mod exchange;
pub mod families;
pub mod listener;
pub mod opentracker_counters;
mod overlap;
pub mod owner;
mod pace;
pub mod responses;
mod restore;
pub mod stats;
pub mod survey;
pub mod sweep;

use crate::bittorrent::{AddressFamily, Announce, AnnounceCounts, Event, InfoHash, ScrapeCounts};
use crate::hook::selection::{Selected, Selector, StoredIp};
use crate::hook::{Chain, Context, Effects, Moment, Refused, ShardHooks};
use crate::swarm::{
    AnnounceOutcome, Capacity, Lookup, NotStored, Peer4, Peer4WithId, Peer6, Peer6WithId, PeerSink,
    Random, Stored, StoredPeer, SwarmAnnounce, SwarmSettings, SwarmStore, SweepReport, Totals,
};
use exchange::{Exchange, PeerOutput, Question};
use families::{Families, Peers};
use overlap::Overlap;
use owner::{OwnerMap, ShardId};
use pace::{Pace, weight};
use stats::ShardStats;
use std::net::IpAddr;
use std::sync::Arc;

/// What a shard is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardSettings {
    /// How long a peer is kept after its last announce.
    pub peer_lifetime_seconds: u32,
    /// How long the download count of an empty swarm is kept.
    pub downloads_lifetime_seconds: u32,
    /// Within how many seconds the sweep visits every peer once.
    pub sweep_seconds: u32,
    /// Whether peer ids are stored, for dictionary replies.
    pub peer_ids: bool,
    /// Peers that the whole tracker stores at most; 0 for no cap.
    pub max_peers: u64,
    /// Swarms that the whole tracker stores at most; 0 for no cap.
    pub max_swarms: u64,
    /// Whether announces with `event=started` are counted by client.
    pub client_breakdown: bool,
    /// Whether what only opentracker's statistics show is counted.
    pub opentracker_statistics: bool,
}

/// The swarms of both families, in the form that the settings ask for.
enum Swarms {
    Plain(Selected<Peer4>, Selected<Peer6>),
    WithIds(Selected<Peer4WithId>, Selected<Peer6WithId>),
}

/// Runs `$body` with `$store` bound to the store of `$family`.
macro_rules! with_store {
    ($swarms:expr, $family:expr, |$store:ident| $body:expr) => {
        match (&mut $swarms, $family) {
            (Swarms::Plain(Selected { store: $store, .. }, _), AddressFamily::V4) => $body,
            (Swarms::Plain(_, Selected { store: $store, .. }), AddressFamily::V6) => $body,
            (Swarms::WithIds(Selected { store: $store, .. }, _), AddressFamily::V4) => $body,
            (Swarms::WithIds(_, Selected { store: $store, .. }), AddressFamily::V6) => $body,
        }
    };
}
use with_store;

/// Runs `$body` with `$selected` bound to the swarms of `$family`.
macro_rules! with_swarms {
    ($swarms:expr, $family:expr, |$selected:ident| $body:expr) => {
        match ($swarms, $family) {
            (Swarms::Plain($selected, _), AddressFamily::V4) => $body,
            (Swarms::Plain(_, $selected), AddressFamily::V6) => $body,
            (Swarms::WithIds($selected, _), AddressFamily::V4) => $body,
            (Swarms::WithIds(_, $selected), AddressFamily::V6) => $body,
        }
    };
}
use with_swarms;

/// Runs `$body` with `$ip` bound to an address in its family's type and
/// `$selected` to the swarms of that family.
macro_rules! with_peer {
    ($swarms:expr, $address:expr, |$ip:ident, $selected:ident| $body:expr) => {
        match ($swarms, $address) {
            (Swarms::Plain($selected, _), IpAddr::V4($ip)) => $body,
            (Swarms::Plain(_, $selected), IpAddr::V6($ip)) => $body,
            (Swarms::WithIds($selected, _), IpAddr::V4($ip)) => $body,
            (Swarms::WithIds(_, $selected), IpAddr::V6($ip)) => $body,
        }
    };
}

/// One shard. Made on the thread that starts the tracker, then owned by its
/// executor.
pub struct Shard {
    id: ShardId,
    owners: OwnerMap,
    swarms: Swarms,
    /// This shard's part of the caps; `u64::MAX` for none.
    caps: Capacity,
    capacity: Capacity,
    random: Random,
    sweep_seconds: u32,
    /// How fast each family is swept.
    pace: [Pace; AddressFamily::ALL.len()],
    /// How long a peer can stay after its last announce.
    longest_stay_seconds: u32,
    chain: Chain,
    /// Counts by client are wanted.
    counts_clients: bool,
    selector: Selector,
    /// Torrents of both families; counted only when somebody asks for it, and
    /// so are renewals.
    overlap: Option<Overlap>,
    stats: Arc<ShardStats>,
}

impl Shard {
    /// An empty shard. `seed` keys its tables and chooses its peers.
    #[must_use]
    pub fn new(
        id: ShardId,
        owners: OwnerMap,
        settings: &ShardSettings,
        seed: u64,
        stats: Arc<ShardStats>,
    ) -> Self {
        let swarm_settings = settings.swarms();
        let caps = settings.caps(id, owners.shards());
        let mut random = Random::new(seed);
        let (a, b) = (random.next_u64(), random.next_u64());
        let swarms = match settings.peer_ids {
            false => Swarms::Plain(
                Selected::new(swarm_settings, a),
                Selected::new(swarm_settings, b),
            ),
            true => Swarms::WithIds(
                Selected::new(swarm_settings, a),
                Selected::new(swarm_settings, b),
            ),
        };
        Self {
            id,
            owners,
            swarms,
            caps,
            capacity: caps,
            random,
            sweep_seconds: settings.sweep_seconds.max(1),
            pace: Default::default(),
            longest_stay_seconds: settings.longest_stay_seconds(),
            chain: {
                let mut chain = Chain::default();
                chain.note_all(settings.client_breakdown);
                chain
            },
            counts_clients: settings.client_breakdown,
            selector: Selector::default(),
            overlap: settings.opentracker_statistics.then(Overlap::default),
            stats,
        }
    }

    /// Exchanges the hooks for these.
    pub fn swap_hooks(&mut self, hooks: &mut ShardHooks) {
        std::mem::swap(&mut self.chain, &mut hooks.chain);
        self.chain.note_all(self.counts_clients);
        self.selector.swap(&mut hooks.selection);
    }

    /// Takes other settings; no peer is lost by it. `peer_ids` cannot change
    /// and is not looked at. Lower caps let nothing new in until enough has
    /// gone by itself; on other lifetimes see [`SwarmStore::set_settings`].
    pub fn set_settings(&mut self, settings: &ShardSettings) {
        for family in AddressFamily::ALL {
            with_store!(self.swarms, family, |store| {
                store.set_settings(settings.swarms());
            });
        }
        self.caps = settings.caps(self.id, self.owners.shards());
        let (peers, swarms) = self.stored();
        self.capacity = Capacity {
            peers: room(self.caps.peers, peers),
            swarms: room(self.caps.swarms, swarms),
        };
        self.sweep_seconds = settings.sweep_seconds.max(1);
        self.counts_clients = settings.client_breakdown;
        self.chain.note_all(self.counts_clients);
        if settings.opentracker_statistics != self.overlap.is_some() {
            self.overlap = settings.opentracker_statistics.then(Overlap::default);
        }
        // Peers that are here were promised the earlier time.
        let stay = settings.longest_stay_seconds();
        self.longest_stay_seconds = self.longest_stay_seconds.max(stay);
    }

    /// The hooks on requests that arrive here.
    #[must_use]
    #[inline]
    pub const fn hooks(&self) -> &Chain {
        &self.chain
    }

    /// Asks the hooks about an announce that arrived here, whoever owns it.
    ///
    /// # Errors
    /// The refusal; it is counted.
    pub fn before_announce(
        &mut self,
        now: Moment,
        announce: &mut Announce,
        context: &Context<'_>,
    ) -> Result<Effects, Refused> {
        let result = self.chain.before_announce(now, announce, context);
        result.inspect_err(|refused| self.stats.hook_refusal(refused))
    }

    /// Asks the hooks about a scrape that arrived here.
    ///
    /// # Errors
    /// The refusal; it is counted.
    pub fn before_scrape(
        &mut self,
        now: Moment,
        hashes: &[InfoHash],
        context: &Context<'_>,
    ) -> Result<(), Refused> {
        let result = self.chain.before_scrape(now, hashes, context);
        result.inspect_err(|refused| self.stats.hook_refusal(refused))
    }

    /// Tells the posthooks of an announce that arrived here and was accepted.
    pub fn after_announce(&mut self, now: Moment, announce: &Announce, context: &Context<'_>) {
        self.chain.after_announce(now, announce, context);
        if self.counts_clients && announce.event == Event::Started {
            self.stats.clients().count(&announce.peer_id);
        }
    }

    /// Gives the hooks their turn; about ten times a second.
    pub fn tick_hooks(&mut self, now_seconds: u32, now: Moment) {
        self.chain.tick(now);
        self.selector.tick(now_seconds, self.longest_stay_seconds);
        self.stats.hook_events_lost.set(self.chain.lost());
    }

    /// Which shard this is.
    #[must_use]
    pub const fn id(&self) -> ShardId {
        self.id
    }

    /// Who owns which info hash.
    #[must_use]
    pub const fn owners(&self) -> &OwnerMap {
        &self.owners
    }

    /// The counters that this shard publishes.
    #[must_use]
    pub const fn stats(&self) -> &Arc<ShardStats> {
        &self.stats
    }

    /// The beginning of a look-up of a swarm. A batch of announces goes through
    /// [`Shard::prefetch_group`], [`Shard::prefetch_slot`],
    /// [`Shard::prefetch_peers`] and [`Shard::announce_prefetched`], each step
    /// for all of them before the next, so that their cache misses overlap. A
    /// loop over one step alone also overlaps the walks of the page tables.
    #[must_use]
    #[inline]
    pub fn lookup(&mut self, family: AddressFamily, info_hash: &InfoHash) -> Lookup {
        with_store!(self.swarms, family, |store| store.lookup(info_hash))
    }

    /// The first step: begins to fetch the index bytes of the swarm's group.
    #[inline]
    pub fn prefetch_group(&mut self, family: AddressFamily, lookup: &mut Lookup) {
        with_store!(self.swarms, family, |store| store.prefetch_group(lookup));
    }

    /// The second step: begins to fetch the swarm's slot.
    #[inline]
    pub fn prefetch_slot(&mut self, family: AddressFamily, lookup: &mut Lookup) {
        with_store!(self.swarms, family, |store| store.prefetch_slot(lookup));
    }

    /// The third step: begins to fetch the swarm's peers.
    #[inline]
    pub fn prefetch_peers(&mut self, lookup: &Lookup, announce: &Announce) {
        with_peer!(&self.swarms, announce.ip, |ip, swarms| {
            prefetch_in(&swarms.store, lookup, ip, announce);
        });
    }

    /// Stores the announcer (or removes it) and hands out peers. `lookup` is of
    /// this family and info hash.
    #[inline]
    pub fn announce_prefetched(
        &mut self,
        now_seconds: u32,
        lookup: &Lookup,
        announce: &Announce,
        output: &mut impl PeerOutput,
    ) -> AnnounceCounts {
        let (capacity, random) = (&mut self.capacity, &mut self.random);
        let selector = &mut self.selector;
        let outcome = with_peer!(&mut self.swarms, announce.ip, |ip, swarms| {
            announce_to(
                swarms,
                selector,
                now_seconds,
                lookup,
                ip,
                announce,
                capacity,
                random,
                output,
            )
        });
        if self.overlap.is_some()
            && let Some(seconds) = outcome.renewed_after_seconds
        {
            self.stats.opentracker.renewed(seconds);
        }
        match outcome.stored {
            Stored::Yes | Stored::No(NotStored::Stopped) => {}
            Stored::No(NotStored::PeerCap) => self.stats.peers_not_stored.add(1),
            Stored::No(NotStored::SwarmCap) => self.stats.swarms_not_stored.add(1),
        }
        outcome.counts
    }

    /// [`Shard::announce_prefetched`] without the steps before it.
    pub fn announce(
        &mut self,
        now_seconds: u32,
        announce: &Announce,
        output: &mut impl PeerOutput,
    ) -> AnnounceCounts {
        let lookup = self.lookup(announce.family(), &announce.info_hash);
        self.announce_prefetched(now_seconds, &lookup, announce, output)
    }

    /// Counts one swarm, or those of both families together; all zero when it is
    /// unknown.
    #[must_use]
    #[inline]
    pub fn scrape(&mut self, families: impl Into<Families>, info_hash: &InfoHash) -> ScrapeCounts {
        match families.into() {
            Families::One(family) => self.scrape_one(family, info_hash),
            Families::Both => {
                let [v4, v6] = AddressFamily::ALL.map(|family| self.scrape_one(family, info_hash));
                v4.merge(v6)
            }
        }
    }

    #[inline]
    fn scrape_one(&mut self, family: AddressFamily, info_hash: &InfoHash) -> ScrapeCounts {
        with_store!(self.swarms, family, |store| store.scrape(info_hash)).unwrap_or_default()
    }

    /// Answers another shard's question in its own box.
    pub fn handle(&mut self, now_seconds: u32, exchange: &mut Exchange) {
        match exchange.question {
            Question::Announce(announce) => {
                exchange.counts = self.announce(now_seconds, &announce, &mut exchange.peers);
            }
            Question::AnnounceBoth(announce, Peers::Own) => {
                let lookup = self.lookup(announce.family(), &announce.info_hash);
                let peers = &mut exchange.peers;
                exchange.counts =
                    self.announce_counting_both(now_seconds, &lookup, &announce, peers);
            }
            Question::AnnounceBoth(announce, Peers::Both) => {
                exchange.counts = self.announce_both(now_seconds, &announce, &mut exchange.peers);
            }
            Question::Scrape(family) => self.count(Families::One(family), exchange),
            Question::ScrapeBoth => self.count(Families::Both, exchange),
        }
    }

    fn count(&mut self, families: Families, exchange: &mut Exchange) {
        for hash in &exchange.hashes {
            exchange.scrape_counts.push(self.scrape(families, hash));
        }
    }

    /// A random number from 0 to `most`, for intervals that clients shall not
    /// keep in step.
    #[inline]
    pub fn random_up_to(&mut self, most: u32) -> u32 {
        self.random.below(most.saturating_add(1))
    }

    /// Sweeps what is due after `milliseconds`, and does what need not be done
    /// in each turn: holds the caps, publishes the totals. Returns what the
    /// sweep did.
    pub fn tick(&mut self, now_seconds: u32, milliseconds: u64) -> SweepReport {
        let report = self.sweep(now_seconds, milliseconds);
        self.hold_caps();
        self.count_overlap();
        self.publish();
        report
    }

    /// Sweeps what is due after `milliseconds` since the last call of this or
    /// of [`Shard::tick`]. The more often, the shorter each time.
    pub fn sweep(&mut self, now_seconds: u32, milliseconds: u64) -> SweepReport {
        let mut report = SweepReport::default();
        for family in AddressFamily::ALL {
            let items = weight(&self.totals(family));
            let pace = &mut self.pace[family.index()];
            let budget = pace.budget(items, milliseconds, self.sweep_seconds);
            if budget == 0 {
                continue;
            }
            let slice = with_store!(self.swarms, family, |store| {
                store.sweep(now_seconds, budget, &mut self.capacity)
            });
            if slice.wrapped {
                self.pace[family.index()].items = 0;
            }
            report.visited += slice.visited;
            report.expired_peers += slice.expired_peers;
            report.removed_swarms += slice.removed_swarms;
            report.wrapped |= slice.wrapped;
        }
        report
    }

    /// What the swarms of one family hold.
    #[must_use]
    pub fn totals(&mut self, family: AddressFamily) -> Totals {
        with_store!(self.swarms, family, |store| store.totals())
    }

    /// Room that is left under the caps.
    #[must_use]
    pub const fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Peers and swarms that are stored, of both families.
    fn stored(&mut self) -> (u64, u64) {
        let [a, b] = AddressFamily::ALL.map(|family| self.totals(family));
        let peers = a.seeders + a.leechers + b.seeders + b.leechers;
        (peers, a.swarms + b.swarms)
    }

    /// While more is stored than a cap allows, since it was lowered, what goes
    /// must not make room.
    fn hold_caps(&mut self) {
        let (peers, swarms) = self.stored();
        let capacity = &mut self.capacity;
        capacity.peers = capacity.peers.min(room(self.caps.peers, peers));
        capacity.swarms = capacity.swarms.min(room(self.caps.swarms, swarms));
    }

    fn count_overlap(&mut self) {
        let Some(overlap) = &mut self.overlap else {
            return;
        };
        let count = match &self.swarms {
            Swarms::Plain(v4, v6) => overlap.tick(&v4.store, &v6.store),
            Swarms::WithIds(v4, v6) => overlap.tick(&v4.store, &v6.store),
        };
        if let Some(count) = count {
            self.stats.opentracker.swarms_in_both_families.set(count);
        }
    }

    fn publish(&mut self) {
        let (mut bytes, mut downloads) = (0, 0);
        for family in AddressFamily::ALL {
            let totals = self.totals(family);
            bytes += totals.bytes;
            downloads += totals.downloads;
            let gauges = self.stats.family(family);
            gauges.swarms.set(totals.swarms);
            gauges.seeders.set(totals.seeders);
            gauges.leechers.set(totals.leechers);
        }
        self.stats.store_bytes.set(bytes);
        self.stats.max_peers.set(self.caps.peers);
        self.stats.max_swarms.set(self.caps.swarms);
        self.stats.opentracker.downloads.set(downloads);
    }
}

impl ShardSettings {
    const fn swarms(&self) -> SwarmSettings {
        SwarmSettings {
            peer_lifetime_seconds: self.peer_lifetime_seconds,
            empty_swarm_lifetime_seconds: self.downloads_lifetime_seconds,
        }
    }

    /// One shard's part of the caps.
    fn caps(&self, id: ShardId, shards: usize) -> Capacity {
        Capacity {
            peers: share(self.max_peers, id, shards),
            swarms: share(self.max_swarms, id, shards),
        }
    }

    /// How long a peer can stay after its last announce: twice, for the
    /// granularity of ages and a sweep that is late.
    const fn longest_stay_seconds(&self) -> u32 {
        self.peer_lifetime_seconds
            .saturating_add(self.sweep_seconds)
            .saturating_mul(2)
    }
}

/// Room that is left under a cap.
const fn room(cap: u64, stored: u64) -> u64 {
    match cap {
        u64::MAX => u64::MAX,
        cap => cap.saturating_sub(stored),
    }
}

/// This shard's part of a cap on the whole tracker; the first shards take what
/// does not divide. 0 means no cap.
fn share(cap: u64, id: ShardId, shards: usize) -> u64 {
    let (id, shards) = (id as u64, shards as u64);
    match cap {
        0 => u64::MAX,
        cap => cap / shards + u64::from(id < cap % shards),
    }
}

/// Gives a shard's output to a store of any kind of peer.
struct Sink<'a, O>(&'a mut O);

impl<P: StoredPeer, O: PeerOutput> PeerSink<P> for Sink<'_, O> {
    #[inline]
    fn extend(&mut self, peers: &[P]) {
        self.0.peers(peers);
    }
}

#[inline]
fn prefetch_in<P: StoredPeer>(
    store: &SwarmStore<P>,
    lookup: &Lookup,
    ip: P::Ip,
    announce: &Announce,
) {
    store.prefetch_peers(lookup, &announce.info_hash, &P::new(ip, announce.port));
}

#[expect(
    clippy::too_many_arguments,
    reason = "the borrows of a shard, taken apart"
)]
#[inline]
fn announce_to<P: StoredPeer<Ip: StoredIp>>(
    store: &mut Selected<P>,
    selector: &mut Selector,
    now_seconds: u32,
    lookup: &Lookup,
    ip: P::Ip,
    announce: &Announce,
    capacity: &mut Capacity,
    random: &mut Random,
    output: &mut impl PeerOutput,
) -> AnnounceOutcome {
    let request = SwarmAnnounce {
        info_hash: announce.info_hash,
        peer: P::new(ip, announce.port).with_peer_id(&announce.peer_id),
        event: announce.event,
        is_seeder: announce.is_seeder(),
        num_want: announce.num_want,
    };
    selector.announce(
        now_seconds,
        lookup,
        &request,
        store,
        (capacity, random),
        &mut Sink(output),
    )
}
