//! A hash table that never moves more than one small segment at a time.
//!
//! Why not one big table: it must double now and then, which stalls a core for
//! as long as the copy takes and leaves half of the memory unused. Here:
//!
//! - A directory, indexed by the top bits of the hash, names segments. A full
//!   segment splits in two by its next bit (extendible hashing); the directory
//!   itself is four bytes per segment or so.
//! - A segment owns up to `BLOCKS` blocks of `GROUPS` groups of eight entries.
//!   It grows by one or two blocks when it is nine tenths full, so its load
//!   stays between 0.72 and 0.9 (once it has a few blocks) and a growth moves
//!   at most `BLOCKS * GROUPS * 8` entries. All blocks of a table have one
//!   size: the allocator reuses them without holes.
//! - Each entry has a control byte (seven bits of the hash, or "empty"); the
//!   eight of a group are compared at once as one number. An entry lies in its
//!   home group, or in the first later group with room (wrapping inside the
//!   segment): every group from its home to its place is full. Removal moves
//!   displaced entries back, so there are no tombstones to clean up.
//! - Groups are in hash order: the home group is a monotonic function of the
//!   hash. A walk's cursor is therefore a hash, and stays right when segments
//!   grow, shrink, split or merge between two steps.
//!
//! The caller brings the hash of each entry (`hasher`), as entries do not
//! store it. What the table leaves to others: what entries mean.

mod lookup;
mod memory;
mod segment;

pub use lookup::Lookup;
pub(super) use segment::Block;

use memory::{Heap, Memory};
use segment::{ALL_EMPTY, LANES, Segment, lanes};

/// Segments never split beyond this many hash bits, but just grow then: with
/// more than a thousand million entries, or a broken hash.
const MAX_DEPTH: u32 = 20;
/// A segment grows when it would be fuller than this, in percent: above it,
/// chains of full groups get long.
const FULL_PERCENT: usize = 90;
/// A segment shrinks below this, far enough from the loads after a growth or
/// shrink that a swarm count which wavers causes no work.
const SPARSE_PERCENT: usize = 60;
/// Load after a split, merge or shrink.
const FRESH_PERCENT: usize = 80;

/// See the module. `E::default()` fills unused places.
pub(super) struct Table<E, const GROUPS: usize, const BLOCKS: usize, M = Heap>
where
    E: Copy + Default,
    M: Memory<Block<E, GROUPS>>,
{
    /// Segment of each hash prefix of `depth` bits.
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment<E, GROUPS, BLOCKS, M>>,
    memory: M,
    /// How many segments have each depth.
    depths: [u32; MAX_DEPTH as usize + 1],
    len: usize,
    blocks: usize,
}

/// Where an entry is, until the next change of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    segment: usize,
    group: usize,
    lane: usize,
}

impl<E, const GROUPS: usize, const BLOCKS: usize, M> Table<E, GROUPS, BLOCKS, M>
where
    E: Copy + Default,
    M: Memory<Block<E, GROUPS>>,
{
    /// An empty table.
    pub(super) fn new() -> Self {
        let mut depths = [0; MAX_DEPTH as usize + 1];
        depths[0] = 1;
        Self {
            directory: vec![0],
            depth: 0,
            segments: vec![Segment::new(0, 0)],
            memory: M::default(),
            depths,
            len: 0,
            blocks: 0,
        }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory, without the free room of regions.
    pub(super) fn bytes(&self) -> usize {
        self.blocks * size_of::<Block<E, GROUPS>>()
            + self.segments.capacity() * size_of::<Segment<E, GROUPS, BLOCKS, M>>()
            + self.directory.capacity() * size_of::<u32>()
    }

    /// The place of the entry with this hash that `is_it` accepts.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(&E) -> bool) -> Option<Spot> {
        let segment = self.segment_of(hash);
        let (group, lane) = self.segments[segment].find(hash, is_it)?;
        Some(Spot {
            segment,
            group,
            lane,
        })
    }

    /// The entry at a spot.
    #[inline]
    pub(super) fn entry(&self, spot: Spot) -> &E {
        &self.segments[spot.segment].group(spot.group).1[spot.lane]
    }

    /// The entry at a spot, to change (not so that its hash changes).
    #[inline]
    pub(super) fn entry_mut(&mut self, spot: Spot) -> &mut E {
        &mut self.segments[spot.segment].group_mut(spot.group).1[spot.lane]
    }

    /// The entry itself instead of its spot.
    #[inline]
    pub(super) fn get(&self, hash: u64, is_it: impl FnMut(&E) -> bool) -> Option<&E> {
        let segment = &self.segments[self.segment_of(hash)];
        let (group, lane) = segment.find(hash, is_it)?;
        Some(&segment.group(group).1[lane])
    }

    /// Adds an entry. The caller knows that it is not there yet.
    pub(super) fn insert(&mut self, hash: u64, entry: E, hasher: impl Fn(&E) -> u64) -> Spot {
        let segment = loop {
            let at = self.segment_of(hash);
            let segment = &mut self.segments[at];
            if segment.len < segment.capacity() * FULL_PERCENT / 100 {
                break at;
            }
            let blocks = segment.block_count();
            if blocks < BLOCKS || segment.depth >= MAX_DEPTH {
                // One block, from eight on two: a seventh to a quarter.
                let more = (1 + blocks / 8).min(BLOCKS.saturating_sub(blocks).max(1));
                segment.rebuild(blocks + more, &hasher, &mut self.memory);
                self.blocks += more;
            } else {
                self.split(at, &hasher);
            }
        };
        self.len += 1;
        let (group, lane) = self.segments[segment].place(hash, entry);
        Spot {
            segment,
            group,
            lane,
        }
    }

    /// Removes the entry at a spot and closes the hole, without giving memory
    /// back: see [`Table::tidy`]. Another entry may now be at the spot.
    pub(super) fn remove(&mut self, spot: Spot, hasher: impl Fn(&E) -> u64) {
        self.segments[spot.segment].remove(spot.group, spot.lane, hasher);
        self.len -= 1;
    }

    /// Shrinks or merges the segment of a hash if it has become sparse.
    pub(super) fn tidy(&mut self, hash: u64, hasher: impl Fn(&E) -> u64) {
        let at = self.segment_of(hash);
        let segments = self.segments.len();
        let segment = &mut self.segments[at];
        let before = segment.block_count();
        let after = Self::blocks_for(segment.len);
        let sparse = segment.len * 100 < segment.capacity() * SPARSE_PERCENT && after < before;
        // One block is kept while there is but one segment, so that a tracker
        // with a swarm or two does not allocate at each coming and going.
        if sparse && (after > 0 || segments > 1) {
            segment.rebuild(after, &hasher, &mut self.memory);
            self.blocks = self.blocks + after - before;
        }
        let mut merged = Some(at);
        while let Some(at) = merged {
            merged = self.merge(at, &hasher);
        }
    }

    /// The group at a cursor: its segment and index.
    pub(super) fn at_cursor(&self, cursor: u64) -> (usize, usize) {
        let segment = self.segment_of(cursor);
        (segment, self.segments[segment].home(cursor))
    }

    /// The cursor of the group after this one, `None` at the end of the table.
    pub(super) fn after(&self, segment: usize, group: usize) -> Option<u64> {
        let segment = &self.segments[segment];
        let groups = segment.groups() as u64;
        let next = group as u64 + 1;
        let start = if segment.depth == 0 {
            0
        } else {
            u64::from(segment.prefix) << (64 - segment.depth)
        };
        if next < groups {
            // The smallest fraction of the segment's range that maps there.
            let fraction = (next << 32).div_ceil(groups);
            return Some(start | (fraction << 32) >> segment.depth);
        }
        if segment.depth == 0 {
            return None;
        }
        start.checked_add(1 << (64 - segment.depth))
    }

    /// The spots in use of a group.
    pub(super) fn spots(
        &self,
        segment: usize,
        group: usize,
    ) -> impl Iterator<Item = Spot> + use<E, GROUPS, BLOCKS, M> {
        let here = &self.segments[segment];
        let used = if group < here.groups() {
            !here.group(group).0 & ALL_EMPTY
        } else {
            0
        };
        lanes(used).map(move |lane| Spot {
            segment,
            group,
            lane,
        })
    }

    /// Whether a spot is still in use, after a removal there.
    pub(super) fn is_used(&self, spot: Spot) -> bool {
        let segment = &self.segments[spot.segment];
        spot.group < segment.groups() && segment.group(spot.group).0 >> (spot.lane * 8 + 7) & 1 == 0
    }

    /// The entries whose home is the group at a cursor, wherever they lie, from
    /// the cursor's hash on: the group's borders may have changed since.
    pub(super) fn natives(&self, cursor: u64, hasher: impl Fn(&E) -> u64, mut f: impl FnMut(&E)) {
        let (segment, group) = self.at_cursor(cursor);
        let segment = &self.segments[segment];
        let groups = segment.groups();
        let mut at = group;
        for _ in 0..groups {
            let (control, entries) = segment.group(at);
            for lane in lanes(!control & ALL_EMPTY) {
                let hash = hasher(&entries[lane]);
                if segment.home(hash) == group && hash >= cursor {
                    f(&entries[lane]);
                }
            }
            if control & ALL_EMPTY != 0 {
                return;
            }
            at = if at + 1 == groups { 0 } else { at + 1 };
        }
    }

    #[inline]
    fn segment_of(&self, hash: u64) -> usize {
        // Shifted in two steps, as the depth may be 0.
        self.directory[(hash >> 1 >> (63 - self.depth)) as usize] as usize
    }

    /// Blocks that hold `len` entries at the load after a rebuild.
    fn blocks_for(len: usize) -> usize {
        (len * 100).div_ceil(GROUPS * LANES * FRESH_PERCENT)
    }

    /// Splits a full segment by its next hash bit.
    fn split(&mut self, at: usize, hasher: &impl Fn(&E) -> u64) {
        let old = &mut self.segments[at];
        let (depth, prefix) = (old.depth + 1, old.prefix << 1);
        self.blocks -= old.block_count();
        let entries = old.drain();
        old.resize(0, &mut self.memory);
        let bit = |entry: &E| (hasher(entry) >> (64 - depth)) & 1 == 1;
        let ones = entries.iter().filter(|entry| bit(entry)).count();
        let mut low = Segment::new(depth, prefix);
        let mut high = Segment::new(depth, prefix | 1);
        low.resize(Self::blocks_for(entries.len() - ones), &mut self.memory);
        high.resize(Self::blocks_for(ones), &mut self.memory);
        self.blocks += low.block_count() + high.block_count();
        for entry in &entries {
            let half = if bit(entry) { &mut high } else { &mut low };
            half.place(hasher(entry), *entry);
        }
        self.depths[depth as usize - 1] -= 1;
        self.depths[depth as usize] += 2;
        if depth > self.depth {
            self.directory = self.directory.iter().flat_map(|&s| [s, s]).collect();
            self.depth = depth;
        }
        self.segments[at] = low;
        self.segments.push(high);
        self.enter(at);
        self.enter(self.segments.len() - 1);
    }

    /// Merges a segment with its sibling if both together are small, and
    /// returns where the whole is then.
    fn merge(&mut self, at: usize, hasher: &impl Fn(&E) -> u64) -> Option<usize> {
        let Segment {
            depth, prefix, len, ..
        } = self.segments[at];
        // Well below what would split again.
        let small = BLOCKS * GROUPS * LANES * SPARSE_PERCENT / 2 / 100;
        if depth == 0 || len > small {
            return None;
        }
        let sibling = self.directory[((prefix ^ 1) << (self.depth - depth)) as usize] as usize;
        let together = len + self.segments[sibling].len;
        if self.segments[sibling].depth != depth || together > small {
            return None;
        }
        let (keep, gone) = (at.min(sibling), at.max(sibling));
        let mut merged = Segment::new(depth - 1, prefix >> 1);
        merged.resize(Self::blocks_for(together), &mut self.memory);
        for from in [keep, gone] {
            let from = &mut self.segments[from];
            self.blocks -= from.block_count();
            for entry in from.drain() {
                merged.place(hasher(&entry), entry);
            }
            from.resize(0, &mut self.memory);
        }
        self.blocks += merged.block_count();
        self.segments[keep] = merged;
        self.segments.swap_remove(gone);
        if gone < self.segments.len() {
            self.enter(gone);
        }
        self.enter(keep);
        self.depths[depth as usize] -= 2;
        self.depths[depth as usize - 1] += 1;
        while self.depth > 0 && self.depths[self.depth as usize] == 0 {
            self.directory = self.directory.iter().step_by(2).copied().collect();
            self.depth -= 1;
        }
        self.segments.shrink_to(self.segments.len() * 2);
        Some(keep)
    }

    /// Writes a segment into its part of the directory.
    fn enter(&mut self, segment: usize) {
        let Segment { depth, prefix, .. } = self.segments[segment];
        let spread = self.depth - depth;
        let start = (prefix as usize) << spread;
        self.directory[start..start + (1 << spread)].fill(segment as u32);
    }
}

impl<E, const GROUPS: usize, const BLOCKS: usize, M> Drop for Table<E, GROUPS, BLOCKS, M>
where
    E: Copy + Default,
    M: Memory<Block<E, GROUPS>>,
{
    fn drop(&mut self) {
        for segment in &mut self.segments {
            segment.resize(0, &mut self.memory);
        }
    }
}

#[cfg(test)]
mod tests;
