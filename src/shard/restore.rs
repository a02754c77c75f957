//! Putting back what was saved, before a shard serves.

use super::survey::PeerView;
use super::{Shard, Swarms, with_store, with_swarms};
use crate::bittorrent::{AddressFamily, InfoHash};
use crate::hook::selection::{Scope, Selected, StoredIp};
use crate::swarm::{Capacity, Restored, SavedSwarm, StoredPeer, VisitedPeer};

impl Shard {
    /// Puts back a swarm of a family, or more peers of one. Peers of the other
    /// family are left out, as are those that are due; the caps hold.
    pub fn restore(
        &mut self,
        now_seconds: u32,
        family: AddressFamily,
        saved: &SavedSwarm,
        peers: impl Iterator<Item = PeerView>,
    ) -> Restored {
        let selector = &mut self.selector;
        // So that private peers are kept from strangers from the start.
        let peers = peers.inspect(|peer| match Scope::of_ip(&peer.ip) {
            Scope::Public => {}
            narrow => selector.note(family.index(), narrow, now_seconds),
        });
        let room = &mut self.capacity;
        with_swarms!(&mut self.swarms, family, |swarms| {
            restore_in(swarms, now_seconds, saved, peers, room)
        })
    }

    /// Makes the downloads of a torrent, of both families together, at least
    /// so many. One without peers is kept as if its last had gone so many
    /// seconds ago. Returns whether it is known now.
    pub fn raise_downloads(
        &mut self,
        now_seconds: u32,
        info_hash: InfoHash,
        downloads: u32,
        empty_seconds: u32,
    ) -> bool {
        use AddressFamily::{V4, V6};
        let known = [V4, V6].map(|family| self.known_downloads(family, &info_hash));
        // What only IPv6 peers share is counted there.
        let (family, others) = match known {
            [None, Some(_)] => (V6, 0),
            [_, others] => (V4, others.unwrap_or(0)),
        };
        let saved = SavedSwarm {
            info_hash,
            downloads: downloads.saturating_sub(others),
            empty_seconds,
        };
        let restored = self.restore(now_seconds, family, &saved, std::iter::empty());
        known != [None, None] || restored.new_swarm
    }

    /// The downloads of a swarm, `None` if it is unknown.
    fn known_downloads(&mut self, family: AddressFamily, info_hash: &InfoHash) -> Option<u32> {
        let counts = with_store!(self.swarms, family, |store| store.scrape(info_hash));
        counts.map(|counts| counts.downloaded)
    }
}

fn restore_in<P: StoredPeer<Ip: StoredIp>>(
    swarms: &mut Selected<P>,
    now_seconds: u32,
    saved: &SavedSwarm,
    peers: impl Iterator<Item = PeerView>,
    capacity: &mut Capacity,
) -> Restored {
    let peers = peers.filter_map(|peer| {
        let mut stored = P::new(P::Ip::from_ip(peer.ip)?, peer.port);
        if let Some(peer_id) = &peer.peer_id {
            stored = stored.with_peer_id(peer_id);
        }
        Some(VisitedPeer {
            peer: stored,
            is_seeder: peer.is_seeder,
            is_paused: peer.is_paused,
            age_seconds: peer.age_seconds,
        })
    });
    swarms.store.restore(now_seconds, saved, peers, capacity)
}
