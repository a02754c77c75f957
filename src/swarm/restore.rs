//! Putting back what was saved: swarms with the ages of their peers.
//!
//! Meant for a store that serves nobody yet, but right for any: what is put
//! back twice is there once, and a download count never falls.

use super::Capacity;
use super::peer::StoredPeer;
use super::slot::{Kind, Slot};
use super::stamp::{PAUSED, SEEDER};
use super::store::{SwarmStore, admit};
use super::table::Spot;
use super::visit::VisitedPeer;
use crate::bittorrent::InfoHash;

/// What is known of a swarm beside its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedSwarm {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// How often it was downloaded.
    pub downloads: u32,
    /// If it has no peer: for how many seconds.
    pub empty_seconds: u32,
}

/// What putting back one swarm did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Peers that are stored.
    pub peers: u64,
    /// Peers that had been silent for longer than the lifetime.
    pub expired_peers: u64,
    /// Peers for which there was no room under the caps.
    pub refused_peers: u64,
    /// The swarm is stored and was not before.
    pub new_swarm: bool,
}

impl<P: StoredPeer> SwarmStore<P> {
    /// Puts back a swarm, or more peers of one. Peers that are due are left
    /// out, and so is a swarm of which nothing would be left (rule 10).
    pub fn restore(
        &mut self,
        now_seconds: u32,
        saved: &SavedSwarm,
        peers: impl Iterator<Item = VisitedPeer<P>>,
        capacity: &mut Capacity,
    ) -> Restored {
        let lifetime = self.settings.peer_lifetime_seconds;
        let lookup = self.lookup(&saved.info_hash);
        let hash = lookup.hash;
        let mut spot = self.spot(&lookup, &saved.info_hash);
        let mut report = Restored::default();
        // When the last of them would have gone.
        let mut empty_seconds = saved.empty_seconds;
        for saved_peer in peers {
            if saved_peer.age_seconds > lifetime {
                report.expired_peers += 1;
                let gone = saved_peer.age_seconds - lifetime;
                let first = report.expired_peers == 1;
                empty_seconds = if first { gone } else { empty_seconds.min(gone) };
                continue;
            }
            let room = capacity.peers > 0 && (spot.is_some() || capacity.swarms > 0);
            if !room {
                report.refused_peers += 1;
                empty_seconds = 0;
                continue;
            }
            let at = *spot.get_or_insert_with(|| {
                report.new_swarm = true;
                self.insert_slot(hash, &saved.info_hash, capacity)
            });
            report.peers += u64::from(self.put(now_seconds, hash, at, &saved_peer, capacity));
        }
        if spot.is_none() && saved.downloads > 0 {
            report.new_swarm = self.insert_empty(now_seconds, hash, saved, empty_seconds, capacity);
            spot = self.spot(&lookup, &saved.info_hash);
        }
        if let Some(spot) = spot {
            self.table.entry_mut(spot).raise_downloads(saved.downloads);
        }
        report
    }

    /// Stores one peer; whether it is new.
    fn put(
        &mut self,
        now_seconds: u32,
        hash: u64,
        spot: Spot,
        saved: &VisitedPeer<P>,
        capacity: &mut Capacity,
    ) -> bool {
        let kind = match (saved.is_seeder, saved.is_paused) {
            (true, _) => SEEDER,
            (false, true) => PAUSED,
            (false, false) => 0,
        };
        let seen = now_seconds.wrapping_sub(saved.age_seconds);
        let peer = saved.peer.with_flags(self.clock.stamp(seen) | kind);
        let slot = self.table.entry_mut(spot);
        let before = self.shelves.tally(slot);
        let admitted = admit(&mut self.shelves, slot, peer, hash, &self.keys, capacity);
        slot.note(admitted.tally);
        let is_big = slot.kind() == Kind::Big;
        self.recount(before, admitted.tally, is_big);
        admitted.was.is_none() && admitted.at.is_some()
    }

    /// Stores a swarm without peers, if such are kept and it is not due.
    fn insert_empty(
        &mut self,
        now_seconds: u32,
        hash: u64,
        saved: &SavedSwarm,
        empty_seconds: u32,
        capacity: &mut Capacity,
    ) -> bool {
        let kept = self.settings.empty_swarm_lifetime_seconds;
        if kept == 0 || empty_seconds > kept || capacity.swarms == 0 {
            return false;
        }
        let spot = self.insert_slot(hash, &saved.info_hash, capacity);
        let since = now_seconds.wrapping_sub(empty_seconds);
        self.table.entry_mut(spot).set_empty(since);
        true
    }

    fn insert_slot(&mut self, hash: u64, info_hash: &InfoHash, capacity: &mut Capacity) -> Spot {
        Capacity::take(&mut capacity.swarms);
        let keys = &self.keys;
        let slot = Slot::new(*info_hash);
        self.table
            .insert(hash, slot, |slot| keys.info_hash(&slot.info_hash))
    }
}
