//! The table slot of a swarm, and the places where its peers can be.
//!
//! A slot is 20 bytes of info hash, one number (two bits: where the peers are;
//! thirty: downloads) and a body: for IPv4 16 bytes, so 40 in all. The body is
//! one of
//!
//! - since when the swarm has been empty (kept for its downloads),
//! - the peers themselves: one or two of IPv4, one of the other kinds,
//! - a chunk of the pools with its counts, up to 128 peers,
//! - the handle of a big swarm.
//!
//! [`Shelves`] owns the chunks and the big swarms, and moves peers between
//! these forms. Small enough swarms move back; only a big one keeps its form
//! until it is at half of the chunk limit, so that one near the limit does not
//! build and drop its index in turns.

use super::PeerSink;
use super::big::Big;
use super::hash::Keys;
use super::lineup::{Lineup, Small, Tally};
use super::peer::StoredPeer;
use super::pool::{MAX_CHUNK_PEERS, Pools, class_for, class_size};
use super::random::Random;
use super::select::{Own, choose};
use super::stamp::{PAUSED, SEEDER};
use crate::bittorrent::InfoHash;
use crate::sys::prefetch_read;

/// Downloads beyond this are not counted: a thousand million per swarm.
const MAX_DOWNLOADS: u32 = (1 << 30) - 1;

/// Cache lines of a chunk that a prefetch asks for.
const PREFETCH_LINES: usize = 16;

/// Where the peers of a swarm are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nowhere: there are none.
    Empty = 0,
    /// In the slot.
    Inline = 1,
    /// In a chunk of the pools.
    Chunk = 2,
    /// In a [`Big`].
    Big = 3,
}

/// One swarm in the table.
#[derive(Clone, Copy)]
pub(super) struct Slot<P: StoredPeer> {
    pub(super) info_hash: InfoHash,
    head: u32,
    body: P::Body,
}

impl<P: StoredPeer> Default for Slot<P> {
    fn default() -> Self {
        Self {
            info_hash: InfoHash([0; 20]),
            head: 0,
            body: P::Body::default(),
        }
    }
}

impl<P: StoredPeer> Slot<P> {
    /// A swarm without peers.
    pub(super) fn new(info_hash: InfoHash) -> Self {
        Self {
            info_hash,
            ..Self::default()
        }
    }

    #[inline]
    pub(super) fn kind(&self) -> Kind {
        match self.head >> 30 {
            0 => Kind::Empty,
            1 => Kind::Inline,
            2 => Kind::Chunk,
            _ => Kind::Big,
        }
    }

    #[inline]
    pub(super) fn downloads(&self) -> u32 {
        self.head & MAX_DOWNLOADS
    }

    /// One more download.
    pub(super) fn add_download(&mut self) {
        self.head += u32::from(self.downloads() < MAX_DOWNLOADS);
    }

    /// At least so many downloads, as far as they can be counted.
    pub(super) fn raise_downloads(&mut self, downloads: u32) {
        let downloads = downloads.clamp(self.downloads(), MAX_DOWNLOADS);
        self.head = self.head & !MAX_DOWNLOADS | downloads;
    }

    /// Marks the swarm as empty since `now_seconds`.
    pub(super) fn set_empty(&mut self, now_seconds: u32) {
        self.set(Kind::Empty, [now_seconds, 0, 0, 0]);
    }

    /// Since when it has been empty; only for [`Kind::Empty`].
    pub(super) fn empty_since(&self) -> u32 {
        P::unpack(&self.body)[0]
    }

    /// The index of its [`Big`]; only for [`Kind::Big`].
    #[inline]
    pub(super) fn big_handle(&self) -> u32 {
        P::unpack(&self.body)[0]
    }

    /// Its chunk; only for [`Kind::Chunk`].
    #[inline]
    pub(super) fn chunk(&self) -> ChunkRef {
        let [handle, counts, rest, _] = P::unpack(&self.body);
        ChunkRef {
            handle,
            class: (rest >> 16) as u16,
            tally: Tally {
                len: counts & 0xffff,
                seeders: counts >> 16,
                paused: rest & 0xffff,
            },
        }
    }

    /// The peers in the slot; only for [`Kind::Inline`].
    #[inline]
    pub(super) fn inline(&self) -> &[P] {
        let peers = self.body.as_ref();
        let len = peers
            .iter()
            .position(|peer| peer.port() == 0)
            .unwrap_or(peers.len());
        &peers[..len]
    }

    #[inline]
    fn set(&mut self, kind: Kind, words: [u32; 4]) {
        self.set_kind(kind);
        self.body = P::pack(words);
    }

    #[inline]
    fn set_kind(&mut self, kind: Kind) {
        self.head = self.downloads() | (kind as u32) << 30;
    }

    fn set_chunk(&mut self, chunk: ChunkRef) {
        let ChunkRef {
            handle,
            class,
            tally:
                Tally {
                    len,
                    seeders,
                    paused,
                },
        } = chunk;
        self.set(
            Kind::Chunk,
            [
                handle,
                len | seeders << 16,
                paused | u32::from(class) << 16,
                0,
            ],
        );
    }

    /// Writes the counts of a chunk back after its peers changed. The other
    /// kinds keep no counts in the slot.
    #[inline]
    pub(super) fn note(&mut self, tally: Tally) {
        if self.kind() == Kind::Chunk {
            let chunk = self.chunk();
            if chunk.tally != tally {
                self.set_chunk(ChunkRef { tally, ..chunk });
            }
        }
    }
}

/// A chunk and its counts, as a slot holds them.
#[derive(Clone, Copy)]
pub(super) struct ChunkRef {
    pub(super) handle: u32,
    pub(super) class: u16,
    pub(super) tally: Tally,
}

/// The peers of one swarm, to read and change.
pub(super) enum Open<'a, P: StoredPeer> {
    Small(Small<'a, P>),
    Big(&'a mut Big<P>),
}

/// Chunks and big swarms of one store.
pub(super) struct Shelves<P: StoredPeer> {
    pub(super) pools: Pools<P>,
    pub(super) bigs: Vec<Option<Box<Big<P>>>>,
    free_bigs: Vec<u32>,
    /// Peers in big swarms.
    pub(super) big_peers: usize,
}

impl<P: StoredPeer> Shelves<P> {
    pub(super) fn new() -> Self {
        Self {
            pools: Pools::new(),
            bigs: Vec::new(),
            free_bigs: Vec::new(),
            big_peers: 0,
        }
    }

    /// The peers of a swarm. An empty one opens as full with no place.
    #[inline]
    pub(super) fn open<'a>(&'a mut self, slot: &'a mut Slot<P>) -> Open<'a, P> {
        match slot.kind() {
            Kind::Empty => Open::Small(Small {
                peers: &mut [],
                tally: Tally::default(),
            }),
            Kind::Inline => {
                let tally = tally_of(slot.inline());
                Open::Small(Small {
                    peers: slot.body.as_mut(),
                    tally,
                })
            }
            Kind::Chunk => {
                let ChunkRef {
                    handle,
                    class,
                    tally,
                } = slot.chunk();
                Open::Small(Small {
                    peers: self.pools.chunk_mut(class, handle),
                    tally,
                })
            }
            Kind::Big => Open::Big(self.big_mut(slot.big_handle())),
        }
    }

    /// The counts of a swarm.
    #[inline]
    pub(super) fn tally(&self, slot: &Slot<P>) -> Tally {
        match slot.kind() {
            Kind::Empty => Tally::default(),
            Kind::Inline => tally_of(slot.inline()),
            Kind::Chunk => slot.chunk().tally,
            Kind::Big => self.big(slot.big_handle()).tally(),
        }
    }

    /// A big swarm by the handle that its slot holds.
    #[inline]
    pub(super) fn big(&self, handle: u32) -> &Big<P> {
        self.bigs[handle as usize]
            .as_deref()
            .expect("a slot's handle is of a big swarm")
    }

    #[inline]
    pub(super) fn big_mut(&mut self, handle: u32) -> &mut Big<P> {
        self.bigs[handle as usize]
            .as_deref_mut()
            .expect("a slot's handle is of a big swarm")
    }

    /// Hands out peers of a swarm; returns how many.
    #[inline]
    pub(super) fn hand_out(
        &self,
        slot: &Slot<P>,
        tally: Tally,
        own: Own,
        want: usize,
        random: &mut Random,
        out: &mut impl PeerSink<P>,
    ) -> usize {
        let peers = match slot.kind() {
            Kind::Empty => return 0,
            Kind::Inline => slot.inline(),
            Kind::Chunk => {
                let ChunkRef { handle, class, .. } = slot.chunk();
                self.pools.chunk(class, handle)
            }
            Kind::Big => {
                let big = self.big(slot.big_handle());
                return choose(tally, own, want, random, |run| big.emit(run, out));
            }
        };
        choose(tally, own, want, random, |run| out.extend(&peers[run]))
    }

    /// Asks for the cache lines of a chunk; only for [`Kind::Chunk`].
    #[inline]
    pub(super) fn prefetch_chunk(&self, slot: &Slot<P>) {
        let ChunkRef {
            handle,
            class,
            tally,
        } = slot.chunk();
        let peers = &self.pools.chunk(class, handle)[..tally.len as usize];
        // The first lines only: the processor follows a longer run by itself.
        let per_line = 64 / size_of::<P>();
        for peer in peers.iter().step_by(per_line).take(PREFETCH_LINES) {
            prefetch_read(peer);
        }
        if let Some(last) = peers[..peers.len().min(per_line * PREFETCH_LINES)].last() {
            prefetch_read(last);
        }
    }

    /// Moves the peers of a full slot or chunk to where one more has room.
    pub(super) fn grow(&mut self, slot: &mut Slot<P>, hash: u64, keys: &Keys) {
        match slot.kind() {
            Kind::Empty => {
                slot.set(Kind::Inline, [0; 4]);
            }
            Kind::Inline => {
                let body = slot.body;
                let tally = tally_of(body.as_ref());
                self.move_to_chunk(slot, body.as_ref(), tally, tally.len as usize + 1);
            }
            Kind::Chunk => {
                let old = slot.chunk();
                let mut peers = [P::default(); MAX_CHUNK_PEERS];
                let peers = &mut peers[..old.tally.len as usize];
                peers.copy_from_slice(&self.pools.chunk(old.class, old.handle)[..peers.len()]);
                self.pools.give(old.class, old.handle);
                if peers.len() < MAX_CHUNK_PEERS {
                    self.move_to_chunk(slot, peers, old.tally, peers.len() + 1);
                } else {
                    self.big_peers += peers.len();
                    let big = Box::new(Big::new(hash, keys, peers, old.tally));
                    let handle = match self.free_bigs.pop() {
                        Some(handle) => handle,
                        None => {
                            self.bigs.push(None);
                            self.bigs.len() as u32 - 1
                        }
                    };
                    self.bigs[handle as usize] = Some(big);
                    slot.set(Kind::Big, [handle, 0, 0, 0]);
                }
            }
            Kind::Big => {}
        }
    }

    /// Moves the peers of a swarm that has lost some to a smaller place. One
    /// without peers becomes [`Kind::Empty`] since `now_seconds`.
    pub(super) fn shrink(&mut self, slot: &mut Slot<P>, now_seconds: u32) {
        let len = self.tally(slot).len as usize;
        match slot.kind() {
            Kind::Empty => {}
            Kind::Inline if len == 0 => slot.set_empty(now_seconds),
            Kind::Inline => {}
            Kind::Chunk => {
                let ChunkRef {
                    handle,
                    class,
                    tally,
                } = slot.chunk();
                if len > slot.body.as_ref().len() && class < class_for(len) + 2 {
                    return;
                }
                let mut peers = [P::default(); MAX_CHUNK_PEERS];
                peers[..len].copy_from_slice(&self.pools.chunk(class, handle)[..len]);
                self.pools.give(class, handle);
                self.settle(slot, &peers[..len], tally, now_seconds);
            }
            Kind::Big if len <= MAX_CHUNK_PEERS / 2 => {
                let handle = slot.big_handle();
                let tally = self.tally(slot);
                let mut peers = [P::default(); MAX_CHUNK_PEERS];
                for (at, peer) in peers[..len].iter_mut().enumerate() {
                    *peer = self.big(handle).get(at);
                }
                self.drop_big(handle);
                self.settle(slot, &peers[..len], tally, now_seconds);
            }
            Kind::Big => {}
        }
    }

    /// Forgets the peers of a swarm.
    pub(super) fn clear(&mut self, slot: &mut Slot<P>, now_seconds: u32) {
        match slot.kind() {
            Kind::Empty | Kind::Inline => {}
            Kind::Chunk => {
                let ChunkRef { handle, class, .. } = slot.chunk();
                self.pools.give(class, handle);
            }
            Kind::Big => self.drop_big(slot.big_handle()),
        }
        slot.set_empty(now_seconds);
    }

    /// Bytes on the heap, about.
    pub(super) fn bytes(&self) -> usize {
        let bigs = self.bigs.len() - self.free_bigs.len();
        self.pools.bytes() + Big::<P>::bytes(bigs, self.big_peers) + self.bigs.capacity() * 8
    }

    fn drop_big(&mut self, handle: u32) {
        self.big_peers -= self.big(handle).tally().len as usize;
        self.bigs[handle as usize] = None;
        self.free_bigs.push(handle);
    }

    /// Writes peers into the smallest form that holds them.
    fn settle(&mut self, slot: &mut Slot<P>, peers: &[P], tally: Tally, now_seconds: u32) {
        if peers.is_empty() {
            slot.set_empty(now_seconds);
        } else if peers.len() <= slot.body.as_ref().len() {
            slot.set(Kind::Inline, [0; 4]);
            slot.body.as_mut()[..peers.len()].copy_from_slice(peers);
        } else {
            self.move_to_chunk(slot, peers, tally, peers.len());
        }
    }

    fn move_to_chunk(&mut self, slot: &mut Slot<P>, peers: &[P], tally: Tally, room: usize) {
        let class = class_for(room);
        debug_assert!(class_size(class) >= room);
        let handle = self.pools.take(class);
        let len = tally.len as usize;
        self.pools.chunk_mut(class, handle)[..len].copy_from_slice(&peers[..len]);
        slot.set_chunk(ChunkRef {
            handle,
            class,
            tally,
        });
    }
}

/// Counts peers one by one.
#[inline]
fn tally_of<P: StoredPeer>(peers: &[P]) -> Tally {
    let mut tally = Tally::default();
    for peer in peers {
        tally.len += u32::from(peer.port() != 0);
        tally.seeders += u32::from(peer.flags() & SEEDER != 0);
        tally.paused += u32::from(peer.flags() & PAUSED != 0);
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::super::peer::{Peer4, Peer6};
    use super::*;

    #[test]
    fn slots_are_small() {
        assert_eq!(size_of::<Slot<Peer4>>(), 40);
        assert_eq!(size_of::<Slot<Peer6>>(), 44);
    }

    #[test]
    fn downloads_do_not_overflow_into_the_kind() {
        let mut slot = Slot::<Peer4>::new(InfoHash([1; 20]));
        slot.set(Kind::Big, [7, 0, 0, 0]);
        slot.head |= MAX_DOWNLOADS - 1;
        for _ in 0..3 {
            slot.add_download();
        }
        assert_eq!(
            (slot.kind(), slot.downloads(), slot.big_handle()),
            (Kind::Big, MAX_DOWNLOADS, 7)
        );
    }
}
