//! Looking an entry up in steps, so that the cache misses of a batch of look-ups
//! overlap: control bytes, entry, use. Each step leaves in the [`Lookup`] what it
//! found, and the next begins there. What a step found is only a hint: the last
//! one checks it, as the table may have changed since.

use super::memory::Memory;
use super::segment::{Block, LANES, lanes, matches, tag};
use super::{Spot, Table};
use crate::sys::{prefetch_read, prefetch_whole};

/// A look-up by this hash, and where the entry seems to be.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    pub(in crate::swarm) hash: u64,
    segment: u32,
    group: u32,
    lane: u32,
}

/// No table has so many segments, and no group so many lanes.
const NOWHERE: u32 = u32::MAX;

impl From<u64> for Lookup {
    /// A look-up that has not begun.
    #[inline]
    fn from(hash: u64) -> Self {
        Self {
            hash,
            segment: NOWHERE,
            group: 0,
            lane: NOWHERE,
        }
    }
}

impl<E, const GROUPS: usize, const BLOCKS: usize, M> Table<E, GROUPS, BLOCKS, M>
where
    E: Copy + Default,
    M: Memory<Block<E, GROUPS>>,
{
    /// First step: asks for the control bytes of the home group, where nearly
    /// all entries are.
    #[inline]
    pub(in crate::swarm) fn prefetch_control(&self, lookup: &mut Lookup) {
        let at = self.segment_of(lookup.hash);
        let segment = &self.segments[at];
        if segment.groups() > 0 {
            let group = segment.home(lookup.hash);
            (lookup.segment, lookup.group) = (at as u32, group as u32);
            prefetch_read(segment.group(group).0);
        }
    }

    /// Second step: reads those and asks for the entries that they promise.
    #[inline]
    pub(in crate::swarm) fn prefetch_entry(&self, lookup: &mut Lookup) {
        let Some((control, entries)) = self.hinted(lookup) else {
            return;
        };
        let found = matches(*control, tag(lookup.hash));
        for lane in lanes(found) {
            prefetch_whole(&entries[lane]);
        }
        // More than one is rare. LANES for none.
        lookup.lane = found.trailing_zeros() / 8;
    }

    /// Last step: as [`Table::find`], but looks first where the steps before
    /// expect the entry.
    #[inline]
    pub(in crate::swarm) fn find_hinted(
        &self,
        lookup: &Lookup,
        mut is_it: impl FnMut(&E) -> bool,
    ) -> Option<Spot> {
        let lane = lookup.lane as usize;
        if lane < LANES
            && let Some((control, entries)) = self.hinted(lookup)
            && (control >> (lane * 8)) as u8 == tag(lookup.hash)
            && is_it(&entries[lane])
        {
            return Some(Spot {
                segment: lookup.segment as usize,
                group: lookup.group as usize,
                lane,
            });
        }
        self.find(lookup.hash, is_it)
    }

    /// The group of the first step, if it is still there.
    #[inline]
    fn hinted(&self, lookup: &Lookup) -> Option<(&u64, &[E; LANES])> {
        let segment = self.segments.get(lookup.segment as usize)?;
        let group = lookup.group as usize;
        (group < segment.groups()).then(|| segment.group(group))
    }
}
