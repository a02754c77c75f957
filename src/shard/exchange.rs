//! A request on its way to the shard that owns it, and its answer on the way
//! back: one box that goes there and returns, and is then used again.

use super::families::{Families, Peers};
use super::owner::ShardId;
use crate::bittorrent::{AddressFamily, Announce, AnnounceCounts, InfoHash, PeerId, ScrapeCounts};
use crate::swarm::StoredPeer;

/// Takes the peers that a swarm hands out, in whatever form it stores them.
pub trait PeerOutput {
    /// Peers that lie side by side; called a few times for one announce.
    fn peers<P: StoredPeer>(&mut self, peers: &[P]);
}

/// Peers in compact form (BEP 23: 6 bytes each; BEP 7: 18), with their ids
/// where the storage keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerList {
    /// The compact peers, one behind the other.
    pub compact: Vec<u8>,
    /// Their ids in the same order, 20 bytes each, or nothing.
    pub ids: Vec<u8>,
    /// Compact peers of the family that is not the announcer's
    /// ([`Peers::Both`]).
    pub other_family: Vec<u8>,
}

impl PeerList {
    /// Empties the list and keeps its memory.
    pub fn clear(&mut self) {
        self.compact.clear();
        self.ids.clear();
        self.other_family.clear();
    }

    /// Leaves the first `count` peers of the announcer's family, which have
    /// `stride` bytes each.
    pub fn truncate(&mut self, stride: usize, count: usize) {
        self.compact.truncate(stride * count);
        self.ids.truncate(size_of::<PeerId>() * count);
    }
}

impl PeerOutput for PeerList {
    fn peers<P: StoredPeer>(&mut self, peers: &[P]) {
        for peer in peers {
            self.compact.extend_from_slice(peer.compact());
            if let Some(id) = peer.peer_id() {
                self.ids.extend_from_slice(&id.0);
            }
        }
    }
}

/// What is asked of the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Store the announcer, hand out peers.
    Announce(Announce),
    /// The same, with the counts of both families and these peers.
    AnnounceBoth(Announce, Peers),
    /// Count the swarms of [`Exchange::hashes`] in this family.
    Scrape(AddressFamily),
    /// The same in both families together.
    ScrapeBoth,
}

impl From<Families> for Question {
    fn from(families: Families) -> Self {
        match families {
            Families::One(family) => Self::Scrape(family),
            Families::Both => Self::ScrapeBoth,
        }
    }
}

/// One request across shards with room for its answer.
#[derive(Debug)]
pub struct Exchange {
    /// The shard that asked and gets the answer.
    pub origin: ShardId,
    /// The shard that is asked.
    pub owner: ShardId,
    /// What the asking shard calls it; the owner leaves it alone.
    pub token: u64,
    /// What is asked.
    pub question: Question,
    /// Scrape: the hashes asked for, all of this owner.
    pub hashes: Vec<InfoHash>,
    /// Scrape: where each of them stands in the client's request.
    pub positions: Vec<u16>,
    /// Answer to a scrape, in the order of `hashes`.
    pub scrape_counts: Vec<ScrapeCounts>,
    /// Answer to an announce.
    pub counts: AnnounceCounts,
    /// Answer to an announce: the peers handed out.
    pub peers: PeerList,
}

impl Exchange {
    /// An exchange that asks nothing yet.
    #[must_use]
    pub fn new(origin: ShardId) -> Self {
        Self {
            origin,
            owner: origin,
            token: 0,
            question: Question::Scrape(AddressFamily::V4),
            hashes: Vec::new(),
            positions: Vec::new(),
            scrape_counts: Vec::new(),
            counts: AnnounceCounts::default(),
            peers: PeerList::default(),
        }
    }

    /// Makes it ask something new; earlier answers are forgotten, their memory
    /// is kept.
    pub fn ask(&mut self, owner: ShardId, question: Question) {
        self.owner = owner;
        self.question = question;
        self.hashes.clear();
        self.positions.clear();
        self.scrape_counts.clear();
        self.counts = AnnounceCounts::default();
        self.peers.clear();
    }
}
