//! A big swarm: pages of peers and an index from address to place.
//!
//! Why: beyond [`super::pool::MAX_CHUNK_PEERS`] a scan for one peer costs more
//! than a look into an index. The peers lie in pages of [`PAGE_PEERS`] and the
//! index is a [`Table`], so that a swarm of any size grows by steps: the
//! dearest single step copies one page (8 kB of IPv4 peers) or re-places one
//! index segment (at most 1024 positions, each with one look at its peer, a
//! cache miss in a giant swarm: some tens of microseconds). The vector of the
//! pages doubles, at 24 bytes per 1024 peers.

use super::PeerSink;
use super::hash::Keys;
use super::lineup::{Lineup, Tally};
use super::peer::{AddressKeys, StoredPeer};
use super::table::{Lookup, Spot, Table};
use std::ops::Range;

/// Peers per page: all pages but the last are full.
pub(super) const PAGE_PEERS: usize = 1024;
/// The last page grows and shrinks in steps of this many peers.
const STEP_PEERS: usize = 128;
/// Stands in the index for a place that is about to be written.
const MOVING: u32 = u32::MAX;

/// Positions by address: small blocks, as most big swarms have a few hundred
/// peers.
type Index = Table<u32, 8, 16>;

/// The peers of one big swarm.
pub(super) struct Big<P> {
    tally: Tally,
    peers: Pages<P>,
    index: Index,
    keys: Keys,
    /// The hash of its info hash and the handle of its slot, so that a sweep
    /// can find the slot again.
    pub(super) hash: u64,
}

impl<P: StoredPeer> Big<P> {
    /// Takes over peers that are already in order.
    pub(super) fn new(hash: u64, keys: &Keys, peers: &[P], tally: Tally) -> Self {
        let mut big = Self {
            tally,
            peers: Pages::new(),
            index: Table::new(),
            keys: keys.clone(),
            hash,
        };
        for (at, peer) in peers.iter().enumerate() {
            big.place(at, *peer);
        }
        big
    }

    /// Asks for the index entry of a peer.
    #[inline]
    pub(super) fn prefetch(&self, key: &P) {
        let mut lookup = Lookup::from(self.hash_of(key));
        self.index.prefetch_control(&mut lookup);
    }

    /// Its peers in order, in pages.
    pub(super) fn pages(&self) -> &[Vec<P>] {
        &self.peers.0
    }

    /// Bytes on the heap, about, for a number of big swarms with a number of
    /// peers together: counted thus so that nobody must walk over them.
    pub(super) fn bytes(swarms: usize, peers: usize) -> usize {
        let fixed = size_of::<Self>() + STEP_PEERS / 2 * size_of::<P>() + 1024;
        swarms * fixed + peers * (size_of::<P>() + 6)
    }

    fn hash_of(&self, peer: &P) -> u64 {
        peer.hash_address(&AddressKeys(&self.keys))
    }

    /// The index, and what it hashes the peer at one of its places with.
    fn index_and_hasher(&mut self) -> (&mut Index, impl Fn(&u32) -> u64 + Copy) {
        let (peers, keys) = (&self.peers, AddressKeys(&self.keys));
        let hasher = move |place: &u32| peers.get(*place as usize).hash_address(&keys);
        (&mut self.index, hasher)
    }

    /// The index entry of a peer that is at `at`.
    fn entry(&self, peer: &P, at: usize) -> Option<Spot> {
        self.index
            .find(self.hash_of(peer), |place| *place as usize == at)
    }

    /// Changes the index entry of a peer.
    fn redirect(&mut self, peer: &P, from: usize, to: u32) {
        if let Some(spot) = self.entry(peer, from) {
            *self.index.entry_mut(spot) = to;
        }
    }
}

impl<P: StoredPeer> Lineup<P> for Big<P> {
    #[inline]
    fn tally(&self) -> Tally {
        self.tally
    }

    #[inline]
    fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }

    #[inline]
    fn get(&self, at: usize) -> P {
        self.peers.get(at)
    }

    #[inline]
    fn find(&self, key: &P) -> Option<usize> {
        let is_it = |place: &u32| self.peers.get(*place as usize).same_address(key);
        self.index
            .get(self.hash_of(key), is_it)
            .map(|place| *place as usize)
    }

    #[inline]
    fn overwrite(&mut self, at: usize, peer: P) {
        self.peers.set(at, peer);
    }

    fn place(&mut self, at: usize, peer: P) {
        self.peers.set(at, peer);
        let hash = self.hash_of(&peer);
        let (index, hasher) = self.index_and_hasher();
        index.insert(hash, at as u32, hasher);
    }

    fn shift(&mut self, from: usize, to: usize) {
        let peer = self.peers.get(from);
        self.redirect(&peer, from, to as u32);
        self.peers.set(to, peer);
    }

    fn swap(&mut self, a: usize, b: usize) {
        let (peer_a, peer_b) = (self.peers.get(a), self.peers.get(b));
        // In three steps, as two entries must never hold the same place.
        self.redirect(&peer_a, a, MOVING);
        self.redirect(&peer_b, b, a as u32);
        self.redirect(&peer_a, MOVING as usize, b as u32);
        self.peers.set(a, peer_b);
        self.peers.set(b, peer_a);
    }

    fn forget(&mut self, at: usize) {
        let peer = self.peers.get(at);
        let Some(spot) = self.entry(&peer, at) else {
            return;
        };
        let hash = self.hash_of(&peer);
        let (index, hasher) = self.index_and_hasher();
        index.remove(spot, hasher);
        index.tidy(hash, hasher);
    }

    fn drop_last(&mut self) {
        self.peers.pop();
    }

    #[inline]
    fn emit(&self, run: Range<usize>, out: &mut impl PeerSink<P>) {
        let mut start = run.start;
        while start < run.end {
            let end = run.end.min((start / PAGE_PEERS + 1) * PAGE_PEERS);
            let first = start % PAGE_PEERS;
            out.extend(&self.peers.0[start / PAGE_PEERS][first..first + (end - start)]);
            start = end;
        }
    }
}

/// A vector in pages.
struct Pages<P>(Vec<Vec<P>>);

impl<P: StoredPeer> Pages<P> {
    fn new() -> Self {
        Self(Vec::new())
    }

    #[inline]
    fn get(&self, at: usize) -> P {
        self.0[at / PAGE_PEERS][at % PAGE_PEERS]
    }

    /// Overwrites, or appends just behind the last.
    #[inline]
    fn set(&mut self, at: usize, peer: P) {
        match self
            .0
            .get_mut(at / PAGE_PEERS)
            .and_then(|page| page.get_mut(at % PAGE_PEERS))
        {
            Some(place) => *place = peer,
            None => self.push(peer),
        }
    }

    fn push(&mut self, peer: P) {
        if self.0.last().is_none_or(|page| page.len() == PAGE_PEERS) {
            self.0.push(Vec::new());
        }
        if let Some(page) = self.0.last_mut() {
            if page.len() == page.capacity() {
                page.reserve_exact(STEP_PEERS);
            }
            page.push(peer);
        }
    }

    fn pop(&mut self) {
        if let Some(page) = self.0.last_mut() {
            page.pop();
            // A step behind, so that a swarm that wavers does not allocate.
            if page.capacity() - page.len() > 2 * STEP_PEERS {
                page.shrink_to(page.len() + STEP_PEERS / 2);
            }
            if page.is_empty() {
                self.0.pop();
                if self.0.capacity() > 4 * self.0.len() {
                    self.0.shrink_to(2 * self.0.len());
                }
            }
        }
    }
}
