//! Which peers a requester is given, where hooks have a say in it: peer scope,
//! preferred subnet, fixed peers.
//!
//! A swarm hands out windows of neighbours, which is fast because nobody looks
//! at them. Here that stays so unless somebody must look: a [`Selector`] knows
//! which scopes its peers have, and as long as no stored peer could be wrong
//! for a requester, an announce costs a comparison more. Otherwise more peers
//! than wanted are taken out of the swarm, and the right ones are chosen among
//! them; how many more is bounded, so that a swarm of a million private peers
//! costs a stranger's announce no more than any other.
//!
//! Works at the shard that owns the swarm.

use crate::bittorrent::{AddressFamily, AnnounceCounts, Event, InfoHash};
use crate::swarm::{
    AnnounceOutcome, Capacity, Lookup, PeerSink, Random, StoredPeer, SwarmAnnounce,
};
use crate::swarm::{SwarmSettings, SwarmStore};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// How many peers are looked at for one that is wanted when some may be wrong.
const EXAMINED_PER_WANTED: usize = 4;

/// And how many more than that.
const EXAMINED_MORE: usize = 64;

/// What hooks want of the choice of peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Whether peers of a narrow scope are kept from requesters of another.
    pub peer_scope: bool,
    /// Whether peers near the requester come first.
    pub preferred_subnet: Option<PreferredSubnet>,
    /// Peers that are always there.
    pub fixed: Arc<Vec<FixedPeers>>,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            peer_scope: true,
            preferred_subnet: None,
            fixed: Arc::default(),
        }
    }
}

/// How near a peer must be to come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreferredSubnet {
    /// Leading bits of the address that must be the same, by family; 0 for no
    /// preference.
    pub bits: [u32; 2],
    /// How many peers of a swarm are looked at, at most (if more are wanted,
    /// so many).
    pub examined: usize,
}

/// Peers that are always handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FixedPeers {
    /// In which swarms, sorted; empty for all of them.
    pub info_hashes: Vec<InfoHash>,
    /// Where they are.
    pub peers: Vec<SocketAddr>,
    /// Whether seeders are given them too.
    pub to_seeders: bool,
}

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Scope {
    /// Everywhere, as far as one can tell.
    Public = 1,
    /// Within a site: RFC 1918, RFC 6598 (behind a carrier's NAT), RFC 4193.
    Private = 2,
    /// Within a host: 127.0.0.0/8, `::1`.
    Loopback = 4,
    /// Within a link: 169.254.0.0/16 (RFC 3927), `fe80::/10`.
    LinkLocal = 8,
}

/// All scopes but the public one.
const NARROW: [Scope; 3] = [Scope::Private, Scope::Loopback, Scope::LinkLocal];

impl Scope {
    /// The scope of a compact peer (6 or 18 bytes).
    #[inline]
    fn of(compact: &[u8]) -> Self {
        match *compact {
            [10, ..] | [192, 168, ..] if compact.len() == 6 => Self::Private,
            [172, 16..=31, ..] | [100, 64..=127, ..] if compact.len() == 6 => Self::Private,
            [127, ..] if compact.len() == 6 => Self::Loopback,
            [169, 254, ..] if compact.len() == 6 => Self::LinkLocal,
            [0xfc | 0xfd, ..] if compact.len() == 18 => Self::Private,
            [0xfe, 0x80..=0xbf, ..] if compact.len() == 18 => Self::LinkLocal,
            [0, .., 1, _, _] if compact.len() == 18 && compact[..15] == [0; 15] => Self::Loopback,
            _ => Self::Public,
        }
    }

    /// The scope of an address.
    #[must_use]
    pub fn of_ip(ip: &IpAddr) -> Self {
        let mut compact = [0; 18];
        match ip {
            IpAddr::V4(ip) => {
                compact[..4].copy_from_slice(&ip.octets());
                Self::of(&compact[..6])
            }
            IpAddr::V6(ip) => {
                compact[..16].copy_from_slice(&ip.octets());
                Self::of(&compact)
            }
        }
    }
}

/// The kinds of address that a store can have.
pub trait StoredIp: Sized {
    /// The address, if it is of this kind.
    fn from_ip(ip: IpAddr) -> Option<Self>;
}

impl StoredIp for Ipv4Addr {
    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        }
    }
}

impl StoredIp for Ipv6Addr {
    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(ip),
        }
    }
}

/// A store and a place for peers that are being chosen from.
pub struct Selected<P: StoredPeer> {
    /// The swarms.
    pub store: SwarmStore<P>,
    candidates: Vec<P>,
}

impl<P: StoredPeer> Selected<P> {
    /// An empty store; see [`SwarmStore::new`].
    #[must_use]
    pub fn new(settings: SwarmSettings, seed: u64) -> Self {
        Self {
            store: SwarmStore::new(settings, seed),
            candidates: Vec::new(),
        }
    }
}

/// Chooses peers for one shard.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    selection: Selection,
    /// Every announce has something to choose by.
    always: bool,
    /// The narrow scopes that stored peers may have, by family.
    scopes: [u8; 2],
    /// When a peer of each scope was stored last.
    last_seconds: [[u32; NARROW.len()]; 2],
}

impl Selector {
    /// Exchanges the wishes; what is known of the stored peers stays.
    pub fn swap(&mut self, selection: &mut Selection) {
        self.always = selection.preferred_subnet.is_some() || !selection.fixed.is_empty();
        std::mem::swap(&mut self.selection, selection);
    }

    /// Forgets scopes of which no peer was stored for `lifetime_seconds`.
    pub fn tick(&mut self, now_seconds: u32, lifetime_seconds: u32) {
        for (scopes, last) in self.scopes.iter_mut().zip(&self.last_seconds) {
            for (scope, last) in NARROW.iter().zip(last) {
                if now_seconds.saturating_sub(*last) > lifetime_seconds {
                    *scopes &= !(*scope as u8);
                }
            }
        }
    }

    /// [`SwarmStore::announce`] with the peers that the hooks want handed out.
    #[inline]
    pub fn announce<P: StoredPeer<Ip: StoredIp>>(
        &mut self,
        now_seconds: u32,
        lookup: &Lookup,
        request: &SwarmAnnounce<P>,
        swarms: &mut Selected<P>,
        (capacity, random): (&mut Capacity, &mut Random),
        output: &mut impl PeerSink<P>,
    ) -> AnnounceOutcome {
        let compact = request.peer.compact();
        let scope = Scope::of(compact);
        if scope != Scope::Public {
            self.note(family_of(compact), scope, now_seconds);
        }
        let parts = (capacity, random);
        self.choose(now_seconds, lookup, request, scope, swarms, parts, output)
    }

    /// Hands out peers to one who is not stored: `request` is of a peer that
    /// nobody is, `requester` the address of who asks. Gives that peer where
    /// there is nobody to give.
    #[expect(clippy::too_many_arguments, reason = "what an announce takes")]
    pub fn show<P: StoredPeer<Ip: StoredIp>>(
        &mut self,
        now_seconds: u32,
        lookup: &Lookup,
        request: &SwarmAnnounce<P>,
        requester: IpAddr,
        swarms: &mut Selected<P>,
        random: &mut Random,
        output: &mut impl PeerSink<P>,
    ) -> AnnounceCounts {
        let scope = Scope::of_ip(&requester);
        let mut no_room = Capacity {
            peers: 0,
            swarms: 0,
        };
        let parts = (&mut no_room, random);
        self.choose(now_seconds, lookup, request, scope, swarms, parts, output)
            .counts
    }

    #[expect(clippy::too_many_arguments, reason = "what an announce takes")]
    #[inline]
    fn choose<P: StoredPeer<Ip: StoredIp>>(
        &mut self,
        now_seconds: u32,
        lookup: &Lookup,
        request: &SwarmAnnounce<P>,
        scope: Scope,
        swarms: &mut Selected<P>,
        (capacity, random): (&mut Capacity, &mut Random),
        output: &mut impl PeerSink<P>,
    ) -> AnnounceOutcome {
        let family = family_of(request.peer.compact());
        // Any narrow scope but the requester's own is wrong for it.
        let wrong = match self.selection.peer_scope {
            true => self.scopes[family] & !(scope as u8),
            false => 0,
        };
        if wrong == 0 && !self.always {
            let store = &mut swarms.store;
            return store.announce(now_seconds, lookup, request, capacity, random, output);
        }
        let choice = Choice {
            selection: &self.selection,
            request,
            wrong,
            bits: self
                .selection
                .preferred_subnet
                .map_or(0, |preferred| preferred.bits[family]),
        };
        choice.announce(now_seconds, lookup, swarms, (capacity, random), output)
    }

    /// Remembers that a peer of a narrow scope may be stored.
    pub fn note(&mut self, family: usize, scope: Scope, now_seconds: u32) {
        self.scopes[family] |= scope as u8;
        for (known, last) in NARROW.iter().zip(&mut self.last_seconds[family]) {
            if *known == scope {
                *last = now_seconds;
            }
        }
    }
}

/// The family of a compact peer (see [`AddressFamily::index`]).
#[inline]
const fn family_of(compact: &[u8]) -> usize {
    (compact.len() != AddressFamily::V4.compact_peer_bytes()) as usize
}

/// One announce whose peers are chosen with care.
struct Choice<'a, P> {
    selection: &'a Selection,
    request: &'a SwarmAnnounce<P>,
    /// Scopes that the requester must not be given.
    wrong: u8,
    /// Leading bits that a preferred peer shares with the requester; 0: none.
    bits: u32,
}

impl<P: StoredPeer<Ip: StoredIp>> Choice<'_, P> {
    #[inline(never)]
    fn announce(
        &self,
        now_seconds: u32,
        lookup: &Lookup,
        swarms: &mut Selected<P>,
        (capacity, random): (&mut Capacity, &mut Random),
        output: &mut impl PeerSink<P>,
    ) -> AnnounceOutcome {
        let Selected { store, candidates } = swarms;
        let want = match self.request.event {
            Event::Stopped => 0,
            _ => self.request.num_want as usize,
        };
        let mut left = want;
        self.give_fixed(&mut left, output);
        let wider = SwarmAnnounce {
            num_want: self.examined(left) as u32,
            ..*self.request
        };
        candidates.clear();
        let outcome = store.announce(now_seconds, lookup, &wider, capacity, random, candidates);
        // The store names seeders first, and none to a seeder.
        let seeders = match self.request.is_seeder {
            true => 0,
            false => (outcome.counts.complete as usize).min(candidates.len()),
        };
        let (seeders, leechers) = candidates.split_at(seeders);
        let starts = [seeders, leechers].map(|kind| match kind.len() {
            0 => 0,
            len => random.below(len as u32) as usize,
        });
        let preferences: &[Option<bool>] = match self.bits {
            0 => &[None],
            _ => &[Some(true), Some(false)],
        };
        for &near in preferences {
            for (kind, start) in [seeders, leechers].into_iter().zip(starts) {
                let (end, begin) = kind.split_at(start);
                for peer in begin.iter().chain(end) {
                    if left == 0 {
                        return outcome;
                    }
                    if self.may_give(peer) && near.is_none_or(|near| near == self.is_near(peer)) {
                        output.extend(std::slice::from_ref(peer));
                        left -= 1;
                    }
                }
            }
        }
        if want > 0 && left == want {
            // Nobody else: as without a choice, the requester itself.
            output.extend(&[self.request.peer]);
        }
        outcome
    }

    /// How many peers to look at for so many.
    fn examined(&self, left: usize) -> usize {
        match self.selection.preferred_subnet {
            _ if left == 0 => 0,
            Some(preferred) if self.bits > 0 => preferred.examined.max(left),
            _ => left * EXAMINED_PER_WANTED + EXAMINED_MORE,
        }
    }

    fn give_fixed(&self, left: &mut usize, output: &mut impl PeerSink<P>) {
        for address in self.fixed() {
            let peer = <P::Ip as StoredIp>::from_ip(address.ip());
            let Some(peer) = peer.map(|ip| P::new(ip, address.port())) else {
                continue;
            };
            if *left > 0 && !peer.same_address(&self.request.peer) {
                output.extend(&[peer]);
                *left -= 1;
            }
        }
    }

    /// The fixed peers for this requester, of both families.
    fn fixed(&self) -> impl Iterator<Item = &SocketAddr> {
        let request = self.request;
        let sets = self.selection.fixed.iter().filter(move |set| {
            let here = set.info_hashes.is_empty()
                || set.info_hashes.binary_search(&request.info_hash).is_ok();
            here && (set.to_seeders || !request.is_seeder)
        });
        sets.flat_map(|set| &set.peers)
    }

    fn may_give(&self, peer: &P) -> bool {
        Scope::of(peer.compact()) as u8 & self.wrong == 0
            && !peer.same_address(&self.request.peer)
            && !self.fixed().any(|fixed| {
                fixed.port() == peer.port()
                    && <P::Ip as StoredIp>::from_ip(fixed.ip()).is_some_and(|ip| ip == peer.ip())
            })
    }

    /// Whether a peer's address begins as the requester's does.
    fn is_near(&self, peer: &P) -> bool {
        let (peer, own) = (peer.compact(), self.request.peer.compact());
        let (bytes, bits) = (self.bits as usize / 8, self.bits % 8);
        peer[..bytes] == own[..bytes]
            && (bits == 0 || (peer[bytes] ^ own[bytes]) >> (8 - bits) == 0)
    }
}

#[cfg(test)]
mod tests;
