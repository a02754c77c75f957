//! A walk over all swarms in slices: for full scrapes, statistics, snapshots.
//!
//! The walk goes in hash order and its cursor is a hash, so it is exact: a
//! swarm that is there during the whole walk is visited exactly once, however
//! the table grows, shrinks or is swept between two slices. A swarm that comes
//! or goes meanwhile is visited once or not at all. What is visited is the
//! swarm as it is then; the whole is not a picture of one moment.

use super::peer::StoredPeer;
use super::slot::{Kind, Slot};
use super::store::SwarmStore;
use crate::bittorrent::{InfoHash, ScrapeCounts};

/// Where a walk goes on. Good for one store only, and for as long as it lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VisitCursor(u64);

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
        let shelves = &self.store.shelves;
        let (run, big): (&[P], _) = match self.slot.kind() {
            Kind::Empty => (&[], None),
            Kind::Inline => (self.slot.inline(), None),
            Kind::Chunk => {
                let chunk = self.slot.chunk();
                let peers = shelves.pools.chunk(chunk.class, chunk.handle);
                (&peers[..chunk.tally.len as usize], None)
            }
            Kind::Big => (&[], Some(shelves.big(self.slot.big_handle()))),
        };
        let runs = big.into_iter().flat_map(|big| big.runs());
        std::iter::once(run)
            .filter(|run| !run.is_empty())
            .chain(runs)
    }

    /// Its peers with whether each is a seeder.
    pub fn peers(&self) -> impl Iterator<Item = (P, bool)> + use<'a, P> {
        let seeders = self.store.shelves.tally(self.slot).seeders as usize;
        let peers = self.runs().flatten().enumerate();
        peers.map(move |(at, peer)| (*peer, at < seeders))
    }
}

impl<P: StoredPeer> SwarmStore<P> {
    /// Visits the next swarms of a walk and returns where the next slice goes
    /// on, `None` at the end. Begin with `VisitCursor::default()`.
    ///
    /// Stops once `budget` swarms and peers were passed, or a group of about
    /// eight swarms later. A swarm is never divided between slices, so a giant
    /// one makes a long slice if `f` walks over its peers.
    pub fn visit(
        &self,
        cursor: VisitCursor,
        budget: usize,
        mut f: impl FnMut(Visited<'_, P>),
    ) -> Option<VisitCursor> {
        let hasher = |slot: &Slot<P>| self.keys.info_hash(&slot.info_hash);
        let mut at = cursor.0;
        let mut passed = 0;
        while passed < budget.max(1) {
            let (segment, group) = self.table.at_cursor(at);
            passed += 1;
            self.table.natives(at, hasher, |slot| {
                passed += 1 + self.shelves.tally(slot).len as usize;
                f(Visited {
                    info_hash: &slot.info_hash,
                    counts: self.scrape_slot(slot),
                    store: self,
                    slot,
                });
            });
            at = self.table.after(segment, group)?;
        }
        Some(VisitCursor(at))
    }
}
