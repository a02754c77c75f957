//! A segment of a table: a hash table of its own over a few blocks.

use super::memory::Memory;

/// Entries compared at a time: the bytes of a `u64`.
pub(super) const LANES: usize = 8;
/// Control bytes of a group without entries.
pub(super) const ALL_EMPTY: u64 = 0x8080_8080_8080_8080;
const LOW_BITS: u64 = 0x0101_0101_0101_0101;

/// Part of the hash space: hashes that begin with the `depth` bits of `prefix`.
pub(super) struct Segment<E, const GROUPS: usize, const BLOCKS: usize, M>
where
    E: Copy + Default,
    M: Memory<Block<E, GROUPS>>,
{
    pub(super) len: usize,
    pub(super) depth: u32,
    pub(super) prefix: u32,
    count: u32,
    /// The first `count` are there. No vector: that would be one more load
    /// from memory in each lookup.
    blocks: [Option<M::Owned>; BLOCKS],
    /// Blocks beyond, used at [`super::MAX_DEPTH`] only.
    more: Vec<M::Owned>,
}

/// A run of groups: their control bytes, then their entries.
#[derive(Clone, Copy)]
pub(in crate::swarm) struct Block<E, const GROUPS: usize> {
    control: [u64; GROUPS],
    entries: [[E; LANES]; GROUPS],
}

impl<E, const GROUPS: usize, const BLOCKS: usize, M> Segment<E, GROUPS, BLOCKS, M>
where
    E: Copy + Default,
    M: Memory<Block<E, GROUPS>>,
{
    pub(super) fn new(depth: u32, prefix: u32) -> Self {
        let blocks = [const { None }; BLOCKS];
        Self {
            len: 0,
            depth,
            prefix,
            count: 0,
            blocks,
            more: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn block_count(&self) -> usize {
        self.count as usize
    }

    #[inline]
    pub(super) fn groups(&self) -> usize {
        self.block_count() * GROUPS
    }

    pub(super) fn capacity(&self) -> usize {
        self.groups() * LANES
    }

    /// The group of a hash: the bits below the prefix, scaled to the groups.
    #[inline]
    pub(super) fn home(&self, hash: u64) -> usize {
        let fraction = (hash << self.depth) >> 32;
        ((fraction * self.groups() as u64) >> 32) as usize
    }

    #[inline]
    pub(super) fn group(&self, group: usize) -> (&u64, &[E; LANES]) {
        let at = group / GROUPS;
        let block = match self.blocks.get(at) {
            Some(Some(block)) => block,
            _ => &self.more[at - BLOCKS],
        };
        (
            &block.control[group % GROUPS],
            &block.entries[group % GROUPS],
        )
    }

    #[inline]
    pub(super) fn group_mut(&mut self, group: usize) -> (&mut u64, &mut [E; LANES]) {
        let at = group / GROUPS;
        let block: &mut Block<E, GROUPS> = match self.blocks.get_mut(at) {
            Some(Some(block)) => block,
            _ => &mut self.more[at - BLOCKS],
        };
        (
            &mut block.control[group % GROUPS],
            &mut block.entries[group % GROUPS],
        )
    }

    #[inline]
    pub(super) fn find(
        &self,
        hash: u64,
        mut is_it: impl FnMut(&E) -> bool,
    ) -> Option<(usize, usize)> {
        let groups = self.groups();
        let mut group = self.home(hash);
        for _ in 0..groups {
            let (control, entries) = self.group(group);
            for lane in lanes(matches(*control, tag(hash))) {
                if is_it(&entries[lane]) {
                    return Some((group, lane));
                }
            }
            if control & ALL_EMPTY != 0 {
                return None;
            }
            group = if group + 1 == groups { 0 } else { group + 1 };
        }
        None
    }

    /// Writes an entry into the first group with room. There is room.
    pub(super) fn place(&mut self, hash: u64, entry: E) -> (usize, usize) {
        let groups = self.groups();
        let mut group = self.home(hash);
        loop {
            let (control, entries) = self.group_mut(group);
            if let Some(lane) = lanes(*control & ALL_EMPTY).next() {
                *control = with_control(*control, lane, tag(hash));
                entries[lane] = entry;
                self.len += 1;
                return (group, lane);
            }
            group = if group + 1 == groups { 0 } else { group + 1 };
        }
    }

    /// Empties a place, then pulls back an entry that was displaced over it.
    pub(super) fn remove(&mut self, group: usize, lane: usize, hasher: impl Fn(&E) -> u64) {
        let groups = self.groups();
        let (mut hole, mut hole_lane) = (group, lane);
        self.len -= 1;
        'hole: loop {
            let control = self.group_mut(hole).0;
            let was_full = *control & ALL_EMPTY == 0;
            *control = with_control(*control, hole_lane, 0x80);
            if !was_full {
                return;
            }
            let mut at = hole;
            for distance in 1..groups {
                at = if at + 1 == groups { 0 } else { at + 1 };
                let (&control, entries) = self.group(at);
                for lane in lanes(!control & ALL_EMPTY) {
                    let entry = entries[lane];
                    let home = self.home(hasher(&entry));
                    // How far it was displaced, around the end of the segment.
                    let displaced = if at >= home {
                        at - home
                    } else {
                        at + groups - home
                    };
                    if displaced >= distance {
                        let byte = (control >> (lane * 8)) as u8;
                        let (control, entries) = self.group_mut(hole);
                        *control = with_control(*control, hole_lane, byte);
                        entries[hole_lane] = entry;
                        (hole, hole_lane) = (at, lane);
                        continue 'hole;
                    }
                }
                if control & ALL_EMPTY != 0 {
                    return;
                }
            }
            return;
        }
    }

    /// Takes all entries out; the blocks stay, empty.
    pub(super) fn drain(&mut self) -> Vec<E> {
        let mut all = Vec::with_capacity(self.len);
        for group in 0..self.groups() {
            let (control, entries) = self.group_mut(group);
            all.extend(lanes(!*control & ALL_EMPTY).map(|lane| entries[lane]));
            *control = ALL_EMPTY;
        }
        self.len = 0;
        all
    }

    /// Moves all entries into `blocks` blocks.
    pub(super) fn rebuild(&mut self, blocks: usize, hasher: &impl Fn(&E) -> u64, memory: &mut M) {
        let entries = self.drain();
        self.resize(blocks, memory);
        for entry in entries {
            self.place(hasher(&entry), entry);
        }
    }

    /// Changes the number of blocks of an empty segment.
    pub(super) fn resize(&mut self, blocks: usize, memory: &mut M) {
        self.count = blocks as u32;
        for (at, block) in self.blocks.iter_mut().enumerate() {
            if at < blocks {
                block.get_or_insert_with(|| memory.put(Block::empty()));
            } else if let Some(block) = block.take() {
                memory.give(block);
            }
        }
        let more = blocks.saturating_sub(BLOCKS);
        while self.more.len() > more
            && let Some(block) = self.more.pop()
        {
            memory.give(block);
        }
        self.more.resize_with(more, || memory.put(Block::empty()));
        self.more.shrink_to_fit();
    }
}

impl<E: Copy + Default, const GROUPS: usize> Block<E, GROUPS> {
    fn empty() -> Self {
        Self {
            control: [ALL_EMPTY; GROUPS],
            entries: [[E::default(); LANES]; GROUPS],
        }
    }
}

/// The control byte of a hash: its lowest seven bits, which no index uses.
#[inline]
pub(super) const fn tag(hash: u64) -> u8 {
    hash as u8 & 0x7f
}

/// The high bit of each byte of `control` that equals `tag`, and now and then
/// of one above such a byte: callers compare the entries. Never of an empty.
#[inline]
pub(super) const fn matches(control: u64, tag: u8) -> u64 {
    let differences = control ^ (LOW_BITS * tag as u64);
    differences.wrapping_sub(LOW_BITS) & !differences & ALL_EMPTY
}

/// The bytes of which the high bit is set.
#[inline]
pub(super) fn lanes(mut high_bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if high_bits == 0 {
            return None;
        }
        let lane = high_bits.trailing_zeros() as usize / 8;
        high_bits &= high_bits - 1;
        Some(lane)
    })
}

#[inline]
const fn with_control(control: u64, lane: usize, byte: u8) -> u64 {
    control & !(0xff << (lane * 8)) | (byte as u64) << (lane * 8)
}
