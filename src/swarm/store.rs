//! The store itself: announce, scrape, remove, prefetch, totals.

use super::hash::Keys;
use super::lineup::{Lineup, Tally};
use super::peer::StoredPeer;
use super::random::Random;
use super::select::Own;
use super::slot::{Kind, Open, Shelves, Slot};
use super::stamp::{Clock, PAUSED, SEEDER};
use super::sweep::SweepCursor;
use super::table::{Block, Lookup, Spot, Table};
use super::{
    AnnounceOutcome, Capacity, Change, NotStored, PeerSink, Stored, SwarmAnnounce, SwarmSettings,
    Totals,
};
use crate::bittorrent::{AnnounceCounts, Event, InfoHash, ScrapeCounts};
use crate::sys::huge::Regions;

/// Blocks of 128 slots (about 5 kB), segments of up to 16 blocks: a growth
/// moves at most 2048 slots, some tens of microseconds.
pub(super) type SlotTable<P> = Table<Slot<P>, 16, 16, Regions<Block<Slot<P>, 16>>>;

/// The swarms of one shard and one address family. See the module.
pub struct SwarmStore<P: StoredPeer> {
    pub(super) settings: SwarmSettings,
    pub(super) clock: Clock,
    /// Stored peers' stamps are of another unit until a sweep has gone over
    /// all of them: until then it stamps anew instead of expiring.
    pub(super) restamping: bool,
    pub(super) keys: Keys,
    pub(super) table: SlotTable<P>,
    pub(super) shelves: Shelves<P>,
    /// Its `swarms` and `bytes` are not kept up to date.
    pub(super) totals: Totals,
    pub(super) cursor: SweepCursor,
}

impl<P: StoredPeer> SwarmStore<P> {
    /// An empty store. `seed` is secret and random in a real tracker: it keeps
    /// strangers from choosing info hashes that collide. Stores with the same
    /// seed hash alike.
    #[must_use]
    pub fn new(settings: SwarmSettings, seed: u64) -> Self {
        Self {
            settings,
            clock: Clock::new(settings.peer_lifetime_seconds),
            restamping: false,
            keys: Keys::new(seed),
            table: Table::new(),
            shelves: Shelves::new(),
            totals: Totals::default(),
            cursor: SweepCursor::START,
        }
    }

    /// The beginning of a look-up by this info hash.
    #[must_use]
    #[inline]
    pub fn lookup(&self, info_hash: &InfoHash) -> Lookup {
        self.keys.info_hash(info_hash).into()
    }

    /// First stage for a batch: asks for the index bytes of the swarm's group.
    #[inline]
    pub fn prefetch_group(&self, lookup: &mut Lookup) {
        self.table.prefetch_control(lookup);
    }

    /// Second stage: reads those and asks for the swarm's slot.
    #[inline]
    pub fn prefetch_slot(&self, lookup: &mut Lookup) {
        self.table.prefetch_entry(lookup);
    }

    /// Third stage: reads the slot and asks for its peers (of a big swarm: for
    /// the index entry of `peer`).
    #[inline]
    pub fn prefetch_peers(&self, lookup: &Lookup, info_hash: &InfoHash, peer: &P) {
        let Some(spot) = self.spot(lookup, info_hash) else {
            return;
        };
        let slot = self.table.entry(spot);
        match slot.kind() {
            Kind::Empty | Kind::Inline => {}
            Kind::Chunk => self.shelves.prefetch_chunk(slot),
            Kind::Big => self.shelves.big(slot.big_handle()).prefetch(peer),
        }
    }

    /// Takes an announce: changes the store, then hands out peers.
    ///
    /// `lookup` is [`SwarmStore::lookup`] of the info hash, and the better the
    /// more steps it has gone. Rules 1 to 8 of the module.
    pub fn announce(
        &mut self,
        now_seconds: u32,
        lookup: &Lookup,
        announce: &SwarmAnnounce<P>,
        capacity: &mut Capacity,
        random: &mut Random,
        out: &mut impl PeerSink<P>,
    ) -> AnnounceOutcome {
        let spot = self.spot(lookup, &announce.info_hash);
        let hash = lookup.hash;
        if announce.event == Event::Stopped {
            return self.stop(now_seconds, hash, spot, announce, capacity);
        }
        let spot = match spot {
            Some(spot) => spot,
            None if capacity.peers == 0 => return refuse(NotStored::PeerCap, announce, out),
            None if capacity.swarms == 0 => return refuse(NotStored::SwarmCap, announce, out),
            None => {
                Capacity::take(&mut capacity.swarms);
                let slot = Slot::new(announce.info_hash);
                let keys = &self.keys;
                self.table
                    .insert(hash, slot, |slot| keys.info_hash(&slot.info_hash))
            }
        };
        let peer = self.stamped(now_seconds, announce);
        let slot = self.table.entry_mut(spot);
        let before = self.shelves.tally(slot);
        let admitted = admit(&mut self.shelves, slot, peer, hash, &self.keys, capacity);
        let (tally, at) = (admitted.tally, admitted.at);
        let change = match admitted.was {
            _ if at.is_none() => Change::None,
            // Rule 4.
            Some(flags) if announce.event != Event::Completed || flags & SEEDER != 0 => {
                Change::Updated
            }
            None if announce.event != Event::Completed => Change::Joined,
            _ => Change::Completed,
        };
        if change == Change::Completed {
            slot.add_download();
            self.totals.downloads += 1;
        }
        let downloaded = slot.downloads();
        if before != tally {
            slot.note(tally);
            let is_big = slot.kind() == Kind::Big;
            self.recount(before, tally, is_big);
        }
        let want = announce.num_want as usize;
        if want > 0 {
            let own = Own {
                at,
                is_seeder: announce.is_seeder,
            };
            let slot = self.table.entry(spot);
            if self.shelves.hand_out(slot, tally, own, want, random, out) == 0 {
                // Rule 6: nobody else.
                out.extend(&[announce.peer]);
            }
        }
        let stored = if at.is_some() {
            Stored::Yes
        } else {
            Stored::No(NotStored::PeerCap)
        };
        AnnounceOutcome {
            counts: counts(tally, downloaded),
            stored,
            change,
            renewed_after_seconds: admitted.was.map(|flags| self.clock.age(now_seconds, flags)),
        }
    }

    /// What a scrape says of a swarm; `None` if it is unknown.
    #[must_use]
    #[inline]
    pub fn scrape(&self, info_hash: &InfoHash) -> Option<ScrapeCounts> {
        let hash = self.keys.info_hash(info_hash);
        let slot = self.table.get(hash, |slot| slot.info_hash == *info_hash)?;
        Some(self.scrape_slot(slot))
    }

    /// The sums over all swarms. Takes no longer for many swarms than for few.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            swarms: self.table.len() as u64,
            bytes: (self.table.bytes() + self.shelves.bytes()) as u64,
            ..self.totals
        }
    }

    /// Takes new settings, for a reload.
    ///
    /// A lifetime of about the same size applies at once to all peers. One so
    /// different that peers' ages need another unit (the units are 1, 8, 64
    /// and so on seconds; 4096 units are the limit of each) gives every peer
    /// stored now up to one more lifetime.
    pub fn set_settings(&mut self, settings: SwarmSettings) {
        let clock = Clock::new(settings.peer_lifetime_seconds);
        if !clock.same_unit(self.clock) {
            self.restamping = true;
            self.cursor = SweepCursor::START;
        }
        self.clock = clock;
        self.settings = settings;
    }

    /// Removes a swarm with all its peers, whatever its downloads: a torrent
    /// that was taken off a list. Returns its last counts, `None` if unknown.
    pub fn remove(
        &mut self,
        info_hash: &InfoHash,
        capacity: &mut Capacity,
    ) -> Option<ScrapeCounts> {
        let lookup = self.lookup(info_hash);
        let spot = self.spot(&lookup, info_hash)?;
        let last = self.scrape_slot(self.table.entry(spot));
        let slot = self.table.entry_mut(spot);
        let before = self.shelves.tally(slot);
        self.shelves.clear(slot, 0);
        self.recount(before, Tally::default(), false);
        Capacity::give(&mut capacity.peers, u64::from(before.len));
        self.remove_swarm(lookup.hash, spot, capacity);
        Some(last)
    }

    /// Rule 3.
    fn stop(
        &mut self,
        now_seconds: u32,
        hash: u64,
        spot: Option<Spot>,
        announce: &SwarmAnnounce<P>,
        capacity: &mut Capacity,
    ) -> AnnounceOutcome {
        let stored = Stored::No(NotStored::Stopped);
        let Some(spot) = spot else {
            return AnnounceOutcome {
                counts: AnnounceCounts::default(),
                stored,
                change: Change::None,
                renewed_after_seconds: None,
            };
        };
        let slot = self.table.entry_mut(spot);
        let before = self.shelves.tally(slot);
        let downloaded = slot.downloads();
        let is_big = slot.kind() == Kind::Big;
        let (found, tally) = match self.shelves.open(slot) {
            Open::Small(mut lineup) => expel(&mut lineup, &announce.peer),
            Open::Big(lineup) => expel(lineup, &announce.peer),
        };
        let mut change = Change::None;
        if found {
            change = Change::Left;
            slot.note(tally);
            self.recount(before, tally, is_big);
            Capacity::give(&mut capacity.peers, 1);
            self.settle(now_seconds, hash, spot, capacity);
        }
        AnnounceOutcome {
            counts: counts(tally, downloaded),
            stored,
            change,
            renewed_after_seconds: None,
        }
    }

    /// After peers have gone: a smaller place for the rest, or rule 10.
    /// Returns whether the swarm was removed.
    pub(super) fn settle(
        &mut self,
        now_seconds: u32,
        hash: u64,
        spot: Spot,
        capacity: &mut Capacity,
    ) -> bool {
        let slot = self.table.entry_mut(spot);
        self.shelves.shrink(slot, now_seconds);
        let kept = self.settings.empty_swarm_lifetime_seconds > 0 && slot.downloads() > 0;
        let gone = slot.kind() == Kind::Empty && !kept;
        if gone {
            self.remove_swarm(hash, spot, capacity);
        }
        gone
    }

    /// Takes an empty swarm out of the table.
    pub(super) fn remove_swarm(&mut self, hash: u64, spot: Spot, capacity: &mut Capacity) {
        let keys = &self.keys;
        let hasher = |slot: &Slot<P>| keys.info_hash(&slot.info_hash);
        self.table.remove(spot, hasher);
        self.table.tidy(hash, hasher);
        Capacity::give(&mut capacity.swarms, 1);
    }

    /// Carries a change of one swarm's counts into the sums.
    #[inline]
    pub(super) fn recount(&mut self, before: Tally, after: Tally, is_big: bool) {
        let totals = &mut self.totals;
        totals.seeders = totals.seeders + u64::from(after.seeders) - u64::from(before.seeders);
        totals.leechers =
            totals.leechers + u64::from(after.leechers()) - u64::from(before.leechers());
        if is_big {
            let peers = self.shelves.big_peers + after.len as usize;
            self.shelves.big_peers = peers - before.len as usize;
        }
    }

    pub(super) fn scrape_slot(&self, slot: &Slot<P>) -> ScrapeCounts {
        let tally = self.shelves.tally(slot);
        ScrapeCounts {
            complete: tally.seeders,
            incomplete: tally.leechers(),
            downloaded: slot.downloads(),
            downloaders: tally.leechers() - tally.paused,
        }
    }

    #[inline]
    pub(super) fn spot(&self, lookup: &Lookup, info_hash: &InfoHash) -> Option<Spot> {
        let is_it = |slot: &Slot<P>| slot.info_hash == *info_hash;
        self.table.find_hinted(lookup, is_it)
    }

    /// The announcer as it is stored.
    #[inline]
    fn stamped(&self, now_seconds: u32, announce: &SwarmAnnounce<P>) -> P {
        let kind = match (announce.is_seeder, announce.event) {
            (true, _) => SEEDER,
            (false, Event::Paused) => PAUSED,
            (false, _) => 0,
        };
        announce
            .peer
            .with_flags(self.clock.stamp(now_seconds) | kind)
    }
}

/// What became of an announcer.
pub(super) struct Admitted {
    /// Its flags before, if it was stored.
    pub(super) was: Option<u16>,
    /// Its place, if it is stored now.
    pub(super) at: Option<usize>,
    pub(super) tally: Tally,
}

/// Stores or updates a peer, if there is room for it.
#[inline]
pub(super) fn admit<P: StoredPeer>(
    shelves: &mut Shelves<P>,
    slot: &mut Slot<P>,
    peer: P,
    hash: u64,
    keys: &Keys,
    capacity: &mut Capacity,
) -> Admitted {
    let has_room = capacity.peers > 0;
    let first = match shelves.open(slot) {
        Open::Small(mut lineup) => {
            let may_insert = has_room && !lineup.is_full();
            admit_to(&mut lineup, peer, may_insert)
        }
        Open::Big(lineup) => admit_to(lineup, peer, has_room),
    };
    let admitted = if first.at.is_none() && has_room {
        shelves.grow(slot, hash, keys);
        match shelves.open(slot) {
            Open::Small(mut lineup) => admit_to(&mut lineup, peer, true),
            Open::Big(lineup) => admit_to(lineup, peer, true),
        }
    } else {
        first
    };
    if admitted.was.is_none() && admitted.at.is_some() {
        Capacity::take(&mut capacity.peers);
    }
    admitted
}

/// Updates a peer; inserts it only if it may.
#[inline]
fn admit_to<P: StoredPeer>(lineup: &mut impl Lineup<P>, peer: P, may_insert: bool) -> Admitted {
    let (was, at) = match lineup.find(&peer) {
        Some(at) => (Some(lineup.get(at).flags()), Some(lineup.update(at, peer))),
        None => (None, may_insert.then(|| lineup.insert(peer))),
    };
    Admitted {
        was,
        at,
        tally: lineup.tally(),
    }
}

/// Removes a peer; whether it was there, and the counts afterwards.
fn expel<P: StoredPeer>(lineup: &mut impl Lineup<P>, peer: &P) -> (bool, Tally) {
    let found = lineup.find(peer);
    if let Some(at) = found {
        lineup.remove(at);
    }
    (found.is_some(), lineup.tally())
}

/// Answers a peer of an unknown swarm that is not stored.
fn refuse<P: StoredPeer>(
    reason: NotStored,
    announce: &SwarmAnnounce<P>,
    out: &mut impl PeerSink<P>,
) -> AnnounceOutcome {
    if announce.num_want > 0 {
        out.extend(&[announce.peer]);
    }
    AnnounceOutcome {
        counts: AnnounceCounts::default(),
        stored: Stored::No(reason),
        change: Change::None,
        renewed_after_seconds: None,
    }
}

fn counts(tally: Tally, downloaded: u32) -> AnnounceCounts {
    AnnounceCounts {
        complete: tally.seeders,
        incomplete: tally.leechers(),
        downloaded,
    }
}

#[cfg(test)]
mod tests;
