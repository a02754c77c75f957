//! The order in which a swarm's peers lie: seeders first, then leechers.
//!
//! Why an order: handing out peers is then one or two contiguous pieces, and
//! the counts are two numbers. Each change keeps the order by moving at most
//! two peers. The same operations serve peers in a plain slice ([`Small`]) and
//! a big swarm with its index; both are a [`Lineup`].

use super::PeerSink;
use super::peer::StoredPeer;
use super::stamp::{Clock, PAUSED, SEEDER};
use std::ops::Range;

/// How many peers of which kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) len: u32,
    pub(super) seeders: u32,
    /// Leechers with the paused bit.
    pub(super) paused: u32,
}

impl Tally {
    pub(super) fn leechers(self) -> u32 {
        self.len - self.seeders
    }
}

/// Peers in order. Implementors give the moves, the provided methods the rules.
pub(super) trait Lineup<P: StoredPeer> {
    fn tally(&self) -> Tally;
    fn tally_mut(&mut self) -> &mut Tally;
    fn get(&self, at: usize) -> P;
    /// Where the peer with this address is.
    fn find(&self, key: &P) -> Option<usize>;
    /// Replaces a peer by one with the same address.
    fn overwrite(&mut self, at: usize, peer: P);
    /// Writes a peer that is new here; what was there has been moved away.
    /// `at` may be just behind the last peer.
    fn place(&mut self, at: usize, peer: P);
    /// Moves a peer over a place whose peer is gone, or just behind the last.
    fn shift(&mut self, from: usize, to: usize);
    /// Exchanges two peers.
    fn swap(&mut self, a: usize, b: usize);
    /// Says that the peer at this place is about to go.
    fn forget(&mut self, at: usize);
    /// Drops the last place, whose peer was moved or is gone.
    fn drop_last(&mut self);
    /// Hands a run of peers over.
    fn emit(&self, run: Range<usize>, out: &mut impl PeerSink<P>);

    /// Adds a new peer and returns its place.
    #[inline]
    fn insert(&mut self, peer: P) -> usize {
        let Tally { len, seeders, .. } = self.tally();
        let (len, seeders) = (len as usize, seeders as usize);
        let at = if peer.flags() & SEEDER != 0 {
            seeders
        } else {
            len
        };
        if at < len {
            self.shift(at, len);
        }
        self.place(at, peer);
        self.tally_mut().len += 1;
        self.count(peer.flags(), 1);
        at
    }

    /// Replaces the peer at a place by its new state and returns its new place.
    #[inline]
    fn update(&mut self, at: usize, peer: P) -> usize {
        let old = self.get(at).flags();
        self.overwrite(at, peer);
        if (old ^ peer.flags()) & (SEEDER | PAUSED) == 0 {
            return at;
        }
        let seeders = self.tally().seeders as usize;
        self.count(old, -1);
        self.count(peer.flags(), 1);
        // The first leecher's place becomes a seeder's, or the other way round.
        let to = match (old & SEEDER != 0, peer.flags() & SEEDER != 0) {
            (false, true) => seeders,
            (true, false) => seeders - 1,
            _ => return at,
        };
        if to != at {
            self.swap(at, to);
        }
        to
    }

    /// Removes the peer at a place. Only peers from behind it move.
    #[inline]
    fn remove(&mut self, at: usize) {
        let Tally { len, seeders, .. } = self.tally();
        let (last, seeders) = (len as usize - 1, seeders as usize);
        let flags = self.get(at).flags();
        self.forget(at);
        let mut hole = at;
        if at < seeders {
            if hole != seeders - 1 {
                self.shift(seeders - 1, hole);
            }
            hole = seeders - 1;
        }
        if hole != last {
            self.shift(last, hole);
        }
        self.drop_last();
        self.tally_mut().len -= 1;
        self.count(flags, -1);
    }

    /// Removes the peers in `run` that have expired and returns how many.
    ///
    /// From the back to the front: a removal moves only peers that have been
    /// looked at into places that have.
    fn expire(&mut self, run: Range<usize>, clock: Clock, now_seconds: u32) -> u32 {
        let mut gone = 0;
        for at in run.rev() {
            if clock.expired(now_seconds, self.get(at).flags()) {
                self.remove(at);
                gone += 1;
            }
        }
        gone
    }

    /// Gives the peers in `run` the time of now.
    fn restamp(&mut self, run: Range<usize>, clock: Clock, now_seconds: u32) {
        for at in run {
            let peer = self.get(at);
            self.overwrite(
                at,
                peer.with_flags(clock.restamp(now_seconds, peer.flags())),
            );
        }
    }

    /// Counts a peer's state in or out (the number of peers is not its affair).
    #[inline]
    fn count(&mut self, flags: u16, by: i32) {
        let tally = self.tally_mut();
        if flags & SEEDER != 0 {
            tally.seeders = tally.seeders.wrapping_add_signed(by);
        }
        if flags & PAUSED != 0 {
            tally.paused = tally.paused.wrapping_add_signed(by);
        }
    }
}

/// The peers of a small or medium swarm: a slice with room at its end.
pub(super) struct Small<'a, P> {
    pub(super) peers: &'a mut [P],
    pub(super) tally: Tally,
}

impl<P> Small<'_, P> {
    /// Whether there is no room for one more.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.tally.len as usize >= self.peers.len()
    }
}

impl<P: StoredPeer> Lineup<P> for Small<'_, P> {
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
        self.peers[at]
    }

    #[inline]
    fn find(&self, key: &P) -> Option<usize> {
        P::find(&self.peers[..self.tally.len as usize], key)
    }

    #[inline]
    fn overwrite(&mut self, at: usize, peer: P) {
        self.peers[at] = peer;
    }

    #[inline]
    fn place(&mut self, at: usize, peer: P) {
        self.peers[at] = peer;
    }

    #[inline]
    fn shift(&mut self, from: usize, to: usize) {
        self.peers[to] = self.peers[from];
    }

    #[inline]
    fn swap(&mut self, a: usize, b: usize) {
        self.peers.swap(a, b);
    }

    #[inline]
    fn forget(&mut self, _: usize) {}

    #[inline]
    fn drop_last(&mut self) {
        // Inside a slot, "none" marks the free places.
        self.peers[self.tally.len as usize - 1] = P::default();
    }

    #[inline]
    fn emit(&self, run: Range<usize>, out: &mut impl PeerSink<P>) {
        out.extend(&self.peers[run]);
    }
}
