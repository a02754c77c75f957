//! Where the peers of medium swarms lie: chunks of a few fixed sizes.
//!
//! Why: a swarm of 3 to 128 peers is one contiguous piece, so that finding a
//! peer in it and handing out its peers is one short run over memory; and a
//! general allocator's 16 bytes of overhead and rounding per piece would cost
//! more than the peers of most swarms. Chunks of one size (class) share pages
//! of about 16 kB; growth adds a page and copies nothing. A new chunk goes to
//! the lowest page with room, so that after a shrink the high pages drain and
//! are given back.

use super::peer::StoredPeer;

/// Sizes of chunks in peers. Small ones are exact: most swarms are small.
const CLASSES: [usize; 24] = [
    2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128,
];
/// The most peers that a chunk holds; larger swarms need an index.
pub(super) const MAX_CHUNK_PEERS: usize = CLASSES[CLASSES.len() - 1];
/// Bytes of a page, about.
const PAGE_BYTES: usize = 16 * 1024;
/// Words of the map of used chunks: pages have at most 512 chunks.
const MAP_WORDS: usize = 8;

/// The class whose chunks hold at least `peers` (1 to [`MAX_CHUNK_PEERS`]).
#[inline]
pub(super) fn class_for(peers: usize) -> u16 {
    CLASSES.partition_point(|&size| size < peers) as u16
}

/// How many peers a chunk of this class holds.
#[inline]
pub(super) fn class_size(class: u16) -> usize {
    CLASSES[usize::from(class)]
}

/// All chunks of one store.
pub(super) struct Pools<P> {
    pools: [Pool<P>; CLASSES.len()],
}

impl<P: StoredPeer> Pools<P> {
    pub(super) fn new() -> Self {
        Self {
            pools: CLASSES.map(Pool::new),
        }
    }

    /// Takes a chunk of a class; all its peers are "none" or leftovers.
    pub(super) fn take(&mut self, class: u16) -> u32 {
        self.pools[usize::from(class)].take()
    }

    /// Gives a chunk back.
    pub(super) fn give(&mut self, class: u16, handle: u32) {
        self.pools[usize::from(class)].give(handle);
    }

    /// The whole chunk.
    #[inline]
    pub(super) fn chunk(&self, class: u16, handle: u32) -> &[P] {
        self.pools[usize::from(class)].chunk(handle)
    }

    /// The whole chunk, to change.
    #[inline]
    pub(super) fn chunk_mut(&mut self, class: u16, handle: u32) -> &mut [P] {
        self.pools[usize::from(class)].chunk_mut(handle)
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.pools.iter().map(Pool::bytes).sum()
    }
}

/// The chunks of one class.
struct Pool<P> {
    /// Peers per chunk.
    size: usize,
    /// Chunks per page, as a power of two: a handle is page, then chunk.
    shift: u32,
    pages: Vec<Page<P>>,
    /// One bit per page that has room (or is not there and can be made).
    roomy: Vec<u64>,
    /// No word of `roomy` before this one has a bit.
    first_roomy: usize,
    /// Pages that have memory.
    live: usize,
}

struct Page<P> {
    /// Grows up to the page's size as chunks are first used, within a capacity
    /// that is reserved at once; without capacity when no chunk is used.
    peers: Vec<P>,
    used: [u64; MAP_WORDS],
    count: u32,
}

impl<P: StoredPeer> Pool<P> {
    fn new(size: usize) -> Self {
        let chunks = (PAGE_BYTES / (size * size_of::<P>())).clamp(4, MAP_WORDS * 64);
        Self {
            size,
            shift: chunks.ilog2(),
            pages: Vec::new(),
            roomy: Vec::new(),
            first_roomy: 0,
            live: 0,
        }
    }

    fn take(&mut self) -> u32 {
        let page_at = self.roomy_page();
        let (size, chunks) = (self.size, 1usize << self.shift);
        let page = &mut self.pages[page_at];
        if page.peers.capacity() == 0 {
            page.peers.reserve_exact(size * chunks);
            self.live += 1;
        }
        let word = page
            .used
            .iter()
            .position(|word| *word != u64::MAX)
            .unwrap_or(0);
        let bit = (!page.used[word]).trailing_zeros();
        page.used[word] |= 1 << bit;
        page.count += 1;
        let chunk = word * 64 + bit as usize;
        let end = (chunk + 1) * size;
        if page.peers.len() < end {
            page.peers.resize(end, P::default());
        }
        if page.count as usize == chunks {
            self.roomy[page_at / 64] &= !(1 << (page_at % 64));
        }
        (page_at << self.shift | chunk) as u32
    }

    fn give(&mut self, handle: u32) {
        let (page_at, chunk) = self.split(handle);
        let page = &mut self.pages[page_at];
        page.used[chunk / 64] &= !(1 << (chunk % 64));
        page.count -= 1;
        if page.count == 0 {
            page.peers = Vec::new();
            self.live -= 1;
        }
        self.roomy[page_at / 64] |= 1 << (page_at % 64);
        self.first_roomy = self.first_roomy.min(page_at / 64);
    }

    /// The lowest page with room, made if there is none.
    fn roomy_page(&mut self) -> usize {
        while let Some(word) = self.roomy.get(self.first_roomy) {
            if *word != 0 {
                return self.first_roomy * 64 + word.trailing_zeros() as usize;
            }
            self.first_roomy += 1;
        }
        let at = self.pages.len();
        self.pages.push(Page {
            peers: Vec::new(),
            used: [0; MAP_WORDS],
            count: 0,
        });
        if at.is_multiple_of(64) {
            self.roomy.push(0);
        }
        self.first_roomy = at / 64;
        self.roomy[at / 64] |= 1 << (at % 64);
        at
    }

    #[inline]
    fn split(&self, handle: u32) -> (usize, usize) {
        let handle = handle as usize;
        (handle >> self.shift, handle & ((1 << self.shift) - 1))
    }

    #[inline]
    fn chunk(&self, handle: u32) -> &[P] {
        let (page, chunk) = self.split(handle);
        &self.pages[page].peers[chunk * self.size..][..self.size]
    }

    #[inline]
    fn chunk_mut(&mut self, handle: u32) -> &mut [P] {
        let (page, chunk) = self.split(handle);
        &mut self.pages[page].peers[chunk * self.size..][..self.size]
    }

    fn bytes(&self) -> usize {
        self.live * (self.size << self.shift) * size_of::<P>()
            + self.pages.capacity() * size_of::<Page<P>>()
            + self.roomy.capacity() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::super::peer::{Peer4, Peer6WithId};
    use super::*;

    #[test]
    fn classes_fit() {
        for peers in 1..=MAX_CHUNK_PEERS {
            let class = class_for(peers);
            assert!(class_size(class) >= peers);
            assert!(class == 0 || class_size(class - 1) < peers);
        }
    }

    fn peer(n: u16) -> Peer4 {
        Peer4::new([127, 0, 0, 1].into(), n)
    }

    #[test]
    fn chunks_do_not_overlap_and_pages_go_back() {
        let mut pools = Pools::<Peer4>::new();
        let empty = pools.bytes();
        let mut taken = Vec::new();
        for n in 1..=5000u16 {
            let class = n % 24;
            let handle = pools.take(class);
            pools.chunk_mut(class, handle).fill(peer(n));
            taken.push((class, handle, n));
        }
        let full = pools.bytes();
        for (class, handle, n) in &taken {
            let chunk = pools.chunk(*class, *handle);
            assert_eq!(chunk.len(), class_size(*class));
            assert!(chunk.iter().all(|found| *found == peer(*n)));
        }
        for (class, handle, _) in taken {
            pools.give(class, handle);
        }
        assert!(full > 100 * 5000 && pools.bytes() < full / 50 + empty);
    }

    #[test]
    fn the_lowest_free_chunk_is_taken_again() {
        let mut pools = Pools::<Peer6WithId>::new();
        let handles: Vec<u32> = (0..100).map(|_| pools.take(23)).collect();
        for at in [70, 3, 50] {
            pools.give(23, handles[at]);
        }
        assert_eq!(
            [0; 3].map(|_| pools.take(23)),
            [handles[3], handles[50], handles[70]]
        );
    }
}
