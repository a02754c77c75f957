//! Where the peers of medium swarms lie: chunks of a few fixed sizes.
//!
//! Why: a swarm of 3 to 128 peers is one contiguous piece, so that finding a
//! peer in it and handing out its peers is one short run over memory; and a
//! general allocator's 16 bytes of overhead and rounding per piece would cost
//! more than the peers of most swarms. Chunks of one size (class) share pages
//! of 16 kB, which lie in huge pages; growth adds a page and copies nothing. A
//! new chunk goes to the lowest page with room, so that after a shrink the high
//! pages drain and are given back.

use super::peer::{PAGE_BYTES, StoredPeer};
use crate::sys::huge::{HugeBox, Regions};

/// Sizes of chunks in peers. Small ones are exact: most swarms are small.
const CLASSES: [usize; 24] = [
    2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128,
];
/// The most peers that a chunk holds; larger swarms need an index.
pub(super) const MAX_CHUNK_PEERS: usize = CLASSES[CLASSES.len() - 1];
/// Bits of a handle that tell the chunk within its page: pages have at most
/// 1024 chunks. The others tell the page: a class has at most 64 GB.
const CHUNK_BITS: u32 = 10;
/// Words of the map of used chunks.
const MAP_WORDS: usize = 1 << CHUNK_BITS >> 6;

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
pub(super) struct Pools<P: StoredPeer> {
    pools: [Pool<P>; CLASSES.len()],
    regions: Regions<P::Page>,
}

impl<P: StoredPeer> Pools<P> {
    pub(super) fn new() -> Self {
        Self {
            pools: CLASSES.map(Pool::new),
            regions: Regions::default(),
        }
    }

    /// Takes a chunk of a class; all its peers are "none" or leftovers.
    pub(super) fn take(&mut self, class: u16) -> u32 {
        self.pools[usize::from(class)].take(&mut self.regions)
    }

    /// Gives a chunk back.
    pub(super) fn give(&mut self, class: u16, handle: u32) {
        self.pools[usize::from(class)].give(handle, &mut self.regions);
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

    /// Bytes of memory, without the free room of regions.
    pub(super) fn bytes(&self) -> usize {
        self.pools.iter().map(Pool::bytes).sum()
    }
}

impl<P: StoredPeer> Drop for Pools<P> {
    fn drop(&mut self) {
        let pages = self.pools.iter_mut().flat_map(|pool| pool.pages.drain(..));
        for page in pages.flatten() {
            self.regions.give(page);
        }
    }
}

/// The chunks of one class.
struct Pool<P: StoredPeer> {
    /// Peers per chunk.
    size: usize,
    /// Chunks per page.
    chunks: usize,
    /// Each is there while a chunk of it is used. Apart from what is known of
    /// them, so that the addresses stay in the cache.
    pages: Vec<Option<HugeBox<P::Page>>>,
    uses: Vec<Use>,
    /// One bit per page that has room (or is not there and can be made).
    roomy: Vec<u64>,
    /// No word of `roomy` before this one has a bit.
    first_roomy: usize,
    /// Pages that have memory.
    live: usize,
}

/// Which chunks of a page are used, and how many.
#[derive(Clone, Copy, Default)]
struct Use {
    map: [u64; MAP_WORDS],
    count: u32,
}

impl<P: StoredPeer> Pool<P> {
    fn new(size: usize) -> Self {
        Self {
            size,
            chunks: (PAGE_BYTES / size_of::<P>() / size).min(1 << CHUNK_BITS),
            pages: Vec::new(),
            uses: Vec::new(),
            roomy: Vec::new(),
            first_roomy: 0,
            live: 0,
        }
    }

    fn take(&mut self, regions: &mut Regions<P::Page>) -> u32 {
        let page_at = self.roomy_page();
        let page = &mut self.pages[page_at];
        if page.is_none() {
            *page = Some(regions.put(P::EMPTY_PAGE));
            self.live += 1;
        }
        let uses = &mut self.uses[page_at];
        let free = uses.map.iter().position(|word| *word != u64::MAX);
        let word = free.unwrap_or(0);
        let bit = (!uses.map[word]).trailing_zeros();
        uses.map[word] |= 1 << bit;
        uses.count += 1;
        if uses.count as usize == self.chunks {
            self.roomy[page_at / 64] &= !(1 << (page_at % 64));
        }
        (page_at << CHUNK_BITS) as u32 | (word as u32 * 64 + bit)
    }

    fn give(&mut self, handle: u32, regions: &mut Regions<P::Page>) {
        let (page_at, chunk) = split(handle);
        let uses = &mut self.uses[page_at];
        uses.map[chunk / 64] &= !(1 << (chunk % 64));
        uses.count -= 1;
        if uses.count == 0
            && let Some(page) = self.pages[page_at].take()
        {
            regions.give(page);
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
        assert!(at < 1 << (32 - CHUNK_BITS), "64 GB of swarms of one size");
        self.pages.push(None);
        self.uses.push(Use::default());
        if at.is_multiple_of(64) {
            self.roomy.push(0);
        }
        self.first_roomy = at / 64;
        self.roomy[at / 64] |= 1 << (at % 64);
        at
    }

    #[inline]
    fn chunk(&self, handle: u32) -> &[P] {
        let (page, chunk) = split(handle);
        match &self.pages[page] {
            Some(page) => &page.as_ref()[chunk * self.size..][..self.size],
            None => &[],
        }
    }

    #[inline]
    fn chunk_mut(&mut self, handle: u32) -> &mut [P] {
        let (page, chunk) = split(handle);
        match &mut self.pages[page] {
            Some(page) => &mut page.as_mut()[chunk * self.size..][..self.size],
            None => &mut [],
        }
    }

    fn bytes(&self) -> usize {
        self.live * size_of::<P::Page>()
            + self.pages.capacity() * size_of::<Option<HugeBox<P::Page>>>()
            + self.uses.capacity() * size_of::<Use>()
            + self.roomy.capacity() * 8
    }
}

/// The page of a handle, and the chunk within it.
#[inline]
fn split(handle: u32) -> (usize, usize) {
    let chunk = handle & ((1 << CHUNK_BITS) - 1);
    ((handle >> CHUNK_BITS) as usize, chunk as usize)
}

#[cfg(test)]
mod tests {
    use super::super::peer::{Peer4, Peer4WithId, Peer6, Peer6WithId};
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn classes_fit() {
        for peers in 1..=MAX_CHUNK_PEERS {
            let class = class_for(peers);
            assert!(class_size(class) >= peers);
            assert!(class == 0 || class_size(class - 1) < peers);
        }
    }

    /// Two full pages of each class and one chunk more, all of them in use.
    fn check<P: StoredPeer>(ip: P::Ip) {
        let mut pools = Pools::<P>::new();
        let empty = pools.bytes();
        let mut taken = Vec::new();
        for class in 0..CLASSES.len() as u16 {
            let pool = &pools.pools[usize::from(class)];
            let (size, chunks) = (pool.size, pool.chunks);
            // Nothing is left that would hold a chunk more, if there may be more.
            let room = PAGE_BYTES / size_of::<P>() - chunks * size;
            assert!(room < size || chunks == 1 << CHUNK_BITS);
            for _ in 0..2 * chunks + 1 {
                let peer = P::new(ip, taken.len() as u16 | 1 << 15);
                let handle = pools.take(class);
                pools.chunk_mut(class, handle).fill(peer);
                taken.push((class, handle, peer));
            }
            assert_eq!(pools.pools[usize::from(class)].live, 3);
        }
        let full = pools.bytes();
        for (class, handle, peer) in &taken {
            let chunk = pools.chunk(*class, *handle);
            assert_eq!(chunk.len(), class_size(*class));
            assert!(chunk.iter().all(|found| found == peer));
        }
        for (class, handle, _) in taken {
            pools.give(class, handle);
        }
        assert!(pools.pools.iter().all(|pool| pool.live == 0));
        assert!(full > 24 * 3 * PAGE_BYTES * 9 / 10 && pools.bytes() < full / 50 + empty);
    }

    #[test]
    fn chunks_do_not_overlap_and_pages_go_back() {
        let ip = Ipv4Addr::LOCALHOST;
        check::<Peer4>(ip);
        check::<Peer4WithId>(ip);
        check::<Peer6>(ip.to_ipv6_mapped());
        check::<Peer6WithId>(ip.to_ipv6_mapped());
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
