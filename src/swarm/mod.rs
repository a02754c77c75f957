//! The swarms of one shard and one address family: who shares which torrent.
//!
//! [`SwarmStore`] is the whole of it: announce, scrape, sweep, visit. It is
//! synchronous, takes time (`now_seconds`: monotonic seconds, any start) and
//! randomness as arguments, and never makes a pass over everything at once.
//!
//! ```text
//! SwarmStore (store, sweep, visit)
//!   table    info hash -> slot; grows by small steps       (hash: its key)
//!   slot     40 bytes: hash, downloads, and one of:
//!              one or two peers | a chunk | a big swarm | empty since
//!   pool     chunks of 2 to 128 peers, of exact sizes
//!   big      pages of peers and an index by address
//!   lineup   seeders first, then leechers: the rules of joining and leaving
//!   select   which peers a reply names                      (random)
//!   peer     8 bytes: address, port, and 16 bits of state   (stamp)
//! ```
//!
//! Rules (the tests cite them):
//!
//! 1. A peer is its address and port. It is a seeder if its last announce said
//!    so, else a leecher; each announce decides anew.
//! 2. The store is changed first, then the reply is made: counts include the
//!    announcer.
//! 3. `stopped` removes, and is answered without peers. It creates nothing.
//! 4. A download counts when a peer that is not stored as a seeder announces
//!    `completed`: once per stored peer, as opentracker does.
//! 5. `paused` (BEP 21) marks a leecher; `downloaders` leaves it out.
//! 6. Seeders are given leechers; leechers are given seeders, then leechers.
//!    Nobody is given itself, unless there is nobody else to give.
//! 7. The number of peers given is the number wanted, if there are so many.
//! 8. At a cap, a new peer is answered as usual and not stored.
//! 9. Who is silent for longer than the lifetime is removed by a sweep.
//! 10. A swarm without peers is removed, unless it has downloads and empty
//!     swarms are kept for a while.
//!
//! Speed: the request path allocates only when a swarm or the table outgrows
//! its place. A batch of announces should go through [`SwarmStore::lookup`],
//! [`SwarmStore::prefetch_group`], [`SwarmStore::prefetch_slot`],
//! [`SwarmStore::prefetch_peers`] and [`SwarmStore::announce`], each step for
//! all before the next: their cache misses then overlap, which makes cold
//! announces several times faster.
//!
//! Left to others: what the interval is, who may announce, the wire.

mod big;
mod hash;
mod lineup;
mod peer;
mod pool;
mod random;
mod restore;
mod select;
mod slot;
mod stamp;
mod store;
mod sweep;
mod table;
mod visit;

pub use peer::{Peer4, Peer4WithId, Peer6, Peer6WithId, StoredPeer};
pub use random::Random;
pub use restore::{Restored, SavedSwarm};
pub use store::SwarmStore;
pub use sweep::SweepReport;
pub use table::Lookup;
pub use visit::{VisitCost, VisitCursor, Visited, VisitedPeer, VisitedPeers};

use crate::bittorrent::{AnnounceCounts, Event, InfoHash};

/// How long peers and empty swarms stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwarmSettings {
    /// Seconds after its last announce until a peer is removed, 1 to 2^30.
    /// Lifetimes above 4096 seconds are kept in coarser units (8 seconds, then
    /// 64 and so on); a peer may then live two units longer, never less.
    pub peer_lifetime_seconds: u32,
    /// Seconds that a swarm with downloads stays after its last peer has gone,
    /// so that a scrape still tells the downloads. 0: it goes at once.
    pub empty_swarm_lifetime_seconds: u32,
}

/// Room left in a shard, for both families together: a store takes from it and
/// gives back to it. `u64::MAX` means no cap, and stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Peers that may still be stored.
    pub peers: u64,
    /// Swarms that may still be stored; an empty swarm that is kept counts.
    pub swarms: u64,
}

impl Capacity {
    /// No cap at all.
    pub const UNLIMITED: Self = Self {
        peers: u64::MAX,
        swarms: u64::MAX,
    };

    #[inline]
    fn take(room: &mut u64) {
        if *room != u64::MAX {
            *room = room.saturating_sub(1);
        }
    }

    #[inline]
    fn give(room: &mut u64, count: u64) {
        if *room != u64::MAX {
            // Never up to the value that means "no cap".
            *room = room.saturating_add(count).min(u64::MAX - 1);
        }
    }
}

/// Takes the peers of a reply, in contiguous slices.
pub trait PeerSink<P> {
    /// Takes the next peers. All slices of one announce together hold no more
    /// than it wanted.
    fn extend(&mut self, peers: &[P]);
}

impl<P: Clone> PeerSink<P> for Vec<P> {
    fn extend(&mut self, peers: &[P]) {
        self.extend_from_slice(peers);
    }
}

/// One announce, as a store of one family sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwarmAnnounce<P> {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// Address, port and, where the kind keeps it, id. The port is not 0.
    pub peer: P,
    /// Why it announces.
    pub event: Event,
    /// [`crate::bittorrent::Announce::is_seeder`]: nothing left, or completed.
    pub is_seeder: bool,
    /// How many peers the reply should name.
    pub num_want: u32,
}

/// What an announce did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceOutcome {
    /// The swarm's counts afterwards.
    pub counts: AnnounceCounts,
    /// Whether the announcer is stored now.
    pub stored: Stored,
    /// What it changed.
    pub change: Change,
    /// Seconds since the same peer's last announce, in the units that the
    /// lifetime has; `None` for a peer that was not stored, or has stopped.
    pub renewed_after_seconds: Option<u32>,
}

/// Whether an announcer is stored after its announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is a member of the swarm.
    Yes,
    /// It is not.
    No(NotStored),
}

/// Why an announcer is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// It has stopped.
    Stopped,
    /// It is new and there is no room for another peer.
    PeerCap,
    /// Its swarm is new and there is no room for another swarm.
    SwarmCap,
}

/// What an announce changed, for posthooks and deltas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// A new peer.
    Joined,
    /// A known peer, perhaps a seeder or leecher from now on.
    Updated,
    /// A download was counted; the peer may have been unknown before.
    Completed,
    /// A known peer has stopped.
    Left,
}

/// The sums over a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Swarms, empty ones that are kept included.
    pub swarms: u64,
    /// Seeders of all swarms.
    pub seeders: u64,
    /// Leechers of all swarms.
    pub leechers: u64,
    /// Downloads counted since the start, those of removed swarms included.
    pub downloads: u64,
    /// Bytes of memory, about, without the free room of regions
    /// ([`crate::sys::huge`]).
    pub bytes: u64,
}
