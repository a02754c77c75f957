//! A walk over all swarms in slices: for full scrapes, statistics, snapshots.
//!
//! The walk goes in hash order and its cursor is a hash, so it is exact: a
//! swarm that is there during the whole walk is visited exactly once, however
//! the table grows, shrinks or is swept between two slices. A swarm that comes
//! or goes meanwhile is visited once or not at all. What is visited is the
//! swarm as it is then; the whole is not a picture of one moment.
//!
//! Who walks over peers decides how many at a time: [`Visited::peers_from`]
//! begins anywhere, and [`SwarmStore::revisit`] finds the swarm again.

use super::big::Big;
use super::peer::StoredPeer;
use super::slot::{Kind, Slot};
use super::stamp::PAUSED;
use super::store::SwarmStore;
use crate::bittorrent::{InfoHash, ScrapeCounts};
use std::slice;

/// Where a walk goes on. Good for one store only, and for as long as it lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VisitCursor(u64);

/// What a slice of a walk is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisitCost {
    /// Swarms only: nobody will look at their peers.
    Swarms,
    /// Swarms and peers, but no more than so many of each swarm.
    Peers(usize),
}

/// One swarm of a walk.
pub struct Visited<'a, P: StoredPeer> {
    /// Which torrent.
    pub info_hash: &'a InfoHash,
    /// Its counts, as a scrape says them.
    pub counts: ScrapeCounts,
    store: &'a SwarmStore<P>,
    slot: &'a Slot<P>,
}

impl<'a, P: StoredPeer> Visited<'a, P> {
    /// Its peers, in runs, seeders first. Costs nothing if not asked for.
    pub fn runs(&self) -> impl Iterator<Item = &'a [P]> + use<'a, P> {
        let (run, big) = self.places();
        let pages = big.map_or(&[][..], Big::pages);
        std::iter::once(run)
            .filter(|run| !run.is_empty())
            .chain(pages.iter().map(Vec::as_slice))
    }

    /// Its peers with whether each is a seeder.
    pub fn peers(&self) -> impl Iterator<Item = (P, bool)> + use<'a, P> {
        let all = self.peers_from(0, usize::MAX, 0);
        all.map(|peer| (peer.peer, peer.is_seeder))
    }

    /// At most `limit` of its peers from the one at `start` on. In a swarm that
    /// changed since the last look some may have moved before or behind it.
    #[must_use]
    pub fn peers_from(&self, start: usize, limit: usize, now_seconds: u32) -> VisitedPeers<'a, P> {
        let (mut run, big) = self.places();
        let mut pages = big.map_or(&[][..], Big::pages).iter();
        let mut left = start;
        while left >= run.len() {
            left -= run.len();
            match pages.next() {
                Some(page) => run = page,
                None => {
                    left = run.len();
                    break;
                }
            }
        }
        let seeders = self.store.shelves.tally(self.slot).seeders as usize;
        VisitedPeers {
            run: run[left..].iter(),
            pages,
            seeders_left: seeders.saturating_sub(start),
            left: limit,
            store: self.store,
            now_seconds,
        }
    }

    /// How many peers it has.
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.store.shelves.tally(self.slot).len as usize
    }

    /// For how many seconds it has been empty; `None` while it has peers.
    #[must_use]
    pub fn empty_seconds(&self, now_seconds: u32) -> Option<u32> {
        let is_empty = self.slot.kind() == Kind::Empty;
        is_empty.then(|| now_seconds.wrapping_sub(self.slot.empty_since()))
    }

    fn places(&self) -> (&'a [P], Option<&'a Big<P>>) {
        let shelves = &self.store.shelves;
        match self.slot.kind() {
            Kind::Empty => (&[], None),
            Kind::Inline => (self.slot.inline(), None),
            Kind::Chunk => {
                let chunk = self.slot.chunk();
                let peers = shelves.pools.chunk(chunk.class, chunk.handle);
                (&peers[..chunk.tally.len as usize], None)
            }
            Kind::Big => (&[], Some(shelves.big(self.slot.big_handle()))),
        }
    }
}

/// One peer of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisitedPeer<P> {
    /// Its address, port and, where the kind keeps it, id.
    pub peer: P,
    /// Whether it has everything.
    pub is_seeder: bool,
    /// Whether its last event was `paused` (BEP 21).
    pub is_paused: bool,
    /// Seconds since its last announce, as coarse as the lifetime makes it.
    pub age_seconds: u32,
}

/// The peers of [`Visited::peers_from`].
#[derive(Clone)]
pub struct VisitedPeers<'a, P: StoredPeer> {
    run: slice::Iter<'a, P>,
    pages: slice::Iter<'a, Vec<P>>,
    seeders_left: usize,
    left: usize,
    store: &'a SwarmStore<P>,
    now_seconds: u32,
}

impl<P: StoredPeer> Iterator for VisitedPeers<'_, P> {
    type Item = VisitedPeer<P>;

    #[inline]
    fn next(&mut self) -> Option<VisitedPeer<P>> {
        self.left = self.left.checked_sub(1)?;
        let peer = loop {
            match self.run.next() {
                Some(peer) => break *peer,
                None => self.run = self.pages.next()?.iter(),
            }
        };
        let is_seeder = self.seeders_left > 0;
        self.seeders_left = self.seeders_left.saturating_sub(1);
        Some(VisitedPeer {
            peer,
            is_seeder,
            is_paused: peer.flags() & PAUSED != 0,
            age_seconds: match self.store.restamping {
                // Its stamp may be of another unit.
                true => 0,
                false => self.store.clock.age(self.now_seconds, peer.flags()),
            },
        })
    }
}

impl<P: StoredPeer> SwarmStore<P> {
    /// Visits the next swarms of a walk and returns where the next slice goes
    /// on, `None` at the end. Begin with `VisitCursor::default()`.
    ///
    /// Stops once `budget` swarms and peers were passed, or a group of about
    /// eight swarms later. A swarm is never divided between slices, so a giant
    /// one makes a long slice if `f` walks over all its peers.
    pub fn visit(
        &self,
        cursor: VisitCursor,
        budget: usize,
        f: impl FnMut(Visited<'_, P>),
    ) -> Option<VisitCursor> {
        self.visit_slice(cursor, &mut budget.max(1), VisitCost::Peers(usize::MAX), f)
    }

    /// [`SwarmStore::visit`] with another measure; takes what it costs from
    /// the budget.
    pub fn visit_slice(
        &self,
        cursor: VisitCursor,
        budget: &mut usize,
        cost: VisitCost,
        mut f: impl FnMut(Visited<'_, P>),
    ) -> Option<VisitCursor> {
        let hasher = |slot: &Slot<P>| self.keys.info_hash(&slot.info_hash);
        let mut at = cursor.0;
        loop {
            let (segment, group) = self.table.at_cursor(at);
            if let VisitCost::Peers(_) = cost {
                // All chunks of the group at once, so that their misses overlap.
                self.table.natives(at, hasher, |slot| {
                    if slot.kind() == Kind::Chunk {
                        self.shelves.prefetch_chunk(slot);
                    }
                });
            }
            let mut passed = 1;
            self.table.natives(at, hasher, |slot| {
                passed += 1 + match cost {
                    VisitCost::Swarms => 0,
                    VisitCost::Peers(most) => most.min(self.shelves.tally(slot).len as usize),
                };
                f(self.visited(slot));
            });
            *budget = budget.saturating_sub(passed);
            at = self.table.after(segment, group)?;
            if *budget == 0 {
                return Some(VisitCursor(at));
            }
        }
    }

    /// Visits one swarm, if it is known.
    pub fn revisit<R>(
        &self,
        info_hash: &InfoHash,
        f: impl FnOnce(Visited<'_, P>) -> R,
    ) -> Option<R> {
        let spot = self.spot(&self.lookup(info_hash), info_hash)?;
        Some(f(self.visited(self.table.entry(spot))))
    }

    fn visited<'a>(&'a self, slot: &'a Slot<P>) -> Visited<'a, P> {
        Visited {
            info_hash: &slot.info_hash,
            counts: self.scrape_slot(slot),
            store: self,
            slot,
        }
    }
}
