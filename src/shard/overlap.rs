//! How many info hashes have a swarm in both address families, counted little
//! by little: opentracker's statistics count torrents, and a torrent with
//! IPv4 and IPv6 peers is one.
//!
//! A pass walks over the smaller family's swarms in slices, one for each tick,
//! and looks each up in the other; it takes [`PASS_TICKS`] ticks (five
//! minutes), but one tick for small trackers. The result is published at the
//! end of a pass. While one family has no swarms there is nothing to count.

use crate::swarm::{StoredPeer, SwarmStore, VisitCursor};

/// Ticks that a pass takes, unless its slices would be tiny.
const PASS_TICKS: u64 = 3_000;

/// Swarms and peers that one slice passes at least; each swarm is a look-up of
/// well below a microsecond.
const LEAST_SLICE: u64 = 1024;

/// A running count.
#[derive(Debug, Default)]
pub(super) struct Overlap {
    cursor: VisitCursor,
    /// Which family is walked over: the first.
    walks_first: bool,
    counted: u64,
}

impl Overlap {
    /// One slice. Returns the count when a pass has ended.
    pub(super) fn tick<A: StoredPeer, B: StoredPeer>(
        &mut self,
        first: &SwarmStore<A>,
        second: &SwarmStore<B>,
    ) -> Option<u64> {
        let swarms = (first.totals().swarms, second.totals().swarms);
        if swarms.0 == 0 || swarms.1 == 0 {
            *self = Self::default();
            return Some(0);
        }
        if self.cursor == VisitCursor::default() {
            self.walks_first = swarms.0 <= swarms.1;
        }
        match self.walks_first {
            true => self.slice(first, second),
            false => self.slice(second, first),
        }
    }

    fn slice<A: StoredPeer, B: StoredPeer>(
        &mut self,
        walked: &SwarmStore<A>,
        other: &SwarmStore<B>,
    ) -> Option<u64> {
        let totals = walked.totals();
        // Rather too much: what a visit passes, empty places included.
        let items = 2 * totals.swarms + totals.seeders + totals.leechers;
        let budget = (items / PASS_TICKS).max(LEAST_SLICE) as usize;
        let counted = &mut self.counted;
        let next = walked.visit(self.cursor, budget, |swarm| {
            *counted += u64::from(other.scrape(swarm.info_hash).is_some());
        });
        match next {
            Some(next) => {
                self.cursor = next;
                None
            }
            None => Some(std::mem::take(self).counted),
        }
    }
}
