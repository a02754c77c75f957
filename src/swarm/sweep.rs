//! Expiry, a bounded amount at a time.
//!
//! A pass goes over the table in hash order (peers in slots and chunks), then
//! over the big swarms. The cursor is a hash, respectively a big swarm and a
//! place in it, so it stays right whatever happens between two calls: the
//! table may grow or shrink, a giant swarm may change. A peer that is moved
//! just then from in front of the cursor to behind it is met in the next pass;
//! [`super::stamp`] says why even several misses do no harm.

use super::Capacity;
use super::lineup::Lineup;
use super::peer::StoredPeer;
use super::slot::{Kind, Open};
use super::store::SwarmStore;
use super::table::Spot;

/// What one call of [`SwarmStore::sweep`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Work done, in slots and peers looked at (and a little for empty places,
    /// so that a call ends even where there is nothing).
    pub visited: usize,
    /// Peers removed.
    pub expired_peers: u64,
    /// Swarms removed.
    pub removed_swarms: u64,
    /// Whether the pass is complete; the next call begins another one.
    pub wrapped: bool,
}

/// Where the next sweep goes on.
#[derive(Clone, Copy, Debug)]
pub(super) enum SweepCursor {
    /// In the table, at this hash.
    Table(u64),
    /// In a big swarm, below this place.
    Big { handle: u32, below: usize },
}

impl SweepCursor {
    pub(super) const START: Self = Self::Table(0);
    const FIRST_BIG: Self = Self::Big {
        handle: 0,
        below: usize::MAX,
    };
}

impl<P: StoredPeer> SwarmStore<P> {
    /// Removes expired peers and empty swarms (rules 9 and 10), going on where
    /// the last call stopped.
    ///
    /// Stops once `budget` slots and peers were looked at, or when the pass is
    /// complete. It may go over the budget by one group of eight slots with
    /// their chunks: about a thousand peers. A budget of 0 does as 1. A whole
    /// pass should take less than three lifetimes; a fraction of one is usual.
    pub fn sweep(
        &mut self,
        now_seconds: u32,
        budget: usize,
        capacity: &mut Capacity,
    ) -> SweepReport {
        let mut report = SweepReport::default();
        while report.visited < budget.max(1) {
            let next = match self.cursor {
                SweepCursor::Table(at) => self.sweep_group(now_seconds, at, capacity, &mut report),
                SweepCursor::Big { handle, below } => {
                    let left = budget.max(1) - report.visited;
                    self.sweep_big(now_seconds, handle, below, left, capacity, &mut report)
                }
            };
            self.cursor = next.unwrap_or(SweepCursor::START);
            if next.is_none() {
                self.restamping = false;
                report.wrapped = true;
                break;
            }
        }
        report
    }

    /// Sweeps one group of slots; returns where to go on.
    fn sweep_group(
        &mut self,
        now_seconds: u32,
        at: u64,
        capacity: &mut Capacity,
        report: &mut SweepReport,
    ) -> Option<SweepCursor> {
        let (segment, group) = self.table.at_cursor(at);
        let next = self.table.after(segment, group);
        // All chunks of the group at once, so that their misses overlap.
        for spot in self.table.spots(segment, group) {
            let slot = self.table.entry(spot);
            if slot.kind() == Kind::Chunk {
                self.shelves.prefetch_chunk(slot);
            }
        }
        report.visited += 1;
        let mut emptied = false;
        for spot in self.table.spots(segment, group) {
            // Another slot may have been moved into the place of a removed one.
            while self.table.is_used(spot) && self.sweep_slot(now_seconds, spot, capacity, report) {
                emptied = true;
            }
        }
        if emptied {
            let keys = &self.keys;
            self.table.tidy(at, |slot| keys.info_hash(&slot.info_hash));
        }
        Some(next.map_or(SweepCursor::FIRST_BIG, SweepCursor::Table))
    }

    /// Sweeps one slot; returns whether it was removed. Big swarms wait for
    /// their turn.
    fn sweep_slot(
        &mut self,
        now_seconds: u32,
        spot: Spot,
        capacity: &mut Capacity,
        report: &mut SweepReport,
    ) -> bool {
        let slot = self.table.entry_mut(spot);
        report.visited += 1;
        match slot.kind() {
            Kind::Big => return false,
            Kind::Empty => {
                let idle = now_seconds.wrapping_sub(slot.empty_since());
                if idle <= self.settings.empty_swarm_lifetime_seconds {
                    return false;
                }
            }
            Kind::Inline | Kind::Chunk => {
                let before = self.shelves.tally(slot);
                report.visited += before.len as usize;
                let Open::Small(mut lineup) = self.shelves.open(slot) else {
                    return false;
                };
                let all = 0..before.len as usize;
                if self.restamping {
                    lineup.restamp(all, self.clock, now_seconds);
                    return false;
                }
                let expired = lineup.expire(all, self.clock, now_seconds);
                if expired == 0 {
                    return false;
                }
                let after = lineup.tally;
                slot.note(after);
                self.shelves.shrink(slot, now_seconds);
                let kept = slot.kind() != Kind::Empty
                    || (self.settings.empty_swarm_lifetime_seconds > 0 && slot.downloads() > 0);
                self.recount(before, after, false);
                Capacity::give(&mut capacity.peers, u64::from(expired));
                report.expired_peers += u64::from(expired);
                if kept {
                    return false;
                }
            }
        }
        // Memory is given back once per group, when no spot is in use.
        let keys = &self.keys;
        self.table
            .remove(spot, |slot| keys.info_hash(&slot.info_hash));
        Capacity::give(&mut capacity.swarms, 1);
        report.removed_swarms += 1;
        true
    }

    /// Sweeps at most `budget` peers of a big swarm; returns where to go on.
    fn sweep_big(
        &mut self,
        now_seconds: u32,
        handle: u32,
        below: usize,
        budget: usize,
        capacity: &mut Capacity,
        report: &mut SweepReport,
    ) -> Option<SweepCursor> {
        report.visited += 1;
        let next = SweepCursor::Big {
            handle: handle.checked_add(1)?,
            below: usize::MAX,
        };
        let Some(big) = self.shelves.bigs.get_mut(handle as usize)?.as_deref_mut() else {
            return Some(next);
        };
        let before = big.tally();
        let end = below.min(before.len as usize);
        let start = end.saturating_sub(budget);
        report.visited += end - start;
        let next = if start == 0 {
            next
        } else {
            SweepCursor::Big {
                handle,
                below: start,
            }
        };
        if self.restamping {
            big.restamp(start..end, self.clock, now_seconds);
            return Some(next);
        }
        let expired = big.expire(start..end, self.clock, now_seconds);
        if expired > 0 {
            let (after, hash) = (big.tally(), big.hash);
            self.recount(before, after, true);
            Capacity::give(&mut capacity.peers, u64::from(expired));
            report.expired_peers += u64::from(expired);
            let is_it = |slot: &super::slot::Slot<P>| {
                slot.kind() == Kind::Big && slot.big_handle() == handle
            };
            // It keeps its form until all of it was looked at: once in a chunk,
            // the rest would have to wait for the next pass.
            if start == 0
                && let Some(spot) = self.table.find(hash, is_it)
            {
                let removed = self.settle(now_seconds, hash, spot, capacity);
                report.removed_swarms += u64::from(removed);
            }
        }
        Some(next)
    }
}
